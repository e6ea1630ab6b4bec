"""How long we must know a node before we hand it on to others.

A node that has just come is used and remembered, but not recommended. So whoever
makes ids for one place has to keep them alive there for days before any stranger
hears of them; where the places of records move each epoch (``beacon``), that is
longer than a place lasts.

In a network that is young itself nobody has been there for days: the acquaintance
asked for is a share of the network's own age, until it has reached its full length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FULL: Final = 96 * 3_600.0
"""Seconds of acquaintance that an old network asks for: four epochs of a day."""
SHARE: Final = 0.25
"""Of the network's age, while that is less than :data:`FULL`: it then takes 16 days to the full length."""


@dataclass(frozen=True, slots=True)
class Probation:
    """``founded``: when the network began (unix seconds), as the signed list of first nodes says."""

    founded: float
    full: float = FULL
    share: float = SHARE

    def required(self, now: float) -> float:
        """Seconds that a node must have been known."""
        return max(0.0, min(self.full, (now - self.founded) * self.share))

    def passed(self, since: float, now: float) -> bool:
        """Whether a node that has answered us since ``since`` may be handed on."""
        return now - since >= self.required(now)


NO_PROBATION: Final = Probation(founded=0.0, full=0.0)
