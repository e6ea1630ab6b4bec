"""Leaky buckets: what goes at once, what goes in the long run, and how many names are kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ptproxy.peers.mailbox_rates import Rates


def test_a_burst_and_then_the_rate():
    rates = Rates(3, 0.5)
    assert [rates.take("a", 1, 100.0) for _ in range(4)] == [0, 0, 0, 2]
    assert rates.take("a", 1, 101.0) == 1
    assert rates.take("a", 1, 102.0) == 0
    assert rates.take("a", 1, 102.0) == 2
    assert rates.take("b", 3, 102.0) == 0


def test_a_clock_that_goes_back_forgives_nothing():
    rates = Rates(1, 1)
    assert rates.take("a", 1, 100.0) == 0
    assert rates.take("a", 1, 50.0) == 1
    assert rates.take("a", 1, 100.5) == 1
    assert rates.take("a", 1, 101.0) == 0


def test_what_is_given_back_is_no_credit():
    rates = Rates(2, 1)
    rates.spend("a", -100, 0.0)
    assert rates.take("a", 2, 0.0) == 0
    assert rates.take("a", 1, 0.0) == 1


def test_names_are_bounded_and_the_most_silent_goes_first():
    rates = Rates(1, 0.001, most=3)
    for name in "abc":
        rates.take(name, 1, 0.0)
    assert rates.take("a", 1, 1.0) > 0  # a is the newest now
    rates.take("d", 1, 1.0)
    assert len(rates) == 3
    assert rates.take("a", 1, 1.0) > 0
    assert rates.take("b", 1, 1.0) == 0


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 5)), max_size=60))
def test_never_more_than_burst_and_rate(steps):
    rates, now, spent = Rates(10, 2), 0.0, 0
    for passed, cost in steps:
        now += passed
        if not rates.take("a", cost, now):
            spent += cost
        assert spent <= 10 + 2 * now + 1e-6
