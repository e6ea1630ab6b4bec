"""Carriers that ended before they were a session's, and whose connections wait for a goodbye."""

from __future__ import annotations

from collections import deque

from ptproxy.tunnel.carrier import CLOSE_TIMEOUT, Carrier


class Farewells:
    """``most`` of them; one more ends the connection that has waited longest, without a goodbye.

    Who can make openings and never says goodbye otherwise keeps a connection for :data:`CLOSE_TIMEOUT` each.
    """

    __slots__ = ("_most", "_waiting")

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[tuple[float, Carrier]] = deque()

    def __len__(self) -> int:
        """How many may be waiting."""
        return len(self._waiting)

    def add(self, carrier: Carrier, now: float) -> None:
        """A carrier has ended at ``now``, in the loop's time."""
        self.sweep(now)
        self._waiting.append((now, carrier))
        while len(self._waiting) > self._most:
            self._waiting.popleft()[1].cut_off()

    def sweep(self, now: float) -> None:
        """Forget those whose time is over: they have ended by themselves."""
        while self._waiting and self._waiting[0][0] <= now - CLOSE_TIMEOUT:
            self._waiting.popleft()
