"""The site's page, visited before anything else: as a browser's user comes to it, on a browser's connections.

Over HTTP/2 the ``http`` codec goes on on the very connection of the visit.
Otherwise (a bridge that terminates TLS itself hands a connection on which a
page was asked for to its site, for good) carriers connect anew and resume its
ticket, while the connections of the page stay open, idle, for as long as their
server likes.

Over HTTP/1.1 a browser has six connections to a host at most (WebSockets are
not counted). A carrier of requests is a part of the page to whoever watches, so
the page leaves it some of the six, and the first of them, on which nothing is
asked, is opened in the same moment as the page's own further ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.interface import Appearance, Event
from ptproxy.codec.page.h1_pool import MAX_CONNECTIONS, H1Pool
from ptproxy.codec.page.visit import Visit
from ptproxy.errors import AuthenticationError, CodecError, DialError
from ptproxy.log import get_logger
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.connect import Route, connect_tls

VISIT_EVERY: Final = 60.0
"""Seconds between visits for the sake of a ticket, at least: some servers give none."""
TICKET_PATIENCE: Final = 2.0
"""Seconds that a dial waits for the ticket of another one before it visits for one of its own. A hello that
resumes nothing is one that no browser's WebSocket sends."""
TICKET_LOOK: Final = 0.02
"""Seconds between looks at whether it has come."""
VISIT_PATIENCE: Final = 8.0
"""Seconds after which a page that is still loading is left as it is: people do not wait for all of it."""
DIAL_PATIENCE: Final = 2.0
"""Seconds after the end of a page that further connections for it, which are then no use, may still take."""
CARRIER_CONNECTIONS: Final = 3
"""Connections over HTTP/1.1 that a page leaves to a carrier of requests: two on which an answer is awaited
and one to send on."""
COARSE: Final = 0.002
"""Seconds by which timers may be late. Chromium's first write follows its handshake 0.26 to 2.9 ms later in
cover (p5, p95), when the server has sent its own SETTINGS alone, and its request 29 to 69 us after that,
beyond a turn of the loop, so that the server answers the first alone: the loop turns until it is over."""

log = get_logger(__name__)


@dataclass(slots=True)
class Visited:
    """A page's connections, and what a carrier can begin on.

    Until then nothing on them is anybody's but a browser's that has loaded a page.
    """

    connection: Connection
    digest: bytes
    """SHA-256 of the certificate shown on it."""
    visit: Visit
    others: list[Connection] = field(default_factory=list)
    """Further connections of the page (HTTP/1.1)."""
    fresh: tuple[Connection, bytes] | None = None
    """A connection beside them on which nothing was asked, and its certificate's SHA-256."""

    @property
    def usable(self) -> bool:
        """Whether a carrier can begin on the page's own connection."""
        return self.visit.http2 is not None and self.visit.usable and not self.connection.ended

    def take_fresh(self) -> tuple[Connection, bytes] | None:
        """The connection on which nothing was asked is the caller's now, if there is one."""
        fresh, self.fresh = self.fresh, None
        return None if fresh is None or fresh[0].ended else fresh

    @property
    def connections(self) -> list[Connection]:
        """All of them."""
        return [self.connection, *self.others, *([self.fresh[0]] if self.fresh else ())]

    def drop(self) -> None:
        """Close them, as a browser does that has no more use for them."""
        for connection in self.connections:
            connection.drop()

    def abort(self) -> None:
        """Drop them at once."""
        for connection in self.connections:
            connection.abort()


