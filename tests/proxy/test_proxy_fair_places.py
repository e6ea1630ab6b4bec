"""Places that clients share: against a model that counts."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ptproxy.proxy.fair_places import FairPlaces, Place

steps = st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=80)


@given(steps, st.integers(1, 9))
def test_never_more_than_there_are_and_never_from_who_has_few(
    steps: list[tuple[str, bool]], most: int
) -> None:
    places = FairPlaces(most)
    held: dict[str, list[Place]] = {name: [] for name in "abcd"}
    for name, takes in steps:
        before = Counter({each: len(have) for each, have in held.items()})
        if not takes:
            if held[name]:
                place = held[name].pop(0)
                place.give_back()
                place.give_back()
                assert not place.taken_away
        else:
            made = places.take(name)
            lost = [each for each, have in held.items() for place in have if place.taken_away]
            for each in lost:
                assert held[each].pop().taken_away  # its newest
            if before.total() < most:
                assert made is not None
                assert not lost
            elif max(before.values()) >= before[name] + 2:
                assert made is not None
                [loser] = lost
                assert before[loser] == max(before.values())
            else:
                assert made is None
                assert not lost
            if made is not None:
                held[name].append(made)
        assert len(places) == sum(map(len, held.values())) <= most


def test_who_wants_few_gets_them_beside_those_who_want_all() -> None:
    places, ended = FairPlaces(1024), Counter[str]()
    for number in range(10_000):
        name = f"greedy {number % 3}"
        place = places.take(name)
        if place is not None:
            place.vacate = lambda name=name: ended.update([name])
    mine = [places.take("honest") for _ in range(200)]
    assert all(mine)
    assert ended.total() == 200
    assert max(ended.values()) - min(ended.values()) <= 2
    for _ in range(10_000):
        for name in ("greedy 0", "greedy 1", "greedy 2"):
            places.take(name)
    assert not any(place is None or place.taken_away for place in mine)


def test_no_places_at_all() -> None:
    assert FairPlaces(0).take("a") is None
