"""A race starts the right attempt at the right time, and always ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ptproxy.ways import Race
from ptproxy.ways.race import AGAIN, MOST, OPENING_STAGGER, STAGGER


def first(race, now):
    [(number, candidate)] = race.start(now)
    return number, candidate


def race_of(*candidates):
    """Candidates like ``a1``: the group, and which of it."""
    return Race(candidates, lambda one: one[0])


def test_the_next_starts_when_the_first_is_late():
    race = race_of("a1", "b1", "c1")
    assert first(race, 10.0) == (1, "a1")
    assert race.start(10.0) == []
    assert race.deadline() == 10.0 + STAGGER
    assert first(race, 10.0 + STAGGER) == (2, "b1")
    assert first(race, 10.0 + 2 * STAGGER) == (3, "c1")


def test_the_next_starts_at_once_when_the_first_fails():
    race = race_of("a1", "b1")
    number, _ = first(race, 10.0)
    race.failed(number, 10.01)
    assert race.deadline() == 10.01
    assert first(race, 10.01)[1] == "b1"
    race.failed(2, 10.02)
    assert race.over
    assert race.start(10.02) == []


def test_what_comes_further_is_given_time():
    race = race_of("a1", "b1")
    number, _ = first(race, 10.0)
    race.progressed(number, 10.1)
    assert race.start(10.1 + STAGGER) == []
    assert first(race, 10.1 + OPENING_STAGGER)[1] == "b1"


def test_one_that_has_tls_is_not_started_again_beside_itself():
    race = race_of("a1")
    number, _ = first(race, 10.0)
    race.progressed(number, 10.1)
    assert race.deadline() is None
    assert race.start(1000.0) == []
    race.failed(number, 1000.0)
    assert race.over


def test_another_codec_of_a_silent_address_waits():
    race = race_of("a1", "a2", "b1")
    first(race, 0.0)
    assert first(race, STAGGER)[1] == "b1"
    assert race.start(2 * STAGGER) == []
    assert race.deadline() == STAGGER + AGAIN
    assert first(race, STAGGER + AGAIN)[1] == "a2"


def test_an_address_that_failed_is_tried_with_no_other_codec():
    race = race_of("a1", "a2", "b1")
    number, _ = first(race, 0.0)
    race.group_failed(number, 0.0)
    assert first(race, 0.0)[1] == "b1"
    race.failed(2, 0.0)
    assert race.over


def test_a_lone_candidate_that_is_silent_is_started_again():
    race = race_of("a1")
    first(race, 0.0)
    assert race.deadline() == AGAIN
    assert first(race, AGAIN) == (2, "a1")
    assert race.deadline() == 3 * AGAIN
    assert first(race, 3 * AGAIN) == (3, "a1")
    assert race.deadline() == 7 * AGAIN


def test_a_failure_beside_a_silent_one_starts_nothing_again_at_once():
    race = race_of("a1", "b1")
    first(race, 0.0)
    number, _ = first(race, STAGGER)
    race.failed(number, 0.3)
    assert race.start(0.3) == []
    assert first(race, STAGGER + AGAIN)[1] == "a1"


def test_what_is_known_to_be_quick_waits_less():
    race = Race(("a", "b"), str, lambda one: {"a": 0.1, "b": 2.0}[one])
    first(race, 0.0)
    assert race.deadline() == 0.1


candidates = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8, unique=True)


@given(candidates, st.randoms(use_true_random=False))
def test_any_race_is_bounded_and_ends(ones, rng):
    race, now, running, dead = Race(ones, lambda one: one[0]), 0.0, {}, set()
    seen = set()
    for _ in range(200):
        deadline = race.deadline()
        if deadline is not None:
            now = max(now, deadline)
        for number, candidate in race.start(now):
            assert candidate[0] not in dead or candidate in running.values()
            running[number] = candidate
            seen.add(candidate)
        assert race.running == len(running) <= MOST
        if not running:
            break
        number = rng.choice(list(running))
        what = rng.choice(("failed", "group", "progressed", "nothing"))
        if what == "progressed":
            race.progressed(number, now)
        elif what == "failed":
            race.failed(number, now)
            del running[number]
        elif what == "group":
            dead.add(running.pop(number)[0])
            race.group_failed(number, now)
    for _ in range(50):  # and when all that is left fails, it is over
        if not running:
            break
        number = running.popitem()[0]
        race.failed(number, now)
        for started, candidate in race.start(now):
            running[started] = candidate
            seen.add(candidate)
    assert race.over
    assert {one for one in ones if one[0] not in dead} <= seen


def test_without_an_answer_at_most_so_many_run():
    race = race_of(*(f"{group}1" for group in "abcdefgh"))
    started = [len(race.start(now)) for now in range(100)]
    assert sum(started) == race.running == MOST
    assert race.deadline() is None
