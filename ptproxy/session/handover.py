"""What a bridge's session is while no carrier is alive, as bytes: for the process that takes it over.

Without carriers nothing is owed anywhere and every stream is rewound to what is
acknowledged (R2, R9, R11), so this is all there is: offsets, permissions, the
bytes not yet acknowledged, tombstones, and which ids and carrier numbers were
used. Clocks start anew; datagrams that wait are lost, as datagrams may be (R23).

The bytes go from one process to the next of the same bridge and are neither
stored nor sent; numbers are big-endian::

    session    next id u64, flags u8 (1 GOAWAY said, 2 GOAWAY heard),
               intervals of ids seen (halved), intervals of carriers given up,
               count u16 and carriers given up lately u32 each,
               count u32 and tombstones (id u32, reason u8) each,
               count u32 and streams each
    intervals  count u32, then (start u64, end u64) each, rising, with gaps between
    stream     id u32, flags u8, generation u32, acknowledged, high, limit, final, received,
               granted, read, peer's final, window, received as it was last said: u64 each
               (final: 2^64 - 1 for none), target's length u16, bytes' length u64, target, bytes

Streams, tombstones and intervals rise by their numbers. Whatever contradicts
itself is refused whole: a session that is wrong by one byte would corrupt streams.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from ptproxy.errors import StateError
from ptproxy.fields import Fields

NONE: Final = (1 << 64) - 1
"""An offset that is not there."""
MAX_OFFSET: Final = 1 << 62
"""No stream is that long: 4 EiB."""

ASSOCIATION: Final = 1
ACCEPTED: Final = 2
OPEN_ACKNOWLEDGED: Final = 4
OPEN_LEFT: Final = 8
BLOCKED: Final = 16
"""Flags of a stream, named for the fields of :class:`~ptproxy.session.stream.Stream`."""
GOAWAY_SENT: Final = 1
GOAWAY_RECEIVED: Final = 2
"""Flags of a session."""

_HEAD: Final = struct.Struct(">QB")
_INTERVAL: Final = struct.Struct(">QQ")
_TOMBSTONE: Final = struct.Struct(">IB")
_STREAM: Final = struct.Struct(">IBI10QHQ")
_DAMAGED: Final = "a session that is handed over contradicts itself"


@dataclass(slots=True)
class StreamRecord:
    """One live stream; the fields are those of :class:`~ptproxy.session.stream.Stream`."""

    id: int
    flags: int
    generation: int
    acknowledged: int
    high: int
    limit: int
    final: int | None
    received: int
    granted: int
    read: int
    peer_final: int | None
    window: int
    said_received: int
    target: bytes = field(repr=False)
    data: bytes = field(repr=False)
    """What the peer has not acknowledged, or was not sent yet."""

    @property
    def start(self) -> int:
        """The offset of the first byte of :attr:`data`."""
        return self.acknowledged if self.final is None else min(self.acknowledged, self.final)

    def pieces(self) -> list[bytes]:
        """The bytes that the module's text describes, not yet joined: a stream may hold many MiB."""
        head = _STREAM.pack(
            self.id, self.flags, self.generation, self.acknowledged, self.high, self.limit,
            NONE if self.final is None else self.final, self.received, self.granted, self.read,
            NONE if self.peer_final is None else self.peer_final, self.window, self.said_received,
            len(self.target), len(self.data),
        )  # fmt: skip
        return [head, self.target, self.data]

    @classmethod
    def parse(cls, fields: Fields) -> StreamRecord:
        """Take one stream; raises :class:`~ptproxy.errors.StateError`."""
        *numbers, target, size = fields.unpack(_STREAM)
        numbers[6] = None if numbers[6] == NONE else numbers[6]
        numbers[10] = None if numbers[10] == NONE else numbers[10]
        values = [*numbers, fields.take(target), fields.take(size)]
        record = cls(*values)
        record.check()
        return record

    def check(self) -> None:
        """Whether every offset lies where the rules R5 to R8 can have brought it; raises StateError."""
        end, final, peer_final = self.start + len(self.data), self.final, self.peer_final
        delivered = self.received if peer_final is None else peer_final
        sound = (
            self.flags < 2 * BLOCKED
            and max(end, self.limit, self.granted, delivered, self.window) < MAX_OFFSET
            and self.acknowledged <= self.high <= end + (final is not None)
            and (final is None or end == final)
            and (peer_final is None or self.received == peer_final + 1)
            and self.read <= delivered <= self.granted
            and self.said_received <= self.received
            and not (final is not None and peer_final is not None and self.acknowledged > final)
        )
        if self.flags & ASSOCIATION:
            sound = sound and not (self.data or self.granted or self.window or self.limit)
        else:
            sound = sound and min(self.high, end) <= self.limit
        if not sound:
            raise StateError(_DAMAGED)


