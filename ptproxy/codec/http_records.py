"""The records inside the http codec's bodies, and the tokens that name a request's carrier.

Download body: records, one after another::

    record = type u8 | length u24 | content

    0 DATA   payload
    1 PAD    random bytes, ignored
    2 HELLO  first record of every streamed body; content is padding
    3 NEXT   send the next GET now: this body ends once it is there; content is padding
    4 END    last record of a body: the payload goes on in the next one; content is padding
    5 CLOSE  last record of a body: the bridge has closed the carrier cleanly; content is padding

Upload body::

    body = flags u8 | length u24 | payload (length bytes) | padding (to the end of the body)

    flags bit 0: the carrier's last POST (clean close by the client); other bits are 0

Token, 18 bytes, in base64url at the start of a request's session cookie value::

    HMAC-SHA256(token_key, kind u8 | number u64)[:18]     kind: 0 POST, 1 GET streamed, 2 GET long poll

Integers are big-endian.
"""

from __future__ import annotations

import base64
import hmac
from typing import Final

from ptproxy.codec.randomness import RandomPool
from ptproxy.errors import CodecError

DATA: Final = 0
PAD: Final = 1
HELLO: Final = 2
NEXT: Final = 3
END: Final = 4
CLOSE: Final = 5

POST: Final = 0
STREAM: Final = 1
POLL: Final = 2

FIN: Final = 1
"""Flag of an upload body: the carrier's last."""
MIN_OPENING: Final = 80
"""Bytes of an opening: more than a token with its padding has, so that a carrier gone by opens nothing."""
UPLOAD_HEAD: Final = 4
"""Bytes before an upload body's payload."""
RECORD_HEAD: Final = 4
"""Bytes before a record's content."""
MAX_RECORD: Final = 1 << 20
"""Bytes of one DATA record as sent here (u24 would allow 16 MiB)."""
MAX_PADDING: Final = 255
"""Bytes of padding in HELLO, PAD, NEXT, END and CLOSE."""
SMALL: Final = 4096
"""Payload bytes up to which a record or upload is written as one buffer."""
TOKEN_BYTES: Final = 18
"""Bytes of a token: 144 bits, and a whole number of base64 characters."""
TOKEN_TEXT: Final = 24
"""Characters of a token."""


def token(key: bytes, kind: int, number: int) -> bytes:
    """The 18 bytes that name one request of the carrier that ``key`` belongs to."""
    return hmac.digest(key, bytes((kind,)) + number.to_bytes(8, "big"), "sha256")[:TOKEN_BYTES]


def token_text(key: bytes, kind: int, number: int, padding: bytes = b"") -> bytes:
    """The token as it stands in a cookie value, followed by ``padding`` (a multiple of 3 bytes)."""
    return base64.urlsafe_b64encode(token(key, kind, number) + padding)


def record(kind: int, content: bytes = b"") -> bytes:
    """One whole record."""
    return (kind << 24 | len(content)).to_bytes(4, "big") + content


def record_head(kind: int, length: int) -> bytes:
    """What stands before ``length`` bytes of content."""
    return (kind << 24 | length).to_bytes(4, "big")


def padding(pool: RandomPool) -> bytes:
    """0 to :data:`MAX_PADDING` random bytes."""
    return pool.take(pool.below(MAX_PADDING + 1))


class RecordReader:
    """Reads a download body's records from pieces split anyhow."""

    __slots__ = ("_head", "_kind", "_left", "closed", "ended", "greeted", "next_asked")

    def __init__(self) -> None:
        self._head = b""
        self._kind = PAD
        self._left = 0
        self.greeted = False
        """A record has come: the front passes on what it gets."""
        self.next_asked = False
        """NEXT has come."""
        self.ended = False
        """END or CLOSE has come whole: the body is complete."""
        self.closed = False
        """It was CLOSE."""

    def receive_data(self, data: memoryview, out: list[memoryview]) -> None:
        """Append the payload in ``data`` to ``out``. Raises :class:`CodecError`."""
        position, size = 0, len(data)
        while position < size:
            left = self._left
            if left:
                taken = min(left, size - position)
                if self._kind == DATA:
                    out.append(data[position : position + taken])
                position += taken
                self._left = left - taken
            else:
                if self.ended:
                    raise CodecError("bytes after a download's last record")
                head = bytes(data[position : position + RECORD_HEAD - len(self._head)])
                position += len(head)
                head = self._head + head
                if len(head) < RECORD_HEAD:
                    self._head = head
                    self._check_kind(head[0])
                    return
                self._head = b""
                self._check_kind(head[0])
                self._left = int.from_bytes(head[1:], "big")
                self.greeted = True
                if self._kind == NEXT:
                    self.next_asked = True
            if not self._left and self._kind >= END:
                self.ended = True
                self.closed = self._kind == CLOSE

    def _check_kind(self, kind: int) -> None:
        if kind > CLOSE:
            raise CodecError(f"record of unknown type {kind}")
        self._kind = kind
