"""What has changed since the last save, piece by piece.

Everything that is kept is a *piece*: a name and bytes. What one call changes is saved in one
transaction, or not at all: a first message that was read and a prekey that it used up are two
pieces, and either without the other would read it twice or never again.
"""

from __future__ import annotations

from typing import Protocol


class Piece(Protocol):
    """Something that is stored under a name."""

    def serialize(self) -> bytes:
        """Its stored form."""


class Unsaved:
    """The pieces that the store does not have yet, or has and should not."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: dict[str, Piece | None] = {}

    def changed(self, name: str, piece: Piece) -> None:
        """``piece`` is new or has changed. It is serialized when it is taken."""
        self._pieces[name] = piece

    def gone(self, name: str) -> None:
        """The piece of this name is to be deleted."""
        self._pieces[name] = None

    def take(self) -> dict[str, bytes | None]:
        """What to write, ``None`` for what to delete; from now on it counts as saved."""
        taken = {name: None if piece is None else piece.serialize() for name, piece in self._pieces.items()}
        self._pieces = {}
        return taken

    def __bool__(self) -> bool:
        return bool(self._pieces)
