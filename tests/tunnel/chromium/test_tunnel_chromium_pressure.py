"""Back pressure through the browser: whoever does not read stops whoever sends, within a few MiB."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from pathlib import Path
from typing import Any

import pytest
from chromium_rig import NAME, Site, site, until

from ptproxy.codec.http_records import HELLO, record_head
from ptproxy.codec.interface import CodecSettings
from ptproxy.codec.ws_frames import BINARY, unmasked_frame
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.chromium import Chromium
from ptproxy.tunnel.chromium.browser import JOINED
from ptproxy.tunnel.listen import listen_unix

pytestmark = pytest.mark.program("chromium", "nginx")

OFFERED = 256 << 20
"""Bytes that the sender would like to send."""
BOUND = 48 << 20
"""Bytes that may be under way between two ends of which one does not read: the buffers of the browser, of the
web server and of four sockets, which the kernel lets grow to many MiB each (9 to 21 seen)."""
PIECE = bytes(64 << 10)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Sender(asyncio.Protocol):
    """The site's end: answers an upgrade or a GET, then sends all it can; counts what is taken off it."""

    mute = False
    """It never answers an upgrade."""

    def __init__(self, ends: list[Sender]) -> None:
        self.head = b""
        self.sent = self.received = 0
        self.sending = False
        self.paused = False
        ends.append(self)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(1 << 16)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self.head.endswith(b"\r\n\r\n"):
            return
        self.head += data
        if b"\r\n\r\n" not in self.head:
            return
        self.head = self.head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        if self.mute:
            return
        if b"upgrade: websocket" in self.head.lower():
            key = next(
                line.split(b": ")[1]
                for line in self.head.split(b"\r\n")
                if line.lower().startswith(b"sec-websocket-key")
            )
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
            self.transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            self.piece = unmasked_frame(BINARY, PIECE)
        elif self.head.startswith(b"GET"):
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nX-Accel-Buffering: no\r\nCache-Control: no-store\r\n"
                b"Content-Length: %d\r\n\r\n" % OFFERED + record_head(HELLO, 0)
            )
            self.piece = PIECE
        self.sending = True
        self.send()

    def send(self) -> None:
        while self.sending and not self.paused and self.sent < OFFERED:
            self.transport.write(self.piece)
            self.sent += len(PIECE)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.send()

    def connection_lost(self, exc: Any) -> None:
        self.sending = False


class Local(Connection):
    """The client's end of the local socket, with the bytes counted instead of understood."""

    def __init__(self, loop: Any) -> None:
        super().__init__(None, loop)  # type: ignore[arg-type]
        self.received = 0

    def data_received(self, data: Any) -> None:
        self.received += len(data)

    def connection_lost(self, exc: Any) -> None:
        self.ended = True


async def stands_still(measure: Any) -> int:
    """What ``measure()`` says once it has said the same for a while."""
    last, since = measure(), 0
    while since < 8:
        await asyncio.sleep(0.1)
        now = measure()
        since = since + 1 if now == last else 0
        last = now
    return int(last)


async def joined(there: Site, codec: str, ends: list[Sender]) -> Local:
    """A local socket whose page has its WebSocket, or makes requests as told."""
    there.server.close()
    there.server = await listen_unix(there.loop, lambda: Sender(ends), str(there.folder / "bridge.sock"))
    return await another(there, there.chromium(), codec)


async def another(there: Site, browser: Chromium, codec: str) -> Local:
    """One more local socket of the same page's."""
    local = Local(there.loop)
    await browser.connect(local)
    settings = CodecSettings(f"{NAME}:{there.port}", "/assets/live")
    link = JOINED[codec].client(settings, bytes(200), random.Random(1)).open_link()
    local.transport.writelines(link.data_to_send())
    return local


@pytest.mark.parametrize("codec", ["websocket", "http"])
def test_a_client_that_does_not_read_stops_the_site(browse: Any, tmp_path: Path, codec: str) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            ends: list[Sender] = []
            local = await joined(there, codec, ends)
            await until(lambda: local.received)
            local.transport.pause_reading()
            before = local.received
            sent = await stands_still(lambda: sum(end.sent for end in ends))
            under_way = sent - before
            print(f"{codec}: {under_way / (1 << 20):.1f} MiB under way to a client that does not read")
            assert under_way <= BOUND
            local.transport.resume_reading()
            await until(lambda: local.received > sent + BOUND)  # and goes on once it does
            local.transport.abort()

    browse(main())


def test_a_site_that_does_not_read_stops_the_client(browse: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            ends: list[Sender] = []
            local = await joined(there, "websocket", ends)
            await until(lambda: local.received)
            for end in ends:
                end.sending = False
                end.transport.pause_reading()
            message = unmasked_frame(BINARY, PIECE)
            sent = 0

            async def send() -> None:
                nonlocal sent
                while sent < OFFERED:
                    if local.blocked:
                        await asyncio.sleep(0.001)
                        continue
                    local.transport.write(message)
                    sent += len(PIECE)

            sending = asyncio.ensure_future(send())
            taken = await stands_still(lambda: sent)
            print(f"websocket: {taken / (1 << 20):.1f} MiB under way to a site that does not read")
            assert 0 < taken <= BOUND
            for end in ends:
                end.transport.resume_reading()
            await sending
            await until(lambda: sum(end.received for end in ends) >= OFFERED)
            local.transport.abort()

    browse(main())


def test_a_site_that_never_answers_holds_nobody_else_up(
    browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with site(tmp_path) as there:
            ends: list[Sender] = []
            monkeypatch.setattr(Sender, "mute", True)
            waiting = await joined(there, "websocket", ends)
            await until(lambda: ends)
            monkeypatch.setattr(Sender, "mute", False)
            behind = await another(there, there.browsers[0], "websocket")
            waiting.transport.close()  # the client gives up
            await until(lambda: behind.received)
            behind.transport.abort()

    browse(main())
