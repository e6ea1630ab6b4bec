"""Loops of tests end, also those of tests that fail."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop
from loops import run_in

LEFT_OPEN = """
import asyncio, uvloop
from loops import run_in

async def main():
    await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    raise KeyError("what was wrong")

run_in(uvloop.new_event_loop, main())
"""


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_main_gives_is_given(factory) -> None:
    async def main() -> int:
        return 7

    assert run_in(factory, main()) == 7


def test_a_failed_test_s_loop_does_not_wait_for_what_it_left_open() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LEFT_OPEN],
        cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "KeyError: 'what was wrong'" in done.stderr
