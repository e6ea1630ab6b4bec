"""HTTP/2 frames (RFC 9113 sections 4 and 6): parsed from bytes split anyhow, and serialised.

A frame is::

    length u24 ‖ type u8 ‖ flags u8 ‖ reserved bit, stream u31 ‖ payload (length)

This module knows what a frame looks like and which sizes and stream numbers a
type may have; what a frame means, and when it may come, is the connection's
business. Payloads that lie whole in the data given are views of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import CodecError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says before its first frame (RFC 9113 section 3.4)."""
FRAME_HEAD: Final = 9
"""Bytes before a payload."""
MAX_FRAME: Final = 16384
"""Bytes of a payload that we accept: SETTINGS_MAX_FRAME_SIZE's initial value; no browser announces more."""
MAX_WINDOW: Final = (1 << 31) - 1
"""Bytes a flow-control window may reach (RFC 9113 section 6.9.1)."""
MAX_SETTINGS: Final = 64
"""Settings of one frame; there are about ten kinds."""

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
ENABLE_CONNECT_PROTOCOL: Final = 8

_HEAD = struct.Struct(">HBBBI")
_SIZES: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_ON_A_STREAM: Final = frozenset((DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION))
_ON_NONE: Final = frozenset((SETTINGS, PING, GOAWAY))


class ErrorCode(IntEnum):
    """Why a stream or connection ends (RFC 9113 section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


@dataclass(slots=True)
class Frame:
    """One frame; ``payload`` may be a view of the data it came in."""

    type: int
    flags: int
    stream: int
    payload: Buffer


@dataclass(frozen=True, slots=True)
class Priority:
    """The deprecated dependency signal (RFC 7540 section 5.3), which browsers still send."""

    parent: int
    weight: int
    """1 to 256; one less on the wire."""
    exclusive: bool

    def serialize(self) -> bytes:
        """Five bytes."""
        return struct.pack(">IB", self.parent | (self.exclusive << 31), self.weight - 1)


class FrameReader:
    """Cuts frames out of what a connection receives."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def empty(self) -> bool:
        """Whether it stands between two frames."""
        return not self._buffer

    def receive_data(self, data: Buffer) -> list[Frame]:
        """The frames that ``data`` completes.

        Raises :class:`CodecError` as soon as a frame's head shows a length or a
        stream number that its type must not have.
        """
        frames: list[Frame] = []
        view = memoryview(data)
        buffer = self._buffer
        at, size = 0, len(view)
        if buffer:
            at = self._complete(view, frames)
            if buffer:
                return frames
        while size - at >= FRAME_HEAD:
            length, kind, flags, stream = self._head(view, at)
            end = at + FRAME_HEAD + length
            if end > size:
                break
            frames.append(Frame(kind, flags, stream, view[at + FRAME_HEAD : end]))
            at = end
        buffer += view[at:]
        return frames

    def _complete(self, view: memoryview, frames: list[Frame]) -> int:
        """Finish the frame that an earlier piece began; returns how much of ``view`` that took."""
        buffer = self._buffer
        at = min(max(FRAME_HEAD - len(buffer), 0), len(view))
        buffer += view[:at]
        if len(buffer) < FRAME_HEAD:
            return at
        length, kind, flags, stream = self._head(buffer, 0)
        more = min(FRAME_HEAD + length - len(buffer), len(view) - at)
        buffer += view[at : at + more]
        if len(buffer) == FRAME_HEAD + length:
            frames.append(Frame(kind, flags, stream, bytes(buffer[FRAME_HEAD:])))
            buffer.clear()
        return at + more

    @staticmethod
    def _head(data: Buffer, at: int) -> tuple[int, int, int, int]:
        high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
        length = high << 8 | low
        stream &= 0x7FFFFFFF
        if length > MAX_FRAME:
            raise CodecError(f"HTTP/2: a frame of {length} bytes")
        if length != _SIZES.get(kind, length) or (kind == GOAWAY and length < 8):
            raise CodecError(f"HTTP/2: a frame of type {kind} with {length} bytes")
        if (kind in _ON_A_STREAM and not stream) or (kind in _ON_NONE and stream):
            raise CodecError(f"HTTP/2: a frame of type {kind} on stream {stream}")
        return length, kind, flags, stream


# ---- payloads ------------------------------------------------------------------------------------


