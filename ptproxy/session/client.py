"""The client: it numbers carriers, binds streams, notices dead carriers (R2, R12, R14, R15, R19, R20)."""

from __future__ import annotations

from ptproxy.errors import LocalProtocolError, Reason, SessionError
from ptproxy.session.budget import RetentionBudget
from ptproxy.session.carrier import Carrier
from ptproxy.session.events import CarrierGivenUp, CarrierSuspected, Event, StreamReset
from ptproxy.session.frames import BIND, MOVE, Frame
from ptproxy.session.intervals import Intervals
from ptproxy.session.limits import Limits, SessionExhausted
from ptproxy.session.session import Session
from ptproxy.session.stream import Stream


class ClientSession(Session):
    """A client's end of a session. It survives the bridge's forgetting: see :meth:`session_lost`."""

    first_id = 2

    def __init__(
        self, limits: Limits | None = None, retention: RetentionBudget | None = None, now: float = 0.0
    ) -> None:
        super().__init__(limits, retention, now)
        self._next_carrier = 1
        self._pending: dict[int, tuple[int, ...]] = {}  # numbers given out, with the ALIVE said for each

    # ---- carriers (R2) -----------------------------------------------------------------------

    def next_carrier(self) -> tuple[int, tuple[int, ...]]:
        """R2: a new carrier's number, and ALIVE: the lower ones still used or being opened.

        It ends with :meth:`attach_carrier`, or with ``carrier_lost`` when the opening
        fails. Raises :class:`SessionExhausted` when too many are alive.
        """
        alive = tuple(sorted((*self.carriers, *self._pending)))
        if len(alive) >= self.limits.max_carriers or self.closed:
            raise SessionExhausted("too many carriers are alive")
        number = self._next_carrier
        self._next_carrier += 1
        self._pending[number] = alive
        return number, alive

    def make_room(self, now: float) -> list[Event]:
        """R2: where all places are taken, give up the carrier that is missed least, for one to be dialled.

        Carriers may fall silent one after the other, those that carry nothing
        without anybody noticing (R20). The longest silent suspect one goes, or
        else the longest silent of those that no stream is on.
        """
        if len(self.carriers) + len(self._pending) >= self.limits.max_carriers:
            given_up = [carrier for carrier in self.carriers.values() if carrier.suspect]
            given_up = given_up or [carrier for carrier in self.carriers.values() if not carrier.streams]
            if given_up:
                self._close(min(given_up, key=lambda carrier: carrier.proved_at), now)
        return self._take_events()

    def attach_carrier(self, number: int, now: float) -> list[Event]:
        """R2, R12: an opening has succeeded: streams without a carrier, or on a suspect one, bind here."""
        alive = self._pending.pop(number, None)
        if alive is None:
            raise LocalProtocolError(f"carrier {number} was not expected")
        carrier = self._new_carrier(number, now)
        for other in alive:
            if other not in self.carriers and other not in self._pending:
                carrier.closed[other] = None
                self._mark(carrier)
        for stream in sorted(self.streams.values(), key=_moved_since_bound):
            old = self.carriers.get(stream.carrier) if stream.carrier is not None else None
            if old is None or old.suspect:
                self._rebind(stream, carrier, now)
            elif stream.draining and self.carriers[stream.draining].suspect:
                self._drain_broken(stream, now)
            elif old.leaving:
                self.drain(stream, number, now)
        for old in self.carriers.values():
            if old.leaving:
                self._arm(now + self.limits.suspect_after)
            if old.suspect:
                carrier.replaces[old.number] = None
                carrier.ping_due = True
                self._mark(carrier)
        return self._take_events()

    def carrier_lost(self, number: int, now: float) -> list[Event]:
        """R2: this side regards a carrier as dead, or its opening failed."""
        if self._pending.pop(number, None) is not None:
            self._dead.add(number)
            self._announce_closed(number)
        return super().carrier_lost(number, now)

    def _carrier_died(self, stream: Stream, carrier: Carrier, now: float) -> None:
        """R11, R12: bind the stream to another carrier, or to the next that comes."""
        del carrier
        other = self._choose_carrier()
        if other is None:
            self._place(stream, None)
            self._rewind(stream)
        else:
            self._rebind(stream, other, now)

    def _receive_closed(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R2: the bridge regards a carrier as dead."""
        del carrier
        number = frame[1]
        dead = self.carriers.get(number)
        if number >= self._next_carrier:
            raise SessionError("CLOSED of a carrier that never was")
        if dead is not None:
            self._give_up(dead, now)
            self._events.append(CarrierGivenUp(number))
        elif self._pending.pop(number, None) is not None:
            self._dead.add(number)
            self._events.append(CarrierGivenUp(number))

    # ---- binding (R12, R14, R15) -------------------------------------------------------------

    def bind(self, stream: Stream, carrier: int, now: float) -> None:
        """R12: move a stream at once; what is not acknowledged is sent again on the new carrier.

        Does nothing while a BIND is owed (R14), nor for the carrier it has, nor for one that is suspect
        or to be left (R20, R25).
        """
        self._now = now
        if self._may_move(stream, carrier):
            self._rebind(stream, self.carriers[carrier], now)

    def drain(self, stream: Stream, carrier: int, now: float) -> None:
        """R15: move a stream without repeating anything: silent until all is acknowledged on the old carrier.

        A second move while draining, or an OPEN not yet acknowledged, rewinds as :meth:`bind`.
        """
        self._now = now
        if not self._may_move(stream, carrier):
            return
        old = stream.carrier
        if old is None or stream.draining or not stream.open_acknowledged:
            self._rebind(stream, self.carriers[carrier], now)
            return
        new = self.carriers[carrier]
        self._place(stream, carrier)
        stream.generation += 1
        if stream.acknowledged < stream.sent:
            stream.draining = old
        self._window_due(stream)
        self._owe_bind(stream, new, MOVE)
        self._owe_opened(stream)
        self._wake(stream, now)

    def _may_move(self, stream: Stream, number: int) -> bool:
        """R14, R25: no voluntary move while a BIND is owed, nor to a carrier that is to be left."""
        carrier = self.carriers.get(number)
        if carrier is None:
            raise LocalProtocolError(f"carrier {number} is not alive")
        if carrier.suspect or carrier.leaving:
            return False
        return not (stream.over or stream.finished or stream.binds or stream.carrier == number)

    def _rebind(self, stream: Stream, carrier: Carrier, now: float) -> None:
        """R12: generation + 1 on ``carrier``, sent := acknowledged; an OPEN not acknowledged is the BIND."""
        unacknowledged = stream.high - stream.acknowledged
        stream.moved_before = stream.acknowledged + stream.received
        if stream.carrier != carrier.number or stream.queue is not None:
            self._place(stream, carrier.number)
        stream.generation += 1
        self._rewind(stream)
        if stream.open_acknowledged:
            stream.held = unacknowledged > self.limits.resend_wait
            self._owe_bind(stream, carrier, BIND)
        self._owe_opened(stream)
        self._wake(stream, now)

    def _owe_bind(self, stream: Stream, carrier: Carrier, kind: int) -> None:
        """R12: BIND or MOVE goes out on ``carrier``."""
        stream.binds |= carrier.bit
        carrier.binds[stream.id] = kind
        self._mark(carrier)

    def _opened_elsewhere(self, stream: Stream, now: float) -> None:
        """R11, R12: instead of the OPEN a BIND tells of the carrier."""
        del now
        if stream.carrier is not None:
            self._owe_bind(stream, self.carriers[stream.carrier], BIND)

    def _receive_ask(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R14: every ASK is answered, whatever came before: by BIND here, or GONE."""
        _, number, received, limit = frame
        stream = self._stream(number)
        if stream is None:
            self._answer_forgotten(carrier, number)
            return
        self._answer_ask(stream, carrier, now)
        self._take_window(stream, carrier, received, limit, now)

    def _answer_ask(self, stream: Stream, carrier: Carrier, now: float) -> None:
        """R14: BIND on the carrier of the question; the stream moves there if it is not there."""
        if stream.carrier == carrier.number:
            self._owe_bind(stream, carrier, BIND)
            self._owe_opened(stream)
        else:
            self._rebind(stream, carrier, now)

    def _bound_by_open(self, stream: Stream, carrier: Carrier, generation: int, now: float) -> None:
        """R6: the bridge repeats its OPEN where it sends now: that asks for a BIND there."""
        del generation
        if stream.carrier != carrier.number:
            self._answer_ask(stream, carrier, now)

    def _receive_bind(self, carrier: Carrier, frame: Frame, now: float) -> None:
        del carrier, frame, now
        raise SessionError("BIND from a bridge")

    # ---- leaving (R25) -----------------------------------------------------------------------

    def _leave(self, carrier: Carrier, now: float) -> None:
        """R25: streams move to another carrier, now or when one comes."""
        carrier.leaving = True
        carrier.heard_at = now
        self._arm(now + self.limits.suspect_after)
        self._empty(carrier, now)

    def _empty(self, carrier: Carrier, now: float) -> None:
        """R25: what is on ``carrier`` moves away, as far as it may and there is anywhere to go."""
        other = self._choose_carrier(besides=carrier.number)
        if other is not None and not other.leaving:
            for stream in list(self.streams.values()):
                if stream.carrier == carrier.number:
                    self.drain(stream, other.number, now)

    def _close_left(self, now: float) -> None:
        """R25: a carrier that was left and has become quiet is closed."""
        for carrier in [c for c in self.carriers.values() if c.leaving]:
            if len(self.carriers) == 1 and self.streams:
                continue  # it is needed until the next one has come
            if carrier.streams:
                self._empty(carrier, now)  # those that could not move before (R14)
            quiet = now - carrier.heard_at >= self.limits.suspect_after
            if quiet and not carrier.streams and not carrier.dirty:
                self._close(carrier, now)
            else:
                self._arm(max(now, carrier.heard_at) + self.limits.suspect_after)

    def _close(self, carrier: Carrier, now: float) -> None:
        """R2: give a carrier up, say so on the others, and have its connection closed."""
        self._give_up(carrier, now)
        self._announce_closed(carrier.number)
        self._events.append(CarrierGivenUp(carrier.number))

    # ---- a session that is gone (R19) ---------------------------------------------------------

    def session_lost(self, now: float) -> list[Event]:
        """R19: the bridge does not know the session: what it ever heard of ends, the rest is carried over.

        Every stream whose OPEN left is reset with SESSION_LOST and never sent again;
        live carriers are given up. Ids and carrier numbers go on rising.
        """
        self._now = now
        for number in list(self.carriers):
            self._events.append(CarrierGivenUp(number))
            self._give_up(self.carriers[number], now)
        for stream in list(self.streams.values()):
            if self._ever_left(stream):
                if not stream.finished:
                    self._events.append(StreamReset(stream, Reason.SESSION_LOST))
                self._discard_unread(stream)
                self._drop(stream)
        self.tombstones.clear()
        self._seen = Intervals(self.limits.max_intervals)
        self._goaway_received = False
        self._pending = dict.fromkeys(self._pending, ())
        return self._take_events()

    def _ever_left(self, stream: Stream) -> bool:
        """R19: whether the bridge may have heard of a stream."""
        return stream.open_left

    # ---- half-dead carriers (R20) ------------------------------------------------------------

    def _suspect_after(self, carrier: Carrier) -> float:
        """R20: how long an answer may take: max(1 s, 4 RTT)."""
        limits = self.limits
        return max(limits.suspect_after, limits.suspect_rtts * (carrier.rtt or 0.0))

    def _watch(self, carrier: Carrier, now: float) -> None:
        """R20: something is outstanding: if it stays so, a PING tests the carrier."""
        super()._watch(carrier, now)
        self._ask_soon(carrier, now, now)
        self._arm(now + self._suspect_after(carrier))

    def _ask_soon(self, carrier: Carrier, since: float, now: float) -> None:
        """R20: a PING for what has been outstanding ``since`` then; at most two a second."""
        limits = self.limits
        if carrier.ping_at is not None or carrier.ping_due:
            return
        patience = limits.ping_after if carrier.rtt is not None else 0.0
        due = max(since + patience, carrier.pinged_at + limits.ping_interval)
        if now < due:
            self._arm(due)
        else:
            carrier.ping_due = True
            self._mark(carrier)

    def _check_carriers(self, now: float) -> None:
        """R20: carriers on which something has waited too long are suspect; R25: left ones are closed."""
        for carrier in list(self.carriers.values()):
            since = next(iter(carrier.outstanding.values()), None)
            if carrier.ping_at is not None and (since is None or carrier.ping_at < since):
                since = carrier.ping_at
            if carrier.suspect:
                self._leave_suspect(carrier, now)
                continue
            if carrier.probe_at is not None and carrier.probe_at < carrier.proved_at:
                carrier.probe_at = None
            if carrier.probe_at is not None:
                self._ask_soon(carrier, carrier.probe_at, now)
            if since is None:
                continue
            self._ask_soon(carrier, max(since, carrier.proved_at), now)
            due = max(since, carrier.proved_at) + self._suspect_after(carrier)
            if carrier.ping_at is not None:
                due = max(due, carrier.ping_at + self.limits.suspect_rtts * (carrier.rtt or 0.0))
            if now < due:
                self._arm(due)
            else:
                self._suspect(carrier, now)
        self._close_left(now)

    def _suspect(self, carrier: Carrier, now: float) -> None:
        """R20: dial beside a suspect carrier, and use a healthy one meanwhile if there is any."""
        carrier.suspect = True
        self._events.append(CarrierSuspected(carrier.number))
        self._leave_suspect(carrier, now)

    def _leave_suspect(self, carrier: Carrier, now: float) -> None:
        """R20: what is bound to a suspect carrier moves to a healthy one that has proved itself lately."""
        other = self._choose_carrier(besides=carrier.number)
        if other is None or other.suspect or carrier.number in other.replaces:
            return
        if not other.outstanding or now - other.proved_at < self._suspect_after(other):
            other.replaces[carrier.number] = None
            other.ping_due = True
            self._mark(other)
            for tombstone in self.tombstones.values():
                if tombstone.said & carrier.bit:
                    self._owe_reset(tombstone, other.number)
            for stream in list(self.streams.values()):
                if stream.carrier == carrier.number:
                    self._rebind(stream, other, now)
                elif stream.draining == carrier.number:
                    self._drain_broken(stream, now)

    def _prove(self, carrier: Carrier, now: float) -> None:
        """R20: an answer on a carrier: those it replaces and that are still silent are closed."""
        was = carrier.suspect
        super()._prove(carrier, now)
        if was:
            self._arm(now + self._suspect_after(carrier))
        if carrier.replaces:
            replaced, carrier.replaces = carrier.replaces, {}
            for number in replaced:
                old = self.carriers.get(number)
                if old is not None and old.suspect:
                    self._close(old, now)

    def _nudge(self, stream: Stream, carrier: Carrier, now: float) -> None:
        """R20: BIND once more, where the stream is now, or elsewhere if that carrier is suspect."""
        if stream.carrier is not None and not stream.binds:
            if carrier.suspect or stream.nudges > 1:
                carrier = self._choose_carrier(besides=stream.carrier) or carrier
            else:
                carrier = self.carriers[stream.carrier]
            self._rebind(stream, carrier, now)

    def _inquire(self, stream: Stream) -> None:
        """R20: the same BIND again: its answer is a WINDOW, and without one the carrier becomes suspect."""
        if stream.open_acknowledged and stream.carrier is not None and not stream.binds:
            self._owe_bind(stream, self.carriers[stream.carrier], BIND)

    def _probe(self, carrier: Carrier, now: float) -> None:
        """R20: a PING tests whether WINDOWs arrive: a client that only reads must notice too."""
        if carrier.probe_at is None:
            carrier.probe_at = now
        self._watch(carrier, now)


def _moved_since_bound(stream: Stream) -> int:
    """Bytes that the carrier it had until now was good for, to it.

    Those with the least are bound first, and so served first at both ends: where
    carriers live shorter than a round through all streams, none is left out.
    """
    return stream.acknowledged + stream.received - stream.moved_before
