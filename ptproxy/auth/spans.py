"""A bounded set of seconds, which may come to hold more than was put in, never less."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, Self

MAX_SPANS: Final = 64
"""Intervals kept. A clock that runs as it should needs two or three; each jump of it adds one or two."""
LATEST: Final = 2**63 - 1
"""No second is later: 8 bytes hold each."""

Span = tuple[int, int]
"""First and last second, both in it."""


class Spans:
    """Whole seconds (unix time) as intervals, in order, none touching the next.

    Where there would be more than ``limit`` the two oldest become one, with all that is between
    them: what is refused by that lies furthest in the past.
    """

    __slots__ = ("_limit", "_spans")

    def __init__(self, spans: Iterable[Span] = (), limit: int = MAX_SPANS) -> None:
        self._limit = limit
        self._spans: list[Span] = []
        for first, last in spans:
            self.add(first, last)

    @classmethod
    def parse(cls, found: object) -> Self:
        """From lists of two numbers, as JSON has them; raises ``ValueError``."""
        if not isinstance(found, list):
            raise ValueError
        made = cls()
        for pair in found:
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(map(_is_second, pair)):
                raise ValueError
            if pair[0] > pair[1]:
                raise ValueError
            made.add(*pair)
        return made

    def add(self, first: int, last: int) -> bool:
        """Put the seconds from ``first`` to ``last`` in; whether any of them is new."""
        at = bisect_right(self._spans, (first, LATEST))
        if at and self._spans[at - 1][1] >= last:
            return False
        start = end = at
        if at and self._spans[at - 1][1] >= first - 1:
            start, first = at - 1, self._spans[at - 1][0]
        while end < len(self._spans) and self._spans[end][0] <= last + 1:
            last = max(last, self._spans[end][1])
            end += 1
        self._spans[start:end] = [(first, last)]
        if len(self._spans) > self._limit:
            self._spans[:2] = [(self._spans[0][0], self._spans[1][1])]
        return True

    def __contains__(self, second: int) -> bool:
        at = bisect_right(self._spans, (second, LATEST))
        return at > 0 and self._spans[at - 1][1] >= second

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def __len__(self) -> int:
        """How many intervals there are."""
        return len(self._spans)

    def __repr__(self) -> str:
        return f"<Spans {self._spans}>"


def _is_second(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LATEST
