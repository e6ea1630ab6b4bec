"""How long to wait for an answer: until it is slow, and three times as long until it is given up."""

from __future__ import annotations

from array import array
from typing import Final

SHORTEST: Final = 0.4
"""Seconds, however quick the others are: a node on another continent is no dead node."""
LONGEST: Final = 1.5
"""Seconds, however slow: a lookup meets dead nodes, and waits this long for each."""
FACTOR: Final = 3.0
SOONEST: Final = 0.002
"""Seconds until a query is slow, however quick the others are: no timer is much finer."""
SAMPLES: Final = 64
"""Round trips remembered."""
FEW: Final = 8
"""Round trips until they say anything; before, :data:`LONGEST` holds, and a third of it."""


class RoundTrips:
    """The last round trips of one node or client, to whichever nodes."""

    __slots__ = ("_samples", "_usual")

    def __init__(self) -> None:
        self._samples = array("f")
        self._usual = LONGEST / FACTOR

    def took(self, seconds: float) -> None:
        """An answer came after so long."""
        self._samples.append(seconds)
        del self._samples[:-SAMPLES]
        if len(self._samples) >= FEW:
            ordered = sorted(self._samples)
            ninetieth = ordered[len(ordered) * 9 // 10]
            self._usual = ninetieth

    @property
    def timeout(self) -> float:
        """Seconds to wait for the next one."""
        return min(LONGEST, max(SHORTEST, FACTOR * self._usual))

    @property
    def slow(self) -> float:
        """Seconds after which the next one is slower than nine of ten were lately."""
        return min(LONGEST / FACTOR, max(SOONEST, self._usual))
