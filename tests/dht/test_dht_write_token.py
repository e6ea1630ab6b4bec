"""Leave to write: for one requester, one place and some minutes."""

import pytest
from dht_records import NOW, draw
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht.write_token import PERIOD, TOKEN, WriteTokenError, WriteTokens

TOKENS = WriteTokens(draw("node"))
GUARD, PLACE = 7, 1 << 255
numbers = st.integers(0, 2**256 - 1)


@given(numbers, numbers, st.floats(0, 2**33), st.floats(0, PERIOD))
def test_good_for_five_minutes_at_least(place, guard, now, later):
    token = TOKENS.give(place, guard, now)
    assert len(token) == TOKEN
    TOKENS.check(token, place, guard, now + later)


@given(st.floats(0, 2**33))
def test_and_for_ten_at_most(now):
    token = TOKENS.give(PLACE, GUARD, now)
    with pytest.raises(WriteTokenError):
        TOKENS.check(token, PLACE, GUARD, now + 2 * PERIOD + 0.01)


@pytest.mark.parametrize(
    ("place", "guard", "now"), [(PLACE ^ 1, GUARD, NOW), (PLACE, GUARD + 1, NOW), (GUARD, PLACE, NOW)]
)
def test_for_nothing_else(place, guard, now):
    token = TOKENS.give(PLACE, GUARD, NOW)
    TOKENS.check(token, PLACE, GUARD, NOW)
    with pytest.raises(WriteTokenError):
        TOKENS.check(token, place, guard, now)


@given(st.binary(max_size=40))
def test_garbage(token):
    with pytest.raises(WriteTokenError):
        TOKENS.check(token, PLACE, GUARD, NOW)


def test_another_node_or_a_restart():
    with pytest.raises(WriteTokenError):
        WriteTokens(draw("another")).check(TOKENS.give(PLACE, GUARD, NOW), PLACE, GUARD, NOW)


def test_tokens_of_the_future():
    """A clock set back: what was given before is not good, and nothing breaks."""
    token = TOKENS.give(PLACE, GUARD, NOW)
    with pytest.raises(WriteTokenError):
        TOKENS.check(token, PLACE, GUARD, NOW - PERIOD)
    TOKENS.check(TOKENS.give(PLACE, GUARD, -5.0), PLACE, GUARD, -5.0)
