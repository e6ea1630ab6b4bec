"""Files that somebody else wrote: nothing but documented errors, and nothing wrong is taken for right."""

import os
import random

import pytest
from store_folder import copy, everything, filled, made, opened, raw

from ptproxy.errors import StartError, StateError
from ptproxy.peers.store import Doubt, Entry
from ptproxy.peers.store_tables import damage_told
from ptproxy.state import database as database_module

PIECES = "SELECT name, sealed FROM pieces ORDER BY length(sealed), name"


def test_no_row_can_be_set_back_by_itself(tmp_path):
    filled(tmp_path)
    with raw(tmp_path) as database:
        before = database.execute(PIECES).fetchall()
    with opened(tmp_path) as store:
        store.write(
            {"identity": b"newer", "e2e/session": b"newer", "empty": b"newer"}, [Entry("history", 13, b"")]
        )
    copy(tmp_path, tmp_path / "newer")
    for name, sealed in before:
        with raw(tmp_path) as database:
            database.execute("UPDATE pieces SET sealed = ? WHERE name = ?", (sealed, name))
        with pytest.raises(StateError, match="older than the others"):
            everything(tmp_path)
        copy(tmp_path / "newer", tmp_path)
    assert everything(tmp_path)[0]["identity"] == b"newer"


def test_all_rows_set_back_but_the_head(tmp_path):
    filled(tmp_path)
    with raw(tmp_path) as database:
        before = database.execute(PIECES).fetchall()
    with opened(tmp_path) as store:
        store.write({"identity": b"newer"})
    with raw(tmp_path) as database:
        database.execute("DELETE FROM pieces")
        database.executemany("INSERT INTO pieces VALUES (?, ?)", before)
    with pytest.raises(StateError, match="older than the others"):
        everything(tmp_path)


def test_the_head_set_back_but_no_row(tmp_path):
    filled(tmp_path)
    with raw(tmp_path) as database:
        head = database.execute("SELECT value FROM store WHERE part = 'head'").fetchone()
    with opened(tmp_path) as store:
        store.write({"identity": b"newer"})
    with raw(tmp_path) as database:
        database.execute("UPDATE store SET value = ? WHERE part = 'head'", head)
    with pytest.raises(StateError):
        everything(tmp_path)


def test_no_rows_can_be_swapped_doubled_or_taken_away(tmp_path):
    filled(tmp_path)
    copy(tmp_path, tmp_path / "good")
    with raw(tmp_path) as database:
        rows = database.execute(PIECES).fetchall()
    (one, sealed_one), (other, sealed_other) = rows[0], rows[1]
    update, delete = "UPDATE pieces SET sealed = ? WHERE name = ?", "DELETE FROM pieces WHERE name = ?"
    for statements in (
        [(update, (sealed_other, one)), (update, (sealed_one, other))],
        [(update, (sealed_other, one))],
        [(delete, (one,))],
        [(delete, (one,)), (delete, (other,))],
        [("INSERT INTO pieces VALUES (?, ?)", (bytes(16), sealed_one))],
        [("INSERT INTO pieces VALUES (?, ?)", ("text", sealed_one))],
        [("DELETE FROM pieces", ())],
        [("DELETE FROM store WHERE part = 'head'", ())],
        [("DELETE FROM store WHERE part = 'key'", ())],
    ):
        with raw(tmp_path) as database:
            for statement in statements:
                database.execute(*statement)
        with pytest.raises(StateError):
            everything(tmp_path)
        copy(tmp_path / "good", tmp_path)
    everything(tmp_path)


def test_no_entry_can_be_changed_set_back_or_taken_away(tmp_path):
    filled(tmp_path)
    query = "SELECT list, number, sealed FROM entries ORDER BY number"
    with raw(tmp_path) as database:
        before = database.execute(query).fetchall()
    with opened(tmp_path) as store:
        store.write({}, [Entry("history", 3, b"changed"), Entry("history", 4, None), Entry("other", 1, b"x")])
    copy(tmp_path, tmp_path / "good")
    (blinded, _, third), fourth, fifth = before[2], before[3], before[4]
    update = "UPDATE entries SET sealed = ? WHERE list = ? AND number = ?"
    for statements in (
        [(update, (third, blinded, 3))],
        [("INSERT INTO entries VALUES (?, ?, ?)", fourth)],
        [("DELETE FROM entries WHERE number = 12", ())],
        [("DELETE FROM entries", ())],
        [(update, (fifth[2], blinded, 6)), (update, (before[5][2], blinded, 5))],
        [("UPDATE entries SET number = 100 WHERE number = 12", ())],
        [("UPDATE entries SET number = -1 WHERE number = 12", ())],
        [("UPDATE entries SET number = 'twelve' WHERE number = 12", ())],
        [("UPDATE entries SET number = 1.5 WHERE number = 12", ())],
        [("UPDATE entries SET sealed = 'text' WHERE number = 12", ())],
        [("UPDATE entries SET sealed = 12 WHERE number = 12", ())],
        [("UPDATE entries SET sealed = x'' WHERE number = 12", ())],
        [("UPDATE entries SET list = zeroblob(16) WHERE number = 12", ())],
        [("INSERT INTO entries SELECT list, 50, sealed FROM entries WHERE number = 5", ())],
    ):
        with raw(tmp_path) as database:
            for statement in statements:
                database.execute(*statement)
        with pytest.raises(StateError):
            everything(tmp_path)
        copy(tmp_path / "good", tmp_path)
    assert len(everything(tmp_path)[1]["history"]) == 11


