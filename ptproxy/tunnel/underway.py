"""Dials that are under way, and given up together when nobody will answer them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Underway:
    """Runs what may have to begin anew: packets that left in another network are lost, and TCP repeats them
    late, or for ever from an address that is gone."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._works: set[asyncio.Task[Any]] = set()
        self._given_up: set[asyncio.Task[Any]] = set()

    async def run(self, begin: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """What ``begin()`` comes to, begun again whenever :meth:`again` was called meanwhile."""
        while True:
            work = self._loop.create_task(begin())
            self._works.add(work)
            try:
                return await work
            except asyncio.CancelledError:
                us = asyncio.current_task()
                if work not in self._given_up or us is None or us.cancelling():
                    raise
            finally:
                self._works.discard(work)
                self._given_up.discard(work)

    def again(self) -> None:
        """Whatever is under way begins anew."""
        for work in self._works:
            if work.cancel():
                self._given_up.add(work)
