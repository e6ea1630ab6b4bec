"""The bridge's end of the tunnel: its sessions, and what becomes of a confirmed carrier.

A session belongs to the key that opened it. It outlives its carriers by
``linger`` seconds; whoever presents its id with another key gets a new one, as
for an id that nobody knows. Every carrier is verified again, about every ten
minutes or GiB, and at once when the access list changes.
"""

from __future__ import annotations

import asyncio
import hmac
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from ptproxy.auth.access import Admission
from ptproxy.auth.access_record import Identity
from ptproxy.auth.binding import Binding
from ptproxy.auth.credentials import StaticKey, encode_key
from ptproxy.auth.opening import Answer, BridgeOpening, PeerHello, Verdict
from ptproxy.auth.replay import ReplayFilter
from ptproxy.auth.verification import BridgeVerification
from ptproxy.buffer import Buffer
from ptproxy.codec import codec_table
from ptproxy.codec.interface import CodecSettings
from ptproxy.codec.shape import PLAIN, Shape
from ptproxy.errors import AuthenticationError, Reason, SessionError
from ptproxy.log import get_logger
from ptproxy.session import BridgeSession, Limits, RetentionBudget, events
from ptproxy.session import Stream as SessionStream
from ptproxy.target import Target, TargetError
from ptproxy.tunnel.association import TunnelAssociation
from ptproxy.tunnel.carrier import Carrier
from ptproxy.tunnel.gate import Arrival, Gate, Opened
from ptproxy.tunnel.incoming import TunnelIncoming
from ptproxy.tunnel.memory import FreeMemory
from ptproxy.tunnel.placement import class_of
from ptproxy.tunnel.stream import Exit, Site, TunnelStream
from ptproxy.tunnel.tunnel import Tunnel

VERIFY_EVERY: Final = 600.0
"""Seconds between verifications of a carrier, jittered by a fifth."""
VERIFY_BYTES: Final = 1 << 30
"""Bytes after which a carrier is verified again, whatever the time."""
VERIFY_TICK: Final = 5.0
"""Seconds between looks at who is due."""
PROOF_TIMEOUT: Final = 60.0
"""Seconds a client may take to answer a challenge (it may be asleep behind a full carrier)."""
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
    replay: ReplayFilter | None = None
    shape: Shape = PLAIN
    """What carriers follow whose clients say what they are going to carry."""
    signing_key: bytes = b""
    """The public key that signs what the bridge pushes, b"" where it pushes nothing."""


class BridgeCarrierState:
    """What the bridge keeps about a confirmed carrier: when it was last verified."""

    __slots__ = ("bytes_then", "due", "verification", "waiting_since")

    def __init__(self, verification: BridgeVerification, due: float) -> None:
        self.verification = verification
        self.due = due
        self.bytes_then = 0
        self.waiting_since: float | None = None


class BridgeTunnel(Tunnel):
    """One client's session at the bridge."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, session: BridgeSession, session_id: bytes, public: bytes,
        name: str, exit_: Exit, over: Callable[[BridgeTunnel], None],
        carrier_over: Callable[[Carrier], None], linger: float, verify_every: float = VERIFY_EVERY,
    ) -> None:  # fmt: skip
        super().__init__(session, loop)
        self.bridge_session = session
        self.session_id = session_id
        self.public = public
        self.peer = name or encode_key(public)[:8]
        self.verified: dict[int, BridgeCarrierState] = {}
        self.verify_every = verify_every
        self._exit = exit_
        self._over = over
        self._carrier_over = carrier_over
        self._linger = linger
        self._linger_timer: asyncio.TimerHandle | None = None
        self._rng = random.SystemRandom()

    def attach(self, opened: Opened, key: StaticKey, frames: Sequence[Buffer]) -> None:
        """A confirmed carrier joins; ``frames`` came with its confirmation."""
        carrier, hello = opened.carrier, opened.peer.hello
        carrier.session = self.session
        carrier.on_end = self._carrier_end
        try:
            happened = self.bridge_session.attach_carrier(carrier.number, hello.alive, self.now())
        except SessionError as error:
            carrier.end(str(error))
            self._linger_alone()  # it may have been the first one of a new session
            return
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
        carrier.live = True
        carrier.on_payload = self.received
        self.carriers[carrier.number] = carrier
        keys = opened.opening.keys
        verification = BridgeVerification(key, self.public, keys.handshake_hash, self._rng)
        self.verified[carrier.number] = BridgeCarrierState(verification, self._next_due())
        log.debug("carrier confirmed", carrier=carrier.number, codec=carrier.codec_name, identity=self.peer)
        self.dispatch(happened)
        for data in frames:
            self.received(carrier, data)
        self.schedule()

    def _carrier_end(self, carrier: Carrier, reason: str) -> None:
        self._carrier_over(carrier)
        self.carrier_lost(carrier, reason)

    def carrier_ended(self, carrier: Carrier) -> None:
        """Without carriers the session lingers for a while."""
        self._carrier_over(carrier)
        self.verified.pop(carrier.number, None)
        self._linger_alone()

    def _linger_alone(self) -> None:
        if not self.carriers and not self.closed and self._linger_timer is None:
            self._linger_timer = self.loop.call_later(self._linger, self.close, Reason.CONNECTION_LOST)

    def close(self, reason: Reason = Reason.SHUTDOWN) -> None:
        """The session is over; a client that still listens is told why, stream by stream."""
        if not self.closed:
            carriers = list(self.carriers.values())
            self.farewell(reason)
            super().close(reason)
            if self._linger_timer is not None:
                self._linger_timer.cancel()
            for carrier in carriers:
                self._carrier_over(carrier)
            self._over(self)

    # ---- streams --------------------------------------------------------------------------------

    def stream_opened(self, stream: SessionStream, first_data: Buffer) -> None:
        """The client opened a stream: it is the exit's to dial."""
        try:
            target = Target.parse(stream.target)
        except TargetError:
            stream.reset(Reason.UNSUPPORTED, self.now())
            return
        if stream.is_association != (target.kind == "datagrams"):
            stream.reset(Reason.UNSUPPORTED, self.now())
            return
        owner: TunnelStream | TunnelAssociation
        if stream.is_association:
            owner = TunnelAssociation(self, None)
        else:
            owner = TunnelStream(self, None)
            if first_data:
                owner.deliver(first_data)
        owner.state = stream
        stream.owner = owner
        self._exit.stream_opened(TunnelIncoming(owner, target, bytes(first_data), self.peer))

    # ---- verification ------------------------------------------------------------------------------

    def verify_due(self, now: float) -> None:
        """Challenge the carriers that are due; close those that never answered."""
        for number, state in list(self.verified.items()):
            carrier = self.carriers.get(number)
            if carrier is None:
                self.verified.pop(number)
            elif state.waiting_since is not None:
                if now - state.waiting_since > PROOF_TIMEOUT:
                    carrier.end("no proof of identity")
            else:
                moved = carrier.sent_bytes + carrier.received_bytes
                if now >= state.due or moved - state.bytes_then >= VERIFY_BYTES:
                    state.waiting_since, state.bytes_then = now, moved
                    self.session.send_challenge(number, state.verification.challenge())
                    self.schedule()

    def carrier_event(self, event: Any) -> None:
        """Proofs and farewells."""
        if type(event) is events.ProofReceived:
            state = self.verified.get(event.carrier)
            carrier = self.carriers.get(event.carrier)
            if state is None or carrier is None:
                return
            try:
                state.verification.check(bytes(event.data))
            except AuthenticationError as error:
                log.warning("a carrier's proof does not verify", identity=self.peer, why=str(error))
                carrier.end("its proof does not verify")
                return
            state.waiting_since = None
            state.due = self._next_due()

    def _next_due(self) -> float:
        return self.now() + self.verify_every * self._rng.uniform(0.8, 1.2)


