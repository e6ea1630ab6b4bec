"""A proxy auto-configuration file for browsers, served on a port of this machine.

``http://127.0.0.1:1081/proxy.pac`` sends everything through the local proxy but
what belongs to this machine. There is no way around the proxy in it: where the
proxy does not answer, the browser reaches nothing. It names the HTTP proxy, to
which browsers give names as they are; with SOCKS5, Firefox before 128 (ESR 115
among them) looks them up itself unless it is told otherwise.

Only requests for an address of this machine are answered (``Host``: an IP
literal or ``localhost``), so that no web page reads it under a name of its own;
and browsers are told to give it to no page as a script of another site, which
could ask it for the proxy. That something listens here no server can hide.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final, cast

from ptproxy.buffer import Buffer
from ptproxy.config.quantities import Endpoint, is_ip
from ptproxy.tunnel.listen import Listener, listen_tcp
from ptproxy.tunnel.tcp import BufferedReads

PATH: Final = "/proxy.pac"
MAX_HEAD: Final = 8192
"""Bytes of a request: browsers send some 500."""
PATIENCE: Final = 10.0
"""Seconds for a request to arrive and its answer to be read."""
MAX_CONNECTIONS: Final = 64
"""Connections at once; further ones are closed."""

_REQUEST = re.compile(rb"(GET|HEAD) (/[^ ?]*)(?:\?[^ ]*)? HTTP/1\.[01]\r\n")
_HOST = re.compile(rb"\r\nhost:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)


def pac_text(proxy: Endpoint) -> str:
    """The file for a local proxy: JavaScript as browsers want it."""
    here = str(proxy)
    return f"""function FindProxyForURL(url, host) {{
  if (host === "localhost" || host.endsWith(".localhost") || host === "[::1]" || host === "::1" ||
      /^127\\.\\d+\\.\\d+\\.\\d+$/.test(host)) {{
    return "DIRECT";
  }}
  return "PROXY {here}";
}}
"""


class PacServer:
    """Serves the file of one local proxy."""

    def __init__(self, loop: asyncio.AbstractEventLoop, proxy: Endpoint) -> None:
        self.text = pac_text(proxy).encode()
        self.connections: set[_Request] = set()
        self._loop = loop
        self._listener: Listener | None = None

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Listen there; returns the address. Raises ``OSError``."""
        self._listener = await listen_tcp(self._loop, lambda: _Request(self, self._loop), host, port)
        bound: tuple[str, int] = self._listener.sockets[0].getsockname()[:2]
        return bound

    async def stop(self) -> None:
        """Stop listening and close what is open."""
        if self._listener is not None:
            self._listener.close()
            for connection in list(self.connections):
                connection.overdue()
            await self._listener.wait_closed()


class _Request(BufferedReads):
    """One connection: one request, one answer, and the end."""

    def __init__(self, server: PacServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._head = bytearray()
        self._answered = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A browser connected."""
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
            self._transport.write(answer_to(bytes(self._head), self._server.text))
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


def answer_to(head: bytes, text: bytes) -> bytes:
    """The answer to a request's head."""
    request, hosts = _REQUEST.match(head), _HOST.findall(head)
    if request is None or len(head) > MAX_HEAD or len(hosts) != 1 or not _is_this_machine(hosts[0]):
        return _answer(b"400 Bad Request", b"")
    if request[2] != PATH.encode():
        return _answer(b"404 Not Found", b"")
    return _answer(b"200 OK", text, with_body=request[1] == b"GET")


def _answer(status: bytes, body: bytes, *, with_body: bool = True) -> bytes:
    return (
        b"HTTP/1.1 %s\r\nContent-Type: application/x-ns-proxy-autoconfig\r\nContent-Length: %d\r\n"
        b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        b"Cross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n\r\n%s"
        % (status, len(body), body if with_body else b"")
    )


def _is_this_machine(host: bytes) -> bool:
    """Whether a Host field is an address or ``localhost``: other names may be anybody's."""
    name = re.sub(rb":\d{1,5}$", b"", host).decode("latin-1")
    return name.lower() == "localhost" or is_ip(name.strip("[]"))
