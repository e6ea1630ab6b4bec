"""Identities and their stored form."""

from random import Random

import pytest
from agreement_pair import flip
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e import Identity, OwnIdentity
from ptproxy.errors import E2EError, StateError


def own(name):
    return OwnIdentity.generate(Random(name).randbytes)


def test_round_trip():
    owner = own("a")
    assert Identity.parse(owner.public.serialize()) == owner.public
    again = OwnIdentity.parse(owner.serialize())
    assert (again.public, again.serialize()) == (owner.public, owner.serialize())
    assert repr(owner) == "<OwnIdentity>"


def test_the_fingerprint_is_of_both_keys():
    one, other = own("a").public, own("b").public
    mixed = Identity(one.signing, other.agreement)
    assert len({one.fingerprint, other.fingerprint, mixed.fingerprint}) == 3
    assert mixed.shares_a_key_with(one)
    assert mixed.shares_a_key_with(other)
    assert not one.shares_a_key_with(other)


def test_the_two_keys_do_not_change_places():
    data = own("a").public.serialize()
    with pytest.raises(E2EError, match="Ed25519"):
        Identity.parse(data[33:] + data[:33])


@given(data=st.binary(max_size=70))
def test_garbage(data):
    with pytest.raises(E2EError):
        Identity.parse(data)


@given(data=st.binary(max_size=70), position=st.integers(0, 64))
def test_damaged_own_identity(data, position):
    if len(data) != 65 or data[0] != 1:
        with pytest.raises(StateError, match="damaged"):
            OwnIdentity.parse(data)
    saved = own("a").serialize()
    with pytest.raises(StateError):
        OwnIdentity.parse(saved[:position])
    with pytest.raises(StateError):
        OwnIdentity.parse(flip(saved, 0))
