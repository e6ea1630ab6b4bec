"""What a person says about a peer, and what survives a store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e.contact import Contact, Standing
from ptproxy.e2e.fingerprint import Fingerprint
from ptproxy.errors import E2EError, StateError

KNOWN, NEW, OTHER = (Fingerprint(bytes([number]) * 32) for number in (1, 2, 3))


def test_comparing_verifies_and_another_fingerprint_does_not():
    contact = Contact(KNOWN)
    assert contact.standing is Standing.UNVERIFIED
    assert not contact.compare(NEW.digits())
    assert contact.standing is Standing.UNVERIFIED
    assert contact.compare(KNOWN.words())
    assert contact.standing is Standing.VERIFIED


def test_a_change_is_accepted_by_the_new_fingerprint_only():
    contact = Contact(KNOWN, compared=True)
    contact.see(NEW)
    assert contact.standing is Standing.CHANGED
    for wrong in (KNOWN, OTHER):
        with pytest.raises(E2EError):
            contact.accept(wrong)
        assert (contact.standing, contact.known) == (Standing.CHANGED, KNOWN)
    contact.accept(NEW)
    assert (contact.standing, contact.known) == (Standing.UNVERIFIED, NEW)
    with pytest.raises(E2EError):
        contact.accept(NEW)


def test_comparing_the_old_fingerprint_does_not_end_a_change():
    contact = Contact(KNOWN)
    contact.see(NEW)
    assert contact.compare(KNOWN.digits())
    assert contact.standing is Standing.CHANGED


def test_keeping_the_known_identity_restores_what_was():
    contact = Contact(KNOWN, compared=True)
    contact.see(NEW)
    contact.keep()
    assert (contact.standing, contact.known) == (Standing.VERIFIED, KNOWN)


def test_what_a_mailbox_shows_does_not_displace_what_the_old_key_vouches_for():
    contact = Contact(KNOWN)
    contact.see(OTHER)
    contact.hear_succession(NEW)
    contact.see(OTHER)
    assert (contact.candidate, contact.vouched) == (NEW, True)


def test_the_known_identity_is_no_change():
    contact = Contact(KNOWN)
    contact.see(Fingerprint(bytes(KNOWN.data)))
    assert contact.standing is Standing.UNVERIFIED


@pytest.mark.parametrize("candidate", [None, NEW])
@pytest.mark.parametrize("bits", range(8))
def test_what_was_stored_comes_back(candidate, bits):
    vouched = bool(bits & 4) and candidate is not None
    contact = Contact(KNOWN, bool(bits & 1), bool(bits & 2), candidate, vouched)
    stored = contact.serialize()
    assert Contact.parse(stored) == contact
    for length in range(len(stored)):
        with pytest.raises(StateError):
            Contact.parse(stored[:length])


def test_vector():
    contact = Contact(KNOWN, compared=True, added=True, candidate=NEW, vouched=True)
    assert contact.serialize() == b"\x01\x0f" + b"\x01" * 32 + b"\x02" * 32


@given(st.binary(max_size=70) | st.binary(max_size=68).map(lambda rest: b"\x01\x05" + rest))
def test_garbage(data):
    try:
        contact = Contact.parse(data)
    except StateError:
        return
    assert contact.serialize() == data
