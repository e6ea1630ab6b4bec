"""How often somebody may do something: leaky buckets by name, in memory and of a bounded number.

A bucket begins empty of debts: ``burst`` at once, ``rate`` a second after that.
Names are accounts or boxes; they are never written anywhere. When more names
are there than fit, the one that has been silent longest is forgotten, which
can only be in its favour.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

MAX_NAMES: Final = 16_384
"""Names remembered, 200 bytes each: more than the sessions of a bridge, so that nobody who is
connected is forgotten by default (``limits.sessions`` is 4,096)."""


@dataclass(slots=True)
class _Bucket:
    debt: float
    at: float


class Rates:
    """One kind of thing that is counted, for everybody."""

    __slots__ = ("_buckets", "_burst", "_most", "_rate")

    def __init__(self, burst: float, rate: float, most: int = MAX_NAMES) -> None:
        """``burst`` units at once, ``rate`` units a second in the long run, ``most`` names."""
        self._burst = burst
        self._rate = rate
        self._most = most
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait(self, name: Hashable, cost: float, now: float) -> int:
        """Seconds until ``name`` may spend ``cost``, rounded up; 0: it may now. Nothing is spent."""
        over = self._settled(name, now).debt + cost - self._burst
        return max(1, math.ceil(over / self._rate)) if over > 0 else 0

    def spend(self, name: Hashable, cost: float, now: float) -> None:
        """It did; the debt never grows beyond twice the burst."""
        bucket = self._settled(name, now)
        bucket.debt = min(bucket.debt + cost, 2 * self._burst)

    def take(self, name: Hashable, cost: float, now: float) -> int:
        """Spend ``cost`` if ``name`` may; 0, or the seconds until then."""
        seconds = self.wait(name, cost, now)
        if not seconds:
            self.spend(name, cost, now)
        return seconds

    def _settled(self, name: Hashable, now: float) -> _Bucket:
        """The bucket of ``name`` as it is now; a clock that goes back forgives nothing."""
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._buckets.popitem(last=False)
            bucket = self._buckets[name] = _Bucket(0.0, now)
            return bucket
        self._buckets.move_to_end(name)
        bucket.debt = max(0.0, bucket.debt - max(0.0, now - bucket.at) * self._rate)
        bucket.at = max(bucket.at, now)
        return bucket
