"""What a stranger meets at a bridge: a web site, and nothing else.

:class:`ForwardSite` passes a connection on, raw, to a real web server: every
byte, close and time-out is that server's own. :class:`BuiltinSite` serves a few
static pages itself, for trials: it keeps to the manners of a common web server,
but every bridge that uses it shows the same pages.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from email.utils import formatdate
from pathlib import Path
from typing import Final, Protocol, cast

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError
from ptproxy.log import get_logger
from ptproxy.proxy.splice import Half, Splice
from ptproxy.proxy.web_pages import Pages, error_page
from ptproxy.proxy.web_request import Request, RequestReader
from ptproxy.tunnel.tcp import connect_tcp, connect_unix

HEADER_TIMEOUT: Final = 60.0
"""Seconds for a request's head, and for the rest of its body (nginx: client_header_timeout)."""
KEEPALIVE_TIMEOUT: Final = 75.0
"""Seconds a connection may be idle between requests (nginx: keepalive_timeout)."""
SEND_TIMEOUT: Final = 60.0
"""Seconds a stranger may take nothing of an answer (nginx: send_timeout)."""
LINGER_TIMEOUT: Final = 5.0
"""Seconds without a byte after which an unwanted body is no longer waited for (nginx: lingering_timeout)."""
LINGER_TIME: Final = 30.0
"""Seconds after which it is not waited for in any case (nginx: lingering_time)."""
MAX_REQUESTS: Final = 1000
"""Requests on one connection (nginx: keepalive_requests)."""
WORK_A_TURN: Final = 256
"""Lines and chunks of all strangers' requests that are read in one turn of the loop (half a millisecond):
whoever sends endless small ones takes that much of the bridge's time from its clients, not all of it."""
REQUEST_WORK: Final = 32
"""What answering a request counts as, in lines."""
MAX_CONNECTIONS: Final = 1024
"""Strangers at once; more are cut off, as by a web server that is out of workers."""
CONNECT_TIMEOUT: Final = 60.0
"""Seconds for the web server behind to take a connection (nginx: proxy_connect_timeout)."""

BUILTIN: Final = Path(__file__).with_name("builtin_site")

log = get_logger(__name__)


class Answers(Protocol):
    """What answers requests: :class:`~ptproxy.proxy.web_pages.Pages`."""

    def answer(self, request: Request, *, scheme: str, local_port: int, date: str) -> bytes:
        """The whole answer to ``request``."""


class Unavailable:
    """Answers when the web server behind is down: 502, as a web server in front of it would."""

    def answer(self, request: Request, *, scheme: str, local_port: int, date: str) -> bytes:
        """The error page."""
        del scheme, local_port
        return error_page(request.refusal or 502, request, date)


class NothingHere:
    """Answers behind a web server, which shows its own page instead of this 404.

    The connection ends with it: the web server would put the requests of clients on it next.
    """

    def answer(self, request: Request, *, scheme: str, local_port: int, date: str) -> bytes:
        """The error page."""
        del scheme, local_port
        request.keep_alive = False
        return error_page(404, request, date)


class BuiltinSite:
    """A few static pages; see :class:`~ptproxy.tunnel.stream.Site`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pages: Answers | None = None,
        *,
        scheme: str = "https",
        header_timeout: float = HEADER_TIMEOUT,
        keepalive_timeout: float = KEEPALIVE_TIMEOUT,
        most_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """Reads the built-in pages now, if no others are given; raises ``OSError``."""
        self.loop = loop
        self.pages = pages if pages is not None else Pages(BUILTIN)
        self.scheme = scheme
        self.header_timeout = header_timeout
        self.keepalive_timeout = keepalive_timeout
        self.visitors: set[_Visitor] = set()
        self.work_left = WORK_A_TURN
        """Of this turn of the loop."""
        self._most = most_connections
        self._waiting: deque[_Visitor] = deque()  # in the order in which their turns come
        self._next_turn: asyncio.Handle | None = None

    def adopt(self, transport: asyncio.Transport, received: bytes) -> None:
        """Answer a stranger, beginning with what was said already."""
        if len(self.visitors) >= self._most:
            self.loop.call_soon(transport.abort)  # not at once: see egress.py's _Runner
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
        if self._next_turn is not None:
            self._next_turn.cancel()
        self._waiting.clear()
        await asyncio.sleep(0)

    def spend(self, work: int) -> None:
        """So much of this turn's work is done; the next turn has all of it again."""
        self.work_left -= work
        if self._next_turn is None:
            self._next_turn = self.loop.call_soon(self._begin_turn)

    def wait_for_turn(self, visitor: _Visitor) -> None:
        """``visitor`` has more to be read than this turn allows: call its ``take_turn`` when it may go on."""
        self._waiting.append(visitor)
        self.spend(0)

    def _begin_turn(self) -> None:
        self._next_turn = None
        self.work_left = WORK_A_TURN
        for _ in range(len(self._waiting)):
            if self.work_left <= 0:
                break
            self._waiting.popleft().take_turn()
        if self._waiting:
            self.spend(0)


