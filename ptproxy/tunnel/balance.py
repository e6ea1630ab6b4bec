"""Which streams of a client without a shape ride together; without I/O.

On one TLS connection a lost packet of a download holds up everything behind it, however little that is.
So what has been bulk for a while does not stay on one carrier with the rest where there may be another. The
small streams move (R15): a move costs a round trip of silence, and a download notices that more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

EVERY: Final = 1.0
"""Seconds between looks while anything moves."""
BULK: Final = 32 << 10
"""Bytes between two looks, both ways, above which a stream is bulk: a download over a bad line is above,
and what people type and say is below."""
LOOKS: Final = 2
"""Looks in a row that make a stream bulk, or take that from it."""


@dataclass(frozen=True, slots=True)
class Riding:
    """A stream at a look."""

    stream: int
    carrier: int
    moved: int
    """Bytes both ways so far."""


@dataclass(slots=True)
class Advice:
    """What a look led to."""

    moves: list[tuple[int, int]] = field(default_factory=list)
    """Streams and the carriers they go to."""
    is_short: bool = False
    """One more carrier would part bulk from the rest."""


@dataclass(slots=True)
class _Seen:
    moved: int
    looks: int = 0
    """Looks in a row that said otherwise than ``is_bulk``."""
    is_bulk: bool = False


class Balance:
    """Remembers what each stream moved, and says who is to go where."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}
        self.busy: frozenset[int] = frozenset()
        """Carriers that had bulk at the last look."""

    def look(self, riding: Iterable[Riding], carriers: Collection[int]) -> Advice:
        """To be called every :data:`EVERY` seconds; ``carriers`` are those that streams may go to."""
        advice, before, now = Advice(), self._seen, {}
        bulk: Counter[int] = Counter()
        small: list[Riding] = []
        for one in riding:
            seen = before.get(one.stream) or _Seen(one.moved)
            much = one.moved - seen.moved > BULK
            seen.looks = seen.looks + 1 if much is not seen.is_bulk else 0
            if seen.looks >= LOOKS:
                seen.is_bulk, seen.looks = much, 0
            seen.moved = one.moved
            now[one.stream] = seen
            if seen.is_bulk:
                bulk[one.carrier] += 1
            else:
                small.append(one)
        self._seen = now
        self.busy = frozenset(bulk)
        free = [carrier for carrier in carriers if not bulk[carrier]]
        for one in small:
            if not bulk[one.carrier]:
                continue
            if not free:
                advice.is_short = True
                break
            advice.moves.append((one.stream, free[0]))
        return advice
