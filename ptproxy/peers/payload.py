"""What peers say to each other inside a sealed message: a list of parts, most of them one or two.

::

    payload  = version u8 = 1 │ sent u64 │ part *
    part     = kind u8 │ length u24 │ body

    1 hello     prekeys key 32 │ name length u16 │ name │ mailbox link      who we are, where our box is
    2 line      number u64 │ written u64 │ text                             text is for a person
    3 receipt   what u8 (1 delivered, 2 read) │ (first u64 │ count u16) *   of lines, by their numbers
    4 pass      DeliveryPass 45                                             deposit or fetch at our box
    5 presence  u8 (0 away, 1 here) │ good for u32, seconds
    6 signal    bytes                                                       another part of the program
    7 wish      passes left u16                                             give us more passes
    8 bridges   an invite to bridges, as its text has it (``dht.invite``)   for the person to take, or not
    9 records   secret 32 │ key 32                                          to find our mailbox if it is gone

It is the body of an ``e2e`` message of :attr:`~ptproxy.e2e.Kind.TEXT`. Numbers are big-endian, times
milliseconds since the epoch by the sender's clock, texts UTF-8. A part of a kind that we do not
know is an :class:`Unknown`, whatever is in it: a newer program means something by it, and the parts
beside it are good. Everything else that is wrong makes the whole payload a :class:`PayloadError`.

A message of several parts is one deposit and uses one token: receipts, passes and lines that wait for
the same contact leave together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Final, Self, get_args

from ptproxy.config.link import MAX_LINK, Link
from ptproxy.dht.invite import MAX_TEXT as MAX_INVITE
from ptproxy.dht.invite import Invite, InviteError
from ptproxy.dht.record_secret import SECRET
from ptproxy.dht.signing import KEY
from ptproxy.e2e import MAX_BODY
from ptproxy.errors import RemoteProtocolError
from ptproxy.peers.mailbox_delivery import DeliveryPass, PassError

MAX_TEXT: Final = 16_384
"""Bytes of a line's text in UTF-8: eight pages; what is longer is a file."""
MAX_NAME: Final = 256
"""Bytes of a name in UTF-8."""
MAX_SIGNAL: Final = 16_384
"""Bytes of a signal."""
MAX_PARTS: Final = 256
"""Parts of one payload: parsing costs no more than the message did."""
MAX_RANGES: Final = 64
"""Ranges of lines in one receipt."""
MAX_TIME: Final = 253_402_300_800_000
"""Milliseconds until the year 10000: what any program can show as a date."""
MAX_NUMBER: Final = (1 << 62) - 1
"""The largest number of a line: every store has room for it as a signed integer."""
MAX_PRESENCE: Final = 86_400
"""Seconds for which somebody can say to be there."""
PREKEYS_KEY: Final = 32
"""Bytes of the key under which a mailbox's prekeys are sealed."""

_VERSION: Final = 1
_HEAD: Final = struct.Struct(">BQ")
_PART: Final = 4
HEAD: Final = _HEAD.size
"""Bytes of a payload before its parts."""


class PayloadError(RemoteProtocolError):
    """Bytes that are no payload of a version that we know."""


class Presence(IntEnum):
    """Whether somebody is there. The number is part of the wire format."""

    AWAY = 0
    HERE = 1


