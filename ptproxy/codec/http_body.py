"""What delimits an HTTP/1.1 body (RFC 9112 section 6), without copying it.

A body reader takes a view of what arrived and appends views of the body's
bytes to a list; it returns how many bytes it has used. ``done`` turns true
with the body's last byte: what follows belongs to the next message. Views are
valid as long as the data they were cut from.
"""

from __future__ import annotations

import re
from typing import Protocol

from ptproxy.codec.head import Headers
from ptproxy.errors import CodecError

MAX_CHUNK_LINE = 256
"""Bytes of a chunk's size line with extensions; servers write less than 12."""
MAX_LENGTH_DIGITS = 15
"""Digits of a Content-Length."""
MAX_TRAILERS = 1024
"""Bytes of a trailer section; proxies that add one write a checksum."""

_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_NEXT_CHUNK = re.compile(rb"\r\n" + _CHUNK.pattern)
_TRAILERS = re.compile(rb"(?:[!-9;-~]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")


class BodyReader(Protocol):
    """One message's body."""

    done: bool
    """The body is complete."""

    def receive_data(self, data: memoryview, out: list[memoryview]) -> int:
        """Append the body's bytes in ``data`` to ``out``; returns the bytes used. May raise CodecError."""

    def receive_eof(self) -> bool:
        """The connection ended: True when the body is complete by that."""


class LengthBody:
    """A body of Content-Length bytes (section 6.2)."""

    __slots__ = ("done", "left")

    def __init__(self, length: int) -> None:
        self.left = length
        """Bytes still to come."""
        self.done = length == 0

    def receive_data(self, data: memoryview, out: list[memoryview]) -> int:
        """Take what belongs to the body."""
        taken = min(self.left, len(data))
        if taken:
            out.append(data[:taken])
            self.left -= taken
            self.done = self.left == 0
        return taken

    def receive_eof(self) -> bool:
        """Complete only when every byte has come."""
        return self.done


class CloseBody:
    """A body that ends with the connection (section 6.3, rule 8)."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def receive_data(self, data: memoryview, out: list[memoryview]) -> int:
        """Take everything."""
        if len(data):
            out.append(data)
        return len(data)

    def receive_eof(self) -> bool:
        """Complete, as far as HTTP can tell."""
        self.done = True
        return True


class ChunkedBody:
    """A body in chunks (section 7.1); extensions and trailers are read and ignored."""

    __slots__ = ("_left", "_line", "_partial", "done")

    def __init__(self) -> None:
        self._left = 0
        self._line = _CHUNK
        self._partial = b""
        self.done = False

    def receive_data(self, data: memoryview, out: list[memoryview]) -> int:
        """Take chunk after chunk, up to the end of the trailer section."""
        position, size = 0, len(data)
        while position < size and not self.done:
            left = self._left
            if left:
                taken = min(left, size - position)
                out.append(data[position : position + taken])
                position += taken
                self._left = left - taken
                continue
            match = None if self._partial else self._line.match(data, position)
            if match is None:
                position = self._split_line(data, position)
            else:
                if match.end() - position > self._limit():
                    raise CodecError("malformed chunked body")
                position = match.end()
                self._line_read(match)
        return position

    def receive_eof(self) -> bool:
        """Complete only after the last chunk."""
        return self.done

    def _limit(self) -> int:
        return MAX_TRAILERS if self._line is _TRAILERS else MAX_CHUNK_LINE

    def _line_read(self, match: re.Match[bytes]) -> None:
        if self._line is _TRAILERS:
            self.done = True
            return
        self._left = int(match[1], 16)
        self._line = _NEXT_CHUNK if self._left else _TRAILERS

    def _split_line(self, data: memoryview, position: int) -> int:
        """A line that is not whole in ``data``, or wrong; returns the new position."""
        line, before = self._line, len(self._partial)
        limit = self._limit()
        seen = self._partial + bytes(data[position : position + limit])
        match = line.match(seen)
        if match is not None and match.end() <= limit:
            self._partial = b""
            self._line_read(match)
            return position + match.end() - before
        if line is _TRAILERS:
            wrong = b"\r\n\r\n" in seen or seen[:1] in (b"\n", b":") or (seen[:1] == b"\r" and len(seen) > 1)
        else:
            start = 2 if line is _NEXT_CHUNK else 0
            wrong = seen[:start] != b"\r\n"[: min(start, len(seen))] or b"\n" in seen[start:]
        if match is not None or wrong or len(seen) >= limit:
            raise CodecError("malformed chunked body")
        self._partial = seen
        return len(data)


def response_body(head: Headers) -> BodyReader:
    """What delimits a response's body (section 6.3); the caller knows it has one. May raise CodecError."""
    return _delimited(head) or CloseBody()


def request_body(head: Headers, most: int) -> BodyReader:
    """What delimits a request's body: none without a header that says so.

    Raises CodecError, also for a length above ``most``.
    """
    body = _delimited(head) or LengthBody(0)
    if type(body) is LengthBody and body.left > most:
        raise CodecError("a body larger than any of ours")
    return body


def _delimited(head: Headers) -> LengthBody | ChunkedBody | None:
    """By Content-Length or the chunked coding, never both nor twice: smuggling is made of that."""
    body: LengthBody | ChunkedBody | None = None
    for name, value in head.headers:
        lower = name.lower()
        if lower not in ("content-length", "transfer-encoding"):
            continue
        if body is not None:
            raise CodecError("a body delimited twice")
        if lower == "transfer-encoding":
            if value.lower() != "chunked":
                raise CodecError("a body with a transfer coding that nobody asked for")
            body = ChunkedBody()
        elif value.isascii() and value.isdigit() and len(value) <= MAX_LENGTH_DIGITS:
            body = LengthBody(int(value))
        else:
            raise CodecError("malformed Content-Length")
    return body
