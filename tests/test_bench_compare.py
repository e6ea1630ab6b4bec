"""What a comparison of two benchmark runs calls better, worse, or nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PLACE = Path(__file__).parent.parent / "scripts" / "bench_compare.py"
SPEC = importlib.util.spec_from_file_location("bench_compare", PLACE)
assert SPEC is not None
assert SPEC.loader is not None
bench_compare = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(bench_compare)


@pytest.mark.parametrize(
    ("figure", "before", "after", "said"),
    [
        ("down MiB/s", [100, 101, 102], [110, 111, 112], "better"),
        ("down MiB/s", [110, 111, 112], [100, 101, 102], "worse"),
        ("CPU s/GiB down", [2.0, 2.1, 2.2], [1.0, 1.1, 1.2], "better"),
        ("64 B p50 us", [50, 51, 52], [70, 71, 72], "worse"),
        ("down MiB/s", [100, 101, 120], [110, 119, 130], "the same, within noise"),
        ("down MiB/s", [100, 100, 100], [101, 101, 101], "the same"),
        ("down MiB/s", [100, 101], [200, 201], "too few rounds"),
    ],
)
def test_a_verdict(figure, before, after, said):
    assert bench_compare.verdict(figure, before, after) == said


def test_a_table_has_what_both_runs_have():
    before = {"a": [{"x": 1.0, "y": 2.0}] * 3, "b": [{"x": 1.0}] * 3}
    after = {"a": [{"x": 2.0}] * 3, "c": [{"x": 1.0}] * 3}
    lines = bench_compare.compare(before, after).splitlines()
    assert len(lines) == 3
    assert lines[2] == "| a | x | 1 | 2 | 2.00 | ±0% of 3, ±0% of 3 | better |"
