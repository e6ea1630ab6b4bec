"""The replay filter of a bridge with several workers: one table in memory that all of them have.

What it decides is what :class:`~ptproxy.auth.replay.ReplayFilter` decides. An opening is
looked up and entered under one lock, so of two workers that get the same one exactly one
takes it. Layout of the memory (integers little-endian)::

    0       floor f64, key (16 bytes) of the hash that places entries
    24      which of the two copies of the seconds refused for good is in force, u8
    64      for each of TABLES tables: bucket's number i64 (-1: none), entries u64
    512     the first copy: count u64, for each interval first and last second u64
    2048    the second copy
    4096    the tables: SLOTS entries of 16 bytes each, zeros where none is

The bucket of number n (openings that claim seconds n * BUCKET and following) is in table
n modulo TABLES, which is emptied when the bucket has left the window. In a table an entry
is at the first free slot from the one on that a keyed hash gives: whoever chooses
ephemeral keys cannot choose neighbours.

The lock is one of the kernel's on the memory's file, gone with the process that held it.
A worker killed in the middle leaves at worst an entry whose opening was never answered,
or a count that is one short; seconds are refused before the table with their openings is
emptied, by a copy written whole before it is in force. Whatever cannot be decided is
refused: no room, no lock in time, times that do not fit together.
"""

from __future__ import annotations

import base64
import hashlib
import mmap
import os
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ptproxy.auth.replay import BUCKET, ENTRY, SNAPSHOT_VERSION, WINDOW, ReplayVerdict, has_left, seconds_of
from ptproxy.auth.spans import Spans

if sys.platform == "linux":
    import fcntl

TABLES: Final = 12
"""Buckets at once: a window of 60 s each way touches ten."""
SLOTS: Final = 1 << 17
"""Slots of a table: 2 MiB, touched as they are used."""
MOST: Final = SLOTS // 2
"""Entries of a table: 4,300 openings a second, as in one process; half full, look-ups stay short."""
PROBES: Final = 64
"""Slots looked at for one entry; of 2^17 at half load no run comes near."""
TRIES: Final = 100
"""Attempts at the lock before an opening is refused. A holder needs microseconds."""
TRY_AGAIN: Final = 0.0002
"""Seconds between attempts."""

_FLOOR: Final = struct.Struct("<d")
_HEAD: Final = struct.Struct("<qQ")
_COUNT: Final = struct.Struct("<Q")
_SPAN: Final = struct.Struct("<QQ")
_KEY: Final = slice(8, 24)
_IN_FORCE: Final = 24
_HEADS: Final = 64
_COPIES: Final = (512, 2048)
_TABLES: Final = 4096
_SIZE: Final = SLOTS * ENTRY
_EMPTY: Final = bytes(ENTRY)


