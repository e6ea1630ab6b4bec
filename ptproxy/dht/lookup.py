"""Finding the nodes closest to a place, or a record that lies there, one answer at a time.

Order of calls::

    lookup = Lookup(target, seeds, rules, waits, admit)
    for query in lookup.queries_to_send(now): ...        after each of the following:
    lookup.receive_nodes(node, contacts, now)            a verified answer without the record
    lookup.receive_record(node, record, now)             a verified answer with one
    lookup.receive_refusal(node)                         an answer that does not verify
    lookup.deadline() / lookup.on_deadline(now)          queries that wait too long
    lookup.finished: lookup.closest(), lookup.record

Nothing waits for a round to end: each answer frees a place for the next query. A
query that is late frees its place too, and its answer still counts if it comes.

**In haste**, where one record is enough and paths do not have to be disjoint: a node
so close that it should have the record is asked alone, and nobody else is thought of yet.
A query that is slow (later than nine of ten answers were) frees its place, and is waited
for all the same. When a node that should have the record names others instead, the
search goes on as any other.

**Disjoint paths.** With d paths, each keeps a list of its own, of what was named
to it; no node is asked by two. A hostile answer leads one path astray and not the
others. All begin with the same nodes of our own table, each with another of them.

**Who is asked.** The closest of a path's list that have a seat under the density
cap, whose network has not been asked too often, and whose contact ``admit`` lets
pass: signature and work are checked for nodes about to be asked only. Who hands on
a forged contact has not talked to that node: what nobody else named is not asked.

**What is believed.** A record is what ``judge`` accepts (a signature that belongs
to the location); of several the one with the highest sequence. An answer can
withhold, and name nodes that do not exist, but not forge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ptproxy.dht.candidate import NEVER, Candidate, Path, Standing
from ptproxy.dht.contact import Contact
from ptproxy.dht.diversity import Network
from ptproxy.dht.identifier import ID_BITS, NodeId
from ptproxy.dht.lookup_rules import OUT, Admit, Judge, LookupRules, Waits


@dataclass(frozen=True, slots=True)
class Query:
    """Ask ``contact`` for the nodes closest to the target, or the record there."""

    contact: Contact
    path: int
    """Which path asks: paths are spread over a client's bridges."""
    depth: int
    hoped: bool
    """It should have the record, so that there need not be room for many nodes in its answer."""


@dataclass(frozen=True, slots=True)
class Found:
    """A record that was accepted."""

    record: bytes
    sequence: int


