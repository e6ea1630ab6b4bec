"""The replay filter over restarts: after each kind of end no opening is answered a second time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptproxy.auth.replay import BUCKET, SNAPSHOT_VERSION, WINDOW, ReplayFilter, ReplayVerdict
from ptproxy.auth.spans import MAX_SPANS, Spans
from ptproxy.errors import StartError
from ptproxy.proxy import answered, openings
from ptproxy.proxy.answered import PAGE, Answered, Page, System
from ptproxy.proxy.openings import KeptOpenings, go_on, keep, put_down, take_up
from ptproxy.proxy.shared_openings import SharedOpenings
from ptproxy.state import Document, MarkFile

START = 1_800_000_000
F = ReplayVerdict.FRESH
RUN = System(b"the present run.", 1_000_000.0)


def key(number: int) -> bytes:
    return number.to_bytes(4, "big") * 8


class World:
    """The clock, the system's runs and the state folder of one bridge."""

    def __init__(self, folder: Path) -> None:
        self.now = float(START)
        self.system = RUN
        self.document = Document(folder, openings.DOCUMENT)
        self.file = folder / f"{openings.DOCUMENT}.answered"
        self.open = contextlib.ExitStack()

    def bridge(self) -> KeptOpenings:
        """The next one; there are no others any more that write."""
        return self.of(take_up(self.document))

    def of(self, kept: KeptOpenings) -> KeptOpenings:
        self.open.callback(kept.close)
        return kept

    def asked(self, bridge: KeptOpenings, number: int, made: int | None = None) -> ReplayVerdict:
        return bridge.check_and_add(key(number), int(self.now) if made is None else made, self.now)


@contextlib.contextmanager
def world_in(folder: Path) -> Iterator[World]:
    world = World(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ptproxy.proxy.openings.time.time", lambda: world.now)
        patch.setattr(System, "now", classmethod(lambda _: world.system))
        with world.open:
            yield world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as made:
        yield made


# ---- ends ----------------------------------------------------------------------------------------


def test_a_clean_stop_keeps_every_opening(world: World) -> None:
    bridge = world.bridge()
    assert world.asked(bridge, 1) is F
    assert world.asked(bridge, 2, START + 59) is F
    put_down(world.document, bridge)
    world.now += 2
    bridge = world.bridge()
    assert world.document.read() == {}
    assert world.asked(bridge, 1, START) is ReplayVerdict.REPLAYED
    assert world.asked(bridge, 2, START + 59) is ReplayVerdict.REPLAYED
    assert world.asked(bridge, 3, START + 59) is F
    assert key(3) in bridge
    assert len(bridge) == 3


def test_after_a_kill_nobody_is_kept_out_but_for_seconds_that_were_claimed(world: World) -> None:
    bridge = world.bridge()
    world.now += 100
    for number in range(50):
        assert world.asked(bridge, number) is F
    assert world.asked(bridge, 50, int(world.now) + 60) is F  # a clock that is ahead
    world.now += 1
    bridge = world.bridge()
    for number in range(50):
        assert world.asked(bridge, number, START + 100) is ReplayVerdict.FORGOTTEN
    assert world.asked(bridge, 50, START + 160) is ReplayVerdict.FORGOTTEN
    assert world.asked(bridge, 51) is F
    assert world.asked(bridge, 52, START + 159) is F
    assert world.asked(bridge, 53, START + 60) is F  # a clock that is behind
    assert world.asked(bridge, 54, START + 100) is ReplayVerdict.FORGOTTEN


def test_an_opening_made_ahead_of_the_clock_is_not_answered_again_after_a_kill(world: World) -> None:
    """As it was while a filter began with the time of its start."""
    bridge = world.bridge()
    assert world.asked(bridge, 1, START + 60) is F
    for _ in range(3):
        world.now += 1
        assert world.asked(world.bridge(), 1, START + 60) is ReplayVerdict.FORGOTTEN


@pytest.mark.parametrize("up", [5.0, 20.0, 59.0])
def test_after_a_power_cut_the_window_from_the_systems_start_is_refused(world: World, up: float) -> None:
    bridge = world.bridge()
    assert world.asked(bridge, 1, START + 60) is F
    world.system = System(b"another run.....", up)
    world.now += up
    bridge = world.bridge()
    assert world.asked(bridge, 1, START + 60) is not F
    assert world.asked(bridge, 2, START + 60) is ReplayVerdict.BEFORE_START
    assert world.asked(bridge, 3, START + 61) is F
    world.now += 1
    bridge = world.bridge()  # killed in this run
    assert world.asked(bridge, 4, START + 60) is ReplayVerdict.BEFORE_START
    assert world.asked(bridge, 5, START + 61) is ReplayVerdict.FORGOTTEN
    assert world.asked(bridge, 6, START + 62) is F


def test_a_system_that_has_run_for_longer_than_a_minute_keeps_nobody_out(world: World) -> None:
    world.bridge()
    world.system = System(b"another run.....", 62.0)
    world.now += 3600
    assert world.asked(world.bridge(), 2) is F


def test_where_runs_cannot_be_told_apart_a_minute_is_refused(world: World) -> None:
    world.system = System(bytes(16), 0.0)
    bridge = world.bridge()
    assert world.asked(bridge, 1, START + 60) is F  # the first start of all knows that there was none before
    world.now += 1
    bridge = world.bridge()
    assert world.asked(bridge, 2, START + 61) is ReplayVerdict.BEFORE_START
    world.now += 61
    assert world.asked(bridge, 3) is F


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(PAGE) + path.read_bytes()[PAGE:]),
        lambda path: path.write_bytes(path.read_bytes()[: PAGE + 40]),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"),
        lambda path: path.write_bytes(os.urandom(3 * PAGE)),
        lambda path: path.write_bytes(path.read_bytes().replace(b"PTA1", b"PTA2")),
    ],
)
def test_what_is_damaged_or_missing_refuses_all_that_may_have_been_answered(
    world: World, damage: Damage
) -> None:
    bridge = world.bridge()
    assert world.asked(bridge, 1, START + 60) is F
    put_down(world.document, bridge)
    bridge = world.bridge()
    assert world.asked(bridge, 2, START + 60) is F
    damage(world.file)
    bridge = world.bridge()
    for number in (1, 2, 3):
        assert world.asked(bridge, number, START + 60) is not F
    world.now += WINDOW + BUCKET
    assert world.asked(bridge, 4) is F


