"""One direction's sending half: what was written and is not acknowledged yet, whatever the meeting.

Rules, as the session's (session/PROTOCOL.md) with one meeting at a time in place of carriers:

S1. Everything unacknowledged is kept, and sent again in a later meeting, never on a timer.
S2. Nothing is sent beyond the peer's limit. An EOF takes one unit after the last byte and needs no credit.
S3. In a new meeting, who has something unacknowledged waits for the peer's WINDOW and goes on from there:
    nothing is repeated that has come.
S4. ``received`` and ``limit`` of a WINDOW only grow here; above what was sent is the peer's fault.
"""

from __future__ import annotations

from typing import Final

from ptproxy.buffer import Buffer, SendBuffer
from ptproxy.e2e.stream.frames import Window
from ptproxy.e2e.stream.receiving import INITIAL_WINDOW
from ptproxy.e2e.stream.refusals import StreamRuleError
from ptproxy.errors import LocalProtocolError

MAX_RETAINED: Final = 4 << 20
"""Bytes unacknowledged, beyond which no more is asked for: 10 MiB/s over 0.4 s."""


class Outgoing:
    """What this side sends."""

    __slots__ = ("_buffer", "_high", "acknowledged", "final", "limit", "sent", "waiting")

    def __init__(self) -> None:
        self._buffer = SendBuffer()
        self._high = 0  # units ever sent
        self.acknowledged = 0
        """Units that the peer has."""
        self.sent = 0
        """Units sent in this meeting or acknowledged."""
        self.limit = INITIAL_WINDOW
        """The peer's permission."""
        self.final: int | None = None
        """Where the direction ends, once that is said."""
        self.waiting = False
        """For the peer's word from where to go on (S3)."""

    def write(self, data: bytes) -> None:
        """More bytes, not none; :class:`LocalProtocolError` behind the end."""
        if self.final is not None:
            raise LocalProtocolError("stream: written behind its end")
        self._buffer.append(data)

    def end(self) -> None:
        """Nothing more will be written."""
        if self.final is None:
            self.final = self._buffer.end

    def room(self) -> int:
        """Bytes that may be written before the writer should wait; negative: it wrote more than that."""
        return min(self.limit, self.acknowledged + MAX_RETAINED) - self._buffer.end

    def meet(self) -> None:
        """Another meeting begins."""
        self.sent = self.acknowledged
        self.waiting = self.acknowledged < self._high

    def heard(self, window: Window) -> None:
        """The peer has told what it has and what it permits; :class:`StreamRuleError` by S4."""
        if window.received > self._high:
            raise StreamRuleError("stream: an acknowledgement of what was never sent")
        if window.received > self.acknowledged:
            self.acknowledged = window.received
            self._buffer.release(min(window.received, self._buffer.end))
            self.sent = max(self.sent, window.received)
        self.limit = max(self.limit, window.limit)
        self.waiting = False

    def pending(self) -> int:
        """Bytes that may be sent now."""
        return 0 if self.waiting else max(0, min(self._buffer.end, self.limit) - self.sent)

    def ends_at(self, offset: int) -> bool:
        """Whether an EOF is to follow what reaches up to ``offset``."""
        return offset == self.final and not self.waiting

    def take(self, size: int, out: list[Buffer]) -> None:
        """Hand out the next ``size`` (> 0) bytes that are pending."""
        self._buffer.copy_to(out, self.sent, size)
        self._say(size)

    def take_end(self) -> None:
        """The EOF is said."""
        self._say(1)

    @property
    def outstanding(self) -> bool:
        """Whether the peer still has to say that it got something."""
        return self.waiting or self.acknowledged < self.sent

    @property
    def done(self) -> bool:
        """Whether the peer has everything, the end included."""
        return self.final is not None and self.acknowledged > self.final

    def drop(self) -> None:
        """The stream is broken off: nothing more is sent."""
        self._buffer.release(self._buffer.end)
        self.sent = self.acknowledged = self._high = self._buffer.end
        self.final, self.waiting = None, False

    def _say(self, units: int) -> None:
        self.sent += units
        self._high = max(self._high, self.sent)
