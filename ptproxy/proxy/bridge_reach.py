"""Reaching the bridges that a client may use: several side by side, or one beside those in use.

What became of each is remembered (:class:`~ptproxy.ways.Ways`), and told to the log. Which of them are
wanted, and when, is :class:`~ptproxy.proxy.bridge_choice.BridgeChoice`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from ptproxy.config.link import Link
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import DialError, PtproxyError, Reason
from ptproxy.log import get_logger
from ptproxy.proxy.bridge_order import BridgeOrder, whole
from ptproxy.proxy.one_bridge import OneBridge
from ptproxy.tunnel.approach import degree_met
from ptproxy.tunnel.racing import Racing, closed
from ptproxy.ways import Race, Ways

log = get_logger(__name__)


class Reaching:
    """Opens tunnels to bridges, and closes those that nobody wants (any more)."""

    def __init__(
        self,
        make: Callable[[Link], OneBridge],
        ways: Ways,
        order: BridgeOrder,
        is_reached: Callable[[], bool],
    ) -> None:
        """``make`` raises StartError for a line that is of no use here; ``is_reached``: is any bridge?"""
        self._make = make
        self._ways = ways
        self._order = order
        self._is_reached = is_reached
        self.line: Link | None = None
        """Of the bridge that was tried last; None before the first."""
        self.starting: list[OneBridge] = []
        """Those whose first carrier is being opened."""
        self._answered = False  # somebody did, in the race that is on: that is what is told of it
        self._retiring: set[asyncio.Task[None]] = set()
        self._losers: set[asyncio.Task[Any]] = set()

    async def first(self, lines: Sequence[Link]) -> OneBridge:
        """The first of several bridges that is reached, tried with a stagger.

        Raises what went wrong with the last one; :class:`~ptproxy.errors.DialError` where there is none.
        """
        if not lines:
            raise DialError(Reason.TUNNEL_DOWN, "no bridge is known")
        now = time.time()
        self._answered = False
        race = Race(self._order.ordered(lines), whole, lambda line: self._ways.stagger(whole(line), now))
        return await Racing(asyncio.get_running_loop(), self, self._losers).run(race)

    async def beside(self, line: Link) -> OneBridge | None:
        """One more bridge, dialled by itself; None where it was not reached, which is noted."""
        try:
            return await self._start(line, _ignore)
        except (PtproxyError, OSError) as error:
            self._note(line, error)
            return None

    async def stop(self) -> None:
        """Wait for all that is still being closed."""
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await closed(self._losers)
        await asyncio.sleep(0)  # what had won all the same is told of then
        await asyncio.gather(*self._retiring, return_exceptions=True)

    # ---- what a race asks --------------------------------------------------------------------------

    async def attempt(self, candidate: Link, progressed: Callable[[], None]) -> OneBridge:
        """One bridge of a race."""
        one = await self._start(candidate, progressed)
        self.line = candidate
        return one

    def failed(self, candidate: Link, error: PtproxyError | OSError) -> bool:
        """One bridge was not reached."""
        answered = not isinstance(error, DialError | OSError)
        if answered or not self._answered:
            self.line = candidate
        self._answered = self._answered or answered
        self._note(candidate, error)
        return False

    def unwanted(self, result: OneBridge) -> None:
        """One that was reached after another one, or is in use no more, is closed."""
        task = asyncio.get_running_loop().create_task(result.stop())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    # ---- one bridge --------------------------------------------------------------------------------

    async def _start(self, line: Link, progressed: Callable[[], None]) -> OneBridge:
        """A tunnel to a bridge; how long TLS took is remembered."""
        one = self._make(line)
        began, stood = time.monotonic(), list[float]()

        def stands() -> None:
            stood.append(time.monotonic())
            progressed()

        one.dialer.approaches.progressed = stands
        one.dialer.approaches.others_open = self._is_reached
        self.starting.append(one)
        try:
            await one.start()
        except BaseException:
            await one.stop()
            raise
        finally:
            self.starting.remove(one)
            one.dialer.approaches.progressed = None
        self._ways.opened(whole(line), (stood or [time.monotonic()])[0] - began, time.time())
        return one

    def _note(self, line: Link, error: PtproxyError | OSError) -> None:
        degree = degree_met(error)
        if not self._is_reached():
            degree = self._ways.portal.judge(whole(line), degree, time.time())
        self._ways.failed(whole(line), degree, time.time())
        log.warning(
            "a bridge is not reached", bridge=str(Endpoint(line.host, line.port)), why=str(error),
            degree=str(degree), done="the next bridge is tried",
        )  # fmt: skip


def _ignore() -> None:
    """Nobody waits beside it."""
