"""Streams through a real bridge over real sockets: data, half-close, reset, credit, datagrams."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest
from tunnel_live import ECHO, PENDING, REFUSED, SILENT, SOURCE, Collect, Source, live

from ptproxy.errors import DialError, Reason
from ptproxy.target import Target

CODECS = ["websocket", "http", "random"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("seal", [False, True])
def test_echo_of_many_sizes(run: Any, tmp_path: Any, codec: str, seal: bool) -> None:
    async def main() -> None:
        async with live(tmp_path, seal=seal) as bridge:
            dialer = await bridge.client(codec)
            rng = random.Random(7)
            local = Collect()
            stream = await dialer.dial(ECHO, local, b"first")
            sent = bytearray(b"first")
            for size in [1, 2, 100, 16_383, 16_384, 65_536, 300_000] + [
                rng.randrange(1, 5000) for _ in range(50)
            ]:
                block = os.urandom(size)
                stream.write(block)
                sent += block
                await local.writable.wait()
            assert await local.until(len(sent)) == sent
            stream.write_eof()
            await local.eof.wait()
            stream.close()
            assert await local.lost is None
            assert not dialer.tunnel.session.streams

    run(main())


def test_half_close_either_way(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            local = Collect()
            stream = await dialer.dial(ECHO, local)
            stream.write(b"x" * 1000)
            stream.write_eof()
            assert await local.until(1000) == b"x" * 1000
            await local.eof.wait()
            assert await local.lost is None

    run(main())


def test_refusal_tells_why(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            with pytest.raises(DialError) as caught:
                await dialer.dial(REFUSED, Collect())
            assert caught.value.reason is Reason.REFUSED

    run(main())


def test_a_dial_given_up_is_cancelled_at_the_bridge(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            dial = asyncio.create_task(dialer.dial(PENDING, Collect()))
            while not bridge.exit.asked:
                await asyncio.sleep(0.01)
            cancelled = asyncio.Event()
            bridge.exit.asked[0].on_cancel(cancelled.set)
            dial.cancel()
            await cancelled.wait()
            assert bridge.exit.asked[0].cancelled
            with pytest.raises(asyncio.CancelledError):
                await dial

    run(main())


def test_reset_reaches_the_other_side_with_its_reason(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            local = Collect()
            await dialer.dial(SOURCE, local)
            await local.until(1)
            [tunnel] = bridge.bridge.sessions.values()
            [state] = tunnel.session.streams.values()
            state.owner.reset(Reason.CONNECTION_LOST)
            error = await local.lost
            assert isinstance(error, DialError)
            assert error.reason is Reason.CONNECTION_LOST

    run(main())


def test_a_clogged_reader_stops_its_sender_and_nobody_else(run: Any, tmp_path: Any) -> None:
    """The bridge's source must stop at the window; another stream on the same carrier goes on."""

    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            clogged, other = Collect(), Collect()
            first = await dialer.dial(SOURCE, clogged)
            first.pause_reading()
            second = await dialer.dial(ECHO, other)
            for turn in range(50):
                second.write(b"ping")
                await other.until(4 * (turn + 1))
            window = 64 << 10
            assert len(clogged.data) + sum(map(len, first._unread)) <= 16 << 20
            [tunnel] = bridge.bridge.sessions.values()
            retained = bridge.retention
            assert retained is not None
            first.resume_reading()
            data = await clogged.until(4 * window)
            assert data == (Source.block * (len(data) // len(Source.block) + 1))[: len(data)]
            first.abort()
            while len(tunnel.session.streams) > 1:
                await asyncio.sleep(0.01)

    run(main())


def test_a_peer_that_never_reads_pauses_the_writer(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            local = Collect()
            stream = await dialer.dial(SILENT, local)
            written = 0
            while local.writable.is_set():
                stream.write(bytes(8192))
                written += 8192
                assert written < 64 << 20, "nobody stopped the writer"
                await asyncio.sleep(0)
            stream.abort()

    run(main())


def test_streams_without_progress_end(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            idle, half = Collect(), Collect()
            await dialer.dial(ECHO, idle, b"x")
            await idle.until(1)
            stream = await dialer.dial(SILENT, half)
            stream.write_eof()
            [tunnel] = bridge.bridge.sessions.values()
            while not any(state.peer_final is not None for state in tunnel.session.streams.values()):
                await asyncio.sleep(0.01)
            now = bridge.loop.time()
            tunnel.sweep(now, 0, 10)
            tunnel.sweep(now + 9, 0, 10)
            assert len(tunnel.session.streams) == 2
            tunnel.sweep(now + 10, 0, 10)
            error = await half.lost
            assert isinstance(error, DialError)
            assert error.reason is Reason.TIMED_OUT
            assert not idle.lost.done()
            tunnel.sweep(now + 20, 20, 10)
            assert isinstance(await idle.lost, DialError)

    run(main())


def test_datagrams_there_and_back(run: Any, tmp_path: Any) -> None:
    class Receiver:
        def __init__(self) -> None:
            self.got: asyncio.Queue[tuple[Target, bytes]] = asyncio.Queue()

        def datagram_received(self, source: Target, data: bytes) -> None:
            self.got.put_nowait((source, data))

        def association_lost(self, exc: Exception | None) -> None:
            self.got.put_nowait((ECHO, b"lost"))

    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            receiver = Receiver()
            association = await dialer.associate(receiver)
            for target in (Target.address("192.0.2.7", 53), Target.address("example.org", 5353)):
                for size in (0, 1, 1200, 65_507):
                    association.send_datagram(target, bytes(size))
                    assert await receiver.got.get() == (target, bytes(size))
            association.close()
            [tunnel] = bridge.bridge.sessions.values()
            while tunnel.session.streams:
                await asyncio.sleep(0.01)

    run(main())


def test_many_streams_leave_nothing(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()

            async def one(index: int) -> None:
                local = Collect()
                stream = await dialer.dial(ECHO, local, b"%06d" % index)
                assert await local.until(6) == b"%06d" % index
                stream.write_eof()
                await local.eof.wait()
                stream.close()
                await local.lost

            for start in range(0, 2000, 100):
                await asyncio.gather(*(one(start + i) for i in range(100)))
            [tunnel] = bridge.bridge.sessions.values()
            while not (dialer.tunnel.session.idle and tunnel.session.idle):
                await asyncio.sleep(0.01)
            few = 4  # a carrier that a busy machine keeps waiting is dialled beside
            assert len(bridge.bridge.gate.connections) <= few, "streams share connections"

    run(main())
