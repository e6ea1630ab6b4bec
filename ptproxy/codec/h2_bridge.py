"""One HTTP/2 connection between whoever came and the web server, some of whose streams are the bridge's.

The bridge stands in the middle of a stranger's connection and reads along. As
long as no request is *taken*, each byte is passed on as it came, in the frame it
came in: whatever is wrong with it is the web server's to say. Once one is,

- requests to the web server are encoded anew, without its dynamic table (it has
  not seen the block of the one taken); answers to taken requests are, too, so
  that the other end's table stays the web server's;
- the connection's flow-control window towards the client is used by both: what
  we sent is paid off first when the client gives credit, and the web server gets
  the rest. What the client sends on taken streams we give back ourselves;
- a web server that ends the connection, idle to it, does not end ours.

What only a connection that is a client's could do wrong is a
:class:`~ptproxy.errors.CodecError`; towards strangers nothing is raised: what
cannot be followed is passed on unread from there on.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec import h2_frames as frames
from ptproxy.codec.h2_frames import FRAME_HEAD, MAX_FRAME, MAX_WINDOW, PREFACE, ErrorCode, Frame
from ptproxy.codec.h2_hpack import DEFAULT_TABLE, MAX_BLOCK, MAX_ENCODER_TABLE, Field, HpackDecoder
from ptproxy.codec.h2_plain import encode_plainly
from ptproxy.errors import CodecError

FIRST_WINDOW: Final = 65535
"""Bytes of a flow-control window before anybody has said otherwise (RFC 9113 section 6.9.2)."""
MOST_TAKEN: Final = 256
"""Streams taken at once; nginx allows 128."""
REMEMBERED: Final = 1024
"""Taken streams that are over and still known, for frames on their way."""
MOST_READ: Final = 32768
"""Header fields of requests that are read before one is taken, about 0.1 s of work: a page with a thousand
assets. A client's opening comes after one page; whoever asks for more is a stranger, and passed on unread."""
REQUEST_COST: Final = 8
"""What a request counts beside its fields ..."""
JUDGED_COST: Final = 128
"""... and one that the judge, who has to calculate, looked at in vain."""
MOST_HELD: Final = 1 << 20
"""Bytes of the web server's kept while the client has no window for them, because we used it."""
PIECE: Final = 64 * 1024
"""Bytes of our own answers given in one go, four frames of the size that every client takes."""
CREDIT: Final = 32 * 1024
"""Bytes received on taken streams after which they are given back."""

_HEAD = struct.Struct(">HBBBI")
_READ_WHOLE: Final = frozenset(
    (frames.HEADERS, frames.CONTINUATION, frames.SETTINGS, frames.WINDOW_UPDATE, frames.PING)
)
"""Types of a client's frames that are read before they are passed on."""


@dataclass(slots=True)
class BodyReceived:
    """Bytes of a taken request's body."""

    stream: int
    data: bytes


@dataclass(slots=True)
class RequestEnded:
    """A taken request is complete."""

    stream: int


@dataclass(slots=True)
class StreamGone:
    """A taken stream was reset by the client."""

    stream: int


@dataclass(slots=True)
class RoomMade:
    """Bytes of an answer that waited have left."""

    stream: int


H2BridgeEvent = BodyReceived | RequestEnded | StreamGone | RoomMade

Judge = Callable[[int, list[Field], bool], bool]
"""Whether a request (stream, fields, without a body) is taken; asked only where it could be."""


class _Taken:
    """A stream that is ours."""

    __slots__ = ("answered", "complete", "ends", "queue", "queued", "taken_in", "window")

    def __init__(self, window: int, *, complete: bool) -> None:
        self.window = window
        self.complete = complete  # nothing more comes
        self.queue: deque[Buffer] = deque()
        self.queued = 0
        self.ends = False  # ... after the queue
        self.answered = False  # END_STREAM was sent
        self.taken_in = 0  # received, and not given back


