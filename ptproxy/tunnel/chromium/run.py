"""One run of the browser: its process, its door, and the guests that visit in it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ptproxy.errors import AuthenticationError
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.chromium.devtools import BrowserError
from ptproxy.tunnel.chromium.door import Door
from ptproxy.tunnel.chromium.guest import Guest
from ptproxy.tunnel.chromium.process import Process
from ptproxy.tunnel.chromium.tab import Visit

KEPT: Final = 60.0
"""Seconds that a guest waits: servers end connections that are idle for longer (nginx: 75), and nobody
tells us."""
START_TIMEOUT: Final = 20.0
"""Seconds for a browser to answer for the first time."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the bridge's site showed before a carrier was opened."""

    digest: bytes
    """SHA-256 of the leaf certificate."""
    date: str
    """The site's Date header, "" without one."""


@dataclass(slots=True)
class BrowserVisit:
    """A guest that has loaded a page, and waits for a carrier."""

    run: Run
    guest: Guest
    shown: Shown
    until: float
    """The loop's time at which its connection may no longer be there."""

    @property
    def usable(self) -> bool:
        """Whether a carrier can begin with it."""
        gone = self.guest.crashed or not self.run.process.running
        return not gone and self.run.now() < self.until

    def drop(self) -> None:
        """It leaves."""
        self.guest.leave()

    def abort(self) -> None:
        """Nothing is left that could be aborted."""


class Run:
    """One run of the browser: its process and its door."""

    def __init__(self, loop: asyncio.AbstractEventLoop, process: Process, door: Door, origin: str) -> None:
        self.process = process
        self.proven = False
        """It has been shown the leaf that it was to trust: another one is not the fault of what was kept."""
        self._loop = loop
        self._door = door
        self._origin = origin

    @classmethod
    async def start(cls, loop: asyncio.AbstractEventLoop, command: Sequence[str], origin: str) -> Run:
        """Start the browser; BrowserError where it does not stay."""
        door = Door(loop, origin)
        await door.open()
        run = None
        try:
            run = cls(loop, await Process.start(loop, command), door, origin)
            await run.process.devtools.call("Browser.getVersion", within=START_TIMEOUT)
        except BaseException as error:
            door.close()
            if run is not None:
                running = run.process.running
                words = "" if running else await run.process.last_words()
                await run.end()
                if isinstance(error, BrowserError) and words:
                    raise BrowserError(f"the browser ended at once: {words}") from None
            raise
        return run

    async def end(self) -> None:
        """End the browser."""
        self._door.close()
        await self.process.end()

    async def visit(self, pin: bytes | None, page: str) -> BrowserVisit:
        """A guest visits a page of the site; the leaf that it is shown must be the pinned one."""
        guest = await Guest.come(self.process.devtools)
        try:
            visit = await guest.visit(self._origin, page)
            if pin is not None:
                check_pin(visit.leaf, pin)
        except BaseException:
            guest.leave()
            raise
        self.proven = True
        shown = Shown(hashlib.sha256(visit.leaf).digest(), visit.date)
        return BrowserVisit(self, guest, shown, self.now() + KEPT)

    async def join(self, guest: Guest, connection: Connection) -> None:
        """A guest joins, or leaves."""
        try:
            await guest.join(self._origin, self._door, connection)
        except BaseException:
            guest.leave()
            raise

    async def answers(self) -> bool:
        """Whether the browser itself is well, whatever became of a page."""
        try:
            await self.process.devtools.call("Browser.getVersion")
        except BrowserError:
            return False
        return True

    def now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    async def look(self, page: str) -> Visit:
        """Visit a page of the site whatever its certificate."""
        guest = await Guest.come(self.process.devtools)
        return await guest.look(self._origin, page)


def check_pin(leaf: bytes, pin: bytes) -> None:
    """Raise AuthenticationError where ``leaf`` (DER) is not the pinned certificate."""
    if not hmac.compare_digest(hashlib.sha256(leaf).digest(), pin):
        raise AuthenticationError("the certificate is not the one that the bridge line pins")
