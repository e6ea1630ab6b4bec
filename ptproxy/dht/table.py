"""The nodes that a directory node knows: a bucket for each length of prefix shared with its own id.

Only nodes that have answered us are in it (``answered`` is called for a verified
answer and nothing else): whoever merely writes to us, or is named by another, is
not. Memory is bounded by what exists: about k · log2(N / k) nodes with as many
spares at most.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final

from ptproxy.dht.bucket import NOWHERE, Acquaintance, Bucket
from ptproxy.dht.contact import Contact
from ptproxy.dht.density import NO_CAP, Seats
from ptproxy.dht.diversity import Diversity
from ptproxy.dht.identifier import ID_BITS, NodeId, Rng, id_at_prefix, shared_prefix
from ptproxy.dht.probation import Probation

K: Final = 20
"""Nodes in a bucket, contacts in a reply, replicas of a record (Kademlia, section 2.2)."""
REFRESH: Final = 3_600.0
"""Seconds until a bucket that no lookup went through is looked through."""

NEVER: Final = float("-inf")
EVER: Final = float("inf")


class RoutingTable:
    """What one node knows of the others; ``own`` itself never gets in."""

    __slots__ = ("_buckets", "_diversity", "_probation", "_size", "own")

    def __init__(self, own: NodeId, diversity: Diversity, probation: Probation, size: int = K) -> None:
        self.own = own
        self._diversity = diversity
        self._probation = probation
        self._size = size
        self._buckets: dict[int, Bucket] = {}

    def answered(self, contact: Contact, now: float) -> None:
        """A node has answered us, and its answer verified."""
        if contact.id == self.own:
            return
        self._bucket(shared_prefix(self.own, contact.id), now).answered(contact, now)

    def restore(self, known: Acquaintance) -> None:
        """A node from a table of earlier; ``seen`` stays what it was."""
        shared = shared_prefix(self.own, known.contact.id)
        if shared == ID_BITS:
            return
        bucket = self._bucket(shared, NEVER)
        if not bucket.knows(known.contact.id):
            bucket.place(known)

    def failed(self, node: NodeId) -> None:
        """A node did not answer in time."""
        bucket = self._buckets.get(shared_prefix(self.own, node))
        if bucket is not None:
            bucket.failed(node)

    def forget(self, node: NodeId) -> None:
        """A node has shown itself hostile: an answer that was signed, and false."""
        bucket = self._buckets.get(shared_prefix(self.own, node))
        if bucket is not None:
            bucket.forget(node)

    def closest(self, target: NodeId, seats: Seats = NO_CAP, count: int = K) -> list[Contact]:
        """The nodes to begin a lookup with, closest first; those that did not answer lately come last."""
        found: list[Contact] = []
        late: list[Contact] = []
        for group in self._outwards(target):
            found += _ordered((contact for bucket in group for contact in bucket.nodes.alive(EVER)), target)
            late += _ordered((contact for bucket in group for contact in bucket.nodes.late()), target)
            if len(found) >= count and len(chosen := _seated(found, target, seats)) >= count:
                return chosen[:count]
        return (_seated(found, target, seats) + late)[:count]

    def nearest(self, target: NodeId) -> Contact | None:
        """The node closest to ``target`` that answered when asked last, spares too; None if there is none."""
        for group in self._outwards(target):
            met = [
                one for bucket in group for roll in (bucket.nodes, bucket.spares) for one in roll.alive(EVER)
            ]
            if met:
                return min(met, key=lambda contact: contact.id ^ target)
        return None

    def handed_on(self, target: NodeId, now: float, seats: Seats = NO_CAP, count: int = K) -> list[Contact]:
        """The nodes to name to somebody else, closest first: alive, past their probation, of many networks.

        Of a crowd at ``target`` only those with a seat are named, so that whoever asks
        hears of the honest nodes around it too.
        """
        found: list[Contact] = []
        known_by = now - self._probation.required(now)
        for group in self._outwards(target):
            alive = (contact for bucket in group for contact in bucket.nodes.alive(known_by))
            found += _ordered(alive, target)
            if len(found) >= count:
                chosen = self._diversity.spread(_seated(found, target, seats))
                if len(chosen) >= count:
                    return chosen[:count]
        return self._diversity.spread(_seated(found, target, seats))[:count]

    def touch(self, target: NodeId, now: float) -> None:
        """A lookup for ``target`` went through its bucket."""
        bucket = self._buckets.get(shared_prefix(self.own, target))
        if bucket is not None:
            bucket.touched = max(bucket.touched, now)

    def refresh(self, now: float, rng: Rng) -> list[NodeId]:
        """Identifiers to look up now, one for each bucket that is due; they count as looked up.

        Buckets beyond our closest node's are empty by nature: looking up our own id covers them.
        """
        due = []
        for shared in range(max(self._buckets, default=-1) + 1):
            bucket = self._bucket(shared, NEVER)
            if now - bucket.touched >= REFRESH:
                bucket.touched = now
                due.append(id_at_prefix(self.own, shared, rng))
        return due

    def questionable(self, before: float, count: int) -> list[Contact]:
        """At most ``count`` nodes to ping, not seen since ``before`` while a spare waits; oldest first."""
        known = (one for bucket in self._buckets.values() for one in bucket.questionable(before))
        return [one.contact for one in heapq.nsmallest(count, known, key=lambda one: one.seen)]

    def get(self, node: NodeId) -> Acquaintance | None:
        """What we know of a node in the table; None for spares and strangers."""
        bucket = self._buckets.get(shared_prefix(self.own, node))
        if bucket is None or (place := bucket.nodes.find(node)) == NOWHERE:
            return None
        return bucket.nodes[place]

    def met(self, node: NodeId) -> Acquaintance | None:
        """What we know of a node in the table or among its spares; None for strangers."""
        bucket = self._buckets.get(shared_prefix(self.own, node))
        if bucket is not None:
            for roll in (bucket.nodes, bucket.spares):
                if (place := roll.find(node)) != NOWHERE:
                    return roll[place]
        return None

    def has_use_for(self, contact: Contact, now: float) -> bool:
        """Whether a stranger is worth getting to know: its bucket has a place, or only old spares."""
        bucket = self._buckets.get(shared_prefix(self.own, contact.id))
        return bucket is None or bucket.has_use_for(contact, now)

    def is_near(self, location: NodeId) -> bool:
        """Whether a record at ``location`` belongs to us as well: few nodes that we know are closer to it.

        Twice as many as keep it, as publishers know other nodes than we do.
        """
        ours = self.own ^ location
        contacts = (contact for bucket in self._buckets.values() for contact in bucket.nodes.contacts)
        return sum(contact.id ^ location < ours for contact in contacts) < 2 * self._size

    def __iter__(self) -> Iterator[Acquaintance]:
        """Every node in the table, without the spares."""
        for bucket in self._buckets.values():
            yield from bucket.nodes

    def __len__(self) -> int:
        return sum(len(bucket.nodes) for bucket in self._buckets.values())

    def _bucket(self, shared: int, now: float) -> Bucket:
        bucket = self._buckets.get(shared)
        if bucket is None:
            bucket = self._buckets[shared] = Bucket(self._size, self._diversity, now)
        return bucket

    def _outwards(self, target: NodeId) -> Iterator[list[Bucket]]:
        """Buckets in groups, each wholly closer to ``target`` than the next group.

        The bucket that ``target`` itself falls into is closest; then come all that share
        a longer prefix with us (to ``target`` their distances lie in one range); then
        each shorter prefix in turn.
        """
        shared = shared_prefix(self.own, target)
        buckets = self._buckets
        if shared in buckets:
            yield [buckets[shared]]
        yield [bucket for deeper, bucket in buckets.items() if deeper > shared]
        for shallower in range(shared - 1, -1, -1):
            if shallower in buckets:
                yield [buckets[shallower]]


def _ordered(contacts: Iterable[Contact], target: NodeId) -> list[Contact]:
    return sorted(contacts, key=lambda contact: contact.id ^ target)


def _seated(ordered: list[Contact], target: NodeId, seats: Seats) -> list[Contact]:
    """Those of ``ordered``, closest first, that have a seat."""
    taken = seats.taken(contact.id ^ target for contact in ordered)
    return [contact for contact, seat in zip(ordered, taken, strict=True) if seat]
