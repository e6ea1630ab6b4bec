"""Two transports coupled: what one receives, the other writes.

An end is a TCP connection (:class:`TcpEnd`) or a stream (:class:`StreamEnd`),
which is a transport too. ``data_received`` of each end is
the other's bound ``write``: relaying a message is two callbacks and nothing
else. The rules, both ways:

- A transport that cannot keep up with writing pauses the other's reading, and what is read
  for a stream is no more than it may keep.
- The end of one direction is passed on and the other direction goes on; when
  both have ended, both transports are closed.
- An end that breaks breaks the other: a local reset resets the stream
  (:attr:`Reason.CONNECTION_LOST`), a reset stream resets the connection, so
  that a cut transfer never looks complete.

Put both together with :func:`couple` before either transport delivers data;
each end's ``transport`` must be set by then or in its ``connection_made``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ptproxy.buffer import Buffer
from ptproxy.errors import Reason
from ptproxy.tunnel.stream import TunnelStream
from ptproxy.tunnel.tcp import READ_SIZE, BufferedReads, read_buffer, send_reset


@dataclass(frozen=True, slots=True)
class Ended:
    """What of a stream and its target has come to its end, and was passed on."""

    client: bool
    target: bool


class _End:
    """What both kinds of end do."""

    __slots__ = ()

    transport: asyncio.Transport
    other: TcpEnd | StreamEnd
    ended: bool
    lost: bool
    on_end: Callable[[], None] | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment, misc]  # the slot is in the two classes below

    def pause_writing(self) -> None:
        """This end is behind: the other reads no more for now."""
        transport = self.other.transport
        if not transport.is_closing():
            transport.pause_reading()

    def resume_writing(self) -> None:
        """This end has caught up."""
        transport = self.other.transport
        if not transport.is_closing():
            transport.resume_reading()

    def eof_received(self) -> bool:
        """This direction has ended."""
        self.ended = True  # type: ignore[misc]  # as above
        other = self.other
        if other.ended:
            other.transport.close()
            self.transport.close()
        elif not other.transport.is_closing():
            end_writing(other.transport)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """This end is gone: cleanly when both directions had ended, else it takes the other along."""
        self.lost = True  # type: ignore[misc]  # as above
        other = self.other
        if other.lost:
            del self.other, other.other  # the cycle, or a collection has to find it
            if self.on_end is not None:
                self.on_end()
        elif exc is not None or not (self.ended and other.ended):
            other.break_off(Reason.CANCELLED if exc is None else Reason.CONNECTION_LOST)


class TcpEnd(_End, BufferedReads):
    """The end that is a TCP (or Unix) connection."""

    __slots__ = ("_room", "data_received", "ended", "lost", "on_end", "other", "transport")

    data_received: Callable[[Buffer], None]  # type: ignore[assignment]  # a slot in place of the method

    def __init__(self) -> None:
        self.ended = False
        self.lost = False
        self.on_end = None
        self._room: Callable[[], int] | None = None

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (as in BufferedReads)
        """As much of the shared buffer as the other end may keep now."""
        if self._room is None:
            transport = self.other.transport
            self._room = transport.state.send_room if isinstance(transport, TunnelStream) else _any_size
        return read_buffer(self._room())

    def break_off(self, reason: Reason) -> None:  # noqa: ARG002  (TCP cannot say why)
        """Reset the connection."""
        send_reset(self.transport)


class StreamEnd(_End, asyncio.Protocol):
    """The end that is a stream of a dialer's, through a tunnel or over TCP."""

    __slots__ = ("data_received", "ended", "lost", "on_end", "other", "transport")

    data_received: Callable[[Buffer], None]  # type: ignore[assignment]  # a slot in place of the method

    def __init__(self) -> None:
        self.ended = False
        self.lost = False
        self.on_end = None

    def break_off(self, reason: Reason) -> None:
        """Reset the stream for ``reason``."""
        reset_stream(self.transport, reason)


def couple(
    one: TcpEnd | StreamEnd, other: TcpEnd | StreamEnd, on_end: Callable[[], None] | None = None
) -> None:
    """Make each the other's other end; ``on_end`` is called once, when both are gone."""
    one.other = other
    other.other = one
    one.on_end = other.on_end = on_end


def _any_size() -> int:
    """A TCP connection keeps nothing for good: it pauses whoever reads for it."""
    return READ_SIZE


def end_writing(transport: asyncio.Transport) -> None:
    """Half-close, or close where that cannot be (TLS).

    A connection that its peer has already reset is found out here by some transports.
    """
    try:
        transport.write_eof()
    except NotImplementedError:
        transport.close()
    except OSError:
        transport.abort()


def reset_stream(transport: asyncio.Transport, reason: Reason) -> None:
    """Break a stream: with ``reason`` through a tunnel, with a TCP reset where the dialer dials directly."""
    reset = getattr(transport, "reset", None)
    if reset is None:
        send_reset(transport)
    else:
        reset(reason)
