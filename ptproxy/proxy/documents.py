"""Where a client keeps what it must remember: documents in a state folder, or in memory for one run."""

from __future__ import annotations

from typing import Protocol

from ptproxy.state import Json


class KeptDocument(Protocol):
    """One document; :class:`~ptproxy.state.Document` is the one on disk."""

    def read(self) -> Json | None:
        """What it holds, None when there is none yet; raises :class:`~ptproxy.errors.StartError`."""

    def write(self, data: Json) -> None:
        """Replace what it holds; raises :class:`~ptproxy.errors.StartError`."""


class Documents(Protocol):
    """Documents by name; :class:`~ptproxy.state.StateFolder` has those on disk."""

    def document(self, name: str) -> KeptDocument:
        """The document of that name."""


class DocumentsInMemory:
    """Documents that are gone with the process, for a client that leaves nothing on disk."""

    def __init__(self) -> None:
        self._documents: dict[str, _DocumentInMemory] = {}

    def document(self, name: str) -> KeptDocument:
        """The document of that name."""
        return self._documents.setdefault(name, _DocumentInMemory())


class _DocumentInMemory:
    """One of them."""

    def __init__(self) -> None:
        self._data: Json | None = None

    def read(self) -> Json | None:
        return self._data

    def write(self, data: Json) -> None:
        self._data = data
