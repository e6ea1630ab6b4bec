"""A whole bridge as bytes, for the process that takes it over: sessions, streams' ends, openings seen.

The descriptors of sockets travel beside the bytes (:mod:`ptproxy.tunnel.handover_channel`);
what is here names them by their place among those. Numbers are big-endian::

    bridge   version u16, openings seen (length u32, JSON), count u16 and listening addresses (length u16,
             text) each, count u32 and tunnels each; sockets: the listening ones, then the targets'
    tunnel   session id (16 bytes), client's key (32), label (length u16, text),
             session (length u64, bytes), count u32 and ends each
    end      stream id u32, kind u8, flags u8, socket u32 (2^32 - 1: none), unread (length u64, bytes)

It holds the streams' bytes and whom they belong to: it is kept in memory and in one
socket pair, never stored. A record of another version, or one with anything wrong in
it, is refused whole: then the former process goes on.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from ptproxy.errors import StateError
from ptproxy.fields import Fields
from ptproxy.session.handover import SessionRecord

VERSION: Final = 1
"""Of these bytes and of those of :mod:`ptproxy.session.handover`: any change of either is another one."""
NO_SOCKET: Final = (1 << 32) - 1
SESSION_ID: Final = 16
PUBLIC: Final = 32

EOF_WAITING: Final = 1
"""The client's end comes after what is unread, and nobody was told."""
CLIENT_ENDED: Final = 2
"""The target was told that the client sends no more."""
TARGET_ENDED: Final = 4
"""The target sends no more."""
UNSENT: Final = 8
"""The former process still has bytes for the target: nothing is written before it says that they are gone."""

_END: Final = struct.Struct(">IBBIQ")
_DAMAGED: Final = "a handover contradicts itself"


class Kind(IntEnum):
    """What a stream is at the bridge."""

    OPENING = 0
    """Nobody has taken it: it is offered once more."""
    COUPLED = 1
    """It is coupled with a target's socket."""
    CLOSING = 2
    """Both ways have ended here; the client has not acknowledged it all."""


@dataclass(slots=True)
class EndRecord:
    """One stream's end at the bridge, beside what its session knows of it."""

    id: int
    kind: Kind
    flags: int = 0
    socket: int = NO_SOCKET
    """The place of the target's among the sockets."""
    unread: bytes = field(default=b"", repr=False)
    """What the target has not been given."""

    def pieces(self) -> list[bytes]:
        """The bytes that the module's text describes, not yet joined."""
        return [_END.pack(self.id, self.kind, self.flags, self.socket, len(self.unread)), self.unread]

    @classmethod
    def parse(cls, fields: Fields, sockets: int) -> EndRecord:
        """Take one; raises :class:`~ptproxy.errors.StateError`."""
        number, kind, flags, place, size = fields.unpack(_END)
        if kind not in list(Kind) or flags >= 2 * UNSENT or (kind == Kind.COUPLED) != (place < sockets):
            raise StateError(_DAMAGED)
        if kind != Kind.COUPLED and (place != NO_SOCKET or flags & ~EOF_WAITING):
            raise StateError(_DAMAGED)
        return cls(number, Kind(kind), flags, place, fields.take(size))


@dataclass(slots=True)
class TunnelRecord:
    """One client's session at the bridge."""

    session_id: bytes = field(repr=False)
    public: bytes
    """The static key that it belongs to."""
    peer: str
    session: SessionRecord
    ends: list[EndRecord]
    """Of each of the session's streams, in its order."""

    def pieces(self) -> list[bytes]:
        """The bytes that the module's text describes, not yet joined."""
        session = self.session.pieces()
        found = [self.session_id, self.public, _sized(self.peer.encode(), 2)]
        found += [sum(map(len, session)).to_bytes(8, "big"), *session]
        found.append(len(self.ends).to_bytes(4, "big"))
        for end in self.ends:
            found += end.pieces()
        return found

    @classmethod
    def parse(cls, fields: Fields, sockets: int) -> TunnelRecord:
        """Take one; raises :class:`~ptproxy.errors.StateError`."""
        record = cls(
            fields.take(SESSION_ID),
            fields.take(PUBLIC),
            _text(fields.take(fields.number(2))),
            SessionRecord.parse(fields.take(fields.number(8))),
            [EndRecord.parse(fields, sockets) for _ in range(fields.number(4))],
        )
        if [end.id for end in record.ends] != [stream.id for stream in record.session.streams]:
            raise StateError(_DAMAGED)
        for end, stream in zip(record.ends, record.session.streams, strict=True):
            delivered = stream.received if stream.peer_final is None else stream.peer_final
            if len(end.unread) != delivered - stream.read:
                raise StateError(_DAMAGED)
            if end.flags & (EOF_WAITING | CLIENT_ENDED) and stream.peer_final is None:
                raise StateError(_DAMAGED)
            if end.flags & TARGET_ENDED and stream.final is None:
                raise StateError(_DAMAGED)
        return record


@dataclass(slots=True)
class BridgeRecord:
    """All that a bridge hands over."""

    replay: dict[str, Any] = field(repr=False)
    """The openings seen: :meth:`ptproxy.auth.replay.ReplayFilter.snapshot`."""
    listeners: list[str]
    """The addresses of the listening sockets, as the configuration has them."""
    tunnels: list[TunnelRecord]

    def serialize(self) -> bytes:
        """The bytes that the module's text describes."""
        found = [VERSION.to_bytes(2, "big"), _sized(json.dumps(self.replay).encode(), 4)]
        found.append(len(self.listeners).to_bytes(2, "big"))
        found += [_sized(name.encode(), 2) for name in self.listeners]
        found.append(len(self.tunnels).to_bytes(4, "big"))
        for tunnel in self.tunnels:
            found += tunnel.pieces()
        return b"".join(found)

    @classmethod
    def parse(cls, data: bytes, sockets: int) -> BridgeRecord:
        """Read one that came with so many ``sockets``; raises :class:`~ptproxy.errors.StateError`."""
        fields = Fields(data, StateError(_DAMAGED))
        if fields.number(2) != VERSION:
            raise StateError("a handover of a version that this program does not know")
        replay = _json(fields.take(fields.number(4)))
        listeners = [_text(fields.take(fields.number(2))) for _ in range(fields.number(2))]
        targets = sockets - len(listeners)
        tunnels = [TunnelRecord.parse(fields, max(0, targets)) for _ in range(fields.number(4))]
        fields.end()
        used = [end.socket for tunnel in tunnels for end in tunnel.ends if end.kind is Kind.COUPLED]
        if sorted(used) != list(range(targets)) or len(set(listeners)) != len(listeners):
            raise StateError(_DAMAGED)
        if len({tunnel.session_id for tunnel in tunnels}) != len(tunnels):
            raise StateError(_DAMAGED)
        return cls(replay, listeners, tunnels)


def _sized(data: bytes, width: int) -> bytes:
    return len(data).to_bytes(width, "big") + data


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise StateError(_DAMAGED) from None


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise StateError(_DAMAGED)
    return found
