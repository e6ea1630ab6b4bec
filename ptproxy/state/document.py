"""JSON with a name and a version.

A document's changes are made under a short lock of its own, so that a command
(``ptproxy invite``) and a running bridge can both change it; :meth:`Document.changed` tells the
one that the other did.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from ptproxy.errors import StartError, why
from ptproxy.state.files import make_folder, write_file
from ptproxy.state.lock import open_lock, wait_for_lock

MAX_DOCUMENT: Final = 256 << 20
"""Bytes a document may have; more is not ours (100,000 identities take 20 MB)."""

Json = dict[str, Any]


class Document:
    """One JSON file: ``{"ptproxy": name, "version": n, "data": {…}}``."""

    __slots__ = ("_name", "_seen", "_version", "path")

    def __init__(self, folder: Path, name: str, version: int = 1) -> None:
        self.path = folder / f"{name}.json"
        self._name = name
        self._version = version
        self._seen: tuple[int, int, int] | None = None

    def read(self) -> Json | None:
        """What the document holds, None when there is none yet.

        Raises :class:`~ptproxy.errors.StartError` for a file that is damaged, a
        newer version's or not readable.
        """
        seen = self._signature()
        try:
            with self.path.open("rb") as file:
                raw = file.read(MAX_DOCUMENT + 1)
        except FileNotFoundError:
            self._seen = None
            return None
        except OSError as error:
            raise StartError(f"cannot read {self.path}: {why(error)}") from None
        data = self._parse(raw)
        self._seen = seen
        return data

    def write(self, data: Json) -> None:
        """Replace what the document holds."""
        document = {"ptproxy": self._name, "version": self._version, "data": data}
        write_file(self.path, json.dumps(document, indent=1, sort_keys=True) + "\n")
        self._seen = self._signature()

    def update(self, change: Callable[[Json | None], Json | None]) -> None:
        """Read, let ``change`` make the new content (None: leave it), write; alone among all processes."""
        with self._alone():
            data = change(self.read())
            if data is not None:
                self.write(data)

    def changed(self) -> bool:
        """Whether the file is another one than last read or written here."""
        return self._signature() != self._seen

    def _signature(self) -> tuple[int, int, int] | None:
        """Tells one file content from another: every write makes a new file."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _parse(self, raw: bytes) -> Json:
        try:
            document = json.loads(raw) if len(raw) <= MAX_DOCUMENT else None
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or document.get("ptproxy") != self._name:
            raise self._damaged(f"is damaged: it is no {self._name} document")
        version, data = document.get("version"), document.get("data")
        if isinstance(version, int) and version > self._version:
            raise StartError(
                f"{self.path} was written by a newer ptproxy (version {version}): update this one"
            )
        if version != self._version or not isinstance(data, dict):
            raise self._damaged("is damaged: its version or content cannot be read")
        return data

    def _damaged(self, what: str) -> StartError:
        return StartError(f"{self.path} {what}; put a backup in its place, or move it away to start afresh")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            make_folder(self.path.parent)
            file = open_lock(self.path.with_suffix(".lock"))
        except OSError as error:
            raise StartError(f"cannot write in {self.path.parent}: {why(error)}") from None
        with file:
            try:
                wait_for_lock(file)
            except OSError as error:
                raise StartError(f"cannot lock {self.path}: {why(error)}") from None
            yield