class BridgeH2:
    """See the module; ``path`` and ``cookie`` are what a request needs to be worth a look."""

    def __init__(self, path: str, cookie: str, judge: Judge) -> None:
        self.joined = False
        """A request was taken: the connection is a client's."""
        self.site_gone = False
        """The web server has nothing to do with the connection any more."""
        self._path = path
        self._cookie = cookie.encode("latin-1")
        self._judge = judge
        self._follows = self._follows_site = True
        self._preface = 0
        self._up = bytearray()  # of the client, not judged yet
        self._up_left = 0  # bytes of a frame that is passed on as it comes
        self._to_site: list[bytes] = []
        self._decoder = HpackDecoder(DEFAULT_TABLE)
        self._block: bytearray | None = None  # of a header block in several frames
        self._block_stream, self._block_ends = 0, False
        self._down = bytearray()  # of the web server
        self._down_left = 0
        self._down_block = False  # between a HEADERS frame and its last CONTINUATION
        self._to_client: list[bytes] = []
        self._own: list[bytes] = []  # frames of ours, for the next gap between the web server's
        self._window = FIRST_WINDOW  # the connection's, towards the client
        self._debt = 0  # what of it we used and the client has not given back
        self._stream_window = FIRST_WINDOW
        self._taken_in = 0  # on all taken streams, and not given back
        self._taken: dict[int, _Taken] = {}
        self._over: dict[int, None] = {}
        self._highest = 0
        self._left_to_read = MOST_READ

    # ---- what arrives ------------------------------------------------------------------------------

    def receive_from_client(self, data: Buffer) -> list[H2BridgeEvent]:
        """Feed what the client (or stranger) says."""
        events: list[H2BridgeEvent] = []
        if not self._follows:
            self._to_site.append(bytes(data))
            return events
        self._up += data
        try:
            self._read_client(events)
        except CodecError:
            if self.joined:
                raise
            self._follows = False
            self._to_site.append(bytes(self._up))
            self._up.clear()
        return events

    def receive_from_site(self, data: Buffer) -> None:
        """Feed what the web server says. Raises CodecError where it says too much."""
        if not self._follows_site:
            self._to_client.append(bytes(data))
            return
        self._down += data
        if len(self._down) > MOST_HELD:
            raise CodecError("HTTP/2: no window for what the web server says")

    def site_ended(self) -> None:
        """The web server has closed the connection; only for a client's."""
        self.site_gone = True
        self._to_site.clear()
        self._down.clear()

    # ---- what is to be written -----------------------------------------------------------------------

    def data_to_site(self) -> bytes:
        """Drain what goes to the web server."""
        data = b"".join(self._to_site)
        self._to_site.clear()
        return b"" if self.site_gone else data

    def data_to_client(self) -> tuple[bytes, list[H2BridgeEvent]]:
        """Drain some of what goes to the client; whoever has written it asks again."""
        events: list[H2BridgeEvent] = []
        if self._follows_site:
            self._read_site()
        if self._follows_site and not self._down_left and not self._down_block:
            self._to_client += self._own
            self._own.clear()
            self._write_bodies(events)
        data = b"".join(self._to_client)
        self._to_client.clear()
        return data, events

    @property
    def idle(self) -> bool:
        """Whether no taken stream is open and nothing waits."""
        return not self._taken and not self._own

    # ---- answers to taken requests -------------------------------------------------------------------

    def send_head(self, stream: int, fields: Iterable[Field], *, ends: bool) -> None:
        """The head of an answer."""
        taken = self._taken.get(stream)
        if taken is not None:
            self._own.append(frames.headers_frames(stream, encode_plainly(fields), ends, None))
            if ends:
                self._answered(stream, taken)

    def send_body(self, stream: int, data: Buffer) -> None:
        """Some of its body (immutable)."""
        taken = self._taken.get(stream)
        if taken is not None and len(data):
            taken.queue.append(data)
            taken.queued += len(data)

    def end_body(self, stream: int) -> None:
        """All of it was given."""
        taken = self._taken.get(stream)
        if taken is not None:
            taken.ends = True
            if not taken.queue:
                self._own.append(frames.frame_head(frames.DATA, frames.END_STREAM, stream, 0))
                self._answered(stream, taken)

    def reset(self, stream: int) -> None:
        """Break an answer off."""
        if stream in self._taken:
            self._own.append(frames.reset_frame(stream, ErrorCode.INTERNAL_ERROR))
            self._forget(stream)

    def queued(self, stream: int) -> int:
        """Bytes of an answer's body that wait for a window or for room."""
        taken = self._taken.get(stream)
        return taken.queued if taken is not None else 0

    def is_complete(self, stream: int) -> bool:
        """Whether a taken request's body has wholly come."""
        taken = self._taken.get(stream)
        return taken is None or taken.complete

    def goodbye(self) -> None:
        """Say that no request is answered any more."""
        self._own.append(frames.goaway_frame(self._highest, ErrorCode.NO_ERROR))

    def _write_bodies(self, events: list[H2BridgeEvent]) -> None:
        """As much as windows allow, each stream in turn."""
        room = PIECE
        while room > 0 and self._window > 0:
            before = room
            for stream, taken in list(self._taken.items()):
                if taken.queue and taken.window > 0 and self._window > 0 and room > 0:
                    room -= self._write_piece(stream, taken)
                    events.append(RoomMade(stream))
            if room == before:
                return

    def _write_piece(self, stream: int, taken: _Taken) -> int:
        """One DATA frame; the bytes of its body."""
        most = min(MAX_FRAME, taken.window, self._window)
        parts: list[Buffer] = []
        size = 0
        while taken.queue and size < most:
            part = taken.queue.popleft()
            if len(part) > most - size:
                view = memoryview(part)
                taken.queue.appendleft(view[most - size :])
                part = view[: most - size]
            parts.append(part)
            size += len(part)
        taken.queued -= size
        taken.window -= size
        self._window -= size
        self._debt += size
        last = taken.ends and not taken.queue
        head = frames.frame_head(frames.DATA, frames.END_STREAM if last else 0, stream, size)
        self._to_client.append(b"".join((head, *parts)))
        if last:
            self._answered(stream, taken)
        return size

    def _answered(self, stream: int, taken: _Taken) -> None:
        taken.answered = True
        if taken.complete:
            self._forget(stream)

    def _forget(self, stream: int) -> None:
        del self._taken[stream]
        self._over[stream] = None
        if len(self._over) > REMEMBERED:
            del self._over[next(iter(self._over))]

    # ---- the client's frames -------------------------------------------------------------------------

    def _read_client(self, events: list[H2BridgeEvent]) -> None:
        up = self._up
        if self._preface < len(PREFACE):
            size = min(len(up), len(PREFACE) - self._preface)
            if up[:size] != PREFACE[self._preface : self._preface + size]:
                raise CodecError("HTTP/2: no preface")
            self._pass_up(size)
            self._preface += size
        while up:
            if self._up_left:
                size = min(len(up), self._up_left)
                self._up_left -= size
                self._pass_up(size)
                continue
            if len(up) < FRAME_HEAD:
                return
            high, low, kind, flags, stream = _HEAD.unpack_from(up)
            length, stream = high << 8 | low, stream & 0x7FFFFFFF
            ours = stream in self._taken or stream in self._over
            if kind not in _READ_WHOLE and not ours:
                self._up_left = FRAME_HEAD + length
                continue
            if length > MAX_FRAME:
                raise CodecError(f"HTTP/2: a frame of {length} bytes")
            end = FRAME_HEAD + length
            if len(up) < end:
                return
            self._read_frame(Frame(kind, flags, stream, bytes(up[FRAME_HEAD:end])), end, ours, events)

    def _pass_up(self, size: int) -> None:
        self._to_site.append(bytes(self._up[:size]))
        del self._up[:size]

    def _read_frame(self, frame: Frame, end: int, ours: bool, events: list[H2BridgeEvent]) -> None:
        """One frame, which lies at the front of ``_up`` up to ``end``; errors leave it there."""
        if self._block is not None or frame.type == frames.CONTINUATION:
            self._read_continuation(frame, end)
        elif frame.type == frames.HEADERS:
            self._read_headers(frame, end, events)
        elif ours:
            del self._up[:end]
            if frame.stream in self._taken:
                self._read_taken(frame, self._taken[frame.stream], events)
        elif frame.type == frames.WINDOW_UPDATE and not frame.stream:
            self._credit(frame, end)
        else:
            if frame.type == frames.PING and self.site_gone and not frame.flags & frames.ACK:
                self._own.append(frames.ping_frame(frame.payload[:8], frames.ACK))
            if frame.type == frames.SETTINGS and not frame.flags & frames.ACK:
                self._settings(frame)
            self._pass_up(end)

    def _read_headers(self, frame: Frame, end: int, events: list[H2BridgeEvent]) -> None:
        if not frame.stream:
            raise CodecError("HTTP/2: a header block on no stream")
        fragment = frames.header_fragment(frame)
        if not frame.flags & frames.END_HEADERS:  # a client's requests are shorter than a frame
            self._block = bytearray(fragment)
            self._block_stream, self._block_ends = frame.stream, bool(frame.flags & frames.END_STREAM)
            self._skip_or_pass(end)
            return
        fields = self._decode(bytes(fragment))
        ends = bool(frame.flags & frames.END_STREAM)
        if frame.stream in self._taken or frame.stream in self._over:  # trailers
            del self._up[:end]
            if frame.stream in self._taken:
                self._complete(frame.stream, self._taken[frame.stream], events)
        elif self._could_be_ours(frame.stream, fields) and self._take(frame.stream, fields, ends):
            del self._up[:end]
        else:
            self._request_for_site(frame.stream, fields, ends, end)

    def _read_continuation(self, frame: Frame, end: int) -> None:
        block = self._block
        if block is None or frame.type != frames.CONTINUATION or frame.stream != self._block_stream:
            raise CodecError("HTTP/2: a header block is interrupted, or one goes on that had not begun")
        if len(block) + len(frame.payload) > MAX_BLOCK:
            raise CodecError("HTTP/2: a header block too large")
        block += frame.payload
        if not frame.flags & frames.END_HEADERS:
            self._skip_or_pass(end)
            return
        fields = self._decode(bytes(block))
        self._block = None
        self._request_for_site(self._block_stream, fields, self._block_ends, end)

    def _decode(self, block: bytes) -> list[Field]:
        """A block's fields; CodecError for a stranger who asks for so much that nobody reads it."""
        fields = self._decoder.decode(block)
        self._left_to_read -= len(fields) + REQUEST_COST
        if self._left_to_read < 0 and not self.joined:
            raise CodecError("HTTP/2: more requests than a client has before its opening")
        return fields

    def _skip_or_pass(self, end: int) -> None:
        """Part of a header block: passed on, or kept until it is whole and encoded anew."""
        if self.joined:
            del self._up[:end]
        else:
            self._pass_up(end)

    def _request_for_site(self, stream: int, fields: list[Field], ends: bool, end: int) -> None:
        """A whole block that is the web server's, as it came or encoded anew."""
        if not self.joined:
            self._pass_up(end)
            return
        del self._up[:end]
        if self.site_gone:
            self._own.append(frames.reset_frame(stream, ErrorCode.REFUSED_STREAM))
        else:
            self._to_site.append(frames.headers_frames(stream, encode_plainly(fields), ends, None))

    def _could_be_ours(self, stream: int, fields: list[Field]) -> bool:
        """Whether a request is worth the judge's look."""
        if not self._follows_site or stream % 2 == 0 or len(self._taken) >= MOST_TAKEN:
            return False
        path = next((value for name, value in fields if name == ":path"), "")
        return path.partition("?")[0] == self._path and any(
            name == "cookie" and value.encode("latin-1").startswith(self._cookie) for name, value in fields
        )

    def _take(self, stream: int, fields: list[Field], ends: bool) -> bool:
        """Ask the judge, who may answer at once."""
        self._taken[stream] = _Taken(self._stream_window, complete=ends)
        if not self._judge(stream, fields, ends):
            self._taken.pop(stream, None)
            self._left_to_read -= JUDGED_COST
            return False
        self.joined = True
        self._highest = max(self._highest, stream)
        return True

    def _read_taken(self, frame: Frame, taken: _Taken, events: list[H2BridgeEvent]) -> None:
        """A frame on a stream of ours."""
        if frame.type == frames.DATA:
            data = bytes(frames.without_padding(frame))
            self._take_in(frame.stream, taken, len(frame.payload))
            if data and not taken.complete:
                events.append(BodyReceived(frame.stream, data))
            if frame.flags & frames.END_STREAM:
                self._complete(frame.stream, taken, events)
        elif frame.type == frames.RST_STREAM:
            self._forget(frame.stream)
            events.append(StreamGone(frame.stream))
        elif frame.type == frames.WINDOW_UPDATE and len(frame.payload) == 4:
            taken.window += frames.parse_u31(frame)
            if taken.window > MAX_WINDOW:
                raise CodecError("HTTP/2: a stream's window overflows")

    def _complete(self, stream: int, taken: _Taken, events: list[H2BridgeEvent]) -> None:
        """The client has said all on a stream."""
        if not taken.complete:
            taken.complete = True
            events.append(RequestEnded(stream))
            if taken.answered:
                self._forget(stream)

    def _take_in(self, stream: int, taken: _Taken, size: int) -> None:
        """Give back windows that the client used on our streams, now and then."""
        self._taken_in += size
        taken.taken_in += size
        if self._taken_in >= CREDIT:
            self._own.append(frames.window_update_frame(0, self._taken_in))
            self._taken_in = 0
        if taken.taken_in >= CREDIT and not taken.complete:
            self._own.append(frames.window_update_frame(stream, taken.taken_in))
            taken.taken_in = 0

    def _credit(self, frame: Frame, end: int) -> None:
        """WINDOW_UPDATE for the connection: what we used is paid off first."""
        if len(frame.payload) != 4:
            raise CodecError("HTTP/2: a WINDOW_UPDATE of a wrong size")
        increment = frames.parse_u31(frame)
        ours = min(increment, self._debt)
        self._window += increment
        self._debt -= ours
        if not ours:
            self._pass_up(end)
            return
        del self._up[:end]
        if increment > ours:
            self._to_site.append(frames.window_update_frame(0, increment - ours))

    def _settings(self, frame: Frame) -> None:
        """What the client says of its streams' windows and of its table."""
        if len(frame.payload) % 6:
            raise CodecError("HTTP/2: a SETTINGS frame of a wrong size")
        for name, value in struct.iter_unpack(">HI", frame.payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise CodecError("HTTP/2: a window too large")
                for taken in self._taken.values():
                    taken.window += value - self._stream_window
                self._stream_window = value
            elif name == frames.HEADER_TABLE_SIZE and value < DEFAULT_TABLE:
                # Our answers' blocks would have to announce a table that the web server's announce.
                raise CodecError("HTTP/2: a smaller table than any browser's")

    # ---- the web server's frames -----------------------------------------------------------------------

    def _read_site(self) -> None:
        """Pass its frames on, DATA only as far as the client's window goes."""
        down = self._down
        while down:
            if self._down_left:
                size = min(len(down), self._down_left)
                self._down_left -= size
                self._pass_down(size)
                continue
            if len(down) < FRAME_HEAD:
                return
            high, low, kind, flags, _ = _HEAD.unpack_from(down)
            length = high << 8 | low
            if kind == frames.DATA:
                if self.joined and length > self._window:
                    return
                self._window -= length
            elif kind == frames.SETTINGS and not flags & frames.ACK:
                if len(down) < FRAME_HEAD + length:
                    return
                self._site_settings(bytes(down[FRAME_HEAD : FRAME_HEAD + length]))
            elif kind in (frames.HEADERS, frames.PUSH_PROMISE, frames.CONTINUATION):
                self._down_block = not flags & frames.END_HEADERS
            elif kind == frames.GOAWAY and self.joined:
                if len(down) < FRAME_HEAD + length:
                    return
                del down[: FRAME_HEAD + length]  # its streams end as they do; ours go on
                continue
            self._down_left = FRAME_HEAD + length

    def _site_settings(self, payload: bytes) -> None:
        """Its table's size is how a client may encode."""
        for at in range(0, len(payload) - 5, 6):
            name, value = struct.unpack_from(">HI", payload, at)
            if name == frames.HEADER_TABLE_SIZE:
                self._decoder.allow_table_size(min(value, MAX_ENCODER_TABLE))

    def _pass_down(self, size: int) -> None:
        self._to_client.append(bytes(self._down[:size]))
        del self._down[:size]
