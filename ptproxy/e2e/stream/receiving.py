"""One direction's receiving half: what has come, what was read of it, and what the peer is told.

Rules:

C1. Bytes come one after another, nothing twice (S3). Any other offset, anything beyond the limit that was
    granted or behind the EOF is the peer's fault.
C2. ``received`` counts what has come, not what was read; ``limit`` is what was read and the window. A limit
    once granted stays.
C3. A WINDOW is owed at the beginning of each meeting, after 64 KiB, when a quarter of the window was
    read, at an EOF; otherwise 0.1 s after the first byte.
C4. The window grows when the reader has kept up with a whole one.
"""

from __future__ import annotations

from typing import Final

from ptproxy.e2e.stream.frames import Data, Window
from ptproxy.e2e.stream.refusals import StreamRuleError

INITIAL_WINDOW: Final = 256 << 10
"""Bytes that may come before anything was read; part of the protocol."""
MAX_WINDOW: Final = 4 << 20
"""Bytes that may wait for a reader who has kept up so far: 10 MiB/s over 0.4 s."""
ACK_BYTES: Final = 64 << 10
"""Bytes after which a WINDOW is owed at once."""
ACK_DELAY: Final = 0.1
"""Seconds after which it is owed for any byte."""


class Incoming:
    """What this side receives."""

    __slots__ = (
        "_owed_since",
        "_read",
        "_said",
        "_since_growth",
        "_urgent",
        "final",
        "limit",
        "received",
        "window",
    )

    def __init__(self) -> None:
        self._read = 0
        self._said = 0
        self._since_growth = 0
        self._owed_since: float | None = None
        self._urgent = False
        self.received = 0
        """Units that have come."""
        self.limit = INITIAL_WINDOW
        """The highest that was granted."""
        self.window = INITIAL_WINDOW
        self.final: int | None = None
        """Where the direction ends, once it has."""

    def meet(self) -> None:
        """Another meeting begins (C3)."""
        self._urgent = True

    def take_in(self, frame: Data, now: float) -> None:
        """Bytes have come; :class:`StreamRuleError` by C1."""
        end = frame.offset + len(frame.data)
        if frame.offset != self.received or end > self.limit or self.final is not None:
            raise StreamRuleError("stream: bytes where none may be")
        self.received = end
        if self._owed_since is None:
            self._owed_since = now

    def take_end(self, final: int) -> None:
        """The direction has ended; :class:`StreamRuleError` by C1."""
        if final != self.received or self.final is not None:
            raise StreamRuleError("stream: an end where none may be")
        self._urgent = True
        self.final = final
        self.received = final + 1

    def consume(self, size: int) -> None:
        """The reader has taken ``size`` bytes."""
        self._read += size
        self._since_growth += size
        if self._since_growth >= self.window < MAX_WINDOW and self._read >= self.received:
            self._since_growth = 0
            self.window = min(2 * self.window, MAX_WINDOW)

    def owes(self) -> bool:
        """Whether a WINDOW would tell something that the peer does not know."""
        return self._urgent or self._owed_since is not None or self._read + self.window > self.limit

    def due(self, now: float) -> bool:
        """Whether it is to be told now, even by itself (C3)."""
        return (
            self._urgent
            or self.received - self._said >= ACK_BYTES
            or (self.final is None and 4 * (self._read + self.window - self.limit) >= self.window)
            or (self._owed_since is not None and now >= self._owed_since + ACK_DELAY)
        )

    def deadline(self) -> float | None:
        """When :meth:`due` becomes so by itself."""
        return None if self._owed_since is None else self._owed_since + ACK_DELAY

    def tell(self) -> Window:
        """What is told now."""
        self.limit = max(self.limit, self._read + self.window)
        self._said = self.received
        self._urgent, self._owed_since = False, None
        return Window(self.received, self.limit)

    @property
    def done(self) -> bool:
        """Whether everything has come, the end included, and the peer was told."""
        return self.final is not None and self._said > self.final
