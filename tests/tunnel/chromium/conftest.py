"""Tests with a real browser: one loop each, as the starts are what takes the time."""

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

TEST_TIMEOUT = 180.0
"""Seconds after which a test is stuck: a tripwire, no verdict of a passing test depends on it."""


@pytest.fixture
def browse() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on the usual loop; tasks it leaves behind fail the test."""
    try:
        factory = loop_factory("uvloop")
    except StartError:
        factory = loop_factory("asyncio")

    def go(main: Coroutine[Any, Any, Any]) -> Any:
        async def guarded() -> Any:
            async with asyncio.timeout(TEST_TIMEOUT):
                result = await main
            await asyncio.sleep(0.02)
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert not left, f"tasks left: {left}"
            return result

        return run_in(factory, guarded())

    return go
