"""The key schedule: every input matters, every label gives another key."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ptproxy.auth.keys import TICKET_BYTES, Keys, seal_keys, ticket, token_key

INPUTS = [b"1" * 32, b"2" * 32, b"h" * 32, b"c" * 1088, b"z" * 32]


@pytest.mark.parametrize("changed", range(5))
def test_every_input_changes_both_seal_keys(changed):
    other = list(INPUTS)
    other[changed] = other[changed][:-1] + b"?"
    assert not set(seal_keys(*INPUTS)) & set(seal_keys(*other))


@pytest.mark.parametrize("changed", range(3))
def test_every_input_changes_the_token_key(changed):
    other = INPUTS[:3]
    other[changed] = other[changed][:-1] + b"?"
    assert token_key(*INPUTS[:3]) != token_key(*other)


def test_all_keys_differ():
    assert len({*seal_keys(*INPUTS), token_key(*INPUTS[:3])}) == 3


def test_repr_holds_no_key():
    assert repr(Keys(*INPUTS[:2], seal_send=INPUTS[2])) == "Keys()"


def test_a_ticket_is_expanded_from_the_token_key() -> None:
    """Against another implementation of HKDF."""
    key = bytes(range(32))
    expected = HKDFExpand(hashes.SHA256(), 16, b"ptproxy 1 ticket").derive(key)
    assert ticket(key) == expected
    assert len(expected) == TICKET_BYTES
    assert expected.hex() == "e19ade36eb8d0f3275556f1132d674af"
