"""Requests and answers between two nodes: who may say what, to whom, and how much of it."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest
from dht_nodes import plain_contact, signed_contact
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.datagrams import cut
from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.lookup import Lookup
from ptproxy.dht.lookup_rules import LookupRules
from ptproxy.dht.messages import (
    LONGEST,
    TAG,
    Find,
    Found,
    Get,
    Holding,
    Leave,
    Nodes,
    Ping,
    Pong,
    Request,
    Seek,
    Store,
    Stored,
    serialize_answer,
    serialize_request,
    tag_of,
)
from ptproxy.dht.probation import NO_PROBATION
from ptproxy.dht.responder import NodeKeys, Responder, account
from ptproxy.dht.round_trips import RoundTrips
from ptproxy.dht.rpc import LATE, MAX_CALLS, Answered, Calls, sign_answer
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.storage import Refusal, Write, WriteRefusedError
from ptproxy.dht.table import K, RoutingTable
from ptproxy.errors import DhtError

RECORD = bytes(2_048)
SOURCE = Address(b"\x0c\0\0\1", 9)


class Shelf:
    """A node's records, as simple as can be: the token is the asker's account."""

    def __init__(self) -> None:
        self.held: dict[NodeId, bytes] = {}
        self.copies: dict[NodeId, bytes] = {}

    def read(self, location: NodeId, now: float) -> bytes | None:
        return self.held.get(location)

    def token(self, location: NodeId, guard: NodeId, now: float) -> bytes:
        return guard.to_bytes(32, "big")

    def write(self, write: Write, guard: NodeId, now: float) -> None:
        if write.token != self.token(write.location, guard, now):
            raise WriteRefusedError(Refusal.TOKEN)
        self.held[write.location] = write.record

    def write_copy(self, write: Write, guard: NodeId, now: float) -> None:
        self.copies[write.location] = write.record


class Asked:
    """One node that answers, and one that asks."""

    def __init__(self, nodes: int = 100) -> None:
        rng = random.Random(3)
        self.keys = NodeKeys.generate(rng.randbytes)
        address = Address(b"\x0d\0\0\1", 1)
        self.contact = Contact.make(
            self.keys.signing, rng.getrandbits(256), self.keys.seal_key, bytes(16), 1, address
        )
        self.table = RoutingTable(self.contact.id, ANY_NETWORK, NO_PROBATION)
        for _ in range(nodes):
            self.table.answered(plain_contact(rng.getrandbits(256)), 0.0)
        self.shelf = Shelf()
        self.responder = Responder(self.keys, self.contact, self.table, self.shelf, rng.randbytes)
        self.calls = Calls(rng.randbytes)

    def ask(self, request: Request, source: Address = SOURCE) -> Answered:
        data = self.calls.ask(self.contact, request, 1.0)
        reply = self.responder.receive_request(data, source, 1.0)
        assert len(reply.data) <= len(data)
        assert reply.sender == request.sender
        return self.calls.receive_answer(reply.data, 1.25)


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_a_ping_says_who_the_node_is_now(asked: Asked) -> None:
    answered = asked.ask(Ping(signed_contact(1)))
    assert answered.answer == Pong(asked.contact)
    assert answered.contact == asked.contact
    assert answered.seconds == 0.25
    assert len(asked.calls) == 0


def test_the_closest_are_named(asked: Asked) -> None:
    target = plain_contact(5).id
    answer = asked.ask(Find(None, target)).answer
    assert isinstance(answer, Nodes)
    assert list(answer.contacts) == asked.table.handed_on(target, 1.0)
    assert len(answer.contacts) == K


def test_a_record_is_kept_and_found_again(asked: Asked) -> None:
    answer = asked.ask(Seek(None, 7)).answer
    assert isinstance(answer, Nodes)
    assert asked.ask(Store(None, 7, b"false", RECORD)).answer == Stored(Refusal.TOKEN)
    assert asked.ask(Store(None, 7, answer.token, RECORD)).answer == Stored(None)
    assert asked.ask(Seek(None, 7)).answer == Holding(answer.token, RECORD)
    assert asked.ask(Leave(None, 8, answer.token, RECORD)).answer == Stored(None)
    assert asked.shelf.copies == {8: RECORD}


OTHER = b"\1" + RECORD[1:]


def getting(asked: Asked, *, enough: int = 1) -> tuple[Lookup, bytes]:
    """A search for ``RECORD`` at 7 that has asked the node, and its request."""
    rules = LookupRules(diversity=ANY_NETWORK, enough=enough)
    lookup = Lookup(
        7, [asked.contact], rules, RoundTrips(), lambda *_: True, lambda data: int(data == RECORD) or None
    )
    assert len(lookup.queries_to_send(1.0)) == 1
    return lookup, asked.calls.ask(asked.contact, Get(None, 7), 1.0, lookup)


def test_a_record_that_ends_a_search_needs_no_signature(asked: Asked) -> None:
    lookup, request = getting(asked)
    asked.shelf.held[7] = RECORD
    reply = asked.responder.receive_request(request, SOURCE, 1.0).data
    assert len(reply) == TAG + 2 + len(RECORD)
    answered = asked.calls.receive_answer(reply, 1.1)
    assert (answered.answer, answered.signed, answered.lookup) == (Found(RECORD), False, lookup)
    assert len(asked.calls) == 0


def test_who_asks_for_one_record_and_gets_nodes_has_them_signed(asked: Asked) -> None:
    _, request = getting(asked)
    reply = bytearray(asked.responder.receive_request(request, SOURCE, 1.0).data)
    reply[-1] ^= 1
    with pytest.raises(DhtError):
        asked.calls.receive_answer(bytes(reply), 1.1)
    reply[-1] ^= 1
    answered = asked.calls.receive_answer(bytes(reply), 1.1)
    assert isinstance(answered.answer, Nodes)
    assert answered.signed


@pytest.mark.parametrize("why", ["another record", "not asked for", "all are wanted", "it is over", "cut"])
def test_an_answer_without_a_signature_that_proves_nothing_is_none(asked: Asked, why: str) -> None:
    lookup, request = getting(asked, enough=0 if why == "all are wanted" else 1)
    if why == "not asked for":
        request = asked.calls.ask(asked.contact, Seek(None, 7), 1.0, lookup)
    if why == "it is over":
        lookup.receive_record(asked.contact.id, RECORD, 1.0)
        assert lookup.finished
    record = OTHER if why == "another record" else RECORD
    said = serialize_answer(tag_of(request), Found(record))
    waiting = len(asked.calls)
    with pytest.raises(DhtError):
        asked.calls.receive_answer(said[:-1] if why == "cut" else said, 1.1)
    assert len(asked.calls) == waiting  # the true answer may still come


def test_who_should_have_a_record_is_asked_in_two_datagrams(asked: Asked) -> None:
    data = asked.calls.ask(asked.contact, Get(None, 7), 1.0, hoped=True)
    assert len(cut(data, bytes)) == 2
    answered = asked.calls.receive_answer(asked.responder.receive_request(data, SOURCE, 1.0).data, 1.1)
    assert isinstance(answered.answer, Nodes)
    assert len(answered.answer.contacts) == 11
    asked.shelf.held[7] = RECORD
    data = asked.calls.ask(asked.contact, Get(None, 7), 1.0, hoped=True)
    assert len(asked.responder.receive_request(data, SOURCE, 1.0).data) <= len(data)


def test_a_token_belongs_to_an_address_whatever_its_owner_says(asked: Asked) -> None:
    guard = signed_contact(1)
    tokens = []
    for sender, source in ((guard, guard.address), (guard, SOURCE), (None, SOURCE)):
        answer = asked.ask(Find(sender, 7), source).answer
        assert isinstance(answer, Nodes)
        tokens.append(answer.token)
    assert tokens[0] != tokens[1] == tokens[2]


def test_accounts_are_ipv4_addresses_and_ipv6_networks() -> None:
    assert account(SOURCE) == account(Address(SOURCE.host, 77))
    assert account(SOURCE) != account(Address(b"\x0c\0\0\2", 9))
    here, there = b"\x20\1" + bytes(6), b"\x20\1" + bytes(5) + b"\1"
    assert account(Address(here + bytes(8), 1)) == account(Address(here + b"\7" * 8, 1))
    assert account(Address(here + bytes(8), 1)) != account(Address(there + bytes(8), 1))


@pytest.mark.parametrize("size", range(0, LONGEST, 197))
def test_an_answer_is_never_longer_than_its_request(asked: Asked, size: int) -> None:
    asked.shelf.held[6] = RECORD
    for request in (
        Ping(None), Find(None, 5), Seek(None, 5), Get(None, 5), Get(None, 6), Store(None, 5, b"", RECORD),
    ):  # fmt: skip
        data = serialize_request(bytes(TAG), request, size)
        try:
            reply = asked.responder.receive_request(data, SOURCE, 1.0)
        except DhtError:
            assert len(data) < (2_066 if request == Get(None, 6) else 350)
            continue
        assert len(reply.data) <= len(data)


def test_a_short_request_for_a_record_gets_none(asked: Asked) -> None:
    asked.shelf.held[5] = RECORD
    with pytest.raises(DhtError, match="shorter"):
        asked.responder.receive_request(serialize_request(bytes(TAG), Seek(None, 5), 2_000), SOURCE, 1.0)


@given(st.binary(max_size=300))
def test_garbage_is_no_request_and_no_answer(data: bytes) -> None:
    asked = Asked(nodes=0)
    asked.calls.ask(asked.contact, Ping(None), 1.0)
    with pytest.raises(DhtError):
        asked.calls.receive_answer(data, 1.0)
    try:
        reply = asked.responder.receive_request(data, SOURCE, 1.0)
    except DhtError:
        return
    assert len(reply.data) <= len(data)


def test_only_the_node_that_was_asked_answers_and_only_this_request(asked: Asked) -> None:
    first = asked.calls.ask(asked.contact, Find(None, 5), 1.0)
    second = asked.calls.ask(asked.contact, Find(None, 6), 1.0)
    true = asked.responder.receive_request(first, SOURCE, 1.0).data
    answer = Nodes(b"", ())
    stranger = SigningKey.generate(random.Random(9).randbytes)
    tag = tag_of(first)
    for false in (
        sign_answer(stranger, first, tag, answer),
        sign_answer(asked.keys.signing, second, tag, answer),
        true[:-1] + bytes((true[-1] ^ 1,)),
        true[:30] + bytes((true[30] ^ 1,)) + true[31:],
        tag_of(second).join((true[:2], true[18:])),
        true + bytes(LONGEST),
        b"",
    ):
        with pytest.raises(DhtError):
            asked.calls.receive_answer(false, 1.1)
    assert len(asked.calls) == 2
    assert isinstance(asked.calls.receive_answer(true, 1.2).answer, Nodes)


def test_an_answer_counts_once(asked: Asked) -> None:
    data = asked.calls.ask(asked.contact, Ping(None), 1.0)
    reply = asked.responder.receive_request(data, SOURCE, 1.0).data
    asked.calls.receive_answer(reply, 1.1)
    with pytest.raises(DhtError, match="nothing that was asked"):
        asked.calls.receive_answer(reply, 1.1)


def test_what_a_node_signs_and_may_not_say_exposes_it(asked: Asked) -> None:
    """Another node's contact, one that its nonce does not prove, another kind of answer, nonsense."""
    key = asked.keys.signing
    other_nonce = Contact.make(key, asked.contact.id, bytes(32), bytes(15) + b"\1", 9, asked.contact.address)
    answers = [
        Pong(signed_contact(1)),
        Pong(replace(asked.contact, sequence=99)),
        Pong(other_nonce),
        Stored(None),
    ]
    for answer in answers:
        data = asked.calls.ask(asked.contact, Ping(None), 1.0)
        answered = asked.calls.receive_answer(sign_answer(key, data, tag_of(data), answer), 1.1)
        assert answered.answer is None
        assert answered.contact == asked.contact
    data = asked.calls.ask(asked.contact, Ping(None), 1.0)
    said = data[:2] + tag_of(data) + b"nonsense"
    signature = key.sign(b"ptproxy 1 dht answer ", hashlib.sha256(data).digest() + said)
    assert asked.calls.receive_answer(said + signature, 1.1).answer is None
    assert len(asked.calls) == 0


def test_requests_that_wait_are_bounded_in_number_and_time(asked: Asked) -> None:
    first = asked.calls.ask(asked.contact, Ping(None), 1.0)
    for _ in range(MAX_CALLS):
        asked.calls.ask(asked.contact, Ping(None), 2.0)
    assert len(asked.calls) == MAX_CALLS
    with pytest.raises(DhtError):
        asked.calls.receive_answer(asked.responder.receive_request(first, SOURCE, 1.0).data, 2.0)
    asked.calls.ask(asked.contact, Ping(None), 2.0 + LATE)
    assert len(asked.calls) == 1


def test_private_keys_are_not_shown(asked: Asked) -> None:
    assert repr(asked.keys) == "NodeKeys(signing=<SigningKey>)"
