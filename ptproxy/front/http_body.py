"""Where the body of an HTTP/1 message ends (RFC 9112 section 6.3). Bodies are passed on as they come.

Each class says with ``take(data)`` how many of the bytes at hand belong to the
body, and in ``ended`` whether it is complete.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from ptproxy.errors import FrontError
from ptproxy.front.http_head import MAX_HEAD, ReplyHead, RequestHead, check_field

MAX_CHUNK_LINE: Final = 4096
"""Bytes of the line above a chunk, extensions included; nobody sends extensions."""

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\0\r\n]*)?\r")


class Body(Protocol):
    """The part of a message behind its head."""

    ended: bool

    def take(self, data: memoryview) -> int:
        """How many bytes at the head of ``data`` are body; raises :class:`FrontError` for bad chunks."""


class SizedBody:
    """A body of ``size`` bytes; 0 for none."""

    __slots__ = ("_left", "ended")

    def __init__(self, size: int) -> None:
        self._left = size
        self.ended = not size

    def take(self, data: memoryview) -> int:
        """Everything up to the size."""
        used = min(self._left, len(data))
        self._left -= used
        self.ended = not self._left
        return used


class OpenBody:
    """A reply's body that ends with the stream."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = False

    def take(self, data: memoryview) -> int:
        """Everything."""
        return len(data)


class ChunkedBody:
    """A body in chunks (section 7.1): size line, data, empty line; size 0; trailers; empty line.

    Lines must end with CRLF here: they are passed on as they came, and nobody
    is to read them differently.
    """

    __slots__ = ("_left", "_line", "_read_line", "_trailer_room", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._left = 0
        self._line = b""
        self._trailer_room = MAX_HEAD
        self._read_line = self._size_line

    def take(self, data: memoryview) -> int:
        """Everything up to the end of the trailers."""
        index = 0
        size = len(data)
        while index < size and not self.ended:
            if self._left:
                used = min(self._left, size - index)
                self._left -= used
                index += used
            else:
                index += self._take_line(bytes(data[index : index + MAX_CHUNK_LINE]))
        return index

    def _take_line(self, data: bytes) -> int:
        """Read one line, or keep its beginning."""
        end = data.find(b"\n") + 1
        line = self._line + data[:end] if end else self._line + data
        if len(line) > MAX_CHUNK_LINE:
            raise FrontError("a line above a chunk that is too long")
        if not end:
            self._line = line
            return len(data)
        self._line = b""
        if not line.endswith(b"\r\n"):
            raise FrontError("a line between chunks that does not end with CRLF")
        self._read_line(line[:-1])
        return end

    def _size_line(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise FrontError("a chunk without a size")
        self._left = int(match[1], 16)
        self._read_line = self._line_after_data if self._left else self._trailer_line

    def _line_after_data(self, line: bytes) -> None:
        if line != b"\r":
            raise FrontError("a chunk longer than its size")
        self._read_line = self._size_line

    def _trailer_line(self, line: bytes) -> None:
        if line == b"\r":
            self.ended = True
            return
        self._trailer_room -= len(line)
        if self._trailer_room < 0:
            raise FrontError("trailers above 64 KiB")
        check_field(line[:-1])


def request_body(head: RequestHead) -> Body:
    """How the body behind a request's head ends; raises :class:`FrontError`."""
    length = head.fields.content_length()
    if not head.fields.values_of(b"transfer-encoding"):
        return SizedBody(length or 0)
    if length is not None or not head.minor or head.fields.tokens_of(b"transfer-encoding") != [b"chunked"]:
        raise FrontError("a request whose length can be read in two ways")
    return ChunkedBody()


def reply_body(head: ReplyHead, method: bytes) -> Body:
    """How the body behind the head of a reply to ``method`` ends; raises :class:`FrontError`."""
    if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
        return SizedBody(0)
    if head.fields.values_of(b"transfer-encoding"):
        codings = head.fields.tokens_of(b"transfer-encoding")
        if codings.count(b"chunked") > 1 or (b"chunked" in codings and codings[-1] != b"chunked"):
            raise FrontError("a reply in chunks of chunks")
        return ChunkedBody() if b"chunked" in codings else OpenBody()
    length = head.fields.content_length()
    return OpenBody() if length is None else SizedBody(length)
