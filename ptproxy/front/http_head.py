"""Heads of HTTP/1 messages: parsed strictly, and written again without what concerns one hop only.

Rules (RFC 9112 sections 2 to 6, RFC 9110 section 7.6.1):

- A head is never passed on as it came: it is parsed and serialised, so that
  the next reader cannot read it differently from us.
- A single LF ends a line as CRLF does; CR elsewhere, NUL, folded lines, space
  before a colon and names that are no token are errors.
- Content-Length is decimal digits, and one value however often it is said;
  beside Transfer-Encoding it is an error in a request and ignored in a reply.
- Fields named by Connection, and Connection, Keep-Alive, TE, Upgrade and
  Proxy-* themselves go no further. Transfer-Encoding and Trailer do, because
  chunks are passed on as they come.
- No Via and no Forwarded field is added (RFC 9110 section 7.6.3 wants the first): the
  site is not to learn of the proxy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ptproxy.errors import FrontError

MAX_HEAD: Final = 64 * 1024
"""Bytes of a head (and of trailers): web servers take 8 to 32 KiB, browsers send no more."""

TOO_LONG: Final = -1
"""What :func:`head_end` says of a head above :data:`MAX_HEAD`."""

MAX_LENGTH_DIGITS: Final = 18
"""Digits of a Content-Length: an exabyte; Python refuses to read thousands of them."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  (RFC 9110 section 5.6.2, not a secret)
_NAME = re.compile(_TOKEN.encode())
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])".encode())
_STATUS_LINE = re.compile(rb"HTTP/([0-9])\.([0-9]) ([1-9][0-9]{2})(?: ([^\0\r\n]*))?")
_HEAD_END = re.compile(rb"\n\r?\n")

_ONE_HOP: Final = frozenset((b"connection", b"keep-alive", b"te", b"upgrade"))
_REPLY_ONE_HOP: Final = frozenset((b"proxy-authenticate", b"proxy-authentication-info", b"proxy-connection"))
_NEVER_ONE_HOP: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"trailer"))
"""Fields that Connection may not name: without them a message reads differently."""

_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))


class Fields(list[tuple[bytes, bytes, bytes]]):
    """Header fields in their order: (name as written, name in lower case, value)."""

    __slots__ = ()

    def values_of(self, name: bytes) -> list[bytes]:
        """The values of every field ``name`` (lower case)."""
        return [value for _, lower, value in self if lower == name]

    def tokens_of(self, name: bytes) -> list[bytes]:
        """The comma-separated elements of every field ``name``, in lower case."""
        found = b",".join(self.values_of(name)).lower().split(b",")
        return [token for element in found if (token := element.strip(b" \t"))]

    def content_length(self) -> int | None:
        """The value of Content-Length, None without one; raises :class:`FrontError`."""
        values = self.values_of(b"content-length")
        if not values:
            return None
        elements = {element.strip(b" \t") for value in values for element in value.split(b",")}
        digits = elements.pop()
        if elements or not digits.isdigit() or len(digits) > MAX_LENGTH_DIGITS:
            raise FrontError("a Content-Length that is not one number")
        return int(digits)

    def to_pass_on(self, drop: Iterable[bytes] = ()) -> list[tuple[bytes, bytes, bytes]]:
        """What the next hop gets: all but the fields of this hop and those in ``drop``."""
        named = (set(self.tokens_of(b"connection")) - _NEVER_ONE_HOP) | _ONE_HOP | set(drop)
        return [field for field in self if field[1] not in named]


