"""A codec of another package: found by its entry point, conforming, carrying real streams."""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest
from conformance import CHECKS, Trial

from ptproxy.codec.table import GROUP, CodecTable

OUTSIDE = Path(__file__).parent / "outside"


@pytest.fixture(scope="module")
def codec():
    """As ptproxy finds it where the package is installed."""
    sys.path.insert(0, str(OUTSIDE))
    try:
        found = [entry for each in distributions(path=[str(OUTSIDE)]) for entry in each.entry_points]
        table = CodecTable(entry for entry in found if entry.group == GROUP)
        assert list(table) == ["websocket", "http", "random", "lines"]
        yield table["lines"]
    finally:
        sys.path.remove(str(OUTSIDE))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("seed", range(5))
def test_it_conforms(check, seed, codec):
    check(Trial(codec, seed))
