"""What a ratchet's plaintext holds: ``kind u8 │ begun u64 │ body``.

``begun`` says when the session was begun, by the clock of who began it. Every message says it,
so that whichever arrives first does: from it both sides know which of several sessions wins
(:attr:`~ptproxy.e2e.session.Session.rank`). A kind that we do not know is handed on as such: it
has been read, and a newer program may have meant something by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ptproxy.e2e.ratchet import MAX_PLAINTEXT

_AROUND: Final = 9
MAX_BODY: Final = MAX_PLAINTEXT - _AROUND
"""Bytes of the longest body: more is a file's, and files go in streams."""
MAX_BEGUN: Final = 2**64 - 1
"""The largest time: where a faulty clock or a hostile peer takes it, it stays."""


class Kind(IntEnum):
    """What a body is. The number is part of the wire format."""

    UNKNOWN = 0
    """Never sent: the body is all that was read, and this program cannot say what it means."""
    TEXT = 1
    """Bytes that the program above understands."""
    SUCCESSION = 2
    """A statement of :mod:`~ptproxy.e2e.succession`."""


@dataclass(frozen=True, slots=True)
class Content:
    """One plaintext, taken apart."""

    kind: Kind
    begun: int
    """Unix seconds."""
    body: bytes = field(repr=False)

    def serialize(self) -> bytes:
        """Nine bytes and the body."""
        return bytes((self.kind,)) + self.begun.to_bytes(8, "big") + self.body

    @classmethod
    def parse(cls, plaintext: bytes) -> Content:
        """From whatever a peer has encrypted: what makes no sense is :attr:`Kind.UNKNOWN`."""
        known = len(plaintext) >= _AROUND and plaintext[0] in (Kind.TEXT, Kind.SUCCESSION)
        if not known:
            begun = int.from_bytes(plaintext[1:_AROUND], "big") if len(plaintext) >= _AROUND else 0
            return cls(Kind.UNKNOWN, begun, plaintext)
        return cls(Kind(plaintext[0]), int.from_bytes(plaintext[1:_AROUND], "big"), plaintext[_AROUND:])
