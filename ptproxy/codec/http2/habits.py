"""What distinguishes one browser's HTTP/2 connections from another's: data for :class:`H2Client`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ptproxy.codec.http2.frames import MAX_FRAME
from ptproxy.codec.http2.hpack import HpackHabits
from ptproxy.errors import LocalProtocolError


@dataclass(frozen=True, slots=True)
class H2Habits:
    """One browser's. Sizes in bytes, times in seconds."""

    settings: tuple[tuple[int, int], ...]
    """The first SETTINGS frame, in order."""
    connection_increment: int
    """The WINDOW_UPDATE of the connection behind it."""
    stream_increment: int
    """A WINDOW_UPDATE in the same write as each HEADERS; 0: none."""
    first_stream: int
    hpack: HpackHabits
    weights: tuple[int, ...]
    """Of a stream dependency, by the browser's own urgency, 0 the most urgent."""
    in_line: bool
    """Each stream depends exclusively on the last one as urgent; otherwise all on none."""
    initial_streams: int
    """Open streams before the server names a limit."""
    most_streams: int
    """Open streams whatever the server allows."""
    body_piece: int
    """Bytes of a request's body read at a time: the largest DATA frame."""
    renew_stream_at: int
    """Bytes read of a stream after which its window is renewed."""
    renew_connection_at: int
    renew_after: float | None
    """Time since a window's last renewal after which the next byte read renews it; None: never by time."""
    ping_after: float | None
    """Silence of the server after which a request is followed by a PING; None: no such PING."""
    ping_wait: float
    """Silence after that PING which means that the server is gone."""
    resets_304: bool
    """A 304 is followed by RST_STREAM(CANCEL), though the stream has closed."""

    def setting(self, name: int, default: int) -> int:
        """A setting's value in the first SETTINGS frame."""
        return dict(self.settings).get(name, default)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> H2Habits:
        """From the ``http2`` part of a browser's data file; :class:`LocalProtocolError` where it is wrong."""
        try:
            values = dict(data)
            hpack = values.pop("hpack")
            habits = cls(
                settings=tuple((int(name), int(value)) for name, value in values.pop("settings")),
                weights=tuple(int(weight) for weight in values.pop("weights")),
                hpack=HpackHabits(
                    frozenset(hpack["unindexed"]),
                    frozenset(hpack.get("never_indexed", ())),
                    bool(hpack.get("huffman_always", False)),
                    bool(hpack.get("highest_name", False)),
                    frozenset(hpack.get("literal", ())),
                    int(hpack.get("short_cookie", 0)),
                ),
                **values,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise LocalProtocolError(f"browser data: http2 is malformed: {error!r}") from None
        if not 0 < habits.body_piece <= MAX_FRAME or not all(1 <= one <= 256 for one in habits.weights):
            raise LocalProtocolError("browser data: http2 has a value out of range")
        return habits
