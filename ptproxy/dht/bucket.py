"""One bucket of a routing table: up to k nodes that have answered us, and spares for when one leaves.

The node seen longest ago stands first. Whoever is in and answers stays in,
however many newcomers wait: long uptime predicts longer uptime, and an attacker
cannot push out those who are there (Kademlia, section 2.4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ptproxy.dht.contact import Contact
from ptproxy.dht.diversity import Diversity, Network
from ptproxy.dht.identifier import NodeId
from ptproxy.errors import DhtError

SPARES: Final = 20
"""Nodes in a replacement cache; the oldest goes for a new one."""
FAILURES: Final = 2
"""Queries in a row without an answer until a spare takes the place: one loss is nothing."""


_TIMES: Final = struct.Struct(">QQ")


@dataclass(slots=True)
class Acquaintance:
    """A node that has answered us at least once.

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
        return cls(contact, since, seen)

    def serialize(self) -> bytes:
        """207 or 219 bytes."""
        return _TIMES.pack(int(self.since), int(self.seen)) + self.contact.serialize()


@dataclass(slots=True)
class Bucket:
    """Nodes at one length of shared prefix. ``touched``: when it was last looked through (unix seconds)."""

    size: int
    diversity: Diversity
    touched: float
    nodes: dict[NodeId, Acquaintance] = field(default_factory=dict)
    spares: dict[NodeId, Acquaintance] = field(default_factory=dict)
    _networks: dict[Network, int] = field(default_factory=dict)

    def answered(self, contact: Contact, now: float) -> None:
        """A node answered: it stays, comes in, or waits among the spares."""
        known = self.nodes.pop(contact.id, None)
        if known is not None:
            self._count(known.contact, -1)
        else:
            known = self.spares.pop(contact.id, None)
        if known is None:
            known = Acquaintance(contact, now, now)
        else:
            known.seen = max(known.seen, now)
            known.failures = 0
            if contact.supersedes(known.contact):
                known.contact = contact
        self.place(known)

    def place(self, known: Acquaintance) -> None:
        """Put a node that is in neither list where there is a place for it."""
        if len(self.nodes) < self.size and self._has_room(known.contact):
            self.nodes[known.contact.id] = known
            self._count(known.contact, 1)
            return
        self.spares[known.contact.id] = known
        if len(self.spares) > SPARES:
            del self.spares[next(iter(self.spares))]

    def failed(self, node: NodeId) -> None:
        """A node did not answer. It goes when a spare can take its place, and else stays to be tried again.

        So a machine that was off the network for a while does not wake up to an empty table.
        """
        known = self.nodes.get(node)
        if known is None:
            self.spares.pop(node, None)
            return
        known.failures += 1
        if known.failures >= FAILURES:
            self._replace(known)

    def forget(self, node: NodeId) -> None:
        """Take out a node that lied."""
        self.spares.pop(node, None)
        known = self.nodes.pop(node, None)
        if known is not None:
            self._count(known.contact, -1)
            self._promote()

    def questionable(self, before: float) -> Iterator[Acquaintance]:
        """Nodes not seen since ``before`` while a spare waits for a place."""
        if self.spares:
            for known in self.nodes.values():
                if known.seen < before:
                    yield known

    def _replace(self, known: Acquaintance) -> None:
        self._count(known.contact, -1)
        spare = self._best_spare()
        if spare is None:
            self._count(known.contact, 1)
            return
        del self.nodes[known.contact.id]
        self._admit(spare)

    def _promote(self) -> None:
        spare = self._best_spare()
        if spare is not None:
            self._admit(spare)

    def _admit(self, spare: Acquaintance) -> None:
        del self.spares[spare.contact.id]
        self.nodes[spare.contact.id] = spare
        self._count(spare.contact, 1)

    def _best_spare(self) -> Acquaintance | None:
        """The spare seen last whose network has a place here."""
        for spare in reversed(self.spares.values()):
            if self._has_room(spare.contact):
                return spare
        return None

    def _has_room(self, contact: Contact) -> bool:
        limit = self.diversity.in_bucket
        return self._networks.get(self.diversity.network_of(contact.address), 0) < limit

    def _count(self, contact: Contact, change: int) -> None:
        network = self.diversity.network_of(contact.address)
        count = self._networks.get(network, 0) + change
        if count:
            self._networks[network] = count
        else:
            del self._networks[network]
