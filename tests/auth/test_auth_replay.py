"""The replay filter against a model that forgets nothing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.auth import ReplayFilter, ReplayVerdict
from ptproxy.auth.replay import BUCKET, WINDOW, outline, unknown_until
from ptproxy.auth.spans import MAX_SPANS
from ptproxy.errors import ConfigError

START = 1_800_000_000
F = ReplayVerdict.FRESH


def key(number):
    return number.to_bytes(4, "big") * 8


def test_an_opening_once():
    replay = ReplayFilter(START)
    assert replay.check_and_add(key(1), START + 5, START + 5) is F
    assert key(1) in replay
    assert key(2) not in replay
    assert replay.check_and_add(key(1), START + 5, START + 5) is ReplayVerdict.REPLAYED
    assert replay.check_and_add(key(1), START + 40, START + 5) is ReplayVerdict.REPLAYED
    assert replay.check_and_add(key(2), START + 5, START + 5) is F
    assert len(replay) == 2


@pytest.mark.parametrize(("made", "verdict"), [(0, F), (-60, F), (60, F), (-61, "SKEWED"), (61, "SKEWED")])
def test_window(made, verdict):
    replay = ReplayFilter(START)
    now = START + 1000
    expected = verdict if verdict is F else ReplayVerdict[verdict]
    assert replay.check_and_add(key(1), now + made, now) is expected


def test_before_the_start():
    replay = ReplayFilter(START + 0.5)
    assert replay.check_and_add(key(1), START, START + 1) is ReplayVerdict.BEFORE_START
    assert replay.check_and_add(key(1), START + 1, START + 1) is F


def test_full_fails_closed_until_there_is_room():
    replay = ReplayFilter(START, limit=3)
    for number in range(3):
        assert replay.check_and_add(key(number), START, START) is F
    assert replay.check_and_add(key(9), START, START) is ReplayVerdict.FULL
    assert replay.check_and_add(key(1), START, START) is ReplayVerdict.REPLAYED
    assert len(replay) == 3
    later = START + WINDOW + BUCKET
    assert replay.check_and_add(key(9), later, later) is F
    assert len(replay) == 1


def test_a_clock_set_back_readmits_nothing():
    replay = ReplayFilter(START)
    assert replay.check_and_add(key(1), START, START) is F
    later = START + 10_000
    assert replay.check_and_add(key(2), later, later) is F
    assert key(1) not in replay
    assert replay.check_and_add(key(1), START, START) is ReplayVerdict.FORGOTTEN


@pytest.mark.parametrize("ahead", [130, 3600, 10 * 365 * 86_400])
def test_a_clock_that_was_ahead_and_is_right_again_keeps_nobody_out(ahead):
    """But who claims a second of a bucket that was in use meanwhile, when its time has come."""
    replay = ReplayFilter(START)
    assert replay.check_and_add(key(1), START, START) is F
    assert replay.check_and_add(key(2), START + ahead, START + ahead) is F
    assert replay.check_and_add(key(3), START + ahead + 100, START + ahead + 100) is F
    for passed in (BUCKET, 60):
        now = START + passed
        assert replay.check_and_add(key(10 + passed), now, now) is F
        assert replay.check_and_add(key(1), START, now) is ReplayVerdict.FORGOTTEN
    then = START + ahead
    assert replay.check_and_add(key(2), then, then) is not F
    assert replay.check_and_add(key(4), then, then) is ReplayVerdict.FORGOTTEN
    assert replay.check_and_add(key(5), then + BUCKET, then + BUCKET) is F


def test_openings_of_a_time_ahead_take_no_room_once_the_clock_is_back():
    replay = ReplayFilter(START, limit=2)
    assert replay.check_and_add(key(1), START + 3600, START + 3600) is F
    assert replay.check_and_add(key(2), START + 3600, START + 3600) is F
    assert replay.check_and_add(key(3), START, START) is F
    assert len(replay) == 1


openings = st.tuples(st.integers(0, 30), st.integers(-70, 70), st.integers(0, 40), st.booleans())


@given(steps=st.lists(openings, max_size=60))
def test_against_a_model_that_forgets_nothing(steps):
    """No opening is ever fresh twice, while time passes and over clean restarts; memory is bounded."""
    replay, now, seen = ReplayFilter(START - 100), START, {}
    for number, skew, passed, restart in steps:
        now += passed
        if restart:
            replay = ReplayFilter.restore(json.loads(json.dumps(replay.snapshot())))
        made = seen.get(number, now + skew)
        verdict = replay.check_and_add(key(number), made, now)
        if number in seen:
            assert verdict is not F
        elif abs(made - now) <= WINDOW:
            assert verdict is F
            seen[number] = made
        else:
            assert verdict is ReplayVerdict.SKEWED
        assert len(replay) <= sum(made > now - WINDOW - BUCKET for made in seen.values())


jumps = st.sampled_from([0, 0, 0, 1, 5, 20, 200, 86_400, -1, -30, -130, -86_400])
jumped = st.tuples(st.integers(0, 30), st.integers(-70, 70), st.integers(0, 40), jumps, st.booleans())


@given(steps=st.lists(jumped, max_size=80))
def test_with_jumps_of_the_clock(steps):
    """Nothing is answered twice. Refused otherwise is only what is of a bucket that was in use and left
    behind, or so old that the floor stands before it."""
    replay, now, seen, left = ReplayFilter(START - 200_000), START, {}, set()
    for number, skew, passed, jump, restart in steps:
        now += passed + jump
        if restart:
            replay = ReplayFilter.restore(json.loads(json.dumps(replay.snapshot())))
        left |= {made // BUCKET for made in seen.values() if abs(made - now) > WINDOW - BUCKET}
        made = seen.get(number, now + skew)
        verdict = replay.check_and_add(key(number), made, now)
        if number in seen:
            assert verdict is not F
        elif abs(made - now) > WINDOW:
            assert verdict is ReplayVerdict.SKEWED
        elif verdict is F:
            seen[number] = made
        elif made < START - 200_000:
            assert verdict is ReplayVerdict.BEFORE_START
        else:
            assert verdict is ReplayVerdict.FORGOTTEN
            assert made // BUCKET in left
        assert not [each for each, then in seen.items() if replay.check_and_add(key(each), then, now) is F]
        assert len(replay) <= sum(abs(made - now) <= WINDOW + BUCKET for made in seen.values())


def test_more_jumps_than_are_kept_apart_refuse_what_lies_between_the_oldest():
    replay = ReplayFilter(START)
    jumps = [START + 1000 * number for number in range(MAX_SPANS + 10)]
    for number, now in enumerate(jumps):
        assert replay.check_and_add(key(number), now, now) is F
    assert len(replay.snapshot()["dropped"]) == MAX_SPANS
    for number, now in enumerate(jumps):
        assert replay.check_and_add(key(number), now, now) is not F
    assert replay.check_and_add(key(999), START + 500, START + 500) is ReplayVerdict.FORGOTTEN
    assert replay.check_and_add(key(998), jumps[-1] - 500, jumps[-1] - 500) is F


def test_a_snapshot_of_before_is_read():
    old = {"version": 1, "floor": START + 30, "seen": {str(START // BUCKET + 3): "AQAAAAAAAAAAAAAAAAAAAA=="}}
    replay = ReplayFilter.restore(old)
    assert replay.check_and_add(key(2), START + 29, START + 50) is ReplayVerdict.BEFORE_START
    assert replay.check_and_add(b"\1" + bytes(31), START + 45, START + 50) is ReplayVerdict.REPLAYED
    assert replay.check_and_add(key(2), START + 31, START + 50) is F
    assert replay.snapshot()["version"] == 2


def test_outline():
    replay = ReplayFilter(START)
    replay.check_and_add(key(1), START, START)
    replay.check_and_add(key(2), START + 200, START + 200)
    spans = outline(json.loads(json.dumps(replay.snapshot())))
    assert list(spans) == [(START, START + BUCKET - 1), (START + 195, START + 209)]
    assert START % BUCKET == 0
    assert unknown_until(START + 0.5) == START + WINDOW + 1


def test_memory_is_given_back():
    replay = ReplayFilter(START)
    for number in range(5000):
        assert replay.check_and_add(key(number), START + number, START + number) is F
        assert len(replay) <= 2 * WINDOW + BUCKET


def test_snapshot_is_json_and_keeps_all():
    replay = ReplayFilter(START)
    for number in range(100):
        replay.check_and_add(key(number), START + number, START + number)
    again = ReplayFilter.restore(json.loads(json.dumps(replay.snapshot())))
    assert len(again) == len(replay)
    assert again.snapshot() == replay.snapshot()
    for number in range(40, 100):
        verdict = again.check_and_add(key(number), START + number, START + 99)
        assert verdict is (ReplayVerdict.REPLAYED if number > 45 else verdict)
        assert verdict is not F


GOOD = {
    "version": 2,
    "floor": START,
    "dropped": [[START - 90, START - 60]],
    "seen": {"120000000": "AAAAAAAAAAAAAAAAAAAAAA=="},
}


@pytest.mark.parametrize(
    "snapshot",
    [
        {},
        [],
        None,
        "text",
        {**GOOD, "version": 3},
        {**GOOD, "version": []},
        {**GOOD, "dropped": None},
        {**GOOD, "dropped": [[2, 1]]},
        {**GOOD, "dropped": [[1, float("inf")]]},
        {**GOOD, "floor": "x"},
        {**GOOD, "floor": True},
        {**GOOD, "floor": float("nan")},
        {**GOOD, "floor": float("inf")},
        {**GOOD, "floor": -1},
        {**GOOD, "seen": []},
        {**GOOD, "seen": {"x": "AAAAAAAAAAAAAAAAAAAAAA=="}},
        {**GOOD, "seen": {"1": "AAAA"}},
        {**GOOD, "seen": {"1": ""}},
        {**GOOD, "seen": {"1": "*"}},
        {**GOOD, "seen": {"1": 7}},
    ],
)
def test_a_damaged_snapshot_says_so(snapshot):
    assert len(ReplayFilter.restore(GOOD)) == 1
    with pytest.raises(ConfigError, match="replay snapshot"):
        ReplayFilter.restore(snapshot)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(version=json_values | st.integers(1, 2), floor=json_values, dropped=json_values, seen=json_values)
def test_any_json_as_snapshot(version, floor, dropped, seen):
    try:
        ReplayFilter.restore({"version": version, "floor": floor, "dropped": dropped, "seen": seen})
    except ConfigError:
        pass


def test_repr_is_short():
    assert repr(ReplayFilter(START, limit=9)) == "<ReplayFilter 0 of 9>"
