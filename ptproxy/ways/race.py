"""Which attempt to start when: the idea of RFC 8305 (Happy Eyeballs), over ways instead of addresses.

The rules, for candidates in their order of preference, each in a *group* (those
of one address fail together):

1.  The first candidate starts at once.
2.  Each attempt has a time within which it should come further: :data:`STAGGER` until
    TCP and TLS stand, :data:`OPENING_STAGGER` for what follows. When that of the newest
    one is over, the next candidate starts beside it. It goes on: what is late is not dead.
3.  An attempt that fails starts the next one at once.
4.  The next one is the first of a group that nothing is running for. Another codec at an
    address that does not answer would be as silent as the first.
5.  When nothing else is left, candidates are started again beside the silent ones, after
    :data:`AGAIN` and ever longer: what swallowed one dial may let the next one through. One
    that has TLS is not silent: a second page load would only be in its way.
6.  At most :data:`MOST` run at once. The first that succeeds ends the race.

RFC 8305 section 5 recommends 250 ms between attempts and at least 100 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

STAGGER: Final = 0.25
"""Seconds for TCP and TLS to a front of which nothing is known (RFC 8305 section 5)."""
STAGGER_LEAST: Final = 0.1
STAGGER_MOST: Final = 2.0
"""Where it is known how long a way takes to TLS, twice that, between these (RFC 8305: 0.1 and 2)."""
OPENING_STAGGER: Final = 4.0
"""Seconds for the page and the opening once TLS stands: a page takes its time."""
AGAIN: Final = 2.0
AGAIN_LAST: Final = 8.0
"""Seconds until a silent candidate is started again beside itself: doubled from the first to the last."""
MOST: Final = 4
"""Attempts at once."""

Candidate = TypeVar("Candidate", bound=Hashable)


class Race(Generic[Candidate]):
    """The decisions of one race. Who runs it starts what :meth:`start` says, and tells what becomes of it."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        group_of: Callable[[Candidate], Hashable],
        stagger: Callable[[Candidate], float] | None = None,
    ) -> None:
        """``stagger``: seconds that an attempt may take to TLS before the next one starts."""
        self._waiting = list(candidates)
        self._group_of = group_of
        self._stagger = stagger or (lambda _: STAGGER)
        self._running: dict[int, Candidate] = {}
        self._silent: set[int] = set()
        self._started = 0
        self._due = float("-inf")
        self._again_at = float("-inf")
        self._again = AGAIN

    @property
    def running(self) -> int:
        """Attempts that have neither failed nor succeeded."""
        return len(self._running)

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing is left to start."""
        return not self._running and not self._waiting

    def deadline(self) -> float | None:
        """When :meth:`start` has something to say; None: when something happens first."""
        if self.over or len(self._running) >= MOST:
            return None
        if self._next() is not None:
            return self._due
        return max(self._due, self._again_at) if self._waiting or self._silent else None

    def start(self, now: float) -> list[tuple[int, Candidate]]:
        """What to start now, each with the number that it goes by."""
        due = self.deadline()
        if due is None or now < due:
            return []
        candidate = self._next()
        if candidate is None:
            candidate = self._waiting[0] if self._waiting else self._running[min(self._silent)]
            self._again = min(2 * self._again, AGAIN_LAST)
        if candidate in self._waiting:
            self._waiting.remove(candidate)
        self._due = now + self._stagger(candidate)
        self._again_at = now + self._again
        self._started += 1
        self._running[self._started] = candidate
        self._silent.add(self._started)
        return [(self._started, candidate)]

    def progressed(self, number: int, now: float) -> None:
        """An attempt has TCP or TLS: the next one waits for what it does with it."""
        self._silent.discard(number)
        if number in self._running:
            self._due = max(self._due, now + OPENING_STAGGER)

    def failed(self, number: int, now: float) -> None:
        """An attempt has failed; the next one starts at once."""
        self._silent.discard(number)
        if self._running.pop(number, None) is not None:
            self._due = now
            if not self._running:
                self._again_at = now

    def group_failed(self, number: int, now: float) -> None:
        """An attempt has failed as all of its group will: those not started are not."""
        candidate = self._running.get(number)
        if candidate is not None:
            group = self._group_of(candidate)
            self._waiting = [one for one in self._waiting if self._group_of(one) != group]
        self.failed(number, now)

    def _next(self) -> Candidate | None:
        """The first of a group that nothing runs for; None: all that is left would be silent, too."""
        busy = {self._group_of(one) for one in self._running.values()}
        return next((one for one in self._waiting if self._group_of(one) not in busy), None)
