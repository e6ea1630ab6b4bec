"""The state of one identity on disk, encrypted: named pieces, and lists of numbered entries.

``STORE.md`` beside this file says what is written byte by byte and what a thief of it has. Order of calls::

    store = PeerStore.create(folder, StoreKey.passphrase(typed))        # or open(folder, key)
    mine = Correspondence.parse(store.pieces())
    …
    store.write(mine.take_unsaved(), [Entry("outbox", store.next_number("outbox"), message)])
    deposit(message)                                                    # after write() has returned

:meth:`PeerStore.write` is one transaction, on disk when it returns: all of it or nothing. When it raises, the
store is of no use any more, like the objects that were to be saved: close it, open it, and parse them anew.

A name is up to 200 bytes of UTF-8; a namespace is a prefix ("messenger/…"). One thread at a time, whichever.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from ptproxy.errors import LocalProtocolError, StartError, StateError
from ptproxy.peers.store_doubt import Doubt, check_note, check_witness, make_note
from ptproxy.peers.store_head import Head, ListState, Named
from ptproxy.peers.store_key import KEY, StoreKey
from ptproxy.peers.store_lineage import RUN, Mark
from ptproxy.peers.store_rows import HEAD, MAX_ROWS, RowKeys, changed, entry_place, fresh, piece_place
from ptproxy.peers.store_schema import (
    MAX_NAME,
    MAX_NUMBER,
    MAX_PAGE,
    MAX_PIECES,
    MAX_VALUE,
    NAME,
    SCHEMA,
    check_schema,
)
from ptproxy.peers.store_witness import Witness
from ptproxy.state import StateFolder

_DATABASE: Final = f"{NAME}.sqlite3"
_WITNESS: Final = f"{NAME}.witness"


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of a list: what entry ``number`` is from now on; None deletes it."""

    list: str
    number: int
    value: bytes | None = field(repr=False)


