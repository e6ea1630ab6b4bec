"""A connection that one worker of a bridge has accepted and another one has: bytes passed both ways.

To the connection a :class:`Passage` is its link; to the socket towards the other worker
it is the protocol. It changes nothing and knows nothing of what passes. Ends are passed
on, and each side's reading pauses while the other is behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final, cast

from ptproxy.buffer import Buffer
from ptproxy.tunnel import tcp
from ptproxy.tunnel.tcp import BufferedReads

if TYPE_CHECKING:
    from ptproxy.tunnel.carrier import Carrier, Connection

ADOPT_TIMEOUT: Final = 10.0
"""Seconds until the socket has a transport: a turn of the loop or two."""
HIGH_WATER: Final = 256 * 1024
"""Unsent bytes above which the connection is read no more."""


class Passage(BufferedReads):
    """Between a connection here and a socket to the worker whose it is."""

    def __init__(self, connection: Connection) -> None:
        self.closing = False
        """The connection is to close once everything is written."""
        self._connection = connection
        self._early: list[bytes] = []
        self._ended = False
        self._out: list[Buffer] = []
        self._transport: asyncio.Transport | None = None

    async def open(self, sock: socket.socket) -> None:
        """Go through ``sock``, this side of a pair, which becomes this object's."""
        try:
            await tcp.adopt(self._connection.loop, lambda: self, sock, timeout=ADOPT_TIMEOUT)
        except OSError:
            self._connection.abort()

    # ---- to the connection: its link -------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[object]:
        """Pass on what the connection received."""
        del now
        if self._transport is None:
            self._early.append(bytes(data))
        elif not self._transport.is_closing():
            self._transport.write(data)
        return []

    def receive_eof(self, now: float) -> list[object]:
        """The connection's peer sends no more."""
        del now
        self._ended = True
        self._pass_end_on()
        return []

    def data_to_send(self) -> list[Buffer]:
        """What the other worker has said."""
        out, self._out = self._out, []
        return out

    def unblocked(self) -> None:
        """The connection has room again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # ---- to the socket: its protocol -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """What came before goes out."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(HIGH_WATER)
        early, self._early = self._early, []
        for data in early:
            self._transport.write(data)
        if self._ended:
            self._pass_end_on()

    def data_received(self, data: Buffer) -> None:
        """Write what the other worker says."""
        connection = self._connection
        if connection.ended:
            return
        self._out.append(data)
        connection.flush()
        if connection.blocked and self._transport is not None:
            self._transport.pause_reading()
            connection.waiting.add(cast("Carrier", self))  # told when there is room, as a carrier is

    def eof_received(self) -> bool | None:
        """The other worker closes the connection."""
        self._close()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """It has closed or broken it, or has ended."""
        if exc is not None and not self._connection.ended:
            self._connection.abort()
        self._close()

    def pause_writing(self) -> None:
        """The other worker is behind."""
        self._reading("pause_reading")

    def resume_writing(self) -> None:
        """It has caught up."""
        self._reading("resume_reading")

    def _reading(self, what: str) -> None:
        transport = self._connection.transport
        if not self._connection.ended and not transport.is_closing():
            with contextlib.suppress(NotImplementedError, AttributeError):  # a request within a connection
                getattr(transport, what)()

    def _close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self._connection.ended:
                self._connection.flush()

    def _pass_end_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError):
                self._transport.write_eof()
