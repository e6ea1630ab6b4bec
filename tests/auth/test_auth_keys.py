"""The key schedule: every input matters, every label gives another key."""

import pytest

from ptproxy.auth.keys import Keys, seal_keys, token_key

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
