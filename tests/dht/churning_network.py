"""Whole nodes that come and go for hours, on a network in memory: what churn does to tables and records.

Nodes, messages, storages are the real ones, byte for byte; the clock is not. Nodes stay for times
that are drawn from an exponential distribution, the hardest that is usual (who has stayed long is
no likelier to stay on), and go without a word; for each a new one comes and joins at one that is there.
Tables begin as they are after a long time without churn.

Records are brought again every six hours by whoever published them, through a node drawn anew, and handed
on by holders as ``RecordStorage.due`` says. One of a record's three places is looked at.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from unittest import mock

from dht_records import ISSUER, draw
from simulated_network import DAY

from ptproxy.dht import contact as contact_module
from ptproxy.dht import rpc as rpc_module
from ptproxy.dht import signing as signing_module
from ptproxy.dht.bucket import Acquaintance
from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.density import NetworkSize
from ptproxy.dht.diversity import Diversity
from ptproxy.dht.epoch import opens
from ptproxy.dht.identifier import NodeId, shared_prefix
from ptproxy.dht.lookup import Lookup
from ptproxy.dht.lookup_rules import PRIVATE, UPKEEP, LookupRules
from ptproxy.dht.node import LookupFinished, Node
from ptproxy.dht.probation import NO_PROBATION, Probation
from ptproxy.dht.record import judge
from ptproxy.dht.record_secret import RecordSecret, RecordType
from ptproxy.dht.responder import NodeKeys, Responder
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.storage import RecordStorage
from ptproxy.dht.table import K, RoutingTable
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError

HOUR = 3_600.0
EPOCH = 20_833
"""The day that is simulated."""
SLOT = 6 * HOUR
"""Seconds between two turns of a record."""
CHEAP = WorkTarget(bits=0, memory=8)
AGAIN = 30.0
"""Seconds after which a newcomer that has met nobody tries another first node."""
HANDING_ON = 600.0
"""Seconds between a holder's looks at what is to be handed on, and records that it hands on at a time."""
HANDED_ON = 8
ESTABLISHED = 60 * DAY
"""How long the network has been there."""
READING = replace(PRIVATE, enough=1)


@dataclass(frozen=True)
class Churn:
    """What the network is like."""

    nodes: int = 300
    session: float = 6 * HOUR
    """Seconds that half of all nodes stay."""
    loss: float = 0.01
    """Share of messages that are lost."""
    records: int = 20
    measured_every: float = 60.0
    """Seconds between lookups that are measured, of each kind."""
    full_probation: float = 0.0
    """Seconds that a node must have been known; 0: none."""
    seed: int = 1


