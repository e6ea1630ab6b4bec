"""What peers say to each other: every part, and everything that is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.config.link import Link
from ptproxy.dht.invite import Invite
from ptproxy.dht.signing import SigningKey
from ptproxy.e2e import MAX_BODY
from ptproxy.peers.mailbox_delivery import DeliveryPass
from ptproxy.peers.mailbox_requests import Right
from ptproxy.peers.payload import (
    HEAD,
    MAX_NAME,
    MAX_NUMBER,
    MAX_PARTS,
    MAX_PRESENCE,
    MAX_SIGNAL,
    MAX_TEXT,
    MAX_TIME,
    BridgeInvite,
    Hello,
    Pass,
    Payload,
    PayloadError,
    Presence,
    PresenceNotice,
    Read,
    Receipt,
    Records,
    Signal,
    TextLine,
    Unknown,
    Wish,
    parse_part,
    serialize_part,
)

LINK = Link(
    key=bytes(32), host="example.org", port=443, path="/a", server_name="example.org", codecs=("http",)
)
INVITE = Invite.issue(SigningKey(bytes(32)), (LINK,), 2_000_000_000, bytes)
times = st.integers(0, MAX_TIME)
numbers = st.integers(1, MAX_NUMBER)
texts = st.text(max_size=200)
passes = st.builds(
    DeliveryPass,
    st.binary(min_size=32, max_size=32),
    st.sampled_from(Right),
    st.integers(0, 1000),
    st.integers(1, 64),
    st.integers(1, 65535),
    st.integers(0, 1 << 31),
)
parts = st.one_of(
    st.builds(Hello, st.text(max_size=60), st.binary(min_size=32, max_size=32), st.just(LINK)),
    st.builds(TextLine, numbers, times, st.text(min_size=1, max_size=200)),
    st.builds(Receipt.of, st.sampled_from(Read), st.sets(st.integers(1, 300), min_size=1)),
    st.builds(Pass, passes),
    st.builds(PresenceNotice, st.sampled_from(Presence), st.integers(0, MAX_PRESENCE)),
    st.builds(Signal, st.binary(max_size=300)),
    st.builds(Wish, st.integers(0, 0xFFFF)),
    st.builds(BridgeInvite, st.just(INVITE)),
    st.builds(Records, st.binary(min_size=64, max_size=64)),
    st.builds(Unknown, st.integers(10, 255), st.binary(max_size=300)),
)


@given(times, st.lists(parts, max_size=8))
def test_a_payload_comes_back(sent, said):
    payload = Payload(sent, tuple(said))
    assert Payload.parse(payload.serialize()) == payload


@given(parts)
def test_a_part_comes_back(part):
    assert parse_part(serialize_part(part)) == part


@given(st.binary(max_size=600))
def test_garbage_is_a_payload_or_is_refused(data):
    for wrong in (data, b"\1" + bytes(8) + data):
        try:
            payload = Payload.parse(wrong)
        except PayloadError:
            continue
        assert Payload.parse(payload.serialize()) == payload


@given(st.lists(parts, min_size=1, max_size=4), st.data())
def test_a_changed_byte_is_another_payload_or_is_refused(said, data):
    whole = Payload(1, tuple(said)).serialize()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        assert Payload.parse(bytes(changed)) != Payload.parse(whole)
    except PayloadError:
        pass


@given(st.lists(parts, min_size=1, max_size=3), st.integers(1, 40))
def test_a_payload_that_was_cut_is_refused_or_shorter(said, cut):
    whole = Payload(1, tuple(said)).serialize()
    try:
        assert len(Payload.parse(whole[:-cut]).parts) < len(said)
    except PayloadError:
        pass


@pytest.mark.parametrize(
    ("part", "body"),
    [
        (1, bytes(32) + b"\0\0"),  # no link
        (1, bytes(32) + b"\0\0http://example.org"),
        (1, bytes(32) + (MAX_NAME + 1).to_bytes(2, "big") + bytes(MAX_NAME + 1) + LINK.serialize().encode()),
        (1, bytes(32) + b"\0\1\xff" + LINK.serialize().encode()),
        (1, bytes(31)),
        (2, bytes(16)),
        (2, bytes(16) + b"text"),  # number 0
        (2, (MAX_NUMBER + 1).to_bytes(8, "big") + bytes(8) + b"text"),
        (2, (1).to_bytes(8, "big") + (MAX_TIME + 1).to_bytes(8, "big") + b"text"),
        (2, (1).to_bytes(8, "big") + bytes(8) + b"\xff"),
        (2, (1).to_bytes(8, "big") + bytes(8) + bytes(MAX_TEXT + 1)),
        (3, b""),
        (3, b"\1"),
        (3, b"\3" + (1).to_bytes(8, "big") + b"\0\1"),
        (3, b"\1" + (1).to_bytes(8, "big") + b"\0\0"),
        (3, b"\1" + ((5).to_bytes(8, "big") + b"\0\1") * 2),
        (3, b"\1" + (MAX_NUMBER).to_bytes(8, "big") + b"\0\1"),
        (3, b"\1" + b"".join((2 * n).to_bytes(8, "big") + b"\0\1" for n in range(1, 66))),
        (4, bytes(45)),
        (4, bytes(44)),
        (5, b"\2" + bytes(4)),
        (5, b"\1" + (MAX_PRESENCE + 1).to_bytes(4, "big")),
        (5, b"\1\0"),
        (6, bytes(MAX_SIGNAL + 1)),
        (7, b"\0"),
    ],
)
def test_impossible_parts_are_refused(part, body):
    data = bytes((part,)) + len(body).to_bytes(3, "big") + body
    with pytest.raises(PayloadError):
        parse_part(data)
    with pytest.raises(PayloadError):
        Payload.parse(b"\1" + bytes(8) + data)


def test_limits_of_a_payload():
    empty = Payload(1, ()).serialize()
    assert len(empty) == HEAD
    many = empty + serialize_part(Wish(1)) * MAX_PARTS
    assert len(Payload.parse(many).parts) == MAX_PARTS
    for wrong in (
        b"\2" + empty[1:],
        empty[:-1],
        many + serialize_part(Wish(1)),
        b"\1" + (MAX_TIME + 1).to_bytes(8, "big"),
        empty + bytes((200, 1, 0, 0)) + bytes((1 << 16) - 1),
        empty + bytes((200,)) + (MAX_BODY).to_bytes(3, "big") + bytes(MAX_BODY),
    ):
        with pytest.raises(PayloadError):
            Payload.parse(wrong)


def test_a_receipt_takes_what_fits_and_says_what():
    numbers = [1, 2, 3, 7, 9, 10]
    receipt = Receipt.of(Read.READ, [10, 9, 1, 2, 2, 3, 7])
    assert receipt.ranges == ((1, 3), (7, 1), (9, 2))
    assert list(receipt.numbers()) == numbers
    scattered = Receipt.of(Read.DELIVERED, range(2, 1000, 2))
    assert list(scattered.numbers()) == list(range(2, 130, 2))
    assert len(list(Receipt.of(Read.READ, range(1, 70_000)).numbers())) == 69_999


def test_nothing_secret_is_shown():
    shown = repr(Payload(1, (TextLine(1, 1, "sesame"), Signal(b"sesame"), Hello("a", b"sesame" * 6, LINK))))
    assert "sesame" not in shown
