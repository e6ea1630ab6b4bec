"""Who has how many records: the same as counting, step by step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht.shares import Shares


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), max_size=80))
def test_it_is_what_counting_says(steps: list[tuple[int, int]]) -> None:
    shares = Shares()
    counted: dict[int, list[int]] = {}
    for guard, location in steps:
        theirs = counted.setdefault(guard, [])
        if location in theirs:
            theirs.remove(location)
            shares.remove(guard, location)
        else:
            theirs.append(location)
            shares.add(guard, location)
        counts = [len(each) for each in counted.values()]
        assert [shares.of(one) for one in counted] == counts
        assert shares.most == max(counts)
        assert len(shares) == sum(count > 0 for count in counts)
        if shares.most:
            lasts = [each[-1] for each in counted.values() if len(each) == shares.most]
            assert shares.last_of_most() in lasts


def test_nobody_has_anything_at_first() -> None:
    shares = Shares()
    assert (len(shares), shares.most, shares.of(1)) == (0, 0, 0)
