"""Attacks of scripts/attack in little, where no other test has them: what is limited, by counting."""

from __future__ import annotations

import asyncio
import gc
import struct
import time
from typing import Any

import pytest
from tunnel_live import ECHO, PENDING, RNG, SOURCE, Collect, Live, live

from ptproxy.auth.binding import Binding
from ptproxy.auth.credentials import StaticKey
from ptproxy.auth.opening import ClientOpening, Hello
from ptproxy.codec import codec_table
from ptproxy.codec.interface import CodecSettings
from ptproxy.codec.ws_frames import masked_frame
from ptproxy.session import Limits, RetentionBudget, frames
from ptproxy.tunnel.carrier import Carrier
from ptproxy.tunnel.client import ClientTunnel
from ptproxy.tunnel.tls import ClientTrust, client_context


async def until(happened: Any) -> None:
    """Wait until ``happened()`` is true; the test's own time-out is the limit."""
    while not happened():
        await asyncio.sleep(0.01)


async def served(bridge: Live, said: bytes) -> None:
    """Somebody with another key comes in and is answered."""
    bridge.client_key = StaticKey.generate(RNG)
    dialer = await bridge.client()
    local = Collect()
    await dialer.dial(ECHO, local, said)
    assert await local.until(len(said)) == said
    await dialer.stop()


