"""A client with several bridges: they race at the start, and one that is lost or bad is left.

Streams belong to one bridge's session and end with it; only streams that are opened afterwards go
over another one. So nothing that was sent is ever sent twice.

Which bridge a new stream takes is a matter of ``find.choice`` (:mod:`~ptproxy.proxy.bridge_order`);
:mod:`~ptproxy.proxy.bridge_reach` dials them.

A bridge that was not reached rests (:class:`~ptproxy.ways.Ways`), and comes back into use when its pause is
over **and** somebody opens a stream: it is then dialled for that stream, beside the one in use, which
carries the stream meanwhile. Without new streams nothing is dialled: there is no probing.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Final

from ptproxy.config.link import Link
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import ConfigError, DialError, PtproxyError, Reason
from ptproxy.log import get_logger
from ptproxy.proxy.bridge_order import UNKNOWN, BridgeOrder, Choice, whole
from ptproxy.proxy.bridge_reach import Reaching
from ptproxy.proxy.one_bridge import BridgeSource, OneBridge
from ptproxy.target import Target
from ptproxy.tunnel.approach import WayState
from ptproxy.tunnel.dial import CARRIER_WAIT
from ptproxy.tunnel.rest import BACKOFF_FIRST, BACKOFF_LAST, Rest
from ptproxy.tunnel.stream import Association, DatagramReceiver, Dialer, Stream
from ptproxy.ways import Degree, Way, Ways

PATIENCE: Final = 3.0
"""Seconds that a bridge without a connection gets to have one again before the next bridge is tried."""
PAUSE: Final = 5.0
"""Seconds without another try after no bridge was reached: programs dial more often than that."""
MAX_IN_USE: Final = 4
"""Bridges with a tunnel at once: each is a session with its carriers."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BridgeState:
    """One bridge as its owner is told of it."""

    name: str
    """HOST:PORT."""
    is_in_use: bool
    """Whether it has a carrier."""
    degree: Degree
    """What it met with last, here."""
    rests: float
    """Seconds for which other bridges come first."""
    ways: list[WayState]
    """The ways to one that is in use, best first."""


