"""Whole nodes, every byte of them real, on a network in memory: join, leave a record, find it, lose some."""

from __future__ import annotations

import random

import pytest
from dht_records import CHEAP, EPOCH, ISSUER, NOW, SECRET, sealed

from ptproxy.dht.admission import CHECKS_AT_ONCE, Admissions, mint
from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.density import NO_CAP, DensityCap
from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.lookup import Lookup
from ptproxy.dht.lookup_rules import PRIVATE, LookupRules
from ptproxy.dht.messages import Find, Nodes, Ping, Pong, Seek, Store, Stored, tag_of
from ptproxy.dht.node import (
    MAX_GREETINGS,
    MAX_LOOKUPS,
    UPKEEP_EVERY,
    Event,
    LookupFinished,
    Node,
    StoreAnswered,
)
from ptproxy.dht.probation import NO_PROBATION
from ptproxy.dht.record import Copies
from ptproxy.dht.record import judge as verdict
from ptproxy.dht.record_secret import RecordType
from ptproxy.dht.responder import NodeKeys, Responder
from ptproxy.dht.rpc import Calls, sign_answer
from ptproxy.dht.sealing import SealedCall
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.storage import RecordStorage, Refusal
from ptproxy.dht.table import REFRESH, K, RoutingTable
from ptproxy.dht.vetting import Vetting
from ptproxy.errors import DhtError

RULES = LookupRules(diversity=ANY_NETWORK)
SEALED = sealed()
RECORD = SEALED.serialize()
TARGET = SEALED.header.locations()[0]


class Net:
    """Nodes by address, and messages that take 50 ms."""

    def __init__(self, seed: int = 1, size: int = K) -> None:
        self.rng = random.Random(seed)
        self.size = size
        self.now = float(NOW)
        self.vetting = Vetting(Admissions(CHEAP))
        self.nodes: dict[Address, Node] = {}
        self.storages: dict[NodeId, RecordStorage] = {}
        self.contacts: list[Contact] = []
        self.keys: dict[NodeId, NodeKeys] = {}
        self.responders: dict[NodeId, Responder] = {}
        self.gone: set[Address] = set()
        self.slow: set[Address] = set()
        self.events: list[Event] = []
        self.sent = 0

    def add(self) -> Contact:
        keys = NodeKeys.generate(self.rng.randbytes)
        minted = mint(keys.signing.public, CHEAP, 0, 10_000)
        assert minted is not None
        place = minted.id
        address = Address(bytes((11, *self.rng.randbytes(3))), 4_000)
        contact = Contact.make(keys.signing, place, keys.seal_key, minted.nonce, 1, address)
        table = RoutingTable(place, ANY_NETWORK, NO_PROBATION, self.size)
        self.storages[place] = RecordStorage(self.rng.randbytes, CHEAP)
        self.keys[place] = keys
        responder = self.responders[place] = Responder(
            keys, contact, table, self.storages[place], self.rng.randbytes
        )
        node = Node(table, self.vetting.admit, self.rng.randbytes, responder, RULES)
        node.join(self.contacts[:1], self.now)
        self.nodes[address] = node
        self.contacts.append(contact)
        return contact

    def client(self) -> Node:
        """Somebody who only asks."""
        table = RoutingTable(self.rng.getrandbits(256), ANY_NETWORK, NO_PROBATION)
        node = Node(table, self.vetting.admit, self.rng.randbytes, None, RULES)
        self.nodes[Address(b"\x0c\0\0" + bytes((len(self.nodes),)), 5_000)] = node
        node.join(self.rng.sample(self.contacts, min(3, len(self.contacts))), self.now)
        return node

    def arrive(self, address: Address, data: bytes) -> bool:
        """Whether the node at ``address`` takes a message: for networks of nodes that differ."""
        del address, data
        return True

    def run(self, seconds: float) -> None:
        """Let messages travel and time pass."""
        end = self.now + seconds
        under_way: list[tuple[Address, Address, bytes]] = []
        behind: list[tuple[float, tuple[Address, Address, bytes]]] = []
        while self.now < end:
            arriving, under_way = under_way, []
            behind += [(self.now + 0.2, one) for one in arriving if one[1] in self.slow]
            arriving = [one for one in arriving if one[1] not in self.slow]
            arriving += [one for due, one in behind if due <= self.now]
            behind = [(due, one) for due, one in behind if due > self.now]
            for source, to, data in arriving:
                there = to in self.nodes and to not in self.gone and source not in self.gone
                if there and self.arrive(to, data):
                    self.events += self.nodes[to].receive_message(data, source, self.now)
            for address, node in self.nodes.items():
                if node.deadline() <= self.now:
                    self.events += node.on_deadline(self.now)
                under_way += [(address, to, data) for to, data in node.messages_to_send(self.now)]
            self.sent += len(under_way)
            due = min(node.deadline() for node in self.nodes.values())
            self.now = self.now + 0.05 if under_way or behind else max(self.now + 0.05, min(end, due))


