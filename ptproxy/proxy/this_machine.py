"""A port that answers HTTP requests of programs on this machine: one request a connection, one answer.

Only requests for an address of this machine are answered (``Host``: an IP literal or ``localhost``), so
that no web page reads anything here under a name of its own (DNS rebinding); and browsers are told to give
it to no page of another site. That something listens here no server can hide.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from ptproxy.buffer import Buffer
from ptproxy.config.quantities import is_ip
from ptproxy.state.sockets import NamedSocket
from ptproxy.tunnel.listen import Listener, listen_tcp
from ptproxy.tunnel.tcp import BufferedReads

MAX_HEAD: Final = 8192
"""Bytes of a request: browsers send some 500."""
PATIENCE: Final = 10.0
"""Seconds for a request to arrive and its answer to be read."""
MAX_CONNECTIONS: Final = 64
"""Connections at once; further ones are closed."""

_REQUEST = re.compile(rb"(GET|HEAD) (/[^ ?]*)(?:\?[^ ]*)? HTTP/1\.[01]\r\n")
_HOST = re.compile(rb"\r\nhost:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Page:
    """What is at a path."""

    kind: bytes
    """Its Content-Type."""
    body: bytes
    status: bytes = b"200 OK"


Pages = Callable[[str], Page | None]
"""The page at a path, None for none; does not block."""


class ThisMachinePort:
    """Serves a few pages."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pages: Pages) -> None:
        self.pages = pages
        self.connections: set[_Request] = set()
        self._loop = loop
        self._listener: Listener | None = None
        self._named: NamedSocket | None = None

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Listen there; returns the address. Raises ``OSError``."""
        self._listener = await listen_tcp(self._loop, self._request, host, port)
        bound: tuple[str, int] = self._listener.sockets[0].getsockname()[:2]
        return bound

    def take(self, named: NamedSocket) -> None:
        """Listen on a Unix socket, whose name is given up at the end."""
        self._named = named
        self._listener = Listener(self._loop, self._request, named.sock)

    def _request(self) -> _Request:
        return _Request(self, self._loop)

    async def stop(self) -> None:
        """Stop listening and close what is open."""
        if self._named is not None:
            self._named.give_up()
        if self._listener is not None:
            self._listener.close()
            for connection in list(self.connections):
                connection.overdue()
            await self._listener.wait_closed()


class _Request(BufferedReads):
    """One connection: one request, one answer, and the end."""

    def __init__(self, server: ThisMachinePort, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._head = bytearray()
        self._answered = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A program connected."""
        self._transport = cast("asyncio.Transport", transport)
        if len(self._server.connections) >= MAX_CONNECTIONS:
            self._loop.call_soon(self._transport.abort)
            return
        self._server.connections.add(self)
        self._timer = self._loop.call_later(PATIENCE, self.overdue)

    def data_received(self, data: Buffer) -> None:
        """Its request, whole or in pieces."""
        if self._answered:
            return
        self._head += data
        if b"\r\n\r\n" in self._head or len(self._head) > MAX_HEAD:
            self._answered = True
            self._transport.write(answer_to(bytes(self._head), self._server.pages))
            self._transport.close()

    def overdue(self) -> None:
        """It took too long."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        del exc
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()


def answer_to(head: bytes, pages: Pages) -> bytes:
    """The answer to a request's head."""
    request, hosts = _REQUEST.match(head), _HOST.findall(head)
    if request is None or len(head) > MAX_HEAD or len(hosts) != 1 or not _is_this_machine(hosts[0]):
        return _answer(Page(b"text/plain", b"", b"400 Bad Request"))
    page = pages(request[2].decode("latin-1"))
    if page is None:
        page = Page(b"text/plain", b"", b"404 Not Found")
    return _answer(page, with_body=request[1] == b"GET")


def _answer(page: Page, *, with_body: bool = True) -> bytes:
    return (
        b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n"
        b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        b"Cross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n\r\n%s"
        % (page.status, page.kind, len(page.body), page.body if with_body else b"")
    )


def _is_this_machine(host: bytes) -> bool:
    """Whether a Host field is an address or ``localhost``: other names may be anybody's."""
    name = re.sub(rb":\d{1,5}$", b"", host).decode("latin-1")
    return name.lower() == "localhost" or is_ip(name.strip("[]"))
