"""The dialer through a tunnel whose carriers are kept in order.

:class:`TunnelDialer` keeps at least one carrier open to its bridge (redialling
with jittered backoff), opens more while bulk would make interactive streams
wait behind it, and places each new stream on the least busy carrier.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Final, cast

from ptproxy.errors import AuthenticationError, DialError, LocalProtocolError, PtproxyError, Reason
from ptproxy.log import get_logger
from ptproxy.session import Limits, SessionExhausted
from ptproxy.session import Stream as SessionStream
from ptproxy.target import Target
from ptproxy.tunnel.association import TunnelAssociation
from ptproxy.tunnel.client import ClientTunnel, OpeningRefused
from ptproxy.tunnel.client_carrier import ClientCarrier
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.memory import FreeMemory
from ptproxy.tunnel.stream import Association, DatagramReceiver, Stream, TunnelStream
from ptproxy.tunnel.visit import Visitor

CARRIER_WAIT: Final = 15.0
"""Seconds that a dial waits for the first carrier before it says that the tunnel is down."""
OPEN_TIMEOUT: Final = 75.0
"""Seconds that a dial waits for the far side's word; the bridge's own connect limit is shorter."""
BACKOFF_FIRST: Final = 0.3
BACKOFF_LAST: Final = 30.0
"""Seconds between redials: doubled from the first to the last, each jittered by half."""
STEADY_TIME: Final = 5.0
STEADY_BYTES: Final = 16 << 10
"""A carrier that neither lived that many seconds nor moved that many bytes was cut at once: the first
one is replaced without a pause, those after it with growing ones, so that whoever cuts makes no storm."""
HURRY_LAST: Final = 5.0
"""Seconds of those pauses at most: streams wait."""
BULK_RATE: Final = 4 << 20
"""Bytes a second above which a carrier counts as busy with bulk."""
SMALL_STREAM: Final = 64 << 10
"""Bytes that a stream may move while a carrier is dialled and still count as interactive."""
SAMPLE: Final = 0.5
"""Seconds over which a carrier's rate is taken, at least."""
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
    ) -> None:  # fmt: skip
        """Keep up to ``carriers`` carriers; seconds after which a stream without progress is reset
        (0: never), also once one way has ended, and that streams wait for a lost tunnel."""
        self._loop = loop
        self._route = route
        self._most = carriers
        self._limits = limits
        self._idle = idle
        self._half_open = half_open
        self._linger = linger
        self._rng = random.SystemRandom()
        self._need = asyncio.Event()
        self._up = asyncio.Event()
        self._wanted = 1
        self._stopping = False
        self._keeper: asyncio.Task[None] | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._retired: list[ClientTunnel] = []
        self._moved: dict[int, int] = {}
        self._without_since: float | None = None
        self.last_error = ""
        self.visitor: Visitor | None = None
        """Visits the site before carriers are opened; None where no browser is imitated."""
        if route.appearance is not None:
            self.visitor = Visitor(loop, route, route.appearance, self._rng)
        self.tunnel = self._fresh_tunnel()

    # ---- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the first carrier and keep carriers from then on.

        Raises what went wrong with the last codec tried; then nothing is kept.
        """
        await self._connect()
        self._keeper = self._loop.create_task(self._keep())
        self._sweeper = self._loop.create_task(self._sweep())

    async def stop(self, drain: float = 0.0) -> None:
        """No new streams; those open may end within ``drain`` seconds, then all is closed."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain):
                while self._open_streams():  # noqa: ASYNC110  (bounded, once in a process's life)
                    await asyncio.sleep(DRAIN_CHECK)
        for task in (self._keeper, self._sweeper):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        tunnels = (*self._retired, self.tunnel)
        for tunnel in tunnels:
            tunnel.close(Reason.SHUTDOWN)
        if self.visitor is not None:
            self.visitor.close()
        await asyncio.sleep(DRAIN_CHECK)  # the farewells leave
        for tunnel in tunnels:
            for carrier in tunnel.dialled:
                carrier.abort_connections()
        await asyncio.sleep(0)

    def _open_streams(self) -> int:
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
        tunnel = cast("ClientTunnel", stream.tunnel)
        with _refusals():
            stream.state = tunnel.session.open_stream(target.serialize(), first_data, tunnel.now(), carrier)
        stream.state.owner = stream
        await self._opened(tunnel, stream)
        stream.start()
        return stream

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """Open a UDP association at the bridge."""
        return await self._associate(await self._ready_tunnel(), receiver, None)

    async def _associate(
        self, tunnel: ClientTunnel, receiver: DatagramReceiver, carrier: int | None
    ) -> Association:
        association = TunnelAssociation(tunnel, receiver)
        with _refusals():
            association.state = tunnel.session.open_association(
                Target.datagrams().serialize(), tunnel.now(), carrier
            )
        association.state.owner = association
        await self._opened(tunnel, association)
        return association

    async def _opened(self, tunnel: ClientTunnel, opening: TunnelStream | TunnelAssociation) -> None:
        """Wait for the far side's word; a dial that is given up resets the stream."""
        opening.opened = self._loop.create_future()
        tunnel.schedule()
        overdue = self._loop.call_later(OPEN_TIMEOUT, _time_out, opening.opened)
        try:
            await opening.opened
        except (DialError, asyncio.CancelledError) as error:
            state, now = opening.state, tunnel.now()
            if state.owner is not None:
                state.owner = None
                state.reset(Reason.CANCELLED, now)
                tunnel.schedule()
            if isinstance(error, DialError):
                raise DialError(error.reason, str(error)) from None
            raise
        finally:
            overdue.cancel()
            opening.opened = None

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
        best: ClientCarrier | None = None
        best_rate = 0.0
        for carrier in carriers.values():
            assert isinstance(carrier, ClientCarrier)
            rate = _rate(carrier, now)
            if best is None or rate < best_rate:
                best, best_rate = carrier, rate
        if best is not None and best_rate > BULK_RATE and len(carriers) < self._most:
            self._grow(tunnel)
        return best.number if best is not None else None

    def _grow(self, tunnel: ClientTunnel) -> None:
        """Ask for one more carrier; the small streams will move to it."""
        wanted = _sound(tunnel) + 1
        if self._wanted < wanted:
            self._wanted = wanted
            self._moved = {stream.id: _moved(stream) for stream in tunnel.session.streams.values()}
            self._need.set()

    def _spread(self, tunnel: ClientTunnel, number: int) -> None:
        """A carrier came beside bulk: what has moved little since it was asked for goes there (R15)."""
        before, self._moved = self._moved, {}
        if len(tunnel.carriers) < 2 or not before:
            return
        now = tunnel.now()
        for stream in list(tunnel.session.streams.values()):
            small = _moved(stream) - before.get(stream.id, 0) < SMALL_STREAM
            if small and stream.carrier is not None and stream.carrier != number:
                tunnel.client_session.drain(stream, number, now)
        tunnel.schedule()

    # ---- keeping carriers -----------------------------------------------------------------------------

    def _fresh_tunnel(self) -> ClientTunnel:
        tunnel = ClientTunnel(self._route, self._loop, self._limits, self.visitor)
        tunnel.on_change = self._changed
        return tunnel

    def _replace_tunnel(self) -> ClientTunnel:
        """A new session: the old one takes no new streams, its old ones go on."""
        if not self.tunnel.closed:
            self._retired.append(self.tunnel)
        self.tunnel = self._fresh_tunnel()
        return self.tunnel

    def _changed(self, suspected: int | None) -> None:
        """A carrier came, went, or is suspected."""
        if self.tunnel.carriers:
            self._up.set()
        if suspected is not None:
            self._wanted = min(_sound(self.tunnel) + 1, self._most)
        if _sound(self.tunnel) < self._wanted:
            self._need.set()

    async def _keep(self) -> None:
        """Dial whenever a carrier is needed, with growing pauses while that fails."""
        pause = BACKOFF_FIRST
        hurry = opened_at = 0.0  # the pause before what replaces a carrier that was cut at once
        carrier: ClientCarrier | None = None
        while True:
            await self._need.wait()
            self._need.clear()
            while _sound(self.tunnel) < self._wanted or self.tunnel.closed:
                if self.tunnel.closed or self.tunnel.goaway:
                    self._replace_tunnel()
                if carrier is not None and carrier.ended:
                    if self._was_steady(carrier, opened_at):
                        hurry = 0.0
                    else:
                        await asyncio.sleep(hurry * self._rng.uniform(0.5, 1.0))
                        hurry = min(max(2 * hurry, BACKOFF_FIRST), HURRY_LAST)
                    carrier = None
                    continue
                try:
                    carrier = await self._connect()
                    opened_at = self._loop.time()
                    pause = BACKOFF_FIRST
                    self._spread(self.tunnel, carrier.number)
                except (PtproxyError, OSError) as error:
                    self.last_error = str(error)
                    if not isinstance(error, DialError):
                        self._up.set()  # refused: whoever waits is told at once
                    log.warning("no carrier to the bridge", error=str(error), again_in=round(pause, 1))
                    await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
                    pause = min(pause * 2, BACKOFF_LAST)
                    if self.tunnel.carriers and not isinstance(error, DialError):
                        self._wanted = _sound(self.tunnel)
            self._wanted = max(1, min(self._wanted, self._most))

    def _was_steady(self, carrier: ClientCarrier, opened_at: float) -> bool:
        """Whether a carrier that has ended was of use: else redialling at once would go on for ever."""
        moved = carrier.sent_bytes + carrier.received_bytes
        return moved > STEADY_BYTES or self._loop.time() - opened_at > STEADY_TIME

    async def _connect(self) -> ClientCarrier:
        """One more carrier, by the first codec that the bridge takes."""
        failure: PtproxyError = DialError(Reason.TUNNEL_DOWN)
        tunnel = self.tunnel
        for codec in self._route.codecs:
            try:
                return await tunnel.connect(codec)
            except OpeningRefused as error:
                failure = error
            except (DialError, AuthenticationError) as error:
                raise error from None
        raise failure

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
            self._give_up_waiting(tunnel)
            for retired in list(self._retired):
                if not retired.carriers:  # nobody dials for it: its streams can only wait
                    self._retired.remove(retired)
                    retired.close(Reason.CONNECTION_LOST)
            sweeps += 1
            if sweeps % (SPARE_IDLE // SWEEP_EVERY):
                continue
            self._close_spare(tunnel)
            for retired in list(self._retired):
                if not retired.session.streams:
                    self._retired.remove(retired)
                    retired.close()

    def _close_spare(self, tunnel: ClientTunnel) -> None:
        """Close carriers beyond the first that carry nothing."""
        used = {stream.carrier for stream in tunnel.session.streams.values()}
        for carrier in list(tunnel.carriers.values())[1:]:
            if carrier.number not in used and _rate(carrier, tunnel.now()) < 1.0:
                self._wanted = max(1, _sound(tunnel) - 1)
                carrier.end("spare")

    def _give_up_waiting(self, tunnel: ClientTunnel) -> None:
        """Streams that have waited for a carrier too long are over."""
        if tunnel.carriers or not tunnel.session.streams:
            self._without_since = None
        elif self._without_since is None:
            self._without_since = tunnel.now()
        elif tunnel.now() - self._without_since > self._linger:
            log.warning("no carrier for too long; open streams are given up")
            tunnel.close(Reason.TUNNEL_DOWN)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What a session says that takes no stream now, as a dialer says it."""
    try:
        yield
    except SessionExhausted as error:
        raise DialError(Reason.LIMIT, str(error)) from None
    except LocalProtocolError:  # GOAWAY or its end came while the dial waited
        raise DialError(Reason.TUNNEL_DOWN, "the session has just ended") from None


def _sound(tunnel: ClientTunnel) -> int:
    """Carriers that are not suspect (R20): what else there is may be dead."""
    known = tunnel.session.carriers
    return sum(number in known and not known[number].suspect for number in tunnel.carriers)


def _moved(stream: SessionStream) -> int:
    """Bytes both ways so far."""
    return stream.received + stream.sent


def _rate(carrier: object, now: float) -> float:
    """Bytes a second over about the last :data:`SAMPLE` seconds or since the last look."""
    assert isinstance(carrier, ClientCarrier)
    elapsed = now - carrier.sampled_at
    if elapsed >= SAMPLE:
        total = carrier.sent_bytes + carrier.received_bytes
        carrier.rate = (total - carrier.sampled_bytes) / elapsed
        carrier.sampled_at, carrier.sampled_bytes = now, total
    return carrier.rate


def _time_out(opened: asyncio.Future[None]) -> None:
    if not opened.done():
        opened.set_exception(DialError(Reason.TIMED_OUT))
