"""How much somebody may ask of a node: leaky buckets, and a bounded table of them by guard.

A bucket begins empty of debts: ``burst`` at once, ``rate`` a second after that. When more
guards come than fit, the one that has been silent longest is forgotten, which can only be in
its favour; what it stored stays counted where it is stored (``storage``).

A guard is whom a request counts for: the address of the node that passes on what a bridge or
client asks, or of a neighbour that hands a record on (``responder.account``).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ptproxy.dht.identifier import NodeId

MAX_GUARDS: Final = 4_096
"""Guards remembered, 200 bytes each: every guard of a directory of 10^4 nodes that is busy at once."""
WRITES_AT_ONCE: Final = 600
"""Records that one guard may write at once: 100 bridges restarting, two epochs, three replicas."""
WRITES_PER_SECOND: Final = 1.0
"""Records that one guard may write in the long run: a neighbour hands 16,384 on within six hours."""
FAILURES_AT_ONCE: Final = 20
"""Records without work that may come from one guard at once: a client behind it, or a damaged program."""
FAILURES_PER_SECOND: Final = 0.02
"""The same in the long run: 2,500 guards would be needed to take all the checks that a node makes."""


class LeakyBucket:
    """One bucket. ``burst`` units at once, ``rate`` units a second in the long run."""

    __slots__ = ("_at", "_burst", "_debt", "_rate")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._debt = 0.0
        self._at = float("-inf")

    def take(self, cost: float, now: float) -> bool:
        """Spend ``cost`` and say True, or spend nothing. A clock that goes back forgives nothing."""
        if now > self._at:
            self._debt = max(0.0, self._debt - (now - self._at) * self._rate)
            self._at = now
        if self._debt + cost > self._burst:
            return False
        self._debt += cost
        return True

    def refund(self, cost: float) -> None:
        """What was taken was not used."""
        self._debt = max(0.0, self._debt - cost)


class WriteQuotas:
    """What each guard may still write at this node."""

    __slots__ = ("_buckets", "_burst", "_rate")

    def __init__(self, burst: float = WRITES_AT_ONCE, rate: float = WRITES_PER_SECOND) -> None:
        self._burst = burst
        self._rate = rate
        self._buckets: OrderedDict[NodeId, LeakyBucket] | None = None  # until somebody writes

    def __len__(self) -> int:
        return len(self._buckets or ())

    def take(self, guard: NodeId, now: float) -> bool:
        """Count one write of ``guard``, if it may; False: not now."""
        if self._buckets is None:
            self._buckets = OrderedDict()
        bucket = self._buckets.get(guard)
        if bucket is None:
            if len(self._buckets) >= MAX_GUARDS:
                self._buckets.popitem(last=False)
            bucket = self._buckets[guard] = LeakyBucket(self._burst, self._rate)
        else:
            self._buckets.move_to_end(guard)
        return bucket.take(1, now)

    def refund(self, guard: NodeId) -> None:
        """The last one was none that counts."""
        bucket = self._buckets.get(guard) if self._buckets else None
        if bucket is not None:
            bucket.refund(1)
