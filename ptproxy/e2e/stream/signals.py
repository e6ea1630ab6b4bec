"""What two peers tell each other about a stream in messages of their conversation.

::

    signal = version u8 = 1 │ kind u8 │ stream id 16 │ body
    1 OPEN      seed 32 │ purpose, 1 to 32 bytes of printable ASCII
    2 MEET      number u32, from 1
    3 END       reason u8
    4 FINISHED  nothing

A signal travels sealed by the ratchet, through a mailbox, perhaps late, never twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ptproxy.e2e.stream.refusals import StreamSignalError
from ptproxy.errors import Reason
from ptproxy.fields import Fields

STREAM_ID: Final = 16
"""Bytes of a stream's id: random, the opener's."""
SEED: Final = 32
"""Bytes of a stream's seed: random, the opener's; names its meetings and hides its hellos."""
MAX_PURPOSE: Final = 32
"""Bytes of a purpose: a word, and room for a version."""
MAX_SIGNAL: Final = 2 + STREAM_ID + SEED + MAX_PURPOSE
"""Bytes of the longest signal."""
MAX_NUMBER: Final = 2**32 - 1
"""The last meeting of a stream."""

_VERSION: Final = 1
_OPEN, _MEET, _END, _FINISHED = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class OpenSignal:
    """A stream is offered; its first meeting is at hand."""

    stream: bytes
    seed: bytes = field(repr=False)
    purpose: bytes
    """What the stream is for: which part of the peer's program is to take it."""

    def serialize(self) -> bytes:
        """The signal's bytes."""
        return bytes((_VERSION, _OPEN)) + self.stream + self.seed + self.purpose


@dataclass(frozen=True, slots=True)
class MeetSignal:
    """The meetings below ``number`` are over: come to this one."""

    stream: bytes
    number: int

    def serialize(self) -> bytes:
        """The signal's bytes."""
        return bytes((_VERSION, _MEET)) + self.stream + self.number.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class EndSignal:
    """The stream is over: refused, given up, or not known (:attr:`Reason.SESSION_LOST`)."""

    stream: bytes
    reason: Reason

    def serialize(self) -> bytes:
        """The signal's bytes."""
        return bytes((_VERSION, _END)) + self.stream + bytes((self.reason,))


@dataclass(frozen=True, slots=True)
class FinishedSignal:
    """The stream has ended well for the sender of this: everything came both ways."""

    stream: bytes

    def serialize(self) -> bytes:
        """The signal's bytes."""
        return bytes((_VERSION, _FINISHED)) + self.stream


StreamSignal = OpenSignal | MeetSignal | EndSignal | FinishedSignal


def parse_signal(body: bytes) -> StreamSignal:
    """One signal; :class:`StreamSignalError` for anything else."""
    wrong = StreamSignalError("stream: not a signal")
    fields = Fields(body, wrong)
    if fields.number(1) != _VERSION:
        raise wrong
    kind, stream = fields.number(1), fields.take(STREAM_ID)
    signal: StreamSignal
    if kind == _OPEN:
        signal = OpenSignal(stream, fields.take(SEED), check_purpose(fields.rest(), wrong))
    elif kind == _MEET:
        signal = MeetSignal(stream, fields.number(4))
        if not signal.number:
            raise wrong
    elif kind == _END:
        signal = EndSignal(stream, Reason.parse(fields.number(1)))
    elif kind == _FINISHED:
        signal = FinishedSignal(stream)
    else:
        raise wrong
    fields.end()
    return signal


def check_purpose(purpose: bytes, error: Exception) -> bytes:
    """``purpose``, or ``error`` raised where it is none."""
    if not 0 < len(purpose) <= MAX_PURPOSE or not all(0x21 <= byte <= 0x7E for byte in purpose):
        raise error
    return purpose
