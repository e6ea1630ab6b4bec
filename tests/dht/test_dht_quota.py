"""Leaky buckets: what may be asked at once and in the long run, and of how many names."""

from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht import quota
from ptproxy.dht.quota import LeakyBucket, WriteQuotas


def test_at_once_and_then_by_the_rate():
    bucket = LeakyBucket(5, 0.5)
    assert [bucket.take(1, 100.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not bucket.take(1, 101.0)
    assert bucket.take(1, 102.0)
    assert not bucket.take(1, 102.0)
    assert [bucket.take(1, 1e6) for _ in range(6)] == [True] * 5 + [False]


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(0.1, 3)), max_size=60))
def test_never_more_than_burst_and_rate(steps):
    """Whatever the clock does: what was taken is at most burst + rate * the time that really passed."""
    bucket, now, latest, first, taken = LeakyBucket(4, 0.25), 0.0, None, None, 0.0
    for step, cost in steps:
        now += step
        first = now if first is None else first
        latest = now if latest is None else max(latest, now)
        if bucket.take(cost, now):
            taken += cost
        assert taken <= 4 + 0.25 * (latest - first) + 1e-6


def test_each_guard_has_its_own():
    quotas = WriteQuotas(2, 1)
    assert [quotas.take(guard, 0.0) for guard in (1, 1, 1, 2, 2, 2)] == [True, True, False] * 2


def test_guards_are_bounded_and_the_silent_one_is_forgotten(monkeypatch):
    monkeypatch.setattr(quota, "MAX_GUARDS", 3)
    quotas = WriteQuotas(1, 0.001)
    assert all(quotas.take(guard, 0.0) for guard in (1, 2, 3))
    assert not quotas.take(1, 0.0)
    assert quotas.take(4, 0.0)
    assert len(quotas) == 3
    assert [quotas.take(guard, 0.0) for guard in (1, 3, 4)] == [False] * 3
    assert quotas.take(2, 0.0)
