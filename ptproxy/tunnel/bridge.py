"""The bridge's end of the tunnel: its sessions, and what becomes of a confirmed carrier.

A session belongs to the key that opened it. It outlives its carriers by
``linger`` seconds; whoever presents its id with another key gets a new one, as
for an id that nobody knows. What happens to one session is in
:mod:`ptproxy.tunnel.bridge_tunnel`.
"""

from __future__ import annotations

import asyncio
import hmac
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from ptproxy.auth.access import Admission
from ptproxy.auth.access_record import Identity
from ptproxy.auth.binding import Binding
from ptproxy.auth.credentials import StaticKey
from ptproxy.auth.opening import Answer, BridgeOpening, PeerHello, Verdict
from ptproxy.auth.replay import Openings, ReplayFilter, ReplayVerdict
from ptproxy.buffer import Buffer
from ptproxy.codec import codec_table
from ptproxy.codec.interface import CodecSettings
from ptproxy.codec.shape import PLAIN, Shape
from ptproxy.errors import AuthenticationError, Reason
from ptproxy.log import get_logger
from ptproxy.session import BridgeSession, Limits, RetentionBudget
from ptproxy.tunnel.arrival import Arrival, Opened
from ptproxy.tunnel.bridge_tunnel import BridgeTunnel
from ptproxy.tunnel.elsewhere import Elsewhere, Place
from ptproxy.tunnel.gate import Gate
from ptproxy.tunnel.memory import BUSY_CALLS, FreeMemory
from ptproxy.tunnel.placement import class_of
from ptproxy.tunnel.pressure import PressureLog
from ptproxy.tunnel.stream import Exit, Site
from ptproxy.tunnel.tickets import CODEC as TICKET_CODEC
from ptproxy.tunnel.tickets import BesideExit
from ptproxy.tunnel.totals import Totals

VERIFY_TICK: Final = 5.0
"""Seconds between looks at who is due."""
ACKNOWLEDGE_WITHIN: Final = (0.15, 0.25)
"""Seconds, drawn for a session, after which little that came is acknowledged by itself: mostly an answer
takes it along before. The client asks after 0.4 s and suspects a carrier after one (R20)."""
SESSION_ID: Final = 16
"""Bytes of a session id, opaque to the client (R1)."""
MOST_OF_ONE_KEY: Final = 64
"""Sessions of one client's key, those that linger included: one that restarts all the time, or a
hostile one, leaves room for others."""
DRAIN_CHECK: Final = 0.05
"""Seconds between looks whether the streams have ended, while stopping."""

log = get_logger(__name__)


class Access(Protocol):
    """Who may use the bridge; :class:`ptproxy.proxy.accounts.Accounts` or a plain list in tests."""

    def decide(self, public: bytes, token: bytes, unix_now: float) -> Admission:
        """Whether this key (with this token) may come in; raises AuthenticationError."""

    def spend(self, admission: Admission, unix_now: float) -> Identity | None:
        """The opening was confirmed: enrol and use up the token; raises AuthenticationError.

        Returns the identity as it is known from now on, None for an unknown key of an open bridge.
        """

    def check(self, public: bytes, unix_now: float) -> None:
        """Whether a known identity is still welcome; raises AuthenticationError."""


@dataclass(slots=True)
class BridgeSettings:
    """What a bridge's tunnel needs to know; times in seconds, sizes in bytes."""

    key: StaticKey
    codecs: Sequence[str]
    codec_settings: CodecSettings
    bindings: Sequence[Binding]
    seal: bool
    access: Access
    retention: RetentionBudget
    limits: Limits = field(default_factory=Limits)
    linger: float = 60.0
    most_sessions: int = 4096
    most_carriers: int = 4096
    most_undecided: int = 512
    opening_timeout: float = 10.0
    idle: float = 0.0
    """Streams without a byte for this long are reset; 0: never."""
    half_open: float = 300.0
    """... and this long once one way has ended; 0: never."""
    replay: Openings | None = None
    shape: Shape = PLAIN
    """What carriers follow whose clients say what they are going to carry."""
    signing_key: bytes = b""
    """The public key that signs what the bridge pushes, b"" where it pushes nothing."""
    place: Place | None = None
    """Where this process stands among the bridge's workers, if there are several."""


class _Judged:
    """Stands for the filter where another worker has asked it already about this opening."""

    def __contains__(self, ephemeral: bytes) -> bool:
        return False

    def check_and_add(self, ephemeral: bytes, made: int, unix_now: float) -> ReplayVerdict:
        """It was fresh."""
        del ephemeral, made, unix_now
        return ReplayVerdict.FRESH


