"""ss-local's connections: the first bytes travel with the request for a stream; a silent one asks nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import Reason
from ptproxy.front import Conversation, Event, PayloadReceived, TargetRequested, Users
from ptproxy.proxy.local import LocalLimits, LocalProxy
from ptproxy.proxy.local_connection import LocalConnection
from ptproxy.proxy.startup import Signals
from ptproxy.pt.bridge_line import BridgeLine
from ptproxy.pt.datagrams import DatagramDoor
from ptproxy.pt.ending import end_with_parent
from ptproxy.pt.lines import Lines
from ptproxy.pt.parent import SERVICE
from ptproxy.target import Target
from ptproxy.tunnel.stream import Association, DatagramReceiver, Stream

SILENCE: Final = 600.0
"""Seconds that a connection may say nothing: ss-local opens some ahead of the program's first word."""


class LineDialer:
    """A dialer to one line's bridge."""

    def __init__(self, lines: Lines, line: BridgeLine) -> None:
        self._lines = lines
        self._line = line

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """Open a stream there; raises :class:`~ptproxy.errors.DialError`."""
        return await self._lines.dial(self._line, target, protocol, first_data)

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """Open an association there; raises :class:`~ptproxy.errors.DialError`."""
        return await self._lines.associate(self._line, receiver)


class Raw:
    """A :class:`~ptproxy.front.Conversation` without words: all that comes is for the bridge's parent."""

    __slots__ = ("_asked", "closing")

    def __init__(self, users: Users | None = None) -> None:
        del users
        self.closing = False
        self._asked = False

    def receive_data(self, data: Buffer) -> list[Event]:
        """The first bytes ask for the stream."""
        if self._asked:
            return [PayloadReceived(data)]
        self._asked = True
        return [TargetRequested(Target.service(SERVICE), bytes(data))]

    def receive_eof(self) -> list[Event]:
        """A connection that ends before it said anything was a look whether we listen."""
        self.closing |= not self._asked
        return []

    def send_accepted(self, host: str = "0.0.0.0", port: int = 0) -> None:
        """Nothing is said."""

    def send_refused(self, reason: Reason) -> None:
        """Nothing is said: it closes."""
        del reason
        self.closing = True

    def data_to_send(self) -> bytes:
        """Nothing."""
        return b""


class _Connection(LocalConnection):
    """One connection of ss-local's."""

    __slots__ = ()

    def converse(self, first: int) -> Conversation:
        """Whatever the first byte."""
        del first
        return Raw()


class _Front(LocalProxy):
    """Takes ss-local's connections."""

    def connection(self) -> LocalConnection:
        """A connection without words."""
        return _Connection(self)


async def serve_plugin_client(
    line: BridgeLine, sock: socket.socket, datagrams: socket.socket | None, parent: int
) -> None:
    """Take ss-local's connections and datagrams until it, process number ``parent``, ends us."""
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        lines = Lines(loop)
        stack.push_async_callback(lines.stop)
        dialer = LineDialer(lines, line)
        if datagrams is not None:
            door = DatagramDoor(loop, dialer.associate)
            stack.push_async_callback(door.close)
            await door.open(datagrams)
        front = _Front(loop, dialer, limits=LocalLimits(head_timeout=SILENCE))
        stack.push_async_callback(front.stop)
        front.take(sock)
        with Signals(loop) as signals:
            end_with_parent(loop, signals, parent)
            await signals.stop.wait()