class _Visitor(asyncio.Protocol):
    """One stranger's connection."""

    def __init__(self, site: BuiltinSite) -> None:
        self._site = site
        self._reader = RequestReader()
        self._served = 0
        self._writing_paused = False
        self._lingering = False
        self._waiting = False  # for its turn
        self._reading = True
        self._deadline: asyncio.TimerHandle | None = None
        self._last_moment: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A request is to come within a bounded time."""
        self._transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("sockname")
        self._port = address[1] if isinstance(address, tuple) else 0
        self._wait(self._site.header_timeout)

    def data_received(self, data: Buffer) -> None:
        """Bytes of a request, or, after the last answer, bytes that nobody reads."""
        if self._lingering:
            self._wait(LINGER_TIMEOUT)
        elif not self._transport.is_closing():
            self._reader.receive_data(data)
            if not self._waiting:  # what came before it paused
                self._answer()

    def eof_received(self) -> None:
        """Answers are complete when they are written: closing is all that is left."""

    def pause_writing(self) -> None:
        """The stranger does not read: no more requests are taken, for a bounded time."""
        self._writing_paused = True
        self._mind_reading()
        self._wait(SEND_TIMEOUT)

    def resume_writing(self) -> None:
        """It reads again."""
        self._writing_paused = False
        self._wait(self._site.header_timeout)
        if not self._waiting:
            self._answer()
        self._mind_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        del exc
        for timer in (self._deadline, self._last_moment):
            if timer is not None:
                timer.cancel()
        self._site.visitors.discard(self)

    def cut(self) -> None:
        """Time is up."""
        self._transport.abort()

    def take_turn(self) -> None:
        """Go on with what was put off."""
        self._waiting = False
        self._answer()
        self._mind_reading()

    def _answer(self) -> None:
        """Answer every request that is complete, while the stranger takes the answers."""
        reader, transport = self._reader, self._transport
        while not (self._writing_paused or self._lingering or transport.is_closing()):
            request = self._next_request()
            if self._waiting:
                self._mind_reading()
                return
            if request is None:
                if reader.failed:
                    self._finish()
                elif self._served and reader.idle:
                    self._wait(self._site.keepalive_timeout)
                return
            self._served += 1
            if self._served >= MAX_REQUESTS:
                request.keep_alive = False
            transport.write(self._serve(request))
            if not request.keep_alive:
                self._finish()
            elif not self._writing_paused:
                self._wait(self._site.header_timeout)

    def _next_request(self) -> Request | None:
        """The next request, as far as this turn's work goes; None and ``_waiting`` when it does not."""
        reader, site = self._reader, self._site
        reader.allowance = before = max(site.work_left, 0)
        request = reader.next_request() if before else None
        site.spend(before - max(reader.allowance, 0) + (REQUEST_WORK if request is not None else 0))
        if reader.interrupted or not before:
            self._waiting = True
            site.wait_for_turn(self)
        return request

    def _mind_reading(self) -> None:
        """Read only while answers are taken and nothing that came waits for its turn."""
        wanted = not (self._writing_paused or self._waiting)
        if wanted != self._reading and not self._transport.is_closing():
            self._reading = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    def _finish(self) -> None:
        """Close after the last answer; while a body still comes, stay to read it (nginx: lingering_close)."""
        if self._reader.body_read:
            self._wait(SEND_TIMEOUT)
            self._transport.close()
            return
        self._lingering = True
        self._wait(LINGER_TIMEOUT)
        self._last_moment = self._site.loop.call_later(LINGER_TIME, self.cut)

    def _serve(self, request: Request) -> bytes:
        site = self._site
        date = formatdate(usegmt=True)
        answer = site.pages.answer(request, scheme=site.scheme, local_port=self._port, date=date)
        if request.expects_continue and answer.startswith(b"HTTP/1.1 2"):
            return b"HTTP/1.1 100 Continue\r\n\r\n" + answer
        return answer

    def _wait(self, seconds: float) -> None:
        """Start the clock anew."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._site.loop.call_later(seconds, self._overdue)

    def _overdue(self) -> None:
        """nginx closes without a word."""
        if self._writing_paused or self._transport.is_closing():
            self.cut()
        else:
            self._transport.close()


class ForwardSite:
    """A real web server behind the bridge; see :class:`~ptproxy.tunnel.stream.Site`.

    ``host`` is its name or address, ``unix`` the path of its socket instead;
    ``tls`` if it wants TLS again. Nothing is added to what strangers say: its
    log shows the bridge's address for theirs.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        port: int,
        *,
        unix: Path | None = None,
        tls: ssl.SSLContext | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        most_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.loop = loop
        self.splices: set[Splice] = set()
        self._host = host
        self._port = port
        self._unix = unix
        self._tls = tls
        self._timeout = connect_timeout
        self._most = most_connections
        self._tasks: set[asyncio.Task[None]] = set()
        self._down = BuiltinSite(loop, Unavailable())

    def adopt(self, transport: asyncio.Transport, received: bytes) -> None:
        """Pass a stranger on, beginning with what was said already."""
        if len(self.splices) >= self._most:
            self.loop.call_soon(transport.abort)  # not at once: see egress.py's _Runner
            return
        splice = Splice(self.loop, transport, received, self.splices.discard)
        self.splices.add(splice)
        task = self.loop.create_task(self._connect(splice))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cut off whoever is still here."""
        for task in list(self._tasks):
            task.cancel()
        for splice in list(self.splices):
            splice.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._down.close()
        self.splices.clear()

    async def _connect(self, splice: Splice) -> None:
        """Reach the web server; without it strangers see that it is down."""
        try:
            await self._reach(splice.server)
        except (DialError, OSError) as error:
            log.warning("the web site behind the bridge is not reached", why=str(error))
            self.splices.discard(splice)
            if not splice.stranger.lost:
                self._down.adopt(splice.stranger.transport, bytes(splice.early))

    async def _reach(self, server: Half) -> None:
        if self._unix is not None:
            await connect_unix(self.loop, server, str(self._unix), self._timeout)
            return
        found = await self.loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        failure: Exception = OSError("no address")
        for entry in found:
            try:
                await connect_tcp(
                    self.loop, server, str(entry[4][0]), self._port, self._timeout,
                    tls=self._tls, server_hostname=self._host if self._tls is not None else None,
                )  # fmt: skip
            except (DialError, OSError) as error:
                failure = error
            else:
                return
        raise failure
