"""A bridge's fronts as a client comes to them: which way is tried when, and what became of the carriers.

Each front is a route of its own (address, server name, pin, codecs) with a visitor
of its own, as a browser has connections, tickets and a cache for each site. Ways
race (:class:`~ptproxy.ways.race.Race`); the front of the last carrier that opened is the one
where pages are loaded ahead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from ptproxy.codec.shape import ClassShape
from ptproxy.errors import AuthenticationError, PtproxyError
from ptproxy.log import get_logger
from ptproxy.tunnel.client_carrier import ClientCarrier
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.racing import Racing, closed
from ptproxy.tunnel.underway import Underway
from ptproxy.tunnel.visit import Visitor
from ptproxy.ways import Degree, Flow, Obstructed, Race, Way, Ways, remedy

if TYPE_CHECKING:
    from ptproxy.tunnel.client import ClientTunnel

TELL_EVERY: Final = 60.0
"""Seconds between two lines of log that say of one way that it is cut."""
MOVING: Final = 15.0
"""Seconds from the bridge's word that it goes in which it may not be there, nor its new process."""
REFUSALS: Final = frozenset(
    {Degree.REFUSED, Degree.HELLO_RESET, Degree.PAGE, Degree.OPENING_RESET, Degree.OPENING_SILENT}
)
"""What a bridge says to openings, and to connections, while it is being replaced."""
REASON: Final = "spare"
"""Why a carrier is closed that came after another one had won its race."""

log = get_logger(__name__)


class Approach:
    """One front."""

    def __init__(self, route: Route, visitor: Visitor | None = None) -> None:
        """``visitor``: None where no page is loaded before carriers."""
        self.route = route
        self.visitor = visitor
        self.digest = b""
        """SHA-256 of the certificate that the last connection showed."""
        self.watching: set[Callable[[], None]] = set()
        """Told when TLS stands with this front."""

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop, route: Route, rng: Random) -> Approach:
        """With a visitor where a browser is imitated; whoever watches is told of every connection."""
        approach = cls(route)
        approach.route = route = replace(route, progressed=approach._stands, fronts=())
        if route.appearance is not None:
            approach.visitor = Visitor(loop, route, route.appearance, rng)
        return approach

    def _stands(self) -> None:
        for told in tuple(self.watching):
            told()

    def way(self, codec: str) -> Way:
        """What is remembered of it goes by this."""
        line = self.route.line
        return Way(line.key, line.host, line.port, codec)


@dataclass(frozen=True, slots=True)
class Try:
    """A front and a codec."""

    approach: Approach
    codec: str

    @property
    def way(self) -> Way:
        """What is remembered of it goes by this."""
        return self.approach.way(self.codec)


@dataclass(frozen=True, slots=True)
class WayState:
    """One way as a person is told of it: no address, no secret."""

    front: int
    """1 is the link's own."""
    codec: str
    degree: Degree
    """What it met with last, here."""
    rests: float
    """Seconds for which other ways come first."""
    took: float | None
    """Seconds until TLS stood, smoothed."""
    done: str
    """What is done about it; "": nothing is to be done (any more)."""
    failed_at: float | None
    """When it last met with that, unix seconds; None where it is open."""


@dataclass(slots=True)
class _Life:
    """A carrier since it opened."""

    way: Way
    opened_at: float
    flow: Flow
    sampled: int = 0


