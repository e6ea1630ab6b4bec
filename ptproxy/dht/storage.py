"""The records that one node keeps: which it takes, from whom, and which of them go when there is no room.

What is asked of a write, cheapest first, each with its :class:`Refusal`:

1. a record, of an epoch that is open, at one of its own three locations, near this node
2. the token that this node gave the asker for this location (``write_token``)
3. the asker's quota of writes (``quota``)
4. a higher sequence than that of the record held, or the very same bytes
5. a place: see below
6. the record's signature (80 µs)
7. the record's work (0.4 ms), once for a key, within what this node spends on that

When all places are taken, an asker with fewer records takes one of the asker that has most: the one
that came last. So a flood displaces itself, and nobody is left with less than an even
share. Nothing outlives its epoch, whoever brings it again. Whom requests count for
the node says (``responder.account``): here it is a number.

Plain state without I/O. What should survive a restart is :meth:`RecordStorage.stored`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ptproxy.dht import epoch as epochs
from ptproxy.dht.identifier import ID_BYTES, NodeId, Rng
from ptproxy.dht.quota import FAILURES_AT_ONCE, FAILURES_PER_SECOND, LeakyBucket, WriteQuotas
from ptproxy.dht.record import NO_BEACON, RECORD, RECORD_WORK, Copies, Record, RecordError, RecordHeader
from ptproxy.dht.shares import Shares
from ptproxy.dht.work import WorkTarget
from ptproxy.dht.write_token import WriteTokenError, WriteTokens
from ptproxy.errors import DhtError, StateError

MAX_RECORDS: Final = 16_384
"""Records of one node, 2.5 KiB each, 40 MiB: a thousandth of a network with a million invites
and 20 holders of each of their three locations at 4,000 nodes."""
MAX_COPIES: Final = 1_024
"""Copies of records that belong elsewhere."""
COPY_LIFE: Final = 3_600
"""Seconds that a copy is kept: its reader's neighbours ask soon or not at all."""
HAND_ON: Final = 21_600
"""Seconds until a record that nobody has brought again is handed to those closest to it now (± 20 %)."""
NEW_KEYS_AT_ONCE: Final = 1_000
"""Checks of work in one go: a node that has just joined is handed its share by its neighbours."""
NEW_KEYS_PER_SECOND: Final = 50
"""Checks of work in the long run, 2 % of a core."""

_JITTER: Final = 0.2
_TIME: Final = 8


class Refusal(IntEnum):
    """Why a write was not taken. Numbers are part of the wire format."""

    MALFORMED = 1
    """No record, not signed by its key, or without enough work."""
    NOT_OPEN = 2
    """Of an epoch that is over, or not open yet: is a clock wrong?"""
    ELSEWHERE = 3
    """The location is not the record's, or far from this node, or copies of it are not allowed."""
    TOKEN = 4
    """Ask here for the location first."""
    QUOTA = 5
    """The asker has written too much; later."""
    STALE = 6
    """Another record with the same or a higher sequence is held: ``held`` says which."""
    FULL = 7
    """No place for this asker."""
    BUSY = 8
    """This node has checked enough work for now, or enough of this asker's was none; later."""


class WriteRefusedError(DhtError):
    """A write that was not taken, and nothing has changed."""

    def __init__(self, refusal: Refusal, held: int | None = None) -> None:
        super().__init__(f"a write was refused: {refusal.name.lower().replace('_', ' ')}")
        self.refusal = refusal
        self.held = held
        """With :attr:`Refusal.STALE`: the sequence of the record held."""


@dataclass(slots=True)
class StoredRecord:
    """A record where it is kept; ``serialize`` is its form on a disk::

    location 32 │ guard 32 │ stored u64 │ record 2,048
    """

    location: NodeId
    guard: NodeId
    """For whom it counts."""
    stored: int
    """Unix seconds of when it was last brought."""
    data: bytes
    header: RecordHeader = field(init=False)
    hand_on: float = field(init=False, default=0.0)
    """Unix seconds from which on it is handed on."""

    def __post_init__(self) -> None:
        self.header = RecordHeader.parse(self.data)

    @classmethod
    def parse(cls, data: bytes) -> StoredRecord:
        """The reverse; :class:`StateError` for what was never one."""
        if len(data) != 2 * ID_BYTES + _TIME + RECORD:
            raise StateError("a stored record has another length")
        location, guard = data[:ID_BYTES], data[ID_BYTES : 2 * ID_BYTES]
        stored = int.from_bytes(data[2 * ID_BYTES : 2 * ID_BYTES + _TIME], "big")
        record = data[2 * ID_BYTES + _TIME :]
        try:
            return cls(int.from_bytes(location, "big"), int.from_bytes(guard, "big"), stored, record)
        except RecordError:
            raise StateError("a stored record is damaged") from None

    def serialize(self) -> bytes:
        """2,120 bytes."""
        head = self.location.to_bytes(ID_BYTES, "big") + self.guard.to_bytes(ID_BYTES, "big")
        return head + self.stored.to_bytes(_TIME, "big") + self.data


