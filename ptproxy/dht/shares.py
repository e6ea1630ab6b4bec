"""Which records of a node count for whom, and who has most: what each write asks, so nothing is counted.

Those who have equally many stand together, and the highest number of all is known. A number changes by one
at a time, so that each step is a few look-ups, however many thousand have records here.
"""

from __future__ import annotations

from ptproxy.dht.identifier import NodeId


class Shares:
    """Locations by the guard for whom they count."""

    __slots__ = ("_level", "_levels", "_locations")

    def __init__(self) -> None:
        self._locations: dict[NodeId, dict[NodeId, None]] = {}
        self._levels: dict[int, dict[NodeId, None]] = {}
        self._level = 0

    def __len__(self) -> int:
        """How many guards have records."""
        return len(self._locations)

    @property
    def most(self) -> int:
        """Records of the guard that has most; 0 if nobody has any."""
        return self._level

    def of(self, guard: NodeId) -> int:
        """Records of one guard."""
        return len(self._locations.get(guard, ()))

    def add(self, guard: NodeId, location: NodeId) -> None:
        """A record at ``location``, where there was none, counts for ``guard``."""
        theirs = self._locations.setdefault(guard, {})
        theirs[location] = None
        self._move(guard, len(theirs) - 1, len(theirs))

    def remove(self, guard: NodeId, location: NodeId) -> None:
        """The record there, which counted for ``guard``, does so no longer."""
        theirs = self._locations[guard]
        del theirs[location]
        self._move(guard, len(theirs) + 1, len(theirs))
        if not theirs:
            del self._locations[guard]

    def last_of_most(self) -> NodeId:
        """The location that came last to the guard that has most. There must be one."""
        guard = next(iter(self._levels[self._level]))
        return next(reversed(self._locations[guard]))

    def _move(self, guard: NodeId, before: int, after: int) -> None:
        if after:
            self._levels.setdefault(after, {})[guard] = None
        if before:
            level = self._levels[before]
            del level[guard]
            if not level:
                del self._levels[before]
        if after > self._level or self._level not in self._levels:
            self._level = after