@dataclass(slots=True)
class RequestHead:
    """A request's head; ``minor`` is 0 for HTTP/1.0 and 1 for anything newer."""

    method: bytes
    target: bytes
    minor: int
    fields: Fields

    @classmethod
    def parse(cls, head: bytes) -> RequestHead:
        """The head in ``head`` (with its empty line); raises :class:`FrontError`."""
        line, fields = _split(head)
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise FrontError("a first line that is no HTTP request")
        method, target, major, minor = match.groups()
        if major != b"1":
            raise FrontError("a version of HTTP other than 1")
        return cls(method, target, min(int(minor), 1), fields)

    @property
    def persistent(self) -> bool:
        """Whether the program wants to go on after this request (RFC 9112 section 9.3).

        HTTP/1.0's Keep-Alive is not honoured (section 9.3 forbids it to proxies).
        """
        if not self.minor:
            return False
        return b"close" not in self.fields.tokens_of(b"connection") + self.fields.tokens_of(
            b"proxy-connection"
        )

    def serialize(self, target: bytes, host: bytes) -> bytes:
        """The head for the origin: ``target`` in origin-form, ``host`` in the Host field."""
        drop = (b"expect",) if not self.minor else ()
        lines = [b"%s %s HTTP/1.%d" % (self.method, target, self.minor)]
        named = False
        for name, lower, value in self.fields.to_pass_on(drop):
            if lower == b"host":
                lines.append(b"%s: %s" % (name, host))
                named = True
            elif not lower.startswith(b"proxy-"):
                lines.append(b"%s: %s" % (name, value))
        if not named:
            lines.insert(1, b"Host: " + host)
        if not self.persistent:
            lines.append(b"Connection: close")
        lines.append(b"\r\n")
        return b"\r\n".join(lines)


@dataclass(slots=True)
class ReplyHead:
    """A reply's head."""

    status: int
    phrase: bytes
    minor: int
    fields: Fields

    @classmethod
    def parse(cls, head: bytes) -> ReplyHead:
        """The head in ``head`` (with its empty line); raises :class:`FrontError`."""
        line, fields = _split(head)
        match = _STATUS_LINE.fullmatch(line)
        if match is None or match[1] != b"1":
            raise FrontError("a first line that is no HTTP reply")
        return cls(int(match[3]), match[4] or b"", min(int(match[2]), 1), fields)

    @property
    def persistent(self) -> bool:
        """Whether the origin takes another request on the same stream."""
        return bool(self.minor) and b"close" not in self.fields.tokens_of(b"connection")

    def serialize(self, *, close: bool) -> bytes:
        """The head for the local program; ``close``: the connection ends behind this reply."""
        drop = _REPLY_ONE_HOP
        if self.status < 200 or self.status == 204:
            drop |= _FRAMING
        elif self.fields.values_of(b"transfer-encoding"):
            drop |= {b"content-length"}
        lines = [b"HTTP/1.1 %d %s" % (self.status, self.phrase)]
        lines += [b"%s: %s" % (name, value) for name, _, value in self.fields.to_pass_on(drop)]
        if close:
            lines.append(b"Connection: close")
        lines.append(b"\r\n")
        return b"\r\n".join(lines)


def head_end(received: bytearray, searched: int) -> int:
    """The index behind the head in ``received``, 0 when it has not all arrived, or :data:`TOO_LONG`.

    ``searched`` bytes were looked at before, so each byte is looked at once.
    """
    match = _HEAD_END.search(received, max(0, searched - 2), MAX_HEAD)
    if match is not None:
        return match.end()
    return TOO_LONG if len(received) >= MAX_HEAD else 0


def check_field(line: bytes) -> tuple[bytes, bytes]:
    """The name and value in a field line; raises :class:`FrontError`."""
    name, colon, value = line.partition(b":")
    if not colon or _NAME.fullmatch(name) is None or b"\r" in value or b"\0" in value:
        raise FrontError("a line that is no HTTP header field")
    return name, value.strip(b" \t")


def _split(head: bytes) -> tuple[bytes, Fields]:
    """The first line and the fields of ``head``."""
    lines = [line[:-1] if line.endswith(b"\r") else line for line in head.split(b"\n")]
    fields = Fields()
    for line in lines[1:-2]:
        name, value = check_field(line)
        fields.append((name, name.lower(), value))
    return lines[0], fields
