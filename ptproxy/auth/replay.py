"""Which openings a bridge has already seen.

An opening names the time at which it was made. It is acceptable while that
time is within ``window`` seconds of the bridge's clock, and only once; so
what was seen has to be remembered until its time has left the window.

Rules:

1. An opening is known by its Noise ephemeral key, which every later byte of
   the handshake depends on: the same message 1 under another mask, or with
   anything else around it changed, is the same opening.
2. Entries stand in buckets by the time they claim; a bucket is dropped when
   all of it has left the window, to whichever side.
3. The seconds of a dropped bucket are refused for good, and no others: a clock
   that jumps, either way, re-admits nothing, and once it is right again keeps
   out nobody but who claims a second of a bucket that was in use during the jump.
   They are kept as at most :data:`~ptproxy.auth.spans.MAX_SPANS` intervals.
   Times before ``floor``, the filter's start, are refused (what came then is unknown).
4. At most ``limit`` entries are kept. Beyond it nothing is admitted (fail
   closed) until a bucket leaves the window.

Without I/O: one process, one filter. A snapshot lets a clean restart go on; for a start
without one :func:`outline` and :func:`unknown_until` say what has to be refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, Protocol

from ptproxy.auth.spans import Spans
from ptproxy.errors import ConfigError

WINDOW: Final = 60
"""Seconds by which a peer's clock may differ, either way (phones without NTP differ by many seconds)."""
BUCKET: Final = 15
"""Seconds of one bucket: few buckets to look through, little kept too long."""
MAX_ENTRIES: Final = 1 << 19
"""Openings remembered at most: 4,300 a second over the whole window, about 70 MiB when full."""
ENTRY: Final = 16
"""Bytes kept of an ephemeral key: 128 bits of it collide for nobody."""

SNAPSHOT_VERSION: Final = 2
READ_VERSIONS: Final = (1, 2)
"""Snapshots that can be taken up. In version 1 a floor that rose stood for the dropped buckets."""


class ReplayVerdict(Enum):
    """What :meth:`ReplayFilter.check_and_add` found; the value is a text for the log."""

    FRESH = "fresh"
    REPLAYED = "an opening seen before"
    SKEWED = "the time is not within the window (a clock is wrong)"
    BEFORE_START = "made before this bridge began to watch for replays"
    FORGOTTEN = "made at a time of which the openings are no longer remembered (the clock has jumped)"
    FULL = "the replay filter is full: no opening is admitted until it has room"


class Openings(Protocol):
    """What judges openings: a :class:`ReplayFilter`, or one that several processes share."""

    def __contains__(self, ephemeral: bytes) -> bool:
        """Whether an opening with this ephemeral key (32 bytes) is remembered: a cheap early test."""

    def check_and_add(self, ephemeral: bytes, made: int, unix_now: float) -> ReplayVerdict:
        """Judge an opening that has verified, made at unix time ``made``; remember it if FRESH."""


class ReplayFilter:
    """Openings seen, by ephemeral key. ``started`` is the unix time from which it has seen all."""

    __slots__ = ("_buckets", "_dropped", "_entries", "_floor", "_limit", "_window")

    def __init__(self, started: float, window: int = WINDOW, limit: int = MAX_ENTRIES) -> None:
        self._floor = started
        self._window = window
        self._limit = limit
        self._buckets: dict[int, set[bytes]] = {}
        self._dropped = Spans()
        self._entries = 0

    def __len__(self) -> int:
        """How many openings are remembered."""
        return self._entries

    def __contains__(self, ephemeral: bytes) -> bool:
        """Whether an opening with this ephemeral key (32 bytes) is remembered: a cheap early test."""
        entry = ephemeral[:ENTRY]
        return any(entry in bucket for bucket in self._buckets.values())

    def check_and_add(self, ephemeral: bytes, made: int, unix_now: float) -> ReplayVerdict:
        """Judge an opening that has verified, made at unix time ``made``; remember it if FRESH."""
        self._expire(unix_now)
        if abs(made - unix_now) > self._window:
            return ReplayVerdict.SKEWED
        if made < self._floor:
            return ReplayVerdict.BEFORE_START
        if made in self._dropped:
            return ReplayVerdict.FORGOTTEN
        if ephemeral in self:
            return ReplayVerdict.REPLAYED
        if self._entries >= self._limit:
            return ReplayVerdict.FULL
        self._buckets.setdefault(made // BUCKET, set()).add(ephemeral[:ENTRY])
        self._entries += 1
        return ReplayVerdict.FRESH

    def _expire(self, unix_now: float) -> None:
        """Drop the buckets that have left the window."""
        for number in [number for number in self._buckets if has_left(number, unix_now, self._window)]:
            self._dropped.add(*seconds_of(number))
            self._entries -= len(self._buckets.pop(number))

    def snapshot(self) -> dict[str, Any]:
        """All of it, JSON-able.

        Take it after the last opening was examined and use it once: a snapshot
        that lacks a later opening would admit that one again.
        """
        return {
            "version": SNAPSHOT_VERSION,
            "floor": self._floor,
            "dropped": [list(span) for span in self._dropped],
            "seen": {
                str(number): base64.b64encode(b"".join(sorted(bucket))).decode("ascii")
                for number, bucket in sorted(self._buckets.items())
            },
        }

    @classmethod
    def restore(
        cls, snapshot: Mapping[str, Any], window: int = WINDOW, limit: int = MAX_ENTRIES
    ) -> ReplayFilter:
        """A filter that goes on where :meth:`snapshot` ended; :class:`ConfigError` when it is damaged.

        After such an error start a new filter at :func:`unknown_until`: that is safe, and
        refuses for a while also those whose clock is right.
        """
        try:
            if snapshot["version"] not in READ_VERSIONS:
                raise ConfigError(["replay snapshot: of a version that this program does not know"])
            replay = cls(_number(snapshot["floor"]), window, limit)
            if snapshot["version"] > 1:
                replay._dropped = Spans.parse(snapshot["dropped"])
            for number, text in snapshot["seen"].items():
                data = base64.b64decode(text, validate=True)
                if not data or len(data) % ENTRY:
                    raise ValueError
                bucket = {data[start : start + ENTRY] for start in range(0, len(data), ENTRY)}
                replay._buckets[int(number)] = bucket
                replay._entries += len(bucket)
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
            raise ConfigError(["replay snapshot: damaged"]) from None
        return replay

    def __repr__(self) -> str:
        return f"<ReplayFilter {self._entries} of {self._limit}>"


def seconds_of(number: int) -> tuple[int, int]:
    """First and last second of a bucket."""
    return number * BUCKET, (number + 1) * BUCKET - 1


def has_left(number: int, unix_now: float, window: int) -> bool:
    """Whether no second of a bucket is within the window."""
    first, last = seconds_of(number)
    return last + 1 <= unix_now - window or first > unix_now + window


def outline(snapshot: Mapping[str, Any]) -> Spans:
    """What is to be refused by whoever goes on from a snapshot without the openings themselves."""
    spans = Spans.parse(snapshot.get("dropped", []))
    for number in snapshot["seen"]:
        spans.add(*seconds_of(int(number)))
    return spans


def unknown_until(unix_now: float, window: int = WINDOW) -> int:
    """The start of a filter that knows nothing of openings answered up to ``unix_now``.

    A client's clock may have been ahead by the whole window.
    """
    return int(unix_now) + window + 1


def _number(value: object) -> float:
    """``value`` where it is a finite, sensible unix time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**63:
        raise ValueError
    return value