class PeerStore:
    """One identity's pieces and lists. A context manager that closes it."""

    __slots__ = ("_broken", "_db", "_elements", "_head", "_keys", "_lists", "_run", "_witness")

    def __init__(self, database: sqlite3.Connection, keys: RowKeys, witness: Witness, head: Head) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self._db = database
        self._keys = keys
        self._witness = witness
        self._head = head
        self._elements: dict[bytes, bytes] = {}
        """By blinded name: what each row of the pieces' table adds to the digest."""
        self._lists: dict[str, ListState] = {}
        self._run: bytes | None = None
        """This start's, once it has written."""
        self._broken = False

    # ---- beginning and end ----------------------------------------------------------------------

    @classmethod
    def create(cls, folder: StateFolder, key: StoreKey) -> Self:
        """A new, empty store in ``folder``; :class:`StartError` where there is one already."""
        database = folder.database(NAME, SCHEMA)
        with _closed_on_error(database):
            if database.execute("SELECT count(*) FROM store").fetchone() != (0,):
                raise StartError(f"{folder.path / _DATABASE} exists already")
            master = fresh(KEY)
            keys = RowKeys(master)
            witness = Witness(folder.mark_file(_WITNESS), keys, folder.file_number(_DATABASE))
            store = cls(database, keys, witness, Head())
            store._begin_run()
            witness.begin(store._mark)  # first: a store without a witness is one that was put back
            with _transaction(database):
                database.execute("INSERT INTO store VALUES ('key', ?)", (key.wrap(master),))
                store._write_head()
        return store

    @classmethod
    def open(cls, folder: StateFolder, key: StoreKey, accepted: frozenset[Doubt] = frozenset()) -> Self:
        """The store of ``folder``, every piece of it verified. Nothing is written before the first change.

        :class:`StartError`: there is none, or the key does not open it. :class:`StateError`: it is damaged.
        :class:`StoreRolledBackError`, :class:`StoreClonedError`: it is not what was here last; whoever
        decides to go on all the same opens it with that doubt ``accepted``, and is asked again until
        something was written. What was sent since then is forgotten, so go on with new prekeys and sessions.
        """
        if not (folder.path / _DATABASE).exists():
            raise StartError(f"there is no identity in {folder.path}")
        database = folder.database(NAME, SCHEMA)
        with _closed_on_error(database), _damage_told():
            check_schema(database)
            keys = RowKeys(key.unwrap(_part(database, "key")))
            revision, content = keys.open(HEAD, _part(database, "head"))
            head = Head.parse(content)
            if revision != head.revision:
                raise StateError("store: the head is damaged")
            witness = Witness(folder.mark_file(_WITNESS), keys, folder.file_number(_DATABASE))
            store = cls(database, keys, witness, head)
            store._load()
            check_witness(witness, head, accepted)
        return store

    def close(self) -> None:
        """Close the files. May be called twice."""
        self._broken = True
        self._witness.close()
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def change_key(self, key: StoreKey) -> None:
        """From now on ``key`` opens it, and the one before does not.

        A copy that was made before still opens with the key before, and shows the master key.
        """
        self._check_usable()
        master = self._keys.master
        with self._breaking(), _transaction(self._db):
            self._db.execute("UPDATE store SET value = ? WHERE part = 'key'", (key.wrap(master),))
        self._tidy()

    # ---- pieces ---------------------------------------------------------------------------------

    def pieces(self) -> dict[str, bytes]:
        """All pieces, by name."""
        self._check_usable()
        with _damage_told():
            found = {}
            for blinded, sealed in self._db.execute("SELECT name, sealed FROM pieces"):
                named = self._open_named(blinded, sealed)
                if not isinstance(named.value, ListState):
                    found[named.name] = named.value
            return found

    def write(self, pieces: Mapping[str, bytes | None], entries: Sequence[Entry] = ()) -> None:
        """Change pieces and entries, None deletes: one transaction, on disk when this returns.

        :class:`LocalProtocolError`, and nothing changes, for what is too long or too much;
        :class:`StartError` where it cannot be written, and the store is of no use any more.
        """
        self._check_usable()
        self._check_room(pieces, entries)
        if not pieces and not entries:
            return
        with self._breaking():
            beginning = self._run is None
            if beginning:
                self._begin_run()
            self._head.revision += 1
            with _transaction(self._db):
                for entry in entries:
                    self._write_entry(entry)
                for name, value in pieces.items():
                    self._write_piece(self._keys.piece(name), None if value is None else Named(name, value))
                for name in {entry.list for entry in entries} & self._lists.keys():
                    self._write_piece(self._keys.list(name), Named(name, self._lists[name]))
                self._write_head()
            if beginning:
                self._witness.begin(self._mark)
            else:
                self._witness.follow(self._mark)

    # ---- lists ----------------------------------------------------------------------------------

    def entries(self, list: str, before: int | None = None, limit: int = 100) -> list[tuple[int, bytes]]:
        """Up to ``limit`` entries, newest first, those with numbers below ``before`` where it is given.

        :class:`StateError` when one of the list was altered, set back or taken away.
        """
        self._check_usable()
        known = self._lists.get(list)
        if known is None:
            return []
        blinded = self._keys.list(list)
        last = MAX_NUMBER + 1 if before is None else max(0, min(before, MAX_NUMBER + 1))
        with _damage_told():
            if not known.checked:
                self._check_list(blinded, known)
            rows = self._db.execute(
                "SELECT number, sealed FROM entries WHERE list = ? AND number < ? "
                "ORDER BY number DESC LIMIT ?",
                (blinded, last, max(0, min(limit, MAX_PAGE))),
            )
            return [
                (number, self._keys.open(entry_place(blinded, number), sealed)[1]) for number, sealed in rows
            ]

    def next_number(self, list: str) -> int:
        """A number that no entry of the list has ever had, greater than all; from 1. Nothing is reserved."""
        self._check_usable()
        return self._lists[list].next if list in self._lists else 1

    def lists(self) -> list[str]:
        """The names of all lists that ever had an entry."""
        self._check_usable()
        return sorted(self._lists)

    # ---- other copies ---------------------------------------------------------------------------

    def note(self) -> bytes:
        """Where this store is, sealed: to leave at a place that other copies of it come to as well."""
        self._check_usable()
        return make_note(self._keys, self._mark)

    def check_clone(self, note: bytes) -> None:
        """Compare with the newest note that was left there.

        :class:`StoreRolledBackError`: this store has been set back since. :class:`StoreClonedError`:
        another copy is, or was, in use. :class:`StateError`: it is no note of this store's.
        """
        self._check_usable()
        check_note(self._keys, self._head, note)

    # ---- within ---------------------------------------------------------------------------------

    @property
    def _mark(self) -> Mark:
        runs = self._head.lineage.runs
        return Mark(runs[-1].run, self._head.revision)

    def _begin_run(self) -> None:
        self._run = fresh(RUN)
        self._head.lineage = self._head.lineage.begun(self._run, self._head.revision + 1)

    def _load(self) -> None:
        """Verify every row of the pieces' table, and that they are the newest ones."""
        digest = bytes(len(self._head.digest))
        for blinded, sealed in self._db.execute(
            "SELECT name, sealed FROM pieces LIMIT ?", (self._head.pieces + 1,)
        ):
            named = self._open_named(blinded, sealed)
            element = self._keys.element(piece_place(blinded), sealed)
            digest = changed(digest, element)
            self._elements[blinded] = element
            if isinstance(named.value, ListState):
                self._lists[named.name] = named.value
        if len(self._elements) != self._head.pieces or digest != self._head.digest:
            raise StateError("store: some rows are older than the others, or missing")

    def _open_named(self, blinded: bytes, sealed: bytes) -> Named:
        revision, content = self._keys.open(piece_place(blinded), sealed)
        named = Named.parse(content)
        whole = self._keys.list if isinstance(named.value, ListState) else self._keys.piece
        if revision > self._head.revision or whole(named.name) != blinded:
            raise StateError("store: a row is damaged")
        return named

    def _seal(self, place: bytes, content: bytes) -> bytes:
        self._head.sealed += 1
        return self._keys.seal(place, self._head.revision, content, fresh)

    def _write_piece(self, blinded: bytes, named: Named | None) -> None:
        """Write or delete a row of the pieces' table; the head's digest follows."""
        place = piece_place(blinded)
        old = self._elements.pop(blinded, None)
        if old is not None:
            self._head.digest = changed(self._head.digest, old)
        if named is not None:
            sealed = self._seal(place, named.serialize())
            self._elements[blinded] = element = self._keys.element(place, sealed)
            self._head.digest = changed(self._head.digest, element)
            self._db.execute(
                "INSERT INTO pieces VALUES (?, ?) ON CONFLICT DO UPDATE SET sealed = excluded.sealed",
                (blinded, sealed),
            )
        elif old is not None:
            self._db.execute("DELETE FROM pieces WHERE name = ?", (blinded,))
        self._head.pieces = len(self._elements)

    def _write_entry(self, entry: Entry) -> None:
        """Write or delete an entry; its list's digest follows."""
        known = self._lists.get(entry.list)
        if known is None:
            if entry.value is None:
                return
            known = self._lists[entry.list] = ListState()
        blinded = self._keys.list(entry.list)
        place, key = entry_place(blinded, entry.number), (blinded, entry.number)
        row = None
        if entry.number < known.next:
            query = "SELECT sealed FROM entries WHERE list = ? AND number = ?"
            row = self._db.execute(query, key).fetchone()
        if row is not None:
            known.digest = changed(known.digest, self._keys.element(place, row[0]))
            known.entries -= 1
        if entry.value is None:
            self._db.execute("DELETE FROM entries WHERE list = ? AND number = ?", key)
            return
        sealed = self._seal(place, entry.value)
        known.digest = changed(known.digest, self._keys.element(place, sealed))
        known.entries += 1
        known.next = max(known.next, entry.number + 1)
        self._db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (*key, sealed))

    def _write_head(self) -> None:
        sealed = self._seal(HEAD, self._head.serialize())
        self._db.execute("INSERT OR REPLACE INTO store VALUES ('head', ?)", (sealed,))

    def _check_list(self, blinded: bytes, known: ListState) -> None:
        digest, count = bytes(len(known.digest)), 0
        rows = self._db.execute(
            "SELECT number, substr(sealed, 1, 12) FROM entries WHERE list = ?", (blinded,)
        )
        for number, nonce in rows:
            digest = changed(digest, self._keys.element(entry_place(blinded, number), nonce))
            count += 1
        if count != known.entries or digest != known.digest:
            raise StateError("store: some entries are older than the others, or missing")
        known.checked = True

    def _check_room(self, pieces: Mapping[str, bytes | None], entries: Sequence[Entry]) -> None:
        for name in {*pieces, *(entry.list for entry in entries)}:
            if not 1 <= len(name.encode()) <= MAX_NAME:
                raise LocalProtocolError(f"store: a name has 1 to {MAX_NAME} bytes")
        for value in (*pieces.values(), *(entry.value for entry in entries)):
            if value is not None and len(value) > MAX_VALUE:
                raise LocalProtocolError(f"store: a value has {MAX_VALUE:,} bytes at most")
        if any(not 1 <= entry.number <= MAX_NUMBER for entry in entries):
            raise LocalProtocolError("store: an entry's number is below 1 or too large")
        if len(self._elements) + len(pieces) + len(entries) > MAX_PIECES:
            new = {self._keys.piece(name) for name, value in pieces.items() if value is not None}
            new |= {self._keys.list(entry.list) for entry in entries}
            if len(self._elements.keys() | new) > MAX_PIECES:
                raise LocalProtocolError("store: too many pieces")
        if self._head.sealed + len(pieces) + 2 * len(entries) + 1 > MAX_ROWS:
            raise LocalProtocolError("store: its master key has sealed as much as it may")

    def _check_usable(self) -> None:
        if self._broken:
            raise LocalProtocolError("store: closed, or a change failed: open it again")

    @contextlib.contextmanager
    def _breaking(self) -> Iterator[None]:
        """Whatever goes wrong in here leaves the store unusable: what is in memory may not be on disk."""
        try:
            yield
        except BaseException as error:
            self._broken = True
            if isinstance(error, sqlite3.Error):
                raise StartError(f"the store cannot be written: {error}") from None
            raise

    def _tidy(self) -> None:
        """What was overwritten leaves the log as well."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def __repr__(self) -> str:
        return f"<PeerStore {len(self._elements)} rows>"


def _part(database: sqlite3.Connection, part: str) -> bytes:
    row = database.execute("SELECT value FROM store WHERE part = ?", (part,)).fetchone()
    if row is None:
        raise StartError("there is no identity in this store: making it was interrupted")
    return bytes(row[0])


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # it may have rolled back by itself
            database.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _closed_on_error(database: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        database.close()
        raise


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    """A file that SQLite cannot make sense of is damage like any other."""
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(f"store: the database is damaged: {error}") from None
