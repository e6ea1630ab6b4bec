"""An access list in SQLite, shared by a bridge's processes and the commands beside them.

Every process has the whole list in memory and decides from that. A change is made
in one transaction: what others have committed is taken in, the change is made to
what is right then, what it touched is written; so neither loses the other's, and of
two that would spend the same last use one is refused.

- ``entries`` holds identities, invites and accounts in their JSON-able form
  (``auth/access_record.py``, newest version).
- ``changes`` numbers every change of an entry, by triggers: also what somebody
  does by hand is followed. A process reads on from the last number it has seen.
- ``moved`` holds the bytes of an account's present month. They are added up by
  connections of their own that do not sync at each commit: a power cut may cost
  the last minutes of counting, a kill nothing that was written.

The file is made at the first change; a bridge without accounts has none. A list
in the older form (``access.json``) is taken in at the first opening, once, and
then put aside as ``access.json.taken``. One that is there later, and is another, was
written by an older program: no process says by itself which of the two is right.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from ptproxy.auth.access import Access, AccessList
from ptproxy.auth.access_record import KINDS, Entry
from ptproxy.auth.account import Used, month_of
from ptproxy.auth.credentials import decode_key, encode_key
from ptproxy.errors import ConfigError, StartError, why
from ptproxy.state import Document, make_folder, put_aside
from ptproxy.state.database import open_shared

DOCUMENT: Final = "access"
"""Name of the document in the state folder that held the list before there was a database."""
DATABASE: Final = "accounts.sqlite3"
"""Name of the database in the state folder."""
WAIT: Final = 1.0
"""Seconds that a change waits for another process's: each takes milliseconds."""
SET_BACK: Final = 86_400
"""Seconds: a month that begins later than that was begun by a clock that was wrong. The present one has
its bytes then; else nothing would end it until the clock is there, and a quota once used up stayed so."""
KEPT_CHANGES: Final = 10_000
"""Numbers of changes that are kept: who has not looked for so many reads everything anew."""
_FAILED: Final = (sqlite3.Error, UnicodeDecodeError)
"""What a statement raises; the latter where SQLite's words about a damaged file quote it."""

_SCHEMA: Final = """
CREATE TABLE entries (
    kind TEXT NOT NULL CHECK (kind IN ('identities', 'invites', 'accounts')),
    id TEXT NOT NULL,
    entry TEXT NOT NULL CHECK (json_valid(entry)),
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE changes (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL);
CREATE TABLE moved (
    account TEXT PRIMARY KEY, since INTEGER NOT NULL, up INTEGER NOT NULL, down INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TRIGGER entry_added AFTER INSERT ON entries
    BEGIN INSERT INTO changes (kind, id) VALUES (NEW.kind, NEW.id); END;
CREATE TRIGGER entry_changed AFTER UPDATE ON entries
    BEGIN INSERT INTO changes (kind, id) VALUES (OLD.kind, OLD.id), (NEW.kind, NEW.id); END;
CREATE TRIGGER entry_gone AFTER DELETE ON entries
    BEGIN INSERT INTO changes (kind, id) VALUES (OLD.kind, OLD.id); END
"""