class Lookup:
    """One search for ``target``.

    ``seeds``: nodes to begin with, the closest one first; in haste the others are taken when they are needed.
    ``own``: the node that searches, which is not to ask itself.
    """

    def __init__(
        self,
        target: NodeId,
        seeds: Iterable[Contact],
        rules: LookupRules,
        waits: Waits,
        admit: Admit,
        judge: Judge | None = None,
        network_size: float | None = None,
        own: NodeId | None = None,
    ) -> None:
        self.target = target
        self.seeks_record = judge is not None
        self.seeks_one = self.seeks_record and rules.enough == 1
        """Whether the first record that is accepted ends it."""
        self.finished = False
        self.met_silence = False
        """Whether somebody was late: gone, or of a version that does not know all requests."""
        self.asked = 0
        """Queries sent."""
        self.record: Found | None = None
        """The accepted record with the highest sequence so far."""
        self.holders: list[Contact] = []
        """Who had a record that was accepted."""
        self.tokens: dict[NodeId, bytes] = {}
        """What the nodes that answered want to see in a write here: whoever drives the lookup puts it in."""
        self._rules = rules
        self._own = own
        self._seats = rules.seats(network_size)
        self._waits = waits
        self._admit = admit
        self._judge = judge
        self._known: dict[NodeId, Candidate] = {}
        self._waiting: dict[NodeId, Candidate] = {}
        self._networks: dict[Network, int] = {}
        self._liars: set[NodeId] = set()
        self._paths = [Path(number, self._seats) for number in range(rules.paths)]
        self._hasty = self.seeks_record and rules.is_hasty
        self._likely = self._reach_of_holders(network_size) if self._hasty else 0
        self._hope: Candidate | None = None
        self._judged: Found | None = None
        self._more = iter(seeds)
        if not self._begins_with_hope():
            self._begin()

    def _reach_of_holders(self, network_size: float | None) -> int:
        """The distance within which a node should have the record; 0 while nobody knows how large all is.

        Half of how far holders lie: the network may be twice as large as it is thought to be.
        """
        if network_size is None:
            return 0
        return int((1 << ID_BITS) * self._rules.count / (2 * max(network_size, 1.0)))

    def _begins_with_hope(self) -> bool:
        """Whether the first of the seeds should have the record: the others can wait."""
        first = next(self._more, None) if self._likely else None
        if first is None:
            return False
        self._add(first)
        return first.id ^ self.target < self._likely

    def _begin(self) -> bool:
        """Take the seeds that are left; whether there were any."""
        before = len(self._known)
        for contact in self._more:
            self._add(contact)
        return len(self._known) > before

    def _add(self, contact: Contact) -> None:
        if contact.id not in self._known:
            candidate = Candidate(contact, contact.id ^ self.target, 0, None)
            self._known[contact.id] = candidate
            for path in self._paths:
                path.add(candidate)

    # What the rim does

    def queries_to_send(self, now: float) -> list[Query]:
        """Queries to send now; they count as sent. Finishes the lookup when nobody is left to ask."""
        queries: list[Query] = []
        if self.finished:
            return queries
        share = max(1, self._rules.parallel // self._rules.paths)
        if self.asked and self._hope is None:
            self._begin()
        progress = True
        while progress and self._hope is None:
            progress = False
            for number, path in enumerate(self._paths):
                if path.idle or path.asking >= share or path.out >= OUT * share:
                    continue
                if self.asked >= self._rules.max_asked:
                    break
                candidate = self._next(path, now)
                if candidate is None:
                    path.idle = True
                else:
                    self._ask(candidate, number, now)
                    hoped = candidate is self._hope
                    queries.append(Query(candidate.contact, number, candidate.depth, hoped))
                    progress = True
            progress = progress or (not self.asked and self._begin())
        if not self._waiting:
            self.finished = True
        return queries

    def deadline(self) -> float | None:
        """When :meth:`on_deadline` is due."""
        return min((min(one.slow_at, one.deadline) for one in self._waiting.values()), default=None)

    def on_deadline(self, now: float) -> list[Contact]:
        """Give up waiting for the queries that are late; who they went to."""
        late = []
        for candidate in list(self._waiting.values()):
            if candidate.slow_at <= now:
                self._free(candidate)
            if candidate.deadline <= now:
                self._settle(candidate, Standing.SILENT)
                self.met_silence = True
                late.append(candidate.contact)
        return late

    def waiting(self) -> list[tuple[NodeId, float]]:
        """Who has not answered yet, and when it is late, also after the lookup has ended."""
        return [(node, candidate.deadline) for node, candidate in self._waiting.items()]

    def receive_nodes(self, node: NodeId, contacts: Sequence[Contact], now: float) -> float | None:
        """A node answered with contacts; the round trip in seconds, None for an answer nobody waits for."""
        candidate = self._answered(node)
        if candidate is None or self.finished:
            return None
        if candidate.distance < self._likely:
            self._likely = 0  # it should have had the record: others may not have it either
        named = self._rules.diversity.spread(contacts[: self._rules.count])
        self._hear(named, candidate, self._paths[candidate.path], now)
        return now - candidate.asked_at

    def receive_record(self, node: NodeId, record: bytes, now: float) -> float | None:
        """A node answered with a record, which is judged; None also for one that is not accepted."""
        candidate = self._answered(node)
        if candidate is None or self.finished:
            return None
        found = self._judge_once(record)
        if found is None:
            self._refuse(candidate)
            return None
        if self.record is None or found.sequence > self.record.sequence:
            self.record = found
        self.holders.append(candidate.contact)
        if len(self.holders) == self._rules.enough:
            self.finished = True
        return now - candidate.asked_at

    def is_ended_by(self, node: NodeId, record: bytes) -> bool:
        """Whether it is enough that ``node``, which is waited for, has this record: it proves itself.

        Also where another one's was enough before.
        """
        if not self.seeks_one or not self._is_waited_for(node):
            return False
        return self._judge_once(record) is not None

    def receive_refusal(self, node: NodeId) -> None:
        """What a node answered does not verify: nothing of it counts, and nothing it named before."""
        candidate = self._answered(node)
        if candidate is not None:
            self._refuse(candidate)

    def closest(self, count: int | None = None) -> list[Contact]:
        """The nodes that answered and have a seat, closest first, of many networks: a record's replicas."""
        replied = (Standing.ANSWERED, Standing.SILENT)
        nodes = sorted(
            (one for one in self._known.values() if one.standing in replied), key=lambda one: one.distance
        )
        # Everyone that any path asked competes for the seats again: a path saw only its own.
        seats = self._seats.taken(one.distance for one in nodes)
        seated = (one for one, taken in zip(nodes, seats, strict=True) if taken)
        alive = [one.contact for one in seated if one.standing is Standing.ANSWERED]
        return self._rules.diversity.spread(alive)[: self._rules.count if count is None else count]

    def cache_at(self) -> Contact | None:
        """The closest node that answered without the record: where a copy may be left on the way."""
        holders = {contact.id for contact in self.holders}
        for candidate in sorted(self._known.values(), key=lambda one: one.distance):
            if candidate.standing is Standing.ANSWERED and candidate.contact.id not in holders:
                return candidate.contact
        return None

    def depth(self) -> int:
        """Answers, one behind another, that led to the closest node that answered."""
        answered = [one for one in self._known.values() if one.standing is Standing.ANSWERED]
        return min(answered, key=lambda one: one.distance).depth if answered else 0

    # What happens inside

    def _next(self, path: Path, now: float) -> Candidate | None:
        """The closest node of a path that is not asked yet, if it may be asked."""
        while True:
            candidate = path.next_heard(self._rules.count, self._rules.width, self._has_room)
            if candidate is None or self._check(candidate, now):
                return candidate

    def _check(self, candidate: Candidate, now: float) -> bool:
        """Whether a candidate may be asked; if not, it is out."""
        genuine = self._is_vouched_for(candidate) and (
            candidate.admitted or self._admit(candidate.contact, now)
        )
        if genuine:
            candidate.admitted = True
            return True
        if genuine is False:
            self._liars.update(candidate.sources or ())
        self._forget(candidate)
        return False

    def _is_vouched_for(self, candidate: Candidate) -> bool:
        """Whether anybody named it who has not lied: a liar must not take nodes away by naming them."""
        sources, liars = candidate.sources, self._liars
        return not liars or sources is None or any(source not in liars for source in sources)

    def _has_room(self, contact: Contact) -> bool:
        diversity = self._rules.diversity
        return self._networks.get(diversity.network_of(contact.address), 0) < diversity.in_lookup

    def _ask(self, candidate: Candidate, number: int, now: float) -> None:
        network = self._rules.diversity.network_of(candidate.contact.address)
        self._networks[network] = self._networks.get(network, 0) + 1
        candidate.standing = Standing.ASKED
        candidate.path = number
        candidate.asked_at = now
        candidate.slow_at = now + (self._waits.slow if self._hasty else self._waits.timeout)
        candidate.deadline = now + self._waits.timeout
        self._waiting[candidate.contact.id] = candidate
        self._paths[number].asking += 1
        self._paths[number].out += 1
        if candidate.distance < self._likely:
            self._hope = candidate
        self.asked += 1

    def _is_waited_for(self, node: NodeId) -> bool:
        candidate = self._known.get(node)
        return candidate is not None and candidate.standing in (Standing.ASKED, Standing.SILENT)

    def _answered(self, node: NodeId) -> Candidate | None:
        """The candidate whose first answer this is."""
        if not self._is_waited_for(node):
            return None
        candidate = self._known[node]
        self._settle(candidate, Standing.ANSWERED)
        return candidate

    def _judge_once(self, record: bytes) -> Found | None:
        """The record if it is one: judging costs a signature, and the last one is remembered."""
        if self._judged is not None and self._judged.record is record:
            return self._judged
        sequence = None if self._judge is None else self._judge(record)
        self._judged = None if sequence is None else Found(record, sequence)
        return self._judged

    def _settle(self, candidate: Candidate, standing: Standing) -> None:
        if self._waiting.pop(candidate.contact.id, None) is not None:
            self._paths[candidate.path].out -= 1
            self._free(candidate)
        if Standing.SILENT in (standing, candidate.standing):
            self._wake()
        candidate.standing = standing

    def _free(self, candidate: Candidate) -> None:
        """Its path may ask somebody else: it has answered, or is slow."""
        if candidate.slow_at < NEVER:
            candidate.slow_at = NEVER
            self._paths[candidate.path].asking -= 1
        if candidate is self._hope:
            self._hope = None

    def _wake(self) -> None:
        """A node of somebody's list is gone, or back: each path looks again whether it has enough."""
        for path in self._paths:
            path.idle = False

    def _hear(self, contacts: Sequence[Contact], source: Candidate, path: Path, now: float) -> None:
        """``source`` names nodes on its path. One plain loop: with the next one, what a lookup costs."""
        known, target, limit = self._known, self.target, path.limit
        for contact in contacts:
            node = contact.id
            candidate = known.get(node)
            if candidate is None:
                distance = node ^ target
                if distance <= limit and node != self._own:
                    candidate = Candidate(contact, distance, source.depth + 1, [source.contact.id])
                    known[node] = candidate
                    path.add(candidate)
                continue
            if candidate.standing is Standing.HEARD:
                self._hear_again(candidate, contact, source, now)
            if node not in path.names and candidate.standing is not Standing.REFUSED:
                path.add(candidate)

    def _hear_again(self, known: Candidate, contact: Contact, source: Candidate, now: float) -> None:
        """If two say different things of one node, the later one that is genuine counts."""
        if known.contact is contact or known.contact == contact:
            if known.sources is not None:
                known.sources.append(source.contact.id)
            return
        if source.contact.id in self._liars or (known.admitted and not contact.supersedes(known.contact)):
            return  # else twenty false contacts in one answer would cost twenty signatures
        genuine = self._admit(contact, now)
        if genuine is False:
            self._liars.add(source.contact.id)
        if not genuine:
            return
        if contact.supersedes(known.contact) or not self._admit(known.contact, now):
            known.contact = contact
            known.sources = [source.contact.id]
        known.admitted = True

    def _forget(self, candidate: Candidate) -> None:
        """A contact that does not pass: the node itself may still be heard of from somebody else."""
        for path in self._paths:
            path.drop(candidate)
        self._wake()
        del self._known[candidate.contact.id]

    def _refuse(self, candidate: Candidate) -> None:
        self._likely = 0
        self._liars.add(candidate.contact.id)
        for path in self._paths:
            path.drop(candidate)
        self._wake()
        candidate.standing = Standing.REFUSED
