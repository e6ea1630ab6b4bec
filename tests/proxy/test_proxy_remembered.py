"""What is known of ways survives a restart, and a damaged file costs only what was in it."""

from __future__ import annotations

import asyncio

import pytest

from ptproxy.proxy.documents import DocumentsInMemory
from ptproxy.proxy.remembered import RememberedWays
from ptproxy.ways import Degree, Way

NOW = 1_800_000_000.0
WAY = Way(bytes(32), "192.0.2.1", 443, "http")


def test_ways_are_known_again_after_a_restart():
    document = DocumentsInMemory().document("ways")
    kept = RememberedWays(document)
    kept.ways.enter("home", NOW)
    kept.ways.failed(WAY, Degree.PAGE, NOW)
    asyncio.run(kept.save())
    again = RememberedWays(document)
    again.ways.enter("home", NOW)
    assert again.ways.rests_until(WAY, NOW) > NOW


def test_nothing_new_is_not_written():
    document = DocumentsInMemory().document("ways")
    asyncio.run(RememberedWays(document).save())
    assert document.read() is None


@pytest.mark.parametrize(
    "data",
    [
        {"secret": 5},
        {"secret": "00"},
        {"secret": "zz"},
        {"ways": {}},
        {"secret": "00" * 32, "ways": {"version": 9}},
    ],
)
def test_a_damaged_file_is_forgotten(data):
    document = DocumentsInMemory().document("ways")
    document.write(data)
    assert len(RememberedWays(document).ways.secret) == 32
