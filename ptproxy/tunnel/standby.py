"""A connection to the bridge that is open before it is needed: a stream whose carrier is cut goes on there.

A carrier on a new connection costs TCP, TLS and the opening, a round trip each. What waits here has
the first two behind it, and nothing of ours was said on it. It is kept only while streams are active, for a
second connection beside an idle one is no help to anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from ptproxy.codec.interface import Greeting
from ptproxy.errors import PtproxyError
from ptproxy.log import get_logger
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.waiting import Ahead

ACTIVE: Final = 30.0
"""Seconds after the last byte during which a connection is kept ready."""
LAPSE_FIRST: Final = 10.0
LAPSE_LAST: Final = 300.0
"""Seconds without another one after one that failed, or was closed unused: doubled from the first to the
last, each drawn up to half as long again. Servers close what is silent after a minute, some after five
seconds."""

log = get_logger(__name__)


@dataclass(slots=True)
class Ready:
    """A connection after its TLS handshake, on which nothing was said; see :class:`Ahead`."""

    connection: Connection
    digest: bytes
    """SHA-256 of the certificate shown on it."""
    round_trip: float
    """Seconds of a round trip: half of what TCP and TLS took, which is no less."""
    beside: Connection | None = None
    """Another one, for a codec that begins with two over HTTP/1.1: one up, one down."""

    @property
    def usable(self) -> bool:
        """Whether a carrier can begin there."""
        return not self.connection.ended

    def drop(self) -> None:
        """Close it."""
        for connection in self._connections():
            connection.drop()

    def abort(self) -> None:
        """Break it."""
        for connection in self._connections():
            connection.abort()

    def _connections(self) -> tuple[Connection, ...]:
        return (self.connection,) if self.beside is None else (self.connection, self.beside)


class Standby:
    """The one that a dialer keeps ready, for carriers that greet alike."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, connect: Callable[[Greeting], Awaitable[Ahead]], rng: Random
    ) -> None:
        """``connect`` opens one that greets so; it may raise what a dial raises."""
        self._loop = loop
        self._connect = connect
        self._ready: Ahead | None = None
        self._greeting: Greeting = "websocket"
        self._task: asyncio.Task[None] | None = None
        self._unwanted = False
        """What is on its way is for nobody."""
        self._dropped: Ahead | None = None
        """The last one that was closed: it may not have ended."""
        self._moved = -1
        self._active_at = float("-inf")
        self._not_before = float("-inf")
        self._lapse = LAPSE_FIRST
        self._rng = rng

    def keep(self, greeting: Greeting, moved: int, now: float) -> None:
        """Have one ready while ``moved``, the bytes of all streams so far, changes; to be called every few
        seconds, and when a carrier was opened."""
        if moved != self._moved:
            self._moved, self._active_at = moved, now
        if greeting != self._greeting:  # carriers begin otherwise by now
            self.drop()
        self.look(now)
        is_active = now - self._active_at <= ACTIVE
        if is_active and self._ready is None and self._task is None and now >= self._not_before:
            self._greeting = greeting
            self._task = self._loop.create_task(self._open(greeting))

    def look(self, now: float) -> None:
        """Close what has ended, and what nobody has needed for long; opens nothing."""
        if self._ready is not None and not self._ready.usable:
            self.drop()
            self._lapsed(now)
        if now - self._active_at > ACTIVE:
            self.drop()

    def take(self, greeting: Greeting) -> Ahead | None:
        """The one that is ready, the caller's from now on."""
        ready = self._ready
        if ready is None or greeting != self._greeting or not ready.usable:
            return None
        self._ready = None
        self._lapse = LAPSE_FIRST
        return ready

    def drop(self) -> None:
        """Close what is ready or on its way: nobody needs it, or its network is not to be trusted."""
        ready, self._ready = self._ready, None
        self._unwanted = self._task is not None
        if ready is not None:
            self._close(ready)

    def _close(self, ready: Ahead) -> None:
        ready.drop()
        self._dropped = ready

    async def stop(self) -> None:
        """Break what is ready or on its way."""
        task = self._task
        for ready in (self._ready, self._dropped):
            if ready is not None:
                ready.abort()
        self._ready = self._dropped = None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _open(self, greeting: Greeting) -> None:
        try:
            ready = await self._connect(greeting)
            if self._unwanted:
                self._close(ready)
            else:
                self._ready = ready
        except (PtproxyError, OSError) as error:
            log.debug("no connection was made ready", error=str(error))
            self._lapsed(self._loop.time())
        finally:
            self._task = None
            self._unwanted = False

    def _lapsed(self, now: float) -> None:
        self._not_before = now + self._lapse * self._rng.uniform(1.0, 1.5)
        self._lapse = min(2 * self._lapse, LAPSE_LAST)