@pytest.fixture(scope="module")
def grown() -> Net:
    net = Net()
    for _ in range(40):
        net.add()
        net.run(0.5)
    net.run(2.0)
    return net


def search(net: Net, node: Node, target: NodeId, rules: LookupRules, *, record: bool = False) -> Lookup:
    judge = (lambda data: verdict(data, target, EPOCH)) if record else None
    lookup = node.look_up(target, net.now, rules, judge)
    net.events.clear()
    for _ in range(40):
        if lookup.finished:
            break
        net.run(0.5)
    assert LookupFinished(lookup) in net.events
    return lookup


def test_whoever_joins_at_one_node_knows_the_network(grown: Net) -> None:
    sizes = [len(node.table) for node in grown.nodes.values()]
    assert min(sizes) >= 15
    everyone = {contact.id for contact in grown.contacts}
    for node in grown.nodes.values():
        assert {one.contact.id for one in node.table} <= everyone
        assert node.table.get(node.table.own) is None


def test_a_record_is_left_with_the_closest_and_found_by_a_client(grown: Net) -> None:
    target = TARGET
    writer, reader = grown.client(), grown.client()
    grown.run(3.0)
    for client in (writer, reader):
        assert client.table.get(client.table.own) is None
    place = search(grown, writer, target, PRIVATE)
    true = sorted(grown.contacts, key=lambda contact: contact.id ^ target)[:20]
    assert len({one.id for one in place.closest()} & {one.id for one in true}) >= 18
    for contact in place.closest():
        writer.store(contact, target, place.tokens[contact.id], RECORD, grown.now)
    grown.events.clear()
    grown.run(1.0)
    stored = [event for event in grown.events if isinstance(event, StoreAnswered)]
    assert len(stored) == len(place.closest())
    assert all(event.answer.refusal is None for event in stored)
    lookup = search(grown, reader, target, PRIVATE, record=True)
    assert lookup.record is not None
    assert lookup.record.record == RECORD
    opened = SECRET.keys(RecordType.BRIDGE_BUCKET, EPOCH).open(lookup.record.record, ISSUER.public)
    assert opened.content == b"content"
    assert len(lookup.holders) >= 10
    clients = {writer.table.own, reader.table.own}
    assert not any(node.table.get(one) for node in grown.nodes.values() for one in clients)


def test_a_write_without_a_token_is_refused(grown: Net) -> None:
    client = grown.client()
    client.store(grown.contacts[0], TARGET, b"", RECORD, grown.now)
    grown.events.clear()
    grown.run(1.0)
    assert [event.answer.refusal for event in grown.events if isinstance(event, StoreAnswered)] == [
        Refusal.TOKEN
    ]


def test_a_copy_is_kept_only_of_records_that_may_be_copied(grown: Net) -> None:
    client = grown.client()
    grown.run(3.0)
    place = search(grown, client, TARGET, RULES)
    for record in (RECORD, sealed(copies=Copies.ON_THE_WAY).serialize()):
        for contact in place.closest()[-2:]:
            client.leave(contact, TARGET, place.tokens[contact.id], record, grown.now)
        grown.events.clear()
        grown.run(1.0)
        refusals = {event.answer.refusal for event in grown.events if isinstance(event, StoreAnswered)}
        assert refusals == ({Refusal.ELSEWHERE} if record == RECORD else {None})


