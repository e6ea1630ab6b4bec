"""A client's HTTP/2 connection as a browser's: the same frames in the same writes (RFC 9113).

Order of a connection's life::

    h2 = H2Client(habits, now)
    for write in h2.data_to_send(): transport.write(write)     # one write is one TLS record: keep them apart
    stream = h2.send_request(fields, urgency, body, now)       # at once: the browser's first HEADERS follows
    for event in h2.receive_data(data, now): ...               # then data_to_send() again

What makes it a browser's is data (:class:`H2Habits`): the first SETTINGS and
WINDOW_UPDATE, one write a frame, HPACK's choices, stream dependencies, when
windows are renewed, the size of DATA frames, a PING behind the request that
follows a silence. Sources: recordings of Chromium 156 and Firefox 153 on
Debian 12 (2026-11), ``net/spdy`` of Chromium.

Writing is :mod:`ptproxy.codec.http2.sender`'s, this module reads.

Data counts as read when it is handed out: who cannot take more stops reading
the connection. Anything a server must not send raises :class:`CodecError`, and
a GOAWAY is then the last thing to write; a malformed response ends only its
stream, as in browsers. Content-Length is not compared with the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.http2 import frames
from ptproxy.codec.http2.blocks import BlockReader, final_status, is_trailers
from ptproxy.codec.http2.frames import ErrorCode, Frame, FrameReader
from ptproxy.codec.http2.habits import H2Habits
from ptproxy.codec.http2.hpack import Field
from ptproxy.codec.http2.sender import DEFAULT_WINDOW, H2Sender
from ptproxy.codec.http2.stream import (
    ConnectionEnded,
    ConnectionEnding,
    Credit,
    DataReceived,
    H2Event,
    H2Stream,
    HeadReceived,
    InterimReceived,
    StreamEnded,
    StreamReset,
)
from ptproxy.errors import CodecError

MAX_INTERIM: Final = 8
"""1xx responses before a final one: browsers see at most a few 103."""


class H2Client:
    """One connection."""

    __slots__ = ("_blocks", "_credit", "_ended", "_greeted", "_habits", "_reader", "_sender")

    def __init__(self, habits: H2Habits, now: float) -> None:
        self._habits = habits
        self._sender = H2Sender(habits, now)
        self._reader = FrameReader()
        self._blocks = BlockReader(habits.setting(frames.HEADER_TABLE_SIZE, 4096))
        size = DEFAULT_WINDOW + habits.connection_increment
        self._credit = Credit(size, habits.renew_connection_at, habits.renew_after, now)
        self._greeted = self._ended = False

    @property
    def resets_alone(self) -> bool:
        """RST_STREAM ends one request and no other."""
        return True

    def hello_was_sent(self) -> None:
        """Who made the connection has written preface, SETTINGS and WINDOW_UPDATE, as libcurl does."""
        self._sender.drop_hello()

    @property
    def ending(self) -> bool:
        """No new request can be sent: GOAWAY came, the connection ended or its numbers are used up."""
        return self._sender.ending

    @property
    def more_to_send(self) -> bool:
        """``data_to_send()`` has more to give once what it gave is written."""
        return self._sender.more_to_send

    @property
    def open_streams(self) -> int:
        """How many requests are under way."""
        return len(self._sender.streams)

    def send_request(
        self, fields: Sequence[Field], urgency: int, body: Sequence[Buffer] | None, now: float
    ) -> H2Stream:
        """A request with its header list in order, cookies in crumbs.

        ``urgency`` is the browser's own scale, 0 the most urgent. ``body`` None
        or empty means none; its buffers must not change. Goes out with the next
        ``data_to_send()`` unless as many streams as the server allows are open.
        """
        return self._sender.send_request(fields, urgency, body, now)

    def send_priority(self, stream: H2Stream, urgency: int) -> None:
        """The request became more or less urgent, as an image does that turns out to be visible."""
        self._sender.send_priority(stream, urgency)

    def send_reset(self, stream: H2Stream, code: int = ErrorCode.CANCEL) -> None:
        """Give a request up; no event of it follows."""
        self._sender.send_reset(stream, code)

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written, each buffer by a write of its own: one TLS record."""
        return self._sender.data_to_send()

    # ---- what arrives ----------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[H2Event]:
        """Feed what the connection received. After a :class:`CodecError` nothing is accepted any more."""
        events: list[H2Event] = []
        if self._ended:
            return events
        self._sender.last_read = self._sender.now = now
        try:
            for frame in self._reader.receive_data(data):
                self._receive(frame, events)
        except CodecError:
            self._end("")
            self._sender.put(frames.goaway_frame(0, ErrorCode.PROTOCOL_ERROR))
            raise
        self._sender.admit()
        return events

    def receive_eof(self) -> list[H2Event]:
        """The server has closed the connection, or it broke."""
        return self._end("the server closed the connection")

    def deadline(self) -> float | None:
        """When an unanswered PING means that the server is gone."""
        return None if self._ended else self._sender.deadline()

    def on_deadline(self, now: float) -> list[H2Event]:
        """Time has come."""
        due = self.deadline()
        return self._end("the server does not answer") if due is not None and now >= due else []

    def _end(self, reason: str) -> list[H2Event]:
        if self._ended:
            return []
        self._ended = self._sender.ending = True
        events: list[H2Event] = [
            StreamReset(one, ErrorCode.CANCEL)
            for one in self._sender.streams.values()
            if not one.remote_ended
        ]
        events += [StreamReset(one, ErrorCode.REFUSED_STREAM) for one in self._sender.take_back()]
        self._sender.streams.clear()
        return [*events, ConnectionEnded(reason)]

    def _receive(self, frame: Frame, events: list[H2Event]) -> None:
        kind = frame.type
        if not self._greeted:
            if kind != frames.SETTINGS or frame.flags & frames.ACK:
                raise CodecError("HTTP/2: the server does not begin with its settings")
            self._greeted = True
        if self._blocks.open or kind == frames.CONTINUATION:
            self._blocks.add(frame)
            self._block_complete(events)
        elif kind == frames.DATA:
            self._data(frame, events)
        elif kind == frames.HEADERS:
            self._known(frame)
            self._blocks.begin(frame)
            self._block_complete(events)
        elif kind == frames.WINDOW_UPDATE:
            self._window_update(frame, events)
        elif kind == frames.RST_STREAM:
            stream = self._known(frame)
            if stream is not None:
                self._sender.forget(stream)
                if not stream.remote_ended:
                    events.append(StreamReset(stream, frames.parse_u32(frame)))
        elif kind == frames.SETTINGS:
            self._settings(frame, events)
        elif kind == frames.PING:
            self._pong(frame)
        elif kind == frames.GOAWAY:
            self._goaway(frame, events)
        elif kind == frames.PUSH_PROMISE:
            raise CodecError("HTTP/2: a push, which was not permitted")

    def _known(self, frame: Frame) -> H2Stream | None:
        """The open stream a frame is for; None for one that has closed."""
        number = frame.stream
        if number % 2 == 0 or number >= self._sender.next_number:
            raise CodecError(f"HTTP/2: a frame of type {frame.type} on stream {number}, which is idle")
        return self._sender.streams.get(number)

    def _data(self, frame: Frame, events: list[H2Event]) -> None:
        stream = self._known(frame)
        size = len(frame.payload)
        data = frames.without_padding(frame)
        self._credit.receive(size)
        raised = self._credit.consume(size, self._sender.now)
        if raised:
            self._sender.put(frames.window_update_frame(0, raised))
        if stream is None or stream.remote_ended:
            return
        assert stream.credit is not None
        stream.credit.receive(size)
        if not stream.status:
            self._refuse(stream, events)
            return
        ends = bool(frame.flags & frames.END_STREAM)
        if data:
            events.append(DataReceived(stream, data))
        if ends:
            self._remote_end(stream, [], events)
            return
        raised = stream.credit.consume(size, self._sender.now)
        if raised:
            self._sender.put(frames.window_update_frame(frame.stream, raised))

    def _block_complete(self, events: list[H2Event]) -> None:
        block = self._blocks.take()
        if block is None:
            return
        number, ends, fields = block
        stream = self._sender.streams.get(number)
        if stream is None or stream.remote_ended:
            return
        if stream.status:
            if ends and is_trailers(fields):
                self._remote_end(stream, fields, events)
            else:
                self._refuse(stream, events)
            return
        status = final_status(fields)
        if 100 <= status < 200 and status != 101 and not ends and stream.interim < MAX_INTERIM:
            stream.interim += 1
            events.append(InterimReceived(stream, status, fields[1:]))
        elif status < 200:
            self._refuse(stream, events)
        else:
            stream.status = status
            events.append(HeadReceived(stream, status, fields[1:]))
            if ends:
                self._remote_end(stream, [], events)

    def _remote_end(self, stream: H2Stream, trailers: list[Field], events: list[H2Event]) -> None:
        stream.remote_ended = True
        events.append(StreamEnded(stream, trailers))
        if stream.local_ended:
            if stream.status == 304 and self._habits.resets_304:
                self._sender.answer(frames.reset_frame(stream.number, ErrorCode.CANCEL))
            self._sender.forget(stream)

    def _refuse(self, stream: H2Stream, events: list[H2Event]) -> None:
        """A malformed response (RFC 9113 section 8.1.1) ends its stream."""
        self._sender.answer(frames.reset_frame(stream.number, ErrorCode.PROTOCOL_ERROR))
        self._sender.forget(stream)
        events.append(StreamReset(stream, ErrorCode.PROTOCOL_ERROR))

    def _window_update(self, frame: Frame, events: list[H2Event]) -> None:
        increment = frames.parse_u31(frame)
        if not frame.stream:
            if not increment or not self._sender.widen(increment):
                raise CodecError("HTTP/2: a window update by nothing or by too much")
            return
        stream = self._known(frame)
        if stream is not None and (not increment or not stream.grow(increment)):
            self._refuse(stream, events)

    def _settings(self, frame: Frame, events: list[H2Event]) -> None:
        pairs = frames.parse_settings(frame)
        if frame.flags & frames.ACK:
            return
        for name, value in pairs:
            for stream in self._sender.setting(name, value):
                self._refuse(stream, events)
        self._sender.answer(frames.SETTINGS_ACK)

    def _pong(self, frame: Frame) -> None:
        if frame.flags & frames.ACK:
            self._sender.pong()
            return
        self._sender.answer(frames.ping_frame(frame.payload, frames.ACK))

    def _goaway(self, frame: Frame, events: list[H2Event]) -> None:
        last = frames.parse_u31(frame)
        self._sender.ending = True
        refused = [
            one for number, one in self._sender.streams.items() if number > last and not one.remote_ended
        ]
        for stream in refused:
            self._sender.forget(stream)
        refused += self._sender.take_back()
        events += [StreamReset(stream, ErrorCode.REFUSED_STREAM) for stream in refused]
        events.append(ConnectionEnding(frames.parse_u32(frame, 4)))
