"""A sample of the random walk for every test run; ``scripts/walk`` walks in bulk.

The seeds are fixed unless PTPROXY_WALK_SEED names another first one, and are
printed; ``scripts/walk --replay SEED`` shows what a walk did.
"""

from __future__ import annotations

import os

import pytest
from mutants import MUTANTS, mutated
from walk import Walk
from walk_oracle import Fault

FIRST = int(os.environ.get("PTPROXY_WALK_SEED", "0"))
"""The first seed."""

WALKS = 1800
"""A sample: about five seconds. The faults that show once in 100,000 walks need ``scripts/walk``."""

EASY = (
    "R3-set",
    "R4-offsets",
    "R6-dial-once",
    "R8-soon",
    "R9-several",
    "R11-bytes",
    "R12-latest",
    "R14-voluntary",
    "R16-gone",
    "R27-order",
)
"""Mutants that a few hundred walks catch: if one is not caught, the walk itself has rotted."""


@pytest.mark.parametrize("part", range(10))
def test_two_sessions_survive_whatever_happens_to_their_carriers(part: int) -> None:
    count = WALKS // 10
    first = FIRST + part * count
    print(f"seeds {first} to {first + count - 1}")
    for seed in range(first, first + count):
        try:
            Walk(seed).run()
        except Fault as fault:
            pytest.fail(f"scripts/walk --replay {seed}: {type(fault).__name__}: {fault}")


def test_the_same_seed_gives_the_same_walk() -> None:
    def trace(seed: int) -> list[str]:
        lines: list[str] = []
        Walk(seed, lines.append).run()
        return lines

    assert trace(FIRST) == trace(FIRST)
    assert trace(FIRST) != trace(FIRST + 1)


@pytest.mark.parametrize("name", EASY)
def test_the_walk_catches_a_session_without_one_rule(name: str) -> None:
    with mutated(name):
        for seed in range(FIRST, FIRST + 400):
            try:
                Walk(seed).run()
            except Fault:
                return
    pytest.fail(f"400 walks from seed {FIRST} do not miss {MUTANTS[name].rule}: {MUTANTS[name].left_out}")


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_still_fits_the_source(name: str) -> None:
    with mutated(name):
        pass
