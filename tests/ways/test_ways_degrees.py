"""What an attempt or a carrier met with."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.ways import Cuts, Degree, Ending, Flow, Stage, degree_of
from ptproxy.ways.cuts import IN_A_ROW, SAMPLES


@pytest.mark.parametrize(
    ("stage", "ending", "degree"),
    [
        (Stage.NAME, Ending.NOT_FOUND, Degree.NAME),
        (Stage.TCP, Ending.REFUSED, Degree.REFUSED),
        (Stage.TCP, Ending.SILENCE, Degree.SILENT),
        (Stage.TLS, Ending.RESET, Degree.HELLO_RESET),
        (Stage.TLS, Ending.SILENCE, Degree.HELLO_SILENT),
        (Stage.TLS, Ending.UNTRUSTED, Degree.CERTIFICATE),
        (Stage.OPENING, Ending.ANSWERED, Degree.PAGE),
        (Stage.OPENING, Ending.RESET, Degree.OPENING_RESET),
        (Stage.OPENING, Ending.SILENCE, Degree.OPENING_SILENT),
        (Stage.TCP, Ending.UNREACHABLE, Degree.OFFLINE),
    ],
)
def test_stage_and_ending_tell_the_degree(stage, ending, degree):
    assert degree_of(stage, ending) is degree


def test_every_stage_and_ending_has_a_degree():
    for stage, ending in itertools.product(Stage, Ending):
        degree = degree_of(stage, ending)
        assert degree is not Degree.OPEN
        if stage >= Stage.OPENING and ending is not Ending.UNREACHABLE:
            assert not degree.is_of_front


def cut(*ends):
    cuts = Cuts()
    return [cuts.add(size, seconds) for size, seconds in ends][-1]


def test_three_cuts_of_one_length_are_a_rule():
    assert cut((1_000_000, 3), (1_100_000, 9), (1_050_000, 30)) is Degree.CUT_BYTES
    assert cut((1_000_000, 3), (1_100_000, 9)) is None
    assert cut((1_000_000, 3), (2_000_000, 9), (1_050_000, 30)) is None


def test_three_cuts_of_one_age_are_a_rule():
    assert cut((100_000, 60), (90_000_000, 61), (3_000_000, 64)) is Degree.CUT_SECONDS
    assert cut((100_000, 60), (90_000_000, 120), (3_000_000, 64)) is None


def test_carriers_that_are_cut_before_they_are_of_use_are_left():
    assert cut((2_000, 0.1), (9_000, 2), (300, 0.2)) is Degree.CUT_BYTES


def test_idle_carriers_that_are_cut_now_and_then_are_no_rule():
    assert cut((2_000, 300), (9_000, 3_000), (300, 40)) is None


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.floats(0, 1e6)), max_size=10))
def test_only_the_last_cuts_count_and_they_are_kept(ends):
    cuts = Cuts()
    for size, seconds in ends:
        cuts.add(size, seconds)
    assert len(cuts.ends) <= IN_A_ROW
    assert Cuts.from_list(cuts.to_list()) == cuts


def looks(*samples):
    flow = Flow()
    return [flow.look(*sample) for sample in samples]


FAST, SLOW = 4 << 20, 20_000


def test_slow_with_late_answers_is_throttled():
    told = looks((FAST, FAST, 0.04, 0), *[(SLOW, FAST, 3.0, 0)] * SAMPLES)
    assert told == [None] * SAMPLES + [Degree.THROTTLED]


def test_slow_with_much_unacknowledged_is_throttled():
    assert looks(*[(SLOW, FAST, 0.04, 1 << 20)] * SAMPLES)[-1] is Degree.THROTTLED


def test_a_radio_program_is_not_throttled():
    assert set(looks((FAST, FAST, 0.04, 0), *[(SLOW, FAST, 0.05, 0)] * 50)) == {None}


def test_a_network_that_was_never_fast_is_not_throttled():
    assert set(looks(*[(SLOW, 2 * SLOW, 3.0, 1 << 20)] * 50)) == {None}


def test_an_idle_carrier_is_not_throttled():
    assert set(looks(*[(0.0, FAST, 3.0, 1 << 20)] * 50)) == {None}


def test_one_good_look_begins_anew():
    slow, good = (SLOW, FAST, 0.04, 1 << 20), (FAST, FAST, 0.04, 0)
    assert set(looks(*[slow] * (SAMPLES - 1), good, *[slow] * (SAMPLES - 1))) == {None}
