"""A store that is damaged in places: keep what still opens, give up the rest.

For a person to decide, since it vouches for whatever rows there are: one that was set back or taken away
by itself is no longer noticed. So the store counts as put back afterwards, and the next
:meth:`~ptproxy.peers.store.PeerStore.open` asks about that: go on with new prekeys and sessions.
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from ptproxy.errors import StateError
from ptproxy.peers.store_head import Head, ListState
from ptproxy.peers.store_key import StoreKey
from ptproxy.peers.store_lineage import RUN, Lineage
from ptproxy.peers.store_rows import HEAD, RowKeys, entry_place, fresh
from ptproxy.peers.store_schema import NAME, SCHEMA, check_schema
from ptproxy.peers.store_tables import Tables, damage_told, open_entry, open_named, part
from ptproxy.state import StateFolder

BEYOND: Final = 1 << 20
"""Revisions between what can be read and the next one: what cannot be read may have been newer."""


@dataclass(slots=True)
class Lost:
    """Rows that were given up."""

    pieces: int = 0
    """Pieces and lists; nobody can say which."""
    entries: int = 0


def salvage(folder: StateFolder, key: StoreKey) -> Lost:
    """Keep every row that opens, delete the others, all in one transaction.

    :class:`~ptproxy.errors.StartError`: the key does not open the store. :class:`StateError`: the damage is
    in the tables themselves, or in the wrapped key, and only a backup helps.
    """
    with contextlib.closing(folder.database(NAME, SCHEMA)) as database, damage_told():
        check_schema(database)
        if database.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
            raise StateError("store: its tables are damaged: put a backup in its place")
        keys = RowKeys(key.unwrap(part(database, "key")))
        database.execute("BEGIN IMMEDIATE")
        tables, lost = _kept(database, keys)
        tables.put_lists(list(tables.lists))
        tables.put_head()
        database.execute("COMMIT")
        return lost


def _kept(database: sqlite3.Connection, keys: RowKeys) -> tuple[Tables, Lost]:
    """The tables without what cannot be read, which is deleted."""
    head = _head(database, keys)
    tables = Tables(database, keys, head)
    bad_pieces = []
    for place, blinded, sealed in database.execute("SELECT rowid, name, sealed FROM pieces"):
        try:
            revision, named = open_named(keys, blinded, sealed)
        except StateError:
            bad_pieces.append((place,))
            continue
        head.digest ^= tables.know(blinded, sealed, named)
        head.revision = max(head.revision, revision)
    by_list = {keys.list(name): known for name, known in tables.lists.items()}
    for known in by_list.values():
        known.entries, known.digest = 0, 0
    bad_entries = []
    for blinded, number, sealed in database.execute("SELECT list, number, sealed FROM entries"):
        listed = by_list.get(blinded)
        if listed is None or not _count_in(keys, head, listed, blinded, number, sealed):
            bad_entries.append((blinded, number))
    database.executemany("DELETE FROM pieces WHERE rowid = ?", bad_pieces)
    database.executemany("DELETE FROM entries WHERE list IS ? AND number IS ?", bad_entries)
    head.pieces = len(tables)  # where there is no list, no row is written that would say so
    head.revision += BEYOND
    head.lineage = Lineage().begun(fresh(RUN), head.revision)
    return tables, Lost(len(bad_pieces), len(bad_entries))


def _head(database: sqlite3.Connection, keys: RowKeys) -> Head:
    """The old one's revision and count, where it can be read."""
    head = Head()
    with contextlib.suppress(StateError):
        old = Head.parse(keys.open(HEAD, part(database, "head"))[1])
        head.revision, head.sealed = old.revision, old.sealed
    return head


def _count_in(keys: RowKeys, head: Head, known: ListState, blinded: bytes, number: Any, sealed: Any) -> bool:
    """Whether this entry opens; if so its list has it."""
    try:
        revision, _ = open_entry(keys, blinded, number, sealed)
    except StateError:
        return False
    head.revision = max(head.revision, revision)
    known.entries += 1
    known.next = max(known.next, number + 1)
    known.digest ^= keys.element(entry_place(blinded, number), sealed)
    return True
