"""Event loops that end, whatever a failed test has left open in them."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from typing import Any


def run_in(factory: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, Any]) -> Any:
    """Run ``main`` in a loop of its own.

    uvloop warns of each thing left open while it closes; where that warning is an error, as in these tests,
    the thing stays open, and uvloop waits for it for ever. After a failure, which is to be told, it is none.
    """
    with asyncio.Runner(loop_factory=factory) as runner:
        try:
            return runner.run(main)
        except BaseException:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                runner.close()
            raise
