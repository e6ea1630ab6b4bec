"""One of the bridges that a client may use: the tunnel to it, and who knows which ones there are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ptproxy.config.link import Link
from ptproxy.config.quantities import Endpoint
from ptproxy.proxy.account_follow import AccountFollower
from ptproxy.proxy.shape_follow import ShapeFollower
from ptproxy.state import StateFolder
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.stream import Dialer


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
    release: Callable[[], Awaitable[None]] | None = None
    """Ends what was there for this tunnel alone: a browser."""
    account: AccountFollower | None = None
    """Knows how we stand at this bridge."""

    @property
    def name(self) -> str:
        """For logs."""
        return str(Endpoint(self.line.host, self.line.port))

    async def start(self) -> None:
        """Open the first carrier; raises what failed, and then :meth:`keep` or :meth:`stop` is next."""
        await self.dialer.start()
        self._follow()

    def keep(self) -> None:
        """Go on trying."""
        self.dialer.keep()
        self._follow()

    def _follow(self) -> None:
        for follower in (self.follower, self.account):
            if follower is not None:
                follower.start(asyncio.get_running_loop())

    async def stop(self) -> None:
        """Close everything."""
        for follower in (self.follower, self.account):
            if follower is not None:
                await follower.stop()
        await self.dialer.stop()
        if self.release is not None:
            await self.release()
