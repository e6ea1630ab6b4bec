"""A session as both sides have it: opening streams, lost carriers, time (R2, R11, R20, R21, R25)."""

from __future__ import annotations

from math import inf

from ptproxy.errors import LocalProtocolError, Reason
from ptproxy.session.budget import HASTE
from ptproxy.session.carrier import Carrier
from ptproxy.session.events import Event, StreamReset
from ptproxy.session.frames import CHALLENGE, MAX_OPAQUE, MAX_TARGET, PROOF, Frame
from ptproxy.session.limits import SessionExhausted
from ptproxy.session.receiving import Receiving
from ptproxy.session.stream import Stream


class Session(Receiving):
    """Streams between a client and a bridge that outlive every connection.

    Call order: whatever arrives goes into :meth:`receive_data`; the events it
    returns are dealt with; then every carrier in :attr:`ready` is drained with
    :meth:`data_to_send`, as every call here and on a stream may have made
    something to send. :meth:`deadline` says when :meth:`on_deadline` is due.
    """

    # ---- opening (R3, R6) --------------------------------------------------------------------

    def open_stream(self, target: bytes, first_data: bytes, now: float, carrier: int | None = None) -> Stream:
        """Open a stream to ``target`` (wire form, at most 512 bytes); ``first_data`` rides in the OPEN.

        It goes to ``carrier``, or to the live one with the fewest streams, or waits
        for the next. Raises :class:`SessionExhausted` when too many streams are open
        or the ids are used up, :class:`~ptproxy.errors.LocalProtocolError` after
        GOAWAY or :meth:`close`.
        """
        stream = self._new_stream(target, now, carrier)
        stream.limit = self.limits.initial_window
        self._set_window(stream, self._first_window())
        if first_data:
            self.send_stream_data(stream, first_data, now)
        return stream

    def open_association(self, target: bytes, now: float, carrier: int | None = None) -> Stream:
        """R23: open an association, which carries datagrams only. Raises as :meth:`open_stream`."""
        stream = self._new_stream(target, now, carrier)
        stream.is_association = True
        return stream

    def _new_stream(self, target: bytes, now: float, number: int | None) -> Stream:
        self._now = now
        limits = self.limits
        if self.closed or self._goaway_received or self._goaway_sent:
            raise LocalProtocolError("no new streams after GOAWAY or close")
        if len(target) > min(limits.max_target, MAX_TARGET):
            raise LocalProtocolError("no target is that long")
        if len(self.streams) + self._unread_over >= limits.max_streams:
            raise SessionExhausted("too many streams are open")
        if len(self.tombstones) >= limits.max_tombstones:
            raise SessionExhausted("too many resets are unanswered")
        if self._next_id > limits.max_stream_id:
            self.send_goaway(None)
            raise SessionExhausted("the session's stream ids are used up")
        carrier = self.carriers.get(number) if number is not None else None
        if carrier is None or carrier.suspect or carrier.leaving:
            carrier = self._choose_carrier()
        stream = Stream(self, self._next_id, target, True, now)
        self._next_id += 2
        self.streams[stream.id] = stream
        if carrier is not None:
            self._place(stream, carrier.number)
            self._wake(stream, now)
        return stream

    @property
    def idle(self) -> bool:
        """No streams, no tombstones, nothing owed on a live carrier."""
        return not (self.streams or self.tombstones or any(c.owes for c in self.carriers.values()))

    # ---- words on a carrier ------------------------------------------------------------------

    def send_challenge(self, carrier: int, data: bytes) -> None:
        """Send an opaque CHALLENGE (1 to 1,024 bytes) on one carrier; lost if that dies."""
        self._send_opaque(carrier, CHALLENGE, data)

    def send_proof(self, carrier: int, data: bytes) -> None:
        """Send an opaque PROOF (1 to 1,024 bytes) on one carrier; lost if that dies."""
        self._send_opaque(carrier, PROOF, data)

    def _send_opaque(self, number: int, kind: int, data: bytes) -> None:
        if not 0 < len(data) <= MAX_OPAQUE:
            raise LocalProtocolError("a challenge or proof has 1 to 1024 bytes")
        carrier = self.carriers.get(number)
        if carrier is not None:
            if len(carrier.opaque) >= self.limits.max_opaque:
                raise LocalProtocolError("too many challenges wait")
            carrier.opaque.append((kind, data))
            self._mark(carrier)

    def send_goaway(self, carrier: int | None) -> None:
        """R25: no new streams on ``carrier`` and those there move away, or (None) none in this session."""
        if carrier is None:
            self._goaway_sent = True
            for live in self.carriers.values():
                self._owe_goaway(live, 0)
        elif carrier in self.carriers:
            leaving = self.carriers[carrier]
            self._owe_goaway(leaving, carrier)
            self._leave(leaving, self._now)

    def _owe_goaway(self, carrier: Carrier, number: int) -> None:
        carrier.goaways[number] = None
        self._mark(carrier)

    # ---- carriers that come and go (R2, R9, R11) ----------------------------------------------

    def _new_carrier(self, number: int, now: float) -> Carrier:
        """A carrier is live from now on."""
        self._now = now
        carrier = Carrier(number, self._free_bits.pop(), now)
        self.carriers[number] = carrier
        self.account.adrift = False
        if self._goaway_sent:
            self._owe_goaway(carrier, 0)
        for other in self._closed_lately:
            if other > number:  # ALIVE says nothing of these, and CLOSED may have been lost
                carrier.closed[other] = None
                self._mark(carrier)
        healthy = [c for c in self.carriers.values() if not c.suspect]
        for tombstone in self.tombstones.values():
            tombstone.nudged = False
            if not any(tombstone.said & c.bit or tombstone.id in c.resets for c in healthy):
                self._owe_reset(tombstone, number)
        for stream in self.streams.values():
            if stream.nudges:
                stream.nudges = 0
                self._arm_net(now + self.limits.safety_net)
        return carrier

    def carrier_lost(self, number: int, now: float) -> list[Event]:
        """R2: this side regards a carrier as dead: the peer is told, its streams are bound elsewhere."""
        self._now = now
        carrier = self.carriers.get(number)
        if carrier is not None:
            self._give_up(carrier, now)
            self._announce_closed(number)
        return self._take_events()

    def _announce_closed(self, number: int) -> None:
        """R2: CLOSED on every live carrier, and on those with lower numbers that are still to come."""
        self._closed_lately.append(number)
        for carrier in self.carriers.values():
            carrier.closed[number] = None
            self._mark(carrier)

    def _give_up(self, carrier: Carrier, now: float) -> None:
        """R2, R9, R11: read and write a carrier no more; what was unacknowledged or owed there moves."""
        number = carrier.number
        del self.carriers[number]
        self.ready.discard(number)
        self._dead.add(number)
        self.account.adrift = not self.carriers
        for stream in list(self.streams.values()):
            lost = self._move_debt(stream, carrier)
            stream.binds &= ~carrier.bit
            if stream.finished and stream.carrier == number:
                self._place(stream, None)
            elif stream.carrier == number:
                self._carrier_died(stream, carrier, now)
            elif stream.draining == number:
                self._drain_broken(stream, now)
            if lost and stream.carrier is not None:
                self._owe_window(stream, self.carriers[stream.carrier])
            self._forget_if_over(stream)
        for tombstone in self.tombstones.values():
            self._repeat_reset(tombstone, carrier)
        self._free_bits.append(carrier.bit)

    def _drain_broken(self, stream: Stream, now: float) -> None:
        """R15: the old carrier died while its bytes were awaited: rewind."""
        self._rewind(stream)
        self._wake(stream, now)

    def _carrier_died(self, stream: Stream, carrier: Carrier, now: float) -> None:
        """R11, R12, R14: the stream's own carrier died."""
        raise NotImplementedError

    # ---- time (R8, R14, R20, R21) ------------------------------------------------------------

    def on_deadline(self, now: float) -> list[Event]:
        """Time has come: late acknowledgements, silent carriers, the safety net, the budget."""
        self._now = now
        if self.closed or now < self._deadline:
            return []
        self._deadline = inf
        self._acknowledge_late(now)
        self._check_carriers(now)
        if now >= self._net_at:
            self._net_at = inf
            self._safety_net(now)
        elif self._net_at < inf:
            self._arm(self._net_at)
        self._check_budget(now)
        return self._take_events()

    def _check_carriers(self, now: float) -> None:
        """R14, R20: what only one of the sides looks at."""
        raise NotImplementedError

    def _prove(self, carrier: Carrier, now: float) -> None:
        carrier.proved_at = now
        carrier.suspect = False

    def _watch(self, carrier: Carrier, now: float) -> None:
        del carrier
        self._arm_net(now + self.limits.safety_net)

    def _receive_pong(self, carrier: Carrier, frame: Frame, now: float) -> None:
        if carrier.ping_at is not None and frame[1] == carrier.ping_value:
            carrier.rtt = now - carrier.ping_at
            carrier.ping_at = None
            self._prove(carrier, now)

    def _safety_net(self, now: float) -> None:
        """R20: what is unacknowledged without progress for 10 s is said once more; it is idempotent."""
        patience = self.limits.safety_net
        for carrier in list(self.carriers.values()):
            for number, since in list(carrier.outstanding.items()):
                stream = self.streams[number]
                if stream.nudges >= len(self.carriers):
                    continue  # every carrier has been tried: only a new one can help
                if since + patience > now:
                    self._arm_net(since + patience)
                    break
                stream.nudges += 1
                self._nudge(stream, carrier, now)
        for number, until in list(self._waiting.items()):
            if until <= now:
                stream = self.streams[number]
                stream.patience = min(2 * stream.patience, 8)
                self._waiting[number] = now + stream.patience * patience
                self._inquire(stream)
            self._arm_net(self._waiting[number])
        for tombstone in self.tombstones.values():
            if tombstone.said and not tombstone.nudged:
                if tombstone.said_at + patience > now:
                    self._arm_net(tombstone.said_at + patience)
                else:
                    tombstone.nudged = True
                    for carrier in self.carriers.values():
                        self._owe_reset(tombstone, carrier.number)

    def _inquire(self, stream: Stream) -> None:
        """R20: ask the peer to say OPENED and WINDOW once more; each time the wait doubles."""
        raise NotImplementedError

    def _nudge(self, stream: Stream, carrier: Carrier, now: float) -> None:
        """R20: BIND (client) or ASK (bridge) once more."""
        raise NotImplementedError

    def _check_budget(self, now: float) -> None:
        """R21: streams that wait for room look again; a session that blocks a full budget is reset."""
        limits = self.limits
        account = self.account
        if self._blocked:
            self._unblock_some()
            if self._blocked:
                for stream in list(self._blocked.values()):
                    self._press_for(stream)
                self._arm(now + limits.budget_poll)
        if account.retained:
            if account.is_victim(now, limits.pressure_time):
                account.budget.ended += 1
                for stream in [s for s in self.streams.values() if not s.finished]:
                    self._events.append(StreamReset(stream, Reason.LIMIT))
                    self.reset_stream(stream, Reason.LIMIT, now)
            else:
                since, patience = account.progress_at, limits.pressure_time
                looks = since + patience / HASTE, since + patience, now + patience / 4
                self._arm(min(look for look in looks if look > now))
