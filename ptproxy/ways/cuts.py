"""What is done to carriers that were open: cut after so many bytes or seconds, or made slow.

One cut says nothing: networks break connections. Three in a row of the same
length, or of the same age, are a rule that somebody made, and so is a carrier
that ends again and again before it was of any use.

Slowness needs more evidence, for what sounds like a throttled download is
perhaps a radio program: a carrier is *throttled* where its bytes a second stay
far below what the same way has brought on this network, **and** something waits
for more: bytes of ours that are not acknowledged, or answers that take many
times as long as they did.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from ptproxy.ways.degrees import Degree

ALIKE: Final = 1.5
"""Cuts are of one length or age where the largest is at most so many times the smallest: what lay in
buffers when a carrier was cut counts here, and not for who cut it."""
IN_A_ROW: Final = 3
"""Cuts that must be alike."""
LEAST_SECONDS: Final = 1.0
"""An age below that is no rule of time: connections are cut by their bytes then."""
USELESS: Final = 16 << 10
"""A carrier that was cut with fewer bytes than that was of no use; it is also where some censors cut."""
SOON: Final = 30.0
"""... in fewer seconds than that: idle ones are cut with few bytes by every network."""
SAMPLES: Final = 4
"""Looks in a row at which a carrier must be slow."""
SLOW_SHARE: Final = 0.125
"""Of the best rate that was seen of the way on this network."""
SLOW_RATE: Final = 256 << 10
"""Bytes a second above which nothing counts as throttled."""
WORTH: Final = 256 << 10
"""Bytes a second that the best rate must have been."""
LATE: Final = 4.0
LATE_LEAST: Final = 1.0
"""An answer is late where it takes so many times the best, and so many seconds."""


@dataclass(slots=True)
class Cuts:
    """The last ends of carriers on one way that were not ours."""

    ends: list[tuple[int, float]] = field(default_factory=list)
    """Bytes both ways and seconds, the oldest first."""

    def add(self, size: int, seconds: float) -> Degree | None:
        """A carrier was cut; the rule that this looks like, if any."""
        self.ends = [*self.ends[1 - IN_A_ROW :], (size, seconds)]
        if len(self.ends) < IN_A_ROW:
            return None
        sizes, ages = [max(one[0], 1) for one in self.ends], [one[1] for one in self.ends]
        if (max(sizes) <= USELESS and max(ages) <= SOON) or USELESS < max(sizes) <= ALIKE * min(sizes):
            return Degree.CUT_BYTES
        if min(ages) >= LEAST_SECONDS and max(ages) <= ALIKE * min(ages):
            return Degree.CUT_SECONDS
        return None

    def to_list(self) -> list[list[float]]:
        """JSON-able."""
        return [[float(size), seconds] for size, seconds in self.ends]

    @classmethod
    def from_list(cls, data: Any) -> Cuts:
        """What :meth:`to_list` gave; ``ValueError`` or ``TypeError`` for anything else."""
        ends = [(int(size), float(seconds)) for size, seconds in list(data)[:IN_A_ROW]]
        if any(not 0 <= size < 1 << 60 or not 0.0 <= seconds < 1e12 for size, seconds in ends):
            raise ValueError("no cut")
        return cls(ends)


@dataclass(slots=True)
class Flow:
    """How fast one carrier is, looked at every few seconds."""

    best_rtt: float = 0.0
    slow: int = 0
    """Looks in a row."""

    def look(self, rate: float, best: float, rtt: float | None, unacknowledged: int) -> Degree | None:
        """``rate`` now and ``best`` ever, bytes a second; seconds of the last answer; our bytes that wait.

        ``THROTTLED``, once, when it was slow at :data:`SAMPLES` looks in a row.
        """
        if rtt:
            self.best_rtt = min(self.best_rtt or rtt, rtt)
        late = rtt is not None and rtt >= max(LATE * self.best_rtt, LATE_LEAST)
        waits = late or unacknowledged > rate  # more than a second's worth is out
        is_slow = best >= WORTH and rate < min(SLOW_SHARE * best, SLOW_RATE)
        self.slow = self.slow + 1 if rate > 0 and waits and is_slow else 0
        return Degree.THROTTLED if self.slow == SAMPLES else None
