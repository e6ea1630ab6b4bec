"""One client's session at the bridge: its carriers, its streams' way out, continuous verification.

A session belongs to the key that opened it. It outlives its carriers by
``linger`` seconds. Every carrier is verified again, about every ten minutes or
GiB, and at once when the access list changes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from ptproxy.auth.credentials import StaticKey, encode_key
from ptproxy.auth.verification import BridgeVerification
from ptproxy.buffer import Buffer
from ptproxy.errors import AuthenticationError, Reason, SessionError
from ptproxy.log import get_logger
from ptproxy.session import BridgeSession, events
from ptproxy.session import Stream as SessionStream
from ptproxy.target import Target, TargetError
from ptproxy.tunnel.arrival import Opened
from ptproxy.tunnel.association import TunnelAssociation
from ptproxy.tunnel.carrier import Carrier
from ptproxy.tunnel.incoming import TunnelIncoming
from ptproxy.tunnel.stream import Exit, TunnelStream
from ptproxy.tunnel.tunnel import Tunnel

VERIFY_EVERY: Final = 600.0
"""Seconds between verifications of a carrier, jittered by a fifth."""
VERIFY_BYTES: Final = 1 << 30
"""Bytes after which a carrier is verified again, whatever the time."""
PROOF_TIMEOUT: Final = 60.0
"""Seconds a client may take to answer a challenge (it may be asleep behind a full carrier)."""

log = get_logger(__name__)


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
        self._moved_before = (0, 0)  # by carriers that are gone

    def moved(self) -> tuple[int, int]:
        """Bytes of frames that came from the client and went to it, on all carriers so far."""
        up, down = self._moved_before
        for carrier in self.carriers.values():
            up += carrier.received_bytes
            down += carrier.sent_bytes
        return up, down

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
        up, down = self._moved_before
        self._moved_before = (up + carrier.received_bytes, down + carrier.sent_bytes)
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
            self._moved_before = self.moved()
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

    # ---- another process goes on (tunnel.handover) ---------------------------------------------------

    def leave_carriers(self) -> None:
        """GOAWAY on every carrier, and its end: what is not acknowledged waits for the next (R11, R25)."""
        for carrier in list(self.carriers.values()):
            self.session.send_goaway(carrier.number)
            carrier.pump()
            carrier.end("the bridge goes on in another process")

    def stand_still(self) -> None:
        """From now on nothing happens to the session, until :meth:`go_on`; it has no carriers."""
        self.closed = True
        for timer in (self._timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._linger_timer = None

    def go_on(self) -> None:
        """Time goes on, and the session lingers until a carrier comes."""
        self.closed = False
        self._linger_alone()
        self._arm()

    def offer(self, owner: TunnelStream) -> None:
        """A stream that nobody has taken goes to the exit, once more."""
        target = Target.parse(owner.state.target)
        self._exit.stream_opened(TunnelIncoming(owner, target, owner.unread[0], self.peer))

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
