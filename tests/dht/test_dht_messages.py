"""Messages, datagrams and sealing: one form only, bounded, and nothing longer than what asked for it."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from dht_nodes import plain_contact, signed_contact
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht import datagrams
from ptproxy.dht.contact import Address
from ptproxy.dht.datagrams import DATAGRAM, MAX_FROM_ONE, MAX_PARTIAL, PATIENCE, Reassembly, cut
from ptproxy.dht.messages import (
    HEAD,
    LONGEST,
    TAG,
    TOKEN,
    Answer,
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
    parse_answer,
    parse_request,
    serialize_answer,
    serialize_request,
    tag_of,
)
from ptproxy.dht.sealing import OVERHEAD, SealedCall, SealedRequest
from ptproxy.dht.signing import SIGNATURE
from ptproxy.dht.storage import Refusal
from ptproxy.errors import DhtError, LocalProtocolError

RNG = random.Random(1)
RECORD = RNG.randbytes(2_048)
PLACES = st.integers(0, 2**256 - 1)
TAGS = st.binary(min_size=TAG, max_size=TAG)
TOKENS = st.binary(max_size=TOKEN)
CONTACTS = st.builds(plain_contact, PLACES)
SENDERS = st.none() | CONTACTS
REQUESTS = st.one_of(
    st.builds(Ping, SENDERS),
    st.builds(Find, SENDERS, PLACES),
    st.builds(Seek, SENDERS, PLACES),
    st.builds(Get, SENDERS, PLACES),
    st.builds(Store, SENDERS, PLACES, TOKENS, st.just(RECORD)),
    st.builds(Leave, SENDERS, PLACES, TOKENS, st.just(RECORD)),
)
ANSWERS = st.one_of(
    st.builds(Pong, CONTACTS),
    st.builds(Nodes, TOKENS, st.lists(CONTACTS, max_size=20).map(tuple)),
    st.builds(Holding, TOKENS, st.just(RECORD)),
    st.builds(Stored, st.none() | st.sampled_from(Refusal)),
    st.builds(Found, st.just(RECORD)),
)
HERE = Address(b"\x0b\0\0\1", 1)


@given(TAGS, REQUESTS, st.integers(0, LONGEST))
def test_a_request_comes_back_from_its_bytes_however_it_is_padded(
    tag: bytes, request: Request, size: int
) -> None:
    data = serialize_request(tag, request, size)
    assert size <= len(data) <= LONGEST
    assert parse_request(data) == (tag, request)
    assert tag_of(data) == tag


@given(TAGS, ANSWERS)
def test_an_answer_comes_back_from_its_bytes(tag: bytes, answer: Answer) -> None:
    data = serialize_answer(tag, answer)
    assert len(data) + SIGNATURE <= LONGEST
    assert parse_answer(data) == (tag, answer)


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda tail: b"\1" + tail))
def test_garbage_is_refused_or_is_a_message_in_its_one_form(data: bytes) -> None:
    try:
        tag, request = parse_request(data)
    except DhtError:
        pass
    else:
        assert serialize_request(tag, request, len(data)) == data
    try:
        tag, answer = parse_answer(data)
    except DhtError:
        pass
    else:
        assert serialize_answer(tag, answer) == data


@given(TAGS, REQUESTS, ANSWERS, st.data())
def test_a_cut_message_is_refused(tag: bytes, request: Request, answer: Answer, data: st.DataObject) -> None:
    whole = serialize_answer(tag, answer)
    with pytest.raises(DhtError):
        parse_answer(whole[: data.draw(st.integers(0, len(whole) - 1))])
    whole = serialize_request(tag, request).rstrip(b"\0")
    shorter = data.draw(st.integers(0, len(whole) - 1))
    try:
        found = parse_request(whole[:shorter])
    except DhtError:
        return
    assert found != (tag, request)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\2\1" + bytes(TAG) + b"\0",
        b"\1\0" + bytes(TAG) + b"\0",
        b"\1\x81" + bytes(TAG) + b"\0",
        b"\1\1" + bytes(TAG) + b"\2",
        b"\1\1" + bytes(TAG) + b"\0\0\1",
        b"\1\4" + bytes(TAG) + b"\0" + bytes(32) + b"\x21" + bytes(33 + 2_048),
        b"\1\1" + bytes(LONGEST),
    ],
)
def test_requests_that_break_a_rule_are_refused(data: bytes) -> None:
    with pytest.raises(DhtError):
        parse_request(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\1\1" + bytes(TAG),
        b"\1\x82" + bytes(TAG) + b"\0\x15" + plain_contact(1).serialize() * 21,
        b"\1\x84" + bytes(TAG) + b"\x63",
        b"\1\x84" + bytes(TAG) + b"\0\0",
    ],
)
def test_answers_that_break_a_rule_are_refused(data: bytes) -> None:
    with pytest.raises(DhtError):
        parse_answer(data)


def test_what_cannot_be_said_is_a_bug_of_ours() -> None:
    tag = bytes(TAG)
    with pytest.raises(LocalProtocolError):
        serialize_request(b"", Ping(None))
    for request in (
        Find(None, -1),
        Seek(None, 2**256),
        Store(None, 1, bytes(33), RECORD),
        Leave(None, 1, b"", b""),
    ):
        with pytest.raises(LocalProtocolError):
            serialize_request(tag, request)
    with pytest.raises(LocalProtocolError):
        serialize_answer(tag, Nodes(b"", (plain_contact(1),) * 21))


def test_the_longest_answer_fits_what_a_request_is_padded_to() -> None:
    contact = plain_contact(1, host=bytes([0x20]) + bytes(15))
    data = serialize_answer(bytes(TAG), Nodes(bytes(TOKEN), (contact,) * 20))
    assert len(data) + SIGNATURE == LONGEST
    assert len(serialize_answer(bytes(TAG), Stored(None))) + SIGNATURE < HEAD + 33 + 2_048


@given(st.binary(min_size=1, max_size=datagrams.PIECE * 4), st.randoms(use_true_random=False))
def test_a_message_comes_back_from_its_datagrams_in_any_order(message: bytes, rng: random.Random) -> None:
    pieces = cut(message, rng.randbytes)
    assert all(len(piece) <= DATAGRAM for piece in pieces)
    again = pieces * 2 if len(pieces) == 1 else pieces
    rng.shuffle(again)
    joined = Reassembly()
    got = [joined.receive_datagram(piece, HERE, 0.0) for piece in again]
    assert got[-1] == message
    assert got[:-1] == ([message] if len(pieces) == 1 else [None] * (len(pieces) - 1))
    assert len(joined) == 0


@given(st.lists(st.tuples(st.binary(max_size=20) | st.just(bytes(DATAGRAM)), st.integers(0, 3))))
def test_garbage_is_no_message_and_holds_no_more_than_it_may(received: list[tuple[bytes, int]]) -> None:
    joined = Reassembly()
    for data, number in received:
        try:
            message = joined.receive_datagram(data, Address(b"abcd", 1 + number), 0.0)
        except DhtError:
            continue
        assert message is None or len(message) <= 4 * datagrams.PIECE


def test_pieces_of_two_senders_are_never_joined() -> None:
    first, second = cut(bytes(2_000), bytes)
    joined = Reassembly()
    assert joined.receive_datagram(first, HERE, 0.0) is None
    assert joined.receive_datagram(second, Address(b"\x0b\0\0\1", 2), 0.0) is None
    assert joined.receive_datagram(second, HERE, 0.0) == bytes(2_000)


def test_pieces_that_say_different_things_are_refused() -> None:
    two, three = cut(bytes(2_000), bytes), cut(bytes(3_000), bytes)
    joined = Reassembly()
    joined.receive_datagram(two[0], HERE, 0.0)
    with pytest.raises(DhtError):
        joined.receive_datagram(three[1], HERE, 0.0)


def test_waiting_pieces_are_bounded_in_number_time_and_by_sender() -> None:
    rng = random.Random(1)
    joined = Reassembly()
    for _ in range(2 * MAX_FROM_ONE):
        joined.receive_datagram(cut(bytes(2_000), rng.randbytes)[0], HERE, 0.0)
        assert len(joined) <= MAX_FROM_ONE
    for number in range(2 * MAX_PARTIAL):
        joined.receive_datagram(cut(bytes(2_000), rng.randbytes)[0], Address(b"abcd", 1 + number), 0.1)
        assert len(joined) <= MAX_PARTIAL
    joined.receive_datagram(cut(bytes(2_000), rng.randbytes)[0], HERE, 0.1 + PATIENCE)
    assert len(joined) == 1


@pytest.mark.parametrize("size", [0, 4 * datagrams.PIECE + 1])
def test_a_message_of_no_length_is_not_cut(size: int) -> None:
    with pytest.raises(LocalProtocolError):
        cut(bytes(size), bytes)


def test_a_sealed_request_is_read_by_the_node_and_its_answer_by_the_asker() -> None:
    key = X25519PrivateKey.from_private_bytes(RNG.randbytes(32))
    request = RNG.randbytes(LONGEST)
    call = SealedCall(request, key.public_key().public_bytes_raw(), RNG.randbytes)
    assert len(call.sealed) == len(request) + OVERHEAD
    assert len(cut(call.sealed, RNG.randbytes)) == 4
    opened = SealedRequest(call.sealed, key)
    assert opened.request == request
    answer = opened.seal_answer(request, RNG.randbytes)
    assert len(answer) <= len(call.sealed)
    assert call.open_answer(answer) == request


def test_the_same_sealed_request_never_gets_the_same_nonce() -> None:
    """A guard may bring it twice, and what the node answers may have changed."""
    key = X25519PrivateKey.from_private_bytes(bytes(31) + b"\1")
    call = SealedCall(b"request", key.public_key().public_bytes_raw(), RNG.randbytes)
    one, two = (SealedRequest(call.sealed, key).seal_answer(b"answer", RNG.randbytes) for _ in range(2))
    assert one[1:13] != two[1:13]
    assert call.open_answer(one) == call.open_answer(two) == b"answer"


def test_sealed_messages_for_others_or_changed_do_not_open() -> None:
    key, other = (X25519PrivateKey.from_private_bytes(RNG.randbytes(32)) for _ in range(2))
    call = SealedCall(b"request", key.public_key().public_bytes_raw(), RNG.randbytes)
    answer = SealedRequest(call.sealed, key).seal_answer(b"answer", RNG.randbytes)
    changed = call.sealed[:-1] + bytes((call.sealed[-1] ^ 1,))
    for data, private in ((call.sealed, other), (changed, key), (b"", key), (b"\1" + call.sealed[1:], key)):
        with pytest.raises(DhtError):
            SealedRequest(data, private)
    another = SealedCall(b"request", key.public_key().public_bytes_raw(), RNG.randbytes)
    with pytest.raises(DhtError):
        another.open_answer(answer)
    for data in (b"", answer[:-1], b"\1" + answer[1:], answer[:20] + bytes(LONGEST + OVERHEAD)):
        with pytest.raises(DhtError):
            call.open_answer(data)


@given(st.binary(max_size=200).map(lambda tail: b"\2" + tail))
def test_sealed_garbage_is_refused(data: bytes) -> None:
    key = X25519PrivateKey.from_private_bytes(bytes(31) + b"\1")
    with pytest.raises(DhtError):
        SealedRequest(data, key)


@pytest.mark.parametrize("seal_key", [bytes(32), b"", (1).to_bytes(32, "little")])
def test_nothing_is_sealed_for_a_key_of_low_order(seal_key: bytes) -> None:
    with pytest.raises(DhtError):
        SealedCall(b"request", seal_key, RNG.randbytes)


def test_contacts_of_tests_are_what_they_seem() -> None:
    signed_contact(7).verify()
