"""Many things with the same time limit, and one timer for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Calls ``overdue(item)`` for each item that stays in for ``seconds``.

    Adding and discarding cost a dictionary entry each: items fall due in the
    order in which they came.
    """

    __slots__ = ("_due", "_loop", "_overdue", "_seconds", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, overdue: Callable[[T], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._overdue = overdue
        self._due: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: T) -> None:
        """Start the clock for ``item``; one that is in already keeps its time."""
        if item not in self._due:
            self._due[item] = self._loop.time() + self._seconds
            if self._timer is None:
                self._timer = self._loop.call_later(self._seconds, self._look)

    def discard(self, item: T) -> None:
        """``item`` was in time, or was not waited for at all."""
        self._due.pop(item, None)

    def close(self) -> None:
        """Forget all."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._loop.time()
        late = []
        for item, due in self._due.items():
            if due > now:
                self._timer = self._loop.call_at(due, self._look)
                break
            late.append(item)
        else:
            self._timer = None
        for item in late:
            self._due.pop(item, None)
        for item in late:
            self._overdue(item)