def without_padding(frame: Frame) -> memoryview:
    """The payload of a DATA or HEADERS frame without padding (RFC 9113 section 6.1)."""
    view = memoryview(frame.payload)
    if not frame.flags & PADDED:
        return view
    if not view or view[0] >= len(view):
        raise CodecError("HTTP/2: padding longer than its frame")
    return view[1 : len(view) - view[0]]


def header_fragment(frame: Frame) -> memoryview:
    """The HPACK bytes of a HEADERS frame (RFC 9113 section 6.2)."""
    view = without_padding(frame)
    if not frame.flags & HAS_PRIORITY:
        return view
    if len(view) < 5:
        raise CodecError("HTTP/2: a HEADERS frame too short for its priority")
    return view[5:]


def parse_settings(frame: Frame) -> list[tuple[int, int]]:
    """The (identifier, value) pairs of a SETTINGS frame (RFC 9113 section 6.5), values checked."""
    size = len(frame.payload)
    if size % 6 or size > 6 * MAX_SETTINGS or (frame.flags & ACK and size):
        raise CodecError(f"HTTP/2: a SETTINGS frame with {size} bytes")
    pairs = list(struct.iter_unpack(">HI", frame.payload))
    for name, value in pairs:
        if (
            (name == ENABLE_PUSH and value)
            or (name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW)
            or (name == MAX_FRAME_SIZE and not MAX_FRAME <= value < 1 << 24)
            or (name == ENABLE_CONNECT_PROTOCOL and value > 1)
        ):
            raise CodecError(f"HTTP/2: setting {name} with value {value}")
    return pairs


def parse_u31(frame: Frame, at: int = 0) -> int:
    """Four bytes as a number without the reserved bit."""
    return int.from_bytes(frame.payload[at : at + 4], "big") & 0x7FFFFFFF


def parse_u32(frame: Frame, at: int = 0) -> int:
    """Four bytes as a number: an error code."""
    return int.from_bytes(frame.payload[at : at + 4], "big")


# ---- serialising ---------------------------------------------------------------------------------


def frame_head(kind: int, flags: int, stream: int, length: int) -> bytes:
    """The nine bytes before a payload."""
    return _HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def settings_frame(pairs: Iterable[tuple[int, int]]) -> bytes:
    """A SETTINGS frame; the order of the pairs is kept."""
    payload = b"".join(struct.pack(">HI", *pair) for pair in pairs)
    return frame_head(SETTINGS, 0, 0, len(payload)) + payload


SETTINGS_ACK: Final = frame_head(SETTINGS, ACK, 0, 0)


def window_update_frame(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame_head(WINDOW_UPDATE, 0, stream, 4) + struct.pack(">I", increment)


def reset_frame(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame_head(RST_STREAM, 0, stream, 4) + struct.pack(">I", code)


def ping_frame(payload: Buffer, flags: int = 0) -> bytes:
    """A PING frame with its eight bytes."""
    return frame_head(PING, flags, 0, 8) + payload


def priority_frame(stream: int, priority: Priority) -> bytes:
    """A PRIORITY frame."""
    return frame_head(PRIORITY, 0, stream, 5) + priority.serialize()


def goaway_frame(last: int, code: int) -> bytes:
    """A GOAWAY frame without debug data."""
    return frame_head(GOAWAY, 0, 0, 8) + struct.pack(">II", last, code)


def headers_frames(stream: int, block: bytes, end_stream: bool, priority: Priority | None) -> bytes:
    """A HEADERS frame, with CONTINUATION frames behind it where the block is longer than a frame."""
    first = (priority.serialize() if priority else b"") + block
    flags = (END_STREAM if end_stream else 0) | (HAS_PRIORITY if priority else 0)
    if len(first) <= MAX_FRAME:
        return frame_head(HEADERS, flags | END_HEADERS, stream, len(first)) + first
    parts = [frame_head(HEADERS, flags, stream, MAX_FRAME), first[:MAX_FRAME]]
    for at in range(MAX_FRAME, len(first), MAX_FRAME):
        piece = first[at : at + MAX_FRAME]
        last = END_HEADERS if at + MAX_FRAME >= len(first) else 0
        parts += (frame_head(CONTINUATION, last, stream, len(piece)), piece)
    return b"".join(parts)
