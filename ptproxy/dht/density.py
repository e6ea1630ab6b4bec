"""How many nodes may lie close to a place before it looks like a crowd that was put there.

Honest ids are spread evenly, so of N nodes about N · d / 2^256 lie within a
distance d of any place. Whoever wants to own a record makes ids that are closer
than all others: twenty do. :class:`DensityCap` lets only a few more than nature
stand for a place, so that the honest nodes around it are asked as well; a cluster,
however large, holds its few seats and no more.

:class:`NetworkSize` is the N: the median of what lookups found, so that a crowd at
one place, also around ourselves, does not move it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from ptproxy.dht.identifier import ID_BITS, NodeId

FLOOR: Final = 5
"""Nodes that may lie at a place whatever their distance: of 20 replicas, 15 then lie further out."""
SLOPE: Final = 2.0
"""Nodes let in for each that nature would put there. Twice: half of the nodes may be hostile, or gone."""
SAMPLES: Final = 31
"""Estimates kept for the median."""
FEW: Final = 4
"""Nodes of a result, at least, that an estimate is made from; the fewer, the further off it is."""


@dataclass(frozen=True, slots=True)
class Seats:
    """Places for nodes around a target, the first ``floor`` anywhere, each later one ``step`` further out."""

    floor: int
    step: int
    """Distance between seats; 0: as many as come."""

    def taken(self, distances: Iterable[int]) -> Iterator[bool]:
        """For each distance, in rising order, whether it has a seat."""
        seat = 0
        reach = 0  # what the next seat asks for
        for distance in distances:
            if distance < reach:
                yield False
                continue
            seat += 1
            if seat >= self.floor:
                reach += self.step
            yield True


NO_CAP: Final = Seats(1, 0)


@dataclass(frozen=True, slots=True)
class DensityCap:
    """How many nodes may lie within a distance: ``slope`` times what is natural, and ``floor`` besides."""

    floor: int = FLOOR
    slope: float = SLOPE

    def seats(self, network_size: float | None) -> Seats:
        """In a network of that many nodes; no cap while nobody knows how many there are."""
        if network_size is None:
            return NO_CAP
        return Seats(self.floor, int((1 << ID_BITS) / (self.slope * max(network_size, 1.0))))


class NetworkSize:
    """How many nodes there are, from the distances of those that lookups for random places found."""

    __slots__ = ("_median", "_samples")

    def __init__(self) -> None:
        self._samples = array("d")
        self._median: float | None = None

    def found(self, target: NodeId, nodes: Sequence[NodeId]) -> None:
        """A lookup for ``target``, which nobody could know beforehand, found ``nodes`` as the closest.

        With n even in the whole, the k-th smallest distance is a share k / (n + 1) of
        it; (k - 1) / share is without bias.
        """
        if len(nodes) < FEW:
            return
        furthest = max(node ^ target for node in nodes)
        self._samples.append((len(nodes) - 1) * (1 << ID_BITS) / max(furthest, 1))
        del self._samples[:-SAMPLES]
        self._median = median(self._samples)

    def estimate(self) -> float | None:
        """The median; None before the first lookup."""
        return self._median
