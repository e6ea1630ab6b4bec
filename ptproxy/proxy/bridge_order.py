"""In which order bridges are tried, and which of those that work a new stream takes (``find.choice``).

============  =====================================================================================
``ordered``   the first in the client's order
``weighted``  any, by chance: all are in use side by side, each as often as its weight says
``measured``  the one that opened quickest in this network
============  =====================================================================================

A weight is a number from ``find.weights`` by the bridge's ``HOST:PORT``, 1 where none is given: of two
bridges with 3 and 1 the first takes three streams of four. One with 0 is for the time when no other works.
Whatever the choice, a bridge that rests (:class:`~ptproxy.ways.Ways`) comes after all others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, Literal

from ptproxy.config.link import Link
from ptproxy.config.quantities import Endpoint
from ptproxy.ways import Way, Ways

UNKNOWN: Final = 1e9
"""Seconds: where nothing was measured, after all that was."""

Choice = Literal["ordered", "weighted", "measured"]


class BridgeOrder:
    """One client's."""

    def __init__(
        self, ways: Ways, choice: Choice, rng: Random, weights: Mapping[str, float] | None = None
    ) -> None:
        """``weights`` by ``HOST:PORT``."""
        self.choice = choice
        self.preferred: Way | None = None
        """Whom a person has chosen: it comes first wherever it works, whatever ``choice``."""
        self._ways = ways
        self._rng = rng
        self._weights = weights or {}

    def ordered(self, lines: Sequence[Link]) -> list[Link]:
        """In which order to try them."""
        now = time.time()
        lines = list(lines)
        if self.choice == "weighted":  # as if each were drawn by its weight from those that are left
            lines.sort(key=self._drawn, reverse=True)
        elif self.choice == "measured":
            lines.sort(key=lambda line: self.took(line, now))
        lines.sort(key=lambda line: whole(line) != self.preferred)
        return sorted(lines, key=lambda line: self._ways.rests_until(whole(line), now))

    def taken(self, working: Sequence[Link], known: Sequence[Link]) -> Link:
        """Which of those that work, one at least, a new stream takes; ``known`` is the client's order."""
        chosen = next((line for line in working if whole(line) == self.preferred), None)
        if chosen is not None:
            return chosen
        if self.choice == "weighted":
            weights = [self.weight(line) for line in working]
            if not any(weights):
                weights = [1.0] * len(working)
            return self._rng.choices(working, weights)[0]
        rank = {whole(line): index for index, line in enumerate(self.ordered(known))}
        return min(working, key=lambda line: rank.get(whole(line), len(rank)))

    def weight(self, line: Link) -> float:
        """How often it is taken, against others."""
        return self._weights.get(str(Endpoint(line.host, line.port)), 1.0)

    def took(self, line: Link, now: float) -> float:
        """Seconds that it took to open here by its quickest front; what was not measured comes last."""
        fronts = [whole(line), *(Way(one.key, one.host, one.port) for one in line.by_front())]
        return min(
            (took for way in fronts if (took := self._ways.took(way, now)) is not None), default=UNKNOWN
        )

    def _drawn(self, line: Link) -> float:
        """Efraimidis and Spirakis, Weighted random sampling with a reservoir (2006), section 3."""
        weight = self.weight(line)
        return self._rng.random() ** (1.0 / weight) if weight > 0 else -self._rng.random()


def whole(line: Link) -> Way:
    """What is remembered of a bridge as a whole goes by this."""
    return Way(line.key, f"bridge {line.host}", line.port)  # no host has such a name
