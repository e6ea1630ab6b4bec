"""The store of one identity: what was written is there, whole or not at all, for whoever has the key."""

import os
import sqlite3
import stat
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_folder import CHEAP, KEY, everything, filled, made, opened, raw

from ptproxy.errors import LocalProtocolError, StartError, StateError
from ptproxy.peers import store_tables
from ptproxy.peers.store import TIDY, Entry, PeerStore, StoreDoubtError, StoreKey
from ptproxy.peers.store_rows import HEAD, RowKeys
from ptproxy.state import MarkFile, StateFolder


def test_what_was_written_is_there_after_a_restart(tmp_path):
    pieces, entries = filled(tmp_path)
    assert everything(tmp_path) == (pieces, {"history": entries})


def test_pieces_change_and_go(tmp_path):
    filled(tmp_path)
    with opened(tmp_path) as store:
        store.write({"identity": b"another", "empty": None, "new": b"x", "never was": None})
        expected = {"identity": b"another", "e2e/session": bytes(range(256)) * 8, "new": b"x"}
        assert store.pieces() == expected
    assert everything(tmp_path)[0] == expected


def test_entries_change_and_go_and_no_number_comes_again(tmp_path):
    with made(tmp_path) as store:
        assert store.next_number("outbox") == 1
        assert store.entries("outbox") == []
        store.write({}, [Entry("outbox", 1, b"a"), Entry("outbox", 2, b"b"), Entry("outbox", 7, b"c")])
        store.write({}, [Entry("outbox", 2, b"B"), Entry("outbox", 7, None), Entry("outbox", 5, None)])
        assert store.entries("outbox") == [(2, b"B"), (1, b"a")]
        store.write({}, [Entry("outbox", 1, None), Entry("outbox", 2, None)])
    with opened(tmp_path) as store:
        assert store.entries("outbox") == []
        assert store.next_number("outbox") == 8
        assert store.lists() == ["outbox"]


def test_several_changes_of_one_entry_in_one_transaction(tmp_path):
    with made(tmp_path) as store:
        store.write({}, [Entry("a", 1, b"x"), Entry("a", 1, b"y"), Entry("a", 1, None), Entry("a", 2, b"z")])
        store.write({}, [Entry("none", 1, None)])
    assert everything(tmp_path) == ({}, {"a": [(2, b"z")]})


def test_pages_of_a_list(tmp_path):
    _, entries = filled(tmp_path)
    with opened(tmp_path) as store:
        assert store.entries("history", limit=5) == entries[:5]
        assert store.entries("history", before=8, limit=3) == [
            entry for entry in entries if entry[0] in (7, 6, 5)
        ]
        assert store.entries("history", before=1) == []
        assert store.entries("history", before=-5, limit=-1) == []
        assert store.entries("history", before=1 << 70) == entries
        assert store.entries("another") == []