class BridgeChoice:
    """A :class:`~ptproxy.tunnel.stream.Dialer` over whichever bridges work."""

    def __init__(
        self,
        make: Callable[[Link], OneBridge],
        source: BridgeSource,
        ways: Ways | None = None,
        choice: Choice = "ordered",
        rng: Random | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        """``make`` raises StartError for a line that this client cannot use."""
        self._source = source
        self._ways = ways or Ways(bytes(32))
        self._rng = rng or SystemRandom()
        self._order = BridgeOrder(self._ways, choice, self._rng, weights)
        self._reaching = Reaching(make, self._ways, self._order, self._is_reached)
        self._tunnels: dict[Way, OneBridge] = {}  # those in use
        self._search: asyncio.Task[OneBridge] | None = None
        self._returning: dict[Way, asyncio.Task[None]] = {}
        self._came = asyncio.Event()
        self._rest = Rest(asyncio.get_running_loop())
        self._rest.is_needed = lambda: False
        self._rest.is_held = lambda: self._rest.is_awaited and self._ways.portal.is_young(time.time())
        self._not_before = float("-inf")
        self._stopping = False

    @property
    def line(self) -> Link | None:
        """Of the bridge that was tried last; None before the first."""
        return self._reaching.line

    # ---- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Reach the bridge that can be reached first; raises what went wrong with the last one."""
        await self._reach(self._source.lines)

    def keep(self) -> None:
        """Go on trying, where none was reached."""
        self._search = asyncio.get_running_loop().create_task(self._find_first())
        self._search.add_done_callback(self._searched)

    async def _find_first(self) -> OneBridge:
        """Try them all, with growing pauses; the last one lasts until somebody dials."""
        pause = BACKOFF_FIRST
        while True:
            try:
                return await self._reach(self._source.lines)
            except (PtproxyError, OSError) as error:
                log.warning("no bridge is reached", why=str(error), again_in=round(pause, 1))
            await self._rest.take(pause * self._rng.uniform(0.5, 1.0))
            pause = min(2 * pause, BACKOFF_LAST)

    async def stop(self) -> None:
        """Close every tunnel."""
        self._stopping = True
        self._came.set()
        waiting = [task for task in (self._search, *self._returning.values()) if task is not None]
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
        tunnels, self._tunnels = list(self._tunnels.values()), {}
        await asyncio.gather(*(one.stop() for one in tunnels), return_exceptions=True)
        await self._reaching.stop()

    def through(self) -> dict[str, Dialer]:
        """The bridges in use by their names."""
        return {one.name: self if len(self._tunnels) == 1 else one.dialer for one in self._tunnels.values()}

    def state(self) -> list[BridgeState]:
        """What is known of every bridge just now, in the client's order: for a status that people read."""
        now = time.time()
        states = []
        for line in self._source.lines:
            way = whole(line)
            one = self._tunnels.get(way)
            states.append(
                BridgeState(
                    str(Endpoint(line.host, line.port)),
                    one is not None and bool(one.dialer.tunnel.carriers),
                    Degree.OPEN if one is not None else self._ways.degree(way, now),
                    max(self._ways.rests_until(way, now) - now, 0.0),
                    [] if one is None else one.dialer.approaches.state(),
                )
            )
        return states

    def prefer(self, name: str) -> None:
        """Have new streams take the bridge ``HOST:PORT`` as soon as, and while, it works.

        It is dialled at once, even if it rests. Raises :class:`~ptproxy.errors.ConfigError` for one that is
        not known.
        """
        lines = [line for line in self._source.lines if str(Endpoint(line.host, line.port)) == name]
        if not lines:
            raise ConfigError(["no bridge of that name is known"])
        way = self._order.preferred = whole(lines[0])
        if self._tunnels and way not in self._tunnels:
            self._bring(lines[0])

    def is_taken(self, name: str) -> bool:
        """Whether a new stream would take this bridge."""
        if not self._tunnels or (self._order.choice == "weighted" and self._order.preferred is None):
            return False
        return self._chosen().name == name

    @property
    def in_use(self) -> tuple[OneBridge, ...]:
        """Those with a tunnel."""
        return tuple(self._tunnels.values())

    def network_changed(self, lost: frozenset[str]) -> None:
        """This machine is in another network; see :meth:`TunnelDialer.network_changed`."""
        self._not_before = float("-inf")
        self._rest.end()
        for one in (*self._tunnels.values(), *self._reaching.starting):
            one.dialer.network_changed(lost)

    def network_grew(self) -> None:
        """See :meth:`TunnelDialer.network_grew`."""
        self._not_before = float("-inf")
        self._rest.end()
        for one in (*self._tunnels.values(), *self._reaching.starting):
            one.dialer.network_grew()

    # ---- streams ---------------------------------------------------------------------------------

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """See :class:`~ptproxy.tunnel.stream.Dialer`."""
        return await (await self._ready()).dialer.dial(target, protocol, first_data)

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """See :class:`~ptproxy.tunnel.stream.Dialer`."""
        return await (await self._ready()).dialer.associate(receiver)

    async def _ready(self) -> OneBridge:
        """A bridge that has a carrier, or the only one there is."""
        if not self._tunnels:
            await self._first()
        current = self._chosen()
        self._tidy(current)
        self._bring_back(current)
        if current.dialer.tunnel.carriers or not self._others(current):
            return current
        try:
            async with asyncio.timeout(PATIENCE):
                await current.dialer.ready()
            return current
        except (TimeoutError, DialError):
            return await self._replace(current)

    async def _first(self) -> None:
        """Wait until one was reached; DialError where that takes too long."""
        try:
            with self._rest.waited_for():
                async with asyncio.timeout(CARRIER_WAIT):
                    while not (self._tunnels or self._stopping):
                        self._came.clear()
                        await self._came.wait()
        except TimeoutError:
            raise DialError(Reason.TUNNEL_DOWN, "no bridge is reached") from None
        if self._stopping:
            raise DialError(Reason.SHUTDOWN)

    def _chosen(self) -> OneBridge:
        """Whom a new stream takes, of those in use."""
        working = [one for one in self._tunnels.values() if one.dialer.tunnel.carriers]
        good = [one for one in working if not self._is_bad(one)]
        among = good or working or list(self._tunnels.values())
        return self._tunnels[whole(self._order.taken([one.line for one in among], self._source.lines))]

    # ---- bridges that come back --------------------------------------------------------------------

    def _bring_back(self, current: OneBridge) -> None:
        """Somebody opens a stream: the bridge that it would rather take is dialled beside, if it may be."""
        if self._stopping or not current.dialer.tunnel.carriers or self._returning:
            return
        now, lines, preferred = time.time(), list(self._source.lines), self._order.preferred
        if self._order.choice == "weighted":  # in the source's order only the first few would ever be taken
            full = len(self._tunnels) >= MAX_IN_USE
            lines = (
                [line for line in lines if whole(line) == preferred] if full else self._order.ordered(lines)
            )
        for line in sorted(lines, key=lambda line: whole(line) != preferred):
            way = whole(line)
            if (
                self._order.choice == "ordered"
                and self._tunnels.get(way) is current
                and not self._is_bad(current)
            ):
                return  # what comes after it is not wanted
            if way in self._tunnels or self._ways.rests_until(way, now) or not self._order.weight(line):
                continue
            took = self._order.took(line, now)
            if self._order.choice == "measured" and UNKNOWN > took >= self._order.took(current.line, now):
                continue
            self._bring(line)
            return

    def _bring(self, line: Link) -> None:
        """Dial a bridge beside those in use."""
        way = whole(line)
        if way in self._returning or self._stopping:
            return
        if way == self._order.preferred:
            self._make_room()
        if self._is_full():
            return
        task = asyncio.get_running_loop().create_task(self._return(line))
        self._returning[way] = task
        task.add_done_callback(functools.partial(self._returned, way))

    def _is_full(self) -> bool:
        """Whether as many as may be are in use, or on the way there."""
        return len(self._tunnels.keys() | self._returning.keys()) >= MAX_IN_USE

    def _make_room(self) -> None:
        """Whom a person has chosen may have the place of one without streams; none is ended for it."""
        if not self._is_full():
            return
        idle = [way for way, one in self._tunnels.items() if not one.dialer.streams]
        if idle and len(self._tunnels) > 1:
            self._end(idle[-1], self._tunnels[idle[-1]])

    def _returned(self, way: Way, task: asyncio.Task[None]) -> None:
        self._returning.pop(way, None)
        if not task.cancelled():
            task.result()  # a bug is no bridge's fault

    async def _return(self, line: Link) -> None:
        one = await self._reaching.beside(line)
        if one is not None:
            log.info("a bridge is in use beside the others", bridge=one.name)
            self._use(one)

    def _is_reached(self) -> bool:
        """Whether any bridge is: then no login page stands before them all."""
        return any(one.dialer.tunnel.carriers for one in self._tunnels.values())

    def _is_bad(self, one: OneBridge) -> bool:
        """Whether every way to a bridge in use was found cut or throttled lately."""
        return one.dialer.approaches.rests()

    def _tidy(self, current: OneBridge) -> None:
        """Where one bridge is enough, those beside it that carry nothing any more are closed."""
        if self._order.choice == "weighted":
            return
        for way, one in list(self._tunnels.items()):
            if one is not current and not one.dialer.streams:
                self._end(way, one)

    # ---- bridges that are lost ---------------------------------------------------------------------

    async def _replace(self, lost: OneBridge) -> OneBridge:
        """Another bridge in place of one that was lost: one search for all who wait, and those who come.

        It goes on when they give up, as programs do after some seconds: bridges that swallow packets
        take longer than that, and would keep everybody from the one behind them.
        """
        search = self._search
        if search is None:
            if self._stopping:
                raise DialError(Reason.SHUTDOWN)
            loop = asyncio.get_running_loop()
            for one in self._tunnels.values():
                if one.dialer.tunnel.carriers:
                    self._retire(lost)
                    return one
            if self._tunnels.get(whole(lost.line)) is not lost:
                return self._chosen()
            if loop.time() < self._not_before:
                raise DialError(Reason.TUNNEL_DOWN, "no bridge is reached")
            search = self._search = loop.create_task(self._find_next(lost))
            search.add_done_callback(self._searched)
        await asyncio.wait({search})
        if search.cancelled():
            raise DialError(Reason.SHUTDOWN)
        return search.result()

    async def _find_next(self, lost: OneBridge) -> OneBridge:
        loop = asyncio.get_running_loop()
        log.warning("the bridge is lost; the others are tried", bridges=len(self._source.lines))
        try:
            found = await self._reach(self._others(lost))
        except PtproxyError as error:
            self._not_before = loop.time() + PAUSE
            raise DialError(Reason.TUNNEL_DOWN, f"no bridge is reached: {error}") from None
        self._retire(lost)
        self._source.hurry()
        return found

    def _retire(self, lost: OneBridge) -> None:
        """A bridge without carriers is in use no more; it rests, or new streams would have it dialled."""
        way = whole(lost.line)
        if self._tunnels.get(way) is lost and len(self._tunnels) > 1:
            self._ways.failed(way, Degree.FAILED, time.time())
            self._end(way, lost)

    def _end(self, way: Way, one: OneBridge) -> None:
        """A tunnel is in use no more."""
        del self._tunnels[way]
        self._reaching.unwanted(one)

    def _searched(self, search: asyncio.Task[OneBridge]) -> None:
        self._search = None
        if not search.cancelled():
            search.exception()  # told to who waits, if anybody does

    def _others(self, current: OneBridge) -> tuple[Link, ...]:
        here = whole(current.line)
        return tuple(line for line in self._source.lines if whole(line) != here)

    async def _reach(self, lines: Sequence[Link]) -> OneBridge:
        """The first of several bridges that is reached; it is in use from now on."""
        one = self._use(await self._reaching.first(lines))
        self._came.set()
        log.info("connected", bridge=one.name)
        return one

    def _use(self, one: OneBridge) -> OneBridge:
        """A bridge was reached. It may be twice at once, beside others and in a search: one tunnel goes."""
        way = whole(one.line)
        there = self._tunnels.get(way)
        if there is not None and there.dialer.tunnel.carriers:
            self._reaching.unwanted(one)
            return there
        if there is not None:
            self._end(way, there)
        self._tunnels[way] = one
        return one
