"""A client with several bridges: one is in use, and when it is lost another one takes its place.

Streams belong to one bridge's session and end with it; only streams that are opened afterwards go
over the next one. So nothing that was sent is ever sent twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from ptproxy.config.link import Link
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import DialError, PtproxyError, Reason
from ptproxy.log import get_logger
from ptproxy.proxy.shape_follow import ShapeFollower
from ptproxy.state import StateFolder
from ptproxy.target import Target
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.stream import Association, DatagramReceiver, Dialer, Stream

PATIENCE: Final = 3.0
"""Seconds that a bridge without a connection gets to have one again before the next bridge is tried."""
PAUSE: Final = 5.0
"""Seconds without another try after no bridge was reached: programs dial more often than that."""

log = get_logger(__name__)


class BridgeSource(Protocol):
    """Who knows which bridges there are."""

    @property
    def lines(self) -> tuple[Link, ...]:
        """One at least, best first."""

    def open(self, state: StateFolder) -> None:
        """Read what was remembered; raises :class:`~ptproxy.errors.StartError`."""

    def start(self, through: Callable[[], Mapping[str, Dialer]], changed: Callable[[], None]) -> None:
        """Look for others from now on, through these; ``changed`` when there are."""

    def hurry(self) -> None:
        """The one in use was lost."""

    async def stop(self) -> None:
        """No more."""


@dataclass(slots=True)
class OneBridge:
    """A tunnel to one bridge, and who follows its shape."""

    line: Link
    dialer: TunnelDialer
    follower: ShapeFollower | None = None

    @property
    def name(self) -> str:
        """For logs."""
        return str(Endpoint(self.line.host, self.line.port))

    async def start(self) -> None:
        """Open the first carrier; where that fails nothing is left open, and what failed is raised."""
        try:
            await self.dialer.start()
        except BaseException:
            await self.stop()
            raise
        if self.follower is not None:
            self.follower.start(asyncio.get_running_loop())

    async def stop(self) -> None:
        """Close everything."""
        if self.follower is not None:
            await self.follower.stop()
        await self.dialer.stop()


class BridgeChoice:
    """A :class:`~ptproxy.tunnel.stream.Dialer` over whichever bridge works."""

    def __init__(self, make: Callable[[Link], OneBridge], source: BridgeSource) -> None:
        """``make`` raises StartError for a line that this client cannot use."""
        self._make = make
        self._source = source
        self.line: Link | None = None
        """Of the bridge that was tried last; None before the first."""
        self._current: OneBridge | None = None
        self._search: asyncio.Task[OneBridge] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._not_before = float("-inf")
        self._stopping = False

    async def start(self) -> None:
        """Reach the first bridge that can be reached; raises what went wrong with the last one."""
        self._current = await self._reach(self._source.lines)

    async def stop(self) -> None:
        """Close every tunnel."""
        self._stopping = True
        if self._search is not None:
            self._search.cancel()
            await asyncio.wait({self._search})
        current, self._current = self._current, None
        if current is not None:
            await current.stop()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def through(self) -> dict[str, Dialer]:
        """The bridge in use by its name."""
        return {} if self._current is None else {self._current.name: self}

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """See :class:`~ptproxy.tunnel.stream.Dialer`."""
        return await (await self._ready()).dialer.dial(target, protocol, first_data)

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """See :class:`~ptproxy.tunnel.stream.Dialer`."""
        return await (await self._ready()).dialer.associate(receiver)

    async def _ready(self) -> OneBridge:
        """A bridge that has a carrier, or the only one there is."""
        current = self._current
        if current is None:
            raise DialError(Reason.SHUTDOWN if self._stopping else Reason.TUNNEL_DOWN)
        if current.dialer.tunnel.carriers or not self._others(current):
            return current
        try:
            async with asyncio.timeout(PATIENCE):
                await current.dialer.ready()
            return current
        except (TimeoutError, DialError):
            return await self._replace(current)

    async def _replace(self, lost: OneBridge) -> OneBridge:
        """Another bridge in place of one that was lost: one search for all who wait, and those who come.

        It goes on when they give up, as programs do after some seconds: bridges that swallow packets
        take longer than that, and would keep everybody from the one behind them.
        """
        search = self._search
        if search is None:
            current = self._current
            if current is None:
                raise DialError(Reason.SHUTDOWN)
            loop = asyncio.get_running_loop()
            if current is not lost or current.dialer.tunnel.carriers:
                return current
            if loop.time() < self._not_before:
                raise DialError(Reason.TUNNEL_DOWN, "no bridge is reached")
            search = self._search = loop.create_task(self._find_next(lost))
            search.add_done_callback(self._searched)
        await asyncio.wait({search})
        if search.cancelled():
            raise DialError(Reason.SHUTDOWN)
        return search.result()

    async def _find_next(self, lost: OneBridge) -> OneBridge:
        loop = asyncio.get_running_loop()
        log.warning("the bridge is lost; the next one is tried", bridges=len(self._source.lines))
        try:
            found = await self._reach(self._others(lost))
        except PtproxyError as error:
            self._not_before = loop.time() + PAUSE
            raise DialError(Reason.TUNNEL_DOWN, f"no bridge is reached: {error}") from None
        self._current = found
        task = loop.create_task(lost.stop())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        self._source.hurry()
        return found

    def _searched(self, search: asyncio.Task[OneBridge]) -> None:
        self._search = None
        if not search.cancelled():
            search.exception()  # told to who waits, if anybody does

    def _others(self, current: OneBridge) -> tuple[Link, ...]:
        here = current.line.host, current.line.port, current.line.key
        return tuple(line for line in self._source.lines if (line.host, line.port, line.key) != here)

    async def _reach(self, lines: tuple[Link, ...]) -> OneBridge:
        failure: PtproxyError = DialError(Reason.TUNNEL_DOWN, "no bridge is known")
        for line in lines:
            self.line = line
            try:
                one = self._make(line)
                await one.start()
            except PtproxyError as error:
                failure = error
                log.warning(
                    "a bridge is not reached", bridge=str(Endpoint(line.host, line.port)), why=str(error)
                )
            else:
                log.info("connected", bridge=one.name)
                return one
        raise failure
