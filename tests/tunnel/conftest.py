"""Async tests of the tunnel run on uvloop (where it exists) and on plain asyncio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from loops import run_in

sys.path.insert(0, str(Path(__file__).parent))

from ptproxy.errors import StartError
from ptproxy.tunnel.runtime import loop_factory

LOOPS = ["asyncio"]
try:
    loop_factory("uvloop")
    LOOPS.append("uvloop")
except StartError:
    pass

TEST_TIMEOUT = 90.0
"""Seconds after which a test is stuck: a tripwire, no verdict of a passing test depends on it."""


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on each loop; tasks it leaves behind fail the test."""

    def go(main: Coroutine[Any, Any, Any]) -> Any:
        async def guarded() -> Any:
            async with asyncio.timeout(TEST_TIMEOUT):
                result = await main
            await asyncio.sleep(0.02)  # transports that were aborted are gone a few turns later
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert not left, f"tasks left: {left}"
            return result

        return run_in(loop_factory(request.param), guarded())

    return go
