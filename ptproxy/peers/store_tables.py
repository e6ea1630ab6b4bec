"""The tables of a store: rows are sealed and opened here, and the digests that vouch for them follow.

Whoever writes does so within one transaction. When that fails, what is in memory is no longer what is stored:
the object is thrown away. Whatever the database holds, reading raises nothing but
:class:`~ptproxy.errors.StateError`, and takes no more memory than a store may have.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ptproxy.errors import LocalProtocolError, StateError
from ptproxy.peers.store_head import Head, ListState, Named
from ptproxy.peers.store_index import Index
from ptproxy.peers.store_rows import (
    HEAD,
    MAX_ROWS,
    NONCE,
    RowKeys,
    entry_place,
    fresh,
    piece_place,
)

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


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of a list: what entry ``number`` is from now on; None deletes it."""

    list: str
    number: int
    value: bytes | None = field(repr=False)


class Tables:
    """All rows of one store."""

    __slots__ = ("_db", "_elements", "_keys", "head", "lists")

    def __init__(self, database: sqlite3.Connection, keys: RowKeys, head: Head) -> None:
        self._db = database
        self._keys = keys
        self.head = head
        self.lists: dict[str, ListState] = {}
        self._elements: dict[bytes, int] = {}
        """By blinded name: what each row of the pieces' table adds to the digest."""

    @classmethod
    def open(cls, database: sqlite3.Connection, keys: RowKeys) -> Tables:
        """Every row of the pieces' table is verified, and that they are the newest ones."""
        with damage_told():
            revision, content = keys.open(HEAD, part(database, "head"))
            head = Head.parse(content)
            if revision != head.revision:
                raise StateError("store: the head is damaged")
            tables = cls(database, keys, head)
            tables._load()
        return tables

    # ---- reading --------------------------------------------------------------------------------

    def pieces(self) -> dict[str, bytes]:
        """All pieces, by name."""
        found, rows = {}, 0
        for blinded, sealed, named in self._rows():
            if self._keys.element(piece_place(blinded), sealed) != self._elements.get(blinded):
                raise StateError("store: the database is damaged")
            if not isinstance(named.value, ListState):
                found[named.name] = named.value
            rows += 1
        if rows != len(self._elements):
            raise StateError("store: the database is damaged")
        return found

    def entries(self, name: str, before: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to ``limit`` entries with numbers below ``before``, newest first."""
        known = self.lists.get(name)
        if known is None:
            return []
        blinded = self._keys.list(name)
        with damage_told():
            if known.index is None:
                known.index = self._compared(blinded, known)
            expected = known.index.page(before, limit)
            rows = self._db.execute(
                "SELECT number, sealed FROM entries WHERE list = ? AND number < ? "
                "ORDER BY number DESC LIMIT ?",
                (blinded, before, len(expected)),
            ).fetchall()
        if [(number, _bytes(sealed)[:NONCE]) for number, sealed in rows] != expected:
            raise StateError("store: the database is damaged")
        return [(number, open_entry(self._keys, blinded, number, sealed)[1]) for number, sealed in rows]

    def _load(self) -> None:
        digest = 0
        for blinded, sealed, named in self._rows():
            digest ^= self.know(blinded, sealed, named)
        if len(self._elements) != self.head.pieces or digest != self.head.digest:
            raise StateError("store: some rows are older than the others, or missing")

    def know(self, blinded: bytes, sealed: bytes, named: Named) -> int:
        """A row of the pieces' table was read; what it adds to the digest."""
        self._elements[blinded] = element = self._keys.element(piece_place(blinded), sealed)
        if isinstance(named.value, ListState):
            self.lists[named.name] = named.value
        return element

    def _rows(self) -> Iterator[tuple[bytes, bytes, Named]]:
        """The pieces' table, opened: blinded name, sealed row, content."""
        query = "SELECT name, sealed FROM pieces LIMIT ?"
        with damage_told():
            for blinded, sealed in self._db.execute(query, (self.head.pieces + 1,)):
                yield blinded, sealed, open_named(self._keys, blinded, sealed)[1]

    def _compared(self, blinded: bytes, known: ListState) -> Index:
        """The entries of a list, which are those that its digest vouches for."""
        digest, index = 0, Index()
        rows = self._db.execute(
            f"SELECT number, substr(sealed, 1, {NONCE}) FROM entries WHERE list = ? LIMIT ?",  # noqa: S608
            (blinded, known.entries + 1),
        )
        for number, nonce in rows:
            digest ^= self._keys.element(entry_place(blinded, _number(number)), _bytes(nonce))
            index.put(number, nonce)
        if len(index) != known.entries or digest != known.digest:
            raise StateError("store: some entries are older than the others, or missing")
        return index

    # ---- writing --------------------------------------------------------------------------------

    def check_room(self, pieces: Mapping[str, bytes | None], entries: Sequence[Entry]) -> None:
        """:class:`LocalProtocolError` where this change would be too much."""
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
        if self.head.sealed + len(pieces) + 2 * len(entries) + 1 > MAX_ROWS:
            raise LocalProtocolError("store: its master key has sealed as much as it may")

    def put(self, pieces: Mapping[str, bytes | None], entries: Sequence[Entry]) -> None:
        """Write one revision: pieces, entries, their lists, the head."""
        self.head.revision += 1
        for entry in entries:
            self._put_entry(entry)
        for name, value in pieces.items():
            self._put_row(self._keys.piece(name), None if value is None else Named(name, value))
        self.put_lists({entry.list for entry in entries} & self.lists.keys())
        self.put_head()

    def put_lists(self, names: Collection[str]) -> None:
        """Write what is known of these lists."""
        for name in names:
            self._put_row(self._keys.list(name), Named(name, self.lists[name]))

    def forget(self, name: str) -> None:
        """Delete the entries of a list, without a word to the digests: these tables are at their end."""
        self._db.execute("DELETE FROM entries WHERE list = ?", (self._keys.list(name),))

    def put_head(self) -> None:
        """Write the head."""
        sealed = self._seal(HEAD, self.head.serialize())
        self._db.execute("INSERT OR REPLACE INTO store VALUES ('head', ?)", (sealed,))

    def _seal(self, place: bytes, content: bytes) -> bytes:
        self.head.sealed += 1
        return self._keys.seal(place, self.head.revision, content, fresh)

    def _put_row(self, blinded: bytes, named: Named | None) -> None:
        """Write or delete a row of the pieces' table; the head's digest follows."""
        place, head = piece_place(blinded), self.head
        old = self._elements.pop(blinded, None)
        if old is not None:
            head.digest ^= old
        if named is not None:
            sealed = self._seal(place, named.serialize())
            self._elements[blinded] = element = self._keys.element(place, sealed)
            head.digest ^= element
            self._db.execute(
                "INSERT INTO pieces VALUES (?, ?) ON CONFLICT DO UPDATE SET sealed = excluded.sealed",
                (blinded, sealed),
            )
        elif old is not None:
            self._db.execute("DELETE FROM pieces WHERE name = ?", (blinded,))
        head.pieces = len(self._elements)

    def _put_entry(self, entry: Entry) -> None:
        """Write or delete an entry; its list's digest follows."""
        known = self.lists.get(entry.list)
        if known is None:
            if entry.value is None:
                return
            known = self.lists[entry.list] = ListState()
        blinded = self._keys.list(entry.list)
        place, key = entry_place(blinded, entry.number), (blinded, entry.number)
        old = self._nonce(known, key)
        if old is not None:
            known.digest ^= self._keys.element(place, old)
            known.entries -= 1
        if entry.value is None:
            self._db.execute("DELETE FROM entries WHERE list = ? AND number = ?", key)
            if known.index is not None:
                known.index.drop(entry.number)
            return
        sealed = self._seal(place, entry.value)
        known.digest ^= self._keys.element(place, sealed)
        known.entries += 1
        known.next = max(known.next, entry.number + 1)
        self._db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (*key, sealed))
        if known.index is not None:
            known.index.put(entry.number, sealed[:NONCE])

    def _nonce(self, known: ListState, key: tuple[bytes, int]) -> bytes | None:
        """That of an entry that is there. Where the database lies, the digest will not agree any more."""
        number = key[1]
        if known.index is not None:
            return known.index.nonce(number)
        if number >= known.next:
            return None
        query = f"SELECT substr(sealed, 1, {NONCE}) FROM entries WHERE list = ? AND number = ?"  # noqa: S608
        row = self._db.execute(query, key).fetchone()
        return None if row is None else _bytes(row[0])

    def __len__(self) -> int:
        return len(self._elements)


