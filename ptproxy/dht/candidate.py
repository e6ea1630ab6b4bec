"""What a lookup knows of one node, and the list of them that one of its paths works through."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from enum import IntEnum
from itertools import islice
from typing import Final

from ptproxy.dht.contact import Contact
from ptproxy.dht.density import Seats
from ptproxy.dht.identifier import NodeId

KEPT: Final = 64
"""Candidates that a path keeps, the closest: three times what it needs, for nodes that are gone."""
SLACK: Final = 40
"""More candidates until those are picked out: two answers."""
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
        "source",
        "standing",
    )

    def __init__(self, contact: Contact, distance: int, depth: int, source: NodeId | None) -> None:
        self.contact = contact
        self.distance = distance
        self.depth = depth
        """Answers that led here: 0 for the nodes that a lookup begins with."""
        self.source = source
        """Who named it first; None for those from our own table."""
        self.standing = Standing.HEARD
        self.admitted = False
        self.path = NOBODY
        """The path that asked it: no other one does."""
        self.asked_at = 0.0
        self.deadline = 0.0


class Path:
    """The candidates of one path, closest first. Paths share what a candidate is, not who it was named to."""

    __slots__ = ("_entries", "_names", "_number", "_seats", "asking")

    def __init__(self, number: int, seats: Seats) -> None:
        self._number = number
        self._seats = seats
        self._entries: list[tuple[int, Candidate]] = []
        self._names: set[NodeId] = set()
        self.asking = 0
        """Queries of this path that are out."""

    def __contains__(self, node: NodeId) -> bool:
        return node in self._names

    def add(self, candidate: Candidate) -> None:
        """One more (not yet in it)."""
        insort(self._entries, (candidate.distance, candidate))
        self._names.add(candidate.contact.id)
        if len(self._entries) > KEPT + SLACK:
            self._trim()

    def drop(self, candidate: Candidate) -> None:
        """Take one out that was refused."""
        if candidate.contact.id in self._names:
            self._names.discard(candidate.contact.id)
            self._entries.remove((candidate.distance, candidate))

    def front(self, count: int, width: int) -> Iterator[Candidate]:
        """The closest candidates that have a seat.

        Ends when ``count`` of them are not silent, and ``width`` of those not asked by
        another path. A silent node keeps its seat: else a crowd that does not answer
        would be asked one by one.
        """
        alive = own = 0
        for candidate in self._seated():
            yield candidate
            if candidate.standing is not Standing.SILENT:
                alive += 1
                own += candidate.path in (NOBODY, self._number)
                if alive >= count and own >= width:
                    return

    def _seated(self) -> Iterator[Candidate]:
        seats = self._seats.taken(distance for distance, _ in self._entries)
        return (candidate for (_, candidate), taken in zip(self._entries, seats, strict=True) if taken)

    def _trim(self) -> None:
        """Keep those with a seat: a crowd at the target must not push out the nodes around it."""
        kept = list(islice(self._seated(), KEPT))
        self._entries = [(candidate.distance, candidate) for candidate in kept]
        self._names = {candidate.contact.id for candidate in kept}
