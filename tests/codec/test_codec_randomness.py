"""Every byte drawn is handed out at most once."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.randomness import POOL, RandomPool


class Counting(random.Random):
    """Bytes that name their own position, 4 bytes each."""

    drawn = 0

    def randbytes(self, n):
        start, self.drawn = self.drawn, self.drawn + n
        return b"".join((at // 4).to_bytes(4, "big") for at in range(start, start + n + 3, 4))[:n]


@given(st.lists(st.integers(0, POOL // 2).map(lambda n: n * 4), max_size=40))
def test_nothing_is_handed_out_twice(sizes):
    pool = RandomPool(Counting())
    seen = set()
    for size in sizes:
        data = pool.take(size)
        assert len(data) == size
        words = {data[at : at + 4] for at in range(0, size, 4)}
        assert len(words) == size // 4
        assert not words & seen
        seen |= words


def test_the_generator_is_asked_seldom():
    rng = Counting()
    pool = RandomPool(rng)
    for _ in range(1024):
        pool.take(4)
    assert rng.drawn == POOL
