"""A dialer for each bridge line in use: started when a connection needs it, stopped when none has a while.

A parent may know many bridges and come back to some; nothing here is kept on
disk. Every bridge gets a key of its own that is forgotten with the process, so
that bridges cannot tell that two visits, or two bridges' visitors, are one person.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import AsyncIterator
from typing import Final

from ptproxy.auth.credentials import StaticKey
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.config.link import Link
from ptproxy.errors import DialError, PtproxyError, Reason
from ptproxy.log import get_logger
from ptproxy.proxy.shape_files import load_shape
from ptproxy.pt.bridge_line import BridgeLine
from ptproxy.target import Target
from ptproxy.tunnel.appearance import appearance_of
from ptproxy.tunnel.client_tls import BrowserLikeTls, ClientTls, PythonTls
from ptproxy.tunnel.connect import Route, by_fronts
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.outward import STRAIGHT, Outward
from ptproxy.tunnel.shaped_dial import ShapedDialer
from ptproxy.tunnel.stream import Association, DatagramReceiver, Stream
from ptproxy.tunnel.surroundings import watch_network
from ptproxy.tunnel.tls import ClientTrust
from ptproxy.ways import Ways

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
        self._leaving: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._ways = Ways(secrets.token_bytes(32))
        """Of all lines, as they are of one network at a time; forgotten with the process."""
        self._watch = watch_network(loop, self, self._ways)

    def __len__(self) -> int:
        return len(self._open)

    async def dial(
        self, line: BridgeLine, target: Target, protocol: asyncio.Protocol, first_data: bytes = b""
    ) -> Stream:
        """Open a stream at a line's bridge; raises :class:`~ptproxy.errors.DialError`."""
        async with self._dialer(line) as dialer:
            return await dialer.dial(target, protocol, first_data)

    async def associate(self, line: BridgeLine, receiver: DatagramReceiver) -> Association:
        """Open a UDP association there; raises :class:`~ptproxy.errors.DialError`."""
        async with self._dialer(line) as dialer:
            return await dialer.associate(receiver)

    def network_changed(self, lost: frozenset[str]) -> None:
        """This machine is in another network; see :meth:`TunnelDialer.network_changed`."""
        for bridge in self._open.values():
            bridge.dialer.network_changed(lost)

    def network_grew(self) -> None:
        """See :meth:`TunnelDialer.network_grew`."""
        for bridge in self._open.values():
            bridge.dialer.network_grew()

    def _is_reached(self) -> bool:
        """Whether any bridge is."""
        return any(bridge.dialer.tunnel.carriers for bridge in self._open.values())

    async def stop(self) -> None:
        """Close everything."""
        self._stopped = True
        self._watch.close()
        self._sweeper.cancel()
        bridges, self._open = list(self._open.values()), {}
        stopping = [bridge.stop() for bridge in bridges]
        await asyncio.gather(self._sweeper, *stopping, *self._leaving, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _dialer(self, line: BridgeLine) -> AsyncIterator[TunnelDialer]:
        """The line's dialer with its first carrier open; it is not left before the end of the block."""
        if self._stopped:
            raise DialError(Reason.SHUTDOWN)
        bridge = self._open.get(line)
        if bridge is None:
            self._make_room()
            dialer = make_dialer(self._loop, line, self._outward, self._ways)
            dialer.approaches.others_open = self._is_reached
            bridge = self._open[line] = _Bridge(dialer, self._loop.create_task(dialer.start()))
        bridge.dials += 1
        try:
            await self._started(line, bridge)
            yield bridge.dialer
        finally:
            bridge.dials -= 1
            bridge.used_at = self._loop.time()

    async def _started(self, line: BridgeLine, bridge: _Bridge) -> None:
        """Wait for the first carrier; raises :class:`~ptproxy.errors.DialError`."""
        try:
            await asyncio.shield(bridge.starting)
        except (PtproxyError, OSError) as error:
            if self._open.get(line) is bridge:
                del self._open[line]
                await bridge.stop()
                log.warning("the bridge is not reached", why=_unreached(error))
            reason = error.reason if isinstance(error, DialError) else Reason.TUNNEL_DOWN
            raise DialError(reason, str(error)) from None

    def _make_room(self) -> None:
        """Where there are too many, leave the one that has been idle longest; raises DialError if none is."""
        if len(self._open) < MAX_LINES:
            return
        idle = [line for line, bridge in self._open.items() if bridge.is_idle]
        if not idle:
            raise DialError(Reason.LIMIT, "too many bridges are in use at once")
        left = self._open.pop(min(idle, key=lambda line: self._open[line].used_at))
        leaving = self._loop.create_task(left.stop())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _sweep(self) -> None:
        """Leave bridges that nobody uses."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = self._loop.time()
            for line, bridge in list(self._open.items()):
                if self._open.get(line) is not bridge:
                    continue  # left while another one was being stopped
                if not bridge.is_idle:
                    bridge.used_at = now
                elif now - bridge.used_at > IDLE:
                    del self._open[line]
                    await bridge.stop()


class _Bridge:
    """One line's dialer."""

    __slots__ = ("dialer", "dials", "starting", "used_at")

    def __init__(self, dialer: TunnelDialer, starting: asyncio.Task[None]) -> None:
        self.dialer = dialer
        self.starting = starting
        self.dials = 0
        """Dials under way, whose streams the session may not know yet."""
        self.used_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nobody has a stream there, or waits for one."""
        return not self.dials and self.starting.done() and not self.dialer.tunnel.session.streams

    async def stop(self) -> None:
        """Close the carriers, or stop trying."""
        self.starting.cancel()
        await asyncio.gather(self.starting, return_exceptions=True)
        await self.dialer.stop()


def make_dialer(
    loop: asyncio.AbstractEventLoop, line: BridgeLine, outward: Outward, ways: Ways | None = None
) -> TunnelDialer:
    """A dialer that looks as the line says; raises :class:`~ptproxy.errors.StartError`.

    ``ways``: what is remembered of ways, None: nothing.
    """
    key = StaticKey.generate(random.SystemRandom())

    def route_of(front: Link) -> Route:
        return Route(
            line=front,
            key=key,
            tls=make_tls(line.fingerprint, ClientTrust(pin=front.pin), outward),
            codecs=front.codecs,
            appearance=appearance_of(line.fingerprint, SiteMemory()),
        )

    route = by_fronts(line.link, route_of)
    shape = load_shape(line.shape)
    if shape is None:
        return TunnelDialer(loop, route, ways=ways)
    return ShapedDialer(loop, route, shape=shape, ways=ways)


def make_tls(fingerprint: str, trust: ClientTrust, outward: Outward) -> ClientTls:
    """How connections greet; raises :class:`~ptproxy.errors.StartError`."""
    if fingerprint == "python":
        return PythonTls(trust, outward)
    return BrowserLikeTls(fingerprint, trust, outward)


def _unreached(error: Exception) -> str:
    if isinstance(error, DialError):
        return str(error)
    return f"{error} (is the bridge line right, and this machine's clock within a minute?)"
