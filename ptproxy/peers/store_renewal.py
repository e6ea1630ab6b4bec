"""All rows of a store sealed anew, for another master key: within one transaction."""

from __future__ import annotations

import sqlite3
from typing import Final

from ptproxy.peers.store_head import Head, ListState
from ptproxy.peers.store_rows import RowKeys
from ptproxy.peers.store_tables import MAX_NUMBER, Entry, Tables

PAGE: Final = 1_000
"""Entries in memory at a time."""


def sealed_anew(database: sqlite3.Connection, old: Tables, keys: RowKeys) -> Tables:
    """What ``old`` holds, under ``keys``; every entry of it is compared with its list's digest on the way.

    :class:`~ptproxy.errors.StateError` where that does not agree: the transaction has to be given up.
    """
    pieces = old.pieces()
    new = Tables(database, keys, Head(old.head.revision, lineage=old.head.lineage))
    database.execute("DELETE FROM pieces")
    new.put(pieces, ())
    for name, known in old.lists.items():
        new.lists[name] = ListState()
        before = MAX_NUMBER + 1
        while entries := old.entries(name, before, PAGE):
            new.put({}, [Entry(name, number, value) for number, value in entries])
            before = entries[-1][0]
        new.lists[name].next = known.next
        old.forget(name)
    new.put_lists(new.lists.keys())
    new.put_head()
    return new
