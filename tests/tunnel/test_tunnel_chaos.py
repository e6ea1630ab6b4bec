"""Streams through a network that cuts, ends, stalls, corrupts and swallows connections; see scripts/chaos."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import uvloop
from chaos_relay import Kind
from chaos_scenario import Outcome, Plan, weathered
from loops import run_in

CODECS = ("websocket", "http", "random")
TRIPWIRE = 240.0
"""Seconds; a run takes three, and each silence among its fates one more."""


def carried(folder: Path, plan: Plan) -> Outcome:
    async def main() -> Outcome:
        async with asyncio.timeout(TRIPWIRE):
            return await weathered(folder, plan)

    return run_in(uvloop.new_event_loop, main())


@pytest.mark.parametrize("codecs", [*((codec,) for codec in CODECS), CODECS], ids=[*CODECS, "all of them"])
def test_streams_survive_a_bad_network(tmp_path: Path, codecs: tuple[str, ...]) -> None:
    plan = Plan(
        2026,
        codecs,
        streams=6,
        size=128 << 10,
        kinds=(Kind.CUT, Kind.CUT, Kind.END, Kind.CORRUPT, Kind.HELLO, Kind.STALL),
        bytes=(16 << 10, 512 << 10),
        seconds=(0.05, 2.0),
        strikes=6,
    )
    outcome = carried(tmp_path, plan)
    assert not outcome.faults
    assert outcome.intact == outcome.streams
    assert outcome.strikes.total() >= plan.strikes
