"""HTTP/1.1 message heads: what stands before a body (RFC 9112 sections 2 to 5), strictly.

A head is a start line and header lines, each ended by CR LF, then an empty line::

    request-line = method SP target SP "HTTP/1." ("0" / "1") CRLF
    status-line  = "HTTP/1." ("0" / "1") SP 3DIGIT SP [ reason ] CRLF
    header-line  = token ":" OWS value OWS CRLF

Refused though RFC 9112 lets a lenient reader pass: a bare LF or CR, an empty
line before the start line, white space before the colon, folded lines, more
than one space in a start line, other versions. What is refused is refused as
soon as the bytes that break a rule are there, however they were split: on a
bridge a stranger's bytes go to the web site no later than a web server would
have looked at them.

Text is ISO 8859-1 both ways, so every byte survives; names keep their case and
headers their order. Bodies and what delimits them are the callers' business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from ptproxy.buffer import Buffer
from ptproxy.errors import CodecError, LocalProtocolError

MAX_HEAD = 16 * 1024
"""Bytes of one head with its empty line; nginx takes 8 KiB a line, 32 KiB in all; browsers send < 4 KiB."""
MAX_HEADERS = 100
"""Header lines of one head; Apache's LimitRequestFields is 100, browsers send about 20."""
MAX_METHOD = 24
"""Bytes of a method; the longest registered one (UPDATEREDIRECTREF) has 17."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb"{1,%d}) ([\x21-\x7e]+) (HTTP/1\.[01])" % MAX_METHOD)
_VERSION_START = rb"(?:H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[01]\r?)?)?)?)?)?)?)?)?"
_REQUEST_START = re.compile(
    _TOKEN + rb"{1,%d}(?: (?:[\x21-\x7e]+(?: " % MAX_METHOD + _VERSION_START + rb")?)?)?"
)
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)")
_STATUS_START = re.compile(
    rb"H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[01](?: (?:[1-9](?:[0-9](?:[0-9]"
    rb"(?: [\t\x20-\x7e\x80-\xff]*\r?)?)?)?)?)?)?)?)?)?)?)?)?"
)
_HEADER_LINE = re.compile(rb"(" + _TOKEN + rb"+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_HEADER_START = re.compile(rb"(?:" + _TOKEN + rb"+(?::[\t\x20-\x7e\x80-\xff]*\r?)?)?|\r")


@dataclass(slots=True)
class Headers:
    """Header lines in order: what requests and responses share."""

    headers: list[tuple[str, str]]
    """(name as written, value without surrounding white space)."""

    def get_all(self, name: str) -> list[str]:
        """Every value of a header; ``name`` in lower case."""
        return [value for key, value in self.headers if key.lower() == name]

    def get(self, name: str) -> str | None:
        """The only value of a header (``name`` in lower case), None when absent.

        Raises :class:`CodecError` when it stands there twice: which one counts
        is what request smuggling is made of.
        """
        values = self.get_all(name)
        if len(values) > 1:
            raise CodecError(f"header {name} is repeated")
        return values[0] if values else None

    def tokens(self, name: str) -> list[str]:
        """The comma-separated elements of a list header, in lower case (RFC 9110 section 5.6.1)."""
        return [
            element
            for value in self.get_all(name)
            for part in value.split(",")
            if (element := part.strip(" \t").lower())
        ]

    def cookies(self) -> Iterator[tuple[str, str]]:
        """Cookie pairs in order (RFC 6265 section 4.2.1); anything that is no pair is passed over."""
        for value in self.get_all("cookie"):
            for pair in value.split(";"):
                name, equals, content = pair.strip(" \t").partition("=")
                if equals:
                    yield name, content

    def cookie(self, name: str) -> str | None:
        """The first cookie of this name (case matters), None when absent."""
        return next((content for key, content in self.cookies() if key == name), None)

    def _lines(self, start: str) -> bytes:
        lines = [start, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        try:
            head = "\r\n".join(lines).encode("latin-1")
        except UnicodeEncodeError:
            raise LocalProtocolError("a head holds only ISO 8859-1 characters") from None
        ends = len(lines) - 1
        if head.count(b"\r") != ends or head.count(b"\n") != ends or b"\0" in head:
            raise LocalProtocolError("a head value holds a line end or NUL")
        return head


@dataclass(slots=True)
class HttpHead(Headers):
    """The head of a request."""

    method: str
    target: str
    """As on the request line: usually a path with query."""
    version: str = "HTTP/1.1"

    def serialize(self) -> bytes:
        """The head as sent, with its empty line; :class:`LocalProtocolError` for values that break it."""
        if " " in self.target or not self.target:
            raise LocalProtocolError("a request target holds no spaces")
        return self._lines(f"{self.method} {self.target} {self.version}")


@dataclass(slots=True)
class ResponseHead(Headers):
    """The head of a response."""

    status: int
    reason: str = ""
    version: str = "HTTP/1.1"

    def serialize(self) -> bytes:
        """The head as sent, with its empty line; :class:`LocalProtocolError` for values that break it."""
        return self._lines(f"{self.version} {self.status:03d} {self.reason}")


H = TypeVar("H", HttpHead, ResponseHead)


class _HeadReader(Generic[H]):
    """Collects one head after another from bytes split anyhow."""

    __slots__ = ("_buffer", "_headers", "_limit", "_next", "_start", "rest")

    _start_prefix: re.Pattern[bytes]
    _what: str

    def __init__(self, limit: int = MAX_HEAD) -> None:
        self._limit = limit
        self.rest: Buffer = b""
        """After a head was returned: what followed it, perhaps a view of the data given."""
        self._buffer = bytearray()
        self._clear()

    def _clear(self) -> None:
        self._buffer.clear()
        self._next = 0  # where in the buffer the first line not yet parsed begins
        self._start: H | None = None
        self._headers: list[tuple[str, str]] = []

    @property
    def empty(self) -> bool:
        """True between heads: no byte of the next one has come."""
        return not self._buffer

    def receive_data(self, data: Buffer) -> H | None:
        """The head once it is complete, with :attr:`rest` set; None while more is needed.

        Returns to the state for a next head. Raises :class:`CodecError` for
        anything malformed or too large; the reader is then of no further use.
        """
        buffer = self._buffer
        before = len(buffer)
        room = self._limit - before
        buffer += data if len(data) <= room else memoryview(data)[:room]
        while True:
            end = buffer.find(b"\r\n", self._next)
            if end < 0:
                break
            line, self._next = buffer[self._next : end], end + 2
            if not line and self._start is not None:
                head, taken = self._start, self._next - before
                head.headers = self._headers
                self._clear()
                self.rest = memoryview(data)[taken:] if taken < len(data) else b""
                return head
            self._parse_line(bytes(line))
        tail = buffer[self._next :]
        pattern = self._start_prefix if self._start is None else _HEADER_START
        if tail and pattern.fullmatch(tail) is None:
            raise CodecError(
                f"malformed {self._what} line" if self._start is None else "malformed header line"
            )
        if len(data) > room or len(buffer) >= self._limit:
            raise CodecError(f"{self._what} head of more than {self._limit} bytes")
        return None

    def _parse_line(self, line: bytes) -> None:
        if self._start is None:
            self._start = self._parse_start(line)
            return
        match = _HEADER_LINE.fullmatch(line)
        if match is None:
            raise CodecError("malformed header line")
        if len(self._headers) >= MAX_HEADERS:
            raise CodecError(f"more than {MAX_HEADERS} header lines")
        name, value = match.groups()
        self._headers.append((name.decode("ascii"), value.rstrip(b" \t").decode("latin-1")))

    def _parse_start(self, line: bytes) -> H:
        raise NotImplementedError


class RequestReader(_HeadReader[HttpHead]):
    """Reads request heads (RFC 9112 section 3)."""

    __slots__ = ()

    _start_prefix = _REQUEST_START
    _what = "request"

    def _parse_start(self, line: bytes) -> HttpHead:
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise CodecError("malformed request line")
        method, target, version = (part.decode("ascii") for part in match.groups())
        return HttpHead([], method, target, version)


class ResponseReader(_HeadReader[ResponseHead]):
    """Reads response heads (RFC 9112 section 4)."""

    __slots__ = ()

    _start_prefix = _STATUS_START
    _what = "status"

    def _parse_start(self, line: bytes) -> ResponseHead:
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise CodecError("malformed status line")
        version, status, reason = match.groups()
        return ResponseHead([], int(status), reason.decode("latin-1"), version.decode("ascii"))
