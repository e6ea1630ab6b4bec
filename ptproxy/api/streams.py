"""A stream as asyncio's reader and writer.

A stream through a tunnel differs from a TCP connection in one thing: closing it
ends *our* direction, and the far side's goes on until its target is done, which
may be never. :class:`StreamWriter.close` is therefore what closing a socket is:
what was written still arrives, what still comes is thrown away, and a far side
that then does not end is cut off: after :data:`CLOSE_WAIT` if it goes on
talking, after :data:`SILENT_WAIT` if it only stays.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from ptproxy.api.failures import StreamLostError
from ptproxy.errors import DialError, Reason
from ptproxy.target import Target
from ptproxy.tunnel.relay import reset_stream
from ptproxy.tunnel.stream import Dialer, Stream, TunnelStream

LIMIT: Final = 256 * 1024
"""Bytes that a reader holds before its stream is paused; twice that at most."""
CLOSE_WAIT: Final = 5.0
"""Seconds that a far side may go on talking once all that was written has arrived at the bridge."""
SILENT_WAIT: Final = 60.0
"""... and that it may stay silent without ending: it may still be reading. As long as Linux keeps a closed
socket whose peer does not end (``tcp_fin_timeout``)."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ReaderProtocol(asyncio.StreamReaderProtocol):
    """Feeds a reader, and tells it of a break as the ``OSError`` that programs expect."""

    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reader, loop=loop)
        self.cut_off: asyncio.TimerHandle | None = None
        """Waits for the far side's end, once the writer was closed."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream is over."""
        if self.cut_off is not None:
            self.cut_off.cancel()
            self.cut_off = None
        if isinstance(exc, DialError):
            exc = StreamLostError(exc.reason, f"the stream was broken off: {exc}")
        super().connection_lost(exc)


class StreamWriter(asyncio.StreamWriter):
    """asyncio's writer, whose :meth:`close` is sure to end."""

    def __init__(
        self,
        stream: Stream,
        protocol: ReaderProtocol,
        reader: asyncio.StreamReader,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(stream, protocol, reader, loop)
        self._feeds = protocol
        self._stream = stream
        self._running = loop

    def close(self) -> None:
        """End the stream; what was written arrives. :meth:`wait_closed` waits for it."""
        super().close()
        if self._feeds.cut_off is None and isinstance(self._stream, TunnelStream):
            self._watch(None, self._stream.state.received)

    def _watch(self, arrived_at: float | None, received: int) -> None:
        self._feeds.cut_off = self._running.call_later(CLOSE_WAIT, self._look, arrived_at, received)

    def _look(self, arrived_at: float | None, received: int) -> None:
        """The far side has not ended: cut it off if it has had its time.

        ``arrived_at``: when all that was written had arrived; ``received``: bytes that had come by the close.
        One that takes nothing is the tunnel's to give up (``limits.half_open``, ``limits.linger``).
        """
        state, now = cast("TunnelStream", self._stream).state, self._running.time()
        if state.retained:
            arrived_at = None
        elif arrived_at is None:
            arrived_at = now
        patience = CLOSE_WAIT if state.received > received else SILENT_WAIT
        if arrived_at is not None and now - arrived_at >= patience:
            reset_stream(self._stream, Reason.CANCELLED)
        else:
            self._watch(arrived_at, received)


async def open_streams(
    dialer: Dialer, target: Target, *, limit: int = LIMIT, first_data: bytes = b""
) -> Streams:
    """A reader and a writer on a new stream; raises :class:`~ptproxy.errors.DialError`."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = ReaderProtocol(reader, loop)
    stream = await dialer.dial(target, protocol, first_data)
    return reader, StreamWriter(stream, protocol, reader, loop)
