"""A page's requests over one HTTP/1.1 connection, one after another.

The methods and events are those of :class:`~ptproxy.codec.http2.client.H2Client`,
as far as a page load needs them; header lists come as for HTTP/2 and are
written as the browser writes HTTP/1.1. The most urgent request that waits goes
next. A browser would open up to six connections: a site that offers HTTP/2 is
the better cover.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.head import ResponseHead, ResponseReader
from ptproxy.codec.http1_fields import request_head
from ptproxy.codec.http2.hpack import Field
from ptproxy.codec.http2.stream import (
    ConnectionEnded,
    DataReceived,
    H2Event,
    H2Stream,
    HeadReceived,
    StreamEnded,
    StreamReset,
)
from ptproxy.codec.http_body import BodyReader, LengthBody, response_body
from ptproxy.errors import CodecError

MAX_INTERIM: Final = 8
"""1xx responses before a final one: browsers see at most a few 103."""
CANCELLED: Final = 8
"""The code of a request that ends with its connection (RFC 9113 section 7: CANCEL)."""


class H1Client:
    """One connection of a browser."""

    __slots__ = (
        "_body", "_browser", "_current", "_ended", "_interim", "_keep", "_out", "_reader", "_waiting",
    )  # fmt: skip

    def __init__(self, browser: str) -> None:
        """``browser``: the name in its data, which decides how a head is written."""
        self._browser = browser
        self._waiting: list[H2Stream] = []
        self._current: H2Stream | None = None
        self._reader = ResponseReader()
        self._body: BodyReader | None = None
        self._out: list[Buffer] = []
        self._interim = 0
        self._keep = True
        self._ended = False

    @property
    def ending(self) -> bool:
        """No new request can be sent."""
        return self._ended

    def send_request(
        self, fields: Sequence[Field], urgency: int, body: Sequence[Buffer] | None, now: float
    ) -> H2Stream:
        """A request, as over HTTP/2; it goes out when its turn comes. Bodies are not for page loads."""
        stream = H2Stream(list(fields), urgency, deque(), local_ended=True)
        self._waiting.append(stream)
        self._next()
        return stream

    def send_priority(self, stream: H2Stream, urgency: int) -> None:
        """The request became more or less urgent."""
        stream.urgency = urgency

    @property
    def resets_alone(self) -> bool:
        """To break an answer off is to close the connection."""
        return False

    def send_reset(self, stream: H2Stream) -> None:
        """The request is given up; where it is under way, and with it the connection, no other follows."""
        if stream in self._waiting:
            self._waiting.remove(stream)
        elif stream is self._current:
            self._ended = True

    def deadline(self) -> float | None:
        """No time of its own."""
        return None

    def on_deadline(self, now: float) -> list[H2Event]:
        """Nothing is ever due."""
        return []

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written."""
        out, self._out = self._out, []
        return out

    def receive_data(self, data: Buffer, now: float) -> list[H2Event]:
        """Feed what the connection received. Raises :class:`CodecError`; nothing follows it."""
        events: list[H2Event] = []
        try:
            rest: memoryview = memoryview(data)
            while rest and not self._ended:
                rest = self._receive(rest, events)
        except CodecError:
            self._end("", events)
            raise
        return events

    def receive_eof(self) -> list[H2Event]:
        """The connection ended."""
        events: list[H2Event] = []
        stream = self._current
        if stream is not None and self._body is not None and self._body.receive_eof():
            self._current = None
            events.append(StreamEnded(stream, []))
        self._end("the connection was closed", events)
        return events

    def _receive(self, data: memoryview, events: list[H2Event]) -> memoryview:
        stream = self._current
        if stream is None:
            self._end("the server said something unasked", events)  # such as 408 before it closes
            return data[:0]
        if self._body is None:
            head = self._reader.receive_data(data)
            if head is None:
                return data[:0]
            data = memoryview(self._reader.rest)
            self._head(stream, head, events)
        else:
            parts: list[memoryview] = []
            used = self._body.receive_data(data, parts)
            events += [DataReceived(stream, part) for part in parts]
            data = data[used:]
        if self._body is not None and self._body.done:
            self._complete(stream, events)
        return data

    def _head(self, stream: H2Stream, head: ResponseHead, events: list[H2Event]) -> None:
        if head.status < 200:
            self._interim += 1
            if head.status == 101 or self._interim > MAX_INTERIM:
                raise CodecError(f"unexpected answer {head.status}")
            return
        options = head.tokens("connection")
        self._keep = "close" not in options and (head.version == "HTTP/1.1" or "keep-alive" in options)
        fields = [(name.lower(), value) for name, value in head.headers]
        events.append(HeadReceived(stream, head.status, fields))
        self._body = LengthBody(0) if head.status in (204, 304) else response_body(head)

    def _complete(self, stream: H2Stream, events: list[H2Event]) -> None:
        self._body = self._current = None
        self._interim = 0
        events.append(StreamEnded(stream, []))
        if self._keep:
            self._next()
        else:
            self._end("the server closes", events)

    def _next(self) -> None:
        """Send the request whose turn it is, if none is under way."""
        if self._current is not None or not self._waiting or self._ended:
            return
        stream = min(self._waiting, key=lambda one: one.urgency)
        self._waiting.remove(stream)
        self._current = stream
        self._out.append(request_head(self._browser, stream.fields).serialize())

    def _end(self, reason: str, events: list[H2Event]) -> None:
        if self._ended:
            return
        self._ended = True
        left = [self._current, *self._waiting] if self._current is not None else self._waiting
        events += [StreamReset(stream, CANCELLED) for stream in left]
        self._current, self._waiting = None, []
        events.append(ConnectionEnded(reason))
