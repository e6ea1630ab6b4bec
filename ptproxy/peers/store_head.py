"""The head of a store, rewritten with every change, and what it knows of its pieces and lists.

    head  = version u8 = 1 ‖ revision u64 ‖ rows sealed so far u64 ‖ pieces u32 ‖ digest of the pieces 32
            ‖ lineage (``store_lineage``)
    piece = kind u8 = 1 ‖ length u8 ‖ name ‖ value
    list  = kind u8 = 2 ‖ length u8 ‖ name ‖ next number u64 ‖ entries u64 ‖ digest of the entries 32

A list's row is one of the pieces'. So the head vouches for every piece and every list, and a list for its
entries: those of a long history are looked at when somebody looks at it, and not at every start.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, Self

from ptproxy.errors import StateError
from ptproxy.fields import Fields
from ptproxy.peers.store_index import Index
from ptproxy.peers.store_lineage import Lineage
from ptproxy.peers.store_rows import DIGEST

_VERSION: Final = 1
_PIECE: Final = 1
_LIST: Final = 2
_HEAD: Final = struct.Struct(f">BQQI{DIGEST}s")
_STATE: Final = struct.Struct(f">QQ{DIGEST}s")


@dataclass(slots=True)
class Head:
    """What is true of the whole store."""

    revision: int = 0
    sealed: int = 0
    """Rows that were sealed under this master key."""
    pieces: int = 0
    digest: int = 0
    lineage: Lineage = field(default_factory=Lineage)

    def serialize(self) -> bytes:
        """The head's content."""
        digest = self.digest.to_bytes(DIGEST, "big")
        front = _HEAD.pack(_VERSION, self.revision, self.sealed, self.pieces, digest)
        return front + self.lineage.serialize()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """:class:`StateError` for bytes that this version has not written."""
        fields = Fields(data, StateError("store: the head is damaged"))
        version, revision, sealed, pieces, digest = fields.unpack(_HEAD)
        if version != _VERSION:
            raise StateError("store: the head is of another version")
        parsed = cls(revision, sealed, pieces, int.from_bytes(digest, "big"), Lineage.take(fields))
        fields.end()
        return parsed


@dataclass(slots=True)
class ListState:
    """What is known of a list besides its entries."""

    next: int = 1
    """The number that no entry has had yet."""
    entries: int = 0
    digest: int = 0
    index: Index | None = field(default_factory=Index)
    """The entries, once they were compared with the digest since the start."""

    def serialize(self) -> bytes:
        """Its value in the list's row."""
        return _STATE.pack(self.next, self.entries, self.digest.to_bytes(DIGEST, "big"))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """:class:`StateError` for another length."""
        if len(data) != _STATE.size:
            raise StateError("store: a list is damaged")
        following, entries, digest = _STATE.unpack(data)
        return cls(following, entries, int.from_bytes(digest, "big"), index=None)


@dataclass(frozen=True, slots=True)
class Named:
    """A row of the pieces' table, opened."""

    name: str
    value: bytes | ListState = field(repr=False)

    def serialize(self) -> bytes:
        """The row's content."""
        name = self.name.encode()
        if isinstance(self.value, ListState):
            return bytes((_LIST, len(name))) + name + self.value.serialize()
        return bytes((_PIECE, len(name))) + name + self.value

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """:class:`StateError` for bytes that are neither."""
        error = StateError("store: a piece is damaged")
        fields = Fields(data, error)
        kind, length = fields.number(1), fields.number(1)
        try:
            name = fields.take(length).decode()
        except UnicodeDecodeError:
            raise error from None
        if kind == _LIST:
            return cls(name, ListState.parse(fields.rest()))
        if kind != _PIECE:
            raise error
        return cls(name, fields.rest())