def test_a_list_and_a_piece_of_one_name_are_two(tmp_path):
    with made(tmp_path) as store:
        store.write({"both": b"piece"}, [Entry("both", 1, b"entry")])
        store.write({"both": None})
    assert everything(tmp_path) == ({}, {"both": [(1, b"entry")]})


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.text(min_size=1, max_size=40), st.none() | st.binary(max_size=600), max_size=4
            ),
            st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 6), st.none() | st.binary(max_size=9))),
        ),
        max_size=8,
    )
)
def test_it_is_what_a_dictionary_would_be(tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("store")
    pieces, lists = {}, {"a": {}, "b": {}}
    with made(path) as store:
        for changed, entries in changes:
            store.write(changed, [Entry(*entry) for entry in entries])
            pieces = {name: value for name, value in {**pieces, **changed}.items() if value is not None}
            for name, number, value in entries:
                lists[name][number] = value
    found, entries = everything(path)
    assert found == pieces
    for name, expected in lists.items():
        kept = [(number, value) for number, value in expected.items() if value is not None]
        assert entries.get(name, []) == sorted(kept, reverse=True)


def test_another_passphrase_opens_from_now_on(tmp_path):
    pieces, _ = filled(tmp_path)
    other = StoreKey.passphrase(b"battery staple", CHEAP)
    with opened(tmp_path) as store:
        store.change_key(other)
        store.write({"later": b"x"})
    with pytest.raises(StartError, match="wrong passphrase"), opened(tmp_path):
        pass
    with opened(tmp_path, key=other) as store:
        assert store.pieces() == {**pieces, "later": b"x"}


def test_a_key_file_in_place_of_a_passphrase(tmp_path):
    filled(tmp_path / "state")
    key = StoreKey.make_file(tmp_path / "key")
    with opened(tmp_path / "state") as store:
        store.change_key(key)
    with opened(tmp_path / "state", key=StoreKey.file(tmp_path / "key")) as store:
        assert store.pieces()["identity"] == b"secret one"
    with pytest.raises(StartError, match="a key file, not a passphrase"), opened(tmp_path / "state"):
        pass


def test_everything_sealed_anew(tmp_path):
    """An old copy with its passphrase, and the file as it is now: the one does not open the other."""
    pieces, entries = filled(tmp_path)
    with opened(tmp_path) as store:
        store.write({}, [Entry("empty", 9, b"x"), Entry("empty", 9, None)])
    with raw(tmp_path) as database:
        ((wrapped,),) = database.execute("SELECT value FROM store WHERE part = 'key'").fetchall()
        before = set(database.execute("SELECT name FROM pieces UNION SELECT list FROM entries"))
    other = StoreKey.passphrase(b"battery staple", CHEAP)
    with opened(tmp_path) as store:
        store.renew(other)
        store.write({"later": b"x"}, [Entry("history", store.next_number("history"), b"line 13")])
        assert store.next_number("empty") == 10
        store.check_clone(store.note())
    with raw(tmp_path) as database:
        assert not before & set(database.execute("SELECT name FROM pieces UNION SELECT list FROM entries"))
        new = database.execute("SELECT value FROM store WHERE part = 'head'").fetchone()[0]
    with pytest.raises(StateError):
        RowKeys(KEY.unwrap(wrapped)).open(HEAD, new)
    with pytest.raises(StartError, match="wrong passphrase"), opened(tmp_path):
        pass
    with opened(tmp_path, key=other) as store:
        assert store.pieces() == {**pieces, "later": b"x"}
        assert store.entries("history") == [(13, b"line 13"), *entries]
        assert store.entries("empty") == []
        assert store.next_number("empty") == 10


@pytest.mark.parametrize("failing", range(13))
def test_sealing_anew_is_whole_or_not_at_all(tmp_path, failing, monkeypatch):
    """Stopped anywhere on the way: the old key opens it or the new one does, and the witness agrees."""
    pieces, entries = filled(tmp_path)
    other = StoreKey.passphrase(b"battery staple", CHEAP)
    steps = iter(range(10_000))
    write = MarkFile.write

    def step():
        if next(steps) == failing:
            raise KeyboardInterrupt

    class Stopping:
        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        def execute(self, query, *values):
            if query.startswith(("BEGIN", "UPDATE", "COMMIT", "DELETE")):
                step()
            done = self.real.execute(query, *values)
            if query.startswith("COMMIT"):
                step()
            return done

    def half_written(file, place, data):
        step()
        write(file, place, data[:128])
        step()
        write(file, place + 128, data[128:])
        step()

    stopped = False
    with opened(tmp_path) as store:
        real = store._db
        store._db = store._tables._db = Stopping(real)
        monkeypatch.setattr(MarkFile, "write", half_written)
        try:
            store.renew(other)
        except KeyboardInterrupt:
            stopped = True
        monkeypatch.undo()
        store._db = real
    assert stopped == (failing < 12)
    for key in (KEY, other):
        try:
            with opened(tmp_path, key=key) as store:
                assert store.pieces() == pieces
                assert store.entries("history") == entries
                return
        except StoreDoubtError:
            raise
        except StartError:
            continue
    pytest.fail("neither key opens it")


def test_the_old_wrapping_is_gone_from_the_files(tmp_path):
    filled(tmp_path)
    with raw(tmp_path) as database:
        ((wrapped,),) = database.execute("SELECT value FROM store WHERE part = 'key'").fetchall()
    files = [tmp_path / name for name in ("peer.sqlite3", "peer.sqlite3-wal")]
    assert any(wrapped in file.read_bytes() for file in files if file.exists())
    with opened(tmp_path) as store:
        store.write({"a": b"b"})
        store.change_key(StoreKey.passphrase(b"other", CHEAP))
        assert not any(wrapped in file.read_bytes() for file in files if file.exists())


def test_what_was_deleted_is_gone_from_the_files(tmp_path):
    with made(tmp_path) as store:
        store.write({"secret": b"x" * 3000}, [Entry("lines", 1, b"y" * 300)])
        with_it = (tmp_path / "peer.sqlite3-wal").read_bytes()
        store.write({"secret": None}, [Entry("lines", 1, None)])
        store.tidy()
        ((_, row),) = rows_of(with_it, tmp_path)
        for name in ("peer.sqlite3", "peer.sqlite3-wal"):
            assert row not in (tmp_path / name).read_bytes()


def rows_of(log, path):
    """The rows of the pieces' table that a log holds, of more than 3000 bytes."""
    other = path / "copy"
    other.mkdir()
    (other / "peer.sqlite3").write_bytes((path / "peer.sqlite3").read_bytes())
    (other / "peer.sqlite3-wal").write_bytes(log)
    with raw(other) as database:
        return database.execute("SELECT name, sealed FROM pieces WHERE length(sealed) > 3000").fetchall()


def test_the_log_stays_small(tmp_path):
    with made(tmp_path) as store:
        sizes = []
        for number in range(3 * TIDY):
            store.write({"session": bytes(2000)}, [Entry("history", number + 1, b"line")])
            sizes.append((tmp_path / "peer.sqlite3-wal").stat().st_size)
    assert sizes.count(0) >= 2
    assert max(sizes) < 1 << 20


def test_nothing_in_the_files_is_readable(tmp_path):
    with made(tmp_path) as store:
        store.write({"contact 1234": b"fingerprint of bob"}, [Entry("history/bob", 1, b"meet me at nine")])
    with made(tmp_path / "other") as store:
        store.write({"contact 1234": b"fingerprint of bob"})
    everything_written = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    for secret in (b"contact", b"bob", b"history", b"nine", b"fingerprint", b"correct horse"):
        assert secret not in everything_written
    with raw(tmp_path) as one, raw(tmp_path / "other") as other:
        names = [set(database.execute("SELECT name FROM pieces")) for database in (one, other)]
    assert not names[0] & names[1]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_its_files_are_the_owners_alone(tmp_path):
    umask = os.umask(0)
    try:
        with made(tmp_path) as store:
            store.write({"a": b"b"})
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    finally:
        os.umask(umask)
    assert modes.keys() == {"lock", "peer.sqlite3", "peer.sqlite3-wal", "peer.witness"}
    assert set(modes.values()) == {0o600}


def test_a_row_s_length_tells_little(tmp_path):
    with made(tmp_path) as store:
        store.write({}, [Entry("history", size + 1, bytes(size)) for size in range(200)])
    with raw(tmp_path) as database:
        sizes = {length for (length,) in database.execute("SELECT length(sealed) FROM entries")}
    assert len(sizes) == 1


def test_there_is_one_and_no_second(tmp_path):
    filled(tmp_path)
    with StateFolder(tmp_path) as folder, pytest.raises(StartError, match="exists already"):
        PeerStore.create(folder, KEY)
    assert len(everything(tmp_path)[0]) == 3


def test_there_is_none(tmp_path):
    with pytest.raises(StartError, match="there is no identity in"), opened(tmp_path):
        pass
    assert not (tmp_path / "peer.sqlite3").exists()


def test_making_one_was_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(store_tables.Tables, "put_head", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError), made(tmp_path):
        pass
    monkeypatch.undo()
    with pytest.raises(StartError, match="interrupted"), opened(tmp_path):
        pass
    filled(tmp_path)
    assert len(everything(tmp_path)[0]) == 3


def test_one_process_at_a_time(tmp_path):
    with made(tmp_path), pytest.raises(StartError, match="another ptproxy runs"):
        StateFolder(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        ({"": b""}, []),
        ({"x" * 201: b""}, []),
        ({"é" * 101: b""}, []),
        ({"a": bytes(store_tables.MAX_VALUE + 1)}, []),
        ({}, [Entry("a", 0, b"")]),
        ({}, [Entry("a", 1 << 62, b"")]),
        ({}, [Entry("", 1, b"")]),
        ({}, [Entry("a", 1, bytes(store_tables.MAX_VALUE + 1))]),
    ],
)
def test_too_long_or_too_much_changes_nothing(tmp_path, change):
    with made(tmp_path) as store:
        store.write({"kept": b"x"})
        with pytest.raises(LocalProtocolError):
            store.write(*change)
        store.write({"later": b"y"})
    assert everything(tmp_path) == ({"kept": b"x", "later": b"y"}, {})


