"""Pauses between dials that failed: growing, shorter while somebody waits, over when the network changes.

The last pause has no end of its own: where nobody waits for a carrier and no stream does, nothing is dialled
until somebody needs one. A client that dials a blocked bridge every half minute is known by that.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from random import Random, SystemRandom
from typing import Final

BACKOFF_FIRST: Final = 0.3
BACKOFF_LAST: Final = 30.0
"""Seconds between redials: doubled from the first to the last, each jittered by half."""
STEADY_TIME: Final = 5.0
STEADY_BYTES: Final = 16 << 10
"""A carrier that neither lived that many seconds nor moved that many bytes was cut at once: a few are
replaced without a pause (:mod:`~ptproxy.tunnel.redial`), so that whoever cuts makes no storm."""
HURRY_LAST: Final = 5.0
"""Seconds of the pauses between those at most, where a shape is followed: streams wait."""
DEMAND_PAUSE: Final = 1.0
DEMAND_HASTE: Final = 6.0
"""While somebody waits for a carrier the pause after dials that failed is a sixth of itself, but a second."""
REST_CHECK: Final = 0.25
"""Seconds between looks whether somebody waits, during such a pause."""
NEED_CHECK: Final = 5.0
"""Seconds between looks whether a stream has come, once nobody needs a carrier."""
HASTE: Final = (0.75, 1.25)
"""... drawn: what somebody waits for is not dialled to a beat."""
LOGIN_PAUSE: Final = (0.3, 0.9)
"""Seconds, drawn, while somebody waits and a network's login page stands before everything."""


class Rest:
    """One dialer's pauses."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: Random | None = None) -> None:
        self._loop = loop
        self._rng = rng or SystemRandom()
        self._waiters = 0
        self._hasten = asyncio.Event()
        self._asked = asyncio.Event()
        self.is_resting = False
        """Whether nothing is dialled until somebody needs it."""
        self.is_needed: Callable[[], bool] = lambda: True
        """Whether anything is there for which carriers are kept."""
        self.is_held: Callable[[], bool] = lambda: False
        """Whether somebody has what to send, and only a login page stands before it."""

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a carrier."""
        return bool(self._waiters)

    @contextlib.contextmanager
    def waited_for(self) -> Iterator[None]:
        """Somebody waits for a carrier meanwhile."""
        self._waiters += 1
        self._asked.set()
        try:
            yield
        finally:
            self._waiters -= 1

    def end(self) -> None:
        """What made dials fail is perhaps over."""
        self._hasten.set()

    async def sit_out(self, seconds: float) -> None:
        """A pause that nobody who waits makes shorter: after carriers that were cut at once."""
        self._hasten.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hasten.wait()

    async def take(self, seconds: float) -> None:
        """The pause after dials that failed."""
        self._hasten.clear()
        start = self._loop.time()
        awaited = max(DEMAND_PAUSE, seconds / DEMAND_HASTE) * self._rng.uniform(*HASTE)
        login = self._rng.uniform(*LOGIN_PAUSE)
        while (left := start + min(seconds, self._least(awaited, login)) - self._loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, REST_CHECK)):
                    await self._hasten.wait()
                    return
        if seconds >= BACKOFF_LAST / 2 and self._loop.time() - start >= seconds:
            await self._until_needed()

    def _least(self, awaited: float, login: float) -> float:
        """Seconds that a pause must last as things are: of those for who waits, and behind a login page."""
        if self.is_held():
            return login
        return awaited if self._waiters else math.inf

    async def _until_needed(self) -> None:
        """Until somebody waits, streams are there or the network changes."""
        while not (self._waiters or self.is_needed() or self._hasten.is_set()):
            self.is_resting = True
            self._asked.clear()
            waits = [asyncio.ensure_future(event.wait()) for event in (self._asked, self._hasten)]
            try:
                await asyncio.wait(waits, timeout=NEED_CHECK, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                self.is_resting = False
