"""Pauses between redials: none while connections live, a steady few a minute while they are cut."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ptproxy.tunnel.redial import AT_ONCE, EVERY, Redials


def redials() -> Redials:
    return Redials(random.Random(1))


def test_a_few_in_a_row_are_replaced_at_once_and_then_no_more() -> None:
    bucket = redials()
    assert [bucket.cut(0.0) for _ in range(int(AT_ONCE))] == [0.0] * int(AT_ONCE)
    assert bucket.cut(0.0) > 0.0


def test_one_that_lived_fills_the_bucket() -> None:
    bucket = redials()
    for _ in range(40):
        bucket.cut(0.0)
    bucket.lived()
    assert bucket.cut(0.0) == 0.0


def test_cuts_that_are_far_apart_never_cost_a_pause() -> None:
    bucket = redials()
    assert not any(bucket.cut(number * EVERY) for number in range(100))


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=200))
def test_no_more_are_dialled_than_the_bucket_allows(lives: list[float]) -> None:
    bucket, now = redials(), 0.0
    for life in lives:
        now += life
        now += bucket.cut(now)
    assert len(lives) <= AT_ONCE + 1.4 * now / EVERY + 1
