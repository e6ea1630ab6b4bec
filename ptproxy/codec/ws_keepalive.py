"""When a bridge says something on a silent WebSocket: before whatever stands in front would cut it.

How long silence may last is told by the operator, or learnt: several connections
that broke off after the same silence were cut for it. Clients never say anything
for silence's sake, as no browser does; servers' pings are an everyday sight.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Final

SHORTEST: Final = 9.0
"""Seconds: no front is known that cuts a silent connection sooner than after 10."""
LONGEST: Final = 600.0
"""Seconds after which a break says nothing of silence."""
ALIKE: Final = 0.01
"""Share by which the silences before two cuts of one time limit differ at most ..."""
ALIKE_SECONDS: Final = 0.25
""" ... or seconds, where that is more: the loop's own delays."""
PROOFS: Final = 3
"""Breaks after the same silence that teach: ends of other kinds rarely agree so often."""
REMEMBERED: Final = 8
"""Breaks that are compared."""
PAUSE: Final = (0.5, 0.8)
"""Shares of the cut between which the silence before a ping is drawn, each time anew."""


class Keepalive:
    """What all connections of one bridge know of cuts. ``cut``: seconds of silence, 0.0 for none known."""

    __slots__ = ("_breaks", "cut")

    def __init__(self, cut: float = 0.0) -> None:
        self.cut = cut
        self._breaks: deque[float] = deque(maxlen=REMEMBERED)

    def broke_off(self, silence: float) -> None:
        """A connection ended without a close frame after ``silence`` seconds without a byte either way."""
        if not SHORTEST <= silence <= LONGEST:
            return
        self._breaks.append(silence)
        width = max(ALIKE * silence, ALIKE_SECONDS)
        alike = [known for known in self._breaks if abs(known - silence) <= width]
        if len(alike) >= PROOFS and (not self.cut or min(alike) < self.cut):
            self.cut = min(alike)
            self._breaks.clear()

    def pause(self, rng: Random) -> float:
        """Seconds of silence before the next ping."""
        return self.cut * rng.uniform(*PAUSE)

    def is_due(self, silence: float) -> bool:
        """Whether nothing was said for long enough."""
        return silence >= PAUSE[0] * self.cut