class SqliteStore:
    """The list of one bridge, as this process has it (:attr:`list`), and its database."""

    def __init__(self, folder: Path, access: Access) -> None:
        """Read what there is in a state folder; raises :class:`~ptproxy.errors.StartError`."""
        self.list = AccessList(access)
        self.news = False
        """Whether others' changes have come in since whoever follows them last said so."""
        self._folder = folder
        self._access = access
        self._path = folder / DATABASE
        self._database: sqlite3.Connection | None = None
        self._counting: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._seen = 0
        if self._path.exists() or self._older.path.exists():
            try:
                self._open()
            except _FAILED as error:
                self.close()
                raise StartError(f"cannot use {self._path}: {error}") from None
            except StartError:
                self.close()
                raise

    # ---- the list ------------------------------------------------------------------------------

    def follow(self) -> None:
        """Take in what others have committed, and note it in :attr:`news`.

        Raises :class:`~ptproxy.errors.StartError` for what cannot be read; the list is then as it was,
        as far as it could be read.
        """
        try:
            if self._database is None:
                if self._path.exists():
                    self._open()
                    self.news = True
            else:
                self._check_place()
                self._take_in(self._database)
        except _FAILED as error:
            raise StartError(f"cannot read {self._path}: {error}") from None

    def update(self, change: Callable[[AccessList], None]) -> None:
        """Make a change to the list, alone among all processes, and have it on disk.

        What ``change`` raises undoes it. Raises :class:`~ptproxy.errors.StartError` where it cannot be
        written; then nothing has changed, here neither.
        """
        try:
            database = self._open()
            self._check_place()
            database.execute("BEGIN IMMEDIATE")
        except _FAILED as error:
            raise StartError(f"cannot write {self._path}: {error}") from None
        try:
            self._take_in(database)
            change(self.list)
            self._write(database)
            seen = _last_number(database)  # of ours and what was before it: who commits next is followed
            database.execute("COMMIT")
        except BaseException as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            self._undo(database)
            if isinstance(error, _FAILED):
                raise StartError(f"cannot write {self._path}: {error}") from None
            raise
        self.list.touched.clear()
        self._seen = seen

    def replace(self, access_list: AccessList) -> None:
        """Put this list in the place of whatever there was; raises as :meth:`update`."""

        def everything(known: AccessList) -> None:
            for kind in KINDS:
                for each in list(getattr(known, kind)):
                    known.take_in(kind, each, None)
                    known.touched.add((kind, each))
                for each, entry in getattr(access_list, kind).items():
                    known.take_in(kind, each, entry)
                    known.touched.add((kind, each))

        self.update(everything)

    # ---- what accounts move ----------------------------------------------------------------------

    def add_moved(
        self, moved: Mapping[str, tuple[int, int]], reset_days: Mapping[str, int], unix_now: float
    ) -> dict[str, Used]:
        """Add bytes up and down, by account, to what its month has; returns what all processes have moved.

        Of an account without a reset day nothing is counted: there is none. May be called in a thread of
        its own, one call at a time. Raises :class:`~ptproxy.errors.StartError`; then nothing was added.
        """
        try:
            if self._counting is None:
                self._counting = open_shared(self._path, _SCHEMA, 1, WAIT)
                self._counting.execute("PRAGMA synchronous = NORMAL")
            self._check_place()
            counting = self._counting
            counting.execute("BEGIN IMMEDIATE")
            try:
                for name, (up, down) in moved.items():
                    if name not in reset_days:
                        continue
                    since = month_of(reset_days[name], unix_now)[0]
                    counting.execute(
                        "INSERT INTO moved VALUES (?, ?, ?, ?) ON CONFLICT (account) DO UPDATE SET"
                        " up = excluded.up + CASE WHEN since < excluded.since THEN 0 ELSE up END,"
                        " down = excluded.down + CASE WHEN since < excluded.since THEN 0 ELSE down END,"
                        " since = max(excluded.since, CASE WHEN since > ? THEN 0 ELSE since END)",
                        (name, since, up, down, int(unix_now) + SET_BACK),
                    )
                found = _read_moved(counting)
                counting.execute("COMMIT")
            except BaseException:
                if counting.in_transaction:
                    counting.execute("ROLLBACK")
                raise
        except _FAILED as error:
            raise StartError(f"cannot count in {self._path}: {error}") from None
        return found

    def close(self) -> None:
        """Close the database. May be called twice."""
        for database in (self._database, self._counting):
            if database is not None:
                database.close()
        self._database = self._counting = None

    # ---- inside ----------------------------------------------------------------------------------

    @property
    def _older(self) -> Document:
        return Document(self._folder, DOCUMENT)

    def _open(self) -> sqlite3.Connection:
        """The database, opened and read where it was not yet."""
        if self._database is None:
            try:
                make_folder(self._folder)
            except OSError as error:
                raise StartError(f"cannot make {self._folder}: {why(error)}") from None
            database = open_shared(self._path, _SCHEMA, 1, WAIT)
            try:
                self._take_over(database)
                self._read_all(database)
            except BaseException:
                database.close()
                raise
            self._database, self._file = database, _file_at(self._path)
        return self._database

    def _check_place(self) -> None:
        """What is open is what others find at its path; raises StartError.

        In a file that was replaced under us nobody would find whom we enrol, nor we whom others revoke.
        """
        if self._database is not None and _file_at(self._path) != self._file:
            raise StartError(f"{self._path} was replaced or removed while it was open: start the bridge anew")

    def _take_over(self, database: sqlite3.Connection) -> None:
        """Take in the list of the older form, once; kill -9 anywhere leaves one of the two whole."""
        data = self._older.read()
        if data is None:
            return
        database.execute("BEGIN IMMEDIATE")
        try:
            digest = sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
            taken = database.execute("SELECT value FROM facts WHERE name = 'taken over'").fetchone()
            if taken is None:
                known = self._parse(data)
                known.touched |= {(kind, each) for kind in KINDS for each in getattr(known, kind)}
                _write_touched(database, known)
                database.execute("INSERT INTO facts VALUES ('taken over', ?)", (digest,))
            elif taken[0] != digest:  # whom it revokes is to stay out
                raise StartError(
                    f"an older ptproxy has written {self._older.path} since it was taken into {self._path}: "
                    "move away the one that is not right"
                )
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        put_aside(self._older.path, ".taken")

    def _parse(self, data: Mapping[str, Any]) -> AccessList:
        try:
            return AccessList.from_dict(data, self._access)
        except ConfigError as error:
            raise StartError(f"{self._older.path}: {error.problems[0]}") from None

    def _read_all(self, database: sqlite3.Connection) -> None:
        """Read everything; the list is left as it was where something cannot be read."""
        known = AccessList(self._access)
        alone = not database.in_transaction
        if alone:
            database.execute("BEGIN")
        try:
            seen = _last_number(database)
            for kind, name, text in database.execute("SELECT kind, id, entry FROM entries"):
                entry = self._entry(kind, name, text)
                known.take_in(kind, _known_by(kind, name), entry)
            known.used = _read_moved(database)
        finally:
            if alone:
                database.execute("COMMIT")
        self.list.become(known)
        self._seen = seen

    def _take_in(self, database: sqlite3.Connection) -> None:
        """Read what was changed by others since the last time."""
        first, last = database.execute(
            "SELECT (SELECT number FROM changes ORDER BY number LIMIT 1),"
            " (SELECT number FROM changes ORDER BY number DESC LIMIT 1)"
        ).fetchone()
        if last is None or last == self._seen:
            return
        self.news = True
        if last < self._seen or first > self._seen + 1:
            self._read_all(database)
            return
        changed = database.execute(
            "SELECT DISTINCT changes.kind, changes.id, entries.entry FROM changes"
            " LEFT JOIN entries ON entries.kind = changes.kind AND entries.id = changes.id"
            " WHERE number > ?",
            (self._seen,),
        ).fetchall()
        damaged: StartError | None = None
        for kind, name, text in changed:
            try:
                entry = None if text is None else self._entry(kind, name, text)
                self.list.take_in(kind, _known_by(kind, name), entry)
            except StartError as error:  # it keeps nobody in whose revocation comes behind it
                damaged = damaged or error
            except (ValueError, AttributeError):  # gone, and no id of anything: it was never in the list
                continue
        if damaged is not None:
            raise damaged
        self._seen = last

    def _undo(self, database: sqlite3.Connection) -> None:
        """What was touched and not written is as the database has it, or else out of the list."""
        for kind, known_by in list(self.list.touched):
            entry = None
            try:
                name = _name_of(kind, known_by)
                row = database.execute(
                    "SELECT entry FROM entries WHERE kind = ? AND id = ?", (kind, name)
                ).fetchone()
                entry = None if row is None else self._entry(kind, name, row[0])
            except (*_FAILED, StartError):
                self._seen = -1  # all of it is read anew
            self.list.take_in(kind, known_by, entry)

    def _write(self, database: sqlite3.Connection) -> None:
        _write_touched(database, self.list)
        database.execute(
            "DELETE FROM changes WHERE number <= (SELECT max(number) FROM changes) - ?", (KEPT_CHANGES,)
        )

    def _entry(self, kind: str, name: str, text: str) -> Entry:
        """An entry as it is stored; raises StartError for a damaged one, whose columns may be anything."""
        try:
            entry = KINDS[kind][0].parse(json.loads(text))
            if _name_of(kind, getattr(entry, KINDS[kind][1])) != name:
                raise ValueError("it stands under another name")
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            raise StartError(f"{self._path}: {kind} {str(name)[:16]}: {error}") from None
        return entry


