"""How soon a connection that was cut is replaced: at once, unless whoever cuts does it again and again."""

from __future__ import annotations

from random import Random
from typing import Final

AT_ONCE: Final = 6.0
"""Connections in a row, each cut before it was of use, that are replaced without a pause."""
EVERY: Final = 3.0
"""Seconds from one to the next in the long run: a storm of handshakes helps nobody and shows."""


class Redials:
    """A bucket of dials: full while connections live, emptied by those that are cut at once."""

    __slots__ = ("_at", "_left", "_rng")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._left = AT_ONCE
        self._at = float("-inf")

    def lived(self) -> None:
        """The last connection was of use."""
        self._left = AT_ONCE

    def cut(self, now: float) -> float:
        """The last connection was cut before it was of use: seconds to wait until the next is dialled."""
        self._left = min(AT_ONCE, self._left + (now - self._at) / EVERY) - 1.0
        self._at = now
        return max(0.0, -self._left) * EVERY * self._rng.uniform(0.75, 1.25)
