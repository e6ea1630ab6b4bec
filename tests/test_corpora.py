"""What fuzzing has kept goes through its targets, and scripts/fuzz finds what there is to find."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from random import Random

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))

import fuzz  # noqa: E402
from fuzz_engine import KEPT, kept, run_random  # noqa: E402
from fuzz_target import GROUPS, Tape, cut, load, piece  # noqa: E402


@pytest.mark.parametrize("group", GROUPS)
def test_what_was_kept_finds_nothing(group: str) -> None:
    for target in load(group).values():
        inputs = [*kept(target.name), *target.seeds()]
        assert inputs, target.name
        for number, data in enumerate(inputs):
            try:
                target.try_one(data)
            except Exception as error:
                raise AssertionError(f"{target.name}: input {number}, {data[:60].hex()}") from error


def test_every_corpus_has_its_target() -> None:
    names = {name for group in GROUPS for name in load(group)}
    assert {path.stem for path in KEPT.glob("*.zip")} == names


def test_corpora_are_small() -> None:
    assert sum(path.stat().st_size for path in KEPT.glob("*.zip")) < 1 << 20


def test_a_tape() -> None:
    tape = Tape(b"\7" + piece(b"abc") + piece(bytes(300)) + b"\1\2rest")
    assert (tape.byte(), tape.piece(), tape.piece(), tape.number()) == (7, b"abc", bytes(300), 258)
    assert tape
    assert tape.rest() == b"rest"
    assert not tape
    assert (tape.byte(), tape.number(), tape.piece(), tape.take(3)) == (0, 0, b"", b"")


def test_pieces() -> None:
    assert [bytes(part) for part in cut(b"\3abcdefgh")] == [b"abc", b"def", b"gh"]
    assert [bytes(part) for part in cut(b"\0abcdefgh")] == [b"abcdefgh"]
    assert [bytes(part) for part in cut(b"\0")] == []
    assert list(cut(b"")) == []


def test_mutations_are_the_same_for_a_seed_and_short_enough() -> None:
    runs: list[list[bytes]] = [[], []]
    for inputs in runs:
        run_random(inputs.append, [b"a seed", b"another one"], 500, 1e9, Random(1), 20)
    assert runs[0] == runs[1]
    assert len(runs[0]) == 500
    assert len(set(runs[0])) > 300
    assert max(map(len, runs[0])) <= 20


FAULTY = """
from fuzz_target import Reach, Table

TABLE = Table("faulty")


@TABLE.target("fails", Reach.LOCAL, "nobody", ValueError, seeds=lambda: [b"good", b"worse", b"bad"])
def fails(data):
    if data[:3] == b"wor":
        raise ValueError("documented")
    assert data[:3] != b"bad"


@TABLE.target("greedy", Reach.LOCAL, "nobody", seeds=lambda: [b"x"])
def greedy(data):
    return bytearray(8 << 30)
"""


@pytest.mark.skipif(os.name != "posix", reason="processes are limited and watched as on Linux and macOS only")
def test_what_is_found_is_kept_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuzz_targets_faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), str(ROOT))))
    targets = list(importlib.import_module("fuzz_targets_faulty").TABLE.values())
    session = fuzz.Session("random", 1000, 3600.0, 1, tmp_path / "corpus")
    assert session.run(targets, 1) == 2
    fails, greedy = session.trials
    assert fails.found is not None
    assert fails.found.read_bytes()[:3] == b"bad"
    assert 0 < fails.inputs < 1000
    assert greedy.found is not None
    assert greedy.inputs == 1
    assert "MemoryError" in (greedy.work / "log").read_text()
