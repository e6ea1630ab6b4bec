"""The far end of a local program's connection: the protocol on the stream that was dialled for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ptproxy.buffer import Buffer
from ptproxy.tunnel.relay import StreamEnd, TcpEnd, couple

if TYPE_CHECKING:
    from ptproxy.proxy.local_connection import LocalConnection


class TunnelEnd(StreamEnd):
    """The far end of a tunnel: a relay's from the start, whose other end takes over from the connection."""

    __slots__ = ("connection", "local")

    def __init__(self, connection: LocalConnection) -> None:
        super().__init__()
        self.connection: LocalConnection | None = connection
        self.data_received = connection.transport.write
        self.local = TcpEnd()
        self.local.transport = connection.transport
        couple(self.local, self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The target has answered; whoever gave up meanwhile has reset the stream."""
        super().connection_made(transport)
        if self.connection is not None:
            self.connection.stream_made(self, self.transport)


class OriginEnd(asyncio.Protocol):
    """The far end of plain HTTP exchanges; everything goes through the connection's conversation."""

    __slots__ = ("_connection",)

    def __init__(self, connection: LocalConnection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The origin has answered."""
        self._connection.stream_made(self, transport)  # type: ignore[arg-type]  # BaseTransport only by name

    def data_received(self, data: Buffer) -> None:
        """Bytes of a reply."""
        self._connection.reply_received(self, data)

    def eof_received(self) -> bool:
        """The origin will send no more; whether its stream is closed is the conversation's to say."""
        self._connection.reply_ended(self)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream is gone."""
        self._connection.reply_lost(self, exc)

    def pause_writing(self) -> None:
        """The stream takes no more for now."""
        self._connection.origin_full(self, full=True)

    def resume_writing(self) -> None:
        """The stream takes more again."""
        self._connection.origin_full(self, full=False)
