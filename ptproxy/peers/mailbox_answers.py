"""What the mailbox says: one answer to each request, and mail unasked."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Final, Self

from ptproxy.errors import PtproxyError
from ptproxy.peers.mailbox_frames import (
    CHALLENGE,
    ENVELOPE_SIZES,
    MAX_BUNDLE,
    MAX_NOTE,
    MAX_ONE_TIME,
    MESSAGE_ID,
    TOKEN_ID,
    EmptyFrame,
    MailboxFrameError,
    check_envelope,
    frame,
    parse_sized,
    sized,
)


class Refusal(IntEnum):
    """Why a request failed; an unknown number from a newer mailbox reads as :attr:`UNAVAILABLE`."""

    TOKEN = 1
    """The token does not permit that, for whatever reason."""
    BOX_FULL = 2
    """The box, or this token's share of it."""
    LATER = 3
    """Too much at once, or for this account today."""
    UNAVAILABLE = 4
    """The mailbox or its disk takes no more."""

    @classmethod
    def parse(cls, code: int) -> Refusal:
        """The refusal for a code from the wire."""
        try:
            return cls(code)
        except ValueError:
            return cls.UNAVAILABLE


_WORDS: Final = {
    Refusal.TOKEN: "the token does not permit that, or no longer",
    Refusal.BOX_FULL: "the box is full, or this contact's share of it",
    Refusal.LATER: "too much at once; try again later",
    Refusal.UNAVAILABLE: "the mailbox takes no more at present",
}


class RequestRefused(PtproxyError):  # noqa: N818  (an answer, not a fault)
    """The mailbox did not do what it was asked, and nothing has changed."""

    def __init__(self, refusal: Refusal, seconds: int = 0) -> None:
        super().__init__(_WORDS[refusal])
        self.refusal = refusal
        self.seconds = seconds
        """Until it may do better; 0: nobody knows."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame down: what an owner signs."""

    TYPE: ClassVar[int] = 0x81
    SIZES: ClassVar[tuple[int, int]] = (CHALLENGE, CHALLENGE)
    challenge: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        return cls(body)

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, self.challenge)


@dataclass(frozen=True, slots=True)
class Done(EmptyFrame):
    """It is done, and on disk."""

    TYPE: ClassVar[int] = 0x82


_STATE: Final = struct.Struct(">IQIIIQII")


@dataclass(frozen=True, slots=True)
class State:
    """What a box holds and may hold."""

    TYPE: ClassVar[int] = 0x83
    SIZES: ClassVar[tuple[int, int]] = (_STATE.size, _STATE.size)
    messages: int
    size: int
    """Bytes charged to the box."""
    tokens: int
    one_times: int
    most_messages: int
    most_size: int
    most_tokens: int
    most_one_times: int

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        return cls(*_STATE.unpack(body))

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(
            self.TYPE,
            _STATE.pack(
                self.messages, self.size, self.tokens, self.one_times,
                self.most_messages, self.most_size, self.most_tokens, self.most_one_times,
            ),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bundle:
    """A prekey bundle, and a one-time prekey that nobody else gets (b"": none was left)."""

    TYPE: ClassVar[int] = 0x84
    SIZES: ClassVar[tuple[int, int]] = (3, 2 + MAX_BUNDLE + MAX_ONE_TIME)
    bundle: bytes = field(repr=False)
    one_time: bytes = field(default=b"", repr=False)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        bundle, end = parse_sized(body, 0, MAX_BUNDLE)
        if len(body) - end > MAX_ONE_TIME:
            raise MailboxFrameError("a one-time prekey of an impossible length")
        return cls(bundle, body[end:])

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, sized(self.bundle), self.one_time)


@dataclass(frozen=True, slots=True)
class Refused:
    """A request failed and changed nothing; ``seconds`` until it may do better, 0: nobody knows."""

    TYPE: ClassVar[int] = 0x85
    SIZES: ClassVar[tuple[int, int]] = (5, 5)
    refusal: Refusal
    seconds: int = 0

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        return cls(Refusal.parse(body[0]), int.from_bytes(body[1:], "big"))

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, bytes((self.refusal,)), self.seconds.to_bytes(4, "big"))


@dataclass(frozen=True, slots=True)
class Mail:
    """A message for the owner, until it is taken."""

    TYPE: ClassVar[int] = 0x86
    SIZES: ClassVar[tuple[int, int]] = (
        MESSAGE_ID + TOKEN_ID + ENVELOPE_SIZES[0], MESSAGE_ID + TOKEN_ID + ENVELOPE_SIZES[-1],
    )  # fmt: skip
    id: bytes
    token_id: bytes
    envelope: bytes = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        check_envelope(len(body) - MESSAGE_ID - TOKEN_ID)
        start = MESSAGE_ID + TOKEN_ID
        return cls(body[:MESSAGE_ID], body[MESSAGE_ID:start], body[start:])

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, self.id, self.token_id, self.envelope)


@dataclass(frozen=True, slots=True)
class Note:
    """What the owner had kept last; b"": nothing."""

    TYPE: ClassVar[int] = 0x88
    SIZES: ClassVar[tuple[int, int]] = (0, MAX_NOTE)
    note: bytes = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :class:`Frame`."""
        return cls(body)

    def serialize(self) -> bytes:
        """See :class:`Frame`."""
        return frame(self.TYPE, self.note)


@dataclass(frozen=True, slots=True)
class Displaced(EmptyFrame):
    """Unasked, and the last frame: another stream has opened the owner's box."""

    TYPE: ClassVar[int] = 0x87


Answer = Done | State | Bundle | Refused | Note
"""What a request is answered with."""
Downward = Hello | Answer | Mail | Displaced

DOWN_FRAMES: Final[Mapping[int, type[Downward]]] = {
    kind.TYPE: kind for kind in (Hello, Done, State, Bundle, Refused, Mail, Displaced, Note)
}