def open_named(keys: RowKeys, blinded: object, sealed: object) -> tuple[int, Named]:
    """A row of the pieces' table: its revision and what is in it."""
    revision, content = keys.open(piece_place(_bytes(blinded)), _bytes(sealed))
    return revision, Named.parse(content)


def open_entry(keys: RowKeys, blinded: bytes, number: object, sealed: object) -> tuple[int, bytes]:
    """An entry: its revision and value."""
    return keys.open(entry_place(blinded, _number(number)), _bytes(sealed))


def part(database: sqlite3.Connection, name: str) -> bytes:
    """A row of the table ``store``; :class:`StateError` where it is missing."""
    with damage_told():
        row = database.execute("SELECT value FROM store WHERE part = ?", (name,)).fetchone()
    if row is None:
        raise StateError(f"store: the {name} is missing")
    return _bytes(row[0])


@contextlib.contextmanager
def damage_told() -> Iterator[None]:
    """A file that SQLite cannot make sense of is damage like any other."""
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(f"store: the database is damaged: {error}") from None
    except UnicodeDecodeError:  # SQLite's words about a damaged file quote it
        raise StateError("store: the database is damaged") from None


def _bytes(value: Any) -> bytes:
    """What a column held, which may be anything in a file that others can write."""
    if not isinstance(value, bytes):
        raise StateError("store: a row is damaged")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or not 1 <= value <= MAX_NUMBER:
        raise StateError("store: an entry is damaged")
    return value
