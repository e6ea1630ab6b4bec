"""What is said about a file on a stream of the purpose ``file/1``: without I/O.

::

    up    OFFER    version u8 = 1 │ transfer 16 │ size u64 │ SHA-256 32 │ length u16 │ name, UTF-8
    down  answer   0x01 │ offset u64      go on from here: what is before it has come earlier
                   0x02                   no
    up    the file's bytes from the offset on, then the end of the direction
    down  0x03 | 0x04                     all is there and verified | it is another file than was offered

The hash names the file: what has come of it is kept and gone on with whenever the same contact offers the
same file again, over whatever stream.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ptproxy.errors import LocalProtocolError, PtproxyError, RemoteProtocolError

PURPOSE: Final = b"file/1"
"""Of the stream."""
TRANSFER: Final = 16
"""Bytes of a transfer's id."""
DIGEST: Final = 32
"""Bytes of a file's SHA-256."""
MAX_SAID_NAME: Final = 1024
"""Bytes of a name as it is sent: four a character of the longest that file systems take."""

_VERSION: Final = 1
_OFFER: Final = struct.Struct(f">B{TRANSFER}sQ{DIGEST}sH")
_ACCEPT: Final = struct.Struct(">BQ")


class FileProtocolError(RemoteProtocolError):
    """The contact's program says something else than is said about files."""


class FileRefusedError(PtproxyError):
    """The contact does not want the file."""


class FileDiffersError(PtproxyError):
    """What came is not what was offered: the file was changed while it was sent."""


class FileLapsedError(PtproxyError):
    """Nobody has taken the file in time."""


class Answer(IntEnum):
    """The first byte of what the receiver says."""

    ACCEPTED = 1
    REFUSED = 2
    COMPLETE = 3
    DIFFERENT = 4


@dataclass(frozen=True, slots=True)
class Offer:
    """A file is offered."""

    transfer: bytes
    size: int
    digest: bytes
    name: str
    """As the sender calls it: hostile text."""

    def serialize(self) -> bytes:
        """Its bytes; :class:`LocalProtocolError` for a name that is too long."""
        name = self.name.encode("utf-8", "replace")
        if len(name) > MAX_SAID_NAME:
            raise LocalProtocolError("file: its name is too long")
        return _OFFER.pack(_VERSION, self.transfer, self.size, self.digest, len(name)) + name

    @classmethod
    def parse(cls, data: bytes) -> tuple[Offer, int] | None:
        """The offer at the head of ``data`` and its length; None until it is whole.

        :class:`FileProtocolError` for anything else.
        """
        if data[:1] not in (b"", bytes((_VERSION,))):
            raise FileProtocolError("file: an offer of another version")
        if len(data) < _OFFER.size:
            return None
        _, transfer, size, digest, length = _OFFER.unpack_from(data)
        if length > MAX_SAID_NAME or size >= 2**63:
            raise FileProtocolError("file: not an offer")
        end = _OFFER.size + length
        if len(data) < end:
            return None
        try:
            name = data[_OFFER.size : end].decode()
        except UnicodeDecodeError:
            raise FileProtocolError("file: a name that is not UTF-8") from None
        return cls(transfer, size, digest, name), end


def accept(offset: int) -> bytes:
    """Go on from ``offset``."""
    return _ACCEPT.pack(Answer.ACCEPTED, offset)


class Answers:
    """What the receiver says, as it comes in."""

    __slots__ = ("_received", "_size", "offset", "result")

    def __init__(self, size: int) -> None:
        self._received = b""
        self._size = size
        self.offset: int | None = None
        """Where to go on, once the file is accepted."""
        self.result: Answer | None = None
        """REFUSED, COMPLETE or DIFFERENT, once it is said."""

    def receive(self, data: bytes) -> None:
        """More of it; :class:`FileProtocolError` for anything that is not said."""
        self._received += data
        if self.result is None and self.offset is None and self._received:
            self._first()
        if self.result is None and self.offset is not None and self._received:
            code = self._received[0]
            if code not in (Answer.COMPLETE, Answer.DIFFERENT):
                raise FileProtocolError("file: not an answer")
            self.result, self._received = Answer(code), self._received[1:]
        if self.result is not None and self._received:
            raise FileProtocolError("file: more than an answer")
        if len(self._received) > _ACCEPT.size:
            raise FileProtocolError("file: not an answer")

    def _first(self) -> None:
        code = self._received[0]
        if code == Answer.REFUSED:
            self.result, self._received = Answer.REFUSED, self._received[1:]
        elif code != Answer.ACCEPTED:
            raise FileProtocolError("file: not an answer")
        elif len(self._received) >= _ACCEPT.size:
            offset = _ACCEPT.unpack_from(self._received)[1]
            if offset > self._size:
                raise FileProtocolError("file: more than there is")
            self.offset, self._received = offset, self._received[_ACCEPT.size :]
