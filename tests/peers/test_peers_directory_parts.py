"""The parts of a directory node that need no network: texts, addresses, the clock, the beacon's messages."""

from __future__ import annotations

import random
from ipaddress import ip_address

import pytest
from directory_live import CHEAP, identity_of
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht.admission import NODE_WORK
from ptproxy.dht.beacon import Beacons, BeaconSigners, BeaconStatement, sign_value, value_of
from ptproxy.dht.contact import Address
from ptproxy.dht.first_nodes import FirstNodes
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError, StateError
from ptproxy.peers.directory_beacon import ASK, ASKED, EARLY, REQUEST, TELL, BeaconGossip
from ptproxy.peers.directory_clock import SteadyClock
from ptproxy.peers.directory_network import (
    DirectoryNetwork,
    NodeIdentity,
    is_public,
    read_first_nodes,
    read_node,
    read_own_first_nodes,
    read_signer,
    write_first_nodes,
    write_node,
    write_signer,
)
from ptproxy.peers.directory_socket import address_of

NOW = 1_800_000_000.0
HERE = Address(bytes((192, 0, 2, 1)), 4_646)
SIGNER = SigningKey(bytes(range(32)))


def listed(**changes) -> FirstNodes:
    contact = identity_of(1).contact(HERE, 1)
    fields = {
        "sequence": 1, "issued": int(NOW), "expires": int(NOW) + 86_400, "founded": int(NOW) - 1_000,
        "id_work": CHEAP, "record_work": CHEAP, "signers": None, "contacts": (contact,),
    }  # fmt: skip
    return FirstNodes(**fields | changes)


# ---- texts ----------------------------------------------------------------------------------------


def test_an_identity_is_read_as_it_was_written_and_shows_no_key() -> None:
    identity = identity_of(1)
    text = identity.serialize()
    again = NodeIdentity.parse(f"{text}\n", CHEAP)
    assert again.serialize() == text
    assert again.contact(HERE, 3) == identity.contact(HERE, 3)
    seed = identity.keys.signing.serialize_private()
    assert seed.hex() not in repr(identity)
    assert text[25:60] not in repr(identity)


def test_an_identity_with_too_little_work_is_refused() -> None:
    with pytest.raises(StateError, match="too little work"):
        NodeIdentity.parse(identity_of(1).serialize(), WorkTarget(NODE_WORK.bits, 8))


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_key_file_is_refused(position: int, change: int) -> None:
    text = identity_of(1).serialize()
    at = position % len(text)
    damaged = text[:at] + chr((ord(text[at]) ^ change) & 0x7F) + text[at + 1 :]
    if damaged.strip() != text:
        try:
            again = NodeIdentity.parse(damaged, CHEAP)
        except StateError:
            return
        assert again.id == identity_of(1).id  # only the sealing key is not part of the work
        assert again.keys.signing.public == identity_of(1).keys.signing.public


def test_a_node_is_read_as_it_was_written() -> None:
    contact = identity_of(1).contact(HERE, 1)
    assert read_node(f" {write_node(contact)}\n") == contact


@given(
    st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda data: f"ptproxy-node:{data.hex()}"))
)
def test_any_other_text_is_no_node_list_or_key(text: str) -> None:
    for read in (read_node, read_signer, lambda text: read_first_nodes(text, SIGNER.public, NOW)):
        with pytest.raises(DhtError):
            read(text)
    with pytest.raises(DhtError):
        read_own_first_nodes(text, SIGNER.public)
    with pytest.raises(StateError):
        NodeIdentity.parse(text, CHEAP)


@pytest.mark.parametrize("tail", ["A", "=", "\n\nA", "-"])
def test_a_line_has_one_spelling(tail: str) -> None:
    with pytest.raises(DhtError):
        read_node(write_node(identity_of(1).contact(HERE, 1)) + tail)


def test_a_node_that_somebody_else_signed_is_refused() -> None:
    contact, other = identity_of(1).contact(HERE, 1), identity_of(2).contact(HERE, 1)
    data = contact.serialize()[:-64] + other.signature
    with pytest.raises(DhtError):
        read_node(write_node(type(contact).parse(data)[0]))


def test_a_list_says_what_a_network_agreed_on() -> None:
    text = write_first_nodes(listed().sign(SIGNER))
    found = read_first_nodes(text, SIGNER.public, NOW)
    network = DirectoryNetwork.of(found)
    assert (network.id_work, network.record_work, network.signers) == (CHEAP, CHEAP, None)
    assert network.probation.founded == NOW - 1_000
    assert not network.private_addresses
    with pytest.raises(DhtError):
        read_first_nodes(text, bytes(32), NOW)
    with pytest.raises(DhtError, match="expired"):
        read_first_nodes(text, SIGNER.public, NOW + 90_000)
    assert read_own_first_nodes(text, SIGNER.public) == found
    assert read_signer(write_signer(SIGNER.public)) == SIGNER.public


