"""A directory of up to millions of nodes in memory; its tables, replies and lookups are the real ones.

Only what is touched exists. A node's table is made when it is first asked: up to k
nodes that are drawn from those at each length of shared prefix ("ideal tables", as
after a long time without churn), put into a real :class:`RoutingTable`. Hostile nodes
know all others of their kind, and every one of them answers as the attack says.
"""

from __future__ import annotations

import heapq
import math
import random
import time
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.density import NO_CAP, DensityCap
from ptproxy.dht.diversity import ANY_NETWORK, Diversity
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.lookup import Lookup
from ptproxy.dht.lookup_rules import LookupRules
from ptproxy.dht.probation import NO_PROBATION, Probation
from ptproxy.dht.round_trips import RoundTrips
from ptproxy.dht.table import K, RoutingTable

LOW = 192
"""Bits of an id below those that are drawn; the drawn 64 order the nodes."""
TABLES_KEPT = 4_000
"""Routing tables in memory at a time."""
CONTACTS_KEPT = 400_000
DAY = 86_400.0
ESTABLISHED = 30 * DAY
"""How long nodes have known each other, but for those that an attacker has just put in."""


class Crowd:
    """Ids in order, and who is closest to a place."""

    def __init__(self, heads: list[int]) -> None:
        self.heads = array("Q", dict.fromkeys(sorted(heads)))

    def __len__(self) -> int:
        return len(self.heads)

    def at_prefix(self, head: int, shared: int) -> tuple[int, int]:
        """The range of those that share ``shared`` leading bits with ``head``."""
        low = head >> (64 - shared) << (64 - shared) if shared else 0
        start = bisect_left(self.heads, low)
        end = bisect_left(self.heads, low + (1 << (64 - shared))) if shared else len(self.heads)
        return start, end

    def closest(self, target: NodeId, count: int) -> list[int]:
        """The heads of the ``count`` closest."""
        head = target >> LOW
        shared = 63
        start, end = self.at_prefix(head, shared)
        while end - start < count and shared:
            shared -= 1
            start, end = self.at_prefix(head, shared)
        return sorted(self.heads[start:end], key=lambda one: one ^ head)[:count]


def id_of(head: int) -> NodeId:
    """The whole id of a node: the rest follows from the head."""
    return head << LOW | head * 0x9E3779B97F4A7C15F39CC0605CEDC8341082276BF3A27251 % (1 << LOW)


@dataclass(slots=True)
class Costs:
    """What one lookup took."""

    asked: int = 0
    seconds: float = 0.0
    hops: int = 0
    """Queries, one behind another, up to the closest node."""
    answers: list[tuple[NodeId, list[Contact]]] = field(default_factory=list)
    """Who named whom, in order: what :meth:`SimulatedNetwork.cpu` goes through again."""
    found: list[Contact] = field(default_factory=list)
    record: bytes | None = None
    holders: int = 0


@dataclass(frozen=True)
class World:
    """What a simulated network is like."""

    nodes: int
    seed: int = 1
    hostile: float = 0.0
    """Share of all nodes, spread evenly."""
    gone: float = 0.0
    """Share of the honest nodes that do not answer though they stand in tables."""
    loss: float = 0.0
    """Share of queries or answers that are lost."""
    k: int = K
    diversity: Diversity = ANY_NETWORK
    probation: Probation = NO_PROBATION
    cap: DensityCap | None = field(default_factory=DensityCap)
    """Of replies; lookups have their own."""
    forge: bool = False
    """Whether every second hostile node answers with a false record."""
    estimate: float = 1.0
    """The network's size as everybody takes it to be, as a share of the true one."""
    blocks: int = 0
    """Address blocks (/16) that the hostile nodes have; 0: as many as they want."""


