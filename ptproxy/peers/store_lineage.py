"""Where a store has been: what tells an old copy, and another copy's work, from its own past.

A *run* is what one start of the program writes; it begins with a random name. A :class:`Mark`, run and
revision, names one state of a store among all its copies. Each store knows the last runs that led to
what it is, its :class:`Lineage`. A mark that was left outside of the database (the witness, a note
at the mailbox) is in its past, or it is not: then the database is older than the mark, or the
mark is another copy's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final, Self

from ptproxy.errors import StateError
from ptproxy.fields import Fields

RUN: Final = 16
"""Bytes of a run's name."""
MAX_RUNS: Final = 64
"""Runs that are remembered: a mark that is older is taken for one's own past."""

_MARK: Final = struct.Struct(f">{RUN}sQ")
MARK: Final = _MARK.size
"""Bytes of a mark."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One state of one copy."""

    run: bytes
    revision: int

    def serialize(self) -> bytes:
        """``MARK`` bytes."""
        return _MARK.pack(self.run, self.revision)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From ``MARK`` bytes; any are one."""
        return cls(*_MARK.unpack(data))


class Finding(Enum):
    """What a mark is to a store."""

    PAST = "past"
    """It has been there, or cannot tell any more."""
    AHEAD = "ahead"
    """It was there once, and is an older copy now."""
    FOREIGN = "foreign"
    """It never was: another copy did that."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The last runs, oldest first, each with its first revision."""

    runs: tuple[Mark, ...] = ()

    def begun(self, run: bytes, revision: int) -> Lineage:
        """With one run more, which begins with ``revision``."""
        return Lineage((*self.runs, Mark(run, revision))[-MAX_RUNS:])

    def find(self, mark: Mark, revision: int) -> Finding:
        """What ``mark`` is to the store whose newest state is ``revision``."""
        ends = [later.revision - 1 for later in self.runs[1:]] + [revision]
        for run, last in zip(self.runs, ends, strict=True):
            if run.run == mark.run:
                return Finding.PAST if mark.revision <= last else Finding.AHEAD
        forgotten = len(self.runs) == MAX_RUNS and mark.revision < self.runs[0].revision
        return Finding.PAST if forgotten else Finding.FOREIGN

    def serialize(self) -> bytes:
        """Stored form: count u8 ‖ each: run 16 ‖ first revision u64."""
        return bytes([len(self.runs)]) + b"".join(run.serialize() for run in self.runs)

    @classmethod
    def take(cls, fields: Fields) -> Self:
        """From the front of ``fields``; :class:`StateError` where revisions do not rise."""
        runs = tuple(Mark.parse(fields.take(MARK)) for _ in range(fields.number(1)))
        revisions = [run.revision for run in runs]
        if len(runs) > MAX_RUNS or revisions != sorted(set(revisions)):
            raise StateError("store: the lineage is damaged")
        return cls(runs)
