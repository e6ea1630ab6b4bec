"""A small TLS web server on loopback that keeps the ClientHello of everyone who comes.

Its page has a picture and opens a WebSocket, so that a browser shows in one
visit how it greets at first, for a WebSocket, and (over HTTP/1.1, where every
answer ends its connection) when it resumes for another page. Of HTTP/2 it
speaks what a page takes and nothing more.
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

import hpack

from ptproxy.codec.client_hello import ClientHello, ClientHelloReader
from ptproxy.codec.http2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    SETTINGS_ACK,
    Frame,
    FrameReader,
    frame_head,
    header_fragment,
    settings_frame,
)
from ptproxy.errors import CodecError

MAX_HEARD: Final = 1000
"""Hellos kept; whoever comes later is served and forgotten."""
MAX_REQUEST: Final = 16 * 1024
"""Bytes of a request's head."""
PATIENCE: Final = 10.0
"""Seconds a connection lasts at most."""

HTTP1: Final = ("http/1.1",)
"""Protocols of a site that speaks HTTP/1.1 only."""
HTTP2: Final = ("h2", "http/1.1")
"""Protocols of most sites."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PAGE: Final = (
    b"<!doctype html><title>hello</title><img src=/picture.png>"
    b"<script>onload=()=>{const at=new URLSearchParams(location.search).get('socket')||location.host;"
    b"setTimeout(()=>new WebSocket('wss://'+at+'/socket'),500)}</script>"
)


@dataclass(frozen=True, slots=True)
class HeardHello:
    """One connection of a client's."""

    hello: ClientHello
    size: int
    """Bytes on the wire, records' heads included."""
    resumed: bool
    """Whether a ticket was taken; a new connection otherwise."""
    use: str
    """``page`` or ``websocket``, by what was asked for; ``none`` where nothing was."""


class GreetingServer:
    """Listens from ``async with`` on; ``heard`` fill while clients come."""

    def __init__(
        self,
        certificate: bytes,
        private_key: bytes,
        host: str = "127.0.0.1",
        port: int = 0,
        alpn: tuple[str, ...] = HTTP1,
    ) -> None:
        self.heard: list[HeardHello] = []
        self.news = asyncio.Event()
        """Set with every greeting."""
        self._where = host, port
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.set_alpn_protocols(list(alpn))
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

    def welcome(self, greeting: HeardHello) -> None:
        """Keep what a client said."""
        if len(self.heard) < MAX_HEARD:
            self.heard.append(greeting)
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
        """Shake hands, take requests, answer them; ``OSError`` and ``CodecError`` end it."""
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
            self._host.welcome(HeardHello(hello, self._hello.consumed, resumed, use))
        if request.startswith(PREFACE):
            await self._speak_http2(request[len(PREFACE) :])
        else:
            self._tls.write(_answer(request))
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def _speak_http2(self, data: bytes) -> None:
        """Answer until the client has no more to ask."""
        frames, fields = FrameReader(), hpack.Decoder(max_header_list_size=MAX_REQUEST)
        self._tls.write(settings_frame([]))
        while True:
            for frame in frames.receive_data(data):
                if frame.type == SETTINGS and not frame.flags & ACK:
                    self._tls.write(SETTINGS_ACK)
                elif frame.type == HEADERS:
                    self._tls.write(_answer_http2(frame, fields))
            await self._flush()
            data = await self._read()
            if not data:
                return

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
            data = await self._read()
            if not data:
                break
            request += data
        return request

    async def _read(self) -> bytes:
        """What is said next; nothing at the end."""
        while True:
            try:
                return self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                await self._more()


def _answer_http2(frame: Frame, fields: hpack.Decoder) -> bytes:
    """The same of HTTP/2, as frames; :class:`CodecError` for headers that cannot be read."""
    try:
        asked = dict(fields.decode(bytes(header_fragment(frame)), raw=True))
    except hpack.HPACKError:
        raise CodecError("HTTP/2: headers that cannot be read") from None
    if asked.get(b":path", b"").partition(b"?")[0] != b"/":
        return frame_head(HEADERS, END_HEADERS | END_STREAM, frame.stream, 1) + b"\x8d"  # :status 404
    block = b"\x88\x5f\x09text/html"  # :status 200, content-type
    head = frame_head(HEADERS, END_HEADERS, frame.stream, len(block)) + block
    return head + frame_head(DATA, END_STREAM, frame.stream, len(_PAGE)) + _PAGE


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