async def said_to(bridge: Live, said: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A TLS connection of a stranger that begins with this."""
    tls = client_context(ClientTrust(pin=bytes(32)))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", bridge.port, ssl=tls, server_hostname="localhost"
    )
    writer.write(said)
    return reader, writer


def opening(bridge: Live, codec: str = "websocket") -> bytes:
    """A request that is a right opening, of a new key."""
    message = ClientOpening(
        bridge.key.public, StaticKey.generate(RNG), codec, False, Binding.certificate(bridge.digest),
        Hello(b"", 1, (), int(time.time()), b""), RNG,
    ).message1  # fmt: skip
    settings = CodecSettings(f"localhost:{bridge.port}", "/live")
    link = codec_table()[codec].client(settings, message, RNG).open_link()
    return b"".join(map(bytes, link.data_to_send()))


class Hostile:
    """A session whose frames are the test's own."""

    def __init__(self, tunnel: ClientTunnel, carrier: Any) -> None:
        self.carrier = carrier
        self.heard: list[Any] = []
        self._tunnel = tunnel
        self._parser = frames.FrameParser()
        [self.connection] = carrier.connections.values()
        carrier.session = None
        carrier.on_payload = self._received

    def _received(self, carrier: Any, data: Any) -> None:
        for frame in self._parser.receive_data(bytes(data)):
            self.heard.append((frame[0], frame[1]))

    def count(self, kind: int) -> int:
        return sum(frame[0] == kind for frame in self.heard)

    def drop(self) -> None:
        self._tunnel.close()
        self.carrier.abort_connections()


async def let_in(bridge: Live, codec: str = "websocket") -> Hostile:
    tunnel = ClientTunnel(bridge.route(codec), bridge.loop)
    return Hostile(tunnel, await tunnel.connect(codec))


def test_openings_that_nobody_confirms_take_no_room_from_clients(run: Any, tmp_path: Any) -> None:
    """The longest unconfirmed makes room: with the link alone nobody fills ``limits.carriers``."""

    async def main() -> None:
        async with live(tmp_path, most_undecided=3, most_carriers=4) as bridge:
            gate = bridge.bridge.gate
            held = []
            for number in range(8):
                reader, writer = await said_to(bridge, opening(bridge))
                assert (await reader.readline()).startswith(b"HTTP/1.1 101"), number
                held.append(writer)
                assert len(gate.carriers) <= 3
            assert len(gate._unconfirmed) == 3
            await served(bridge, b"let in all the same")
            await until(
                lambda: (
                    not bridge.bridge.sessions or all(not t.carriers for t in bridge.bridge.sessions.values())
                )
            )
            for writer in held:
                writer.transport.abort()
            await until(lambda: not gate.carriers and not gate._unconfirmed)

    run(main())


def carriers() -> int:
    """How many there are in memory."""
    gc.collect()
    return sum(isinstance(each, Carrier) for each in gc.get_objects())


def test_who_neither_confirms_nor_says_goodbye_is_forgotten_at_once(run: Any, tmp_path: Any) -> None:
    """Nothing of a carrier that made room stays in memory, with its timers: neither do connections."""

    async def main() -> None:
        async with live(tmp_path, most_undecided=3, opening_timeout=1000.0) as bridge:
            gate, held, before = bridge.bridge.gate, [], carriers()
            for number in range(20):
                reader, writer = await said_to(bridge, opening(bridge))
                assert (await reader.readline()).startswith(b"HTTP/1.1 101"), number
                held.append((reader, writer))
                assert len(gate._farewells) <= 3
            await until(lambda: len(gate._open) <= 6)
            await until(lambda: carriers() - before <= 6)
            for _, writer in held:
                writer.transport.abort()
            await until(lambda: not gate._open)

    run(main())


def test_a_replayed_opening_is_a_strangers_each_time(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            said = opening(bridge)
            reader, writer = await said_to(bridge, said)
            assert (await reader.readline()).startswith(b"HTTP/1.1 101")
            for number in range(20):
                again, other = await said_to(bridge, said)
                assert (await again.readline()).startswith(b"HTTP/1.1 404"), number
                other.transport.abort()
            writer.transport.abort()
            await until(lambda: not bridge.bridge.gate.carriers)
            assert len(bridge.bridge.replay) == 1
            assert not bridge.bridge.sessions

    run(main())


def test_opens_beyond_the_limit_are_refused_and_others_served(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path, limits=Limits(max_streams=16), linger=0.1) as bridge:
            hostile = await let_in(bridge)
            target = PENDING.serialize()
            for start in range(2, 602, 20):
                block = [
                    frames.open_header(one, 0, 0, 1 << 16, target, 0) for one in range(start, start + 20, 2)
                ]
                hostile.carrier.send(block)
            await until(lambda: hostile.count(frames.RESET) == 300 - 16)
            assert len(bridge.exit.asked) == 16
            assert bridge.bridge.streams == 16
            await served(bridge, b"beside a flood")
            hostile.drop()
            await until(lambda: not bridge.bridge.sessions)

    run(main())


def test_endless_credit_keeps_no_more_than_the_budget(run: Any, tmp_path: Any) -> None:
    """Downloads that are asked for without end and never acknowledged: what is kept is bounded."""

    async def main() -> None:
        async with live(tmp_path, linger=0.1) as bridge:
            budget = 1 << 20
            bridge.bridge.settings.retention = retention = RetentionBudget(budget)
            hostile = await let_in(bridge)
            target = SOURCE.serialize()
            streams = range(2, 18, 2)
            hostile.carrier.send([frames.open_header(one, 0, 0, 2**64 - 1, target, 0) for one in streams])
            hostile.carrier.send([frames.window(one, 0, 2**64 - 1) for one in streams])
            await until(lambda: hostile.count(frames.DATA) >= 8)
            most = 0
            for _ in range(200):
                most = max(most, retention.used)
                await asyncio.sleep(0)
            assert 0 < most <= budget + len(streams) * (256 << 10)
            await served(bridge, b"beside endless credit")
            hostile.drop()
            await until(lambda: not bridge.bridge.sessions)

    run(main())


@pytest.mark.parametrize("codec", ["random", "websocket"])
def test_padding_without_end_is_nothing(run: Any, tmp_path: Any, codec: str) -> None:
    """Megabytes that stand for no byte: none is kept, and the carrier goes on."""

    async def main() -> None:
        async with live(tmp_path, linger=0.1) as bridge:
            hostile = await let_in(bridge, codec)
            [kept] = bridge.bridge.gate.carriers.values()
            before = kept.received_bytes
            for _ in range(64):
                if codec == "random":
                    words = hostile.carrier.codec._writer._words
                    said = struct.pack(">I", 32767 ^ next(words)) + bytes(32767)
                else:
                    said = masked_frame(2, b"", b"mask") * 2000
                hostile.connection.transport.write(said)
                await asyncio.sleep(0)
            hostile.carrier.send([frames.open_header(2, 0, 0, 1 << 16, ECHO.serialize(), 5) + b"still"])
            await until(lambda: hostile.count(frames.DATA))
            assert kept.received_bytes - before < 100
            hostile.drop()
            await until(lambda: not bridge.bridge.sessions)

    run(main())


LIES = {
    "DATA beyond the limit": [frames.data_header(2, 1 << 40, 1) + b"x"],
    "DATA beyond EOF": [frames.eof(2, 0), frames.data_header(2, 0, 1) + b"x"],
    "two ends": [frames.eof(2, 0), frames.eof(2, 1)],
    "an acknowledgement of what was never sent": [frames.window(2, 1 << 50, 1 << 60)],
    "a BIND with one": [frames.bind(frames.BIND, 2, 5, 1 << 40, 1 << 41)],
    "a stream that never was": [frames.data_header(154, 0, 1) + b"x"],
    "a stream of the bridge's": [frames.open_header(3, 0, 0, 1 << 16, ECHO.serialize(), 0)],
    "carriers that never were": [frames.closed(number) for number in range(9, 9 + 2 * 4200, 2)],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_costs_the_liar_alone(run: Any, tmp_path: Any, lie: str) -> None:
    async def main() -> None:
        async with live(tmp_path, linger=0.1) as bridge:
            errors: list[Any] = []
            bridge.loop.set_exception_handler(lambda loop, context: errors.append(context))
            bridge.client_key = StaticKey.generate(RNG)
            honest = await bridge.client()
            local = Collect()
            stream = await honest.dial(ECHO, local, b"before")
            bridge.client_key = StaticKey.generate(RNG)
            hostile = await let_in(bridge)
            hostile.carrier.send([frames.open_header(2, 0, 0, 1 << 16, PENDING.serialize(), 0), *LIES[lie]])
            await until(lambda: len(bridge.bridge.sessions) == 1)
            stream.write(b" and after")
            assert await local.until(16) == b"before and after"
            hostile.drop()
            assert not errors

    run(main())
