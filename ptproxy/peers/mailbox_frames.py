"""What the mailbox's frames are made of, and how a stream is cut into them.

::

    frame = type u8 │ length u24 │ body

The frames themselves stand in ``mailbox_requests`` (up) and ``mailbox_answers``
(down), as ``PROTOCOL.md``, "Frames of the mailbox", has them. Each says which
lengths of a body are possible, so that a frame that cannot be right is refused
by its first four bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final, Protocol, Self, TypeVar

from ptproxy.buffer import Buffer
from ptproxy.errors import RemoteProtocolError

PREFACE: Final = b"\0ptproxy mailbox 1\n"
"""What a stream to the mailbox begins with: no HTTP request and no TLS hello begins like that."""
HEAD: Final = 4
"""Bytes of type and length."""
CHALLENGE: Final = 32
TOKEN: Final = 32
TOKEN_ID: Final = 32
MESSAGE_ID: Final = 16
BOX_KEY: Final = 32
"""Bytes of an Ed25519 public key (RFC 8032 section 5.1.5)."""
SIGNATURE: Final = 64
MAX_NOTE: Final = 64
"""Bytes of an owner's note to the other copies of itself: 52 today (``store_doubt``)."""
ENVELOPE_SIZES: Final = (2_048, 8_192, 32_768, 131_072)
"""Bytes of an envelope: four, so that a size says little; the largest bounds every buffer here."""
MAX_BUNDLE: Final = 8_192
"""Bytes of a prekey bundle: identity, signed and KEM prekeys and signatures take about 3,000."""
MAX_ONE_TIME: Final = 2_048
"""Bytes of a one-time prekey: an ML-KEM-1024 key (1,568) with its signature and id."""
MAX_ITEMS: Final = 1_024
"""Tokens in one frame."""
MAX_SUPPLY: Final = 128_000
"""Bytes of a PUBLISH or SUPPLY; more one-time prekeys go into further frames."""
MAX_SUPPLY_ITEMS: Final = 256
"""One-time prekeys in one frame: a box holds 200; of one byte each they would be 40,000 rows."""
MAX_WINDOW: Final = 64
"""Messages on their way to an owner that are not yet taken."""
MAX_USES: Final = 0xFFFF
"""Uses of one token: random nonces under one key stay far below 2^32 (SP 800-38D section 8.3)."""


class MailboxFrameError(RemoteProtocolError):
    """Bytes that are no frame of the mailbox's, or a frame out of turn."""


class Frame(Protocol):
    """What all frames have."""

    TYPE: ClassVar[int]
    SIZES: ClassVar[tuple[int, int]]
    """The shortest and the longest body in bytes."""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """The frame with this body, of a length that :attr:`SIZES` permits; MailboxFrameError."""

    def serialize(self) -> bytes:
        """The whole frame, head included."""


F = TypeVar("F", bound=Frame)


def frame(kind: int, *parts: bytes) -> bytes:
    """A frame of type ``kind`` with the body that ``parts`` are together."""
    body = b"".join(parts)
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


def items_of(body: bytes, size: int) -> list[bytes]:
    """``body`` in pieces of ``size``."""
    if len(body) % size:
        raise MailboxFrameError("a list that ends in the middle of an item")
    return [body[start : start + size] for start in range(0, len(body), size)]


def sized(blob: bytes) -> bytes:
    """``blob`` behind its u16 length."""
    return len(blob).to_bytes(2, "big") + blob


def parse_sized(body: bytes, start: int, most: int) -> tuple[bytes, int]:
    """The item at ``start`` with its u16 length, 1 to ``most`` bytes, and where the next one begins."""
    size = int.from_bytes(body[start : start + 2], "big")
    end = start + 2 + size
    if not 0 < size <= most or len(body) < end:
        raise MailboxFrameError("an item of an impossible length")
    return body[start + 2 : end], end


def parse_one_times(body: bytes, start: int) -> tuple[bytes, ...]:
    """The one-time prekeys from ``start`` to the end of ``body``."""
    found = []
    while start < len(body):
        blob, start = parse_sized(body, start, MAX_ONE_TIME)
        found.append(blob)
        if len(found) > MAX_SUPPLY_ITEMS:
            raise MailboxFrameError("too many one-time prekeys in one frame")
    return tuple(found)


def check_envelope(size: int) -> None:
    """Refuse a size that no envelope has."""
    if size not in ENVELOPE_SIZES:
        raise MailboxFrameError("an envelope of none of the four sizes")


class EmptyFrame:
    """A frame that is only its type."""

    __slots__ = ()
    TYPE: ClassVar[int]
    SIZES: ClassVar[tuple[int, int]] = (0, 0)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        del body
        return cls()

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE)


class FrameReader:
    """Cuts a stream into frames, however it arrives in pieces.

    Holds what came and is not yet a frame: less than one frame of the longest
    permitted type, besides what was fed in one go.
    """

    __slots__ = ("_buffer", "_start")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._start = 0

    def receive_data(self, data: Buffer) -> None:
        """More bytes of the stream."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def take(self, expected: bytes) -> bool:
        """Whether ``expected`` is the next, and taken; False until it is whole; MailboxFrameError if not."""
        found = bytes(self._buffer[self._start : self._start + len(expected)])
        if not expected.startswith(found):
            raise MailboxFrameError("not the mailbox's protocol")
        if len(found) < len(expected):
            return False
        self._start += len(expected)
        return True

    def next_frame(self, permitted: Mapping[int, type[F]]) -> F | None:
        """The next frame, None until it is whole. Raises :class:`MailboxFrameError`."""
        buffer, start = self._buffer, self._start
        if len(buffer) == start:
            return None
        kind = permitted.get(buffer[start])
        if kind is None:
            raise MailboxFrameError("a frame of an unknown type, or out of turn")
        if len(buffer) - start < HEAD:
            return None
        size = int.from_bytes(buffer[start + 1 : start + HEAD], "big")
        least, most = kind.SIZES
        if not least <= size <= most:
            raise MailboxFrameError("a frame of an impossible length")
        end = start + HEAD + size
        if len(buffer) < end:
            return None
        self._start = end
        return kind.parse(bytes(buffer[start + HEAD : end]))
