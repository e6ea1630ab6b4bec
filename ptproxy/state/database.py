"""SQLite with a write-ahead log that is synced at each commit.

What was committed survives a kill and a power cut; what is deleted is overwritten.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from ptproxy.errors import StartError, why
from ptproxy.state.files import FILE_MODE

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
