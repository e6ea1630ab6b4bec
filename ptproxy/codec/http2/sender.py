"""What a browser's HTTP/2 connection writes, and in which order: HEADERS, DATA and everything small.

What is to be written waits in one queue, most urgent first, and a HEADERS frame
is made when its turn comes: only then does its stream get a number and a place
among the others (so in Chromium's ``net/spdy/spdy_session.cc``, read 2026-11).
Frames other than HEADERS and DATA are as urgent as can be. DATA comes last, as
far as the server's windows reach.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.http2 import frames
from ptproxy.codec.http2.frames import ErrorCode, Priority
from ptproxy.codec.http2.habits import H2Habits
from ptproxy.codec.http2.hpack import Field, HpackEncoder
from ptproxy.codec.http2.priority import DependencyLine
from ptproxy.codec.http2.stream import Credit, H2Stream
from ptproxy.errors import CodecError, LocalProtocolError

DEFAULT_WINDOW: Final = 65535
"""Bytes of a window before anything is said about it (RFC 9113 section 6.9.2)."""
MAX_STREAM_NUMBER: Final = (1 << 31) - 1
"""The last stream of a connection."""
MAX_DRAIN: Final = 256 * 1024
"""Bytes of bodies that one ``data_to_send()`` hands out: what is urgent later need not wait for more."""
MAX_ANSWERS: Final = 1000
"""Acknowledgements and resets that the server has caused and that wait to be written; more is an attack."""


class H2Sender:
    """The writing half of one connection."""

    __slots__ = (
        "_answers", "_encoder", "_habits", "_limit", "_line", "_opening", "_order", "_ping_at",
        "_ping_number", "_queue", "_stream_window", "_waiting", "_window", "ending", "last_read",
        "next_number", "now", "streams",
    )  # fmt: skip

    def __init__(self, habits: H2Habits, now: float) -> None:
        self._habits = habits
        self._encoder = HpackEncoder(habits.hpack)
        self._line = DependencyLine(habits.weights)
        self._limit = habits.initial_streams
        self._window = self._stream_window = DEFAULT_WINDOW
        self._waiting: deque[H2Stream] = deque()  # beyond the limit
        self._queue: list[tuple[int, int, bytes | H2Stream]] = []  # a heap: urgency, order, what
        self._order = 0
        self._opening = 0  # streams in the queue
        self._answers = 0
        self._ping_at: float | None = None
        self._ping_number = 0
        self.now = self.last_read = now
        self.next_number = habits.first_stream
        """The number the next stream will have."""
        self.streams: dict[int, H2Stream] = {}
        """Open ones by number."""
        self.ending = False
        """No new request can be sent: GOAWAY came, the connection ended or its numbers are used up."""
        hello = frames.PREFACE + frames.settings_frame(habits.settings)
        self.put(hello + frames.window_update_frame(0, habits.connection_increment))

    def drop_hello(self) -> None:
        """See :meth:`H2Client.hello_was_sent`."""
        if self._order != 1 or not self._queue:
            raise LocalProtocolError("HTTP/2: the hello can be dropped only before anything else")
        self._queue.clear()

    def send_request(
        self, fields: Sequence[Field], urgency: int, body: Sequence[Buffer] | None, now: float
    ) -> H2Stream:
        """A request with its header list in order, cookies in crumbs.

        ``urgency`` is the browser's own scale, 0 the most urgent. ``body`` None
        or empty means none; its buffers must not change. Goes out with the next
        ``data_to_send()`` unless as many streams as the server allows are open.
        """
        if self.ending:
            raise LocalProtocolError("HTTP/2: a request on a connection that ends")
        self.now = now
        views = deque(memoryview(part) for part in body or () if len(part))
        stream = H2Stream(list(fields), urgency, views, local_ended=not views)
        self._waiting.append(stream)
        self.admit()
        return stream

    def send_priority(self, stream: H2Stream, urgency: int) -> None:
        """The request became more or less urgent, as an image does that turns out to be visible."""
        stream.urgency = urgency
        if stream.number in self.streams and self._habits.in_line:
            for number, priority in self._line.change(stream.number, urgency):
                self.put(frames.priority_frame(number, priority))

    def send_reset(self, stream: H2Stream, code: int = ErrorCode.CANCEL) -> None:
        """Give a request up; no event of it follows."""
        if stream in self._waiting:
            self._waiting.remove(stream)
        elif self.streams.get(stream.number) is stream:
            self.put(frames.reset_frame(stream.number, code))
            self.forget(stream)
        stream.given_up = True

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written, each buffer by a write of its own: one TLS record."""
        out: list[Buffer] = []
        queue = self._queue
        while queue:
            item = heapq.heappop(queue)[2]
            if isinstance(item, bytes):
                out.append(item)
                continue
            self._opening -= 1
            if not item.given_up:
                out.append(self._open(item))
                self._ping()
        self._send_bodies(out)
        self._answers = 0
        return out

    def answer(self, data: bytes) -> None:
        """Queue what the server has caused; raises :class:`CodecError` where it causes too much at once."""
        self._answers += 1
        if self._answers > MAX_ANSWERS:
            raise CodecError("HTTP/2: more to answer than can be sent")
        self.put(data)

    def put(self, data: bytes) -> None:
        """Queue a frame other than HEADERS and DATA: as urgent as can be."""
        self._order += 1
        heapq.heappush(self._queue, (0, self._order, data))

    def admit(self) -> None:
        """Queue requests as far as the server's limit of streams allows."""
        while self._waiting and len(self.streams) + self._opening < self._limit and not self.ending:
            stream = self._waiting.popleft()
            self._order += 1
            self._opening += 1
            heapq.heappush(self._queue, (stream.urgency, self._order, stream))

    def _open(self, stream: H2Stream) -> bytes:
        """Give a stream its number; returns its HEADERS."""
        habits = self._habits
        number = stream.number = self.next_number
        self.next_number += 2
        self.ending |= self.next_number > MAX_STREAM_NUMBER
        stream.window = self._stream_window
        size = habits.setting(frames.INITIAL_WINDOW_SIZE, DEFAULT_WINDOW) + habits.stream_increment
        stream.credit = Credit(size, habits.renew_stream_at, habits.renew_after, self.now)
        self.streams[number] = stream
        priority = Priority(0, habits.weights[stream.urgency], False)
        if habits.in_line:
            priority = self._line.add(number, stream.urgency)
        block = self._encoder.encode(stream.fields)
        head = frames.headers_frames(number, block, stream.local_ended, priority)
        if habits.stream_increment:
            head += frames.window_update_frame(number, habits.stream_increment)
        return head

    def _ping(self) -> None:
        """Ask whether the server is still there, behind a request after a long silence."""
        after = self._habits.ping_after
        if after is not None and self._ping_at is None and self.now - self.last_read > after:
            self._ping_number += 1
            self._ping_at = self.now
            self.put(frames.ping_frame(self._ping_number.to_bytes(8, "big")))

    @property
    def more_to_send(self) -> bool:
        """Whether the server's windows would take more of a body at once."""
        return self._window > 0 and any(
            not one.local_ended and one.window > 0 for one in self.streams.values()
        )

    def _send_bodies(self, out: list[Buffer]) -> None:
        """DATA frames as far as the windows reach: urgent streams first, equal ones in turn."""
        sending = [stream for stream in self.streams.values() if not stream.local_ended]
        sending.sort(key=lambda stream: stream.urgency)
        before = self._window
        while sending and before - self._window < MAX_DRAIN:
            urgency = sending[0].urgency
            again = [one for one in sending if one.urgency == urgency and self._send_piece(one, out)]
            sending = again + [stream for stream in sending if stream.urgency != urgency]

    def _send_piece(self, stream: H2Stream, out: list[Buffer]) -> bool:
        """One DATA frame; returns whether the stream has more and may send it now.

        Chromium reads a body into pieces of ``body_piece`` bytes, and what the
        window cuts off of one is sent before the next is read.
        """
        left = sum(map(len, stream.body))
        if not stream.piece:
            stream.piece = min(left, self._habits.body_piece)
        size = min(stream.piece, stream.window, self._window)
        if size <= 0:
            return False
        parts: list[Buffer] = []
        room = size
        while room:
            head = stream.body.popleft()
            if len(head) > room:
                stream.body.appendleft(head[room:])
                head = head[:room]
            parts.append(head)
            room -= len(head)
        stream.piece -= size
        stream.window -= size
        self._window -= size
        stream.local_ended = size == left
        flags = frames.END_STREAM if stream.local_ended else 0
        out.append(b"".join((frames.frame_head(frames.DATA, flags, stream.number, size), *parts)))
        if stream.local_ended and stream.remote_ended:
            self.forget(stream)
        return not stream.local_ended

    def take_back(self) -> list[H2Stream]:
        """Take back all requests that have no stream yet."""
        queued = [item for _, _, item in sorted(self._queue, key=lambda entry: entry[1])]
        self._queue = [entry for entry in self._queue if isinstance(entry[2], bytes)]
        heapq.heapify(self._queue)
        self._opening = 0
        unopened = [one for one in (*queued, *self._waiting) if isinstance(one, H2Stream)]
        self._waiting.clear()
        return [one for one in unopened if not one.given_up]

    def forget(self, stream: H2Stream) -> None:
        """A stream has closed."""
        stream.body.clear()
        stream.local_ended = True
        if self.streams.pop(stream.number, None) is not None and self._habits.in_line:
            self._line.remove(stream.number)

    # ---- what the server says of sending ---------------------------------------------------------

    def setting(self, name: int, value: int) -> list[H2Stream]:
        """A setting of the server's; returns the streams whose window it makes too large."""
        if name == frames.HEADER_TABLE_SIZE:
            self._encoder.set_table_size(value)
        elif name == frames.MAX_CONCURRENT_STREAMS:
            self._limit = min(value, self._habits.most_streams)
        elif name == frames.INITIAL_WINDOW_SIZE:
            change, self._stream_window = value - self._stream_window, value
            return [stream for stream in self.streams.values() if not stream.grow(change)]
        return []

    def widen(self, increment: int) -> bool:
        """Raise the connection's window; False where it would become too large."""
        self._window += increment
        return self._window <= frames.MAX_WINDOW

    def pong(self) -> None:
        """Our PING is answered."""
        self._ping_at = None

    def deadline(self) -> float | None:
        """When an unanswered PING means that the server is gone."""
        if self._ping_at is None:
            return None
        return max(self._ping_at, self.last_read) + self._habits.ping_wait
