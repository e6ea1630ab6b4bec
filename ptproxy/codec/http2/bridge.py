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
from collections.abc import Callable
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.http2 import frames
from ptproxy.codec.http2.frames import FRAME_HEAD, MAX_FRAME, MAX_WINDOW, PREFACE, ErrorCode, Frame
from ptproxy.codec.http2.hpack import DEFAULT_TABLE, MAX_BLOCK, MAX_ENCODER_TABLE, Field, HpackDecoder
from ptproxy.codec.http2.own import H2BridgeEvent, OwnStreams
from ptproxy.codec.http2.plain import encode_plainly
from ptproxy.errors import CodecError

MOST_READ: Final = 32768
"""Header fields of requests that are read before one is taken, about 0.1 s of work: a page with a thousand
assets. A client's opening comes after one page; whoever asks for more is a stranger, and passed on unread."""
REQUEST_COST: Final = 8
"""What a request counts beside its fields ..."""
JUDGED_COST: Final = 128
"""... and one that the judge, who has to calculate, looked at in vain."""
MOST_HELD: Final = 1 << 20
"""Bytes of the web server's kept while the client has no window for them, because we used it."""
_HEAD = struct.Struct(">HBBBI")
_READ_WHOLE: Final = frozenset(
    (frames.HEADERS, frames.CONTINUATION, frames.SETTINGS, frames.WINDOW_UPDATE, frames.PING)
)
"""Types of a client's frames that are read before they are passed on."""


Judge = Callable[[int, list[Field], bool], bool]
"""Whether a request (stream, fields, without a body) is taken; asked only where it could be."""


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
        self.own = OwnStreams()
        """The taken ones; what they send leaves with :meth:`data_to_client`."""
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
            self._to_client += self.own.frames
            self.own.frames.clear()
            self.own.write_bodies(self._to_client, events)
        data = b"".join(self._to_client)
        self._to_client.clear()
        return data, events

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
            ours = self.own.knows(stream)
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
            self.own.receive_frame(frame, events)
        elif frame.type == frames.WINDOW_UPDATE and not frame.stream:
            self._credit(frame, end)
        else:
            if frame.type == frames.PING and self.site_gone and not frame.flags & frames.ACK:
                self.own.frames.append(frames.ping_frame(frame.payload[:8], frames.ACK))
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
        if self.own.knows(frame.stream):  # trailers
            del self._up[:end]
            self.own.complete(frame.stream, events)
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
            self.own.frames.append(frames.reset_frame(stream, ErrorCode.REFUSED_STREAM))
        else:
            self._to_site.append(frames.headers_frames(stream, encode_plainly(fields), ends, None))

    def _could_be_ours(self, stream: int, fields: list[Field]) -> bool:
        """Whether a request is worth the judge's look."""
        if not self._follows_site or stream % 2 == 0 or self.own.full:
            return False
        path = next((value for name, value in fields if name == ":path"), "")
        return path.partition("?")[0] == self._path and any(
            name == "cookie" and value.encode("latin-1").startswith(self._cookie) for name, value in fields
        )

    def _take(self, stream: int, fields: list[Field], ends: bool) -> bool:
        """Ask the judge, who may answer at once."""
        self.own.take(stream, complete=ends)
        if not self._judge(stream, fields, ends):
            self.own.give_back(stream)
            self._left_to_read -= JUDGED_COST
            return False
        self.joined = True
        return True

    def _credit(self, frame: Frame, end: int) -> None:
        """WINDOW_UPDATE for the connection: what we used is paid off first."""
        if len(frame.payload) != 4:
            raise CodecError("HTTP/2: a WINDOW_UPDATE of a wrong size")
        increment = frames.parse_u31(frame)
        rest = self.own.credit(increment)
        if rest == increment:
            self._pass_up(end)
            return
        del self._up[:end]
        if rest:
            self._to_site.append(frames.window_update_frame(0, rest))

    def _settings(self, frame: Frame) -> None:
        """What the client says of its streams' windows and of its table."""
        if len(frame.payload) % 6:
            raise CodecError("HTTP/2: a SETTINGS frame of a wrong size")
        for name, value in struct.iter_unpack(">HI", frame.payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > MAX_WINDOW:
                    raise CodecError("HTTP/2: a window too large")
                self.own.set_stream_window(value)
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
                if self.joined and length > self.own.window:
                    return
                self.own.window -= length
            elif kind == frames.SETTINGS and not flags & frames.ACK and length <= MAX_FRAME:
                if len(down) < FRAME_HEAD + length:
                    return
                self._site_settings(bytes(down[FRAME_HEAD : FRAME_HEAD + length]))
            elif kind in (frames.HEADERS, frames.PUSH_PROMISE, frames.CONTINUATION):
                self._down_block = not flags & frames.END_HEADERS
            elif kind == frames.GOAWAY and self.joined and length <= MAX_FRAME:
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
