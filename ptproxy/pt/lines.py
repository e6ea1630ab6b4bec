"""A dialer for each bridge line in use: started when a connection needs it, stopped when none has a while.

A parent may know many bridges and come back to some; nothing here is kept on
disk. Every bridge gets a key of its own that is forgotten with the process, so
that bridges cannot tell that two visits, or two bridges' visitors, are one person.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from ptproxy.auth.credentials import StaticKey
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.errors import DialError, PtproxyError, Reason
from ptproxy.log import get_logger
from ptproxy.proxy.shape_files import load_shape
from ptproxy.pt.bridge_line import BridgeLine
from ptproxy.target import Target
from ptproxy.tunnel.appearance import appearance_of
from ptproxy.tunnel.client_tls import BrowserLikeTls, ClientTls, PythonTls
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.outward import STRAIGHT, Outward
from ptproxy.tunnel.shaped_dial import ShapedDialer
from ptproxy.tunnel.stream import Association, DatagramReceiver, Stream
from ptproxy.tunnel.tls import ClientTrust

MAX_LINES: Final = 32
"""Bridges in use at once; tor uses three, and asks for a few dozen at most."""
IDLE: Final = 90.0
"""Seconds without a stream after which a bridge's carriers are closed: tor keeps its own connections for
some minutes, and whoever comes back sooner saves a page load."""
LOOK_EVERY: Final = 15.0
"""Seconds between looks who is idle."""

log = get_logger(__name__)


class Lines:
    """Opens streams at the bridges of lines."""

    def __init__(self, loop: asyncio.AbstractEventLoop, outward: Outward = STRAIGHT) -> None:
        self._loop = loop
        self._outward = outward
        self._open: dict[BridgeLine, _Bridge] = {}
        self._sweeper = loop.create_task(self._sweep())
        self._stopped = False

    def __len__(self) -> int:
        return len(self._open)

    async def dial(
        self, line: BridgeLine, target: Target, protocol: asyncio.Protocol, first_data: bytes = b""
    ) -> Stream:
        """Open a stream at a line's bridge; raises :class:`~ptproxy.errors.DialError`."""
        dialer = await self._dialer(line)
        return await dialer.dial(target, protocol, first_data)

    async def associate(self, line: BridgeLine, receiver: DatagramReceiver) -> Association:
        """Open a UDP association there; raises :class:`~ptproxy.errors.DialError`."""
        dialer = await self._dialer(line)
        return await dialer.associate(receiver)

    async def stop(self) -> None:
        """Close everything."""
        self._stopped = True
        self._sweeper.cancel()
        bridges, self._open = list(self._open.values()), {}
        await asyncio.gather(self._sweeper, *(bridge.stop() for bridge in bridges), return_exceptions=True)

    async def _dialer(self, line: BridgeLine) -> TunnelDialer:
        """The line's dialer with its first carrier open."""
        if self._stopped:
            raise DialError(Reason.SHUTDOWN)
        bridge = self._open.get(line)
        if bridge is None:
            if len(self._open) >= MAX_LINES:
                raise DialError(Reason.LIMIT, "too many bridges are in use at once")
            dialer = make_dialer(self._loop, line, self._outward)
            bridge = self._open[line] = _Bridge(dialer, self._loop.create_task(dialer.start()))
        bridge.used_at = self._loop.time()
        try:
            await asyncio.shield(bridge.starting)
        except (PtproxyError, OSError) as error:
            if self._open.get(line) is bridge:
                del self._open[line]
                await bridge.stop()
                log.warning("the bridge is not reached", why=_unreached(error))
            reason = error.reason if isinstance(error, DialError) else Reason.TUNNEL_DOWN
            raise DialError(reason, str(error)) from None
        return bridge.dialer

    async def _sweep(self) -> None:
        """Leave bridges that nobody uses."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = self._loop.time()
            for line, bridge in list(self._open.items()):
                if not bridge.starting.done() or bridge.dialer.tunnel.session.streams:
                    bridge.used_at = now
                elif now - bridge.used_at > IDLE:
                    del self._open[line]
                    await bridge.stop()


class _Bridge:
    """One line's dialer."""

    __slots__ = ("dialer", "starting", "used_at")

    def __init__(self, dialer: TunnelDialer, starting: asyncio.Task[None]) -> None:
        self.dialer = dialer
        self.starting = starting
        self.used_at = 0.0

    async def stop(self) -> None:
        """Close the carriers, or stop trying."""
        self.starting.cancel()
        await asyncio.gather(self.starting, return_exceptions=True)
        await self.dialer.stop()


def make_dialer(loop: asyncio.AbstractEventLoop, line: BridgeLine, outward: Outward) -> TunnelDialer:
    """A dialer that looks as the line says; raises :class:`~ptproxy.errors.StartError`."""
    link = line.link
    route = Route(
        line=link,
        key=StaticKey.generate(random.SystemRandom()),
        tls=make_tls(line.fingerprint, ClientTrust(pin=link.pin), outward),
        codecs=link.codecs,
        appearance=appearance_of(line.fingerprint, SiteMemory()),
    )
    shape = load_shape(line.shape)
    if shape is None:
        return TunnelDialer(loop, route)
    return ShapedDialer(loop, route, shape=shape)


def make_tls(fingerprint: str, trust: ClientTrust, outward: Outward) -> ClientTls:
    """How connections greet; raises :class:`~ptproxy.errors.StartError`."""
    if fingerprint == "python":
        return PythonTls(trust, outward)
    return BrowserLikeTls(fingerprint, trust, outward)


def _unreached(error: Exception) -> str:
    if isinstance(error, DialError):
        return str(error)
    return f"{error} (is the bridge line right, and this machine's clock within a minute?)"