class SimulatedNetwork:
    """The nodes of a :class:`World`, and whatever ids an attacker has added (:meth:`insert`)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = random.Random(world.seed)
        draws = [self.rng.getrandbits(64) for _ in range(world.nodes)]
        count = round(world.nodes * world.hostile)
        self.hostile = Crowd(draws[:count])
        self.all = Crowd(draws)
        self.honest = Crowd(draws[count:]) if count else self.all
        self.evil = set(self.hostile.heads)
        self.dead: set[int] = set()
        self.young: set[int] = set()
        if world.gone:
            self.dead = set(self.rng.sample(list(self.honest.heads), round(len(self.honest) * world.gone)))
        self.records: dict[int, dict[NodeId, bytes]] = {}
        self._tables: OrderedDict[int, RoutingTable] = OrderedDict()
        self._contacts: dict[int, Contact] = {}
        self.now = 1_000 * DAY
        self.seats = world.cap.seats(world.nodes * world.estimate) if world.cap else NO_CAP

    def insert(self, heads: list[int]) -> None:
        """Hostile nodes at places of their choice, since today, in every table that has a place for them."""
        self.young.update(heads)
        self.evil.update(heads)
        self.hostile = Crowd([*self.hostile.heads, *heads])
        self.all = Crowd([*self.all.heads, *heads])
        self._tables.clear()

    def remove(self, heads: list[int]) -> None:
        """The reverse."""
        gone = set(heads)
        self.evil -= gone
        self.hostile = Crowd([one for one in self.hostile.heads if one not in gone])
        self.all = Crowd([one for one in self.all.heads if one not in gone])
        self._tables.clear()

    def contact(self, head: int) -> Contact:
        """How that node is reached: without a real key, as no signature is checked here."""
        contact = self._contacts.get(head)
        if contact is None:
            if len(self._contacts) > CONTACTS_KEPT:
                self._contacts.clear()
            host = (head * 0xD6E8FEB86659FD93 & 0xFFFFFFFF).to_bytes(4, "big")
            if self.world.blocks and head in self.evil:
                host = (0xFE00 + head % self.world.blocks).to_bytes(2, "big") + host[2:]
            contact = Contact(id_of(head), b"", b"", b"", 1, Address(host, 1), b"")
            self._contacts[head] = contact
        return contact

    def table(self, head: int) -> RoutingTable:
        """The routing table of a node."""
        table = self._tables.get(head)
        if table is not None:
            self._tables.move_to_end(head)
            return table
        world = self.world
        table = RoutingTable(id_of(head), world.diversity, world.probation, world.k)
        for shared in range(64):
            sibling = head ^ 1 << (63 - shared)
            start, end = self.all.at_prefix(sibling, shared + 1)
            rng = random.Random(head << 6 | shared)
            chosen = rng.sample(range(start, end), world.k) if end - start > world.k else range(start, end)
            for number in chosen:
                other = self.all.heads[number]
                table.answered(self.contact(other), self.now - (0.0 if other in self.young else ESTABLISHED))
            own = self.all.at_prefix(head, shared + 1)
            if own[1] - own[0] <= 1:
                break
        self._tables[head] = table
        if len(self._tables) > TABLES_KEPT:
            self._tables.popitem(last=False)
        return table

    def somebody(self) -> int:
        """An honest node that is there."""
        while True:
            head = self.honest.heads[self.rng.randrange(len(self.honest))]
            if head not in self.dead:
                return head

    def answer(self, head: int, target: NodeId, *, wants_record: bool) -> list[Contact] | bytes:
        """What a node says: hostile ones name the closest of their kind, or a record of their own making."""
        if head in self.evil:
            if wants_record and self.world.forge and head & 1:
                return b"forged"
            return [self.contact(one) for one in self.hostile.closest(target, self.world.k)]
        if wants_record and target in (held := self.records.get(head, {})):
            return held[target]
        return self.table(head).handed_on(target, self.now, self.seats, self.world.k)

    def store(self, contacts: list[Contact], target: NodeId, record: bytes) -> int:
        """Leave a record with all of them; how many honest ones keep it: those who find it theirs."""
        kept = 0
        for contact in contacts:
            head = contact.id >> LOW
            if head not in self.evil and head not in self.dead and self.table(head).is_near(target):
                self.records.setdefault(head, {})[target] = record
                kept += 1
        return kept

    def look_up(
        self,
        origin: int,
        target: NodeId,
        rules: LookupRules,
        *,
        judge: Callable[[bytes], int | None] | None = None,
        size: float | None = None,
    ) -> tuple[Lookup, Costs]:
        """A whole lookup by the node ``origin``, in simulated time."""
        trips = RoundTrips()
        seeds = self.table(origin).closest(target, rules.seats(size), self.world.k)
        lookup = Lookup(target, seeds, rules, trips, lambda _, now: True, judge, size, id_of(origin))
        clock = 0.0
        answers: list[tuple[NodeId, list[Contact]]] = []
        events: list[tuple[float, int, int]] = []
        order = 0
        while True:
            for query in lookup.queries_to_send(clock):
                head = query.contact.id >> LOW
                lost = self.world.loss and self.rng.random() < 1 - (1 - self.world.loss) ** 2
                if head not in self.dead and not lost:
                    order += 1
                    heapq.heappush(events, (clock + self.round_trip(), order, head))
            if lookup.finished:
                break
            due = lookup.deadline()
            if events and (due is None or events[0][0] <= due):
                clock, _, head = heapq.heappop(events)
                said = self.answer(head, target, wants_record=judge is not None)
                if isinstance(said, bytes):
                    if lookup.seeks_one and not lookup.is_ended_by(id_of(head), said):
                        continue  # a FOUND that proves nothing is ignored: its node is silent (``rpc``)
                    took = lookup.receive_record(id_of(head), said, clock)
                else:
                    took = lookup.receive_nodes(id_of(head), said, clock)
                    answers.append((id_of(head), said))
                if took is not None:
                    trips.took(took)
            else:
                assert due is not None
                clock = due
                lookup.on_deadline(clock)
        found = lookup.closest()
        record = lookup.record.record if lookup.record else None
        return lookup, Costs(
            lookup.asked, clock, lookup.depth() + 1, answers, found, record, len(lookup.holders)
        )

    def cpu(self, origin: int, target: NodeId, rules: LookupRules, size: float, costs: Costs) -> float:
        """Seconds of CPU of a lookup alone: gone through again with the answers that it got."""
        seeds = self.table(origin).closest(target, rules.seats(size), self.world.k)
        began = time.thread_time()
        lookup = Lookup(target, seeds, rules, RoundTrips(), lambda _, now: True, None, size, id_of(origin))
        lookup.queries_to_send(0.0)
        for node, named in costs.answers:
            lookup.receive_nodes(node, named, 0.0)
            lookup.queries_to_send(0.0)
        lookup.closest()
        return time.thread_time() - began

    def round_trip(self) -> float:
        """Seconds: half of them below 80 ms, a tenth above 150 ms."""
        return 0.08 * math.exp(self.rng.gauss(0.0, 0.5))

    def recall(self, origin: int, target: NodeId, found: list[Contact]) -> float:
        """The share of the k closest nodes, those that are there and not ``origin``, which was found."""
        closest = self.all.closest(target, self.world.k * 8)
        alive = [one for one in closest if one not in self.dead and one != origin]
        true = {id_of(one) for one in alive[: self.world.k]}
        return len(true & {contact.id for contact in found}) / len(true)

    def target(self) -> NodeId:
        """A random place."""
        return self.rng.getrandbits(256)