@pytest.mark.parametrize("snapshot", [{"version": 9}, {"version": 2, "floor": "x"}, {"seen": 3}])
def test_a_damaged_snapshot_goes_by_the_answered_seconds(world: World, snapshot: dict[str, object]) -> None:
    bridge = world.bridge()
    assert world.asked(bridge, 1, START + 7) is F
    world.document.write(snapshot)
    bridge = world.bridge()
    assert world.asked(bridge, 1, START + 7) is ReplayVerdict.FORGOTTEN
    assert world.asked(bridge, 2, START + 8) is F


def test_a_state_folder_of_a_version_before_this_one(world: World) -> None:
    seen = {str((START + 30) // BUCKET): "AAAAAQAAAAEAAAABAAAAAQ=="}
    world.document.write({"version": 1, "floor": START - 500, "seen": seen})
    bridge = world.bridge()
    assert world.asked(bridge, 1, START + 30) is ReplayVerdict.REPLAYED
    assert world.asked(bridge, 2, START + 31) is F
    assert world.asked(world.bridge(), 1, START + 30) is ReplayVerdict.FORGOTTEN
    world.file.unlink()  # one of that version was killed
    assert world.asked(world.bridge(), 3, START + 60) is ReplayVerdict.BEFORE_START


def test_what_takes_no_bytes_is_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk keeps nobody out; but then a start after a kill knows that it knows nothing."""
    bridge = world.bridge()
    write = MarkFile.write

    def full(mark: MarkFile, place: int, data: bytes) -> None:
        raise StartError(f"cannot write {mark.path}: no space left")

    monkeypatch.setattr(MarkFile, "write", full)
    assert world.asked(bridge, 1, START + 60) is F
    assert world.asked(bridge, 2) is F
    assert not world.file.exists()
    monkeypatch.setattr(MarkFile, "write", write)
    assert world.asked(bridge, 3, START + 60) is F
    assert not world.file.exists()
    assert world.asked(world.bridge(), 3, START + 60) is ReplayVerdict.BEFORE_START


def test_a_file_that_can_be_neither_written_nor_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge = world.bridge()

    def broken(mark: MarkFile, *_: object) -> None:
        raise StartError(f"cannot use {mark.path}")

    monkeypatch.setattr(MarkFile, "write", broken)
    monkeypatch.setattr(MarkFile, "remove", broken)
    assert world.asked(bridge, 1) is F


# ---- a handover, workers ---------------------------------------------------------------------------


@pytest.mark.parametrize("took_over", [True, False])
def test_a_handover(world: World, took_over: bool) -> None:
    former = world.bridge()
    assert world.asked(former, 1, START + 3) is F
    following = go_on(ReplayFilter.restore(json.loads(json.dumps(former.snapshot()))), world.document)
    world.of(following)
    in_charge = following if took_over else former
    assert world.asked(in_charge, 1, START + 3) is ReplayVerdict.REPLAYED
    assert world.asked(in_charge, 2, START + 40) is F
    bridge = world.bridge()  # killed
    assert world.asked(bridge, 1, START + 3) is ReplayVerdict.FORGOTTEN
    assert world.asked(bridge, 2, START + 40) is ReplayVerdict.FORGOTTEN
    assert world.asked(bridge, 3, START + 41) is F


@pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux")
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_workers_and_one_in_another_ones_place(world: World, order: tuple[int, ...]) -> None:
    shared = SharedOpenings(0)
    try:
        shared.take_up(world.bridge().snapshot())
        for worker in order:
            kept = world.of(keep(shared, world.document, worker))
            assert world.asked(kept, 1 + worker, START + 10 * worker) is F
        again = world.of(keep(shared, world.document, 1))  # the first one in this place was killed
        assert world.asked(again, 8, START + 50) is F
        assert world.asked(again, 1, START) is ReplayVerdict.REPLAYED
        bridge = world.bridge()  # all were; one process now
        for number, made in ((1, 0), (2, 10), (3, 20), (8, 50)):
            assert world.asked(bridge, number, START + made) is ReplayVerdict.FORGOTTEN
        assert world.asked(bridge, 9, START + 51) is F
        bridge = world.bridge()
        for number, made in ((1, 0), (2, 10), (3, 20), (8, 50), (9, 51)):
            assert world.asked(bridge, number, START + made) is ReplayVerdict.FORGOTTEN
    finally:
        shared.close()


# ---- a model that forgets nothing ------------------------------------------------------------------


class Killed(Exception):
    """The process ends here."""


class Deadly:
    """Kills at one write of files, before it or, as far as a page is half written, in it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = -1
        write, put = MarkFile.write, Document.write
        patch.setattr(MarkFile, "write", lambda mark, *given: (self._step(), write(mark, *given)))
        patch.setattr(Document, "write", lambda document, data: (self._step(), put(document, data)))

    def _step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


moves = st.one_of(
    st.tuples(st.just("opening"), st.integers(0, 25), st.integers(-62, 62)),
    st.tuples(st.just("opening"), st.integers(0, 25), st.integers(-2, 2)),
    st.tuples(st.just("passes"), st.integers(0, 40), st.just(0)),
    st.tuples(st.just("jumps"), st.sampled_from([-86_400, -200, -61, -5, 5, 61, 200, 86_400]), st.just(0)),
    st.tuples(st.just("stops"), st.integers(0, 4), st.just(0)),
    st.tuples(st.just("is killed"), st.integers(0, 4), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(moves, max_size=60))
def test_nothing_is_answered_twice(moves: list[tuple[str, int, int]]) -> None:
    """Clocks jump, bridges stop and are killed, also while they start or stop (at the n-th write); whoever
    is refused claims a second that a kill made unclear, a bucket in use that was left behind, or too much."""
    with (
        tempfile.TemporaryDirectory() as folder,
        world_in(Path(folder)) as world,
        pytest.MonkeyPatch.context() as patch,
    ):
        deadly = Deadly(patch)
        bridge, seen, unclear, left = world.bridge(), dict[int, int](), set[int](), set[int]()

        def begins(at: int) -> KeptOpenings:
            deadly.left = at
            try:
                return world.bridge()
            except Killed:
                deadly.left = -1
                return world.bridge()

        for what, number, off in moves:
            left |= {made // BUCKET for made in seen.values() if abs(made - world.now) > WINDOW - BUCKET}
            if what in ("passes", "jumps"):
                world.now += number
            elif what == "opening":
                made = seen.get(number, int(world.now) + off)
                verdict = world.asked(bridge, number, made)
                if number in seen:
                    assert verdict is not F
                elif verdict is F:
                    seen[number] = made
                elif verdict is ReplayVerdict.BEFORE_START:
                    assert made < START
                elif verdict is not ReplayVerdict.SKEWED:
                    assert verdict is ReplayVerdict.FORGOTTEN
                    assert made in unclear or made // BUCKET in left
            else:
                if what == "stops":
                    with contextlib.suppress(Killed):
                        deadly.left = number
                        put_down(world.document, bridge)
                deadly.left = -1
                # Killed: seconds are what is known; after one in a start also whole buckets.
                unclear |= set(seen.values())
                left |= {made // BUCKET for made in seen.values()} if number else set()
                bridge = begins(number)
                deadly.left = -1
            for each, made in seen.items():  # everything recorded, again after every move
                assert world.asked(bridge, each, made) is not F, (what, each)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("after", [1, 7, 40])
def test_a_process_that_is_killed_while_it_answers(world: World, after: int) -> None:
    """SIGKILL at whatever it is doing: what it had answered is not answered again."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        bridge = world.bridge()
        for number in range(1_000_000):
            world.now = START + number / 1000
            made = int(world.now) + number % 60
            if world.asked(bridge, number, made) is F:
                os.write(writer, number.to_bytes(4, "big") + made.to_bytes(8, "big"))
        os._exit(0)
    os.close(writer)
    said = b""
    while len(said) < 12 * 100 * after:
        said += os.read(reader, 65536)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while piece := os.read(reader, 65536):
        said += piece
    os.close(reader)
    answers = [
        (int.from_bytes(said[place : place + 4], "big"), int.from_bytes(said[place + 4 : place + 12], "big"))
        for place in range(0, len(said) - 11, 12)
    ]
    world.now = START + answers[-1][0] / 1000
    bridge = world.bridge()
    assert not [number for number, made in answers if world.asked(bridge, number, made) is F]
    world.now += 61
    assert world.asked(bridge, 1_000_000) is F


# ---- pages -----------------------------------------------------------------------------------------


def test_the_largest_page_is_one() -> None:
    spans = [(2**63 - 2 - 4 * number, 2**63 - 1 - 4 * number) for number in reversed(range(MAX_SPANS))]
    said = Page(bytes(16), 2.0**62, tuple(Spans(spans))).serialize()
    assert len(said) <= PAGE
    assert Page.parse(said.ljust(PAGE, b"\0")).spans == tuple(spans)


@given(st.binary(max_size=200))
def test_any_bytes_as_a_page(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        Page.parse(data)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_is_noticed(place: int, value: int) -> None:
    said = bytearray(Page(RUN.start, float(START), ((1, 2), (5, 9))).serialize())
    place %= len(said)
    if said[place] != value:
        said[place] = value
        with pytest.raises(ValueError):  # noqa: PT011  (it says nothing; whoever reads a file does)
            Page.parse(bytes(said))


def test_a_page_is_written_once_a_second_at_most(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bridge = world.bridge()
    writes: list[int] = []
    write = MarkFile.write
    monkeypatch.setattr(
        MarkFile, "write", lambda mark, place, data: (writes.append(place), write(mark, place, data))
    )
    for number in range(1000):
        world.now = START + number / 100
        assert world.asked(bridge, number) is F
    assert writes == [PAGE] * 10


def test_the_system_tells_its_run() -> None:
    system = System.now()
    assert len(system.start) == 16
    assert system == System.now() or system.up < System.now().up
    if sys.platform == "linux":
        assert system.start != bytes(16)
        assert system.up > 0


def test_a_system_that_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answered, "_BOOT", tmp_path / "none")
    assert System.now() == System(bytes(16), 0.0)
    (tmp_path / "short").write_text("abcd\n")
    monkeypatch.setattr(answered, "_BOOT", tmp_path / "short")
    assert System.now() == System(bytes(16), 0.0)


def test_reprs_are_short(world: World) -> None:
    assert repr(world.bridge()) == f"<KeptOpenings <ReplayFilter 0 of {1 << 19}>>"
    assert SNAPSHOT_VERSION == 2
    Answered(MarkFile(world.file), RUN.start).close()
