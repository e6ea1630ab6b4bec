"""The stream dependencies a browser names in HEADERS and PRIORITY frames.

Chromium (``net/spdy/http2_priority_dependencies.cc``, read 2026-11; confirmed
by recordings of Chromium 156) keeps the open streams in one line: by priority,
the most urgent first, and within one priority by age. A new stream depends,
exclusively, on the last one that is at least as urgent. Where a stream changes
its priority, PRIORITY frames say so of the stream behind it and then of itself,
if what it depends on changes. Firefox (recorded 153) depends on nothing, is not
exclusive, and never changes.
"""

from __future__ import annotations

from ptproxy.codec.http2.frames import Priority


class DependencyLine:
    """The open streams of one connection, most urgent first."""

    __slots__ = ("_bands", "_urgency", "_weights")

    def __init__(self, weights: tuple[int, ...]) -> None:
        self._weights = weights
        self._bands: list[list[int]] = [[] for _ in weights]
        self._urgency: dict[int, int] = {}

    def add(self, stream: int, urgency: int) -> Priority:
        """The signal for a stream that opens; urgency 0 is the most urgent."""
        priority = Priority(self._last(urgency), self._weights[urgency], True)
        self._bands[urgency].append(stream)
        self._urgency[stream] = urgency
        return priority

    def change(self, stream: int, urgency: int) -> list[tuple[int, Priority]]:
        """What PRIORITY frames say, in order, when an open stream becomes more or less urgent."""
        old = self._urgency.get(stream)
        if old is None or old == urgency:
            return []
        parent, child = self._neighbours(stream, old)
        new_parent = self._last(urgency)
        if new_parent == stream:
            new_parent = parent
        changes: list[tuple[int, Priority]] = []
        if new_parent != parent:
            if child:
                changes.append((child, Priority(parent, self._weights[self._urgency[child]], True)))
            changes.append((stream, Priority(new_parent, self._weights[urgency], True)))
        self._bands[old].remove(stream)
        self._bands[urgency].append(stream)
        self._urgency[stream] = urgency
        return changes

    def remove(self, stream: int) -> None:
        """A stream has closed."""
        urgency = self._urgency.pop(stream, None)
        if urgency is not None:
            self._bands[urgency].remove(stream)

    def _last(self, urgency: int) -> int:
        """The last stream at least as urgent; 0 without any."""
        for band in reversed(self._bands[: urgency + 1]):
            if band:
                return band[-1]
        return 0

    def _neighbours(self, stream: int, urgency: int) -> tuple[int, int]:
        """Who stands before and behind an open stream; 0 for nobody."""
        band = self._bands[urgency]
        at = band.index(stream)
        before = band[at - 1] if at else (self._last(urgency - 1) if urgency else 0)
        if at + 1 < len(band):
            return before, band[at + 1]
        behind = next((later[0] for later in self._bands[urgency + 1 :] if later), 0)
        return before, behind
