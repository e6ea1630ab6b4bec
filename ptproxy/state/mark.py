"""A few bytes beside a database that are written far oftener than it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from ptproxy.errors import StartError, why
from ptproxy.state.files import FILE_MODE, sync_folder


class MarkFile:
    """A few bytes, overwritten in place.

    A write survives a kill as soon as it returns, and a power cut after :meth:`sync` or when the
    system has got round to it: it costs microseconds. What is half written is for the reader to tell.
    """

    __slots__ = ("_file", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def read(self, most: int) -> bytes:
        """What it holds, up to ``most`` bytes; nothing where there is no such file."""
        try:
            with self.path.open("rb") as file:
                return file.read(most)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise StartError(f"cannot read {self.path}: {why(error)}") from None

    def write(self, place: int, data: bytes) -> None:
        """Put ``data`` at ``place``; the file is made when missing."""
        try:
            if self._file is None:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, FILE_MODE)
                self._file = os.fdopen(descriptor, "r+b", buffering=0)
            self._file.seek(place)
            self._file.write(data)
        except OSError as error:
            raise StartError(f"cannot write {self.path}: {why(error)}") from None

    def sync(self) -> None:
        """What was written is on the disk, and the file's name."""
        if self._file is None:
            return
        try:
            os.fsync(self._file.fileno())
            sync_folder(self.path.parent)
        except OSError as error:
            raise StartError(f"cannot write {self.path}: {why(error)}") from None

    def remove(self) -> None:
        """Close and remove the file, so that nobody takes what it holds for true."""
        self.close()
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise StartError(f"cannot remove {self.path}: {why(error)}") from None

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
