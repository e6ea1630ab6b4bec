"""State on disk; the only place in ptproxy that writes files.

- A file is replaced whole: a temporary file beside it, fsync, rename, fsync of
  the folder. Whoever reads sees the old or the new content, never half of it.
- Files have mode 0600, folders 0700.
- A :class:`StateFolder` belongs to one process: it holds an advisory lock
  (``lock``) as long as it is open.
- A database (:meth:`StateFolder.database`) is SQLite with a write-ahead log that
  is synced at each commit: what was committed survives a kill and a power cut.
- A :class:`MarkFile` is a few bytes beside a database, overwritten in place.
- A :class:`Document` is JSON with a name and a version. Its changes are made
  under a short lock of its own, so that a command (``ptproxy invite``) and a
  running bridge can both change it; :meth:`Document.changed` tells the one that
  the other did.

Nothing here knows what a document means.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self, TextIO

from ptproxy.errors import StartError, why

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
MAX_DOCUMENT: Final = 256 << 20
"""Bytes a document may have; more is not ours (100,000 identities take 20 MB)."""

MAX_ALIKE: Final = 1_000
"""Files of one name, told apart by a number."""
LOCK_WAIT: Final = 1.0
"""Seconds that another program may hold a database while we open it: a backup that just ends."""
DATABASE_PAGE: Final = 8192
"""Bytes of a database's page: three mailbox messages of the smallest size fit one."""

Json = dict[str, Any]


# ---- files ----------------------------------------------------------------------------------


def write_file(path: Path, content: str | bytes, *, mode: int = FILE_MODE, replace: bool = True) -> None:
    """Put ``content`` at ``path`` atomically; its folder is made when missing.

    Raises :class:`~ptproxy.errors.StartError` when that is impossible, and with
    ``replace=False`` when the file exists.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(temporary, path)
            else:
                _rename_new(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except FileExistsError:
        raise StartError(f"{path} exists already") from None
    except OSError as error:
        raise StartError(f"cannot write {path}: {why(error)}") from None


def make_folder(path: Path) -> None:
    """Make ``path`` and its parents where missing, each readable by its owner only."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=FOLDER_MODE)


def remove_folder(path: Path) -> None:
    """Remove a folder and all that is in it, as far as that is possible."""
    shutil.rmtree(path, ignore_errors=True)


def open_log(path: Path) -> TextIO:
    """A file to append log lines to; raises :class:`~ptproxy.errors.StartError`."""
    try:
        make_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
    except OSError as error:
        raise StartError(f"log.file: cannot write {path}: {why(error)}") from None
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace", buffering=1)


def _rename_new(temporary: Path, path: Path) -> None:
    """Give a file its name unless that is taken."""
    if sys.platform == "win32":
        os.rename(temporary, path)  # refuses an existing name by itself there
        return
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        if path.exists():  # a file system without hard links
            raise FileExistsError(errno.EEXIST, "exists") from None
        os.replace(temporary, path)


