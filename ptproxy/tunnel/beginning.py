"""What a carrier begins on: a connection with a page on it, one beside a page, or one where nothing was said.

The page comes first, unless a shape says that none does: on the carrier's own connection where the codec goes
on with HTTP/2, otherwise on ones whose ticket it resumes, or beside which it was opened.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.interface import CodecSettings, Event, Greeting
from ptproxy.codec.shape import ClassShape
from ptproxy.codec.shape_parts import Opening
from ptproxy.errors import CodecError, PtproxyError
from ptproxy.tunnel.approach import Approach
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.client_carrier import greeting_of
from ptproxy.tunnel.connect import Route, connect_tls
from ptproxy.tunnel.standby import Ready
from ptproxy.tunnel.visit import CARRIER_CONNECTIONS, Visited
from ptproxy.tunnel.waiting import Ahead

if TYPE_CHECKING:
    from ptproxy.tunnel.chromium import BrowserVisit

UNSHAPED: Final = ClassShape("browse", (), Opening("real", "all"))
"""What comes first where no shape says it."""


class Beginning:
    """Makes the first connections of one session's carriers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, learn_clock: Callable[[str], None]) -> None:
        """``learn_clock`` is told the site's Date, where a browser was shown it."""
        self._loop = loop
        self._learn_clock = learn_clock
        self.download = "auto"
        """How answers come through the front, once that was found out; see the ``http`` codec."""

    def goes_on(self, approach: Approach, codec: str, shape: ClassShape) -> bool:
        """Whether carriers like this begin on the connection of a page, where the site's HTTP allows it."""
        if approach.route.browser is not None:
            return True
        first = shape.open
        visits = approach.visitor is not None and first.page == "real"
        return visits and greeting_of(codec) == "page" and first.then == "same_connection"

    async def visit_ahead(self, approach: Approach, shape: ClassShape) -> Ahead:
        """Load the page on a connection of its own, for a carrier to come; raises as a dial does."""
        if approach.route.browser is not None:
            return await approach.route.browser.visit()
        assert approach.visitor is not None
        return await approach.visitor.visit(shape.open.assets, CARRIER_CONNECTIONS)

    async def ready_ahead(self, approach: Approach, greeting: Greeting) -> Ahead:
        """What a carrier without a shape may begin on: a page's connections where the site is visited first,
        else one after its TLS handshake; raises as a dial does."""
        if approach.route.browser is not None or approach.visitor is not None:
            return await self.visit_ahead(approach, UNSHAPED)
        ready = await self._ready(approach.route, greeting)
        if greeting == "page" and not ready.connection.apart:
            try:
                ready.beside = (await self._ready(approach.route, greeting)).connection
            except (PtproxyError, OSError):
                pass  # it is dialled when it is needed
            except BaseException:
                ready.abort()
                raise
        return ready

    async def first_connection(
        self, approach: Approach, codec: str, shape: ClassShape | None, visited: Ahead | None
    ) -> tuple[Connection, bytes, CodecSettings]:
        """A carrier's first connection, its certificate's SHA-256, and what the codec is to know of both."""
        route, visitor = approach.route, approach.visitor
        settings = route.settings()
        if settings.appearance is not None:
            settings.appearance.memory.cookies.at(time.time())
        if self.download != "auto":
            settings = replace(settings, options={"download": self.download})
        if route.browser is not None:
            connection = Connection(_Nobody(), self._loop)
            shown = await route.browser.connect(connection, cast("BrowserVisit | None", visited))
            self._learn_clock(shown.date)
            return connection, shown.digest, settings
        if isinstance(visited, Ready):
            return visited.connection, visited.digest, self._spoken(settings, visited.connection)
        shape = shape or UNSHAPED
        if visited is None and self.goes_on(approach, codec, shape):
            visited = await self.visit_ahead(approach, shape)
        if isinstance(visited, Visited) and visitor is not None:
            if visited.usable and visited.visit.http2 is not None:
                return visited.connection, visited.digest, _going_on(settings, visited.visit.http2)
            visitor.keep(visited)
            fresh = visited.take_fresh() if greeting_of(codec) == "page" else None
            if fresh is not None:
                return *fresh, settings
        elif visitor is not None and shape.open.page == "real":
            await visitor.prepare(shape.open.assets)
        ready = await self._ready(route, greeting_of(codec))
        return ready.connection, ready.digest, self._spoken(settings, ready.connection)

    async def _ready(self, route: Route, greeting: Greeting) -> Ready:
        connection = Connection(_Nobody(), self._loop)
        began = self._loop.time()
        digest = await connect_tls(self._loop, connection, route, greeting)
        return Ready(connection, digest, (self._loop.time() - began) / 2)

    def _spoken(self, settings: CodecSettings, connection: Connection) -> CodecSettings:
        """What a codec is to know of a connection on which nothing was said."""
        look = settings.appearance
        if look is None or not connection.apart:
            return settings
        return _going_on(settings, H2Client(look.browser.http2, self._loop.time()))


def _going_on(settings: CodecSettings, http2: H2Client) -> CodecSettings:
    """Settings for a carrier whose first connection has had this conversation."""
    assert settings.appearance is not None
    return replace(settings, appearance=replace(settings.appearance, http2=http2))


class _Nobody:
    """Owns a connection until its carrier exists."""

    def happened(self, connection: Connection, happened: Sequence[Event]) -> None:
        """Nothing can happen without a link."""

    def connection_failed(self, connection: Connection, error: CodecError) -> None:
        """Nothing can fail without a link."""

    def connection_ended(self, connection: Connection) -> None:
        """The dialler finds out by itself."""
