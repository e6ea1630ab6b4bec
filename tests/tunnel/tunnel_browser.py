"""A TLS server that keeps the ClientHellos it gets, for the tests of the browser's hello."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tunnel_live import make_certificate

from ptproxy.tunnel.boring.browser_tls import BrowserTls
from ptproxy.tunnel.boring.check import proven_browser_tls
from ptproxy.tunnel.boring.curl_tls import CurlTls
from ptproxy.tunnel.boring.hello import CHROME_PAGE, Hello
from ptproxy.tunnel.boring.transport import BrowserTransport
from ptproxy.tunnel.tcp import BufferedReads, adopt
from ptproxy.tunnel.tls import ClientTrust

NAME = "localhost"

_shared: list[BrowserTls] = []


def browser() -> BrowserTls:
    """One for all tests, as in a program; its tickets are forgotten between them."""
    if not _shared:
        _shared.append(proven_browser_tls())
    _shared[0].tickets.forget()
    return _shared[0]


def open_descriptors() -> int:
    """Sockets and events of this process (a loop keeps an epoll or two, and one of /dev/null)."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own is gone by now
            count += os.readlink(f"/proc/self/fd/{name}").startswith(("socket:", "anon_inode:[eventfd"))
    return count


async def until_descriptors(expected: int) -> None:
    """The other end takes a moment to see that it is alone."""
    for _ in range(200):
        if open_descriptors() <= expected:
            return
        await asyncio.sleep(0.01)
    assert open_descriptors() <= expected


class Peer(BufferedReads):
    """Keeps what arrives; either end of a connection."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.received = bytearray()
        self.told: list[str] = []
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.news = asyncio.Event()
        self.echo = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: Any) -> None:
        self.received += data
        if self.echo:
            self.transport.write(bytes(data))
        self.news.set()

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")
        self.news.set()

    def eof_received(self) -> None:
        self.told.append("eof")
        self.news.set()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.told.append("lost")
        if not self.lost.done():
            self.lost.set_result(exc)
        self.news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that happened makes ``condition`` true."""
        while not condition():
            self.news.clear()
            await self.news.wait()


class Server:
    """Where it listens, what it is trusted by, and what it was told."""

    def __init__(self, certificate: Path) -> None:
        self.certificate = certificate
        self.trust = ClientTrust(authorities=certificate)
        self.address = ("127.0.0.1", 0)
        self.hellos: list[bytes] = []
        self.peers: asyncio.Queue[Peer] = asyncio.Queue()

    async def connect(
        self,
        hello: Hello = CHROME_PAGE,
        name: str = NAME,
        trust: ClientTrust | None = None,
        by: BrowserTls | CurlTls | None = None,
    ) -> tuple[Peer, BrowserTransport, Peer]:
        """A connection: the client's protocol and transport, the server's protocol."""
        client = Peer()
        transport, _ = await (by or _shared[0]).connect(
            asyncio.get_running_loop(), client, self.address, 5.0, hello, name, trust or self.trust
        )
        return client, transport, await self.peers.get()


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    alpn: tuple[str, ...] = ("h2", "http/1.1"),
    name: str = NAME,
    host: str = "127.0.0.1",
    most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> AsyncIterator[Server]:
    """A TLS server of Python's own."""
    certificate, key = make_certificate(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = most
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(list(alpn))
    server = Server(certificate)
    listening = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setblocking(False)
    server.address = listening.getsockname()[:2]
    loop = asyncio.get_running_loop()
    made: list[Peer] = []

    async def accept() -> None:
        while True:
            sock, _ = await loop.sock_accept(listening)
            try:
                server.hellos.append(await first_record(sock))
            except asyncio.CancelledError:
                sock.close()
                raise
            peer = Peer()
            with contextlib.suppress(OSError):
                await adopt(loop, lambda: peer, sock, tls=context, timeout=5)  # noqa: B023
                made.append(peer)
                server.peers.put_nowait(peer)

    accepting = asyncio.create_task(accept())
    try:
        yield server
    finally:
        accepting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await accepting
        listening.close()
        for peer in made:
            peer.transport.abort()


async def first_record(sock: socket.socket) -> bytes:
    """The ClientHello, left in the socket; nothing where none comes."""
    for _ in range(500):
        with contextlib.suppress(BlockingIOError):
            seen = sock.recv(8192, socket.MSG_PEEK)
            if not seen or (len(seen) > 5 and len(seen) >= 5 + int.from_bytes(seen[3:5], "big")):
                return seen
        await asyncio.sleep(0.01)
    return b""


def ja4(record: bytes) -> str:
    """JA4 of a ClientHello in one record (FoxIO's specification of JA4, TLS over TCP)."""
    body = record[9:]
    place = 35 + body[34]
    ciphers = _numbers(body[place + 2 : place + 2 + int.from_bytes(body[place : place + 2], "big")])
    found = extensions(record)
    kinds = _numbers(b"".join(kind.to_bytes(2, "big") for kind in found))
    versions = _numbers(found[43][1:])
    first = found[16][3 : 3 + found[16][2]].decode() if 16 in found else "00"
    head = (
        f"t{ {0x304: '13', 0x303: '12'}[max(versions)] }{'d' if 0 in found else 'i'}"
        f"{len(ciphers):02d}{len(kinds):02d}{first[0]}{first[-1]}"
    )
    listed = ",".join(sorted(f"{kind:04x}" for kind in kinds if kind not in {0, 16}))
    signatures = ",".join(f"{number:04x}" for number in _numbers(found[13][2:]))
    return (
        f"{head}_{_short(','.join(sorted(f'{n:04x}' for n in ciphers)))}_{_short(f'{listed}_{signatures}')}"
    )


def extensions(record: bytes) -> dict[int, bytes]:
    """The extensions of a ClientHello in one record, in their order, GREASE left out."""
    body = record[9:]
    place = 35 + body[34]
    place += 2 + int.from_bytes(body[place : place + 2], "big")
    place += 1 + body[place] + 2
    found: dict[int, bytes] = {}
    while place < len(body):
        kind, size = struct.unpack_from(">HH", body, place)
        if _numbers(kind.to_bytes(2, "big")):
            found[kind] = body[place + 4 : place + 4 + size]
        place += 4 + size
    return found


def _numbers(data: bytes) -> list[int]:
    """16-bit numbers without GREASE (RFC 8701)."""
    numbers = [number for (number,) in struct.iter_unpack(">H", data)]
    return [number for number in numbers if not (number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF)]


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
