"""The dialer through a tunnel whose carriers are kept in order.

:class:`TunnelDialer` keeps at least one carrier open to its bridge (redialling
with jittered backoff), opens more while bulk would make interactive streams
wait behind it, and places each new stream on the least busy carrier.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Collection
from typing import Final, cast

from ptproxy.codec.interface import Greeting
from ptproxy.errors import DialError, PtproxyError, Reason
from ptproxy.log import get_logger
from ptproxy.session import Limits
from ptproxy.target import Target
from ptproxy.tunnel.approach import Approach, Approaches
from ptproxy.tunnel.asking import open_association, open_stream
from ptproxy.tunnel.client import ClientTunnel
from ptproxy.tunnel.client_carrier import ClientCarrier, greeting_of
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.growth import Growth, close_spare
from ptproxy.tunnel.lingering import Lingering, Retired
from ptproxy.tunnel.load import is_needed, is_waiting, moved_by, rate_of, sound
from ptproxy.tunnel.memory import FreeMemory
from ptproxy.tunnel.parting import Parting
from ptproxy.tunnel.redial import Redials
from ptproxy.tunnel.rest import BACKOFF_FIRST, BACKOFF_LAST, STEADY_BYTES, STEADY_TIME, Rest
from ptproxy.tunnel.standby import Standby
from ptproxy.tunnel.stream import Association, DatagramReceiver, Stream, TunnelStream
from ptproxy.tunnel.totals import Totals
from ptproxy.tunnel.visit import Visitor
from ptproxy.tunnel.waiting import Ahead
from ptproxy.ways import Ways

CARRIER_WAIT: Final = 15.0
"""Seconds that a dial waits for the first carrier before it says that the tunnel is down."""
BULK_RATE: Final = 4 << 20
"""Bytes a second above which a carrier counts as busy with bulk."""
SPARE_IDLE: Final = 60.0
"""Seconds after which a carrier beyond the first that carries no stream is closed."""
SWEEP_EVERY: Final = 5.0
"""Seconds between looks for spare carriers, ended sessions and streams without progress."""
DRAIN_CHECK: Final = 0.05
"""Seconds between looks whether the streams have ended, while stopping."""

log = get_logger(__name__)


class TunnelDialer:
    """Opens streams and associations at a bridge, over carriers that it keeps."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, route: Route, *, carriers: int = 4,
        limits: Limits | None = None, idle: float = 0.0, half_open: float = 300.0, linger: float = 60.0,
        ways: Ways | None = None,
    ) -> None:  # fmt: skip
        """Keep up to ``carriers`` carriers; seconds after which a stream without progress is reset
        (0: never), also once one way has ended, and that streams wait for a lost tunnel.

        ``ways``: what is remembered of ways, None: nothing yet.
        """
        self._loop = loop
        self._route = route
        self._most = carriers
        self._limits = limits
        self._idle = idle
        self._half_open = half_open
        self._lingering = Lingering(linger)
        self._rng = random.SystemRandom()
        self._need = asyncio.Event()
        self._up = asyncio.Event()
        self._wanted = 1
        self._stopping = False
        self._keeper: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._retired = Retired()
        self._parting = Parting(loop, lambda: self.tunnel, self._grow)
        self._growth = Growth()
        self.last_error = ""
        self.rest = Rest(loop)
        fronts = [Approach.of(loop, front, self._rng) for front in (route, *route.fronts)]
        self.approaches = Approaches(loop, fronts, ways or Ways(secrets.token_bytes(32)))
        """The bridge's fronts, and what is known of the ways to it."""
        self.approaches.on_taken = self._taken
        self.rest.is_needed = lambda: any(map(is_needed, (*self._retired, self.tunnel)))
        self.rest.is_held = self._is_held
        self.visitor: Visitor | None = fronts[0].visitor
        """Visits the site before carriers are opened; None where no browser is imitated."""
        self._approach = fronts[0]
        self.totals = Totals()
        self.tunnel = self._fresh_tunnel()
        self._standby = Standby(loop, self._ready_ahead, self._rng)

    # ---- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the first carrier and keep carriers from then on.

        Raises what went wrong with the last codec tried; then nothing is kept, unless :meth:`keep` says so.
        """
        await self._connect()
        self.keep()

    def keep(self) -> None:
        """Keep carriers from now on, also where none could be opened: it is tried again."""
        self._keeper = self._loop.create_task(self._keep())
        self._sweeper = self._loop.create_task(self._sweep())
        self._changed(None)

    async def stop(self, drain: float = 0.0) -> None:
        """No new streams; those open may end within ``drain`` seconds, then all is closed."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain):
                while self.streams:  # noqa: ASYNC110  (bounded, once in a process's life)
                    await asyncio.sleep(DRAIN_CHECK)
        for task in (self._keeper, self._sweeper):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._standby.stop()
        self._parting.stop()
        tunnels = (*self._retired, self.tunnel)
        for tunnel in tunnels:
            tunnel.close(Reason.SHUTDOWN)
        await self.approaches.close()
        await asyncio.sleep(DRAIN_CHECK)  # the farewells leave
        for tunnel in tunnels:
            for carrier in tunnel.dialled:
                carrier.abort_connections()
        await asyncio.sleep(0)

    @property
    def _is_plain(self) -> bool:
        """Whether nothing but use says which carriers there are."""
        return True

    def count_in(self, totals: Totals) -> None:
        """Count with others; to be called before :meth:`start`."""
        self.totals = self.tunnel.totals = totals

    @property
    def tunnels(self) -> tuple[ClientTunnel, ...]:
        """The session that takes new streams last, before it those that take no more."""
        return (*self._retired, self.tunnel)

    @property
    def streams(self) -> int:
        """Streams and associations that are open, those of sessions that take no more included."""
        return sum(len(tunnel.session.streams) for tunnel in (*self._retired, self.tunnel))

    # ---- dialling ----------------------------------------------------------------------------------

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """Open a stream at the bridge; see :class:`~ptproxy.tunnel.stream.Dialer`."""
        tunnel = await self._ready_tunnel()
        return await self._open(TunnelStream(tunnel, protocol), target, first_data, self._place(tunnel))

    async def _open(
        self, stream: TunnelStream, target: Target, first_data: bytes, carrier: int | None
    ) -> Stream:
        """Open ``stream`` on a carrier (None: the session's choice) and wait for the far side's word."""
        self._look_on()
        return await open_stream(stream, target, first_data, carrier)

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """Open a UDP association at the bridge."""
        return await self._associate(await self._ready_tunnel(), receiver, None)

    async def _associate(
        self, tunnel: ClientTunnel, receiver: DatagramReceiver, carrier: int | None
    ) -> Association:
        self._look_on()
        return await open_association(tunnel, receiver, carrier)

    async def ready(self) -> None:
        """Wait until there is a carrier; DialError(TUNNEL_DOWN) if there is none for too long."""
        await self._ready_tunnel()

    async def _ready_tunnel(self) -> ClientTunnel:
        """The tunnel that takes new streams, with a carrier; DialError(TUNNEL_DOWN) without."""
        if self._stopping:
            raise DialError(Reason.SHUTDOWN)
        tunnel = self.tunnel
        if tunnel.closed or tunnel.goaway:
            tunnel = self._replace_tunnel()
        if not tunnel.carriers:
            self._up.clear()
            self._need.set()
            try:
                with self.rest.waited_for():
                    async with asyncio.timeout(CARRIER_WAIT):
                        await self._up.wait()
            except TimeoutError:
                raise DialError(Reason.TUNNEL_DOWN, self.last_error or "no carrier to the bridge") from None
            tunnel = self.tunnel
            if not tunnel.carriers:
                raise DialError(Reason.TUNNEL_DOWN, self.last_error)
        return tunnel

    def _place(self, tunnel: ClientTunnel) -> int | None:
        """The carrier for a new stream: one that is not busy with bulk, else the least busy one.

        Where all are busy and more are allowed, another is asked for.
        """
        carriers = tunnel.carriers
        if len(carriers) == 1 and self._most == 1:
            return None
        now = tunnel.now()
        if not carriers:
            return None
        busy = self._parting.busy
        is_busy, rate, best = min((n in busy, rate_of(one, now), n) for n, one in carriers.items())
        if is_busy or rate > BULK_RATE:
            self._grow(tunnel)
        return best

    def _look_on(self) -> None:
        """Bulk and the rest are parted, where nothing else says who rides where."""
        if self._most > 1 and self._is_plain and not self._stopping:
            self._parting.look_on()

    def _grow(self, tunnel: ClientTunnel) -> None:
        """Ask for one more carrier, if there may be; the small streams will move to it."""
        if len(tunnel.carriers) >= self._most:
            return
        wanted = sound(tunnel) + 1
        if self._wanted < wanted:
            self._wanted = wanted
            self._growth.asked(tunnel)
            self._need.set()

    # ---- keeping carriers -----------------------------------------------------------------------------

    def _fresh_tunnel(self) -> ClientTunnel:
        tunnel = ClientTunnel(self._route, self._loop, self._limits, self.visitor)
        tunnel.totals = self.totals
        tunnel.approach = self._approach
        tunnel.on_change = self._changed
        tunnel.on_lost = self.approaches.lost
        tunnel.on_leaving = self.approaches.left
        return tunnel

    def _taken(self, approach: Approach) -> None:
        """A carrier came by another front than the one before: what is ready is the other's."""
        self._approach = approach
        self._standby.drop()

    def _replace_tunnel(self) -> ClientTunnel:
        """A new session: the old one takes no new streams, its old ones go on."""
        self._retired.add(self.tunnel)
        self.tunnel = self._fresh_tunnel()
        return self.tunnel

    def _changed(self, suspected: int | None) -> None:
        """A carrier came, went, or is suspected."""
        if self.tunnel.carriers:
            self._up.set()
        if suspected is not None:
            self._standby.drop()  # what is wrong with a carrier's network is wrong with its
            self._wanted = min(sound(self.tunnel) + 1, self._most)
        if sound(self.tunnel) < self._wanted:
            self._need.set()

    async def _keep(self) -> None:
        """Dial whenever a carrier is needed, with growing pauses while that fails."""
        pause = BACKOFF_FIRST
        opened_at = 0.0
        redials = Redials(self._rng)
        carrier: ClientCarrier | None = None
        while True:
            await self._need.wait()
            self._need.clear()
            while sound(self.tunnel) < self._wanted or self.tunnel.closed:
                if self.tunnel.closed or self.tunnel.goaway:
                    self._replace_tunnel()
                if carrier is not None and carrier.ended:
                    if self._was_steady(carrier, opened_at):
                        redials.lived()
                    else:
                        await self.rest.sit_out(redials.cut(self._loop.time()))
                    carrier = None
                    continue
                try:
                    carrier = await self._connect()
                    opened_at = self._loop.time()
                    pause = BACKOFF_FIRST
                    self._growth.came(self.tunnel, carrier.number)
                    self._keep_standby(self.tunnel)
                except (PtproxyError, OSError) as error:
                    self._note(error)
                    log.warning("no carrier to the bridge", error=str(error), again_in=round(pause, 1))
                    await self.rest.take(pause * self._rng.uniform(0.5, 1.0))
                    pause = min(pause * 2, BACKOFF_LAST)
                    if sound(self.tunnel):  # who needs one more asks again: nothing is dialled for nobody
                        self._wanted = sound(self.tunnel)
            self._wanted = max(1, min(self._wanted, self._most))

    def _note(self, error: Exception) -> None:
        """A dial failed. Where the bridge refused it, whoever waits is told at once; a login page goes."""
        self.last_error = str(error)
        if not isinstance(error, DialError) and not self.approaches.ways.portal.stands(time.time()):
            self._up.set()

    def _is_held(self) -> bool:
        """Whether bytes or dials wait, and a login page of the network's is what they wait for."""
        is_wanted = self.rest.is_awaited or is_waiting(self.tunnel)
        return is_wanted and self.approaches.ways.portal.is_young(time.time())

    def _was_steady(self, carrier: ClientCarrier, opened_at: float) -> bool:
        """Whether a carrier that has ended was of use: else redialling at once would go on for ever."""
        moved = carrier.sent_bytes + carrier.received_bytes
        return moved > STEADY_BYTES or self._loop.time() - opened_at > STEADY_TIME

    async def _connect(self) -> ClientCarrier:
        """One more carrier, on the connection that is ready, or by the first way that leads to the bridge."""
        tunnel = self.tunnel
        for codec in tunnel.approach.route.codecs if tunnel.session_id else ():
            if not self.approaches.is_best(tunnel.approach.way(codec)):
                continue  # what was cut or slow there would be so again
            ready = self._standby.take(greeting_of(codec))
            if ready is None:
                continue
            with contextlib.suppress(PtproxyError, OSError):  # it may have died unnoticed
                carrier = await tunnel.connect(codec, None, ready)
                self.approaches.opened(tunnel, carrier)
                return carrier
        return await self.approaches.open(tunnel, self._route.codecs)

    def network_changed(self, lost: Collection[str]) -> None:
        """This machine is in another network, or in one again; ``lost``: addresses of its own that are gone.

        Carriers from those are dead, and nobody will ever say so; what else there is may
        be well. Dials under way begin anew, and pauses of those that failed elsewhere are over.
        """
        for tunnel in (*self._retired, self.tunnel):
            for carrier in list(tunnel.carriers.values()):
                if cast("ClientCarrier", carrier).local_addresses & set(lost):
                    carrier.end("its address is gone")
                    carrier.drop_connections()
        if lost:
            self._standby.drop()  # a carrier that begins there would wait for an answer in vain
        self.approaches.underway.again()
        self.network_grew()

    def network_grew(self) -> None:
        """There is one more way out, or what stood before all of them is gone: pauses are over."""
        self.rest.end()
        self._need.set()

    async def _sweep(self) -> None:
        """Close spare carriers that carry nothing, and sessions that have ended."""
        sweeps = 0
        memory = FreeMemory()
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            memory.give_back()
            tunnel = self.tunnel
            for each in (*self._retired, tunnel):
                each.sweep(each.now(), self._idle, self._half_open)
            self._lingering.look(tunnel)
            for slow in self.approaches.look(tunnel, SWEEP_EVERY):
                self._leave(slow)
            self._keep_standby(tunnel)
            self._look_on()
            self._retired.close_lost()
            sweeps += 1
            if sweeps % (SPARE_IDLE // SWEEP_EVERY):
                continue
            self._close_spare(tunnel)
            self._retired.close_ended()
            await self.approaches.rest_beside(self._approach)

    def _leave(self, carrier: ClientCarrier) -> None:
        """A carrier is to be left: its streams move to the next one that opens (R15, R25)."""
        if self.approaches.rests():
            return  # there is nothing better
        self.tunnel.session.send_goaway(carrier.number)
        self._wanted = min(sound(self.tunnel) + 1, self._most)
        self._need.set()
        self.tunnel.schedule()

    async def _ready_ahead(self, greeting: Greeting) -> Ahead:
        return await self.tunnel.ready_ahead(greeting)

    def _keep_standby(self, tunnel: ClientTunnel) -> None:
        """A connection beside carriers that are in use: streams whose carrier is cut go on there."""
        if not self._is_plain:
            self._standby.drop()
        elif tunnel.carriers and tunnel.session.streams:
            # What streams moved: polls and PINGs of idle ones would keep it, and open it again, for ever.
            moved = sum(map(moved_by, tunnel.session.streams.values()))
            codec = next(iter(tunnel.carriers.values())).codec_name
            self._standby.keep(greeting_of(codec), moved, tunnel.now())
        else:
            self._standby.look(tunnel.now())

    def _close_spare(self, tunnel: ClientTunnel) -> None:
        """Close carriers beyond the first that carry nothing."""
        left = close_spare(tunnel)
        if left is not None:
            self._wanted = max(1, left)
