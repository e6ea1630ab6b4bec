"""One HTTP/1.1 connection of a browser that loads a page: one request at a time.

Header lists come as for HTTP/2 and are written as the browser writes HTTP/1.1;
what comes of them are the events of :mod:`ptproxy.codec.http2.stream`. Which
request goes where is :mod:`ptproxy.codec.page.h1_pool`'s.
"""

from __future__ import annotations

from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.head import ResponseHead, ResponseReader
from ptproxy.codec.http1_fields import request_head
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
        "_body", "_browser", "_current", "_heard", "_interim", "_keep", "_out", "_reader", "_reused",
        "ending", "returned",
    )  # fmt: skip

    def __init__(self, browser: str) -> None:
        """``browser``: the name in its data, which decides how a head is written."""
        self._browser = browser
        self._current: H2Stream | None = None
        self._reader = ResponseReader()
        self._body: BodyReader | None = None
        self._out: list[Buffer] = []
        self._interim = 0
        self._keep = True
        self._reused = self._heard = False
        self.ending = False
        """No new request can be sent."""
        self.returned: H2Stream | None = None
        """A request that crossed the server's close: browsers send it again elsewhere."""

    @property
    def idle(self) -> bool:
        """A request can be sent now."""
        return self._current is None and not self.ending

    @property
    def current(self) -> H2Stream | None:
        """The request under way."""
        return self._current

    def start(self, stream: H2Stream) -> None:
        """Send a request; only where :attr:`idle`."""
        self._current = stream
        self._heard = False
        self._out.append(request_head(self._browser, stream.fields).serialize())

    def break_off(self) -> None:
        """Give the request up that is under way, and with it the connection."""
        self.ending = True
        self._current = None

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written."""
        out, self._out = self._out, []
        return out

    def receive_data(self, data: Buffer, now: float) -> list[H2Event]:
        """Feed what the connection received; nonsense ends it."""
        events: list[H2Event] = []
        try:
            rest: memoryview = memoryview(data)
            while rest and not self.ending:
                rest = self._receive(rest, events)
        except CodecError as error:
            self._end(str(error), events)
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
        self._heard = True
        if self._body is None:
            head = self._reader.receive_data(data)
            if head is None:
                return data[:0]
            data = memoryview(self._reader.rest)
            self._head(stream, head, events)
        else:
            parts: list[memoryview] = []
            try:
                used = self._body.receive_data(data, parts)
            finally:  # what came before nonsense counts, whether it came with it or not
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
        self._reused = True
        if not self._keep:
            self._end("the server closes", events)

    def _end(self, reason: str, events: list[H2Event]) -> None:
        if self.ending:
            return
        self.ending = True
        stream, self._current = self._current, None
        if stream is not None and self._reused and not self._heard:
            self.returned = stream
        elif stream is not None:
            events.append(StreamReset(stream, CANCELLED))
        events.append(ConnectionEnded(reason))