class Visitor:
    """Visits one bridge's site, and keeps what a browser would keep open of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, route: Route, look: Appearance, rng: Random) -> None:
        self._loop = loop
        self._route = route
        self._look = look
        self._rng = rng
        self._one = asyncio.Lock()
        self._last: float | None = None
        self._gives = False
        """The site gives tickets, as far as its last page shows."""
        self._page: Visited | None = None
        self._unread: list[str] = []
        self.on_visited: Callable[[], None] | None = None
        """Told when the memory of the site has changed."""

    async def visit(self, assets: str = "all", left: int = 0) -> Visited:
        """Connect and load the page: its connections are the caller's then.

        ``assets``: ``all`` of the page's, or ``none``. ``left``: how many of a
        browser's connections over HTTP/1.1 are left to a carrier.

        Raises what :func:`~ptproxy.tunnel.connect.connect_tls` raises. A page
        that does not come is none of these: see :attr:`Visit.usable`.
        """
        visiting = _Visiting(self._loop, self._dial_beside)
        connection = Connection(visiting, self._loop)
        page = self._next_page()
        # Made before it is known that the server takes HTTP/2: browsers write at once after the handshake.
        visit = self._begin(page, H2Client(self._look.browser.http2, self._loop.time()))
        digest = await connect_tls(self._loop, connection, self._route, "visit")
        if not connection.apart:
            browser = self._look.browser
            pool = H1Pool(browser.name, browser.loading.http1_patient, MAX_CONNECTIONS - left)
            visit = self._begin(page, pool)
        visit.load.page_alone = assets == "none"
        visited = Visited(connection, digest, visit)
        try:
            hello = self._drawn("hello") if connection.apart else 0.0
            await visiting.finish(visited, hello, self._drawn("request"), left)
        except BaseException:
            visited.abort()
            raise
        load = visit.load
        log.debug(
            "page visited", requests=load.asked, failed=load.failed, http2=connection.apart,
            connections=len(visited.connections),
        )  # fmt: skip
        if self.on_visited is not None:
            self.on_visited()
        return visited

    def _drawn(self, delay: str) -> float:
        least, most = self._look.browser.loading.delays[delay] or (0.0, 0.0)
        return self._rng.uniform(least, most)

    async def _dial_beside(self, connection: Connection) -> bytes:
        """One more connection of a page; raises as :meth:`visit`."""
        return await connect_tls(self._loop, connection, self._route, "page")

    def _begin(self, page: str, client: H2Client | H1Pool) -> Visit:
        look, host = self._look, self._route.settings().host
        return Visit(client, look.browser, host, page, look.memory, self._rng, self._loop.time(), time.time())

    def _next_page(self) -> str:
        """One of the site's pages; none again before all were read: caches leave little of a second visit."""
        if not self._unread:
            self._unread = list(self._route.line.pages)
            self._rng.shuffle(self._unread)
        return self._unread.pop()

    async def prepare(self, assets: str = "all") -> None:
        """See that the next connection can resume one on which the page was loaded.

        Raises as :meth:`visit`.
        """
        async with self._one:
            if self._last is not None:
                if self._route.tls.resumable or (self._gives and await self._ticket_came()):
                    return
                if not self._gives and self._loop.time() < self._last + VISIT_EVERY:
                    return
            visited = await self.visit(assets)
            self._last = self._loop.time()
            self._gives = self._route.tls.resumable
            self.keep(visited)

    async def _ticket_came(self) -> bool:
        """Wait for one that a connection under way is about to be given: others have used up the page's."""
        until = self._loop.time() + TICKET_PATIENCE
        while not self._route.tls.resumable and self._loop.time() < until:  # noqa: ASYNC110  (the library keeps them)
            await asyncio.sleep(TICKET_LOOK)
        return self._route.tls.resumable

    def keep(self, visited: Visited) -> None:
        """Leave the connections of a page open, in place of those before."""
        self.close()
        self._page = visited

    def close(self) -> None:
        """Close the connections of the last page."""
        page, self._page = self._page, None
        if page is not None:
            page.drop()


