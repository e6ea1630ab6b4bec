"""The replay filter that workers share: the verdicts that a single process has, for all of them."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptproxy.auth.replay import BUCKET, WINDOW, ReplayFilter, ReplayVerdict
from ptproxy.proxy import shared_openings
from ptproxy.proxy.shared_openings import SharedOpenings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux")

START = 1_800_000_000
F = ReplayVerdict.FRESH


def key(number: int) -> bytes:
    return number.to_bytes(4, "big") * 8


@pytest.fixture
def openings():
    made = SharedOpenings(START)
    yield made
    made.close()


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(-70, 70), st.integers(0, 40)), min_size=1, max_size=40)
)
def test_it_decides_as_one_process_does(steps: list[tuple[int, int, int]]) -> None:
    mine, model = SharedOpenings(START), ReplayFilter(START)
    now = START
    try:
        for number, off, passed in steps:
            now += passed
            verdict = mine.check_and_add(key(number), now + off, now)
            assert verdict is model.check_and_add(key(number), now + off, now)
            assert (key(number) in mine) == (key(number) in model)
            assert len(mine) == len(model)
        assert mine.snapshot() == model.snapshot()
    finally:
        mine.close()


JUMPS = st.sampled_from([0, 0, 0, 1, 5, 20, 40, 200, 3600, -1, -30, -130, -3600])


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(1, 12), st.integers(-70, 70), JUMPS, st.booleans()), min_size=1, max_size=40
    )
)
def test_it_decides_as_one_process_does_while_the_clock_jumps(
    steps: list[tuple[int, int, int, bool]],
) -> None:
    mine, model = SharedOpenings(START - 50_000), ReplayFilter(START - 50_000)
    now = START
    try:
        for number, off, passed, restart in steps:
            now += passed
            verdict = mine.check_and_add(key(number), now + off, now)
            assert verdict is model.check_and_add(key(number), now + off, now)
            if restart:
                model = ReplayFilter.restore(mine.snapshot())
                mine.close()
                mine = SharedOpenings(0)
                mine.take_up(model.snapshot())
        assert mine.snapshot() == model.snapshot()
    finally:
        mine.close()


def test_a_snapshot_goes_on_in_either(openings: SharedOpenings) -> None:
    model = ReplayFilter(START)
    for number in range(1, 300):
        model.check_and_add(key(number), START + number % 50, START)
    openings.take_up(model.snapshot())
    assert openings.snapshot() == model.snapshot()
    assert openings.check_and_add(key(7), START + 7, START) is ReplayVerdict.REPLAYED
    assert ReplayFilter.restore(openings.snapshot()).snapshot() == model.snapshot()


def test_a_bucket_without_a_place_is_refused_whole(openings: SharedOpenings) -> None:
    openings.check_and_add(key(1), START, START)
    far = START + shared_openings.TABLES * BUCKET
    other = ReplayFilter(START)
    other.check_and_add(key(2), far, far)
    openings.take_up(other.snapshot())
    assert openings.check_and_add(key(2), far, far) is ReplayVerdict.FORGOTTEN
    assert openings.check_and_add(key(3), far + BUCKET, far + BUCKET) is F


def test_full_fails_closed_until_there_is_room(
    openings: SharedOpenings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_openings, "MOST", 3)
    for number in range(1, 4):
        assert openings.check_and_add(key(number), START, START) is F
    assert openings.check_and_add(key(9), START, START) is ReplayVerdict.FULL
    later = START + WINDOW + 2 * BUCKET
    assert openings.check_and_add(key(9), later, later) is F
    assert len(openings) == 1


def test_zeros_are_never_taken(openings: SharedOpenings) -> None:
    assert openings.check_and_add(bytes(32), START, START) is ReplayVerdict.REPLAYED


def test_of_several_processes_one_takes_an_opening(openings: SharedOpenings) -> None:
    """Each of four enters the same openings: every one is fresh exactly once."""
    readers = []
    for _ in range(4):
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            fresh = bytes(openings.check_and_add(key(n), START, START) is F for n in range(1, 400))
            os.write(writer, fresh)
            os._exit(0)
        os.close(writer)
        readers.append((pid, reader))
    counts = [0] * 399
    for pid, reader in readers:
        said = b""
        while piece := os.read(reader, 4096):
            said += piece
        os.close(reader)
        assert os.waitpid(pid, 0)[1] == 0
        assert len(said) == 399
        counts = [count + fresh for count, fresh in zip(counts, said, strict=True)]
    assert counts == [1] * 399
    assert len(openings) == 399


def test_a_lock_is_gone_with_its_holder_and_a_stopped_one_keeps_everybody_out(
    openings: SharedOpenings,
) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        assert openings._lock()
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    assert openings.check_and_add(key(1), START, START) is ReplayVerdict.FULL
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert openings.check_and_add(key(1), START, START) is F
    os.close(reader)
    os.close(writer)
