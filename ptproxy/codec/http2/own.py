"""The streams of an HTTP/2 connection that are the bridge's: their windows, bodies and answers.

The connection's window towards the client is one for these and for the web
server's streams. What is sent here is a *debt*: when the client gives credit,
that is paid off first, and the web server hears of the rest only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.http2 import frames
from ptproxy.codec.http2.frames import MAX_FRAME, MAX_WINDOW, ErrorCode, Frame
from ptproxy.codec.http2.hpack import Field
from ptproxy.codec.http2.plain import encode_plainly
from ptproxy.errors import CodecError

FIRST_WINDOW: Final = 65535
"""Bytes of a flow-control window before anybody has said otherwise (RFC 9113 section 6.9.2)."""
MOST_TAKEN: Final = 256
"""Streams taken at once; nginx allows 128."""
REMEMBERED: Final = 1024
"""Taken streams that are over and still known, for frames on their way."""
PIECE: Final = 64 * 1024
"""Bytes of bodies given in one go, four frames of the size that every client takes."""
CREDIT: Final = 32 * 1024
"""Bytes received on taken streams after which they are given back."""


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


class OwnStreams:
    """All of one connection; whoever owns this writes :attr:`frames`, and bodies, between others' frames."""

    __slots__ = (
        "_debt", "_highest", "_over", "_stream_window", "_taken", "_taken_in", "frames", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        """To be written, in order, before any body."""
        self.window = FIRST_WINDOW
        """The connection's, towards the client; others use it, too."""
        self._debt = 0  # what of it we used and the client has not given back
        self._stream_window = FIRST_WINDOW
        self._taken_in = 0  # on all streams, and not given back
        self._taken: dict[int, _Taken] = {}
        self._over: dict[int, None] = {}
        self._highest = 0

    @property
    def idle(self) -> bool:
        """Whether no stream is open and nothing waits."""
        return not self._taken and not self.frames

    @property
    def full(self) -> bool:
        """Whether no further stream is taken."""
        return len(self._taken) >= MOST_TAKEN

    def knows(self, stream: int) -> bool:
        """Whether a stream is ours, or was until lately."""
        return stream in self._taken or stream in self._over

    # ---- what the client says --------------------------------------------------------------------

    def take(self, stream: int, *, complete: bool) -> None:
        """A stream is ours; ``complete``: its request has no body."""
        self._taken[stream] = _Taken(self._stream_window, complete=complete)
        self._highest = max(self._highest, stream)

    def give_back(self, stream: int) -> None:
        """It is not, after all; nothing was sent on it."""
        self._taken.pop(stream, None)

    def receive_frame(self, frame: Frame, events: list[H2BridgeEvent]) -> None:
        """A frame on a stream that :meth:`knows`. May raise :class:`CodecError`."""
        stream, taken = frame.stream, self._taken.get(frame.stream)
        if taken is None:
            if frame.type == frames.DATA:  # on its way when the stream ended: the window is given back
                self._take_in(None, stream, len(frame.payload))
        elif frame.type == frames.DATA:
            data = bytes(frames.without_padding(frame))
            self._take_in(taken, stream, len(frame.payload))
            if data and not taken.complete:
                events.append(BodyReceived(stream, data))
            if frame.flags & frames.END_STREAM:
                self.complete(stream, events)
        elif frame.type == frames.RST_STREAM:
            self._forget(stream)
            events.append(StreamGone(stream))
        elif frame.type == frames.WINDOW_UPDATE and len(frame.payload) == 4:
            taken.window += frames.parse_u31(frame)
            if taken.window > MAX_WINDOW:
                raise CodecError("HTTP/2: a stream's window overflows")

    def complete(self, stream: int, events: list[H2BridgeEvent]) -> None:
        """The client has said all on a stream, if that is ours."""
        taken = self._taken.get(stream)
        if taken is not None and not taken.complete:
            taken.complete = True
            events.append(RequestEnded(stream))
            if taken.answered:
                self._forget(stream)

    def credit(self, increment: int) -> int:
        """The client widens the connection's window: how much of that is not ours."""
        ours = min(increment, self._debt)
        self.window += increment
        self._debt -= ours
        return increment - ours

    def set_stream_window(self, size: int) -> None:
        """The client's SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 section 6.9.2)."""
        for taken in self._taken.values():
            taken.window += size - self._stream_window
        self._stream_window = size

    def _take_in(self, taken: _Taken | None, stream: int, size: int) -> None:
        """Give back windows that the client used, now and then."""
        self._taken_in += size
        if self._taken_in >= CREDIT:
            self.frames.append(frames.window_update_frame(0, self._taken_in))
            self._taken_in = 0
        if taken is not None:
            taken.taken_in += size
            if taken.taken_in >= CREDIT and not taken.complete:
                self.frames.append(frames.window_update_frame(stream, taken.taken_in))
                taken.taken_in = 0

    # ---- answers -----------------------------------------------------------------------------------

    def send_head(self, stream: int, fields: Iterable[Field], *, ends: bool) -> None:
        """The head of an answer."""
        taken = self._taken.get(stream)
        if taken is not None:
            self.frames.append(frames.headers_frames(stream, encode_plainly(fields), ends, None))
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
                self.frames.append(frames.frame_head(frames.DATA, frames.END_STREAM, stream, 0))
                self._answered(stream, taken)

    def reset(self, stream: int) -> None:
        """Break an answer off."""
        if stream in self._taken:
            self.frames.append(frames.reset_frame(stream, ErrorCode.INTERNAL_ERROR))
            self._forget(stream)

    def goodbye(self) -> None:
        """Say that no request is answered any more."""
        self.frames.append(frames.goaway_frame(self._highest, ErrorCode.NO_ERROR))

    def queued(self, stream: int) -> int:
        """Bytes of an answer's body that wait for a window or for room."""
        taken = self._taken.get(stream)
        return taken.queued if taken is not None else 0

    def is_complete(self, stream: int) -> bool:
        """Whether a request's body has wholly come."""
        taken = self._taken.get(stream)
        return taken is None or taken.complete

    def write_bodies(self, out: list[bytes], events: list[H2BridgeEvent]) -> None:
        """As much of bodies as windows allow, each stream in turn."""
        room = PIECE
        while room > 0 and self.window > 0:
            before = room
            for stream, taken in list(self._taken.items()):
                if taken.queue and taken.window > 0 and self.window > 0 and room > 0:
                    room -= self._write_piece(stream, taken, out)
                    events.append(RoomMade(stream))
            if room == before:
                return

    def _write_piece(self, stream: int, taken: _Taken, out: list[bytes]) -> int:
        """One DATA frame; the bytes of its body."""
        most = min(MAX_FRAME, taken.window, self.window)
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
        self.window -= size
        self._debt += size
        last = taken.ends and not taken.queue
        head = frames.frame_head(frames.DATA, frames.END_STREAM if last else 0, stream, size)
        out.append(b"".join((head, *parts)))
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
