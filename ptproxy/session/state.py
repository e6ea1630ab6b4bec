"""What all rules of a session share: its tables, its carriers, its clock, and who wakes whom."""

from __future__ import annotations

from collections import deque
from math import inf

from ptproxy.errors import SessionError
from ptproxy.session.budget import RetentionBudget
from ptproxy.session.carrier import Carrier
from ptproxy.session.events import Event
from ptproxy.session.intervals import Intervals
from ptproxy.session.limits import Limits
from ptproxy.session.stream import Stream, Tombstone


class SessionState:
    """The tables of one session. The rules are added by the classes that follow."""

    first_id = 2
    """This side's first stream id: 2 for a client, 3 for a bridge (R3)."""

    def __init__(
        self, limits: Limits | None = None, retention: RetentionBudget | None = None, now: float = 0.0
    ) -> None:
        self.limits = limits = limits or Limits()
        self.streams: dict[int, Stream] = {}
        """Live streams by id."""
        self.tombstones: dict[int, Tombstone] = {}
        self.carriers: dict[int, Carrier] = {}
        """Live carriers by number."""
        self.ready: set[int] = set()
        """Carriers with something to send; may hold one that has nothing, never misses one."""
        self.account = (retention or RetentionBudget(limits.retention)).open_account(now)
        self.closed = False
        self._now = now  # the latest time any call named
        self._next_id = self.first_id
        self._seen = Intervals(limits.max_intervals)  # the peer's ids, halved
        self._dead = Intervals(limits.max_intervals)  # carrier numbers given up (R2)
        self._closed_lately: deque[int] = deque(maxlen=64)  # carriers that this side gave up (R2)
        self._free_bits = [1 << i for i in reversed(range(limits.max_carriers))]
        self._blocked: dict[int, Stream] = {}  # waiting for the session's share to grow
        self._granted_unread = 0  # sum of granted - read (R22)
        self._windows = 0  # sum of windows, and of what is unread of streams that are over (R22)
        self._unread_over = 0  # streams that are over and not read to their end
        self._goaway_sent = False
        self._goaway_received = False
        self._deadline = inf
        self._net_at = inf  # when the safety net is looked at next (R20)
        self._late: dict[int, float] = {}  # streams with a debt, and when it is due at latest (R8)
        self._waiting: dict[int, float] = {}  # streams that wait for OPENED or credit, and until when (R20)
        self._asking: dict[int, None] = {}  # bridge: streams that wait to be asked for (R14)
        self._asked: dict[int, tuple[int, float]] = {}  # bridge: where and when each was asked for
        self._events: list[Event] = []  # the events of the call that is running

    # ---- clock -------------------------------------------------------------------------------

    def _arm(self, when: float) -> None:
        """Have ``on_deadline`` called at ``when``, or before."""
        self._deadline = min(self._deadline, when)

    def _arm_net(self, when: float) -> None:
        """R20: look at the safety net at ``when``, or before."""
        if when < self._net_at:
            self._net_at = when
            self._arm(when)

    def deadline(self) -> float | None:
        """When ``on_deadline`` wants to be called next (the ``now`` clock), or None."""
        return None if self._deadline == inf else self._deadline

    # ---- ids ---------------------------------------------------------------------------------

    def _is_local(self, number: int) -> bool:
        """Whether an id is one that this side opens."""
        return (number ^ self.first_id) & 1 == 0

    def _was_seen(self, number: int) -> bool:
        """R3: whether an id was ever used, by either side, live or forgotten."""
        if number < 2:
            return False
        return number < self._next_id if self._is_local(number) else number >> 1 in self._seen

    def _mark_seen(self, number: int) -> None:
        """R3: an OPEN or RESET of the peer's id came."""
        self._seen.add(number >> 1)

    def _known_to_peer(self, stream: Stream) -> bool:
        """Whether the peer can have heard of a live stream: else its frames are errors (R17)."""
        return stream.open_left

    def _stream(self, number: int) -> Stream | None:
        """The live stream of a frame that must not name an unseen one (R17); None: forgotten."""
        stream = self.streams.get(number)
        if stream is None:
            if not self._was_seen(number):
                raise SessionError("frame for a stream that never was")
        elif not self._known_to_peer(stream):
            raise SessionError("frame for a stream that was never announced")
        return stream

    # ---- carriers ----------------------------------------------------------------------------

    def _mark(self, carrier: Carrier) -> None:
        """Something is owed on ``carrier``."""
        carrier.dirty = True
        self.ready.add(carrier.number)

    def _choose_carrier(self, besides: int = 0) -> Carrier | None:
        """The live carrier with the fewest streams, rather a healthy one that stays (R14, R25)."""
        best = None
        for carrier in self.carriers.values():
            if carrier.number != besides and (best is None or _rank(carrier) < _rank(best)):
                best = carrier
        return best

    def _place(self, stream: Stream, number: int | None) -> None:
        """The stream's carrier is ``number`` from now on."""
        if stream.queue is not None:
            stream.queue.pop(stream.id, None)
            stream.queue = None
        old = self.carriers.get(stream.carrier) if stream.carrier is not None else None
        if old is not None:
            old.streams -= 1
        stream.carrier = number
        if number is not None:
            self.carriers[number].streams += 1

    def _rewind(self, stream: Stream) -> None:
        """R11, R12: sent := acknowledged; all that is not acknowledged goes out again."""
        stream.sent = stream.acknowledged
        stream.draining = 0
        stream.held = False
        if not stream.open_acknowledged:
            stream.open_sent = False
        for carrier in self.carriers.values():
            carrier.outstanding.pop(stream.id, None)

    # ---- who wants to send (R27) -------------------------------------------------------------

    def _sendable(self, stream: Stream) -> bool:
        """Whether a stream has anything for its carrier's data part now."""
        if not stream.open_sent:
            return True
        if stream.draining or stream.held:
            return False
        sent, end = stream.sent, stream.buffer.end
        if sent < end:
            return sent < stream.limit
        return stream.final == sent or bool(stream.datagrams)

    def _wake(self, stream: Stream, now: float) -> None:
        """Queue a stream on its carrier if it has something to send and is not queued."""
        number = stream.carrier
        if number is None or stream.queue is not None or not self._sendable(stream):
            return
        carrier = self.carriers[number]
        queue = carrier.interactive if self._is_interactive(stream, now) else carrier.bulk
        queue[stream.id] = stream
        stream.queue = queue
        self.ready.add(number)

    def _is_interactive(self, stream: Stream, now: float) -> bool:
        """R27: a stream is interactive while it sends no more than its budget in 100 ms."""
        limits = self.limits
        most = limits.interactive_bytes
        burst = stream.burst
        return burst < most or burst - (now - stream.burst_at) * most / limits.interactive_time < most

    def _note_burst(self, stream: Stream, size: int, now: float) -> bool:
        """R27: a bucket that loses the budget in 100 ms and holds twice as much.

        Whether the stream was interactive before these ``size`` bytes.
        """
        limits = self.limits
        most = limits.interactive_bytes
        left = stream.burst - int((now - stream.burst_at) * most / limits.interactive_time)
        if left < 0:
            left = 0
        full = left + size
        stream.burst = full if full < 2 * most else 2 * most
        stream.burst_at = now
        return left < most


def _rank(carrier: Carrier) -> tuple[bool, bool, int, int]:
    return (carrier.leaving, carrier.suspect, carrier.streams, carrier.number)
