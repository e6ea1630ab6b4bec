"""What a store keeps, as tables; all that is in them is sealed (``store_rows``)."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Final

from ptproxy.errors import StateError

NAME: Final = "peer"
"""Of the database in the state folder, and of the witness beside it."""

MAX_ROW: Final = 5 << 20
"""Bytes of a row: the largest value, padded. Whatever a file holds, no more is read into memory."""

SCHEMA: Final = """
    CREATE TABLE store (part TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE pieces (name BLOB PRIMARY KEY, sealed BLOB NOT NULL);
    CREATE TABLE entries (
        list BLOB NOT NULL, number INTEGER NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (list, number)) WITHOUT ROWID
"""


def check_schema(database: sqlite3.Connection) -> None:
    """No table, trigger or view but our own, as a planted one would run with every change; no larger rows.

    :class:`StateError` otherwise.
    """
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_ROW)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    with closing(sqlite3.connect(":memory:")) as ours:
        ours.executescript(SCHEMA)
        if _schema(database) != _schema(ours):
            raise StateError("store: the database has other tables than it should")


def _schema(database: sqlite3.Connection) -> list[tuple[object, ...]]:
    return sorted(database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"), key=repr)
