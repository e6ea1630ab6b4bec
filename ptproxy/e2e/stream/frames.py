"""What is inside a record: frames, one after another, then zeros.

::

    0x00            nothing more: the rest of the record is zeros
    0x01 DATA       offset u64 │ length u16 │ bytes, 1 or more
    0x02 EOF        final u64                       nothing comes at or beyond this offset
    0x03 WINDOW     received u64 │ limit u64        acknowledgement and credit
    0x04 RESET      reason u8
    0x05 GONE       -                               the answer to RESET
    0x06 REKEY      X25519 key 32 │ session 16 │ turn u32      the opener only
    0x07 REKEYED    X25519 key 32                   the acceptor only; the last that it seals with the old key
    0x08 SWITCH     -                               the opener only; the last that it seals with the old key
    0x09 NOT_NOW    -                               the acceptor only: that turn is not known here

Offsets count from the stream's beginning, whatever the meeting. A frame about keys, from REKEY on, is the
last of its record.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.e2e.curve import RAW
from ptproxy.e2e.stream.hello import SESSION
from ptproxy.e2e.stream.keys import Turn
from ptproxy.e2e.stream.refusals import StreamRuleError
from ptproxy.errors import Reason

MAX_OFFSET: Final = 2**63
"""Bytes of a stream in one direction: no program sends as many."""
DATA_HEADER: Final = 11
"""Bytes before the bytes of a DATA."""
EOF_SIZE: Final = 9
"""Bytes of an EOF."""

_DATA, _EOF, _WINDOW, _RESET, _GONE, _REKEY, _REKEYED, _SWITCH, _NOT_NOW = range(1, 10)
_DATA_FORM: Final = struct.Struct(">BQH")
_EOF_FORM: Final = struct.Struct(">BQ")
_WINDOW_FORM: Final = struct.Struct(">BQQ")
_RESET_FORM: Final = struct.Struct(">BB")
_REKEY_FORM: Final = struct.Struct(f">B{RAW}s{SESSION}sI")
_REKEYED_FORM: Final = struct.Struct(f">B{RAW}s")
_LONE_FORM: Final = struct.Struct(">B")


@dataclass(slots=True)
class Data:
    """Bytes of the stream."""

    offset: int
    data: Buffer = field(repr=False)

    @staticmethod
    def header(offset: int, size: int) -> bytes:
        """What goes before ``size`` bytes."""
        return _DATA_FORM.pack(_DATA, offset, size)


@dataclass(slots=True)
class Eof:
    """The direction ends at ``final``."""

    final: int

    def serialize(self) -> bytes:
        """The frame's bytes."""
        return _EOF_FORM.pack(_EOF, self.final)


@dataclass(slots=True)
class Window:
    """Acknowledgement and credit."""

    received: int
    """Everything below it has come; an EOF counts one."""
    limit: int
    """No byte may come at it or beyond."""

    def serialize(self) -> bytes:
        """The frame's bytes."""
        return _WINDOW_FORM.pack(_WINDOW, self.received, self.limit)


@dataclass(slots=True)
class Reset:
    """The stream is broken off."""

    reason: Reason

    def serialize(self) -> bytes:
        """The frame's bytes."""
        return _RESET_FORM.pack(_RESET, self.reason)


@dataclass(slots=True)
class Gone:
    """The RESET was heard."""

    def serialize(self) -> bytes:
        """The frame's bytes."""
        return bytes((_GONE,))


@dataclass(slots=True)
class Rekey:
    """The opener proposes a turn."""

    key: bytes
    turn: Turn

    def serialize(self) -> bytes:
        """The frame's bytes."""
        return _REKEY_FORM.pack(_REKEY, self.key, self.turn.session, self.turn.number)


@dataclass(slots=True)
class Rekeyed:
    """The acceptor has taken it."""

    key: bytes

    def serialize(self) -> bytes:
        """The frame's bytes."""
        return _REKEYED_FORM.pack(_REKEYED, self.key)


@dataclass(slots=True)
class Switch:
    """The opener goes on with the new key."""

    def serialize(self) -> bytes:
        """The frame's bytes."""
        return bytes((_SWITCH,))


@dataclass(slots=True)
class NotNow:
    """The acceptor does not know that turn, or no longer."""

    def serialize(self) -> bytes:
        """The frame's bytes."""
        return bytes((_NOT_NOW,))


KeyFrame = Rekey | Rekeyed | Switch | NotNow
"""Frames about keys: nothing may be behind one in its record, whose key may be another one from then on."""
Frame = Data | Eof | Window | Reset | Gone | KeyFrame


def parse_frames(plaintext: bytes) -> list[Frame]:
    """All frames of a record; :class:`StreamRuleError` for anything that none of ours would hold."""
    frames: list[Frame] = []
    view = memoryview(plaintext)
    position, end = 0, len(plaintext)
    while position < end and (kind := plaintext[position]):
        if frames and isinstance(frames[-1], KeyFrame):
            raise StreamRuleError("stream: a frame behind one about keys")
        if kind not in _FORMS:
            raise StreamRuleError("stream: not a frame")
        form, make = _FORMS[kind]
        if position + form.size > end:
            raise StreamRuleError("stream: a frame cut short")
        fields = form.unpack_from(plaintext, position)[1:]
        position += form.size
        if kind == _DATA:
            offset, size = fields
            if not size or position + size > end:
                raise StreamRuleError("stream: a DATA that does not fit")
            frames.append(Data(_offset(offset), view[position : position + size]))
            position += size
        else:
            frames.append(make(*fields))
    if plaintext.count(0, position) != end - position:
        raise StreamRuleError("stream: padding that is not zeros")
    return frames


def _offset(number: int) -> int:
    if number > MAX_OFFSET:
        raise StreamRuleError("stream: an offset beyond every stream")
    return number


_FORMS: Final[dict[int, tuple[struct.Struct, Callable[..., Frame]]]] = {
    _DATA: (_DATA_FORM, Data),
    _EOF: (_EOF_FORM, lambda final: Eof(_offset(final))),
    _WINDOW: (_WINDOW_FORM, lambda received, limit: Window(_offset(received), _offset(limit))),
    _RESET: (_RESET_FORM, lambda code: Reset(Reason.parse(code))),
    _GONE: (_LONE_FORM, Gone),
    _REKEY: (_REKEY_FORM, lambda key, session, number: Rekey(key, Turn(session, number))),
    _REKEYED: (_REKEYED_FORM, Rekeyed),
    _SWITCH: (_LONE_FORM, Switch),
    _NOT_NOW: (_LONE_FORM, NotNow),
}
"""How each kind is laid out, its byte first, and what its fields make."""
