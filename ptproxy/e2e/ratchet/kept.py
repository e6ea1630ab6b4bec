"""Keys of messages that were overtaken and may still come (Signal's MKSKIPPED).

One :class:`KeptChain` for each header key, in it runs of successive keys. A
run is one buffer: a thousand keys cost 32 kB, and a key that was used is
overwritten. Bounds (RATCHET.md, *Keys that are kept*) are kept by whoever
stores; reading never changes anything.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ptproxy.errors import StateError
from ptproxy.fields import Fields

MAX_SKIP: Final = 1_000
"""Keys derived for one jump within a chain: about 3 ms, beyond any reordering of a mailbox."""
MAX_KEPT: Final = 2_000
"""Keys kept together: 64 kB, two whole jumps."""
MAX_OLD_CHAINS: Final = 5
"""Old chains whose header keys are still tried: each costs a stranger two trials. Signal has five too."""
MAX_AGE: Final = 30 * 86_400
"""Seconds that a key is kept. Mail that took longer was given up by every mailbox on its way."""

KEY: Final = 32
_RUN: Final = struct.Struct(">IQH")
_first = attrgetter("first")


@dataclass(slots=True)
class KeyRun:
    """Message keys of successive numbers."""

    first: int
    """The number of the first of them."""
    since: int
    """When they were derived, seconds since the epoch."""
    keys: bytearray = field(repr=False)
    """32 bytes each."""

    def __len__(self) -> int:
        return len(self.keys) // KEY

    def wipe(self) -> None:
        """Overwrite the keys: they are gone from memory, not only out of reach."""
        self.keys[:] = bytes(len(self.keys))


class KeptChain:
    """The kept keys of one chain, lowest numbers first."""

    __slots__ = ("cipher", "count", "header_key", "runs")

    def __init__(self, header_key: bytes) -> None:
        self.header_key = header_key
        self.cipher = AESGCM(header_key)
        self.runs: list[KeyRun] = []
        self.count = 0

    def find(self, number: int, now: float) -> bytes | None:
        """The key of a message, if it is kept and not too old."""
        index = bisect_right(self.runs, number, key=_first) - 1
        if index < 0:
            return None
        run = self.runs[index]
        place = (number - run.first) * KEY
        if place >= len(run.keys) or run.since + MAX_AGE < now:
            return None
        return bytes(run.keys[place : place + KEY])

    def add(self, run: KeyRun) -> None:
        """Keep a run whose numbers are beyond all others."""
        self.runs.append(run)
        self.count += len(run)

    def remove(self, number: int) -> None:
        """Forget a key that :meth:`find` returned: its run is split around it."""
        index = bisect_right(self.runs, number, key=_first) - 1
        run = self.runs[index]
        place = (number - run.first) * KEY
        rest = [
            KeyRun(run.first, run.since, run.keys[:place]),
            KeyRun(number + 1, run.since, run.keys[place + KEY :]),
        ]
        run.wipe()
        self.runs[index : index + 1] = [part for part in rest if part.keys]
        self.count -= 1

    def drop(self, count: int) -> None:
        """Give up the ``count`` keys of the lowest numbers, which are the oldest."""
        self.count -= count
        while count:
            run = self.runs[0]
            if count < len(run):
                cut = count * KEY
                self.runs[0] = KeyRun(run.first + count, run.since, run.keys[cut:])
                run.wipe()
                return
            count -= len(run)
            run.wipe()
            del self.runs[0]

    def expire(self, now: float) -> bool:
        """Give up the keys that are too old; whether there were any."""
        fresh = []
        for run in self.runs:
            if run.since + MAX_AGE < now:
                run.wipe()
            else:
                fresh.append(run)
        expired = len(fresh) < len(self.runs)
        if expired:
            self.runs = fresh
            self.count = sum(map(len, fresh))
        return expired

    def expire_first(self, now: float) -> None:
        """:meth:`expire` where the lowest numbers, which are the oldest, say that there is need."""
        if self.runs and self.runs[0].since + MAX_AGE < now:
            self.expire(now)

    def serialize(self) -> bytes:
        """``count u16 ‖ (first u32 ‖ time u64 ‖ count u16 ‖ keys) …``."""
        parts = [struct.pack(">H", len(self.runs))]
        for run in self.runs:
            parts.append(_RUN.pack(run.first, run.since, len(run)))
            parts.append(bytes(run.keys))
        return b"".join(parts)

    def parse_runs(self, fields: Fields) -> None:
        """Take what :meth:`serialize` wrote; :class:`StateError` if it is something else."""
        beyond = 0
        for _ in range(fields.number(2)):
            first, since, count = fields.unpack(_RUN)
            if first < beyond or not count:
                raise StateError("ratchet state: damaged (kept keys)")
            beyond = first + count
            self.add(KeyRun(first, since, bytearray(fields.take(count * KEY))))

    def __repr__(self) -> str:
        return f"<KeptChain {self.count} keys>"


def make_room(chains: list[KeptChain], coming: int) -> None:
    """Give up the oldest keys (of ``chains``, oldest first) until ``coming`` more are within the bound."""
    excess = sum(chain.count for chain in chains) + coming - MAX_KEPT
    for chain in chains:
        if excess <= 0:
            return
        given_up = min(excess, chain.count)
        chain.drop(given_up)
        excess -= given_up
