"""How a browser's TLS connection ends, whoever ends it."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("curl_cffi", exc_type=ImportError)

from tunnel_browser import Peer, browser, open_descriptors, serving

from ptproxy.tunnel.boring.hello import CHROME_PAGE, FIREFOX, Hello
from ptproxy.tunnel.tcp import FAST, READ_SIZE, send_reset


@pytest.fixture(autouse=True)
def one_browser() -> None:
    browser()


class TestEnds:
    def test_the_peer_closes(self, run: Any, tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                client, transport, peer = await server.connect()
                peer.transport.write(b"last words")
                peer.transport.close()
                assert await client.lost is None
                assert bytes(client.received) == b"last words"
                assert client.told == ["made", "eof", "lost"]
                assert transport.is_closing()
                assert await peer.lost is None

        run(main())

    def test_the_peer_breaks_the_connection(self, run: Any, tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                client, _, peer = await server.connect()
                send_reset(peer.transport)
                assert isinstance(await client.lost, ConnectionResetError)
                assert client.told == ["made", "lost"]

        run(main())

    @pytest.mark.parametrize("paused", [False, True])
    def test_last_bytes_and_a_reset_together(self, run: Any, tmp_path: Path, paused: bool) -> None:
        """uvloop ends the polling of such a descriptor: the bytes and the end arrive all the same."""

        async def main() -> None:
            async with serving(tmp_path) as server:
                client, transport, peer = await server.connect()
                if paused:
                    transport.pause_reading()
                peer.transport.write(b"x" * 100_000)
                send_reset(peer.transport)
                if paused:
                    await asyncio.sleep(0.05)
                    transport.resume_reading()
                assert isinstance(await client.lost, ConnectionResetError)
                assert bytes(client.received) == b"x" * len(client.received)

        run(main())

    def test_a_reset_while_only_writing(self, run: Any, tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                client, transport, peer = await server.connect()
                peer.transport.pause_reading()
                transport.pause_reading()
                transport.write(bytes(8 << 20))
                assert transport.get_write_buffer_size() > 0
                send_reset(peer.transport)
                assert isinstance(await client.lost, ConnectionResetError)
                transport.write(b"more")  # harmless
                assert transport.get_write_buffer_size() == 0

        run(main())

    def test_a_fin_without_close_notify(self, run: Any, tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                client, _, peer = await server.connect()
                sock = peer.transport.get_extra_info("socket")
                duplicate = socket.socket(fileno=os.dup(sock.fileno()))
                duplicate.shutdown(socket.SHUT_WR)
                duplicate.close()
                assert await client.lost is None
                assert client.told == ["made", "eof", "lost"]

        run(main())

    def test_garbage_in_the_stream(self, run: Any, tmp_path: Path) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                client, _, peer = await server.connect()
                sock = peer.transport.get_extra_info("socket")
                duplicate = socket.socket(fileno=os.dup(sock.fileno()))
                duplicate.send(b"\x17\x03\x03\x00\x20" + bytes(32))
                duplicate.close()
                lost = await client.lost
                assert isinstance(lost, ConnectionAbortedError)
                assert "decrypt" in str(lost)

        run(main())

    def test_close_delivers_what_was_written_and_says_goodbye(self, run: Any, tmp_path: Path) -> None:
        data = random.Random(6).randbytes(8 << 20)

        async def main() -> None:
            async with serving(tmp_path) as server:
                client, transport, peer = await server.connect()
                transport.write(data)
                transport.close()
                transport.close()
                transport.write(b"too late")
                assert transport.is_closing()
                assert client.told == ["made"] or client.told == ["made", "pause"]
                await peer.lost
                assert peer.received == data
                assert await client.lost is None

        run(main())

    @pytest.mark.skipif(not FAST, reason="asyncio's transports read on while paused")
    @pytest.mark.parametrize(("hello", "records"), [(CHROME_PAGE, []), (FIREFOX, [19])])
    def test_the_farewell_is_the_browser_s(
        self, run: Any, tmp_path: Path, hello: Hello, records: list[int]
    ) -> None:
        """Chromium sends FIN alone, Firefox a close_notify (a record of 19 bytes in TLS 1.3) before it."""

        async def main() -> None:
            async with serving(tmp_path) as server:
                client, transport, peer = await server.connect(hello)
                peer.transport.write(b".")
                await client.until(lambda: bool(client.received))
                peer.transport.pause_reading()
                sock = socket.socket(fileno=os.dup(peer.transport.get_extra_info("socket").fileno()))
                transport.close()
                await asyncio.sleep(0.05)
                sent = sock.recv(4096, socket.MSG_PEEK)
                assert [len(sent) - 5] * bool(sent) == records
                sock.close()
                peer.transport.resume_reading()
                await client.lost

        run(main())

    def test_what_comes_after_close_makes_no_reset(self, run: Any, tmp_path: Path) -> None:
        """The peer is still sending: it reads our last bytes all the same."""

        async def main() -> None:
            async with serving(tmp_path) as server:
                client, transport, peer = await server.connect()
                transport.pause_reading()
                peer.transport.write(bytes(1 << 20))
                await asyncio.sleep(0.05)
                transport.write(b"last words")
                transport.close()
                assert not isinstance(await peer.lost, ConnectionError)
                assert bytes(peer.received) == b"last words"
                assert await client.lost is None
                assert not client.received

        run(main())

    def test_a_peer_that_never_ends_is_left_in_time(
        self, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ptproxy.tunnel.boring.transport.SHUTDOWN_TIMEOUT", 0.1)

        async def main() -> None:
            async with serving(tmp_path) as server:
                client, transport, peer = await server.connect()
                peer.transport.pause_reading()
                transport.write(bytes(8 << 20))
                started = time.monotonic()
                transport.close()
                assert await client.lost is None
                assert 0.09 < time.monotonic() - started < 3

        run(main())

    @pytest.mark.parametrize("reset", [False, True])
    def test_abort(self, run: Any, tmp_path: Path, reset: bool) -> None:
        async def main() -> None:
            async with serving(tmp_path) as server:
                before = open_descriptors()
                client, transport, peer = await server.connect()
                transport.write(bytes(8 << 20))
                if reset:
                    send_reset(transport)
                else:
                    transport.abort()
                transport.abort()
                assert await client.lost is None
                assert client.told[-1] == "lost"
                await peer.lost
                for _ in range(100):
                    await asyncio.sleep(0.01)
                    if open_descriptors() <= before:
                        break
                assert open_descriptors() <= before

        run(main())

    @pytest.mark.parametrize("when", ["connection_made", "data_received"])
    @pytest.mark.parametrize("how", ["close", "abort"])
    def test_closed_from_within_a_callback(self, run: Any, tmp_path: Path, when: str, how: str) -> None:
        class Closing(Peer):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                if when == "connection_made":
                    getattr(transport, how)()

            def data_received(self, data: Any) -> None:
                super().data_received(data)
                getattr(self.transport, how)()

        async def main() -> None:
            async with serving(tmp_path) as server:
                client = Closing()
                await browser().connect(
                    asyncio.get_running_loop(),
                    client,
                    server.address,
                    5,
                    CHROME_PAGE,
                    "localhost",
                    server.trust,
                )
                peer = await server.peers.get()
                peer.transport.write(bytes(3 * READ_SIZE))
                assert await client.lost is None
                assert client.told == ["made", "lost"]
                assert len(client.received) <= READ_SIZE

        run(main())

    def test_a_protocol_that_fails(self, run: Any, tmp_path: Path) -> None:
        class Failing(Peer):
            def data_received(self, data: Any) -> None:
                raise ZeroDivisionError

        async def main() -> None:
            told: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
            async with serving(tmp_path) as server:
                client, transport, peer = await server.connect()
                failing = Failing()
                transport.set_protocol(failing)
                peer.transport.write(b"x")
                assert isinstance(await failing.lost, ZeroDivisionError)
                assert [type(context["exception"]) for context in told] == [ZeroDivisionError]
                del client

        run(main())
