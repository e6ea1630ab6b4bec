"""Places that all clients of a bridge share: nobody can take them all from the others."""

from __future__ import annotations

from collections.abc import Callable


class Place:
    """One place, until it is given back or taken away."""

    __slots__ = ("_number", "_places", "peer", "taken_away", "vacate")

    def __init__(self, places: FairPlaces, peer: str, number: int) -> None:
        self._places = places
        self._number = number
        self.peer = peer
        self.taken_away = False
        """Whether somebody who had fewer has it now."""
        self.vacate: Callable[[], object] = _nothing
        """What is to end, called as the place is taken away."""

    def give_back(self) -> None:
        """It is free. May be called twice, and after it was taken away."""
        self._places.free(self.peer, self._number)


class FairPlaces:
    """``most`` places. While one is free, whoever comes gets it.

    When none is, who has at least two fewer than somebody else takes the newest of who has most. So clients
    that all want many come to have equally many, and who wants few gets them, whatever others ask for.
    """

    __slots__ = ("_held", "_last", "_most", "_taken")

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[str, dict[int, Place]] = {}
        self._taken = 0
        self._last = 0

    def __len__(self) -> int:
        """How many are taken."""
        return self._taken

    def take(self, peer: str) -> Place | None:
        """A place for ``peer``, None where there is none; may end what has another."""
        mine = self._held.get(peer, {})
        if self._taken >= self._most:
            if not self._held or len(mine) * len(self._held) >= self._taken:  # as many as others
                return None
            richest = max(self._held.values(), key=len)
            if len(richest) < len(mine) + 2:
                return None
            place = next(reversed(richest.values()))
            place.taken_away = True
            place.give_back()
            place.vacate()
        self._last += 1
        made = self._held.setdefault(peer, {})[self._last] = Place(self, peer, self._last)
        self._taken += 1
        return made

    def free(self, peer: str, number: int) -> None:
        """See :meth:`Place.give_back`."""
        held = self._held.get(peer)
        if held is not None and held.pop(number, None) is not None:
            self._taken -= 1
            if not held:
                del self._held[peer]


def _nothing() -> None:
    """Nothing has begun in the place yet."""
