"""One bucket of a routing table: up to k nodes that have answered us, and spares for when one leaves.

Whoever is in and answers stays in, however many newcomers wait: long uptime predicts
longer uptime, and an attacker cannot push out those who are there (Kademlia, section 2.4).

A directory has many acquaintances, a table some hundred: so they are kept as columns
(:class:`Roll`), 20 bytes each, and an :class:`Acquaintance` is made for whoever asks for one.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ptproxy.dht.contact import Contact, shared
from ptproxy.dht.diversity import UNLIMITED, Diversity
from ptproxy.dht.identifier import NodeId
from ptproxy.errors import DhtError

SPARES: Final = 20
"""Nodes in a replacement cache; the oldest goes for a new one."""
OLD: Final = 3_600.0
"""Seconds until a spare is worth less than a stranger: in a bucket full of fresh ones nobody is missing."""
FAILURES: Final = 2
"""Queries in a row without an answer until a spare takes the place: one loss is nothing."""

LATEST: Final = (1 << 32) - 1
"""Unix seconds that an acquaintance can have at most: of the year 2106."""
NOWHERE: Final = -1
"""The place in a :class:`Roll` of somebody who is not in it."""

_TIMES: Final = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """A node that has answered us at least once: what a table knows of it at this moment.

    Kept over a restart as ``since u64 │ seen u64 │ contact`` (whole seconds).
    """

    contact: Contact
    since: float
    """First answer, unix seconds."""
    seen: float
    """Last answer, unix seconds."""
    failures: int = 0
    """Queries without an answer since then."""

    @classmethod
    def parse(cls, data: bytes) -> Acquaintance:
        """From what :meth:`serialize` made; :class:`DhtError` for anything else."""
        if len(data) < _TIMES.size:
            raise DhtError("an acquaintance that is cut short")
        since, seen = _TIMES.unpack_from(data)
        contact, end = Contact.parse(data, _TIMES.size)
        if end != len(data):
            raise DhtError("an acquaintance with something behind it")
        if max(since, seen) > LATEST:
            raise DhtError("an acquaintance of a time that no clock has")
        return cls(contact, since, seen)

    def serialize(self) -> bytes:
        """207 or 219 bytes."""
        return _TIMES.pack(int(self.since), int(self.seen)) + self.contact.serialize()


class Roll:
    """Acquaintances in an order, as columns: the contacts, and three numbers for each of them.

    Times are whole seconds here. Found by going through them: there are 20 at most.
    """

    __slots__ = ("_figures", "contacts")

    def __init__(self) -> None:
        self.contacts: list[Contact] = []
        self._figures = array("I")  # since, seen, failures; since, seen, ...

    def __len__(self) -> int:
        return len(self.contacts)

    def __iter__(self) -> Iterator[Acquaintance]:
        return (self[place] for place in range(len(self.contacts)))

    def __getitem__(self, place: int) -> Acquaintance:
        since, seen, failures = self._figures[3 * place : 3 * place + 3]
        return Acquaintance(self.contacts[place], since, seen, failures)

    def find(self, node: NodeId) -> int:
        """Where a node stands, or :data:`NOWHERE`."""
        for place, contact in enumerate(self.contacts):
            if contact.id == node:
                return place
        return NOWHERE

    def append(self, known: Acquaintance) -> None:
        """One more, at the end."""
        self.contacts.append(shared(known.contact))
        self._figures.extend((_second(known.since), _second(known.seen), known.failures))

    def pop(self, place: int) -> Acquaintance:
        """Take one out."""
        known = self[place]
        del self.contacts[place]
        del self._figures[3 * place : 3 * place + 3]
        return known

    def answered(self, place: int, now: float) -> None:
        """The node at ``place`` answered. A clock that goes back makes nobody unseen."""
        figures = self._figures
        figures[3 * place + 1] = max(figures[3 * place + 1], _second(now))
        figures[3 * place + 2] = 0

    def failed(self, place: int) -> int:
        """The node at ``place`` did not; how often in a row by now."""
        self._figures[3 * place + 2] += 1
        return self._figures[3 * place + 2]

    def alive(self, known_by: float) -> list[Contact]:
        """Those who answered when asked last, and for the first time at ``known_by`` or before."""
        figures = self._figures
        columns = zip(self.contacts, figures[::3], figures[2::3], strict=True)
        return [contact for contact, since, failures in columns if not failures and since <= known_by]

    def late(self) -> list[Contact]:
        """Those who did not answer when asked last."""
        columns = zip(self.contacts, self._figures[2::3], strict=True)
        return [contact for contact, failures in columns if failures]


def _second(seconds: float) -> int:
    """A time as a :class:`Roll` has it."""
    return int(min(max(seconds, 0), LATEST))


_NOBODY: Final = Roll()
"""The spares of every bucket that has none, most of them: never written to."""


class Bucket:
    """Nodes at one length of shared prefix. ``touched``: when it was last looked through (unix seconds).

    ``spares``: those seen last stand last.
    """

    __slots__ = ("_diversity", "_size", "nodes", "spares", "touched")

    def __init__(self, size: int, diversity: Diversity, touched: float) -> None:
        self._size = size
        self._diversity = diversity
        self.touched = touched
        self.nodes = Roll()
        self.spares = _NOBODY

    def answered(self, contact: Contact, now: float) -> None:
        """A node answered: it stays, comes in, or waits among the spares."""
        roll, place = self._find(contact.id)
        if place == NOWHERE:
            self.place(Acquaintance(contact, now, now))
            return
        roll.answered(place, now)
        moved = contact.supersedes(roll.contacts[place])
        if roll is self.nodes and not moved:
            return
        known = roll.pop(place)  # its network, or its turn among the spares, is another one now
        self.place(Acquaintance(contact if moved else known.contact, known.since, known.seen))

    def place(self, known: Acquaintance) -> None:
        """Put a node that is in neither list where there is a place for it."""
        if len(self.nodes) < self._size and self._has_room(known.contact):
            self.nodes.append(known)
            return
        if self.spares is _NOBODY:
            self.spares = Roll()
        self.spares.append(known)
        if len(self.spares) > SPARES:
            self.spares.pop(0)

    def knows(self, node: NodeId) -> bool:
        """Whether a node is in it, or among the spares."""
        return self._find(node)[1] != NOWHERE

    def has_use_for(self, contact: Contact, now: float) -> bool:
        """Whether a stranger is worth a ping: there is a place, or a spare not heard of for :data:`OLD`."""
        if len(self.spares) < SPARES or (len(self.nodes) < self._size and self._has_room(contact)):
            return True
        return now - self.spares[0].seen >= OLD

    def failed(self, node: NodeId) -> None:
        """A node did not answer. It goes when a spare can take its place, and else stays to be tried again.

        So a machine that was off the network for a while does not wake up to an empty table.
        """
        roll, place = self._find(node)
        if place == NOWHERE:
            return
        if roll is self.spares:
            roll.pop(place)
        elif roll.failed(place) >= FAILURES:
            known = roll.pop(place)
            if not self._promote():
                roll.append(known)

    def forget(self, node: NodeId) -> None:
        """Take out a node that lied."""
        roll, place = self._find(node)
        if place != NOWHERE:
            roll.pop(place)
            if roll is self.nodes:
                self._promote()

    def questionable(self, before: float) -> Iterator[Acquaintance]:
        """Nodes not seen since ``before`` while a spare waits for a place."""
        if self.spares:
            for known in self.nodes:
                if known.seen < before:
                    yield known

    def _find(self, node: NodeId) -> tuple[Roll, int]:
        place = self.nodes.find(node)
        return (self.nodes, place) if place != NOWHERE else (self.spares, self.spares.find(node))

    def _promote(self) -> bool:
        """Let in the spare seen last whose network has a place here, if there is one."""
        for place in range(len(self.spares) - 1, -1, -1):
            if self._has_room(self.spares.contacts[place]):
                self.nodes.append(self.spares.pop(place))
                return True
        return False

    def _has_room(self, contact: Contact) -> bool:
        """Whether the network of ``contact`` has fewer places than it may."""
        limit, network_of = self._diversity.in_bucket, self._diversity.network_of
        if limit >= UNLIMITED:
            return True
        network = network_of(contact.address)
        return sum(network_of(one.address) == network for one in self.nodes.contacts) < limit