class Read(IntEnum):
    """What a receipt says of lines. The number is part of the wire format."""

    DELIVERED = 1
    """The program has them."""
    READ = 2
    """The person has seen them."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who somebody is and where to write to: at the beginning, and when something of it changes."""

    KIND: ClassVar[int] = 1
    name: str
    prekeys_key: bytes = field(repr=False)
    mailbox: Link = field(repr=False)

    def body(self) -> bytes:
        """As it is sent."""
        name = self.name.encode()
        return self.prekeys_key + len(name).to_bytes(2, "big") + name + self.mailbox.serialize().encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :meth:`Payload.parse`."""
        length = int.from_bytes(body[PREKEYS_KEY : PREKEYS_KEY + 2], "big")
        start = PREKEYS_KEY + 2
        if length > MAX_NAME or len(body) > start + length + MAX_LINK or len(body) <= start + length:
            raise PayloadError("payload: a hello of an impossible length")
        name, link = _text(body[start : start + length]), _text(body[start + length :])
        try:
            mailbox = Link.parse(link)
        except ValueError:
            raise PayloadError("payload: a hello with no link") from None
        return cls(name, body[:PREKEYS_KEY], mailbox)


_LINE: Final = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line for a person."""

    KIND: ClassVar[int] = 2
    number: int
    """Its sender's: receipts name it by that."""
    written: int
    text: str = field(repr=False)

    def body(self) -> bytes:
        """As it is sent."""
        return _LINE.pack(self.number, self.written) + self.text.encode()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :meth:`Payload.parse`."""
        if not _LINE.size < len(body) <= _LINE.size + MAX_TEXT:
            raise PayloadError("payload: a line of an impossible length")
        number, written = _LINE.unpack_from(body)
        return cls(_number(number), _time(written), _text(body[_LINE.size :]))


_RANGE: Final = struct.Struct(">QH")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of lines: ``(first, count)`` of numbers, in rising order, not touching."""

    KIND: ClassVar[int] = 3
    what: Read
    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, what: Read, numbers: Iterable[int]) -> Self:
        """The first lines of ``numbers`` that fit; :meth:`numbers` says which."""
        ranges: list[tuple[int, int]] = []
        for number in sorted(set(numbers)):
            first, count = ranges[-1] if ranges else (0, 0)
            if ranges and number == first + count and count < 0xFFFF:
                ranges[-1] = (first, count + 1)
            elif len(ranges) < MAX_RANGES:
                ranges.append((number, 1))
            else:
                break
        return cls(what, tuple(ranges))

    def numbers(self) -> Iterator[int]:
        """All of them."""
        return (number for first, count in self.ranges for number in range(first, first + count))

    def body(self) -> bytes:
        """As it is sent."""
        return bytes((self.what,)) + b"".join(_RANGE.pack(*each) for each in self.ranges)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :meth:`Payload.parse`."""
        count, rest = divmod(len(body) - 1, _RANGE.size)
        if rest or not 0 < count <= MAX_RANGES or body[0] not in tuple(Read):
            raise PayloadError("payload: a receipt of an impossible form")
        ranges = tuple(_RANGE.iter_unpack(body[1:]))
        end = 0
        for first, many in ranges:
            if first < end or not many or first + many > MAX_NUMBER:
                raise PayloadError("payload: a receipt with impossible numbers")
            end = first + many
        return cls(Read(body[0]), ranges)


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to deposit at our box, or to fetch our bundle there."""

    KIND: ClassVar[int] = 4
    given: DeliveryPass = field(repr=False)

    def body(self) -> bytes:
        """As it is sent."""
        return self.given.serialize()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :meth:`Payload.parse`."""
        try:
            return cls(DeliveryPass.parse(body))
        except PassError:
            raise PayloadError("payload: no pass") from None


@dataclass(frozen=True, slots=True)
class PresenceNotice:
    """Here for some seconds, or away."""

    KIND: ClassVar[int] = 5
    presence: Presence
    seconds: int

    def body(self) -> bytes:
        """As it is sent."""
        return bytes((self.presence,)) + self.seconds.to_bytes(4, "big")

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :meth:`Payload.parse`."""
        seconds = int.from_bytes(body[1:], "big")
        if len(body) != 5 or body[0] not in tuple(Presence) or seconds > MAX_PRESENCE:
            raise PayloadError("payload: an impossible presence")
        return cls(Presence(body[0]), seconds)


