"""The bridge's side: it follows the client's bindings and asks when it has none (R2, R12, R14, R15)."""

from __future__ import annotations

from typing import Final

from ptproxy.buffer import Buffer, SendBuffer
from ptproxy.errors import LocalProtocolError, SessionError, StateError
from ptproxy.session import handover
from ptproxy.session.budget import HASTE, RetentionBudget
from ptproxy.session.carrier import Carrier
from ptproxy.session.events import CarrierGivenUp, Event
from ptproxy.session.frames import BIND, MOVE, Frame
from ptproxy.session.handover import SessionRecord, StreamRecord
from ptproxy.session.limits import Limits
from ptproxy.session.session import Session
from ptproxy.session.stream import Stream, Tombstone

CHUNK: Final = 256 * 1024
"""Bytes of a piece of what is taken over: as much as is read at once."""


class BridgeSession(Session):
    """A bridge's end of a session."""

    first_id = 3

    # ---- another process goes on ---------------------------------------------------------------

    def to_record(self) -> SessionRecord:
        """All there is of a session without carriers; it is left as it was.

        What was delivered counts as received, read or not: the bytes that the
        application has not taken are the application's to hand over. Raises
        :class:`~ptproxy.errors.LocalProtocolError` while a carrier is alive, or after :meth:`close`.
        """
        if self.carriers or self.closed:
            raise LocalProtocolError("only a session without carriers is handed over")
        sent, received = self._goaway_sent, self._goaway_received
        return SessionRecord(
            self._next_id,
            handover.GOAWAY_SENT * sent | handover.GOAWAY_RECEIVED * received,
            self._seen.ranges,
            self._dead.ranges,
            list(self._closed_lately),
            [(tombstone.id, tombstone.code) for tombstone in self.tombstones.values()],
            [_to_record(stream) for _, stream in sorted(self.streams.items())],
        )

    @classmethod
    def from_record(
        cls, record: SessionRecord, limits: Limits, retention: RetentionBudget | None, now: float
    ) -> BridgeSession:
        """The session of a record, with the same ids; the streams' owners are the caller's to set.

        Raises :class:`~ptproxy.errors.StateError` for one that is more than ``limits`` can ever let be.
        """
        if max(len(record.seen), len(record.dead)) > limits.max_intervals:
            raise StateError("a session that is handed over has more gaps than its limits allow")
        session = cls(limits, retention, now)
        session._next_id = record.next_id
        session._goaway_sent = bool(record.flags & handover.GOAWAY_SENT)
        session._goaway_received = bool(record.flags & handover.GOAWAY_RECEIVED)
        for intervals, ranges in ((session._seen, record.seen), (session._dead, record.dead)):
            for interval in ranges:
                intervals.add_range(*interval)
        session._closed_lately.extend(record.closed_lately)
        for number, code in record.tombstones:
            session.tombstones[number] = Tombstone(number, code, now)
        for kept in record.streams:
            session._take_over(kept, now)
        return session

    def _take_over(self, record: StreamRecord, now: float) -> None:
        """A stream of a record: without a carrier, rewound, its clocks new."""
        stream = Stream(self, record.id, record.target, self._is_local(record.id), now)
        flags = record.flags
        stream.is_association = bool(flags & handover.ASSOCIATION)
        stream.accepted = bool(flags & handover.ACCEPTED)
        stream.open_acknowledged = stream.open_sent = bool(flags & handover.OPEN_ACKNOWLEDGED)
        stream.open_left = bool(flags & handover.OPEN_LEFT)
        stream.blocked = bool(flags & handover.BLOCKED)
        stream.generation = record.generation
        stream.acknowledged = stream.sent = record.acknowledged
        stream.high, stream.limit, stream.final = record.high, record.limit, record.final
        stream.received, stream.granted = record.received, record.granted
        stream.read = stream.window_mark = record.read
        stream.peer_final, stream.said_received = record.peer_final, record.said_received
        self.streams[stream.id] = stream
        self._granted_unread += stream.granted - stream.read
        self._set_window(stream, record.window)
        stream.buffer = SendBuffer(record.start)
        for at in range(0, len(record.data), CHUNK):  # one chunk would be kept until all of it had arrived
            stream.buffer.append(record.data[at : at + CHUNK])
        if record.data:
            self.account.keep(len(record.data), now)
            self._arm(now + self.limits.pressure_time / HASTE)
        if stream.blocked:  # nobody else tells its source to go on
            self._blocked[stream.id] = stream
            self._arm(now + self.limits.budget_poll)
        starved = stream.buffer.end > stream.limit or (
            stream.blocked and stream.limit - stream.acknowledged <= stream.retained
        )
        if starved or (stream.local and stream.open_left and not stream.accepted):
            self._await(stream)

    # ---- carriers (R2) -----------------------------------------------------------------------

    def attach_carrier(self, number: int, alive: tuple[int, ...], now: float) -> list[Event]:
        """R2: an authenticated carrier, and the lower numbers the client still uses.

        Lower ones that it does not name are given up. Raises
        :class:`~ptproxy.errors.SessionError` for a number that was given up or is
        live, and for an impossible ALIVE: that carrier is refused, the session goes on.
        """
        self._check_number(number, alive)
        for carrier in list(self.carriers.values()):
            if carrier.number < number and carrier.number not in alive:
                self._give_up(carrier, now)
                self._events.append(CarrierGivenUp(carrier.number))
        start = 1
        for other in (*sorted(set(alive)), number):
            self._dead.add_range(start, other)
            start = other + 1
        carrier = self._new_carrier(number, now)
        for other in alive:
            if other in self._dead:
                carrier.closed[other] = None
                self._mark(carrier)
        for stream in list(self.streams.values()):
            if stream.carrier is None:
                self._find_carrier(stream, now)
        return self._take_events()

    def _check_number(self, number: int, alive: tuple[int, ...]) -> None:
        """R2: a carrier given up is refused when it arrives."""
        if number in self._dead or number in self.carriers or not 0 < number <= 0xFFFFFFFF or self.closed:
            raise SessionError("a carrier with a number that was used or given up")
        if len(alive) >= self.limits.max_carriers or not all(0 < other < number for other in alive):
            raise SessionError("an impossible list of live carriers")
        if sum(other > number or other in alive for other in self.carriers) >= self.limits.max_carriers:
            raise SessionError("too many carriers")

    def _receive_closed(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R2: the client regards a carrier as dead; one that has not arrived is refused when it does."""
        del carrier
        number = frame[1]
        dead = self.carriers.get(number)
        if dead is not None:
            self._give_up(dead, now)
            self._events.append(CarrierGivenUp(number))
        else:
            if len(self._dead) > self.limits.max_intervals - 2 * self.limits.max_carriers:
                raise SessionError("too many carriers closed that never came")
            self._dead.add(number)

    def _carrier_died(self, stream: Stream, carrier: Carrier, now: float) -> None:
        """R11, R14: without a carrier until the client binds; an OPEN not acknowledged is repeated."""
        del carrier
        self._place(stream, None)
        self._rewind(stream)
        self._find_carrier(stream, now)

    def _find_carrier(self, stream: Stream, now: float) -> None:
        """R11, R14: repeat an OPEN that the client may never have seen, else ask."""
        if stream.finished:
            return
        if stream.open_acknowledged:
            self._want_bind(stream, now)
        else:
            other = self._choose_carrier()
            if other is not None:
                self._place(stream, other.number)
                self._wake(stream, now)

    def _leave(self, carrier: Carrier, now: float) -> None:
        """R25: nothing new goes there; the client moves its streams."""
        del now
        carrier.leaving = True

    # ---- following (R12, R15) ----------------------------------------------------------------

    def _receive_bind(self, carrier: Carrier, frame: Frame, now: float) -> None:
        """R12: a BIND is an acknowledgement, maybe a move, and owes a WINDOW here (R9)."""
        kind, number, generation, received, limit = frame
        stream = self._stream(number)
        self._prove(carrier, now)
        if stream is None:
            self._answer_forgotten(carrier, number)
            return
        self._owe_window(stream, carrier)
        self._take_window(stream, carrier, received, limit, now)
        if self._is_newer(stream, carrier, generation):
            self._follow(stream, carrier, kind, generation, now)
        elif kind == BIND and stream.draining and generation == stream.generation:
            self._drain_broken(stream, now)  # an answer to ASK: what the old carrier held may be lost
        if stream.carrier is not None:
            self._answered(stream)
            self._owe_opened(stream)

    def _is_newer(self, stream: Stream, carrier: Carrier, generation: int) -> bool:
        """R12: the bridge follows the highest generation; a stream without a carrier also the same one.

        So does one whose OPEN the bridge took elsewhere by itself: at generation 0 the client still has
        it where it first heard of it.
        """
        if generation > stream.generation:
            return True
        unbound = stream.local and not generation and stream.carrier != carrier.number
        return generation == stream.generation and (stream.carrier is None or unbound)

    def _follow(self, stream: Stream, carrier: Carrier, kind: int, generation: int, now: float) -> None:
        """R12: the stream is bound to ``carrier``, sent := acknowledged; R15: MOVE drains first."""
        old = stream.carrier
        stream.generation = generation
        self._place(stream, carrier.number)
        if kind == MOVE and old is not None and not stream.draining:
            self._window_due(stream)
            if stream.acknowledged < stream.sent and old != carrier.number:
                stream.draining = old
        else:
            self._rewind(stream)
        self._wake(stream, now)

    def _bound_by_open(self, stream: Stream, carrier: Carrier, generation: int, now: float) -> None:
        """R6: an OPEN of a known stream is a BIND without acknowledgement."""
        if self._is_newer(stream, carrier, generation):
            self._follow(stream, carrier, 0, generation, now)
            self._answered(stream)
            self._owe_opened(stream)

    # ---- asking (R14) ------------------------------------------------------------------------

    def _want_bind(self, stream: Stream, now: float) -> None:
        """R14: ask for a stream's carrier, a moment later: the client's own BIND is mostly on its way."""
        delay = self.limits.ask_delay
        self._asked.pop(stream.id, None)
        if delay <= 0:
            self._ask(stream)
        else:
            self._asking.pop(stream.id, None)
            stream.ask_due = now + delay
            self._asking[stream.id] = None
            self._arm(stream.ask_due)

    def _ask(self, stream: Stream) -> None:
        """R14: ASK on one live carrier; without any, the next one that attaches is asked."""
        carrier = self._choose_carrier()
        if carrier is not None:
            self._ask_on(stream, carrier)

    def _ask_on(self, stream: Stream, carrier: Carrier) -> None:
        """R14: ASK goes out on ``carrier``."""
        self._asked[stream.id] = (carrier.number, self._now)
        carrier.asks[stream.id] = None
        self._mark(carrier)

    def _answered(self, stream: Stream) -> None:
        """R14: the client has bound the stream: nothing is asked any more."""
        if self._asked.pop(stream.id, None) is not None:
            for carrier in self.carriers.values():
                carrier.asks.pop(stream.id, None)
        self._asking.pop(stream.id, None)

    def _give_up(self, carrier: Carrier, now: float) -> None:
        """R14: questions put on the carrier that died are put again."""
        super()._give_up(carrier, now)
        for number, (asked, _) in list(self._asked.items()):
            if asked == carrier.number:
                self._want_bind(self.streams[number], now)

    def _opened_elsewhere(self, stream: Stream, now: float) -> None:
        """R11, R14: instead of the OPEN an ASK brings both sides to one carrier."""
        del now
        self._ask(stream)

    def _receive_ask(self, carrier: Carrier, frame: Frame, now: float) -> None:
        del carrier, frame, now
        raise SessionError("ASK from a client")

    def _check_carriers(self, now: float) -> None:
        """R14: questions that have waited are put."""
        for number in list(self._asking):
            stream = self.streams[number]
            due = stream.ask_due
            if due is not None and due > now:
                self._arm(due)
                break
            del self._asking[number]
            self._ask(stream)

    def _safety_net(self, now: float) -> None:
        """R20: a question without an answer for 10 s is put once more."""
        super()._safety_net(now)
        patience = self.limits.safety_net
        for number, (_, since) in list(self._asked.items()):
            stream = self.streams[number]
            if stream.nudges:
                continue
            if since + patience > now:
                self._arm_net(since + patience)
            else:
                stream.nudges += 1
                self._ask_everywhere(stream)

    def _nudge(self, stream: Stream, carrier: Carrier, now: float) -> None:
        """R20: ASK once more, wherever it may be heard; an OPEN without an answer tries the next carrier."""
        if stream.open_acknowledged:
            if stream.draining:
                self._drain_broken(stream, now)
            self._ask_everywhere(stream)
            return
        numbers = sorted(self.carriers)
        after = [number for number in numbers if number > carrier.number]
        self._place(stream, after[0] if after else numbers[0])
        self._rewind(stream)
        self._wake(stream, now)

    def _press_for(self, stream: Stream) -> None:
        """R21: under pressure ASK has the client say at once what it acknowledges in seconds (R8)."""
        carrier = self.carriers.get(stream.carrier or 0)
        if (
            carrier is not None
            and not (carrier.leaving or stream.draining)
            and stream.id not in self._asked
            and stream.open_acknowledged
            and stream.acknowledged < stream.sent
        ):
            self._ask_on(stream, carrier)

    def _inquire(self, stream: Stream) -> None:
        """R20: ASK, whose BIND says what WINDOW says."""
        if stream.open_acknowledged:
            self._ask_everywhere(stream)

    def _ask_everywhere(self, stream: Stream) -> None:
        """R20: ASK on every live carrier: the one it was asked on may be dead without our knowing."""
        stream.nudges = max(stream.nudges, len(self.carriers))
        for carrier in self.carriers.values():
            self._ask_on(stream, carrier)


def _to_record(stream: Stream) -> StreamRecord:
    """What is handed over of a live stream without a carrier."""
    flags = (
        handover.ASSOCIATION * stream.is_association
        | handover.ACCEPTED * stream.accepted
        | handover.OPEN_ACKNOWLEDGED * stream.open_acknowledged
        | handover.OPEN_LEFT * stream.open_left
        | handover.BLOCKED * stream.blocked
    )
    data: list[Buffer] = []
    buffer = stream.buffer
    if stream.retained:
        buffer.copy_to(data, buffer.start, stream.retained)
    return StreamRecord(
        stream.id, flags, stream.generation, stream.acknowledged, stream.high, stream.limit, stream.final,
        stream.received, stream.granted, stream.read, stream.peer_final, stream.window, stream.said_received,
        stream.target, b"".join(data),
    )  # fmt: skip