def test_the_largest_fit(tmp_path):
    name, value = "x" * 200, bytes(store_tables.MAX_VALUE)
    with made(tmp_path) as store:
        store.write({name: value}, [Entry(name, store_tables.MAX_NUMBER, value)])
    with opened(tmp_path) as store:
        assert store.pieces() == {name: value}
        assert store.entries(name) == [(store_tables.MAX_NUMBER, value)]


def test_too_many_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(store_tables, "MAX_PIECES", 5)
    with made(tmp_path) as store:
        store.write({str(number): b"" for number in range(4)}, [Entry("a", 1, b"")])
        with pytest.raises(LocalProtocolError, match="too many pieces"):
            store.write({"another": b""})
        with pytest.raises(LocalProtocolError, match="too many pieces"):
            store.write({}, [Entry("b", 1, b"")])
        store.write({str(number): b"again" for number in range(4)}, [Entry("a", 2, b"")])
    assert len(everything(tmp_path)[0]) == 4


def test_a_key_seals_no_more_than_it_may(tmp_path, monkeypatch):
    with made(tmp_path) as store:
        store.write({"a": b"1"})
        monkeypatch.setattr(store_tables, "MAX_ROWS", 6)
        store.write({"a": b"2"})
        with pytest.raises(LocalProtocolError, match="master key"):
            store.write({"a": b"3"})
    assert everything(tmp_path) == ({"a": b"2"}, {})


