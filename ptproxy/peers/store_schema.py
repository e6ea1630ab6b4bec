"""What a store keeps, as tables, and how much of it there may be."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Final

from ptproxy.errors import StateError

NAME: Final = "peer"
"""Of the database in the state folder, and of the witness beside it."""
MAX_NAME: Final = 200
"""Bytes of UTF-8 that the name of a piece or of a list has."""
MAX_PIECES: Final = 20_000
"""Pieces and lists together: all are loaded at a start. A thousand contacts of four sessions have 5,000."""
MAX_VALUE: Final = 4 << 20
"""Bytes of a value. The largest piece is the prekeys with 1,000 one-time prekeys kept: 0.5 MB."""
MAX_NUMBER: Final = (1 << 62) - 1
"""Of an entry; SQLite's numbers have a sign."""
MAX_PAGE: Final = 10_000
"""Entries that one call returns."""

SCHEMA: Final = """
    CREATE TABLE store (part TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE pieces (name BLOB PRIMARY KEY, sealed BLOB NOT NULL);
    CREATE TABLE entries (
        list BLOB NOT NULL, number INTEGER NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (list, number)) WITHOUT ROWID
"""


def check_schema(database: sqlite3.Connection) -> None:
    """No table, trigger or view but our own: a planted one would run with every change.

    :class:`StateError` otherwise.
    """
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    with closing(sqlite3.connect(":memory:")) as ours:
        ours.executescript(SCHEMA)
        if _schema(database) != _schema(ours):
            raise StateError("store: the database has other tables than it should")


def _schema(database: sqlite3.Connection) -> list[tuple[object, ...]]:
    return sorted(database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"), key=repr)
