"""The site's page, visited before anything else: as a browser's user comes to it, on a browser's connection.

Over HTTP/2 the ``http`` codec goes on on the very connection of the visit.
Otherwise (a bridge that terminates TLS itself hands a connection on which a
page was asked for to its site, for good) carriers connect anew and resume its
ticket, while the connection of the page stays open, idle, for as long as its
server likes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.interface import Appearance, Event
from ptproxy.codec.page.h1_client import H1Client
from ptproxy.codec.page.visit import Visit
from ptproxy.errors import CodecError
from ptproxy.log import get_logger
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.connect import Route, connect_tls

VISIT_EVERY: Final = 60.0
"""Seconds between visits for the sake of a ticket, at least: some servers give none."""
VISIT_PATIENCE: Final = 8.0
"""Seconds after which a page that is still loading is left as it is: people do not wait for all of it."""

REQUEST_GAP: Final = (0.00004, 0.00012)
"""Seconds from a browser's first write to its request (cover: 29 to 69 us, p5 and p75): within it the
server answers the first alone. Timers are too coarse for it, so the loop turns until it is over."""

log = get_logger(__name__)


class Visitor:
    """Visits one bridge's site, and keeps what a browser would keep open of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, route: Route, look: Appearance, rng: Random) -> None:
        self._loop = loop
        self._route = route
        self._look = look
        self._rng = rng
        self._one = asyncio.Lock()
        self._last: float | None = None
        self._page: Connection | None = None
        self._unread: list[str] = []
        self.on_visited: Callable[[], None] | None = None
        """Told when the memory of the site has changed."""

    async def visit(self, assets: str = "all") -> tuple[Connection, bytes, Visit]:
        """Connect and load the page: the connection (the caller's now), its certificate's SHA-256, the visit.

        ``assets``: ``all`` of the page's, or ``none``.

        Raises what :func:`~ptproxy.tunnel.connect.connect_tls` raises. A page
        that does not come is none of these: see :attr:`Visit.usable`.
        """
        visiting = _Visiting(self._loop)
        connection = Connection(visiting, self._loop)
        page = self._next_page()
        # Made before it is known that the server takes HTTP/2: browsers write at once after the handshake.
        visit = self._begin(page, H2Client(self._look.browser.http2, self._loop.time()))
        digest = await connect_tls(self._loop, connection, self._route, "visit")
        if not connection.apart:
            visit = self._begin(page, H1Client(self._look.browser.name))
        visit.load.page_alone = assets == "none"
        try:
            await visiting.finish(connection, visit, self._rng.uniform(*REQUEST_GAP))
        except BaseException:
            connection.abort()
            raise
        load = visit.load
        log.debug("page visited", requests=load.asked, failed=load.failed, http2=connection.apart)
        if self.on_visited is not None:
            self.on_visited()
        return connection, digest, visit

    def _begin(self, page: str, client: H2Client | H1Client) -> Visit:
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
            last = self._last
            now = self._loop.time()
            if last is not None and (self._route.tls.resumable or now < last + VISIT_EVERY):
                return
            connection, _, _ = await self.visit(assets)
            self._last = self._loop.time()
            self.keep(connection)

    def keep(self, connection: Connection) -> None:
        """Leave the connection of a page open, in place of the one before."""
        self.close()
        self._page = connection

    def close(self) -> None:
        """Close the connection of the last page."""
        page, self._page = self._page, None
        if page is not None:
            page.drop()


class _Visiting:
    """Owns a connection while a page is loaded on it, and as long as nobody else does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._visit: Visit | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._done: asyncio.Future[None] = loop.create_future()

    async def finish(self, connection: Connection, visit: Visit, gap: float) -> None:
        """Drive a visit to its end; ``gap`` is as :data:`REQUEST_GAP`."""
        self._visit = visit
        connection.link = visit
        if connection.apart:  # a flush would go on until nothing is left: the first alone
            for first in visit.data_to_send():
                connection.transport.write(first)
        else:
            connection.flush()
        until = time.perf_counter() + gap
        while time.perf_counter() < until:  # noqa: ASYNC110  (see REQUEST_GAP)
            await asyncio.sleep(0)
        connection.flush()
        self._go_on(connection)
        try:
            async with asyncio.timeout(VISIT_PATIENCE):
                await self._done
        except TimeoutError:
            log.debug("the page takes long")
            visit.give_up()
            connection.flush()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _go_on(self, connection: Connection) -> None:
        """See what the visit wants now."""
        visit = self._visit
        if visit is None or self._done.done():  # (cancelled: nobody waits any more)
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if visit.done or connection.ended:
            self._done.set_result(None)
            return
        deadline = visit.deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._due, connection)

    def _due(self, connection: Connection) -> None:
        self._timer = None
        if self._visit is not None:
            self._visit.on_deadline(self._loop.time())
            connection.flush()
            self._go_on(connection)

    def happened(self, connection: Connection, happened: Sequence[Event]) -> None:
        """Something came; the connection is flushed by itself."""
        del happened
        self._go_on(connection)

    def connection_failed(self, connection: Connection, error: CodecError) -> None:
        """The server makes us answer and reads nothing."""
        del error
        connection.drop()

    def connection_ended(self, connection: Connection) -> None:
        """Closed, by whomever."""
        self._go_on(connection)