def test_a_change_that_fails_is_none_and_the_store_is_over(tmp_path):
    filled(tmp_path)
    with opened(tmp_path) as store:
        store._db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(StartError, match="cannot be written: database or disk is full"):
            store.write({"new": bytes(200_000), "identity": b"changed"}, [Entry("history", 13, b"lost")])
        for use in (
            store.pieces,
            store.tidy,
            store.note,
            lambda: store.write({}),
            lambda: store.entries("a"),
        ):
            with pytest.raises(LocalProtocolError, match="open it again"):
                use()
    pieces, lists = everything(tmp_path)
    assert pieces["identity"] == b"secret one"
    assert "new" not in pieces
    assert lists["history"][0][0] == 12


@pytest.mark.parametrize("failing", range(9))
def test_wherever_a_change_fails_it_is_none_of_it(tmp_path, failing):
    before = filled(tmp_path)
    with opened(tmp_path) as store:
        statements = iter(range(100))
        real = store._db

        class Failing:
            def execute(self, query, *values):
                if query != "ROLLBACK" and next(statements) == failing:
                    raise sqlite3.OperationalError("disk I/O error")
                return real.execute(query, *values)

        store._db = store._tables._db = Failing()
        change = {"identity": b"changed", "empty": None}, [Entry("history", 2, None), Entry("new", 1, b"x")]
        with pytest.raises(StartError, match="disk I/O error"):
            store.write(*change)
        assert next(statements) == failing + 1
        store._db = real
    assert everything(tmp_path) == (before[0], {"history": before[1]})


def test_threads_take_turns(tmp_path):
    with made(tmp_path) as store:

        def write(name):
            for _ in range(20):
                store.write({name: b"x"}, [Entry(name, store.next_number(name), b"line")])

        threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    pieces, lists = everything(tmp_path)
    assert pieces == dict.fromkeys("abcd", b"x")
    assert {name: len(entries) for name, entries in lists.items()} == dict.fromkeys("abcd", 20)


def test_nothing_secret_is_printed(tmp_path):
    with made(tmp_path) as store:
        store.write({"secret name": b"secret value"})
        shown = f"{store!r} {KEY!r} {Entry('a', 1, b'secret value')!r} {store._tables!r} {store._keys!r}"
    for secret in ("secret name", "secret value", "correct horse"):
        assert secret not in shown
