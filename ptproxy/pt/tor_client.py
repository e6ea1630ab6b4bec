"""tor's connections on the client's side: SOCKS5 whose user and password are the bridge line's arguments.

The host and port that tor asks for are the bridge's own. The reply comes when
the bridge's tor has taken the stream, and says what went wrong otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from ptproxy.errors import DialError, FrontError, Reason, StartError
from ptproxy.front import Conversation, Users
from ptproxy.front.socks5 import Socks5
from ptproxy.log import get_logger
from ptproxy.proxy.local import LocalLimits, LocalProxy
from ptproxy.proxy.local_connection import LocalConnection
from ptproxy.proxy.startup import Signals
from ptproxy.pt.arguments import ArgumentError, parse_socks
from ptproxy.pt.bridge_line import TRANSPORTS, parse_line
from ptproxy.pt.ending import end_with_input, end_with_parent
from ptproxy.pt.lines import Lines
from ptproxy.pt.parent import SERVICE
from ptproxy.pt.tor_environment import ClientSide
from ptproxy.pt.tor_lines import connection_status
from ptproxy.pt.webtunnel_client import WebTunnelWay
from ptproxy.pt.webtunnel_line import TRANSPORT as WEBTUNNEL
from ptproxy.target import Target
from ptproxy.tunnel.outward import Outward
from ptproxy.tunnel.stream import Association, DatagramReceiver, Stream

SOCKS5: Final = 5
"""The first byte of what tor says (RFC 1928 section 3)."""
MOST_CONNECTIONS: Final = 1024
"""Connections of tor's at once; it makes one a bridge, or two."""

Say = Callable[[str], None]
"""Tells tor one line."""

log = get_logger(__name__)


class Way(Protocol):
    """How the bridges of one transport are reached."""

    def check(self, arguments: dict[str, str]) -> None:
        """See that a line's arguments can be used; raises :class:`~.arguments.ArgumentError`."""

    async def dial(
        self, arguments: dict[str, str], bridge: Target, protocol: asyncio.Protocol, first_data: bytes
    ) -> Stream:
        """Open a stream to the tor behind the bridge; raises :class:`~ptproxy.errors.DialError`."""


class TunnelWay:
    """Through a tunnel of ours."""

    def __init__(self, transport: str, lines: Lines) -> None:
        self._codecs = TRANSPORTS[transport]
        self._lines = lines

    def check(self, arguments: dict[str, str]) -> None:
        """See :class:`Way`."""
        parse_line(arguments, self._codecs, "192.0.2.1", 1)

    async def dial(
        self, arguments: dict[str, str], bridge: Target, protocol: asyncio.Protocol, first_data: bytes
    ) -> Stream:
        """See :class:`Way`."""
        line = parse_line(arguments, self._codecs, bridge.host, bridge.port)
        return await self._lines.dial(line, Target.service(SERVICE), protocol, first_data)


class Caller(Users):
    """What one connection's user and password say: not who is calling, but by which bridge."""

    __slots__ = ("_arguments", "_say", "_transport", "_way")

    def __init__(self, transport: str, way: Way, say: Say) -> None:  # its passwords are none
        self._transport = transport
        self._way = way
        self._say = say
        self._arguments: dict[str, str] = {}

    def admits(self, name: bytes, password: bytes) -> bool:
        """Take the arguments; False where no bridge can be reached with them."""
        try:
            self._arguments = parse_socks(name, password)
            self._way.check(self._arguments)
        except ArgumentError as error:
            log.warning("a bridge line cannot be used", transport=self._transport, why=str(error))
            return False
        return True

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """Reach tor behind the bridge at ``target``; raises :class:`~ptproxy.errors.DialError`."""
        try:
            stream = await self._way.dial(self._arguments, target, protocol, first_data)
        except DialError:
            self._say(connection_status(self._transport, "Failed"))
            raise
        except ArgumentError as error:  # the address that they came with
            log.warning("a bridge line cannot be used", transport=self._transport, why=str(error))
            raise DialError(Reason.GENERAL, str(error)) from None
        except StartError as error:  # something that this line or the proxy needs is not installed
            log.error("a bridge cannot be tried", transport=self._transport, why=str(error))
            self._say(connection_status(self._transport, "Failed"))
            raise DialError(Reason.GENERAL, str(error)) from None
        self._say(connection_status(self._transport, "Success"))
        return stream

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """tor has no datagrams; refused."""
        del receiver
        raise DialError(Reason.UNSUPPORTED)


class TorConnection(LocalConnection):
    """One connection of tor's."""

    __slots__ = ("_caller",)

    def __init__(self, proxy: LocalProxy, caller: Caller) -> None:
        super().__init__(proxy)
        self._caller = caller

    @property
    def dialer(self) -> Caller:
        """Who knows the bridge."""
        return self._caller

    def _misunderstood(self, error: FrontError) -> None:
        """What tor is told of in its log: most often a bridge line without arguments."""
        log.warning("a connection of tor's cannot be served", why=str(error))
        super()._misunderstood(error)

    def converse(self, first: int) -> Conversation:
        """SOCKS5, and nothing else."""
        if first != SOCKS5:
            raise FrontError("only SOCKS5 is spoken here, by tor")
        return Socks5(self._caller)


class TorFront(LocalProxy):
    """Takes tor's connections for one transport."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: str, way: Way, say: Say) -> None:
        super().__init__(loop, Caller(transport, way, say), limits=LocalLimits(connections=MOST_CONNECTIONS))
        self._transport = transport
        self._way = way
        self._say = say

    def connection(self) -> TorConnection:
        """A connection with arguments of its own."""
        return TorConnection(self, Caller(self._transport, self._way, self._say))


async def serve_client(side: ClientSide, doors: Mapping[str, socket.socket], say: Say, parent: int) -> None:
    """Take tor's connections until tor, the process ``parent``, ends us or is gone.

    ``doors`` are the transports' sockets.
    """
    loop = asyncio.get_running_loop()
    common = side.common
    async with contextlib.AsyncExitStack() as stack:
        outward = Outward(side.proxy, common.bind_ipv4, common.bind_ipv6)
        lines = Lines(loop, outward)
        stack.push_async_callback(lines.stop)
        for transport, sock in doors.items():
            way = WebTunnelWay(loop, outward) if transport == WEBTUNNEL else TunnelWay(transport, lines)
            front = TorFront(loop, transport, way, say)
            stack.push_async_callback(front.stop)
            front.take(sock)
        with Signals(loop) as signals:
            end_with_parent(loop, signals, parent)
            if common.ends_with_stdin:
                end_with_input(loop, signals)
            await signals.stop.wait()
