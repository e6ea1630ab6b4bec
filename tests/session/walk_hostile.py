"""What a hostile peer says at the end of a walk: each of these must be an error of the session.

Honest sessions never send these frames, so no walk of two honest ones can tell
whether the checks of R3, R5, R7, R12, R14 and R17 are there.
"""

from __future__ import annotations

from typing import Any

from walk_oracle import HostileAccepted

from ptproxy.errors import SessionError
from ptproxy.session import frames


def gap(stream: Any, unseen: int) -> bytes:
    """R5: DATA that leaves a byte out."""
    return frames.data_header(stream.id, stream.received + 1, 1) + b"x"


def beyond_limit(stream: Any, unseen: int) -> bytes:
    """R5: one byte more than was granted."""
    size = stream.granted - stream.received + 1
    return frames.data_header(stream.id, stream.received, size) + bytes(size)


def beyond_eof(stream: Any, unseen: int) -> bytes:
    """R5: bytes after EOF."""
    final = stream.received
    return frames.eof(stream.id, final) + frames.data_header(stream.id, final, 1) + b"x"


def two_ends(stream: Any, unseen: int) -> bytes:
    """R4: a second EOF elsewhere."""
    final = stream.received
    return frames.eof(stream.id, final) + frames.eof(stream.id, final + 1)


def early_end(stream: Any, unseen: int) -> bytes:
    """R4: an EOF beyond what has come."""
    return frames.eof(stream.id, stream.received + 1)


def unsent_acknowledged(stream: Any, unseen: int) -> bytes:
    """R7: an acknowledgement of what was never sent."""
    return frames.window(stream.id, stream.high + 1, 100)


def unseen_data(stream: Any, unseen: int) -> bytes:
    """R17: DATA for a stream that never was."""
    return frames.data_header(unseen, 0, 1) + b"x"


def unseen_window(stream: Any, unseen: int) -> bytes:
    """R17: WINDOW for a stream that never was."""
    return frames.window(unseen, 0, 1)


def unseen_gone(stream: Any, unseen: int) -> bytes:
    """R17: GONE for a stream that never was."""
    return frames.gone(unseen)


def gone_in_mid_life(stream: Any, unseen: int) -> bytes:
    """R17: GONE of a living stream."""
    return frames.gone(stream.id)


def own_id(stream: Any, unseen: int) -> bytes:
    """R3: OPEN with an id that the receiver gives out."""
    own = 1000 + (unseen & 1 ^ 1)
    return frames.open_header(own, 0, 0, 0, b"t", size=0)


FRAMES = (
    gap,
    beyond_limit,
    beyond_eof,
    two_ends,
    early_end,
    unsent_acknowledged,
    unseen_data,
    unseen_window,
    unseen_gone,
    gone_in_mid_life,
    own_id,
)
"""Every forbidden frame, made of a living stream of the receiver and an unseen id of the sender."""


def attack(session: Any, carrier: int, stream: Any, now: float, index: int) -> None:
    """Feed one forbidden frame to a session on a carrier whose last frame is complete."""
    make = FRAMES[index]
    unseen = stream.id + 100 if stream.id % 2 != session.first_id % 2 else stream.id + 101
    try:
        session.receive_data(carrier, make(stream, unseen), now)
    except SessionError:
        return
    raise HostileAccepted(make.__name__)
