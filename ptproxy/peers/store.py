"""The state of one identity on disk, encrypted: named pieces, and lists of numbered entries.

``STORE.md`` beside this file says what is written byte by byte and what a thief of it has. Order of calls::

    store = PeerStore.create(folder, StoreKey.passphrase(typed))        # or open(folder, key)
    mine = Correspondence.parse(store.pieces())
    …
    store.write(mine.take_unsaved(), [Entry("outbox", store.next_number("outbox"), message)])
    deposit(message)                                                    # after write() has returned

:meth:`PeerStore.write` is one transaction, on disk when it returns: all of it or nothing. When it raises
:class:`~ptproxy.errors.StartError`, the store is of no use any more, like the objects that were to be saved:
close it, open it again and parse them anew.

The other modules: ``store_key`` opens it; ``store_rows``, ``store_head``, ``store_tables``, ``store_index``
and ``store_schema`` are what is written, how it is sealed, and what vouches for it; ``store_lineage``,
``store_witness`` and ``store_doubt`` notice an old state or a second copy; ``store_renewal`` seals everything
under another master key, ``store_salvage`` keeps what still opens of a damaged one.

A name is up to 200 bytes of UTF-8; a namespace is a prefix ("messenger/…"). Any thread may call, and
waits for the one that is in here.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from ptproxy.errors import LocalProtocolError, StartError
from ptproxy.peers.store_doubt import (
    Doubt,
    StoreClonedError,
    StoreDoubtError,
    StoreRolledBackError,
    check_note,
    check_witness,
    make_note,
)
from ptproxy.peers.store_head import Head
from ptproxy.peers.store_key import KEY, StoreKey
from ptproxy.peers.store_lineage import RUN, Mark
from ptproxy.peers.store_renewal import sealed_anew
from ptproxy.peers.store_rows import RowKeys, fresh
from ptproxy.peers.store_schema import NAME, SCHEMA, check_schema
from ptproxy.peers.store_tables import MAX_NUMBER, MAX_PAGE, Entry, Tables, damage_told, part
from ptproxy.peers.store_witness import Witness
from ptproxy.state import StateFolder

__all__ = [
    "Doubt", "Entry", "PeerStore", "StoreClonedError", "StoreDoubtError", "StoreKey", "StoreRolledBackError",
]  # fmt: skip

TIDY: Final = 32
"""Changes after which the log is emptied: that many old versions of a row stay readable with the key."""

_DATABASE: Final = f"{NAME}.sqlite3"
_WITNESS: Final = f"{NAME}.witness"


class PeerStore:
    """One identity's pieces and lists. A context manager that closes it."""

    __slots__ = (
        "_accepted",
        "_db",
        "_doubts",
        "_keys",
        "_lock",
        "_run",
        "_since_tidy",
        "_tables",
        "_unusable",
        "_witness",
    )

    def __init__(self, database: sqlite3.Connection, keys: RowKeys, witness: Witness, tables: Tables) -> None:
        """Use :meth:`create` or :meth:`open`."""
        self._db = database
        self._keys = keys
        self._witness = witness
        self._tables = tables
        self._run: bytes | None = None
        """This start's, once it has written."""
        self._accepted: frozenset[Doubt] = frozenset()
        self._doubts: frozenset[Doubt] = frozenset()
        self._since_tidy = 0
        self._unusable = False
        self._lock = threading.RLock()

    # ---- beginning and end ----------------------------------------------------------------------

    @classmethod
    def create(cls, folder: StateFolder, key: StoreKey) -> Self:
        """A new, empty store in ``folder``.

        :class:`StartError` where there is one already, or where it cannot be written.
        """
        with contextlib.ExitStack() as undo:
            database = undo.enter_context(contextlib.closing(folder.database(NAME, SCHEMA)))
            if _is_there(database):
                raise StartError(f"{folder.path / _DATABASE} exists already")
            master = fresh(KEY)
            keys = RowKeys(master)
            witness = undo.enter_context(contextlib.closing(_witness(folder, keys)))
            store = cls(database, keys, witness, Tables(database, keys, Head()))
            with store._changing():
                store._begin_run()
                store._tables.head.revision = 1
                witness.begin(store._mark)  # first: a store without a witness is one that was put back
                database.execute("BEGIN IMMEDIATE")
                database.execute("INSERT INTO store VALUES ('key', ?)", (key.wrap(master),))
                store._tables.put_head()
                database.execute("COMMIT")
            undo.pop_all()
            return store

    @classmethod
    def open(cls, folder: StateFolder, key: StoreKey, accepted: Collection[Doubt] = ()) -> Self:
        """The store of ``folder``, every piece of it verified. Nothing is written before the first change.

        A passphrase takes most of a second: where a loop runs, in a thread.

        :class:`StartError`: there is none, or the key does not open it. :class:`StateError`: it is damaged.
        :class:`StoreRolledBackError`, :class:`StoreClonedError`: it is not what was here last. Whoever
        decides to go on all the same opens it with that doubt ``accepted``, and is asked again until
        something was written: that should be what ``Correspondence.start_anew`` changed (:attr:`doubts`).
        """
        if not (folder.path / _DATABASE).exists():
            raise StartError(f"there is no identity in {folder.path}")
        with contextlib.ExitStack() as undo:
            database = undo.enter_context(contextlib.closing(folder.database(NAME, SCHEMA)))
            if not _is_there(database):
                raise StartError(f"there is no identity in {folder.path}: making it was interrupted")
            keys = RowKeys(key.unwrap(part(database, "key")))
            tables = Tables.open(database, keys)
            witness = _witness(folder, keys)
            store = cls(database, keys, witness, tables)
            store._doubts = check_witness(witness, tables.head, accepted)
            store._accepted = frozenset(accepted)
            undo.pop_all()
            return store

    @property
    def doubts(self) -> frozenset[Doubt]:
        """What it was opened in spite of; nothing any more once something has been written."""
        return self._doubts

    @property
    def accepted(self) -> frozenset[Doubt]:
        """The doubts in spite of which whoever opened it goes on, had there been any or not."""
        return self._accepted

    def close(self) -> None:
        """Close the files. May be called twice."""
        with self._lock:
            self._unusable = True
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
        wrapped = key.wrap(self._keys.master)
        with self._using():
            with self._changing():
                self._db.execute("UPDATE store SET value = ? WHERE part = 'key'", (wrapped,))
            self.tidy()

    def renew(self, key: StoreKey) -> None:
        """Everything is sealed anew under another master key, which ``key`` opens.

        For a key that somebody else may have had together with a copy: what is stored from now on, that
        copy does not open. Takes as long as writing everything. Notes that were left elsewhere are not this
        store's any more.
        """
        master = fresh(KEY)
        keys, wrapped = RowKeys(master), key.wrap(master)
        with self._using():
            with self._changing():
                mark = self._mark
                if self._run is None:
                    self._begin_run()
                self._db.execute("BEGIN IMMEDIATE")
                tables = sealed_anew(self._db, self._tables, keys)
                self._db.execute("UPDATE store SET value = ? WHERE part = 'key'", (wrapped,))
                self._keys, self._tables = keys, tables
                self._witness = self._witness.hand_over(mark, keys, self._mark)
                self._db.execute("COMMIT")
                self._witness.begin(self._mark)
            self.tidy()

    # ---- pieces ---------------------------------------------------------------------------------

    def pieces(self) -> dict[str, bytes]:
        """All pieces, by name. :class:`StateError` where the file was changed meanwhile."""
        with self._using():
            return self._tables.pieces()

    def write(self, pieces: Mapping[str, bytes | None], entries: Sequence[Entry] = ()) -> None:
        """Change pieces and entries, None deletes: one transaction, on disk when this returns.

        :class:`LocalProtocolError`, and nothing changes, for what is too long or too much.
        :class:`StartError` where it cannot be written, :class:`StateError` where it turns out to be damaged;
        the store is of no use any more.
        """
        with self._using():
            self._tables.check_room(pieces, entries)
            if not pieces and not entries:
                return
            with self._changing():
                tell = self._witness.follow
                if self._run is None:
                    self._begin_run()
                    tell = self._witness.begin
                self._db.execute("BEGIN IMMEDIATE")
                self._tables.put(pieces, entries)
                self._db.execute("COMMIT")
                tell(self._mark)
                self._doubts = frozenset()
            self._since_tidy += 1
            if self._since_tidy >= TIDY:
                self.tidy()

    def tidy(self) -> None:
        """Empty the log: what was overwritten or deleted is then nowhere in the files.

        Happens by itself every ``TIDY`` changes and at the end. Worth a call after something was deleted
        that should be gone at once.
        """
        with (
            self._using(),
            contextlib.suppress(sqlite3.Error),
        ):  # a full disk: the next one, or the next start
            self._since_tidy = 0
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # ---- lists ----------------------------------------------------------------------------------

    def entries(self, list: str, before: int | None = None, limit: int = 100) -> list[tuple[int, bytes]]:
        """Up to ``limit`` entries, newest first, those with numbers below ``before`` where it is given.

        :class:`StateError` when one of the list was altered, set back or taken away.
        """
        last = MAX_NUMBER + 1 if before is None else max(0, min(before, MAX_NUMBER + 1))
        with self._using():
            return self._tables.entries(list, last, max(0, min(limit, MAX_PAGE)))

    def next_number(self, list: str) -> int:
        """A number that no entry of the list has ever had, greater than all; from 1. Nothing is reserved."""
        with self._using():
            known = self._tables.lists.get(list)
            return known.next if known else 1

    def lists(self) -> list[str]:
        """The names of all lists that ever had an entry."""
        with self._using():
            return sorted(self._tables.lists)

    # ---- other copies ---------------------------------------------------------------------------

    def note(self) -> bytes:
        """Where this store is, sealed: to leave at a place that other copies of it come to as well."""
        with self._using():
            return make_note(self._keys, self._mark)

    def check_clone(self, note: bytes) -> None:
        """Compare with the newest note that was left there.

        :class:`StoreRolledBackError`: this store has been set back since. :class:`StoreClonedError`:
        another copy is, or was, in use. :class:`StateError`: it is no note of this store's.
        """
        with self._using():
            check_note(self._keys, self._tables.head, note)

    # ---- within ---------------------------------------------------------------------------------

    @property
    def _mark(self) -> Mark:
        head = self._tables.head
        return Mark(head.lineage.runs[-1].run, head.revision)

    def _begin_run(self) -> None:
        head = self._tables.head
        self._run = fresh(RUN)
        head.lineage = head.lineage.begun(self._run, head.revision + 1)

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        with self._lock:
            if self._unusable:
                raise LocalProtocolError("store: closed, or a change failed: open it again")
            yield

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Whatever goes wrong in here leaves the store unusable: what is in memory may not be on disk."""
        try:
            yield
        except BaseException as error:
            self._unusable = True
            with contextlib.suppress(sqlite3.Error):  # it may have rolled back by itself
                self._db.execute("ROLLBACK")
            if isinstance(error, (sqlite3.Error, UnicodeDecodeError)):
                raise StartError(f"the store cannot be written: {error}") from None
            raise

    def __repr__(self) -> str:
        return f"<PeerStore {len(self._tables)} rows>"


def _witness(folder: StateFolder, keys: RowKeys) -> Witness:
    return Witness(folder.mark_file(_WITNESS), keys, folder.file_number(_DATABASE))


def _is_there(database: sqlite3.Connection) -> bool:
    """Whether a store was made here, and not only its tables; :class:`StateError` for other tables."""
    with damage_told():
        check_schema(database)
        return bool(database.execute("SELECT count(*) FROM store").fetchone() != (0,))