def test_the_network_goes_on_when_a_third_of_it_is_gone() -> None:
    net = Net(seed=2)
    for _ in range(30):
        net.add()
        net.run(0.5)
    net.gone = {contact.address for contact in net.contacts[20:]}
    asker = net.nodes[net.contacts[0].address]
    target = net.rng.getrandbits(256)
    lookup = search(net, asker, target, RULES)
    alive = {contact.id for contact in net.contacts[:20]} - {asker.table.own}
    found = {one.id for one in lookup.closest()}
    assert found <= alive
    assert len(found) >= 12
    search(net, asker, target ^ 1, RULES)
    search(net, asker, target ^ 2, RULES)
    named = asker.table.handed_on(target, net.now)
    assert {one.id for one in named} <= alive


@pytest.mark.parametrize("late", [False, True])
def test_who_did_not_answer_a_search_that_others_ended_is_known_to_be_silent(late: bool) -> None:
    """Who only answered later than others is not: its record proves that it was there."""
    net = Net(seed=2)
    for _ in range(30):
        net.add()
        net.run(0.5)
    net.run(2.0)
    asker = net.nodes[net.contacts[-1].address]
    assert asker.network_size() is not None
    target = SECRET.keys(RecordType.BRIDGE_BUCKET, EPOCH).locations()[0]
    place = search(net, asker, target, RULES)
    for contact in place.closest():
        asker.store(contact, target, place.tokens[contact.id], RECORD, net.now)
    net.run(1.0)
    silent = place.closest()[0]
    net.gone, net.slow = (set(), {silent.address}) if late else ({silent.address}, set())
    lookup = search(net, asker, target, RULES, record=True)
    assert lookup.record is not None
    assert lookup.waiting()[0][0] == silent.id
    net.run(3.0)
    known = asker.table.get(silent.id)
    assert known is not None
    assert known.failures == (0 if late else 1)


def test_how_large_the_network_is_is_known_as_soon_as_a_node_has_joined() -> None:
    net = Net(seed=3)
    for _ in range(10):
        net.add()
        net.run(0.5)
    joined = net.nodes[net.add().address]
    assert joined.network_size() is None
    net.run(2.0)
    estimate = joined.network_size()
    assert estimate is not None
    assert 5 < estimate < 40


def test_upkeep_refreshes_and_learns_how_large_the_network_is() -> None:
    net = Net(seed=3)
    for _ in range(20):
        net.add()
        net.run(0.2)
    net.run(2 * UPKEEP_EVERY)
    estimates = [node.network_size() for node in net.nodes.values()]
    assert all(estimate is not None and 8 < estimate < 80 for estimate in estimates)
    assert all(len(node.table) >= 15 for node in net.nodes.values())
    quiet = net.sent
    net.run(600.0)
    assert net.sent == quiet
    net.run(REFRESH)
    assert net.sent > quiet


def test_two_nodes_that_are_spares_of_each_other_do_not_ping_for_ever() -> None:
    net = Net(seed=5, size=1)
    for _ in range(12):
        net.add()
        net.run(0.5)
    before = net.sent
    net.run(UPKEEP_EVERY)
    assert any(node.table.get(one.id) is None for node in net.nodes.values() for one in net.contacts)
    assert net.sent - before < 2_000


def test_what_a_node_names_has_seats_as_it_sees_the_network() -> None:
    net = Net(seed=6)
    contact = net.add()
    node, responder = net.nodes[contact.address], net.responders[contact.id]
    assert responder.seats() == NO_CAP
    node.size.found(0, [number << 240 for number in range(1, 21)])
    estimate = node.network_size()
    assert estimate is not None
    assert responder.seats() == DensityCap().seats(estimate)