def _sync_folder(path: Path) -> None:
    """Make a rename last; where folders cannot be opened (Windows) it does so by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def open_partial(folder: Path, name: str) -> IO[bytes]:
    """The unfinished file ``name`` of ``folder``, made where missing, locked while it is open.

    Its position is at the end. Raises :class:`~ptproxy.errors.StartError`.
    """
    path = folder / f".{name}.part"
    try:
        make_folder(folder)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), FILE_MODE)
        file = os.fdopen(descriptor, "r+b", buffering=0)
    except OSError as error:
        raise StartError(f"cannot write {path}: {why(error)}") from None
    try:
        _lock(file, wait=False)
        file.seek(0, os.SEEK_END)
    except OSError:
        file.close()
        raise StartError(f"cannot write {path}: it is being written already") from None
    return file


def finish_partial(file: IO[bytes], folder: Path, name: str, final: str) -> Path:
    """Close an unfinished file and give it the name ``final``, or, where that is taken, one like it."""
    stem, dot, suffix = final.rpartition(".") if "." in final[1:] else (final, "", "")
    path = folder / final
    try:
        os.fsync(file.fileno())
        file.close()
        for number in range(2, MAX_ALIKE):
            with contextlib.suppress(FileExistsError):
                _rename_new(folder / f".{name}.part", path)
                break
            path = folder / f"{stem} ({number}){dot}{suffix}"
        else:
            raise StartError(f"{path} exists already, and all names like it")
        (folder / f".{name}.part").unlink(missing_ok=True)  # a link to it stays where renaming is linking
        _sync_folder(folder)
    except OSError as error:
        raise StartError(f"cannot write {path}: {why(error)}") from None
    return path


def drop_partial(file: IO[bytes], folder: Path, name: str) -> None:
    """Close an unfinished file and delete it, as far as that is possible."""
    file.close()
    with contextlib.suppress(OSError):
        (folder / f".{name}.part").unlink(missing_ok=True)


# ---- locks ----------------------------------------------------------------------------------


def _open_lock(path: Path) -> IO[bytes]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), FILE_MODE)
    return os.fdopen(descriptor, "r+b")


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes], *, wait: bool) -> None:
        """Take the lock or raise OSError; waiting ends after ten tries of a second each."""
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes], *, wait: bool) -> None:
        """Take the lock or raise OSError; the end of the process gives it back."""
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


# ---- the folder and its documents -----------------------------------------------------------


class StateFolder:
    """A role's state folder, held by this process until :meth:`close`."""

    __slots__ = ("_lock_file", "path")

    def __init__(self, path: Path) -> None:
        """Make the folder where missing and take its lock.

        Raises :class:`~ptproxy.errors.StartError` when another process has it
        or when it cannot be used.
        """
        self.path = path
        try:
            make_folder(path)
            self._lock_file = _open_lock(path / "lock")
        except OSError as error:
            raise StartError(f"state: cannot use the folder {path}: {why(error)}") from None
        try:
            _lock(self._lock_file, wait=False)
        except OSError:
            self._lock_file.close()
            raise StartError(
                f"state: another ptproxy runs with the folder {path}; stop it, or set another state folder"
            ) from None

    def document(self, name: str, version: int = 1) -> Document:
        """The document ``name`` of this folder."""
        return Document(self.path, name, version)

    def database(self, name: str, schema: str, version: int = 1) -> sqlite3.Connection:
        """Open the SQLite database ``name`` of this folder, made with ``schema`` where there is none.

        The connection is in autocommit mode, may be used by one thread at a
        time, whichever, and keeps every other program out until it is closed.
        What is deleted is overwritten. Raises :class:`~ptproxy.errors.StartError`.
        """
        path = self.path / f"{name}.sqlite3"
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE))  # its log gets the same mode
            database = sqlite3.connect(path, LOCK_WAIT, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StartError(f"cannot open {path}: {_why_not(error)}") from None
        try:
            _set_up(database, schema, version)
        except sqlite3.Error as error:
            database.close()
            raise StartError(f"cannot use {path}: {_why_not(error)}") from None
        except UnicodeDecodeError:  # SQLite's words about a damaged file quote it
            database.close()
            raise StartError(f"cannot use {path}: it is damaged") from None
        except _NewerDatabase:
            database.close()
            raise StartError(f"{path} was written by a newer ptproxy: update this one") from None
        return database

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


class _NewerDatabase(Exception):  # noqa: N818  (it never leaves this module)
    """A database of a later version."""


def _set_up(database: sqlite3.Connection, schema: str, version: int) -> None:
    """Durable, exclusive, overwriting what is deleted; ``schema`` is run once, whole or not at all."""
    database.execute(f"PRAGMA page_size = {DATABASE_PAGE}")
    database.execute("PRAGMA locking_mode = EXCLUSIVE")  # before WAL: no shared memory file then
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA fullfsync = ON")  # macOS: to the disk and not only to its cache
    database.execute("PRAGMA secure_delete = ON")
    database.execute("PRAGMA foreign_keys = ON")
    (found,) = database.execute("PRAGMA user_version").fetchone()
    if found > version:
        raise _NewerDatabase
    if found < version:
        database.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {version}; COMMIT;")


def _why_not(error: Exception) -> str:
    """An operating system's or SQLite's error in words."""
    if isinstance(error, OSError):
        return why(error)
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
        return "another program has it open; close that one"
    return str(error)


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
            _sync_folder(self.path.parent)
        except OSError as error:
            raise StartError(f"cannot write {self.path}: {why(error)}") from None

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None


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
            file = _open_lock(self.path.with_suffix(".lock"))
        except OSError as error:
            raise StartError(f"cannot write in {self.path.parent}: {why(error)}") from None
        with file:
            try:
                _lock(file, wait=True)
            except OSError as error:
                raise StartError(f"cannot lock {self.path}: {why(error)}") from None
            yield
