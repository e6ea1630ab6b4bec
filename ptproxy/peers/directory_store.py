"""What a directory node keeps on disk: its table, its records, its own contact, the beacon's statements.

One SQLite database in the node's state folder, written by a thread of its own: the node never
waits for a disk, and a save is one transaction. A kill or a power cut loses what came after the last
save; a full disk loses nothing that is in memory: the save fails with :class:`StateError`, and the next one
brings all that is still to be saved.

What is read is checked as if a stranger had sent it: rows that do not verify are left out and counted.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ptproxy.dht.bucket import Acquaintance
from ptproxy.dht.contact import Contact
from ptproxy.dht.identifier import ID_BYTES, NodeId
from ptproxy.dht.storage import StoredRecord
from ptproxy.errors import DhtError, StateError
from ptproxy.state import StateFolder

DATABASE: Final = "directory"
SCHEMA: Final = """
CREATE TABLE records (location BLOB PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE nodes (id BLOB PRIMARY KEY, node BLOB NOT NULL);
CREATE TABLE own (name TEXT PRIMARY KEY, value BLOB NOT NULL)
"""
MAX_NODES: Final = 10_240
"""Nodes read back: 256 buckets of 20 with as many spares, more than any table has."""

_STRANGE: Final = "typeof(location) <> 'blob' OR length(location) <> 32 OR typeof(record) <> 'blob'"
"""Rows of records that no save has written: a column of SQLite takes anything."""
_CONTACT: Final = "contact"
_BEACON: Final = "beacon"

_Mark: TypeAlias = tuple[int, NodeId, bytes]
"""What may change of a record that is kept: when it was last brought, for whom it counts, its bytes."""
_UNSURE: Final[_Mark] = (-1, 0, b"")
"""There is a row, perhaps; what is in it is to be written again."""


@dataclass(slots=True)
class Kept:
    """What was on the disk."""

    contact: Contact | None = None
    """Our own, as we last said it."""
    nodes: list[Acquaintance] = field(default_factory=list)
    records: list[StoredRecord] = field(default_factory=list)
    beacons: list[bytes] = field(default_factory=list)
    damaged: int = 0
    """Rows that were none of these."""


class Surroundings:
    """What a node knows besides its records, as it was at one moment: the rows to write."""

    __slots__ = ("nodes", "own")

    def __init__(self, contact: Contact, nodes: Iterable[Acquaintance], beacons: Iterable[bytes]) -> None:
        self.nodes = [(_key(known.contact.id), known.serialize()) for known in nodes]
        self.own = [(_CONTACT, contact.serialize())]
        self.own += [(f"{_BEACON} {number}", statement) for number, statement in enumerate(beacons)]


class DirectoryStore:
    """The database of one node, and what of it is already there."""

    def __init__(self, state: StateFolder) -> None:
        """Open it; :class:`~ptproxy.errors.StartError` where that is impossible."""
        self._database = state.database(DATABASE, SCHEMA)
        self._thread = ThreadPoolExecutor(1, "directory")
        self._saved: dict[NodeId, _Mark] = {}
        self._strange = False
        """Whether there are rows to delete that no record of ours can replace."""
        self._saving = asyncio.Lock()

    def load(self, most_records: int) -> Kept:
        """Everything, before the node runs; raises :class:`StateError` if the database is damaged."""
        kept = Kept()
        try:
            for name, value in self._database.execute("SELECT name, value FROM own ORDER BY name"):
                self._load_own(kept, name, value)
            for (row,) in self._database.execute("SELECT node FROM nodes LIMIT ?", (MAX_NODES,)):
                try:
                    kept.nodes.append(Acquaintance.parse(row))
                except (DhtError, TypeError):  # TypeError: no bytes
                    kept.damaged += 1
            ours = f"FROM records WHERE NOT ({_STRANGE})"
            for (row,) in self._database.execute(f"SELECT record {ours} LIMIT ?", (most_records,)):
                try:
                    kept.records.append(StoredRecord.parse(row))
                except StateError:
                    kept.damaged += 1
            known = self._database.execute(f"SELECT location {ours}").fetchall()
            ((rows,),) = self._database.execute("SELECT count(*) FROM records")
        except (sqlite3.Error, TypeError, UnicodeDecodeError) as error:
            raise _cannot("read", error) from None
        kept.damaged += rows - len(known)
        self._strange = rows > len(known)
        # What is not taken back is deleted by the next save: nothing of it matches.
        self._saved = {int.from_bytes(location, "big"): _UNSURE for (location,) in known}
        return kept

    async def save(self, records: Iterable[StoredRecord], surroundings: Surroundings | None = None) -> None:
        """Keep what is so now; returns when it is on the disk. :class:`StateError`: the disk is as it was.

        Of the records only what has changed is written, of ``surroundings`` everything; None leaves
        those as they were. A cancelled save ends as if it had not been: its change is saved again.
        """
        async with self._saving:
            marks = {one.location: (one.stored, one.guard, one.data) for one in records}
            saved = self._saved
            changed = {location: mark for location, mark in marks.items() if saved.get(location) != mark}
            gone = [location for location in saved if location not in marks]
            if changed or gone or surroundings is not None:
                saved.update(dict.fromkeys(changed, _UNSURE))  # until the thread has said what became of it
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._thread, self._write, changed, gone, surroundings)
                self._saved = marks

    def close(self) -> None:
        """Wait for what is being saved and close the database. May be called twice."""
        self._thread.shutdown()
        self._database.close()

    def _load_own(self, kept: Kept, name: str, value: bytes) -> None:
        if name.startswith(_BEACON):
            kept.beacons.append(value)
        elif name == _CONTACT:
            try:
                kept.contact = Contact.parse(value)[0]
                kept.contact.verify()
            except DhtError:
                kept.contact = None
                kept.damaged += 1

    def _write(
        self,
        changed: Mapping[NodeId, _Mark],
        gone: Sequence[NodeId],
        surroundings: Surroundings | None,
    ) -> None:
        """One transaction, in the store's thread."""
        database = self._database
        old = [(_key(location),) for location in gone]
        new = [(_key(location), _row(location, mark)) for location, mark in changed.items()]
        try:
            database.execute("BEGIN IMMEDIATE")
            try:
                if self._strange:
                    database.execute(f"DELETE FROM records WHERE {_STRANGE}")  # noqa: S608  (a constant)
                database.executemany("DELETE FROM records WHERE location = ?", old)
                database.executemany("REPLACE INTO records VALUES (?, ?)", new)
                if surroundings is not None:
                    _write_surroundings(database, surroundings)
                database.execute("COMMIT")
                self._strange = False
            except BaseException:
                if database.in_transaction:  # a full disk may have rolled it back already
                    database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _cannot("written", error) from None


def _write_surroundings(database: sqlite3.Connection, surroundings: Surroundings) -> None:
    database.execute("DELETE FROM nodes")
    database.executemany("INSERT INTO nodes VALUES (?, ?)", surroundings.nodes)
    database.execute("DELETE FROM own")
    database.executemany("INSERT INTO own VALUES (?, ?)", surroundings.own)


def _key(location: NodeId) -> bytes:
    return location.to_bytes(ID_BYTES, "big")


def _row(location: NodeId, mark: _Mark) -> bytes:
    stored, guard, data = mark
    return _key(location) + _key(guard) + stored.to_bytes(8, "big") + data


def _cannot(what: str, error: Exception) -> StateError:
    return StateError(f"the directory's database cannot be {what}: {error}")