def _write_touched(database: sqlite3.Connection, known: AccessList) -> None:
    for kind, known_by in known.touched:
        entry = getattr(known, kind).get(known_by)
        if entry is None:
            database.execute(
                "DELETE FROM entries WHERE kind = ? AND id = ?", (kind, _name_of(kind, known_by))
            )
            if kind == "accounts":
                database.execute("DELETE FROM moved WHERE account = ?", (known_by,))
        else:
            text = json.dumps(entry.serialize(), ensure_ascii=False, separators=(",", ":"))
            database.execute(
                "INSERT INTO entries VALUES (?, ?, ?)"
                " ON CONFLICT (kind, id) DO UPDATE SET entry = excluded.entry",
                (kind, _name_of(kind, known_by), text),
            )


def _read_moved(database: sqlite3.Connection) -> dict[str, Used]:
    found = {name: Used(*rest) for name, *rest in database.execute("SELECT * FROM moved")}
    if not all(type(each) is int for used in found.values() for each in (used.since, used.up, used.down)):
        raise sqlite3.DatabaseError("what accounts moved is damaged")
    return found


def _file_at(path: Path) -> tuple[int, int] | None:
    """What the system calls the file at a path; None: there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _last_number(database: sqlite3.Connection) -> int:
    (last,) = database.execute("SELECT max(number) FROM changes").fetchone()
    return last or 0


def _name_of(kind: str, known_by: Any) -> str:
    return encode_key(known_by) if kind == "identities" else str(known_by)


def _known_by(kind: str, name: str) -> Any:
    return decode_key(name) if kind == "identities" else name
