"""A stranger's connection and the real web server's, coupled raw: no byte is added, none is kept back.

What the stranger says before the server has taken the connection waits, up to :data:`MAX_EARLY` bytes.
Each side is read as fast as the other one takes it, and both end in the same way. While a stranger takes
nothing the server is not read, nor its own giving up seen: that has a time of its own, :data:`STALLED`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from ptproxy.buffer import Buffer
from ptproxy.tunnel.tcp import BufferedReads, send_reset

MAX_EARLY: Final = 256 * 1024
"""Bytes a stranger may say before the web server behind has taken the connection."""
STALLED: Final = 60.0
"""Seconds a stranger may take nothing of what the server has sent (nginx: send_timeout): else whoever never
reads keeps the place of a connection for good."""


class Splice:
    """A stranger's connection and the web server's, coupled raw."""

    __slots__ = ("_on_over", "early", "loop", "server", "stranger")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        received: bytes,
        on_over: Callable[[Splice], object],
    ) -> None:
        """Takes the stranger's connection; ``on_over`` is called once both are gone."""
        self.loop = loop
        self.early = bytearray(received)
        """What the stranger said before the server was there."""
        self._on_over = on_over
        self.stranger = Half(self)
        self.server = Half(self)
        self.stranger.other, self.server.other = self.server, self.stranger
        transport.set_protocol(self.stranger)
        self.stranger.connection_made(transport)
        transport.resume_reading()

    def cut(self) -> None:
        """Break both."""
        for half in (self.stranger, self.server):
            if half.made and not half.lost:
                half.transport.abort()

    def over(self) -> None:
        """Both are gone."""
        self._on_over(self)


class Half(BufferedReads):
    """One of the two connections; the other one's reading follows this one's writing."""

    __slots__ = ("_left", "_timer", "behind", "ended", "lost", "made", "other", "splice", "transport")

    transport: asyncio.Transport
    other: Half

    def __init__(self, splice: Splice) -> None:
        self.splice = splice
        self.made = self.lost = self.ended = self.behind = False
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0  # bytes that it had still to take when the time began

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The site is reached: what the stranger has said meanwhile goes there."""
        self.transport = cast("asyncio.Transport", transport)
        self.made = True
        splice = self.splice
        if self is not splice.server:
            return
        if splice.stranger.lost:
            splice.loop.call_soon(self.transport.abort)
            return
        self.transport.write(bytes(splice.early))
        splice.early.clear()
        if splice.stranger.ended:
            self._pass_end()
        if not self.behind:  # the server may not take at once what was kept for it
            splice.stranger.transport.resume_reading()

    def data_received(self, data: Buffer) -> None:
        """On to the other side, or kept until there is one."""
        if self.other.made:
            self.other.transport.write(data)
            return
        early = self.splice.early
        early += data
        if len(early) > MAX_EARLY:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """The site's end ends both; the stranger's is passed on, and the answer still comes."""
        self.ended = True
        if self is self.splice.server:
            self.other._end()
        elif self.other.made:
            self.other._pass_end()
        return True

    def pause_writing(self) -> None:
        """This side is behind: the other one is not read."""
        self.behind = True
        self._watch()
        if self.other.made and not self.other.lost:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.behind = False
        if self.other.made and not self.other.lost:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side ends in the same way, closed or reset."""
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        other = self.other
        if not other.made:
            self.splice.early.clear()  # the server may be long in coming
            return
        if other.lost:
            del self.other, other.other  # the cycle, or a collection has to find it
            self.splice.over()
        elif exc is None:
            other._end()
        else:
            send_reset(other.transport)

    def _end(self) -> None:
        """Close once what was written is taken."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._watch()

    def _watch(self) -> None:
        """A stranger has something to take. The server's patience with itself is its own affair."""
        if self._timer is None and not self.lost and self is self.splice.stranger:
            self._left = self.transport.get_write_buffer_size()
            self._timer = self.splice.loop.call_later(STALLED, self._judge)

    def _judge(self) -> None:
        """Whether it has taken anything since."""
        self._timer = None
        left = self.transport.get_write_buffer_size()
        if not left or not (self.behind or self.transport.is_closing()):
            return
        if left >= self._left:
            self.splice.cut()
        else:
            self._watch()

    def _pass_end(self) -> None:
        """The other side has ended: so does what we say here, where that can be said."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
