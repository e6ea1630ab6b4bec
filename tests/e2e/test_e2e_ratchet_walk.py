"""Random walks of two ratchets; ``scripts/ratchet_walk`` takes many more of them.

``PTPROXY_WALK_SEED`` and ``PTPROXY_RATCHET_WALKS`` choose the first seed and the number.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from ratchet_mutants import MUTANTS, mutated
from ratchet_walk import Fault, Walk

FIRST = int(os.environ.get("PTPROXY_WALK_SEED", "0"))
WALKS = int(os.environ.get("PTPROXY_RATCHET_WALKS", "120"))


def test_walks() -> None:
    total: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + WALKS):
        try:
            total += Walk(seed).run()
        except Fault as fault:
            pytest.fail(f"seed {seed}: {fault} (scripts/ratchet_walk --replay {seed})")
    for what in ("read", "repeated", "forged", "restarts", "killed sending", "killed reading", "epochs"):
        assert total[what] > WALKS // 4, what


@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_left_out_is_noticed(name: str) -> None:
    """The walk can fail: each mutant within its first seeds."""
    with mutated(name):
        for seed in range(MUTANTS[name].walks):
            try:
                Walk(seed).run()
            except Exception:
                return
    pytest.fail("not noticed")
