"""Connections with a loaded page that wait for a carrier: what a censor sees of them is a visitor's."""

from __future__ import annotations

from collections.abc import Callable

from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.visit import Visited


class WaitingVisits:
    """Those of one dialer, the longest waiting first."""

    __slots__ = ("_visits",)

    def __init__(self) -> None:
        self._visits: list[tuple[str, Visited]] = []

    def __len__(self) -> int:
        return len(self._visits)

    def add(self, traffic: str, visited: Visited) -> None:
        """One more, loaded for a carrier of this class."""
        self._visits.append((traffic, visited))

    def take(self, fits: Callable[[str], bool]) -> Visited | None:
        """The first that can still be used and was loaded for a class that ``fits``."""
        for position, (traffic, visited) in enumerate(self._visits):
            if visited.usable and fits(traffic):
                del self._visits[position]
                return visited
        return None

    def forget(self) -> bool:
        """Drop those that their server has closed; whether there were any."""
        dead = [one for one in self._visits if not one[1].usable]
        for one in dead:
            self._visits.remove(one)
            one[1].drop()
        return bool(dead)

    def drop(self) -> list[Connection]:
        """Close all; their connections, to be aborted should they not end."""
        visits, self._visits = self._visits, []
        for _, visited in visits:
            visited.drop()
        return [connection for _, visited in visits for connection in visited.connections]
