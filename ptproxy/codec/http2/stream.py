"""One request over HTTP/2 and what comes of it: streams, their events, and flow-control credit."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ptproxy.buffer import Buffer
from ptproxy.codec.http2.frames import MAX_WINDOW
from ptproxy.codec.http2.hpack import Field
from ptproxy.errors import CodecError


class Credit:
    """A receive window: what the server may still send, and when a browser renews it.

    Chromium renews once more than half of the window has been read, or after
    5 s as soon as anything has (``net/spdy/spdy_session.cc`` and
    ``spdy_stream.cc``, read 2026-11; recorded).
    """

    __slots__ = ("_after", "_at", "_left", "_renewed", "_unread")

    def __init__(self, size: int, at: int, after: float | None, now: float) -> None:
        self._left = size
        self._at = at
        self._after = after
        self._renewed = now
        self._unread = 0  # bytes consumed and not yet given back

    def receive(self, size: int) -> None:
        """The server has sent ``size`` bytes. Raises :class:`CodecError` if it must not."""
        if size > self._left:
            raise CodecError("HTTP/2: more data than the window allows")
        self._left -= size

    def consume(self, size: int, now: float) -> int:
        """``size`` bytes were read; returns by how much the window is to be raised now, or 0."""
        self._unread += size
        due = self._unread >= self._at
        if not due and self._after is not None:
            due = now - self._renewed >= self._after
        if not due or not self._unread:
            return 0
        given, self._unread = self._unread, 0
        self._left += given
        self._renewed = now
        return given


@dataclass(slots=True, eq=False)
class H2Stream:
    """A request under way. Its number is 0 until the server's limit of streams lets it open."""

    fields: list[Field]
    urgency: int
    body: deque[memoryview]
    """What of the request's body is still to be sent."""
    number: int = 0
    window: int = 0
    """Bytes that the server will take; a changed setting can make it negative."""
    credit: Credit | None = None
    status: int = 0
    """The final response's status, 0 before."""
    interim: int = 0
    """1xx responses seen."""
    local_ended: bool = False
    remote_ended: bool = False
    given_up: bool = False
    """Cancelled by us."""
    piece: int = 0
    """Bytes left of the piece of body that is being sent (see ``H2Habits.body_piece``)."""

    def grow(self, increment: int) -> bool:
        """Raise the send window; False where it would pass the most RFC 9113 section 6.9.1 allows."""
        self.window += increment
        return self.window <= MAX_WINDOW


# ---- events --------------------------------------------------------------------------------------


@dataclass(slots=True)
class InterimReceived:
    """A 1xx response, such as 103 Early Hints."""

    stream: H2Stream
    status: int
    fields: list[Field]


@dataclass(slots=True)
class HeadReceived:
    """The head of the final response; ``fields`` without ``:status``."""

    stream: H2Stream
    status: int
    fields: list[Field]


@dataclass(slots=True)
class DataReceived:
    """Part of a body: perhaps a view of the data given, valid until the caller's next call in."""

    stream: H2Stream
    data: Buffer


@dataclass(slots=True)
class StreamEnded:
    """The response is complete."""

    stream: H2Stream
    trailers: list[Field]


@dataclass(slots=True)
class StreamReset:
    """The stream ends without a complete response.

    ``code`` as in RST_STREAM; REFUSED_STREAM means that the server has not
    looked at the request, so that it may be sent again elsewhere.
    """

    stream: H2Stream
    code: int


@dataclass(slots=True)
class ConnectionEnding:
    """GOAWAY: no new stream on this connection; those the server has taken on go on."""

    code: int


@dataclass(slots=True)
class ConnectionEnded:
    """Nothing more comes; each open stream has had its :class:`StreamReset` before."""

    reason: str


H2Event = (
    InterimReceived
    | HeadReceived
    | DataReceived
    | StreamEnded
    | StreamReset
    | ConnectionEnding
    | ConnectionEnded
)
