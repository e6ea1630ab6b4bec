"""What accounts move: added up in memory from their carriers' counters, and written every few seconds.

A session's carriers count what they carry anyhow (frames with their headers, without
the padding and the HTTP or WebSocket around them). Every :data:`LOOK_EVERY` seconds the
sums of sessions with accounts are looked at, and every :data:`WRITE_EVERY` seconds what
was added since is written to the store, in a thread; what other processes wrote comes
back. A kill -9 loses what was counted since the last writing, nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

from ptproxy.auth.account import Used, month_of
from ptproxy.errors import StartError
from ptproxy.log import get_logger
from ptproxy.proxy.accounts import Accounts
from ptproxy.tunnel.bridge_tunnel import BridgeTunnel

LOOK_EVERY: Final = 1.0
"""Seconds between looks: by so much a quota may be overrun."""
WRITE_EVERY: Final = 10.0
"""Seconds between writings: so much counting a kill may lose."""

Moved = tuple[int, int]

log = get_logger(__name__)


class AccountMeter:
    """Counts for one bridge's process, from :meth:`start` to :meth:`close`."""

    def __init__(
        self, accounts: Accounts, sessions: Callable[[], Iterable[BridgeTunnel]], looked: Callable[[], None]
    ) -> None:
        """``looked`` is called after each look."""
        self._accounts = accounts
        self._sessions = sessions
        self._looked = looked
        self._known: dict[BridgeTunnel, Moved] = {}
        self._unwritten: dict[str, Moved] = {}
        self._task: asyncio.Task[None] | None = None
        self._writing: asyncio.Future[None] | None = None
        self._failing = ""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count from now on."""
        self._task = loop.create_task(self._run())

    async def close(self) -> None:
        """Count what is left, and write it."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self._writing is not None:
                await asyncio.shield(self._writing)
            self.look()
            await self.write()

    def session_over(self, tunnel: BridgeTunnel) -> None:
        """A session ends; what it moved last counts as well."""
        self._count(tunnel)
        self._known.pop(tunnel, None)

    def look(self) -> None:
        """Add up what was moved since the last look."""
        accounts = self._accounts.list.accounts
        for tunnel in self._sessions():
            if tunnel.peer in accounts:
                self._count(tunnel)

    async def write(self) -> None:
        """Bring to the store what it does not have yet, and take in what others have counted."""
        if self._writing is None:
            access, moved = self._accounts.list, self._unwritten
            if not moved and not access.accounts:
                return
            self._unwritten = {}
            reset_days = {name: account.reset_day for name, account in access.accounts.items()}
            work = asyncio.to_thread(self._accounts.store.add_moved, moved, reset_days, time.time())
            self._writing = asyncio.ensure_future(self._written(work, moved))
        writing = self._writing
        await asyncio.shield(writing)  # a thread cannot be cancelled: whoever asks next waits for it

    async def _written(self, work: Coroutine[Any, Any, dict[str, Used]], moved: dict[str, Moved]) -> None:
        try:
            used = await work
        except StartError as error:
            if str(error) != self._failing:
                log.error("what accounts move is not written; it is tried again", why=str(error))
            self._failing = str(error)
            for name, (up, down) in moved.items():
                self._add(self._unwritten, name, up, down)
        else:
            self._failing = ""
            self._accounts.list.used = used
            for name, since in self._unwritten.items():
                self._use(name, *since)
        finally:
            self._writing = None

    # ---- inside ----------------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        written = loop.time()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.look()
            self._looked()
            if loop.time() - written >= WRITE_EVERY:
                written = loop.time()
                await self.write()

    def _count(self, tunnel: BridgeTunnel) -> None:
        up, down = tunnel.moved()
        before = self._known.get(tunnel, (0, 0))
        self._known[tunnel] = (up, down)
        up, down = up - before[0], down - before[1]
        if (up or down) and tunnel.peer in self._accounts.list.accounts:
            self._add(self._unwritten, tunnel.peer, up, down)
            self._use(tunnel.peer, up, down)

    def _use(self, name: str, up: int, down: int) -> None:
        """The list's own figure, which decides until the store's comes."""
        access = self._accounts.list
        account = access.accounts.get(name)
        if account is None:
            return
        since, _ = month_of(account.reset_day, time.time())
        used = access.used.get(name)
        if used is None or used.since < since:
            used = Used(since, 0, 0)
        access.used[name] = Used(used.since, used.up + up, used.down + down)

    @staticmethod
    def _add(sums: dict[str, Moved], name: str, up: int, down: int) -> None:
        before = sums.get(name, (0, 0))
        sums[name] = (before[0] + up, before[1] + down)
