"""What a lookup knows of one node, and the list of them that one of its paths works through."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from enum import IntEnum
from itertools import islice
from typing import Final

from ptproxy.dht.contact import Contact
from ptproxy.dht.density import Seats
from ptproxy.dht.identifier import ID_BITS, NodeId

KEPT: Final = 64
"""Candidates that a path keeps, the closest: three times what it needs, for nodes that are gone."""
SLACK: Final = 40
"""More candidates until those are picked out: two answers."""
NEVER: Final = float("inf")
NOBODY: Final = -1
"""The path of a candidate that is not asked yet."""


class Standing(IntEnum):
    """How far a lookup has come with a node."""

    HEARD = 0
    """Named by somebody."""
    ASKED = 1
    ANSWERED = 2
    SILENT = 3
    """No answer in time; one that comes later still counts."""
    REFUSED = 4
    """Its contact is forged, its work missing, or its answer false: as if it had never been named."""


class Candidate:
    """One node in one lookup. ``distance`` is to the lookup's target."""

    __slots__ = (
        "admitted",
        "asked_at",
        "contact",
        "deadline",
        "depth",
        "distance",
        "path",
        "slow_at",
        "sources",
        "standing",
    )

    def __init__(self, contact: Contact, distance: int, depth: int, sources: list[NodeId] | None) -> None:
        self.contact = contact
        self.distance = distance
        self.depth = depth
        """Answers that led here: 0 for the nodes that a lookup begins with."""
        self.sources = sources
        """Who named it with this contact; None for those from our own table."""
        self.standing = Standing.HEARD
        self.admitted = False
        self.path = NOBODY
        """The path that asked it: no other one does."""
        self.asked_at = 0.0
        self.slow_at = NEVER
        """When its answer frees a place though it is still waited for; :data:`NEVER` if it has none."""
        self.deadline = 0.0


class Path:
    """The candidates of one path, closest first. Paths share what a candidate is, not who it was named to."""

    __slots__ = ("_entries", "_number", "_seats", "asking", "idle", "limit", "names", "out")

    def __init__(self, number: int, seats: Seats) -> None:
        self._number = number
        self._seats = seats
        self._entries: list[tuple[int, Candidate]] = []
        self.names: set[NodeId] = set()
        """The nodes in the list."""
        self.limit = 1 << ID_BITS
        """The distance beyond which nobody is of use any more."""
        self.asking = 0
        """Queries of this path that are out, and not slow."""
        self.out = 0
        """Queries of this path that are waited for."""
        self.idle = False
        """It has enough, until it hears of somebody or a node of its list is gone."""

    def add(self, candidate: Candidate) -> None:
        """One more (not yet in it)."""
        self.idle = False
        insort(self._entries, (candidate.distance, candidate))
        self.names.add(candidate.contact.id)
        if len(self._entries) > KEPT + SLACK:
            self._trim()

    def drop(self, candidate: Candidate) -> None:
        """Take one out that was refused."""
        if candidate.contact.id in self.names:
            self.names.discard(candidate.contact.id)
            self._entries.remove((candidate.distance, candidate))

    def next_heard(self, count: int, width: int, permitted: Callable[[Contact], bool]) -> Candidate | None:
        """The closest candidate to ask: not asked by anybody, with a seat, and ``permitted``.

        None if the path has enough: ``count`` that were asked and are not silent are closer,
        and ``width`` of them it has asked itself. A silent node keeps its seat: else a crowd
        that does not answer would be asked one by one.
        """
        floor, step = self._seats.floor, self._seats.step
        seat = reach = alive = own = 0
        number = self._number
        # Seats as in Seats.taken, in one loop: this is what a lookup spends its time on.
        for distance, candidate in self._entries:
            if distance < reach:
                continue
            seat += 1
            if seat >= floor:
                reach += step
            standing = candidate.standing
            if standing is Standing.HEARD:
                if permitted(candidate.contact):
                    return candidate
            elif standing is not Standing.SILENT:
                own += candidate.path == number
                alive += 1
            if alive >= count and own >= width:
                return None
        return None

    def _seated(self) -> Iterator[Candidate]:
        seats = self._seats.taken(distance for distance, _ in self._entries)
        return (candidate for (_, candidate), taken in zip(self._entries, seats, strict=True) if taken)

    def _trim(self) -> None:
        """Keep those with a seat: a crowd at the target must not push out the nodes around it."""
        kept = list(islice(self._seated(), KEPT))
        self._entries = [(candidate.distance, candidate) for candidate in kept]
        self.names = {candidate.contact.id for candidate in kept}
        if len(kept) == KEPT:
            self.limit = kept[-1].distance
