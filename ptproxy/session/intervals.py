"""A set of numbers kept as intervals: small when nearly all numbers up to some point are in it."""

from __future__ import annotations

from bisect import bisect_right

from ptproxy.errors import SessionError


class Intervals:
    """A growing set of non-negative integers (R3: ids ever seen; R2: carriers given up).

    ``limit`` bounds the number of intervals; one more raises
    :class:`~ptproxy.errors.SessionError`.
    """

    __slots__ = ("_ends", "_limit", "_starts")

    def __init__(self, limit: int) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []  # one past the last number
        self._limit = limit

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._starts, number) - 1
        return index >= 0 and number < self._ends[index]

    def __len__(self) -> int:
        """How many intervals there are."""
        return len(self._starts)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Start and end (not included) of each interval, rising, as :meth:`add_range` takes them."""
        return list(zip(self._starts, self._ends, strict=True))

    def add(self, number: int) -> None:
        """Put one number in."""
        self.add_range(number, number + 1)

    def add_range(self, start: int, end: int) -> None:
        """Put ``start`` up to, not including, ``end`` in."""
        if start >= end:
            return
        starts, ends = self._starts, self._ends
        if starts and start == ends[-1]:  # nearly always: the next number after the last
            ends[-1] = end
            return
        first = bisect_right(ends, start - 1)  # the first interval that touches or follows
        last = bisect_right(starts, end)  # one past the last interval that touches
        if first < last:
            start = min(start, starts[first])
            end = max(end, ends[last - 1])
        elif len(starts) >= self._limit:
            raise SessionError("too many gaps in the numbers used")
        starts[first:last] = [start]
        ends[first:last] = [end]