@dataclass(frozen=True, slots=True)
class Signal:
    """Bytes for another part of the program."""

    KIND: ClassVar[int] = 6
    content: bytes = field(repr=False)

    def body(self) -> bytes:
        """As it is sent."""
        return self.content

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :meth:`Payload.parse`."""
        if len(body) > MAX_SIGNAL:
            raise PayloadError("payload: a signal that is too long")
        return cls(body)


@dataclass(frozen=True, slots=True)
class Wish:
    """Passes are running out: ``left`` tokens are there, this message's not counted."""

    KIND: ClassVar[int] = 7
    left: int

    def body(self) -> bytes:
        """As it is sent."""
        return self.left.to_bytes(2, "big")

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :meth:`Payload.parse`."""
        if len(body) != 2:
            raise PayloadError("payload: no wish")
        return cls(int.from_bytes(body, "big"))


@dataclass(frozen=True, slots=True)
class BridgeInvite:
    """An invite to bridges that somebody passes on, its signature good; it may be over."""

    KIND: ClassVar[int] = 8
    invite: Invite = field(repr=False)

    def body(self) -> bytes:
        """As it is sent."""
        return self.invite.serialize().encode("ascii")

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :meth:`Payload.parse`."""
        if len(body) > MAX_INVITE:
            raise PayloadError("payload: an invite that is too long")
        try:
            return cls(Invite.parse(_text(body)))
        except InviteError:
            raise PayloadError("payload: no invite to bridges") from None


@dataclass(frozen=True, slots=True)
class Records:
    """Under which secret the contact finds our records in the directory, and the key that signs them."""

    KIND: ClassVar[int] = 9
    secret: bytes = field(repr=False)
    """64 bytes, both."""

    def body(self) -> bytes:
        """As it is sent."""
        return self.secret

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """See :meth:`Payload.parse`."""
        if len(body) != SECRET + KEY:
            raise PayloadError("payload: no secret of records")
        return cls(body)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A part of a kind that this program does not know."""

    kind: int
    content: bytes = field(repr=False)

    def body(self) -> bytes:
        """As it was sent."""
        return self.content


Known = Hello | TextLine | Receipt | Pass | PresenceNotice | Signal | Wish | BridgeInvite | Records
Part = Known | Unknown

_KINDS: Final[dict[int, type[Known]]] = {kind.KIND: kind for kind in get_args(Known)}


def serialize_part(part: Part) -> bytes:
    """One part with its kind and length."""
    kind = part.kind if isinstance(part, Unknown) else part.KIND
    body = part.body()
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


def parse_part(data: bytes) -> Part:
    """One part alone; :class:`PayloadError` for anything else."""
    if len(data) < _PART or int.from_bytes(data[1:_PART], "big") != len(data) - _PART:
        raise PayloadError("payload: a part that does not fit")
    return _part(data[0], data[_PART:])


def _part(kind: int, body: bytes) -> Part:
    known = _KINDS.get(kind)
    return Unknown(kind, body) if known is None else known.parse(body)


@dataclass(frozen=True, slots=True)
class Payload:
    """The parts of one message, in order."""

    sent: int
    """When it was sealed, in milliseconds of the sender's clock."""
    parts: tuple[Part, ...]

    def serialize(self) -> bytes:
        """As it is sealed; it has to have at most ``MAX_BODY`` bytes, which ``e2e`` checks."""
        return _HEAD.pack(_VERSION, self.sent) + b"".join(map(serialize_part, self.parts))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From whatever a peer has sealed; :class:`PayloadError` for what is no payload."""
        if not HEAD <= len(data) <= MAX_BODY:
            raise PayloadError("payload: of an impossible length")
        version, sent = _HEAD.unpack_from(data)
        if version != _VERSION:
            raise PayloadError("payload: of a version that this program does not know")
        parts: list[Part] = []
        position = HEAD
        while position < len(data):
            start = position + _PART
            end = start + int.from_bytes(data[position + 1 : start], "big")
            if start > len(data) or end > len(data) or len(parts) == MAX_PARTS:
                raise PayloadError("payload: parts that do not fit")
            parts.append(_part(data[position], data[start:end]))
            position = end
        return cls(_time(sent), tuple(parts))


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise PayloadError("payload: a text that is not UTF-8") from None


def _time(milliseconds: int) -> int:
    if milliseconds > MAX_TIME:
        raise PayloadError("payload: an impossible time")
    return milliseconds


def _number(number: int) -> int:
    if not 0 < number <= MAX_NUMBER:
        raise PayloadError("payload: an impossible number")
    return number
