"""A role's state folder, held by one process, and what is found in it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ptproxy.errors import StartError, why
from ptproxy.state.database import open_database
from ptproxy.state.document import Document
from ptproxy.state.files import make_folder, remove_temporary
from ptproxy.state.lock import open_lock, take_lock
from ptproxy.state.mark import MarkFile

if sys.platform == "linux":
    import fcntl


class StateFolder:
    """A role's state folder, held by this process until :meth:`close`."""

    __slots__ = ("_lock_file", "path")

    def __init__(self, path: Path, lock: int | None = None) -> None:
        """Make the folder where missing and take its lock.

        ``lock`` is a descriptor of it that the process which holds the folder has handed over
        (:meth:`duplicate_lock`): then both hold it, and it becomes this object's.
        Raises :class:`~ptproxy.errors.StartError` when another process has it
        or when it cannot be used.
        """
        self.path = path
        try:
            make_folder(path)
            self._lock_file = open_lock(path / "lock") if lock is None else os.fdopen(lock, "r+b")
        except OSError as error:
            raise StartError(f"state: cannot use the folder {path}: {why(error)}") from None
        if lock is not None and not _is_file(self._lock_file, path / "lock"):
            self._lock_file.close()
            raise StartError(f"state: what was handed over is not the lock of {path}: stop, then start again")
        try:
            take_lock(self._lock_file)
        except OSError:
            self._lock_file.close()
            raise StartError(
                f"state: another ptproxy runs with the folder {path}; stop it, or set another state folder"
            ) from None
        if lock is None:
            remove_temporary(path)
            self.note_holder()

    def note_holder(self) -> None:
        """Write into the lock that this process has it; each time is a new time of the file's change."""
        with contextlib.suppress(OSError):  # nothing but a command depends on it
            self._lock_file.seek(0)
            self._lock_file.write(b"%d\n" % os.getpid())
            self._lock_file.truncate()
            self._lock_file.flush()

    def duplicate_lock(self) -> int:
        """A descriptor of the lock for another process to hold the folder, too; the caller closes it."""
        return os.dup(self._lock_file.fileno())

    def document(self, name: str, version: int = 1) -> Document:
        """The document ``name`` of this folder."""
        return Document(self.path, name, version)

    def database(self, name: str, schema: str, version: int = 1) -> sqlite3.Connection:
        """The database ``name`` of this folder: see :func:`~ptproxy.state.database.open_database`."""
        return open_database(self.path / f"{name}.sqlite3", schema, version)

    def mark_file(self, name: str) -> MarkFile:
        """The few bytes ``name`` of this folder."""
        return MarkFile(self.path / name)

    def file_number(self, name: str) -> int:
        """What the file system calls the file ``name``: a copy, or one that was put back, has another number.

        Up to 128 bits: the inode, and where it is known how often that was given away before. 0 where numbers
        do not last: a file system without hard links needs none, and makes them up.
        Raises :class:`~ptproxy.errors.StartError`.
        """
        path, link = self.path / name, self.path / ".link"
        try:
            number = path.stat().st_ino & (1 << 64) - 1 | _generation(path) << 64
            link.unlink(missing_ok=True)  # of a program that was killed just here
            try:
                os.link(self.path / "lock", link)
            except OSError:
                return 0
            link.unlink()
        except OSError as error:
            raise StartError(f"cannot use {path}: {why(error)}") from None
        return number

    def close(self) -> None:
        """Give the folder up. May be called twice."""
        self._lock_file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_file(file: IO[bytes], path: Path) -> bool:
    """Whether an open file is the one at ``path``."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def holder_of(path: Path) -> tuple[int, int] | None:
    """The process that holds the state folder ``path``, and when it last said so (ns); None: nobody does.

    Raises :class:`~ptproxy.errors.StartError` for a folder that cannot be read, or whose holder does
    not say who it is.
    """
    try:
        with open_lock(path / "lock") as file:
            try:
                take_lock(file)
            except OSError:  # one line: a longer number may lie behind it, until the holder has cut that off
                return int(file.readline(20)), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None
    except ValueError:
        raise StartError(f"state: it is not known which process holds {path}") from None
    except OSError as error:
        raise StartError(f"state: cannot use the folder {path}: {why(error)}") from None
    return None


def _generation(path: Path) -> int:
    """How often the file's inode was given away before, or a random number; 0 where nobody knows."""
    if sys.platform != "linux":
        return 0
    number = bytes(struct.calcsize("l"))
    get_version = 0x8000_7601 | len(number) << 16  # FS_IOC_GETVERSION: _IOR('v', 1, long)
    try:
        with path.open("rb") as file:
            return int.from_bytes(fcntl.ioctl(file, get_version, number)[:4], sys.byteorder)
    except OSError:
        return 0
