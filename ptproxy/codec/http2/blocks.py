"""Header blocks of responses: HEADERS and CONTINUATION frames put together, decoded and judged."""

from __future__ import annotations

import re
from typing import Final

from ptproxy.codec.http2 import frames
from ptproxy.codec.http2.frames import Frame
from ptproxy.codec.http2.hpack import MAX_BLOCK, Field, HpackDecoder
from ptproxy.errors import CodecError

MAX_CONTINUATIONS: Final = 16
"""CONTINUATION frames of one block: four times what :data:`MAX_BLOCK` needs in full frames."""

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(r"[^\0\r\n]*")
_STATUS = re.compile(r"[1-9][0-9]{2}")
_CONNECTION_FIELDS: Final = frozenset(
    ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")
)
"""Fields of HTTP/1.1 connections, which HTTP/2 must not carry (RFC 9113 section 8.2.2)."""


class BlockReader:
    """Collects one block after another; between its frames no other frame may come (section 4.3)."""

    __slots__ = ("_block", "_complete", "_count", "_decoder", "_ends", "_stream")

    def __init__(self, table_size: int) -> None:
        self._decoder = HpackDecoder(table_size)
        self._block = bytearray()
        self._stream = 0
        self._ends = self._complete = False
        self._count = 0

    @property
    def open(self) -> bool:
        """Whether a block has begun and not been taken."""
        return bool(self._stream)

    def begin(self, frame: Frame) -> None:
        """A HEADERS frame."""
        self._stream = frame.stream
        self._ends = bool(frame.flags & frames.END_STREAM)
        self._complete = bool(frame.flags & frames.END_HEADERS)
        self._count = 0
        self._block[:] = frames.header_fragment(frame)

    def add(self, frame: Frame) -> None:
        """The frame behind it, which has to be a CONTINUATION of it. May raise :class:`CodecError`."""
        if frame.type != frames.CONTINUATION or not self._stream or frame.stream != self._stream:
            raise CodecError("HTTP/2: a header block is interrupted, or one goes on that had not begun")
        self._count += 1
        if self._count > MAX_CONTINUATIONS or len(self._block) + len(frame.payload) > MAX_BLOCK:
            raise CodecError("HTTP/2: a header block too large")
        self._block += frame.payload
        self._complete = bool(frame.flags & frames.END_HEADERS)

    def take(self) -> tuple[int, bool, list[Field]] | None:
        """Stream, whether it ends, and the header list, once the block is complete.

        Every block is decoded, also one of a stream that is gone: the table is the connection's.
        """
        if not self._complete:
            return None
        stream, self._stream, self._complete = self._stream, 0, False
        return stream, self._ends, self._decoder.decode(bytes(self._block))


def final_status(fields: list[Field]) -> int:
    """The status of a response's head; 0 for a malformed one (RFC 9113 section 8.3.2)."""
    if not fields or fields[0][0] != ":status" or not _STATUS.fullmatch(fields[0][1]):
        return 0
    return int(fields[0][1]) if is_trailers(fields[1:]) else 0


def is_trailers(fields: list[Field]) -> bool:
    """Whether every field is an ordinary one, well formed."""
    return all(
        _NAME.fullmatch(name) and _VALUE.fullmatch(value) and name not in _CONNECTION_FIELDS
        for name, value in fields
    )
