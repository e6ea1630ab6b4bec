"""One thing that a program does to its end, and others that go on beside it until then."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def beside(main: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, None]) -> T:
    """What ``main`` returns. The first that fails ends all, and is what is raised."""
    first = asyncio.ensure_future(main)
    tasks = [first, *map(asyncio.ensure_future, others)]
    waiting = set(tasks)
    try:
        while not first.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return first.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
