"""Contacts and addresses: one form only, signed by the node itself."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
from dht_nodes import signed_contact
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht.contact import MAX_CONTACT, Address, Contact, shared
from ptproxy.dht.identifier import id_at_prefix, shared_prefix
from ptproxy.dht.signing import SigningKey
from ptproxy.errors import DhtError, LocalProtocolError

IDS = st.integers(0, 2**256 - 1)
HOSTS = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16).filter(
    lambda host: not host.startswith(bytes(10) + b"\xff\xff")
)
ADDRESSES = st.builds(Address, HOSTS, st.integers(1, 65_535))
KEYS = st.binary(min_size=32, max_size=32)
CONTACTS = st.builds(
    Contact,
    IDS,
    KEYS,
    KEYS,
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**64 - 1),
    ADDRESSES,
    st.binary(min_size=64, max_size=64),
)


@given(CONTACTS, st.binary(max_size=8), st.binary(max_size=8))
def test_a_contact_comes_back_from_its_bytes_wherever_they_stand(
    contact: Contact, before: bytes, behind: bytes
) -> None:
    data = contact.serialize()
    assert len(data) in (MAX_CONTACT, MAX_CONTACT - 12)
    assert Contact.parse(before + data + behind, len(before)) == (contact, len(before) + len(data))


@given(st.binary(max_size=MAX_CONTACT + 10), st.integers(0, 20))
def test_garbage_is_refused_or_is_a_contact_in_its_one_form(data: bytes, start: int) -> None:
    try:
        contact, end = Contact.parse(data, start)
    except DhtError:
        return
    assert contact.serialize() == data[start:end]


@given(CONTACTS, st.data())
def test_a_cut_contact_is_refused(contact: Contact, data: st.DataObject) -> None:
    whole = contact.serialize()
    with pytest.raises(DhtError):
        Contact.parse(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_only_what_the_node_itself_said_verifies() -> None:
    contact = signed_contact(1)
    contact.verify()
    other = signed_contact(2)
    for changed in (
        replace(contact, id=contact.id ^ 1),
        replace(contact, key=other.key),
        replace(contact, seal_key=other.seal_key),
        replace(contact, nonce=other.nonce),
        replace(contact, sequence=contact.sequence + 1),
        replace(contact, address=other.address),
        replace(contact, signature=other.signature),
    ):
        with pytest.raises(DhtError):
            changed.verify()


def test_a_key_of_low_order_speaks_for_nobody() -> None:
    """Under the neutral element R = neutral, S = 0 would verify for every message."""
    neutral = (1).to_bytes(32, "little")
    with pytest.raises(DhtError, match="low order"):
        replace(signed_contact(1), key=neutral, signature=neutral + bytes(32)).verify()


def test_of_two_contacts_the_later_counts() -> None:
    old, new = signed_contact(1, sequence=4), signed_contact(1, sequence=5)
    assert new.supersedes(old)
    assert not old.supersedes(new)
    assert not new.supersedes(new)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x04",
        b"\x05" + bytes(6),
        b"\x04\x0b\0\0\1\0\0",
        b"\x04\x0b\0\0\1\0",
        b"\x06" + bytes(10) + b"\xff\xff" + b"\x0b\0\0\1\0\x50",
    ],
)
def test_addresses_that_nobody_has_are_refused(data: bytes) -> None:
    with pytest.raises(DhtError):
        Address.parse(data)


@pytest.mark.parametrize(
    "address",
    [Address(b"abc", 1), Address(b"abcd", 0), Address(b"abcd", 65_536), Address(b"\0" * 10 + b"\xff" * 6, 1)],
)
def test_what_would_be_refused_is_not_sent(address: Address) -> None:
    with pytest.raises(LocalProtocolError):
        address.serialize()


@pytest.mark.parametrize(
    "change",
    [{"id": -1}, {"id": 2**256}, {"key": b""}, {"seal_key": bytes(33)}, {"nonce": b""}, {"sequence": 2**64},
     {"signature": bytes(63)}],
)  # fmt: skip
def test_a_contact_without_a_form_is_a_bug_of_ours(change: dict[str, object]) -> None:
    with pytest.raises(LocalProtocolError):
        replace(signed_contact(1), **change).serialize()  # type: ignore[arg-type]


def test_addresses_read_as_people_write_them() -> None:
    assert str(Address(b"\x0b\0\0\1", 80)) == "11.0.0.1:80"
    assert str(Address(b"\x20\x01" + bytes(13) + b"\1", 80)) == "[2001::1]:80"


def test_a_private_key_is_not_shown() -> None:
    key = SigningKey.generate(bytes)
    assert repr(key) == "<SigningKey>"
    assert key.serialize_private() == bytes(32)


@given(IDS, st.integers(0, 255), st.binary(min_size=32, max_size=32))
def test_a_random_id_shares_just_the_prefix_asked_for(own: int, shared: int, random: bytes) -> None:
    assert shared_prefix(own, id_at_prefix(own, shared, lambda _: random)) == shared


def test_an_id_shares_everything_with_itself() -> None:
    assert shared_prefix(5, 5) == 256


def test_the_tables_of_a_process_share_one_object_for_a_contact() -> None:
    data = signed_contact(7).serialize()
    first, second = Contact.parse(data)[0], Contact.parse(data)[0]
    assert shared(first) is shared(second) is first
    false = replace(first, sequence=9)
    assert shared(false) is false
    assert shared(second) is first


def test_a_false_contact_with_the_signature_of_a_true_one_is_read_as_what_it_is() -> None:
    """Whichever came first, and is held."""
    true = signed_contact(17)
    false = replace(true, sequence=9)
    held = [Contact.parse(false.serialize())[0], Contact.parse(true.serialize())[0]]
    assert held == [false, true]
    assert [Contact.parse(one.serialize())[0] for one in (true, false)] == [true, false]
    assert replace(held[1], sequence=7).serialize() != true.serialize()


def test_a_shared_contact_lives_as_long_as_somebody_holds_it() -> None:
    contact = shared(signed_contact(8))
    gone = weakref.ref(contact)
    del contact
    gc.collect()
    assert gone() is None