class Bridge:
    """All sessions of a bridge behind one gate; ``arrival`` is the factory for its listeners."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, settings: BridgeSettings, exit_: Exit, site: Site
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.sessions: dict[bytes, BridgeTunnel] = {}
        self.replay = settings.replay or ReplayFilter(int(time.time()))
        self._exit = exit_
        self._rng = random.SystemRandom()
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
        self._memory = FreeMemory()
        self._tick = loop.call_later(VERIFY_TICK, self._on_tick)

    def arrival(self) -> Arrival:
        """The protocol of a newly accepted connection."""
        return self.gate.arrival()

    def access_changed(self) -> None:
        """The access list changed: whoever is no longer welcome leaves now."""
        for tunnel in list(self.sessions.values()):
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
        self._tick.cancel()
        await asyncio.sleep(DRAIN_CHECK)  # the farewells leave
        self.gate.close()

    # ---- what the gate asks -----------------------------------------------------------------------

    def _make_opening(self, codec: str) -> BridgeOpening:
        settings = self.settings
        return BridgeOpening(settings.key, codec, settings.seal, settings.bindings, self.replay)

    def _admit(self, peer: PeerHello) -> Admission:
        if self._draining:
            raise AuthenticationError("the bridge is stopping")
        if len(self.gate.carriers) >= self.settings.most_carriers:
            raise AuthenticationError("too many carriers")
        if len(self.sessions) >= self.settings.most_sessions and peer.hello.session_id not in self.sessions:
            raise AuthenticationError("too many sessions")
        return self.settings.access.decide(peer.client_public, peer.hello.token, time.time())

    def _find_session(self, peer: PeerHello) -> Answer:
        """What to answer; a new session gets its id now and its life at CONFIRM."""
        wanted = peer.hello.session_id
        tunnel = self.sessions.get(wanted) if wanted else None
        if tunnel is not None and hmac.compare_digest(tunnel.public, peer.client_public):
            return Answer(wanted, Verdict.ATTACHED, int(time.time()), self.settings.signing_key)
        verdict = Verdict.UNKNOWN if wanted else Verdict.NEW
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
            if sum(known.public == public for known in self.sessions.values()) >= MOST_OF_ONE_KEY:
                carrier.end("too many sessions of one key")
                return
            within = self._rng.uniform(*ACKNOWLEDGE_WITHIN)
            limits = replace(self.settings.limits, acknowledge_within=within)
            session = BridgeSession(limits, self.settings.retention, self.loop.time())
            tunnel = BridgeTunnel(
                self.loop, session, answer.session_id, opened.peer.client_public, name, self._exit,
                self._session_over, self.gate.forget, self.settings.linger,
            )  # fmt: skip
            self.sessions[answer.session_id] = tunnel
            log.info("session open", identity=tunnel.peer, codec=carrier.codec_name)
        follow = getattr(carrier.codec, "follow", None)
        traffic = class_of(opened.peer.hello.traffic)
        if follow is not None and traffic:
            follow(self.settings.shape[traffic])
        tunnel.attach(opened, self.settings.key, frames)

    def _session_over(self, tunnel: BridgeTunnel) -> None:
        self.sessions.pop(tunnel.session_id, None)

    def _on_tick(self) -> None:
        self._tick = self.loop.call_later(VERIFY_TICK, self._on_tick)
        now = self.loop.time()
        for tunnel in list(self.sessions.values()):
            tunnel.sweep(now, self.settings.idle, self.settings.half_open)
            if tunnel.verified:
                tunnel.verify_due(now)
        self.gate.sweep(now)
        self._memory.give_back()
        self.access_changed()  # an identity may also have expired
