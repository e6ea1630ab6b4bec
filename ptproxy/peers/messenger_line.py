"""A line as it is stored in a conversation's history.

::

    version u8 = 1 │ direction u8 │ state u8 │ written u64 │ arrived u64 │ said number u64 │ text

Times are milliseconds; ``said number`` is what its sender calls a line of theirs (receipts name it so),
and 0 for ours, whose number is their place in the history.
"""

from __future__ import annotations

import struct
from typing import Final

from ptproxy.errors import StateError
from ptproxy.peers.messenger_events import Direction, Line, LineState

_VERSION: Final = 1
_HEAD: Final = struct.Struct(">BBBQQQ")


def serialize_line(line: Line, said: int = 0) -> bytes:
    """As it is stored."""
    written, arrived = round(line.written * 1000), round(line.arrived * 1000)
    return _HEAD.pack(_VERSION, line.direction, line.state, written, arrived, said) + line.text.encode()


def parse_line(number: int, data: bytes) -> tuple[Line, int]:
    """The line of this number and what its sender calls it; :class:`StateError` where it is damaged."""
    damaged = StateError("history: a line is damaged, or of a version that this program does not know")
    if len(data) < _HEAD.size:
        raise damaged
    version, direction, state, written, arrived, said = _HEAD.unpack_from(data)
    try:
        line = Line(
            number,
            Direction(direction),
            LineState(state),
            written / 1000,
            arrived / 1000,
            data[_HEAD.size :].decode(),
        )
    except ValueError:
        raise damaged from None
    if version != _VERSION:
        raise damaged
    return line, said
