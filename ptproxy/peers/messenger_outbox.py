"""What waits to leave for one contact: lines and signals in their order, and one sealed envelope.

Stored, as entries of the list ``messenger/outbox <id>`` and the piece ``messenger/sealed <id>``, in hex::

    waiting = version u8 = 1 │ line u64 (0: a signal) │ until u64, milliseconds (0: for ever) │ part
    sealed  = version u8 = 1 │ token 32 │ key 32 │ count u16 │ (line u64) * │ envelope

There is at most one sealed envelope of a contact: the next is made when the mailbox has that one on disk.
So order is kept by whoever keeps it on the way, and a repeated deposit is the same bytes.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ptproxy.errors import PtproxyError, StateError
from ptproxy.fields import Fields
from ptproxy.peers.mailbox_delivery import DeliveryToken, token_id_of
from ptproxy.peers.messenger_events import ContactId
from ptproxy.peers.payload import MAX_PARTS, PresenceNotice

MAX_WAITING: Final = 1_000
"""Lines and signals of one contact that wait to leave: 16 MB of the longest."""
MAX_LINES: Final = MAX_PARTS
"""Lines of one envelope."""

_VERSION: Final = 1
_HEAD: Final = struct.Struct(">BQQ")
_SECRET: Final = 32


class OutboxFullError(PtproxyError):
    """Too much waits for this contact: nothing more is taken until some of it has left."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One part that has not been sealed."""

    entry: int
    """Its number in the list."""
    line: int
    """The number of the line that it is; 0: a signal."""
    until: int
    """Milliseconds after which it is worth nothing; 0: never."""
    part: bytes = field(repr=False)
    """With its kind and length."""

    def serialize(self) -> bytes:
        """As it is stored."""
        return _HEAD.pack(_VERSION, self.line, self.until) + self.part

    @classmethod
    def parse(cls, entry: int, data: bytes) -> Waiting:
        """The reverse; :class:`StateError` where it is damaged."""
        if len(data) <= _HEAD.size or data[0] != _VERSION:
            raise StateError("outbox: damaged, or of a version that this program does not know")
        _, line, until = _HEAD.unpack_from(data)
        return cls(entry, line, until, data[_HEAD.size :])


@dataclass(frozen=True, slots=True)
class Sealed:
    """An envelope that is deposited as it is, again and again."""

    token: bytes = field(repr=False)
    key: bytes = field(repr=False)
    lines: tuple[int, ...]
    """The numbers of the lines in it."""
    envelope: bytes = field(repr=False)

    def delivery(self) -> DeliveryToken:
        """The token that it is sealed under."""
        return DeliveryToken(self.token, self.key, token_id_of(self.token))

    def serialize(self) -> bytes:
        """As it is stored."""
        lines = b"".join(line.to_bytes(8, "big") for line in self.lines)
        return (
            bytes((_VERSION,))
            + self.token
            + self.key
            + len(self.lines).to_bytes(2, "big")
            + lines
            + self.envelope
        )

    @classmethod
    def parse(cls, data: bytes) -> Sealed:
        """The reverse; :class:`StateError` where it is damaged."""
        damaged = StateError("sealed envelope: damaged, or of a version that this program does not know")
        fields = Fields(data, damaged)
        if fields.number(1) != _VERSION:
            raise damaged
        token, key = fields.take(_SECRET), fields.take(_SECRET)
        lines = tuple(fields.number(8) for _ in range(fields.number(2)))
        return cls(token, key, lines, fields.rest())


@dataclass(slots=True)
class Outbox:
    """All that waits for one contact."""

    contact: ContactId
    waiting: deque[Waiting] = field(default_factory=deque)
    sealed: Sealed | None = None
    presence: PresenceNotice | None = None
    """Kept in memory only: it is for the moment."""
    presence_until: float = 0.0
    """When it is worth nothing any more."""
    asked: float = float("-inf")
    """When passes were last wished for with the reserve."""
    last_entry: int = 0

    def add(self, line: int, part: bytes, until: int = 0) -> Waiting:
        """One more; the caller has checked :attr:`full`."""
        self.last_entry += 1
        waiting = Waiting(self.last_entry, line, until, part)
        self.waiting.append(waiting)
        return waiting

    @property
    def full(self) -> bool:
        """Whether nothing more is taken."""
        return len(self.waiting) >= MAX_WAITING

    def load(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """What the store has, newest first; again with older ones."""
        for entry, data in entries:
            self.waiting.appendleft(Waiting.parse(entry, data))


def outbox_list(contact: ContactId) -> str:
    """The name of a contact's list of what waits."""
    return f"messenger/outbox {contact.hex()}"


def sealed_piece(contact: ContactId) -> str:
    """The name of a contact's sealed envelope."""
    return f"messenger/sealed {contact.hex()}"
