"""A browser's TLS connection keeps an asyncio transport's promises."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("curl_cffi", exc_type=ImportError)

from tunnel_browser import Peer, browser, open_descriptors, serving

from ptproxy.tunnel.boring.hello import CHROME_PAGE
from ptproxy.tunnel.boring.transport import BrowserTransport
from ptproxy.tunnel.tcp import READ_SIZE, tune

BULK = 24 << 20


@pytest.fixture(autouse=True)
def one_browser() -> None:
    browser()


def test_bulk_both_ways_at_once_arrives_intact(run: Any, tmp_path: Path) -> None:
    """The server echoes: both directions are full, and either end asks the other to wait."""
    rng = random.Random(12)
    sent = rng.randbytes(BULK)

    async def main() -> None:
        async with serving(tmp_path) as server:
            client, transport, peer = await server.connect()
            transport.set_write_buffer_limits(64 * 1024, 16 * 1024)
            tune(transport)
            peer.echo = True
            place = 0
            while place < len(sent):
                size = rng.choice((1, 100, 16_384, 70_000, 400_000))
                transport.write(sent[place : place + size])
                place += size
                await client.until(lambda: transport.get_write_buffer_size() <= 64 * 1024)
            await client.until(lambda: len(client.received) >= len(sent))
            assert client.received == sent
            assert peer.received == sent
            assert "pause" in client.told
            assert client.told.count("pause") == client.told.count("resume")
            transport.abort()

    run(main())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))])
def test_any_buffer_can_be_written_and_may_change_afterwards(
    run: Any, tmp_path: Path, kind: Callable[[bytes], Any]
) -> None:
    pattern = random.Random(3).randbytes(3 << 20)

    async def main() -> None:
        async with serving(tmp_path) as server:
            _, transport, peer = await server.connect()
            peer.transport.pause_reading()
            for _ in range(2):  # the second waits behind the first
                given = kind(pattern)
                transport.write(given)
                if not isinstance(given, bytes) and not memoryview(given).readonly:
                    memoryview(given)[:] = bytes(len(pattern))
            assert 0 < transport.get_write_buffer_size() <= 2 * len(pattern)
            peer.transport.resume_reading()
            await peer.until(lambda: len(peer.received) >= 2 * len(pattern))
            assert peer.received == pattern * 2
            assert transport.get_write_buffer_size() == 0
            transport.abort()

    run(main())


def test_writelines_and_nothing(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            _, transport, peer = await server.connect()
            transport.write(b"")
            transport.writelines([])
            transport.writelines([b"one ", bytearray(b"two "), memoryview(b"three")])
            await peer.until(lambda: len(peer.received) >= 13)
            assert bytes(peer.received) == b"one two three"
            transport.abort()

    run(main())


def test_a_few_writes_make_one_record(run: Any, tmp_path: Path) -> None:
    """What is written as lines shares a TLS record, as a browser's header and body would."""

    async def main() -> None:
        async with serving(tmp_path) as server:
            client, transport, _ = await server.connect()
            tls = transport.get_extra_info("ssl_object")
            calls: list[int] = []
            write = tls._write
            tls._write = lambda pointer, address, size: calls.append(size) or write(pointer, address, size)
            transport.writelines([b"head", b"body"] * 10)
            assert calls == [80]
            transport.abort()
            await client.lost

    run(main())


def test_paused_reading_hands_nothing_on_and_loses_nothing(run: Any, tmp_path: Path) -> None:
    data = random.Random(4).randbytes(READ_SIZE * 3)

    async def main() -> None:
        async with serving(tmp_path) as server:
            client, transport, peer = await server.connect()
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            peer.transport.write(data)
            await asyncio.sleep(0.05)
            assert not client.received
            while len(client.received) < len(data):  # a little at a time: records are cut by the buffer's end
                client.news.clear()
                transport.resume_reading()
                await client.news.wait()
                transport.pause_reading()
                seen = len(client.received)
                await asyncio.sleep(0.01)
                assert len(client.received) == seen
            assert client.received == data
            transport.abort()

    run(main())


class Small(Peer):
    """A protocol with a buffer smaller than a record."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.buffer[:nbytes]))


def test_a_buffer_smaller_than_a_record_gets_all_of_it(run: Any, tmp_path: Path) -> None:
    data = random.Random(5).randbytes(100_000)

    async def main() -> None:
        async with serving(tmp_path) as server:
            _, transport, peer = await server.connect()
            small = Small()
            transport.set_protocol(small)
            assert transport.get_protocol() is small
            peer.transport.write(data)
            await small.until(lambda: len(small.received) >= len(data))
            assert small.received == data
            transport.abort()
            await small.lost

    run(main())


def test_water_marks(run: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path) as server:
            client, transport, _ = await server.connect()
            assert isinstance(transport, BrowserTransport)
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(low=10)
            assert transport.get_write_buffer_limits() == (10, 40)
            transport.set_write_buffer_limits(high=0)
            assert transport.get_write_buffer_limits() == (0, 0)
            with pytest.raises(ValueError, match="at least"):
                transport.set_write_buffer_limits(high=1, low=2)
            assert not transport.can_write_eof()
            assert transport.get_extra_info("nothing", 7) == 7
            transport.abort()
            with contextlib.suppress(ConnectionError):
                await client.lost

    run(main())


def test_many_at_once(run: Any, tmp_path: Path) -> None:
    """Forty connections echo side by side; nothing of them is left."""

    async def main() -> None:
        async with serving(tmp_path) as server:
            before = open_descriptors()

            async def one(number: int) -> None:
                client = Peer()
                transport, _ = await browser().connect(
                    asyncio.get_running_loop(),
                    client,
                    server.address,
                    15,
                    CHROME_PAGE,
                    "localhost",
                    server.trust,
                )
                data = number.to_bytes(2, "big") * 20_000
                transport.write(data)
                await client.until(lambda: len(client.received) >= len(data))
                assert client.received == data
                transport.close()
                await client.lost

            async def echo() -> None:
                while True:
                    peer = await server.peers.get()
                    peer.echo = True
                    peer.transport.write(bytes(peer.received))

            echoing = asyncio.create_task(echo())
            await asyncio.gather(*(one(number) for number in range(40)))
            echoing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await echoing
            for _ in range(200):
                await asyncio.sleep(0.01)
                if open_descriptors() <= before:
                    break
            assert open_descriptors() <= before

    run(main())