@dataclass(slots=True)
class SessionRecord:
    """A session without carriers; the fields are those of :class:`~ptproxy.session.state.SessionState`."""

    next_id: int
    flags: int
    seen: list[tuple[int, int]]
    dead: list[tuple[int, int]]
    closed_lately: list[int]
    tombstones: list[tuple[int, int]]
    """(id, reason's code) each."""
    streams: list[StreamRecord]

    def serialize(self) -> bytes:
        """The bytes that the module's text describes."""
        return b"".join(self.pieces())

    def pieces(self) -> list[bytes]:
        """The same, not yet joined."""
        parts = [_HEAD.pack(self.next_id, self.flags)]
        for intervals in (self.seen, self.dead):
            parts.append(len(intervals).to_bytes(4, "big"))
            parts.extend(_INTERVAL.pack(*interval) for interval in intervals)
        parts.append(len(self.closed_lately).to_bytes(2, "big"))
        parts.extend(number.to_bytes(4, "big") for number in self.closed_lately)
        parts.append(len(self.tombstones).to_bytes(4, "big"))
        parts.extend(_TOMBSTONE.pack(*tombstone) for tombstone in self.tombstones)
        parts.append(len(self.streams).to_bytes(4, "big"))
        for stream in self.streams:
            parts += stream.pieces()
        return parts

    @classmethod
    def parse(cls, data: bytes) -> SessionRecord:
        """Read it back; raises :class:`~ptproxy.errors.StateError` for anything but a whole, sound one."""
        fields = Fields(data, StateError(_DAMAGED))
        next_id, flags = fields.unpack(_HEAD)
        record = cls(
            next_id,
            flags,
            _take_intervals(fields),
            _take_intervals(fields),
            [fields.number(4) for _ in range(fields.number(2))],
            [_pair(fields, _TOMBSTONE) for _ in range(fields.number(4))],
            [StreamRecord.parse(fields) for _ in range(fields.number(4))],
        )
        fields.end()
        record.check()
        return record

    def check(self) -> None:
        """Whether every id is one that was used, and used once; raises StateError."""
        streams = [stream.id for stream in self.streams]
        buried = [number for number, _ in self.tombstones]
        sound = (
            self.flags < 2 * GOAWAY_RECEIVED
            and self.next_id & 1 == 1
            and 3 <= self.next_id < 1 << 33
            and _rises(streams)
            and not set(streams) & set(buried)
            and len(set(buried)) == len(buried)
            and all(self._was_used(number) for number in (*streams, *buried))
            and all(_holds(self.dead, number) for number in self.closed_lately)
        )
        if not sound:
            raise StateError(_DAMAGED)

    def _was_used(self, number: int) -> bool:
        """R3: a bridge's own ids are odd and counted, the client's are even and noted."""
        return 3 <= number < self.next_id if number & 1 else _holds(self.seen, number >> 1)


def _take_intervals(fields: Fields) -> list[tuple[int, int]]:
    intervals = [_pair(fields, _INTERVAL) for _ in range(fields.number(4))]
    bounds = [bound for interval in intervals for bound in interval]
    if not _rises(bounds) or (bounds and bounds[-1] >= MAX_OFFSET):
        raise StateError(_DAMAGED)
    return intervals


def _pair(fields: Fields, form: struct.Struct) -> tuple[int, int]:
    one, other = fields.unpack(form)
    return one, other


def _rises(numbers: list[int]) -> bool:
    return all(one < other for one, other in pairwise(numbers))


def _holds(intervals: list[tuple[int, int]], number: int) -> bool:
    return any(start <= number < end for start, end in intervals)