@dataclass(frozen=True, slots=True)
class Write:
    """What somebody asks to be kept."""

    location: NodeId
    token: bytes
    record: bytes


class RecordStorage:
    """One node's records.

    ``beacon(epoch)`` is the value its locations are made with, None: not known yet; ``near(location)``
    says whether records lie here at all (``RoutingTable.is_near``).
    """

    __slots__ = (
        "_beacon", "_capacity", "_copies", "_failures", "_near", "_new_keys", "_quotas", "_records",
        "_rng", "_shares", "_swept", "_target", "_tokens",
    )  # fmt: skip

    def __init__(
        self,
        rng: Rng,
        target: WorkTarget = RECORD_WORK,
        capacity: int = MAX_RECORDS,
        beacon: Callable[[int], bytes | None] = lambda _: NO_BEACON,
        near: Callable[[NodeId], bool] = lambda _: True,
    ) -> None:
        self._rng = rng
        self._target = target
        self._capacity = capacity
        self._beacon = beacon
        self._near = near
        self._tokens = WriteTokens(rng)
        self._quotas = WriteQuotas()
        self._failures = WriteQuotas(FAILURES_AT_ONCE, FAILURES_PER_SECOND)
        self._new_keys = LeakyBucket(NEW_KEYS_AT_ONCE, NEW_KEYS_PER_SECOND)
        self._records: dict[NodeId, StoredRecord] = {}
        self._shares = Shares()
        self._copies: OrderedDict[NodeId, StoredRecord] = OrderedDict()
        self._swept: int | None = None

    def __len__(self) -> int:
        return len(self._records)

    # ---- asked by others ------------------------------------------------------------------

    def read(self, location: NodeId, now: float) -> bytes | None:
        """The record at ``location``, 2,048 bytes, while its epoch is open."""
        held = self._held(location, now) or self._copy(location, now)
        return held.data if held else None

    def token(self, location: NodeId, guard: NodeId, now: float) -> bytes:
        """Leave for ``guard`` to write at ``location`` within the next minutes: goes with every answer."""
        return self._tokens.give(location, guard, now)

    def write(self, write: Write, guard: NodeId, now: float) -> None:
        """Keep what ``guard`` brought; :class:`WriteRefusedError` says why not."""
        if not self._near(write.location):
            raise WriteRefusedError(Refusal.ELSEWHERE)
        record = self._examine(write, guard, now)
        held = self._held(write.location, now)
        if held is not None and held.data == write.record:
            self._brought_again(held, guard, now)
            return
        if held is not None and held.header.sequence >= record.header.sequence:
            raise WriteRefusedError(Refusal.STALE, held.header.sequence)
        if held is None and not self._has_place_for(guard):
            raise WriteRefusedError(Refusal.FULL)
        self._verify(record, held, guard, now)
        if held is None:
            self._make_place()
            self._keep(StoredRecord(write.location, guard, int(now), write.record), now)
        else:
            held.data, held.header = write.record, record.header
            self._brought_again(held, guard, now)

    def write_copy(self, write: Write, guard: NodeId, now: float) -> None:
        """Keep a copy for an hour of a record that belongs elsewhere, if it may lie ``Copies.ON_THE_WAY``."""
        record = self._examine(write, guard, now)
        if record.header.copies is not Copies.ON_THE_WAY:
            raise WriteRefusedError(Refusal.ELSEWHERE)
        held = self._held(write.location, now) or self._copy(write.location, now)
        if held is not None and held.header.sequence >= record.header.sequence:
            raise WriteRefusedError(Refusal.STALE, held.header.sequence)
        self._verify(record, held, guard, now)
        self._copies.pop(write.location, None)
        if len(self._copies) >= MAX_COPIES:
            self._copies.popitem(last=False)
        self._copies[write.location] = StoredRecord(write.location, guard, int(now), write.record)

    # ---- asked by the node itself ---------------------------------------------------------

    def due(self, now: float, limit: int) -> list[StoredRecord]:
        """At most ``limit`` records to hand on to the nodes closest to them; they count as handed on."""
        due: list[StoredRecord] = []
        for stored in self._records.values():
            if len(due) == limit:
                break
            if stored.hand_on <= now and self._held(stored.location, now):
                stored.hand_on = self._next_hand_on(now)
                due.append(stored)
        return due

    def expire(self, now: float) -> int:
        """Forget what is over; returns how many records that were.

        Records end with their epoch: a write after midnight sees to it too.
        """
        self._swept = epochs.epoch_of(now)
        over = [stored for stored in self._records.values() if now >= epochs.ends(stored.header.epoch)]
        for stored in over:
            self._forget(stored)
        for location in [location for location in self._copies if self._copy(location, now) is None]:
            del self._copies[location]
        return len(over)

    def stored(self) -> Iterator[StoredRecord]:
        """All records, in no order: what is written to the disk."""
        return iter(self._records.values())

    def restore(self, stored: StoredRecord, now: float) -> None:
        """Take back what :meth:`stored` gave before a restart.

        :class:`WriteRefusedError` for what is no longer good, damaged, or more than there is room for.
        """
        record = self._record_at(stored.location, stored.data, now)
        if stored.location in self._records or len(self._records) >= self._capacity:
            raise WriteRefusedError(Refusal.FULL)
        self._check_signature(record)
        self._keep(stored, now)

    # ---- inside ---------------------------------------------------------------------------

    def _examine(self, write: Write, guard: NodeId, now: float) -> Record:
        """What costs next to nothing to find out about a write."""
        if epochs.epoch_of(now) != self._swept:
            self.expire(now)
        record = self._record_at(write.location, write.record, now)
        try:
            self._tokens.check(write.token, write.location, guard, now)
        except WriteTokenError:
            raise WriteRefusedError(Refusal.TOKEN) from None
        if not self._quotas.take(guard, now):
            raise WriteRefusedError(Refusal.QUOTA)
        return record

    def _record_at(self, location: NodeId, data: bytes, now: float) -> Record:
        try:
            record = Record.parse(data)
        except RecordError:
            raise WriteRefusedError(Refusal.MALFORMED) from None
        if not epochs.is_open(record.header.epoch, now):
            raise WriteRefusedError(Refusal.NOT_OPEN)
        beacon = self._beacon(record.header.epoch)
        if beacon is None or location not in record.header.locations(beacon):
            raise WriteRefusedError(Refusal.ELSEWHERE)
        return record

    def _verify(self, record: Record, held: StoredRecord | None, guard: NodeId, now: float) -> None:
        """What costs something. The work of a key that is held here has been looked at.

        Records without work use up what a node spends on checking: so each guard has few of them.
        """
        self._check_signature(record)
        if held is not None and held.header.nonce == record.header.nonce:
            return
        if not self._failures.take(guard, now) or not self._new_keys.take(1, now):
            raise WriteRefusedError(Refusal.BUSY)
        try:
            record.header.check_work(self._target)
        except RecordError:
            raise WriteRefusedError(Refusal.MALFORMED) from None
        self._failures.refund(guard)

    def _check_signature(self, record: Record) -> None:
        try:
            record.verify()
        except RecordError:
            raise WriteRefusedError(Refusal.MALFORMED) from None

    def _held(self, location: NodeId, now: float) -> StoredRecord | None:
        stored = self._records.get(location)
        return stored if stored and _is_open(stored, now) else None

    def _copy(self, location: NodeId, now: float) -> StoredRecord | None:
        copy = self._copies.get(location)
        return copy if copy and _is_open(copy, now) and now < copy.stored + COPY_LIFE else None

    def _has_place_for(self, guard: NodeId) -> bool:
        if len(self._records) < self._capacity:
            return True
        return self._shares.of(guard) + 1 < self._shares.most

    def _make_place(self) -> None:
        """Forget the last record of the guard with most, if there is no place. The caller may take it."""
        if len(self._records) >= self._capacity:
            self._forget(self._records[self._shares.last_of_most()])

    def _keep(self, stored: StoredRecord, now: float) -> None:
        if stored.location in self._records:  # one whose epoch is over, and that nobody has expired yet
            self._forget(self._records[stored.location])
        stored.hand_on = self._next_hand_on(now)
        self._records[stored.location] = stored
        self._shares.add(stored.guard, stored.location)
        self._copies.pop(stored.location, None)

    def _forget(self, stored: StoredRecord) -> None:
        del self._records[stored.location]
        self._shares.remove(stored.guard, stored.location)

    def _brought_again(self, stored: StoredRecord, guard: NodeId, now: float) -> None:
        """It counts for whoever of those that brought it has fewest: nobody can make it theirs to lose it."""
        if self._shares.of(guard) < self._shares.of(stored.guard):
            self._forget(stored)
            stored.guard = guard
            self._keep(stored, now)
        stored.stored = int(now)
        stored.hand_on = self._next_hand_on(now)

    def _next_hand_on(self, now: float) -> float:
        fraction = int.from_bytes(self._rng(2), "big") / 0xFFFF
        return now + HAND_ON * (1 - _JITTER + 2 * _JITTER * fraction)


def _is_open(stored: StoredRecord, now: float) -> bool:
    return epochs.is_open(stored.header.epoch, now)