@dataclass(slots=True)
class Kind:
    """Lookups of one kind that were measured."""

    count: int = 0
    found: int = 0
    asked: int = 0
    recall: float = 0.0
    seconds: list[float] = field(default_factory=list)

    def row(self) -> tuple[float, float, float, float]:
        """Found, or the mean recall; queries; median and 95th percentile of seconds."""
        ordered = sorted(self.seconds)
        n = max(self.count, 1)
        return (
            (self.found or self.recall) / n,
            self.asked / n,
            ordered[n // 2] if ordered else math.nan,
            ordered[n * 19 // 20] if ordered else math.nan,
        )


@dataclass(slots=True)
class Hour:
    """What was seen in one hour."""

    closest: Kind = field(default_factory=Kind)
    """The nodes at random places, one path."""
    one_path: Kind = field(default_factory=Kind)
    """Records."""
    eight_paths: Kind = field(default_factory=Kind)
    messages: int = 0
    came: int = 0
    stale: float = 0.0
    """Share of what stands alive in tables and is gone, at the end of the hour."""
    holders: float = 0.0
    """Of a record, of the twenty closest, at the end of the hour."""


@dataclass(slots=True, eq=False)
class Peer:
    """One node."""

    contact: Contact
    node: Node
    storage: RecordStorage
    came: float
    wake: float = math.inf


class ChurningNetwork:
    """Begins at the first moment of :data:`EPOCH`'s records."""

    def __init__(self, churn: Churn) -> None:
        self.churn = churn
        self.rng = random.Random(churn.seed)
        self.now = opens(EPOCH) + 1.0
        self.peers: dict[Address, Peer] = {}
        self.hour = Hour()
        full = churn.full_probation
        self._probation = Probation(self.now - ESTABLISHED, full) if full else NO_PROBATION
        self._mean = churn.session / math.log(2)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._then: dict[Lookup, Callable[[Lookup], None]] = {}
        secrets = [RecordSecret(self.rng.randbytes(32)) for _ in range(churn.records)]
        self._records = [secret.keys(RecordType.BRIDGE_BUCKET, EPOCH) for secret in secrets]
        self._places = [keys.locations()[0] for keys in self._records]
        self._begin()

    # The network

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = end

    def hours(self, count: int) -> Iterator[Hour]:
        """Each hour's figures."""
        for _ in range(count):
            self.hour = Hour()
            self.run(HOUR)
            self.hour.stale = self._stale()
            self.hour.holders = sum(map(self._holders, self._places)) / max(len(self._places), 1)
            yield self.hour

    def _at(self, moment: float, event: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (moment, self._order, event))

    def _arrive(self) -> Peer:
        keys = NodeKeys.generate(self.rng.randbytes)
        place = self.rng.getrandbits(256)
        address = Address(self.rng.randbytes(4), 4_000)
        contact = Contact.make(keys.signing, place, keys.seal_key, bytes(16), 1, address)
        table = RoutingTable(place, Diversity(), self._probation)
        storage = RecordStorage(self.rng.randbytes, CHEAP, near=table.is_near)
        responder = Responder(keys, contact, table, storage, self.rng.randbytes)
        node = Node(table, lambda contact, now: True, self.rng.randbytes, responder)
        peer = self.peers[address] = Peer(contact, node, storage, self.now)
        self._at(self.now + self.rng.expovariate(1 / self._mean), partial(self._leave, peer))
        self._at(self.now + self.rng.random() * HANDING_ON, partial(self._hand_on, peer))
        return peer

    def _leave(self, peer: Peer) -> None:
        del self.peers[peer.contact.address]
        self.hour.came += 1
        self._join(self._arrive())

    def _join(self, peer: Peer) -> None:
        if self._is_there(peer) and not len(peer.node.table):
            first = self._somebody()
            if first is not peer:
                peer.node.join([first.contact], self.now)
            self._at(self.now + AGAIN, partial(self._join, peer))
            self._settle(peer)

    def _is_there(self, peer: Peer) -> bool:
        return self.peers.get(peer.contact.address) is peer

    def _somebody(self) -> Peer:
        """Of those that are there a node that has joined."""
        while True:
            peer = self.rng.choice(list(self.peers.values()))
            if len(peer.node.table):
                return peer

    def _begin(self) -> None:
        """As many nodes as there are to be, and tables that know who there is."""
        for _ in range(self.churn.nodes):
            self._arrive()
        contacts = [peer.contact for peer in self.peers.values()]
        ages = {contact.id: self.rng.expovariate(1 / self._mean) for contact in contacts}
        size = NetworkSize()
        for _ in range(5):
            target = self.rng.getrandbits(256)
            size.found(target, sorted((one.id for one in contacts), key=lambda one: one ^ target)[:K])
        for peer in self.peers.values():
            own = peer.contact.id
            self.rng.shuffle(contacts)
            known: dict[int, int] = {}
            for contact in contacts:
                shared = shared_prefix(own, contact.id)
                known[shared] = known.get(shared, 0) + 1
                if contact.id != own and known[shared] <= K:
                    since = self.now - min(ages[own], ages[contact.id])
                    peer.node.table.restore(Acquaintance(contact, since, self.now))
                    peer.node.table.touch(contact.id, self.now - self.rng.random() * HOUR)
            peer.node.size = size
            self._settle(peer)
        for number in range(len(self._records)):
            self._at(self.now, partial(self._publish, number, 0))
        self._at(self.now + self.churn.measured_every, self._measure)

    # Messages

    def _settle(self, peer: Peer) -> None:
        """After anything that a node was told: send what it has to send, and wake it when it is due."""
        for to, data in peer.node.messages_to_send(self.now):
            self.hour.messages += 1
            if self.rng.random() >= self.churn.loss:
                seconds = 0.04 * math.exp(self.rng.gauss(0.0, 0.5))
                source = peer.contact.address
                self._at(self.now + seconds, partial(self._deliver, source, to, data))
        due = max(peer.node.deadline(), self.now)
        if due < peer.wake:
            peer.wake = due
            self._at(due, partial(self._wake, peer, due))

    def _deliver(self, source: Address, to: Address, data: bytes) -> None:
        peer = self.peers.get(to)
        if peer is None:
            return
        try:
            self._ended(peer.node.receive_message(data, source, self.now))
        except DhtError:
            return  # an answer that came too late for anybody to wait for it
        self._settle(peer)

    def _wake(self, peer: Peer, due: float) -> None:
        if peer.wake == due:
            peer.wake = math.inf
            if self._is_there(peer):
                self._ended(peer.node.on_deadline(self.now))
                self._settle(peer)

    def _ended(self, events: list[object]) -> None:
        for event in events:
            if isinstance(event, LookupFinished):
                then = self._then.pop(event.lookup, None)
                if then is not None:
                    then(event.lookup)

    # Records

    def _publish(self, number: int, turn: int) -> None:
        """Somebody brings a record, as it must each slot."""
        self._at(self.now + SLOT * (0.9 + 0.2 * self.rng.random()), partial(self._publish, number, turn + 1))
        keys = self._records[number]
        record = keys.seal(b"content", turn, ISSUER, bytes(16), draw(("seal", number, turn))).serialize()
        self._put(self._somebody(), self._places[number], record)

    def _hand_on(self, peer: Peer) -> None:
        if self._is_there(peer):
            self._at(self.now + HANDING_ON, partial(self._hand_on, peer))
            for stored in peer.storage.due(self.now, HANDED_ON):
                self._put(peer, stored.location, stored.data)

    def _put(self, peer: Peer, location: NodeId, record: bytes) -> None:
        def leave(lookup: Lookup) -> None:
            for contact in lookup.closest():
                token = lookup.tokens.get(contact.id)
                if token is not None:
                    peer.node.store(contact, location, token, record, self.now)

        self._look_up(peer, location, UPKEEP, leave)

    def _look_up(
        self,
        peer: Peer,
        target: NodeId,
        rules: LookupRules,
        then: Callable[[Lookup], None],
        verdict: Callable[[bytes], int | None] | None = None,
    ) -> None:
        lookup = peer.node.look_up(target, self.now, rules, verdict)
        self._then[lookup] = then
        self._settle(peer)

    # Figures

    def _measure(self) -> None:
        self._at(self.now + self.churn.measured_every, self._measure)
        began = self.now
        hour = self.hour
        target = self.rng.getrandbits(256)
        asker = self._somebody()

        def closest(lookup: Lookup) -> None:
            _count(hour.closest, lookup, self.now - began)
            true = self._closest(target, asker)
            hour.closest.recall += len(true & {one.id for one in lookup.closest()}) / len(true)

        self._look_up(asker, target, UPKEEP, closest)
        for kind, rules in ((hour.one_path, replace(UPKEEP, enough=1)), (hour.eight_paths, READING)):
            place = self.rng.choice(self._places)

            def read(lookup: Lookup, kind: Kind = kind) -> None:
                _count(kind, lookup, self.now - began)
                kind.found += lookup.record is not None

            self._look_up(
                self._somebody(),
                place,
                rules,
                read,
                partial(judge, location=place, epoch=EPOCH),
            )

    def _closest(self, target: NodeId, asker: Peer | None = None) -> set[NodeId]:
        """The twenty that are there and have joined, without ``asker``."""
        ids = [one.contact.id for one in self.peers.values() if one is not asker and len(one.node.table)]
        return set(sorted(ids, key=lambda one: one ^ target)[:K])

    def _stale(self) -> float:
        there = {peer.contact.id for peer in self.peers.values()}
        alive = [one for peer in self.peers.values() for one in peer.node.table if not one.failures]
        return sum(one.contact.id not in there for one in alive) / max(len(alive), 1)

    def _holders(self, place: NodeId) -> int:
        near = self._closest(place)
        return sum(
            peer.contact.id in near and peer.storage.read(place, self.now) is not None
            for peer in self.peers.values()
        )


def _count(kind: Kind, lookup: Lookup, seconds: float) -> None:
    kind.count += 1
    kind.asked += lookup.asked
    kind.seconds.append(seconds)


@contextmanager
def without_signatures() -> Iterator[None]:
    """Nobody signs or verifies: it is a third of what a simulated hour costs, and tells nothing here."""
    with ExitStack() as stack:
        for module in (contact_module, rpc_module, signing_module):
            stack.enter_context(mock.patch.object(module, "verify", return_value=None))
        stack.enter_context(mock.patch.object(SigningKey, "sign", lambda self, *_: self.public * 2))
        yield
