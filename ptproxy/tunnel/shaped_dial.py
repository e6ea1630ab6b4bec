"""The dialer that follows a shape: carriers by class of traffic, opened ahead, and left when they are old.

What goes where and when is :class:`~ptproxy.tunnel.placement.Placement`'s, which
class a stream is :mod:`~ptproxy.tunnel.recognise`'s; here it is done. With the
shape None everything is :class:`~ptproxy.tunnel.dial.TunnelDialer`'s.

What waits for streams to come is a connection with its page loaded and nothing
of a carrier on it (:class:`~ptproxy.tunnel.waiting.Ahead`): a censor finds
there what it finds of any visitor. Where no carrier can go on on one, the carrier
itself is opened ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import Any, Final

from ptproxy.codec.shape import CLASSES, Shape
from ptproxy.errors import DialError, PtproxyError, Reason
from ptproxy.log import get_logger
from ptproxy.session import Limits
from ptproxy.target import Target
from ptproxy.tunnel.approach import Approach
from ptproxy.tunnel.client import ClientTunnel, OpeningRefused
from ptproxy.tunnel.client_carrier import ClientCarrier, greeting_of
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.dial import CARRIER_WAIT, DRAIN_CHECK, TunnelDialer
from ptproxy.tunnel.placement import Load, Placement, Riding
from ptproxy.tunnel.recognise import DATAGRAM_TRAFFIC, LOOK, by_beginning, by_target
from ptproxy.tunnel.rest import BACKOFF_FIRST, BACKOFF_LAST, HURRY_LAST
from ptproxy.tunnel.stream import Association, DatagramReceiver, Stream
from ptproxy.tunnel.traffic import TunnelTraffic, settled, traffic_of
from ptproxy.tunnel.waiting import Ahead, WaitingVisits
from ptproxy.ways import Ways

TICK: Final = 0.1
"""Seconds between looks at what the streams are and where they belong, while there are any."""
TICK_A_STREAM: Final = 0.0005
LONGEST_TICK: Final = 1.0
"""... more seldom the more there are, so that looking stays below a hundredth of a processor."""
QUIET_TICK: Final = 5.0
"""... while there are none."""
AHEAD: Final = "ahead"
"""What pauses of visits ahead go by, as those of carriers go by their class."""

log = get_logger(__name__)


class ShapedDialer(TunnelDialer):
    """Opens streams at a bridge, over carriers that look as a shape says."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, route: Route, *, shape: Shape | None = None, carriers: int = 4,
        limits: Limits | None = None, idle: float = 0.0, half_open: float = 300.0, linger: float = 60.0,
        ways: Ways | None = None,
    ) -> None:  # fmt: skip
        """As :class:`~ptproxy.tunnel.dial.TunnelDialer`; with a shape ``carriers`` are those of one class."""
        super().__init__(
            loop, route, carriers=carriers, limits=limits, idle=idle, half_open=half_open, linger=linger,
            ways=ways,
        )  # fmt: skip
        self.shape: Shape | None = None
        self._placement: Placement | None = None
        self._came = asyncio.Event()
        self._pauses: dict[str, float] = {}
        self._not_before = self._hurry = 0.0
        self._mine: dict[int, tuple[ClientCarrier, float]] = {}
        self._waiting = WaitingVisits()
        self._told = 0  # payload of the session's first carrier before anything that shows it to be confirmed
        self._take(shape)

    def set_shape(self, shape: Shape | None) -> None:
        """Follow another shape from now on; carriers that are there live out their time."""
        if shape == self.shape:
            return
        before = self._placement
        self._parting.stop()  # the placement says who rides where
        self._standby.drop()
        self._waiting.drop()  # a new placement is for nobody yet, and without one nobody looks after them
        self._take(shape)
        if before is not None and self._placement is not None:
            for number, place in before.carriers.items():
                self._placement.opened(number, place.traffic)
        elif self._placement is not None:
            for number, carrier in self.tunnel.carriers.items():
                self._placement.opened(number, self._class_of(carrier.codec_name))
        self._came.set()
        self._wanted = max(1, min(len(self.tunnel.carriers), self._most))
        if self._keeper is not None and not self._stopping:
            self._keeper.cancel()
            self._keeper = self._loop.create_task(self._keep())

    async def stop(self, drain: float = 0.0) -> None:
        """As :meth:`TunnelDialer.stop`."""
        await super().stop(drain)
        waiting = self._waiting.drop()
        if waiting:
            await asyncio.sleep(DRAIN_CHECK)
            for visited in waiting:
                visited.abort()

    def _take(self, shape: Shape | None) -> None:
        self.shape = shape
        self._placement = None
        if shape is not None:
            self._placement = Placement(shape, self._route.codecs, self._most, self._rng)

    def _class_of(self, codec: str) -> str:
        """What a carrier that was opened without a class is good for."""
        assert self._placement is not None
        start = self._placement.shape.start
        fitting = [one for one in CLASSES if self._placement.codecs(one)[0] == codec]
        return start if start in fitting or not fitting else fitting[0]

    # ---- streams -----------------------------------------------------------------------------------

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """Open a stream at the bridge, on a carrier of its class."""
        if self._placement is None:
            return await super().dial(target, protocol, first_data)
        traffic = by_target(target, self._placement.shape.start)
        if traffic:
            traffic = by_beginning(first_data[:LOOK]) or traffic
        tunnel, carrier = await self._carrier_for(traffic)
        stream = TunnelTraffic(tunnel, protocol, traffic, self._need.set)
        return await self._open(stream, target, first_data, carrier)

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """Open a UDP association at the bridge."""
        if self._placement is None:
            return await super().associate(receiver)
        tunnel, carrier = await self._carrier_for(DATAGRAM_TRAFFIC)
        return await self._associate(tunnel, receiver, carrier)

    async def _carrier_for(self, traffic: str) -> tuple[ClientTunnel, int | None]:
        """The carrier for a new stream, waited for where there is none; DialError(TUNNEL_DOWN)."""
        try:
            async with asyncio.timeout(CARRIER_WAIT):
                while True:
                    tunnel = await self._ready_tunnel()
                    placement = self._placement
                    if placement is None:
                        return tunnel, self._place(tunnel)
                    self._note_ends(placement, tunnel, tunnel.now())
                    number = placement.place(traffic, tunnel.now())
                    self._need.set()
                    if number is not None and number in tunnel.carriers:
                        return tunnel, number
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise DialError(Reason.TUNNEL_DOWN, self.last_error or "no carrier for this traffic") from None

    # ---- carriers ------------------------------------------------------------------------------------

    async def _connect(self) -> ClientCarrier:
        """The first carrier."""
        placement = self._placement
        if placement is None:
            return await super()._connect()
        return await self._connect_as(placement, placement.shape.start)

    async def _connect_as(
        self, placement: Placement, traffic: str, visited: Ahead | None = None
    ) -> ClientCarrier:
        """One more carrier for a class: on a page that has waited, or by the way that leads there first."""
        tunnel = self.tunnel
        codecs = placement.codecs(traffic)
        visited = visited or self._take_visited(placement, traffic, codecs[0])
        carrier = None
        if visited is not None:
            carrier = await self._connect_on(placement, traffic, codecs[0], visited)
        if carrier is None:
            placement.connecting(tunnel.now())
            carrier = await self.approaches.open(tunnel, codecs, placement.shape[traffic])
        if tunnel is self.tunnel and carrier.number in tunnel.carriers:
            self._mine[carrier.number] = carrier, tunnel.now()
            if self._told >= 0:
                self._told = carrier.received_bytes
            placement.opened(carrier.number, traffic, tunnel.now())
            self._came.set()
        return carrier

    async def _connect_on(
        self, placement: Placement, traffic: str, codec: str, visited: Ahead
    ) -> ClientCarrier | None:
        """A carrier on what has waited; None where that had died meanwhile, or the codec is not taken."""
        tunnel = self.tunnel
        waited = visited.usable
        try:
            return await tunnel.connect(codec, placement.shape[traffic], visited)
        except DialError:
            if not waited:
                raise
        except OpeningRefused:
            pass
        self._waiting.drop()  # they have waited over the same network
        return None

    def _taken(self, approach: Approach) -> None:
        """Pages that wait at another front are for nobody."""
        super()._taken(approach)
        self._waiting.drop()

    def network_changed(self, lost: Collection[str]) -> None:
        """Pages that were loaded from addresses that are gone are no use."""
        if lost:
            self._waiting.drop()
        super().network_changed(lost)

    def _leave(self, carrier: ClientCarrier) -> None:
        """A carrier is to be left: it retires, and the placement asks for another one."""
        place = None if self._placement is None else self._placement.carriers.get(carrier.number)
        if place is None:
            super()._leave(carrier)
        elif not self.approaches.rests():
            place.worn_at = self.tunnel.now() if place.worn_at is None else place.worn_at
            self._need.set()

    async def _keep(self) -> None:
        """Keep the carriers that the shape wants."""
        placement = self._placement
        if placement is None:
            await super()._keep()
            return
        async with asyncio.TaskGroup() as dials:
            while True:
                self._step(placement, dials)
                streams = len(self.tunnel.session.streams)
                pause = min(TICK + streams * TICK_A_STREAM, LONGEST_TICK) if streams else QUIET_TICK
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._need.wait()
                self._need.clear()

    def _step(self, placement: Placement, dials: asyncio.TaskGroup) -> None:
        """One look: who is gone, what moves, what ends, what is to be opened."""
        if self.tunnel.closed or self.tunnel.goaway:
            self._replace_tunnel()
        tunnel = self.tunnel
        now = tunnel.now()
        self._note_ends(placement, tunnel, now)
        riding = list(self._riding(tunnel))
        counts: dict[int, int] = {}
        for one in riding:
            counts[one.carrier] = counts.get(one.carrier, 0) + bool(one.traffic)
        placement.observe(
            {
                number: Load(
                    counts.get(number, 0),
                    carrier.sent_bytes + carrier.received_bytes,
                    number in tunnel.session.carriers and tunnel.session.carriers[number].suspect,
                )
                for number, carrier in tunnel.carriers.items()
            },
            now,
        )
        moves = placement.moves(riding, now)
        for stream, to in moves:
            state = tunnel.session.streams.get(stream)
            if state is not None and to in tunnel.session.carriers:
                tunnel.client_session.drain(state, to, now)
        for number in placement.over(self._riding(tunnel), now):
            placement.gone(number)
            self._mine.pop(number, None)
            tunnel.session.send_goaway(number)  # it closes once all is said there
        if moves or tunnel.session.ready:
            tunnel.schedule()
        self._forget_visits(placement, now)
        if now < self._not_before:
            return
        if self._is_confirmed(tunnel) or placement.is_bare:
            for traffic in placement.wanted(now):
                placement.dialling(traffic)
                dials.create_task(self._dial_one(placement, traffic))
        self._open_ahead(placement, dials, now)

    def _open_ahead(self, placement: Placement, dials: asyncio.TaskGroup, now: float) -> None:
        """What is to be there before a stream needs it: pages loaded, or carriers where none begins there."""
        wanted = placement.wanted_ahead(len(self._waiting), now)
        start = placement.shape.start
        if self.tunnel.goes_on(placement.codecs(start)[0], placement.shape[start]):
            for _ in range(wanted):
                placement.visiting()
                dials.create_task(self._visit_one(placement, start))
        elif greeting_of(placement.codecs(start)[0]) != "websocket" and self._is_confirmed(self.tunnel):
            for _ in range(wanted):  # (a WebSocket that says nothing is nobody's)
                placement.dialling(start)
                dials.create_task(self._dial_one(placement, start))

    def _is_confirmed(self, tunnel: ClientTunnel) -> bool:
        """Whether the bridge is known to have the session: it is made when CONFIRM arrives there.

        A second carrier that overtakes that would be told of a session that nobody knows.
        """
        if not tunnel.carriers or self._told < 0:
            return True
        if any(carrier.received_bytes > self._told for carrier in tunnel.carriers.values()):
            self._told = -1
        return self._told < 0

    def _note_ends(self, placement: Placement, tunnel: ClientTunnel, now: float) -> None:
        """Carriers that have ended; where all are cut at once, the next ones wait longer and longer."""
        ended = [number for number in placement.carriers if number not in tunnel.carriers]
        steady = False
        for number in ended:
            placement.gone(number)
            known = self._mine.pop(number, None)
            steady = steady or known is None or self._was_steady(*known)
        if steady:
            self._hurry = 0.0
        elif ended and not placement.carriers:
            if self._hurry:
                pause = self._hurry * self._rng.uniform(0.5, 1.0)
                self._not_before = now + pause
                self._loop.call_later(pause, self._need.set)
            self._hurry = min(max(2 * self._hurry, BACKOFF_FIRST), HURRY_LAST)

    def _riding(self, tunnel: ClientTunnel) -> Any:
        """The streams and where they are, their classes brought up to date."""
        placement = self._placement
        if placement is None:
            return
        now = tunnel.now()
        for state in tunnel.session.streams.values():
            if state.carrier is not None:
                traffic = traffic_of(state, placement.shape, now)
                through = not placement.begins_elsewhere(traffic) or settled(state, now)
                yield Riding(state.id, traffic, state.carrier, through)

    async def _dial_one(self, placement: Placement, traffic: str) -> None:
        """Open one carrier; where that fails, its class waits, longer each time."""
        try:
            await self._connect_as(placement, traffic)
            self._pauses.pop(traffic, None)
        except (PtproxyError, OSError) as error:
            await self._pause_after(error, traffic)
        finally:
            placement.dialled(traffic)
            self._need.set()

    async def _visit_one(self, placement: Placement, traffic: str) -> None:
        """Load a page for a carrier to come; where none can go on there, open the carrier beside it."""
        try:
            placement.connecting(self.tunnel.now())
            approach = self.tunnel.approach
            visited = await self.tunnel.visit_ahead(placement.shape[traffic])
            if self.tunnel.approach is not approach:  # carriers go by another front meanwhile
                visited.drop()
            elif visited.usable or not self._is_confirmed(self.tunnel):
                self._waiting.add(traffic, visited)
            else:
                await self._connect_as(placement, traffic, visited)
            self._pauses.pop(AHEAD, None)
        except (PtproxyError, OSError) as error:
            await self._pause_after(error, AHEAD)
        finally:
            placement.visited()
            self._need.set()

    async def _pause_after(self, error: Exception, what: str) -> None:
        """Wait after a dial that failed: longer each time, for each class by itself."""
        self._note(error)
        pause = self._pauses.get(what, BACKOFF_FIRST)
        self._pauses[what] = min(2 * pause, BACKOFF_LAST)
        log.warning("no carrier to the bridge", error=str(error), traffic=what, again_in=round(pause, 1))
        await self.rest.take(pause * self._rng.uniform(0.5, 1.0))

    def _take_visited(self, placement: Placement, traffic: str, codec: str) -> Ahead | None:
        """A connection on which the carrier can begin."""
        shape = placement.shape

        def fits(reason: str) -> bool:
            return shape[reason].open == shape[traffic].open and codec == placement.codecs(reason)[0]

        visited = self._waiting.take(fits)
        if visited is not None:
            placement.used_ahead()
        return visited

    def _forget_visits(self, placement: Placement, now: float) -> None:
        """Those that are no use any more, and those that wait for nobody."""
        if not placement.is_wanted_ahead(now):
            self._waiting.drop()
        elif self._waiting.forget():
            placement.lapsed(now)

    # ---- what the base does otherwise ----------------------------------------------------------------

    @property
    def _is_plain(self) -> bool:
        return self._placement is None

    def _changed(self, suspected: int | None) -> None:
        """A carrier came, went, or is suspected."""
        if self._placement is None:
            super()._changed(suspected)
            return
        if self.tunnel.carriers:
            self._up.set()
        if suspected is not None:
            self._waiting.drop()  # what is wrong with a carrier's network is wrong with theirs
            self._placement.suspect(suspected, self.tunnel.now())
        self._need.set()

    def _replace_tunnel(self) -> ClientTunnel:
        """A new session numbers its carriers anew."""
        self._mine.clear()
        self._told = 0
        if self._placement is not None:
            self._placement.carriers.clear()
        return super()._replace_tunnel()

    def _close_spare(self, tunnel: ClientTunnel) -> None:
        """The placement says which carriers are over."""
        if self._placement is None:
            super()._close_spare(tunnel)