class _Visiting:
    """Owns the connections while a page is loaded on them, and as long as nobody else does."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, dial: Callable[[Connection], Awaitable[bytes]]
    ) -> None:
        """``dial`` makes a further connection and returns its certificate's SHA-256."""
        self._loop = loop
        self._dial = dial
        self._dials: set[asyncio.Task[None]] = set()
        self._visited: Visited | None = None
        self._left = 0
        self._timer: asyncio.Handle | None = None
        self._done: asyncio.Future[None] = loop.create_future()

    async def finish(self, visited: Visited, hello: float, gap: float, left: int = 0) -> None:
        """Drive a visit to its end; ``hello``: seconds to its first write, ``gap``: then to its request."""
        self._visited, self._left = visited, left
        visit, connection = visited.visit, visited.connection
        connection.link = visit
        visit.hold()
        await _pause(hello)
        connection.flush()
        await _pause(gap)
        visit.release()
        connection.flush()
        try:
            self._go_on()
            async with asyncio.timeout(VISIT_PATIENCE):
                await self._done
        except TimeoutError:
            log.debug("the page takes long")
            visit.give_up()
            self._flush(visited)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            await self._end_dials()

    async def _end_dials(self) -> None:
        """A browser lets connections come that it no longer needs; none is left to itself."""
        try:
            if self._dials:
                await asyncio.wait(self._dials, timeout=DIAL_PATIENCE)
        finally:
            for task in self._dials:
                task.cancel()
            for result in await asyncio.gather(*self._dials, return_exceptions=True):
                if isinstance(result, Exception):
                    raise result

    def _go_on(self) -> None:
        """See what the visit wants now."""
        visited = self._visited
        if visited is None or self._done.done():  # (cancelled: nobody waits any more)
            return
        visit = visited.visit
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flush(visited)
        if visit.done or (visit.http2 is not None and visited.connection.ended):
            self._done.set_result(None)
            return
        wanted = visit.take_wanted()
        if wanted and self._left and visited.fresh is None:
            self._left = 0
            self._start(self._open_fresh(visited))
        for _ in range(wanted):
            self._start(self._open_beside(visited))
        deadline = visit.deadline()
        if deadline is None:
            return
        if deadline <= self._loop.time():  # a timer would wait for the next millisecond
            self._timer = self._loop.call_soon(self._due)
        else:
            self._timer = self._loop.call_at(deadline, self._due)

    @staticmethod
    def _flush(visited: Visited) -> None:
        """What came on one connection may be a reason to write on any."""
        for connection in (visited.connection, *visited.others):
            if not connection.ended:
                connection.flush()

    def _start(self, dialling: Coroutine[None, None, None]) -> None:
        self._dials.add(self._loop.create_task(dialling))

    async def _open_beside(self, visited: Visited) -> None:
        """One more connection for the page."""
        connection = Connection(self, self._loop)
        visited.others.append(connection)
        try:
            await self._dial(connection)
        except (DialError, AuthenticationError) as error:
            log.debug("a further connection of the page failed", error=str(error))
            visited.visit.dial_failed(self._loop.time())
        except BaseException:
            connection.abort()
            raise
        else:
            link = visited.visit.open_beside()
            if connection.ended or connection.apart:  # closed at once; or HTTP/2, of all things
                link.receive_eof(self._loop.time())
                connection.drop()
            else:
                connection.link = link
        self._go_on()

    async def _open_fresh(self, visited: Visited) -> None:
        """The connection that is left to a carrier."""
        connection = Connection(self, self._loop)
        try:
            digest = await self._dial(connection)
        except (DialError, AuthenticationError) as error:
            log.debug("a connection beside the page failed", error=str(error))
            return
        except BaseException:
            connection.abort()
            raise
        if connection.apart:
            connection.drop()
            return
        visited.fresh = connection, digest

    def _due(self) -> None:
        self._timer = None
        if self._visited is not None:
            self._visited.visit.on_deadline(self._loop.time())
            self._go_on()

    def happened(self, connection: Connection, happened: Sequence[Event]) -> None:
        """Something came on one of them."""
        del connection, happened
        self._go_on()

    def connection_failed(self, connection: Connection, error: CodecError) -> None:
        """The server makes us answer and reads nothing."""
        del error
        connection.drop()

    def connection_ended(self, connection: Connection) -> None:
        """Closed, by whomever."""
        del connection
        self._go_on()


async def _pause(seconds: float) -> None:
    """As exactly as the loop can: see :data:`COARSE`."""
    until = time.perf_counter() + seconds
    if seconds > COARSE:
        await asyncio.sleep(seconds - COARSE)
    while time.perf_counter() < until:  # noqa: ASYNC110  (see COARSE)
        await asyncio.sleep(0)