# ---- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("1.1.1.1", True), ("2606:4700::1111", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("192.168.0.1", False), ("100.64.0.1", False),
        ("169.254.169.254", False), ("0.0.0.0", False), ("255.255.255.255", False), ("224.0.0.1", False),
        ("233.252.0.1", False), ("::1", False), ("::", False), ("fe80::1", False), ("fd00::1", False),
        ("ff0e::1", False), ("2002:7f00:1::1", False), ("2002:0101:0101::1", False),
        ("64:ff9b::7f00:1", False), ("64:ff9b:1::1", False), ("2001:0:1::1", False), ("::7f00:1", False),
        ("::ffff:127.0.0.1", False),
    ],
)  # fmt: skip
def test_only_addresses_of_the_internet_are_public(host: str, public: bool) -> None:
    assert is_public(Address(ip_address(host).packed, 4_646)) is public


def test_addresses_that_nobody_has_are_refused() -> None:
    for host, port in (("1.2.3.4", 0), ("::ffff:1.2.3.4", 5), ("nothing", 5)):
        with pytest.raises(DhtError):
            address_of(host, port)
    assert address_of("fe80::1%2", 5) == address_of("fe80::1", 5)


# ---- the clock ------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(-1e5, 1e5)), max_size=30))
def test_the_clock_never_goes_back_and_catches_up(steps: list[tuple[float, float]]) -> None:
    wall, steady = 1e9, 5.0
    clock = SteadyClock(lambda: wall, lambda: steady)
    before = clock()
    for passed, jump in steps:
        steady += passed
        wall += passed + jump
        now = clock()
        assert now >= max(before, wall)
        before = now
    steady += 2 * (before - wall) + 1.0
    wall += 2 * (before - wall) + 1.0
    assert clock() == pytest.approx(wall)


# ---- the beacon -----------------------------------------------------------------------------------

EPOCH = int(NOW // 86_400)
SIGNERS = BeaconSigners((SIGNER.public,), 1)
ASKED_NODE = Address(b"\x0b\0\0\1", 1)


def statement(epoch: int, said: bytes = b"public") -> bytes:
    value = value_of(epoch, said)
    return BeaconStatement(epoch, value, {0: sign_value(SIGNER, epoch, value)}).serialize()


def test_who_knows_no_beacon_asks_a_few_and_learns_it() -> None:
    knows, asks = Beacons(SIGNERS), Beacons(SIGNERS)
    knows.learn(statement(EPOCH), NOW)
    one, other = BeaconGossip(asks), BeaconGossip(knows)
    addresses = [Address(b"\x0b\0\0" + bytes((number,)), 1) for number in range(1, 20)]
    early = EPOCH * 86_400.0
    requests = one.ask(addresses, early)
    assert len(requests) == ASKED
    answer = other.answer(requests[0][1])
    assert answer is not None
    assert len(answer) <= len(requests[0][1]) == REQUEST
    one.receive(answer, requests[0][0], early)
    assert asks.value(EPOCH) == knows.value(EPOCH)
    assert one.ask(addresses, early) == []
    later = one.ask(addresses, early + 86_400 - EARLY)  # the next epoch's may be known by now
    assert len(later) == ASKED
    assert other.answer(later[0][1]) is None


def test_the_longest_statement_fits_an_answer() -> None:
    keys = [SigningKey(bytes((number,)) * 32) for number in range(32)]
    signers = BeaconSigners(tuple(key.public for key in keys), 32)
    value = value_of(EPOCH, b"")
    said = {place: sign_value(key, EPOCH, value) for place, key in enumerate(keys)}
    longest = BeaconStatement(EPOCH, value, said).serialize()
    knows = Beacons(signers)
    knows.learn(longest, NOW)
    answer = BeaconGossip(knows).answer((bytes((ASK,)) + EPOCH.to_bytes(4, "big")).ljust(REQUEST, b"\0"))
    assert answer == bytes((TELL,)) + longest
    assert len(answer) <= REQUEST


def test_a_beacon_counts_only_from_whom_was_asked_and_if_its_signers_said_it() -> None:
    gossip = BeaconGossip(beacons := Beacons(SIGNERS))
    told = bytes((TELL,)) + statement(EPOCH)
    with pytest.raises(DhtError):
        gossip.receive(told, ASKED_NODE, NOW)
    gossip.ask([ASKED_NODE], NOW)
    with pytest.raises(DhtError):
        gossip.receive(told[:-1] + bytes((told[-1] ^ 1,)), ASKED_NODE, NOW)
    with pytest.raises(DhtError):
        gossip.receive(told, Address(b"\x0b\0\0\2", 1), NOW)
    assert beacons.value(EPOCH) is None
    gossip.receive(told, ASKED_NODE, NOW)
    assert beacons.value(EPOCH) is not None


@given(st.binary(max_size=40).map(lambda data: bytes((ASK,)) + data))
def test_what_is_no_request_for_a_beacon_is_refused(data: bytes) -> None:
    gossip = BeaconGossip(Beacons(SIGNERS))
    for request in (data, data.ljust(REQUEST, b"\1"), data.ljust(REQUEST, b"\1")[:-1]):
        with pytest.raises(DhtError):
            gossip.answer(request)
    rng = random.Random(1)
    gossip.ask([ASKED_NODE], NOW)
    with pytest.raises(DhtError):
        gossip.receive(bytes((TELL,)) + rng.randbytes(len(data)), ASKED_NODE, NOW)