class Approaches:
    """The fronts of one bridge, best first, and what is known of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fronts: Sequence[Approach], ways: Ways) -> None:
        self.ways = ways
        self.fronts = tuple(fronts)
        self.progressed: Callable[[], None] | None = None
        """Told when TLS stands with any front."""
        self.on_taken: Callable[[Approach], None] | None = None
        """Told when a carrier came by another front than the one before."""
        self.others_open: Callable[[], bool] = lambda: False
        """Whether another bridge is reached here: then what answers in place of this one is no login page."""
        self._loop = loop
        self._told: dict[Way, float] = {}  # as many as there are ways
        self._lives: WeakKeyDictionary[ClientCarrier, _Life] = WeakKeyDictionary()
        self._losers: set[asyncio.Task[Any]] = set()
        self._left_at = float("-inf")
        self.underway = Underway(loop)
        """Races that are on: they begin anew in another network."""

    async def open(
        self, tunnel: ClientTunnel, codecs: Iterable[str], shape: ClassShape | None = None
    ) -> ClientCarrier:
        """One more carrier by the way that leads there first.

        Raises what the one said that came furthest, as ``ClientTunnel.connect`` does.
        """
        codecs = tuple(codecs)

        async def race() -> tuple[ClientCarrier, Try]:
            found = Race(self._tries(codecs), _front_of, lambda one: self.ways.stagger(one.way, time.time()))
            return await Racing(self._loop, _Opening(self, tunnel, shape), self._losers).run(found)

        async with tunnel.turn():
            carrier, won = await self.underway.run(race)
        return self._take(tunnel, carrier, won)

    def _tries(self, codecs: Iterable[str]) -> list[Try]:
        """Every way, best first: the codecs in their order, each by all fronts; those that rest last."""
        now = time.time()
        tries = [
            Try(front, codec) for codec in codecs for front in self.fronts if codec in front.route.codecs
        ]
        return sorted(tries, key=lambda one: self.ways.rests_until(one.way, now))

    def is_best(self, way: Way) -> bool:
        """Whether no other way would be tried before this one for what it met with."""
        now = time.time()
        rests = self.ways.rests_until(way, now)
        return not rests or all(
            rests <= self.ways.rests_until(front.way(codec), now)
            for front in self.fronts
            for codec in front.route.codecs
        )

    def opened(self, tunnel: ClientTunnel, carrier: ClientCarrier) -> None:
        """A carrier came without a race, on a connection that had waited."""
        way = tunnel.approach.way(carrier.codec_name)
        self._lives[carrier] = _Life(way, self._loop.time(), Flow())

    def _take(self, tunnel: ClientTunnel, carrier: ClientCarrier, won: Try) -> ClientCarrier:
        if tunnel.approach is not won.approach:
            tunnel.approach = won.approach
            if self.on_taken is not None:
                self.on_taken(won.approach)
        self.opened(tunnel, carrier)
        return carrier

    def failed(self, one: Try, error: PtproxyError | OSError) -> bool:
        """A try led nowhere; whether its front is out of reach for every codec."""
        now, degree = time.time(), degree_met(error)
        if degree in REFUSALS and self._loop.time() - self._left_at < MOVING:
            log.info("the bridge does not answer while it is being replaced", degree=str(degree))
            return False
        if all(carrier.ended for carrier in self._lives) and not self.others_open():
            degree = self.ways.portal.judge(one.way, degree, now)
        self.ways.failed(one.way, degree, now)
        log.info(
            "a way to the bridge is blocked", degree=str(degree), codec=one.codec,
            front=self.fronts.index(one.approach) + 1, of=len(self.fronts), done=self._done(degree),
        )  # fmt: skip
        return degree.is_of_front

    def left(self) -> None:
        """The bridge said that it goes: what is refused in the next seconds is no censor's doing."""
        self._left_at = self._loop.time()

    def _done(self, degree: Degree) -> str:
        ways = sum(len(front.route.codecs) for front in self.fronts)
        if degree.is_of_front:
            ways = len(self.fronts)
        return remedy(degree, ways - 1)

    def lost(self, carrier: ClientCarrier) -> None:
        """A carrier ended that we did not end."""
        life = self._lives.pop(carrier, None)
        if life is None:
            return
        size = carrier.sent_bytes + carrier.received_bytes
        seconds = self._loop.time() - life.opened_at
        degree = self.ways.cut(life.way, size, seconds, time.time())
        if degree is not None and self._loop.time() - self._told.get(life.way, float("-inf")) > TELL_EVERY:
            self._told[life.way] = self._loop.time()
            log.warning(
                "carriers of this way are cut again and again", degree=str(degree), codec=life.way.codec,
                bytes=size, seconds=round(seconds, 1), done=self._done(degree),
            )  # fmt: skip

    def look(self, tunnel: ClientTunnel, elapsed: float) -> list[ClientCarrier]:
        """Carriers that have become slow against all they were; to be asked every ``elapsed`` seconds."""
        left = []
        for carrier in tunnel.carriers.values():
            known = tunnel.session.carriers.get(carrier.number)
            life = None
            if isinstance(carrier, ClientCarrier):
                life = self._lives.get(carrier)
            if life is None or known is None:
                continue
            size = carrier.sent_bytes + carrier.received_bytes
            rate, life.sampled = (size - life.sampled) / elapsed, size
            waiting = sum(
                stream.high - stream.acknowledged
                for stream in tunnel.session.streams.values()
                if stream.carrier == carrier.number
            )
            best = self.ways.flowed(life.way, rate)
            if life.flow.look(rate, best, known.rtt, waiting) is None:
                continue
            self.ways.failed(life.way, Degree.THROTTLED, time.time())
            log.warning(
                "a way to the bridge is throttled", rate=round(rate), best=round(best), codec=life.way.codec,
                done=self._done(Degree.THROTTLED),
            )  # fmt: skip
            left.append(cast("ClientCarrier", carrier))
        return left

    def state(self) -> list[WayState]:
        """What is known of every way just now, best first: for a status that people read."""
        now = time.time()
        return [self._state(one, now) for one in self._tries(self.fronts[0].route.codecs)]

    def _state(self, one: Try, now: float) -> WayState:
        degree = self.ways.degree(one.way, now)
        rests = max(self.ways.rests_until(one.way, now) - now, 0.0)
        own, front = self.ways.record(one.way, now), self.ways.record(one.way.front, now)
        telling = front if front.failures and front.used_at >= own.used_at else own
        return WayState(
            self.fronts.index(one.approach) + 1, one.codec, degree, rests, own.took,
            self._done(degree) if rests or degree.is_of_network else "",
            None if degree is Degree.OPEN else telling.failed_at,
        )  # fmt: skip

    def rests(self) -> bool:
        """Whether every way of this bridge failed lately."""
        now = time.time()
        return all(
            self.ways.rests_until(front.way(codec), now)
            for front in self.fronts
            for codec in front.route.codecs
        )

    async def rest_beside(self, used: Approach) -> None:
        """Whatever carries connections to other fronts than this one ends where it carries nothing."""
        for front in self.fronts:
            if front is not used and front.route.browser is not None:
                await front.route.browser.rest()

    async def close(self) -> None:
        """Wait for what lost races, and close what browsers would keep open."""
        await closed(self._losers)
        for front in self.fronts:
            if front.visitor is not None:
                front.visitor.close()


