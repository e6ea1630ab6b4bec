"""How long to wait for an answer: three times what nine of ten answers lately took."""

from __future__ import annotations

from array import array
from typing import Final

SHORTEST: Final = 0.4
"""Seconds, however quick the others are: a node on another continent is no dead node."""
LONGEST: Final = 1.5
"""Seconds, however slow: a lookup meets dead nodes, and waits this long for each."""
FACTOR: Final = 3.0
SAMPLES: Final = 64
"""Round trips remembered."""
FEW: Final = 8
"""Round trips until they say anything; before, :data:`LONGEST` holds."""


class RoundTrips:
    """The last round trips of one node or client, to whichever nodes."""

    __slots__ = ("_samples", "_timeout")

    def __init__(self) -> None:
        self._samples = array("d")
        self._timeout = LONGEST

    def took(self, seconds: float) -> None:
        """An answer came after so long."""
        self._samples.append(seconds)
        del self._samples[:-SAMPLES]
        if len(self._samples) >= FEW:
            ordered = sorted(self._samples)
            ninetieth = ordered[len(ordered) * 9 // 10]
            self._timeout = min(LONGEST, max(SHORTEST, FACTOR * ninetieth))

    @property
    def timeout(self) -> float:
        """Seconds to wait for the next one."""
        return self._timeout