def test_a_list_that_was_changed_stays_so_after_more_changes(tmp_path):
    """Whoever writes before looking does not vouch for what was there."""
    filled(tmp_path)
    with raw(tmp_path) as database:
        database.execute("DELETE FROM entries WHERE number = 7")
    with opened(tmp_path) as store:
        store.write({}, [Entry("history", 7, b"another"), Entry("history", 13, b"line 13")])
    with opened(tmp_path) as store, pytest.raises(StateError, match="older than the others"):
        store.entries("history")


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE TABLE more (a)",
        "CREATE INDEX more ON entries (sealed)",
        "CREATE VIEW more AS SELECT * FROM pieces",
        "CREATE TRIGGER more AFTER UPDATE ON pieces BEGIN DELETE FROM entries; END",
        "DROP TABLE entries",
        "ALTER TABLE pieces ADD COLUMN more DEFAULT 1",
    ],
)
def test_planted_tables_and_triggers(tmp_path, planted):
    filled(tmp_path)
    with raw(tmp_path) as database:
        database.execute(planted)
    with pytest.raises(StateError, match="other tables"):
        everything(tmp_path)


def test_a_trigger_that_waits_for_the_store_to_be_made(tmp_path):
    with made(tmp_path / "pattern"):
        pass
    copy(tmp_path / "pattern", tmp_path)
    with raw(tmp_path) as database:
        for statement in ("DELETE FROM store", "CREATE TRIGGER t AFTER INSERT ON pieces BEGIN SELECT 1; END"):
            database.execute(statement)
    with pytest.raises(StateError, match="other tables"), made(tmp_path):
        pass


def test_columns_of_another_kind(tmp_path):
    filled(tmp_path)
    copy(tmp_path, tmp_path / "good")
    for table, column in (("pieces", "sealed"), ("pieces", "name"), ("store", "value")):
        for value in ("text", 1, 1.5, b"", b"x", bytes(12), bytes(28), bytes(300)):
            with raw(tmp_path) as database:
                database.execute(f"UPDATE OR IGNORE {table} SET {column} = ?", (value,))
            with pytest.raises((StateError, StartError)):
                everything(tmp_path)
            copy(tmp_path / "good", tmp_path)


@pytest.mark.parametrize(
    "planted",
    [
        "UPDATE pieces SET sealed = zeroblob(6000000)",
        "UPDATE store SET value = zeroblob(6000000) WHERE part = 'head'",
        "UPDATE store SET value = zeroblob(6000000) WHERE part = 'key'",
        "UPDATE entries SET sealed = zeroblob(6000000) WHERE number = 3",
    ],
)
def test_a_row_too_large_to_read(tmp_path, planted):
    filled(tmp_path)
    with raw(tmp_path) as database:
        database.execute(planted)
    with pytest.raises(StateError, match="too big"):
        everything(tmp_path)


def test_more_rows_than_it_says(tmp_path):
    filled(tmp_path)
    with raw(tmp_path) as database:
        database.execute("BEGIN")
        database.executemany(
            "INSERT INTO pieces VALUES (?, ?)", [(os.urandom(16), bytes(400)) for _ in range(20_000)]
        )
        database.execute("COMMIT")
    with pytest.raises(StateError):
        everything(tmp_path)