class _Opening:
    """A race for one carrier."""

    def __init__(self, approaches: Approaches, tunnel: ClientTunnel, shape: ClassShape | None) -> None:
        self._approaches = approaches
        self._tunnel = tunnel
        self._shape = shape

    async def attempt(self, candidate: Try, progressed: Callable[[], None]) -> tuple[ClientCarrier, Try]:
        approaches = self._approaches

        stood: list[float] = []

        def stands() -> None:
            stood.append(time.monotonic())
            progressed()
            if approaches.progressed is not None:
                approaches.progressed()

        approach = candidate.approach
        if approach.route.browser is not None:
            # Nobody is told how far a browser has come: it is taken to be on its way.
            progressed()
            if approaches.progressed is not None:
                approaches.progressed()
        approach.watching.add(stands)
        began = time.monotonic()
        try:
            carrier = await self._tunnel.attempt(approach, candidate.codec, self._shape)
        finally:
            approach.watching.discard(stands)
        took = (stood or [time.monotonic()])[0] - began
        approaches.ways.opened(candidate.way, took, time.time())
        return carrier, candidate

    def failed(self, candidate: Try, error: PtproxyError | OSError) -> bool:
        return self._approaches.failed(candidate, error)

    def unwanted(self, result: tuple[ClientCarrier, Try]) -> None:
        result[0].end(REASON)


def degree_met(error: PtproxyError | OSError) -> Degree:
    """What an attempt met with."""
    if isinstance(error, Obstructed):
        return error.degree
    if isinstance(error, AuthenticationError):
        return Degree.CERTIFICATE
    return getattr(error, "degree", Degree.FAILED)


def _front_of(one: Try) -> Approach:
    return one.approach
