"""The world's clock for a node: unix seconds that never go back, however the machine's clock is set.

A wait that began before the clock was put back an hour would last an hour longer. So a clock
that is behind goes half as fast until the machine's has caught up with it; one that is ahead is followed
at once (a laptop that slept, a clock that was set right).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

Now: TypeAlias = Callable[[], float]
"""Unix seconds, as of now; never less than it said before."""


class SteadyClock:
    """Callable: see the module. ``wall`` and ``steady`` are the machine's two clocks."""

    __slots__ = ("_at", "_now", "_steady", "_wall")

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._at = steady()
        self._now = wall()

    def __call__(self) -> float:
        """Unix seconds."""
        at, wall = self._steady(), self._wall()
        passed, self._at = at - self._at, at
        self._now = max(wall, self._now + passed / 2)
        return self._now