class Bridge:
    """All sessions of a bridge behind one gate; ``arrival`` is the factory for its listeners."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, settings: BridgeSettings, exit_: Exit, site: Site
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.sessions: dict[bytes, BridgeTunnel] = {}
        self.totals = Totals()
        """Of carriers that have ended."""
        self._of_key: dict[bytes, int] = {}  # how many of them a key has
        self.replay: Openings = ReplayFilter(int(time.time())) if settings.replay is None else settings.replay
        self._exit: Exit = exit_
        self._rng = random.SystemRandom()
        self.on_session_over: Callable[[BridgeTunnel], None] | None = None
        """Told of a session that has just ended, before it is forgotten."""
        self._draining = False
        table = codec_table()
        self.gate = Gate(
            loop,
            [(name, table[name].reception(settings.codec_settings, self._rng)) for name in settings.codecs],
            site,
            self._make_opening,
            self._admit,
            self._find_session,
            self._confirmed,
            seal=settings.seal,
            most_undecided=settings.most_undecided,
            opening_timeout=settings.opening_timeout,
            rng=self._rng,
        )
        if TICKET_CODEC in settings.codecs:
            self._exit = BesideExit(exit_, self.gate.tickets)
        self.elsewhere = Elsewhere(loop, settings.place, self.gate) if settings.place is not None else None
        self.gate.workers = self.elsewhere
        self._memory = FreeMemory()
        self._pressure = PressureLog(settings.retention)
        self._tick = loop.call_later(VERIFY_TICK, self._on_tick)

    def arrival(self) -> Arrival:
        """The protocol of a newly accepted connection."""
        return self.gate.arrival()

    def access_changed(self) -> None:
        """The access list changed: whoever is no longer welcome leaves now."""
        for tunnel in [tunnel for tunnel in self.sessions.values() if not tunnel.closed]:
            try:
                self.settings.access.check(tunnel.public, time.time())
            except AuthenticationError as error:
                log.info("session ended", identity=tunnel.peer, why=str(error))
                tunnel.close(Reason.NOT_PERMITTED)

    @property
    def streams(self) -> int:
        """Streams open in all sessions."""
        return sum(len(tunnel.session.streams) for tunnel in self.sessions.values())

    async def stop(self, drain: float) -> None:
        """No new streams; those open may end within ``drain`` seconds, then all is closed."""
        self._draining = True
        for tunnel in list(self.sessions.values()):
            tunnel.session.send_goaway(None)
            tunnel.schedule()
        until = self.loop.time() + drain
        while self.streams and self.loop.time() < until:  # noqa: ASYNC110  (bounded, once in a process's life)
            await asyncio.sleep(DRAIN_CHECK)
        for tunnel in list(self.sessions.values()):
            tunnel.close(Reason.SHUTDOWN)
        # Streams at other workers, whose carriers came here, drain there: so long their bytes pass.
        while self.gate.passing and self.loop.time() < until:  # noqa: ASYNC110  (as above)
            await asyncio.sleep(DRAIN_CHECK)
        self._tick.cancel()
        await asyncio.sleep(DRAIN_CHECK)  # the farewells leave
        self.gate.close()
        if self.elsewhere is not None:
            self.elsewhere.close()

    # ---- what the gate asks -----------------------------------------------------------------------

    def _make_opening(self, codec: str, judged: bool) -> BridgeOpening:
        settings, replay = self.settings, _Judged() if judged else self.replay
        return BridgeOpening(settings.key, codec, settings.seal, settings.bindings, replay)

    def _admit(self, peer: PeerHello) -> Admission:
        if self._draining:
            raise AuthenticationError("the bridge is stopping")
        wanted = peer.hello.session_id
        if self.elsewhere is None or self.elsewhere.is_here(wanted):
            self._check_room(wanted)
        return self.settings.access.decide(peer.client_public, peer.hello.token, time.time())

    def _check_room(self, wanted: bytes) -> None:
        """Whether one more carrier can be, and a session, where it does not resume one."""
        sessions, carriers = self._count()
        if carriers >= self.settings.most_carriers:
            raise AuthenticationError("too many carriers")
        if sessions >= self.settings.most_sessions and wanted not in self.sessions:
            raise AuthenticationError("too many sessions")

    def _count(self) -> tuple[int, int]:
        """Sessions and carriers, those of the other workers included."""
        sessions, carriers = len(self.sessions), len(self.gate.carriers)
        if self.settings.place is None:
            return sessions, carriers
        self.settings.place.crowd.note(sessions, carriers)
        return self.settings.place.crowd.all()

    def _find_session(self, peer: PeerHello) -> Answer:
        """What to answer; a new session gets its id now and its life at CONFIRM."""
        wanted = peer.hello.session_id
        tunnel = self.sessions.get(wanted) if wanted else None
        if tunnel is not None and hmac.compare_digest(tunnel.public, peer.client_public):
            return Answer(wanted, Verdict.ATTACHED, int(time.time()), self.settings.signing_key)
        verdict = Verdict.UNKNOWN if wanted else Verdict.NEW
        if self.elsewhere is not None:
            session_id = self.elsewhere.new_session_id(self._rng, SESSION_ID)
        else:
            session_id = self._rng.randbytes(SESSION_ID)
        return Answer(session_id, verdict, int(time.time()), self.settings.signing_key)

    def _confirmed(self, opened: Opened, frames: Sequence[Buffer]) -> None:
        """CONFIRM verified: only now is anything acted on (R26)."""
        answer, carrier = opened.answer, opened.carrier
        try:
            identity = self.settings.access.spend(opened.admission, time.time())
        except AuthenticationError as error:
            carrier.end(str(error))
            return
        name = identity.name if identity is not None else ""
        tunnel = self.sessions.get(answer.session_id)
        if tunnel is None:
            if answer.verdict is Verdict.ATTACHED:
                carrier.end("its session ended meanwhile")
                return
            public = opened.peer.client_public
            most = -(-MOST_OF_ONE_KEY // (1 if self.settings.place is None else self.settings.place.count))
            if self._of_key.get(public, 0) >= most:
                carrier.end("too many sessions of one key")
                return
            session = BridgeSession(self.session_limits(), self.settings.retention, self.loop.time())
            tunnel = self.make_tunnel(session, answer.session_id, public, name)
            log.info("session open", identity=tunnel.peer, codec=carrier.codec_name)
        follow = getattr(carrier.codec, "follow", None)
        traffic = class_of(opened.peer.hello.traffic)
        if follow is not None and traffic:
            follow(self.settings.shape[traffic])
        tunnel.attach(opened, self.settings.key, frames)

    # ---- another process goes on (tunnel.handover) ---------------------------------------------------

    def stand_still(self) -> None:
        """Nobody is admitted and every carrier ends, until :meth:`go_on`; sessions and streams are left."""
        self._draining = True
        self._tick.cancel()
        for tunnel in list(self.sessions.values()):
            tunnel.leave_carriers()
        self.gate.stand_still()

    def go_on(self) -> None:
        """Clients are admitted, as at the start."""
        self._draining = False
        self._tick.cancel()
        self._tick = self.loop.call_later(VERIFY_TICK, self._on_tick)
        self.access_changed()

    def make_tunnel(
        self, session: BridgeSession, session_id: bytes, public: bytes, name: str
    ) -> BridgeTunnel:
        """A session's tunnel, among the others from now on."""
        tunnel = BridgeTunnel(
            self.loop, session, session_id, public, name, self._exit,
            self._session_over, self.gate.forget, self.settings.linger,
        )  # fmt: skip
        tunnel.totals = self.totals
        self.sessions[session_id] = tunnel
        self._of_key[public] = self._of_key.get(public, 0) + 1
        return tunnel

    def session_limits(self) -> Limits:
        """The limits of one session."""
        return replace(self.settings.limits, acknowledge_within=self._rng.uniform(*ACKNOWLEDGE_WITHIN))

    def _session_over(self, tunnel: BridgeTunnel) -> None:
        if self.on_session_over is not None:
            self.on_session_over(tunnel)
        if self.sessions.pop(tunnel.session_id, None) is not None:
            self._of_key[tunnel.public] -= 1
            if not self._of_key[tunnel.public]:
                del self._of_key[tunnel.public]

    def forget_sessions(self) -> None:
        """They are another process's."""
        self.sessions.clear()
        self._of_key.clear()

    def _on_tick(self) -> None:
        self._tick = self.loop.call_later(VERIFY_TICK, self._on_tick)
        now = self.loop.time()
        for tunnel in list(self.sessions.values()):
            tunnel.sweep(now, self.settings.idle, self.settings.half_open)
            if tunnel.verified:
                tunnel.verify_due(now)
        self.gate.sweep(now)
        self._memory.give_back(1 if self.settings.retention.under_pressure else BUSY_CALLS)
        self._pressure.look(self.sessions)
        self._count()
        self.access_changed()  # an identity may also have expired
