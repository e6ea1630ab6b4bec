"""Connections with a loaded page that wait for a carrier: what a censor sees of them is a visitor's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Ahead(Protocol):
    """A page that was loaded and waits: on connections of our own (:class:`~ptproxy.tunnel.visit.Visited`),
    or a browser's guest with it (:class:`~ptproxy.tunnel.chromium.BrowserVisit`).

    Until a carrier goes on there nothing of it is anybody's but a visitor's.
    """

    @property
    def usable(self) -> bool:
        """Whether a carrier can begin there."""

    def drop(self) -> None:
        """Close it, as a browser does that has no more use for it."""

    def abort(self) -> None:
        """Break it, where that did not end it."""


class WaitingVisits:
    """Those of one dialer, the longest waiting first."""

    __slots__ = ("_visits",)

    def __init__(self) -> None:
        self._visits: list[tuple[str, Ahead]] = []

    def __len__(self) -> int:
        return len(self._visits)

    def add(self, traffic: str, visited: Ahead) -> None:
        """One more, loaded for a carrier of this class."""
        self._visits.append((traffic, visited))

    def take(self, fits: Callable[[str], bool]) -> Ahead | None:
        """The first that can still be used and was loaded for a class that ``fits``."""
        for position, (traffic, visited) in enumerate(self._visits):
            if visited.usable and fits(traffic):
                del self._visits[position]
                return visited
        return None

    def forget(self) -> bool:
        """Drop those that are no use any more: closed by their server, or too old. Whether there were any."""
        dead = [one for one in self._visits if not one[1].usable]
        for one in dead:
            self._visits.remove(one)
            one[1].drop()
        return bool(dead)

    def drop(self) -> list[Ahead]:
        """Close all; they are returned, to be aborted should they not end."""
        visits, self._visits = self._visits, []
        for _, visited in visits:
            visited.drop()
        return [visited for _, visited in visits]
