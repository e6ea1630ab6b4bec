"""What clients say to the mailbox: the owner of a box about it, anybody with a token to it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Final, Self

from ptproxy.peers.mailbox_frames import (
    BOX_KEY,
    ENVELOPE_SIZES,
    MAX_BUNDLE,
    MAX_ITEMS,
    MAX_NOTE,
    MAX_SUPPLY,
    MAX_SUPPLY_ITEMS,
    MAX_WINDOW,
    MESSAGE_ID,
    SIGNATURE,
    TOKEN,
    TOKEN_ID,
    EmptyFrame,
    MailboxFrameError,
    check_envelope,
    frame,
    items_of,
    parse_one_times,
    parse_sized,
    sized,
)


class Right(IntEnum):
    """What a token permits."""

    DEPOSIT = 1
    FETCH = 2


@dataclass(frozen=True, slots=True)
class Open:
    """The first frame of an owner's stream: whose box it is, and the proof."""

    TYPE: ClassVar[int] = 0x01
    SIZES: ClassVar[tuple[int, int]] = (BOX_KEY + SIGNATURE, BOX_KEY + SIGNATURE)
    box_key: bytes
    signature: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        return cls(body[:BOX_KEY], body[BOX_KEY:])

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, self.box_key, self.signature)


_GRANT: Final = struct.Struct(f">{TOKEN_ID}sBHI")


@dataclass(frozen=True, slots=True, order=True)
class TokenGrant:
    """A token as its owner makes it known; ``expires`` in days since 1970, that day excluded."""

    token_id: bytes
    right: Right
    uses: int
    expires: int

    def serialize(self) -> bytes:
        """39 bytes."""
        return _GRANT.pack(self.token_id, self.right, self.uses, self.expires)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The grant in 39 bytes; raises MailboxFrameError."""
        token_id, right, uses, expires = _GRANT.unpack(data)
        if right not in (Right.DEPOSIT, Right.FETCH) or not uses:
            raise MailboxFrameError("a token that permits nothing")
        return cls(token_id, Right(right), uses, expires)


@dataclass(frozen=True, slots=True)
class Grant:
    """Tokens that are good from now on; sorted by their ids, so that their order tells nothing."""

    TYPE: ClassVar[int] = 0x02
    SIZES: ClassVar[tuple[int, int]] = (_GRANT.size, _GRANT.size * MAX_ITEMS)
    tokens: tuple[TokenGrant, ...]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        return cls(tuple(TokenGrant.parse(item) for item in items_of(body, _GRANT.size)))

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, *(token.serialize() for token in sorted(self.tokens)))


@dataclass(frozen=True, slots=True)
class Revoke:
    """Tokens that are good no longer."""

    TYPE: ClassVar[int] = 0x03
    SIZES: ClassVar[tuple[int, int]] = (TOKEN_ID, TOKEN_ID * MAX_ITEMS)
    token_ids: tuple[bytes, ...]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        return cls(tuple(items_of(body, TOKEN_ID)))

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, *sorted(self.token_ids))


@dataclass(frozen=True, slots=True)
class Publish:
    """Another bundle, and one-time prekeys in place of those that were there."""

    TYPE: ClassVar[int] = 0x04
    SIZES: ClassVar[tuple[int, int]] = (3, MAX_SUPPLY)
    bundle: bytes = field(repr=False)
    one_times: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        bundle, end = parse_sized(body, 0, MAX_BUNDLE)
        return cls(bundle, parse_one_times(body, end))

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, sized(self.bundle), *map(sized, self.one_times))


@dataclass(frozen=True, slots=True)
class Supply:
    """More one-time prekeys."""

    TYPE: ClassVar[int] = 0x05
    SIZES: ClassVar[tuple[int, int]] = (3, MAX_SUPPLY)
    one_times: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        return cls(parse_one_times(body, 0))

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, *map(sized, self.one_times))


@dataclass(frozen=True, slots=True)
class Status(EmptyFrame):
    """How is the box?"""

    TYPE: ClassVar[int] = 0x06


@dataclass(frozen=True, slots=True)
class Listen:
    """Send what waits and what comes, at most ``window`` messages ahead of what is taken."""

    TYPE: ClassVar[int] = 0x07
    SIZES: ClassVar[tuple[int, int]] = (1, 1)
    window: int

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        if not 0 < body[0] <= MAX_WINDOW:
            raise MailboxFrameError("an impossible window")
        return cls(body[0])

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, bytes((self.window,)))


@dataclass(frozen=True, slots=True)
class Taken:
    """Messages that the owner has: they are deleted."""

    TYPE: ClassVar[int] = 0x08
    SIZES: ClassVar[tuple[int, int]] = (MESSAGE_ID, MESSAGE_ID * MAX_WINDOW)
    ids: tuple[bytes, ...]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        return cls(tuple(items_of(body, MESSAGE_ID)))

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, *self.ids)


@dataclass(frozen=True, slots=True)
class Close(EmptyFrame):
    """Delete the box and all that is in it."""

    TYPE: ClassVar[int] = 0x09


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep this note in place of the one there was: for whoever opens the box next."""

    TYPE: ClassVar[int] = 0x0A
    SIZES: ClassVar[tuple[int, int]] = (1, MAX_NOTE)
    note: bytes = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        return cls(body)

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, self.note)


@dataclass(frozen=True, slots=True)
class Recall(EmptyFrame):
    """Which note is kept?"""

    TYPE: ClassVar[int] = 0x0B


# ---- what anybody says


@dataclass(frozen=True, slots=True)
class Deposit:
    """An envelope for the box that the token belongs to."""

    TYPE: ClassVar[int] = 0x11
    SIZES: ClassVar[tuple[int, int]] = (TOKEN + ENVELOPE_SIZES[0], TOKEN + ENVELOPE_SIZES[-1])
    token: bytes = field(repr=False)
    envelope: bytes = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        check_envelope(len(body) - TOKEN)
        return cls(body[:TOKEN], body[TOKEN:])

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, self.token, self.envelope)


@dataclass(frozen=True, slots=True)
class Fetch:
    """The bundle of the box that the token belongs to, please."""

    TYPE: ClassVar[int] = 0x12
    SIZES: ClassVar[tuple[int, int]] = (TOKEN, TOKEN)
    token: bytes = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        return cls(body)

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, self.token)


OwnerRequest = Grant | Revoke | Publish | Supply | Status | Listen | Taken | Close | Keep | Recall
SenderRequest = Deposit | Fetch
Request = Open | OwnerRequest | SenderRequest

OWNER_FRAMES: Final[Mapping[int, type[OwnerRequest]]] = {
    kind.TYPE: kind for kind in (Grant, Revoke, Publish, Supply, Status, Listen, Taken, Close, Keep, Recall)
}
SENDER_FRAMES: Final[Mapping[int, type[SenderRequest]]] = {kind.TYPE: kind for kind in (Deposit, Fetch)}
FIRST_FRAMES: Final[Mapping[int, type[Request]]] = {Open.TYPE: Open, **SENDER_FRAMES}


def runs_of(items: Sequence[bytes], most: int) -> list[tuple[bytes, ...]]:
    """``items`` in runs that fit a frame each: ``most`` bytes, two of them for each item's length."""
    runs: list[tuple[bytes, ...]] = []
    run: list[bytes] = []
    size = 0
    for item in items:
        if run and (size + 2 + len(item) > most or len(run) == MAX_SUPPLY_ITEMS):
            runs.append(tuple(run))
            run, size = [], 0
        run.append(item)
        size += 2 + len(item)
    return [*runs, tuple(run)] if run else runs
