"""A stream between two peers: what outlives every meeting, and what is said in the present one.

Bytes in, bytes out. Order of calls, on both sides::

    stream = SealedStream(seed, role)
    cookie = stream.cookie()                           # where to meet; in the rendezvous, role is the side
    stream.begin_meeting(turns, now, rng)              # when the two are joined
    transport.write(*stream.data_to_send(now))         # after whatever happened
    for event in stream.receive_data(data, now): ...   # MeetingFailed: break the connection
    stream.end_meeting()                               # it is lost; the next cookie is another one

    stream.send_data(data); stream.send_eof(); stream.consume(size); stream.reset(reason)
    if stream.deadline() <= now: stream.data_to_send(now), and end_meeting() where stream.stalled(now)

When :attr:`SealedStream.finished` the last bytes to send are still to be sent; then the meeting is closed.

Meetings are numbered. Whoever loses one that had begun goes to the next number and says so in a signal
(MEET); whoever hears of a higher number goes there (:meth:`SealedStream.summoned`). Both only ever go up, so
they come together whatever each has noticed of the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.e2e.rng import Rng
from ptproxy.e2e.stream.frames import DATA_HEADER, EOF_SIZE, Data, Eof, Frame, Gone, Reset, Window
from ptproxy.e2e.stream.keys import Role, Seed
from ptproxy.e2e.stream.meeting import Meeting, Turns
from ptproxy.e2e.stream.receiving import Incoming
from ptproxy.e2e.stream.records import CAPACITIES, size_for
from ptproxy.e2e.stream.refusals import MeetingError, StreamRuleError, TurnsApartError
from ptproxy.e2e.stream.sending import Outgoing
from ptproxy.e2e.stream.signals import MAX_NUMBER
from ptproxy.errors import Reason

SEND_BATCH: Final = 256 << 10
"""Bytes of records made at a time: what a transport is given before it is asked whether it has room."""
STALL: Final = 60.0
"""Seconds without a record while one is expected, after which a meeting is given up: a record of 64 KiB
comes within that over 1.1 kB/s."""


@dataclass(slots=True)
class DataReceived:
    """Bytes for the application; to be told with :meth:`SealedStream.consume` when they are taken."""

    data: Buffer = field(repr=False)


@dataclass(slots=True)
class EofReceived:
    """The peer sends no more."""


@dataclass(slots=True)
class StreamReset:
    """The peer has broken the stream off."""

    reason: Reason


@dataclass(slots=True)
class MeetingFailed:
    """What came does not verify; the meeting is to be given up. Always the last event, of a meeting too."""

    error: MeetingError


@dataclass(slots=True)
class StreamFailed:
    """The peer has broken a rule; the stream was reset for that (:attr:`Reason.GENERAL`). The last event."""

    error: StreamRuleError


Event = DataReceived | EofReceived | StreamReset | MeetingFailed | StreamFailed


class Summons(Enum):
    """What a MEET means for who hears it."""

    FOLLOW = 1
    """Leave what there is, and go to the meeting :attr:`SealedStream.number`."""
    COME = 2
    """The peer is there: where one only waits to try again, the time has come."""
    CORRECT = 3
    """The peer is behind: tell it our number."""


class SealedStream:
    """One side of a stream."""

    __slots__ = (
        "_expecting_since", "_gone_due", "_gone_heard", "_gone_said", "_hello_said", "_reset_reason",
        "_reset_said", "incoming", "meeting", "number", "outgoing", "role", "seed",
    )  # fmt: skip

    def __init__(self, seed: Seed, role: Role) -> None:
        self.seed = seed
        self.role = role
        self.outgoing = Outgoing()
        self.incoming = Incoming()
        self.meeting: Meeting | None = None
        self.number = 1
        """Of the meeting to come to, or that is on."""
        self._hello_said = False
        self._reset_reason: Reason | None = None
        self._reset_said = False
        self._gone_due = False
        self._gone_said = False
        self._gone_heard = False
        self._expecting_since: float | None = None

    # ---- meetings ---------------------------------------------------------------------------------

    def cookie(self) -> bytes:
        """The name of the meeting :attr:`number` at a rendezvous, 32 bytes."""
        return self.seed.cookie(self.number)

    def begin_meeting(self, turns: Turns, now: float, rng: Rng) -> None:
        """The two are joined.

        :class:`TurnsApartError` while ``turns`` has none: the contact's identity has changed, say.
        """
        secrets = turns()
        if secrets is None:
            raise TurnsApartError("stream: no session to take keys from")
        self.meeting = Meeting(self.seed, self.role, self.number, secrets, turns, now, rng)
        self._hello_said = self._reset_said = False
        self._expecting_since = now
        self.outgoing.meet()
        self.incoming.meet()

    def end_meeting(self) -> None:
        """The connection is lost, or was given up: the next meeting has the next number."""
        if self.meeting is not None:
            self.meeting = None
            self._expecting_since = None
            self.number = min(self.number + 1, MAX_NUMBER)

    def skip_meeting(self) -> None:
        """A meeting that never came about is given up, as its place is not reached."""
        if self.meeting is None:
            self.number = min(self.number + 1, MAX_NUMBER)

    def summoned(self, number: int) -> Summons | None:
        """The peer's MEET came; what is to be done, None: nothing."""
        if number > self.number:
            self.meeting = None
            self._expecting_since = None
            self.number = number
            return Summons.FOLLOW
        if self.meeting is not None:
            return None
        return Summons.COME if number == self.number else Summons.CORRECT

    # ---- the application's side -------------------------------------------------------------------

    def send_data(self, data: bytes) -> None:
        """Send bytes, not none."""
        if self._reset_reason is None:
            self.outgoing.write(data)

    def send_eof(self) -> None:
        """Say that no more will come."""
        if self._reset_reason is None:
            self.outgoing.end()

    def send_room(self) -> int:
        """Bytes that may be written before the application should wait; see :meth:`Outgoing.room`."""
        return self.outgoing.room()

    def consume(self, size: int) -> None:
        """The application has taken ``size`` of the bytes received."""
        self.incoming.consume(size)

    def reset(self, reason: Reason) -> None:
        """Break the stream off; what waits is not sent. Finished when the peer has heard it."""
        if self._reset_reason is None:
            self._reset_reason = reason
            self.outgoing.drop()

    @property
    def over(self) -> bool:
        """Whether it was broken off, by either side."""
        return self._reset_reason is not None or self._gone_due or self._gone_said

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do: both directions ended and both know it, or a RESET was heard."""
        if self._reset_reason is not None and not self._gone_said:
            return self._gone_heard
        return self._gone_said or (self.outgoing.done and self.incoming.done)

    # ---- the connection's side --------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """What came on the meeting, cut anywhere.

        Raises nothing: what verified before a fault has come for good, so the fault is told behind it.
        """
        events: list[Event] = []
        meeting = self.meeting
        if meeting is None:
            return events
        try:
            meeting.receive(data)
            while (frames := meeting.next(now)) is not None:
                self._expecting_since = now
                for frame in frames:
                    self._take_in(frame, now, events)
        except StreamRuleError as error:
            self.reset(Reason.GENERAL)
            events.append(StreamFailed(error))
        except MeetingError as error:
            events.append(MeetingFailed(error))
        if not self._expecting:
            self._expecting_since = None
        return events

    def data_to_send(self, now: float) -> list[bytes]:
        """What is to be sent now, about :data:`SEND_BATCH` bytes; ask again until there is nothing."""
        out: list[bytes] = []
        meeting = self.meeting
        if meeting is None:
            return out
        if not self._hello_said:
            self._hello_said = True
            out.append(meeting.hello)
        if meeting.established:
            size = 0
            while size < SEND_BATCH and not meeting.exhausted:
                record = meeting.key_record(now) or self._record(meeting, now)
                if record is None:
                    break
                size += len(record)
                out.append(record)
        if self._expecting_since is None and self._expecting:
            self._expecting_since = now
        return out

    def deadline(self) -> float | None:
        """When time alone changes something."""
        if self.meeting is None:
            return None
        if self.meeting.exhausted:
            return 0.0
        stall = None if self._expecting_since is None else self._expecting_since + STALL
        acknowledge = self.incoming.deadline() if self.meeting.established else None
        if stall is None or acknowledge is None:
            return acknowledge if stall is None else stall
        return min(stall, acknowledge)

    def stalled(self, now: float) -> bool:
        """Whether to give the meeting up: the peer owes something for too long, or a key is used up."""
        if self.meeting is not None and self.meeting.exhausted:
            return True
        return self._expecting_since is not None and now >= self._expecting_since + STALL

    @property
    def _expecting(self) -> bool:
        meeting = self.meeting
        return meeting is not None and (
            meeting.expecting or self.outgoing.outstanding or (self._reset_said and not self._gone_heard)
        )

    def _take_in(self, frame: Frame, now: float, events: list[Event]) -> None:
        """One frame of the peer's."""
        if isinstance(frame, Reset):
            if not self.over:
                events.append(StreamReset(frame.reason))
            self.outgoing.drop()
            self._gone_due = True
        elif isinstance(frame, Gone):
            if self._reset_reason is None:
                raise StreamRuleError("stream: an answer to a RESET that was not said")
            self._gone_heard = True
        elif self.over:
            return
        elif isinstance(frame, Data):
            self.incoming.take_in(frame, now)
            events.append(DataReceived(frame.data))
        elif isinstance(frame, Eof):
            self.incoming.take_end(frame.final)
            events.append(EofReceived())
        elif isinstance(frame, Window):
            self.outgoing.heard(frame)

    def _record(self, meeting: Meeting, now: float) -> bytes | None:
        """The next record, None where nothing is to be said."""
        if self.over:
            return self._last_words(meeting)
        outgoing, incoming = self.outgoing, self.incoming
        pending = outgoing.pending()
        ends = outgoing.ends_at(outgoing.sent + pending)
        parts: list[Buffer] = []
        length = 0
        if incoming.due(now) or ((pending or ends) and incoming.owes()):
            parts.append(incoming.tell().serialize())
            length = len(parts[0])
        elif not pending and not ends:
            return None
        needed = length + (DATA_HEADER + pending if pending else 0) + (EOF_SIZE if ends else 0)
        size = size_for(needed)
        if pending:
            taken = min(pending, CAPACITIES[size] - length - DATA_HEADER)
            parts.append(Data.header(outgoing.sent, taken))
            outgoing.take(taken, parts)
            length += DATA_HEADER + taken
            ends = ends and taken == pending and length + EOF_SIZE <= CAPACITIES[size]
        if ends:
            parts.append(Eof(outgoing.sent).serialize())
            length += EOF_SIZE
            outgoing.take_end()
        return meeting.seal(parts, length, size)

    def _last_words(self, meeting: Meeting) -> bytes | None:
        """GONE, RESET."""
        words = b""
        if self._gone_due:
            self._gone_due, self._gone_said = False, True
            words = Gone().serialize()
        if self._reset_reason is not None and not self._reset_said:
            self._reset_said = True
            words += Reset(self._reset_reason).serialize()
        return meeting.seal((words,), len(words), 0) if words else None

    def __repr__(self) -> str:
        return f"<SealedStream {self.seed.stream.hex()}, {self.role.name.lower()}, meeting {self.number}>"
