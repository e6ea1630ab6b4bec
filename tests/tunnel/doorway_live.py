"""A doorway between two peers that are told what to do: a stranger, and a web server's TLS port.

Peers block, and run in threads: :class:`Peer` is TCP, with TLS over memory BIOs where asked for, so that
close_notify, FIN and RST are seen and said one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tunnel_live import Live

from ptproxy.codec.cookie import session_cookie_name
from ptproxy.codec.interface import CodecSettings
from ptproxy.tunnel.beside import openssl
from ptproxy.tunnel.beside.doorway import Doorway
from ptproxy.tunnel.beside.h2_couple import H2Requests
from ptproxy.tunnel.beside.site_connection import SiteServer
from ptproxy.tunnel.beside.site_manners import site_context
from ptproxy.tunnel.beside.terms import Terms
from ptproxy.tunnel.bridge import Bridge
from ptproxy.tunnel.listen import listen_tcp
from ptproxy.tunnel.tls import bridge_context

PATIENCE = 60.0
"""Seconds after which a peer that waits in vain fails."""
NAME = "localhost"
RESET = b"\x01\0\0\0\0\0\0\0"


class Peer:
    """One end of a TCP connection, with TLS or without."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        self.tls: ssl.SSLObject | None = None
        self.said = ""
        """How the other end has ended, in order: close_notify, FIN, RST."""
        self.notified = False

    def start_tls(self, context: ssl.SSLContext, **options: Any) -> Peer:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **options)
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if not self._receive():
                    raise ConnectionError(self.said) from None
            else:
                self._flush()
                return self

    def send(self, data: bytes) -> None:
        if self.tls is None:
            self.sock.sendall(data)
        else:
            self.tls.write(data)
            self._flush()

    def notify(self) -> None:
        """close_notify."""
        self.notified = True
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self._flush()

    def finish(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()

    def read(self, size: int) -> bytes:
        """So many bytes."""
        data = b""
        while len(data) < size:
            piece = self.piece(size - len(data))
            assert piece, (data, self.said)
            data += piece
        return data

    def read_all(self) -> bytes:
        """Everything until the end; ``said`` tells of what kind that is."""
        data = b""
        while not self.said.endswith(("FIN", "RST")):
            data += self.piece(65536)
        return data

    def piece(self, size: int) -> bytes:
        """Some bytes; b"" once at each of the other end's farewells."""
        if self.tls is None:
            return self._receive(size)
        while True:
            if not self.said:
                try:
                    if data := self.tls.read(size):
                        return data
                    self.said = "close_notify"
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    self.said = "close_notify"
                except ssl.SSLEOFError:  # records that came across our close_notify: OpenSSL reads no more
                    if not self.notified:
                        raise
                    self.tls = None
                    return self._receive(size)
                if self.said:
                    return b""
            if not self._receive():
                return b""

    def _receive(self, size: int = 65536) -> bytes:
        try:
            data = self.sock.recv(size)
        except ConnectionResetError:
            self.said = f"{self.said} RST".strip()
            return b""
        if not data:
            self.said = f"{self.said} FIN".strip()
        elif self.tls is not None:
            self.incoming.write(data)
        return data

    def _flush(self) -> None:
        if data := self.outgoing.read():
            self.sock.sendall(data)


class Site:
    """A web server's port, whose every connection does what it was told last."""

    def __init__(self, live: Live, pool: ThreadPoolExecutor) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.settimeout(PATIENCE)
        self.context = bridge_context(live.certificate, live.private_key, alpn=live.alpn)
        self._pool = pool

    def serve(self, what: Callable[[Peer], Any], *, tls: bool = False) -> Future[Any]:
        """Let the next connection (one that begins with TLS, if so asked) be dealt with; its result."""

        def go() -> Any:
            sock, _ = self.sock.accept()
            with sock:
                peer = Peer(sock)
                if tls:
                    peer.start_tls(self.context, server_side=True)
                return what(peer)

        return self._pool.submit(go)


class Beside(Live):
    """A bridge whose connections all come through a doorway."""

    def __init__(self, folder: Path, http2: bool, **limits: Any) -> None:
        super().__init__(folder)
        self.alpn = ("h2", "http/1.1") if http2 else ("http/1.1",)
        self.limits = {"most_waiting": 100} | limits
        self.pool = ThreadPoolExecutor(16)
        self.far = Site(self, self.pool)

    async def connect(self) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await self.loop.sock_connect(sock, self.far.sock.getsockname())
        except BaseException:
            sock.close()
            raise
        return sock

    async def start(self, **settings: Any) -> None:
        library = openssl.load()
        context = bridge_context(self.certificate, self.private_key, alpn=self.alpn)
        library.ignore_unexpected_eof(context)
        library.set_read_ahead(context, ahead=True)
        cookie = session_cookie_name(CodecSettings("localhost", "/live"))
        terms = Terms(
            library, context, NAME, tuple(name.encode() for name in self.alpn),
            library.ticket_key_name(context), H2Requests("/live", cookie),
        )  # fmt: skip
        server = SiteServer(self.loop, library, site_context(library), self.connect)
        self.doorway = Doorway(self.loop, terms, server, lambda: self.bridge.arrival(), **self.limits)
        self.server = await listen_tcp(self.loop, list, "127.0.0.1", self.port, doorway=self.doorway)
        self.port = self.server.sockets[0].getsockname()[1]
        self.bridge = Bridge(self.loop, self.settings(**settings), self.exit, self.site)

    async def stop(self) -> None:
        await super().stop()
        await self.doorway.close()
        self.far.sock.close()
        self.pool.shutdown()

    async def stranger(self, what: Callable[[Peer], Any], **tls: Any) -> Any:
        """Be a stranger in a thread: TLS first where options for its context are given."""

        def go() -> Any:
            with socket.create_connection(("127.0.0.1", self.port)) as sock:
                peer = Peer(sock)
                if tls:
                    peer.start_tls(stranger_context(**tls), server_hostname=tls.get("name", NAME))
                return what(peer)

        return await asyncio.wrap_future(self.pool.submit(go))


def stranger_context(
    alpn: tuple[str, ...] = ("http/1.1",), most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, **_: Any
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = most
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@contextlib.asynccontextmanager
async def beside(folder: Path, *, http2: bool = False, **limits: Any) -> Any:
    """A bridge beside a site, for the time of a test; nothing may be left of either."""
    running = Beside(folder, http2, **limits)
    await running.start()
    try:
        yield running
    finally:
        for dialer in running.dialers:
            await dialer.stop()
        await running.stop()
        assert not running.doorway.waiting
        assert not running.doorway.strangers
        assert not running.doorway.clients