def test_a_newer_version_says_so(tmp_path):
    filled(tmp_path)
    with raw(tmp_path) as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(StartError, match="newer ptproxy"):
        everything(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x", b"SQLite format 3\0", bytes(8192), os.urandom(20_000)])
def test_no_database_at_all(tmp_path, content):
    filled(tmp_path)
    (tmp_path / "peer.sqlite3").write_bytes(content)
    with pytest.raises((StateError, StartError)):
        everything(tmp_path)


@pytest.mark.parametrize("lie", ["nothing", "less", "older", "others"])
def test_a_tree_that_answers_one_question_rightly_and_the_next_one_not(tmp_path, lie):
    """Pages can be arranged so that looking through all finds each entry, and looking one up does not."""
    filled(tmp_path)
    query = "SELECT number, sealed FROM entries ORDER BY number DESC"
    with raw(tmp_path) as database:
        older = database.execute(query).fetchall()
    with opened(tmp_path) as store:
        store.write({}, [Entry("history", number, b"changed") for number in range(1, 13)])
    with opened(tmp_path) as store:
        store.entries("history", limit=1)
        real = store._tables._db
        answers = {
            "nothing": [], "less": real.execute(query).fetchall()[1:], "older": older,
            "others": real.execute(query).fetchall()[::-1],
        }  # fmt: skip

        class Lying:
            def execute(self, query, *values):
                if "ORDER BY" not in query:
                    return real.execute(query, *values)
                return real.execute("SELECT ?, ? WHERE 0", (1, 2)) if not answers[lie] else Answer()

        class Answer:
            def fetchall(self):
                return answers[lie]

        store._tables._db = Lying()
        with pytest.raises(StateError, match="the database is damaged"):
            store.entries("history")
        store._tables._db = real
        assert len(store.entries("history")) == 12


def test_pieces_that_changed_since_the_start(tmp_path):
    filled(tmp_path)
    with raw(tmp_path) as database:
        older = database.execute("SELECT sealed, name FROM pieces WHERE length(sealed) > 1000").fetchone()
    with opened(tmp_path) as store:
        store.write({"e2e/session": b"newer"})
    for statement in (
        ("DELETE FROM pieces WHERE name = ?", older[1:]),
        ("UPDATE pieces SET sealed = 'x'", ()),
        ("UPDATE pieces SET sealed = ? WHERE name = ?", older),
    ):
        with opened(tmp_path) as store:
            store._db.execute("BEGIN")
            store._db.execute(*statement)
            with pytest.raises(StateError):
                store.pieces()
            store._db.execute("ROLLBACK")
            assert len(store.pieces()) == 3


FLIPS = int(os.environ.get("PTPROXY_STORE_FLIPS", "150"))


def test_any_bit_may_flip(tmp_path):
    """Damage anywhere in the files: told, or of no consequence."""
    good = filled(tmp_path / "good")
    chance = random.Random("a store's bits")
    refused = 0
    for _ in range(FLIPS):
        copy(tmp_path / "good", tmp_path / "bad")
        path = tmp_path / "bad" / "peer.sqlite3"
        data = bytearray(path.read_bytes())
        for _ in range(chance.choice((1, 1, 3, 40))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            found = everything(tmp_path / "bad", frozenset(Doubt))
            with opened(tmp_path / "bad", frozenset(Doubt)) as store:
                store.write({"empty": b""}, [Entry("history", 3, b"line 3"), Entry("new", 1, b"x")])
            after = everything(tmp_path / "bad", frozenset(Doubt))
        except (StateError, StartError):
            refused += 1
        else:
            assert found == (good[0], {"history": good[1]})
            assert after == (good[0], {"history": good[1], "new": [(1, b"x")]})
    assert refused > FLIPS // 10


@pytest.mark.parametrize("cut", [1, 100, 4096, 8192, 30_000])
def test_a_file_that_was_cut(tmp_path, cut):
    filled(tmp_path)
    path = tmp_path / "peer.sqlite3"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut)
    with pytest.raises((StateError, StartError)):
        everything(tmp_path)


def test_any_database_beside_any_log(tmp_path):
    """SQLite takes whatever log lies beside a database: states that never were together, or an old one."""
    moments = []
    with made(tmp_path / "state") as store:
        for number in range(1, 8):
            store.write({"a": bytes([number]) * number * 700}, [Entry("history", number, bytes([number]))])
            if number in (2, 5):
                store.tidy()
            copy(tmp_path / "state", tmp_path / str(number))
            moments.append(tmp_path / str(number))
        newest = store.pieces(), {"history": store.entries("history")}
    refused = 0
    for database in moments:
        for log in moments:
            copy(moments[-1], tmp_path / "mixed")
            copy(database, tmp_path / "mixed", ("peer.sqlite3",))
            copy(log, tmp_path / "mixed", ("peer.sqlite3-wal",))
            try:
                found = everything(tmp_path / "mixed", {Doubt.CLONED})
            except (StateError, StartError):
                refused += 1
            else:
                assert found == newest
    assert 0 < refused < len(moments) ** 2


def test_words_of_sqlite_that_are_no_text(tmp_path, monkeypatch):
    """About a damaged schema it quotes the bytes that it found there, and Python cannot read them."""

    def quoted(*_):
        b"malformed schema \xe5".decode()

    with pytest.raises(StateError), damage_told():
        quoted()
    filled(tmp_path)
    monkeypatch.setattr(database_module, "_set_up", quoted)
    with pytest.raises(StartError, match="is damaged"):
        everything(tmp_path)
