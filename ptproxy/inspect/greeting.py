"""A small TLS web server on loopback that keeps the ClientHello of everyone who comes.

Its page has a picture and opens a WebSocket, each on a connection of its own,
so that a browser shows in one visit how it greets at first, when it resumes,
and for a WebSocket. It speaks HTTP/1.1 only: a hello is said before the server
chooses.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import socket
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptproxy.codec.client_hello import ClientHello, ClientHelloReader
from ptproxy.errors import CodecError

MAX_GREETINGS: Final = 1000
"""Hellos kept; whoever comes later is served and forgotten."""
MAX_REQUEST: Final = 16 * 1024
"""Bytes of a request's head."""
PATIENCE: Final = 10.0
"""Seconds a connection lasts at most."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PAGE: Final = (
    b"<!doctype html><title>hello</title><img src=/picture.png>"
    b"<script>onload=()=>{const at=new URLSearchParams(location.search).get('socket')||location.host;"
    b"setTimeout(()=>new WebSocket('wss://'+at+'/socket'),500)}</script>"
)


@dataclass(frozen=True, slots=True)
class Greeting:
    """One connection of a client's."""

    hello: ClientHello
    size: int
    """Bytes on the wire, records' heads included."""
    resumed: bool
    """Whether a ticket was taken; a new connection otherwise."""
    use: str
    """``page`` or ``websocket``, by what was asked for; ``none`` where nothing was."""


class GreetingServer:
    """Listens from ``async with`` on; ``greetings`` fill while clients come."""

    def __init__(
        self, certificate: bytes, private_key: bytes, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.greetings: list[Greeting] = []
        self.news = asyncio.Event()
        """Set with every greeting."""
        self._where = host, port
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.set_alpn_protocols(["http/1.1"])
        with tempfile.TemporaryDirectory(prefix="ptproxy-inspect-") as folder:
            path = Path(folder) / "identity.pem"
            path.touch(mode=0o600)
            path.write_bytes(certificate + private_key)  # Python's ssl reads files only
            self._context.load_cert_chain(path)

    async def __aenter__(self) -> GreetingServer:
        """Listen; ``OSError`` where that is not possible."""
        self._server = await asyncio.start_server(self._serve, *self._where)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listen no more, end what is open."""
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.timeout(PATIENCE):
                await _Guest(self, self._context, reader, writer).serve()
        except (OSError, CodecError):  # ssl.SSLError and TimeoutError are of the former
            pass
        finally:
            self._serving.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def welcome(self, greeting: Greeting) -> None:
        """Keep what a client said."""
        if len(self.greetings) < MAX_GREETINGS:
            self.greetings.append(greeting)
        self.news.set()


class _Guest:
    """One connection: TLS between two buffers, one request, one answer."""

    def __init__(
        self,
        host: GreetingServer,
        context: ssl.SSLContext,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._hello = ClientHelloReader()

    async def serve(self) -> None:
        """Shake hands, take a request, answer it; ``OSError`` and ``CodecError`` end it."""
        hello = None
        while hello is None:
            data = await self._more()
            hello = self._hello.receive_data(data)
        request = b""
        try:
            await self._shake_hands()
            request = await self._request()
        finally:
            upgrade = b"upgrade: websocket" in request.lower()
            use = "none" if not request else "websocket" if upgrade else "page"
            resumed = bool(self._tls.session_reused)
            self._host.welcome(Greeting(hello, self._hello.consumed, resumed, use))
        self._tls.write(_answer(request))
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def _more(self) -> bytes:
        """The next bytes, which TLS has, too."""
        data = await self._reader.read(1 << 16)
        if not data:
            raise ConnectionResetError
        self._incoming.write(data)
        return data

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            self._writer.write(data)
            await self._writer.drain()

    async def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._more()
            else:
                await self._flush()
                return

    async def _request(self) -> bytes:
        """A request's head; what there is of it where the client says no more."""
        request = b""
        while b"\r\n\r\n" not in request and len(request) < MAX_REQUEST:
            try:
                data = self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                await self._more()
                continue
            if not data:
                break
            request += data
        return request


def _answer(request: bytes) -> bytes:
    """A page, a picture that is none, an open WebSocket that ends at once."""
    target = request.split(b" ", 2)[1:2]
    for line in request.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"sec-websocket-key":
            digest = hashlib.sha1(value.strip() + _GUID, usedforsecurity=False).digest()
            return (
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n\x88\x02\x03\xe8"
            )
    if target and target[0].partition(b"?")[0] == b"/":
        head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        )
        return head % len(_PAGE) + _PAGE
    return b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