def test_what_a_node_takes_on_at_a_time_is_bounded() -> None:
    net = Net(seed=6)
    net.add()
    node = net.nodes[net.add().address]
    net.run(1.0)
    lookups = [node.look_up(net.rng.getrandbits(256), net.now) for _ in range(2 * MAX_LOOKUPS)]
    assert sum(not lookup.finished for lookup in lookups) == MAX_LOOKUPS
    net.run(3.0)
    assert all(lookup.finished for lookup in lookups)
    assert all(lookup.tokens.keys() <= net.storages.keys() for lookup in lookups)


def test_a_lookup_by_somebody_who_knows_nobody_ends_at_once() -> None:
    net = Net(seed=7)
    node = net.nodes[net.add().address]
    node.on_deadline(net.now)
    lookup = node.look_up(5, net.now)
    assert node.deadline() <= net.now
    assert node.on_deadline(net.now) == [LookupFinished(lookup)]
    assert node.deadline() > net.now


def test_strangers_are_pinged_at_the_address_they_name_and_only_so_many_at_a_time() -> None:
    net = Net(seed=4)
    contact = net.add()
    node = net.nodes[contact.address]
    node.messages_to_send(0.0)
    pings = 0
    for number in range(3 * MAX_GREETINGS):
        stranger = SigningKey.generate(net.rng.randbytes)
        address = Address(b"\x0e\0\0" + bytes((number,)), 1)
        minted = mint(stranger.public, CHEAP, 0, 10_000)
        assert minted is not None
        who = Contact.make(stranger, minted.id, bytes(32), minted.nonce, 1, address)
        data = Calls(net.rng.randbytes).ask(contact, Ping(who), 0.0)
        node.receive_message(data, Address(b"\x0f\0\0\1", 1), 0.0)
        out = node.messages_to_send(0.0)
        pings += sum(to == address for to, _ in out)
        assert all(len(message) <= len(data) for _, message in out)
    assert pings == MAX_GREETINGS
    assert len(node.table) == 0


def test_strangers_who_did_no_work_leave_checks_for_lookups() -> None:
    """Signed contacts with false ids, from forged senders, more of them than a node checks at once."""
    net = Net(seed=11)
    contact, friend = net.add(), net.add()
    net.run(1.0)
    net.vetting = Vetting(Admissions(CHEAP))
    node = net.nodes[contact.address]
    node._admit = net.vetting.admit
    key = SigningKey.generate(net.rng.randbytes)
    for number in range(2 * CHECKS_AT_ONCE):
        address = Address(b"\x0e\0" + number.to_bytes(2, "big"), 1)
        lazy = Contact.make(key, number, bytes(32), bytes(16), 1, address)
        node.receive_message(Calls(net.rng.randbytes).ask(contact, Ping(lazy), 0.0), address, net.now)
    assert len(net.vetting) <= MAX_GREETINGS
    assert net.vetting.admit(friend, net.now)


def test_a_sealed_request_is_answered_sealed(grown: Net) -> None:
    """What goes through a guard: the node's word arrives, and nothing of it is readable on the way."""
    contact = grown.contacts[3]
    calls = Calls(grown.rng.randbytes)
    call = SealedCall(calls.ask(contact, Find(None, 5), 0.0), contact.seal_key, grown.rng.randbytes)
    guard = Address(b"\x0f\0\0\1", 1)
    node = grown.nodes[contact.address]
    node.receive_message(call.sealed, guard, grown.now)
    (back,) = [data for to, data in node.messages_to_send(grown.now) if to == guard]
    assert len(back) <= len(call.sealed)
    answer = calls.receive_answer(call.open_answer(back), 0.1).answer
    assert isinstance(answer, Nodes)
    assert len(answer.contacts) == 20
    assert answer.contacts[0].key not in back


