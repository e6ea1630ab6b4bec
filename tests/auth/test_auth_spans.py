"""A bounded set of seconds against a plain one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.auth.spans import MAX_SPANS, Spans

seconds = st.integers(0, 120)
pairs = st.lists(st.tuples(seconds, seconds).map(sorted), max_size=40)


@given(pairs)
def test_without_a_limit_it_is_a_set(found: list[list[int]]) -> None:
    spans, model = Spans(), set()
    for first, last in found:
        new = set(range(first, last + 1)) - model
        assert spans.add(first, last) is bool(new)
        model |= new
    assert {second for second in range(130) if second in spans} == model
    assert all(first <= last for first, last in spans)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(spans))


@given(pairs, st.integers(1, 5))
def test_with_a_limit_it_may_hold_more_and_only_below_the_newest(found: list[list[int]], limit: int) -> None:
    spans, whole = Spans(limit=limit), Spans()
    for first, last in found:
        spans.add(first, last)
        whole.add(first, last)
        assert len(spans) <= limit
    more = {second for second in range(130) if second in spans and second not in whole}
    assert all(second in spans for first, last in whole for second in range(first, last + 1))
    if more:
        assert max(more) < list(whole)[-1][0]


def test_of_many_the_oldest_become_one() -> None:
    spans = Spans((number * 10, number * 10) for number in range(MAX_SPANS + 3))
    assert len(spans) == MAX_SPANS
    assert list(spans)[:2] == [(0, 30), (40, 40)]


@given(pairs)
def test_json(found: list[list[int]]) -> None:
    spans = Spans((first, last) for first, last in found)
    assert list(Spans.parse([list(span) for span in spans])) == list(spans)


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        "x",
        [1],
        [[1]],
        [[1, 2, 3]],
        [[2, 1]],
        [[0, 2**63]],
        [[True, 1]],
        [[1.0, 2]],
        ["12"],
    ],
)
def test_what_is_none(found: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (it says nothing; whoever reads a snapshot does)
        Spans.parse(found)
