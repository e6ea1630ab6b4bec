"""SQLite with a write-ahead log that is synced at each commit.

What was committed survives a kill and a power cut; what is deleted is overwritten. A database is
one process's alone (:func:`open_database`) or several processes' (:func:`open_shared`), always the
same way: the two must not be mixed.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

from ptproxy.errors import StartError, why
from ptproxy.state.as_owner import as_owner
from ptproxy.state.files import FILE_MODE, NO_LINK, give_to_owner, other_owner
from ptproxy.state.lock import open_lock, wait_for_lock

LOCK_WAIT: Final = 1.0
"""Seconds that another program may hold a database while we open it: a backup that just ends."""
DATABASE_PAGE: Final = 8192
"""Bytes of a database's page: three mailbox messages of the smallest size fit one."""


def open_database(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Open the database at ``path``, made with ``schema`` where there is none.

    The connection is in autocommit mode, may be used by one thread at a time, whichever, and keeps
    every other program out until it is closed. Raises :class:`~ptproxy.errors.StartError`.
    """
    try:
        _refuse_links(path)
        with as_owner(path.parent):
            _make(path)
            database = sqlite3.connect(path, LOCK_WAIT, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise StartError(f"cannot open {path}: {_why_not(error)}") from None
    try:
        with as_owner(path.parent):
            _set_up(database, schema, version)
    except (OSError, sqlite3.Error) as error:
        database.close()
        raise StartError(f"cannot use {path}: {_why_not(error)}") from None
    except UnicodeDecodeError:  # SQLite's words about a damaged file quote it
        database.close()
        raise StartError(f"cannot use {path}: it is damaged") from None
    except _NewerDatabase:
        database.close()
        raise StartError(f"{path} was written by a newer ptproxy: update this one") from None
    return database


def open_shared(path: Path, schema: str, version: int, wait: float) -> sqlite3.Connection:
    """As :func:`open_database`, for a database that several processes and connections have open at once.

    A statement waits up to ``wait`` seconds for another's transaction, then fails with
    :class:`sqlite3.OperationalError`. Not for network file systems: processes share memory. Nobody else in
    this process may open and close the file: that would end its locks (POSIX), and with them the log.
    """
    try:
        with open_lock(path.with_suffix(".lock")) as lock:
            _refuse_links(path)
            wait_for_lock(lock)  # the switch to WAL, and the schema, are one process's at a time
            with as_owner(path.parent):
                if not path.exists():  # else closing it would end the locks of our other connections (POSIX)
                    _make(path)
                database = sqlite3.connect(path, wait, isolation_level=None, check_same_thread=False)
                try:
                    _set_up(database, schema, version, "NORMAL")
                except BaseException:
                    database.close()
                    raise
    except (OSError, sqlite3.Error) as error:
        raise StartError(f"cannot use {path}: {_why_not(error)}") from None
    except UnicodeDecodeError:  # as above
        raise StartError(f"cannot use {path}: it is damaged") from None
    except _NewerDatabase:
        raise StartError(f"{path} was written by a newer ptproxy: update this one") from None
    return database


def _refuse_links(path: Path) -> None:
    """Root follows no links in another user's folder: SQLite would give away what they lead to."""
    if other_owner(path.parent) is not None:
        for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
            if each.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(each))


def _make(path: Path) -> None:
    """An empty file where there is none: the database's log gets the same mode and owner."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK, FILE_MODE)
    try:
        give_to_owner(descriptor, path.parent)
    finally:
        os.close(descriptor)


class _NewerDatabase(Exception):  # noqa: N818  (it never leaves this module)
    """A database of a later version."""


def _set_up(database: sqlite3.Connection, schema: str, version: int, locking: str = "EXCLUSIVE") -> None:
    """Durable, overwriting what is deleted; ``schema`` is run once, whole or not at all."""
    database.execute(f"PRAGMA page_size = {DATABASE_PAGE}")
    database.execute(f"PRAGMA locking_mode = {locking}")  # before WAL: exclusive needs no shared memory
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