@pytest.mark.parametrize("seed", range(3))
def test_whatever_arrives_is_answered_or_refused(seed: int) -> None:
    """Real messages of every kind, some bytes changed: nothing but DhtError, no answer longer than asked."""
    net = Net(seed=12 + seed)
    for _ in range(4):
        net.add()
        net.run(0.5)
    first, second = net.contacts[:2]
    calls = Calls(net.rng.randbytes)
    asked = (Ping(second), Find(second, 5), Seek(None, TARGET), Store(second, TARGET, bytes(16), RECORD))
    known = [(calls.ask(first, request, net.now), second.address) for request in asked]
    for request, source in list(known):
        net.nodes[first.address].receive_message(request, source, net.now)
    known += [(data, first.address) for _, data in net.nodes[first.address].messages_to_send(net.now)]
    assert len({data[1] for data, _ in known}) >= 7
    taken = refused = 0
    for _ in range(1_500):
        data, source = net.rng.choice(known)
        node = net.nodes[net.rng.choice(net.contacts).address]
        arriving = changed(data, net.rng)
        try:
            node.receive_message(arriving, source, net.now)
            taken += 1
        except DhtError:
            refused += 1
        for _, sent in node.messages_to_send(net.now):
            assert sent[1] < Pong.KIND or len(sent) <= len(arriving)
        net.now += 0.01
    assert taken > 100
    assert refused > 100
    assert all(len(one.table) <= len(net.contacts) for one in net.nodes.values())


def changed(data: bytes, rng: random.Random) -> bytes:
    """With a few bytes of another value, the end cut off or put on, or some taken out."""
    new = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(min(len(new), rng.choice((20, 300, 5_000))) or 1)
        match rng.randrange(4):
            case 0 if new:
                new[at] = rng.choice((0, 1, 2, 4, 5, 128, 129, 132, 255, rng.randrange(256)))
            case 1:
                del new[at:]
            case 2:
                new += rng.randbytes(rng.randrange(50))
            case _:
                del new[at : at + rng.randrange(40)]
    return bytes(new)


def test_a_node_that_signs_nonsense_is_out() -> None:
    net = Net(seed=8)
    first, liar = net.add(), net.add()
    net.run(1.0)
    node = net.nodes[first.address]
    assert node.table.get(liar.id) is not None
    lookup = node.look_up(5, net.now)
    (request,) = [data for to, data in node.messages_to_send(net.now) if to == liar.address]
    nonsense = sign_answer(net.keys[liar.id].signing, request, tag_of(request), Stored(None))
    assert node.receive_message(nonsense, liar.address, net.now) == [LookupFinished(lookup)]
    assert node.table.get(liar.id) is None
    assert lookup.closest() == []


def test_a_new_address_is_believed_once_the_node_answers_there() -> None:
    """Else a node could have others send their requests to whomever it likes."""
    net = Net(seed=9)
    first, mover = net.add(), net.add()
    net.run(1.0)
    node, keys = net.nodes[first.address], net.keys[mover.id]
    there = Address(b"\x0e\0\0\1", 1)
    moved = Contact.make(keys.signing, mover.id, mover.seal_key, mover.nonce, 2, there)
    net.responders[mover.id].contact = moved
    node._ping(mover, net.now)
    net.run(2.0)
    known = node.table.get(mover.id)
    assert known is not None
    assert known.contact == mover
    net.nodes[there] = net.nodes.pop(mover.address)
    node._greet(moved, net.now)
    net.run(0.2)
    known = node.table.get(mover.id)
    assert known is not None
    assert known.contact == moved


def test_a_stranger_without_work_is_not_even_pinged() -> None:
    net = Net(seed=4)
    contact = net.add()
    node = net.nodes[contact.address]
    node.messages_to_send(net.now)
    key = SigningKey.generate(net.rng.randbytes)
    address = Address(b"\x0e\0\0\1", 1)
    lazy = Contact.make(key, net.rng.getrandbits(256), bytes(32), bytes(16), 1, address)
    data = Calls(net.rng.randbytes).ask(contact, Ping(lazy), 0.0)
    node.receive_message(data, address, net.now)
    assert len(node.messages_to_send(net.now)) == 1


def test_a_client_answers_nobody() -> None:
    net = Net(seed=5)
    contact = net.add()
    client = net.client()
    with pytest.raises(DhtError):
        client.receive_message(Calls(net.rng.randbytes).ask(contact, Ping(None), 0.0), contact.address, 0.0)
    assert net.contacts == [contact]
