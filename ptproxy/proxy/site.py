"""What a stranger meets at a bridge: a web site, and nothing else.

:class:`ForwardSite` passes a connection on, raw, to a real web server: every
byte, close and time-out is that server's own. :class:`BuiltinSite` serves a few
static pages itself, for trials: it keeps to the manners of a common web server,
but every bridge that uses it shows the same pages.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from pathlib import Path
from typing import Final, cast

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError
from ptproxy.log import get_logger
from ptproxy.proxy.web_pages import Pages, error_page
from ptproxy.proxy.web_request import Request, RequestReader
from ptproxy.tunnel.tcp import connect_tcp, connect_unix, send_reset

HEADER_TIMEOUT: Final = 60.0
"""Seconds for a request's head, and for more of its body (nginx: client_header_timeout, client_body_timeout)."""
KEEPALIVE_TIMEOUT: Final = 75.0
"""Seconds a connection may be idle between requests (nginx: keepalive_timeout)."""
SEND_TIMEOUT: Final = 60.0
"""Seconds a stranger may take nothing of an answer (nginx: send_timeout)."""
MAX_REQUESTS: Final = 1000
"""Requests on one connection (nginx: keepalive_requests)."""
MAX_CONNECTIONS: Final = 1024
"""Strangers at once; more are cut off, as by a web server that is out of workers."""
CONNECT_TIMEOUT: Final = 60.0
"""Seconds for the web server behind to take a connection (nginx: proxy_connect_timeout)."""
MAX_EARLY: Final = 256 * 1024
"""Bytes a stranger may say before the web server behind has taken the connection."""

BUILTIN: Final = Path(__file__).with_name("builtin_site")

log = get_logger(__name__)


class BuiltinSite:
    """A few static pages; see :class:`~ptproxy.tunnel.stream.Site`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        folder: Path = BUILTIN,
        *,
        scheme: str = "https",
        header_timeout: float = HEADER_TIMEOUT,
        keepalive_timeout: float = KEEPALIVE_TIMEOUT,
        most_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Reads ``folder`` now; raises ``OSError``."""
        self.loop = loop
        self.pages = Pages(folder)
        self.scheme = scheme
        self.header_timeout = header_timeout
        self.keepalive_timeout = keepalive_timeout
        self.visitors: set[_Visitor] = set()
        self._most = most_connections

    def adopt(self, transport: asyncio.Transport, received: bytes) -> None:
        """Answer a stranger, beginning with what was said already."""
        if len(self.visitors) >= self._most:
            transport.abort()
            return
        visitor = _Visitor(self)
        self.visitors.add(visitor)
        transport.set_protocol(visitor)
        visitor.connection_made(transport)
        transport.resume_reading()
        if received:
            visitor.data_received(received)

    async def close(self) -> None:
        """Cut off whoever is still here."""
        for visitor in list(self.visitors):
            visitor.cut()
        await asyncio.sleep(0)


class _Visitor(asyncio.Protocol):
    """One stranger's connection."""

    def __init__(self, site: BuiltinSite) -> None:
        self._site = site
        self._reader = RequestReader()
        self._served = 0
        self._writing_paused = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("sockname")
        self._port = address[1] if isinstance(address, tuple) else 0
        self._wait(self._site.header_timeout)

    def data_received(self, data: Buffer) -> None:
        if not self._transport.is_closing():
            self._reader.receive_data(data)
            self._answer()

    def eof_received(self) -> None:
        """Answers are complete when they are written: closing is all that is left."""

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._transport.pause_reading()
        self._wait(SEND_TIMEOUT)

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._transport.resume_reading()
        self._wait(self._site.header_timeout)
        self._answer()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._deadline is not None:
            self._deadline.cancel()
        self._site.visitors.discard(self)

    def cut(self) -> None:
        """Time is up."""
        self._transport.abort()

    def _answer(self) -> None:
        """Answer every request that is complete, while the stranger takes the answers."""
        reader, transport = self._reader, self._transport
        while not self._writing_paused and not transport.is_closing():
            request = reader.next_request()
            if request is None:
                if reader.failed:
                    transport.close()
                elif self._served and reader.idle:
                    self._wait(self._site.keepalive_timeout)
                return
            self._served += 1
            if self._served >= MAX_REQUESTS:
                request.keep_alive = False
            transport.write(self._serve(request))
            if not request.keep_alive:
                transport.close()
                return
            self._wait(self._site.header_timeout)

    def _serve(self, request: Request) -> bytes:
        site = self._site
        date = formatdate(usegmt=True)
        answer = site.pages.answer(request, scheme=site.scheme, local_port=self._port, date=date)
        if request.expects_continue and request.has_body and answer.startswith(b"HTTP/1.1 2"):
            return b"HTTP/1.1 100 Continue\r\n\r\n" + answer
        return answer

    def _wait(self, seconds: float) -> None:
        """Start the clock anew."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._site.loop.call_later(seconds, self._overdue)

    def _overdue(self) -> None:
        """nginx closes without a word."""
        if self._writing_paused:
            self.cut()
        else:
            self._transport.close()