class SharedOpenings:
    """Openings seen by all workers; made before they are forked, used by each of them."""

    __slots__ = ("_descriptor", "_key", "_memory", "_window")

    def __init__(self, started: float, window: int = WINDOW) -> None:
        """``started``: the unix time from which all openings are seen. For Linux; raises ``OSError``."""
        self._window = window
        self._descriptor = os.memfd_create("openings", os.MFD_CLOEXEC)
        os.ftruncate(self._descriptor, _TABLES + TABLES * _SIZE)
        self._memory = mmap.mmap(self._descriptor, 0)
        self._key = os.urandom(16)
        self._memory[_KEY] = self._key
        self._set_floor(started)
        for table in range(TABLES):
            self._set_head(table, -1, 0)

    def __len__(self) -> int:
        """How many openings are remembered."""
        return sum(entries for _, entries in self._heads())

    def __contains__(self, ephemeral: bytes) -> bool:
        """Whether an opening with this ephemeral key (32 bytes) is remembered: a cheap early test."""
        entry = ephemeral[:ENTRY]
        first = self._slot(entry)
        return any(
            self._find(table, entry, first) is None
            for table, (_, entries) in enumerate(self._heads())
            if entries
        )

    def check_and_add(self, ephemeral: bytes, made: int, unix_now: float) -> ReplayVerdict:
        """Judge an opening that has verified, made at unix time ``made``; remember it if FRESH."""
        if not self._lock():
            return ReplayVerdict.FULL
        try:
            return self._judge(ephemeral, made, unix_now)
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def snapshot(self) -> dict[str, Any]:
        """All of it, JSON-able, as :meth:`~ptproxy.auth.replay.ReplayFilter.snapshot` has it.

        To be taken when no worker examines anything any more.
        """
        seen = {
            str(number): base64.b64encode(b"".join(sorted(self._entries(table)))).decode("ascii")
            for table, (number, entries) in enumerate(self._heads())
            if number >= 0 and entries
        }
        dropped = [list(span) for span in self._dropped()]
        return {"version": SNAPSHOT_VERSION, "floor": self._floor(), "dropped": dropped, "seen": seen}

    def take_up(self, snapshot: Mapping[str, Any]) -> None:
        """Go on where a filter's snapshot ended, which that filter has made itself.

        A bucket that has no place here is refused as a whole from now on.
        """
        self._set_floor(float(snapshot["floor"]))
        self._set_dropped(Spans.parse(snapshot["dropped"]))
        for text, entries in snapshot["seen"].items():
            data, number = base64.b64decode(entries), int(text)
            found = [data[start : start + ENTRY] for start in range(0, len(data), ENTRY)]
            if not all(self._add(number, entry) for entry in found):
                self._drop(number)

    def close(self) -> None:
        """Let go of the memory in this process."""
        self._memory.close()
        os.close(self._descriptor)

    def __repr__(self) -> str:
        return f"<SharedOpenings {len(self)} of {TABLES * MOST}>"

    # ---- under the lock ------------------------------------------------------------------------------

    def _lock(self) -> bool:
        for _ in range(TRIES):
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                time.sleep(TRY_AGAIN)
            else:
                return True
        return False

    def _judge(self, ephemeral: bytes, made: int, unix_now: float) -> ReplayVerdict:
        self._expire(unix_now)
        entry = ephemeral[:ENTRY]
        if abs(made - unix_now) > self._window:
            return ReplayVerdict.SKEWED
        if made < self._floor():
            return ReplayVerdict.BEFORE_START
        if made in self._dropped():
            return ReplayVerdict.FORGOTTEN
        if entry == _EMPTY or ephemeral in self:
            return ReplayVerdict.REPLAYED
        return ReplayVerdict.FRESH if self._add(made // BUCKET, entry) else ReplayVerdict.FULL

    def _add(self, number: int, entry: bytes) -> bool:
        """Enter an opening; False where there is no room."""
        table = number % TABLES
        known, entries = self._head(table)
        if known not in (number, -1) or entries >= MOST:
            return False
        place = self._find(table, entry, self._slot(entry))
        if place is None or place < 0:
            return place is None  # it is there already
        self._set_head(table, number, entries + 1)  # before the entry: a table with entries is looked at
        self._memory[place : place + ENTRY] = entry
        return True

    def _expire(self, unix_now: float) -> None:
        """Empty the tables whose bucket has left the window."""
        for table, (number, entries) in enumerate(list(self._heads())):
            if number >= 0 and has_left(number, unix_now, self._window):
                self._drop(number)
                if entries:
                    start = _TABLES + table * _SIZE
                    self._memory[start : start + _SIZE] = bytes(_SIZE)
                self._set_head(table, -1, 0)

    def _drop(self, number: int) -> None:
        """Refuse a bucket's seconds for good."""
        dropped = self._dropped()
        if dropped.add(*seconds_of(number)):
            self._set_dropped(dropped)

    # ---- the memory ------------------------------------------------------------------------------------

    def _slot(self, entry: bytes) -> int:
        digest = hashlib.blake2b(entry, digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "little") % SLOTS

    def _find(self, table: int, entry: bytes, slot: int) -> int | None:
        """None where the entry is in the table; else the free place for it, -1 where none is near."""
        memory, start = self._memory, _TABLES + table * _SIZE
        for number in range(slot, slot + PROBES):
            place = start + number % SLOTS * ENTRY
            found = memory[place : place + ENTRY]
            if found == entry:
                return None
            if found == _EMPTY:
                return place
        return -1

    def _entries(self, table: int) -> list[bytes]:
        start = _TABLES + table * _SIZE
        data = self._memory[start : start + _SIZE]
        every = (data[place : place + ENTRY] for place in range(0, _SIZE, ENTRY))
        return [entry for entry in every if entry != _EMPTY]

    def _floor(self) -> float:
        return float(_FLOOR.unpack_from(self._memory)[0])

    def _set_floor(self, floor: float) -> None:
        _FLOOR.pack_into(self._memory, 0, floor)

    def _dropped(self) -> Spans:
        start = _COPIES[self._memory[_IN_FORCE]]
        (count,) = _COUNT.unpack_from(self._memory, start)
        first = start + _COUNT.size
        return Spans(_SPAN.iter_unpack(self._memory[first : first + count * _SPAN.size]))

    def _set_dropped(self, dropped: Spans) -> None:
        """Write the copy that is not in force, then have it be the one that is."""
        other = 1 - self._memory[_IN_FORCE]
        data = _COUNT.pack(len(dropped)) + b"".join(_SPAN.pack(*span) for span in dropped)
        self._memory[_COPIES[other] : _COPIES[other] + len(data)] = data
        self._memory[_IN_FORCE] = other

    def _head(self, table: int) -> tuple[int, int]:
        number, entries = _HEAD.unpack_from(self._memory, _HEADS + table * _HEAD.size)
        return number, entries

    def _heads(self) -> Iterator[tuple[int, int]]:
        return (self._head(table) for table in range(TABLES))

    def _set_head(self, table: int, number: int, entries: int) -> None:
        _HEAD.pack_into(self._memory, _HEADS + table * _HEAD.size, number, entries)
