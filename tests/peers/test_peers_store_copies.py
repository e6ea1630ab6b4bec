"""A store that was put back, copied or is used twice: told wherever something outside of it knows."""

import os
import shutil

import pytest
from store_folder import KEY, copy, everything, filled, made, opened

from ptproxy.errors import StateError
from ptproxy.peers import store_witness
from ptproxy.peers.store import Doubt, Entry, PeerStore, StoreClonedError, StoreRolledBackError
from ptproxy.peers.store_doubt import NOTE
from ptproxy.peers.store_lineage import MAX_RUNS
from ptproxy.state import MarkFile, StateFolder

links = pytest.mark.skipif(os.name != "posix", reason="needs a file system whose numbers last")
DATABASE = ("peer.sqlite3", "peer.sqlite3-wal")


def write(path, value=b"x", accepted=()):
    with opened(path, accepted) as store:
        store.write({"a": value})


def test_a_database_that_was_put_back(tmp_path):
    filled(tmp_path)
    copy(tmp_path, tmp_path / "backup")
    write(tmp_path)
    copy(tmp_path / "backup", tmp_path, DATABASE)
    with pytest.raises(StoreRolledBackError, match="it was put back"):
        everything(tmp_path)


def test_one_that_was_copied_and_put_back_within_a_run(tmp_path):
    with made(tmp_path) as store:
        store.write({"a": b"1"})
        store.tidy()
        copy(tmp_path, tmp_path / "backup", DATABASE)
        store.write({"a": b"2"})
    copy(tmp_path / "backup", tmp_path, DATABASE)
    with pytest.raises(StoreRolledBackError):
        everything(tmp_path)


def test_a_log_that_was_lost(tmp_path):
    """Whoever copies the database alone, of a program that runs, copies an old state."""
    with made(tmp_path) as store:
        store.write({"a": b"1"})
        store.tidy()
        store.write({"a": b"2"})
        copy(tmp_path, tmp_path / "copied", ("peer.sqlite3", "peer.witness"))
    with pytest.raises(StoreRolledBackError):
        everything(tmp_path / "copied")


def test_the_witness_is_missing_or_not_ours(tmp_path):
    filled(tmp_path)
    filled(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "peer.witness", tmp_path / "peer.witness")
    with pytest.raises(StoreRolledBackError, match="is missing"):
        everything(tmp_path)
    (tmp_path / "peer.witness").unlink()
    with pytest.raises(StoreRolledBackError, match="is missing"):
        everything(tmp_path)
    write(tmp_path, accepted={Doubt.ROLLED_BACK})
    assert everything(tmp_path)[0]["a"] == b"x"


@pytest.mark.parametrize("damage", [(0, 10), (128, 300), (30, 31)])
def test_half_a_witness_is_enough(tmp_path, damage):
    filled(tmp_path)
    path = tmp_path / "peer.witness"
    data = bytearray(path.read_bytes())
    data[slice(*damage)] = os.urandom(damage[1] - damage[0])
    path.write_bytes(data)
    everything(tmp_path)


def test_a_witness_that_is_behind_is_none_of_ones_worry(tmp_path):
    """After a power cut it may have lost what was not synced."""
    with made(tmp_path) as store:
        store.write({"a": b"1"})
        witness = (tmp_path / "peer.witness").read_bytes()
        for number in range(10):
            store.write({"a": bytes([number])})
    (tmp_path / "peer.witness").write_bytes(witness)
    assert everything(tmp_path)[0] == {"a": bytes([9])}


def test_the_witness_is_synced_once_a_run(tmp_path, monkeypatch):
    synced = []
    real = MarkFile.sync
    monkeypatch.setattr(MarkFile, "sync", lambda file: (synced.append(1), real(file)))
    filled(tmp_path)
    assert len(synced) == 1
    with opened(tmp_path) as store:
        assert len(synced) == 1
        for number in range(10):
            store.write({"a": bytes([number])})
    assert len(synced) == 2


def test_a_witness_that_was_never_told_of_the_run(tmp_path, monkeypatch):
    """A kill between the first commit of a run and the witness's sync, as often as one likes."""
    filled(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(MarkFile, "write", killed)
    for value in (b"1", b"2", b"3"):
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, value)
    monkeypatch.undo()
    assert everything(tmp_path)[0]["a"] == b"3"


def test_a_store_that_was_made_and_never_written(tmp_path):
    """Two runs that begin with one revision would be a damaged lineage."""
    with made(tmp_path):
        pass
    assert everything(tmp_path) == ({}, {})
    write(tmp_path, b"1")
    write(tmp_path, b"2")
    assert everything(tmp_path)[0] == {"a": b"2"}


def test_going_on_all_the_same_is_asked_until_something_is_written(tmp_path):
    filled(tmp_path)
    copy(tmp_path, tmp_path / "backup")
    for _ in range(5):
        write(tmp_path)
    copy(tmp_path / "backup", tmp_path, DATABASE)
    for _ in range(2):
        assert "a" not in everything(tmp_path, {Doubt.ROLLED_BACK})[0]
        with opened(tmp_path, frozenset(Doubt)) as store:
            assert store.doubts == {Doubt.ROLLED_BACK}
        with pytest.raises(StoreRolledBackError):
            everything(tmp_path)
    with opened(tmp_path, {Doubt.ROLLED_BACK}) as store:
        store.write({"a": b"on"})
        assert not store.doubts
    with opened(tmp_path, frozenset(Doubt)) as store:
        assert not store.doubts
        assert store.pieces()["a"] == b"on"


def test_rows_of_the_time_before_do_not_fit_the_time_after(tmp_path):
    """Set back, gone on to the same revision: the rows of the other time are not taken for these."""
    from store_folder import raw

    filled(tmp_path)
    copy(tmp_path, tmp_path / "backup")
    write(tmp_path, b"before")
    with raw(tmp_path) as database:
        rows = set(database.execute("SELECT name, sealed FROM pieces"))
    copy(tmp_path / "backup", tmp_path, DATABASE)
    write(tmp_path, b"after", {Doubt.ROLLED_BACK})
    with raw(tmp_path) as database:
        (old,) = rows - set(database.execute("SELECT name, sealed FROM pieces"))
        database.execute("UPDATE pieces SET sealed = ? WHERE name = ?", old[::-1])
    with pytest.raises(StateError, match="older than the others"):
        everything(tmp_path)


@links
def test_a_whole_folder_that_was_copied(tmp_path):
    filled(tmp_path / "state")
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    with pytest.raises(StoreClonedError, match="was copied here"):
        everything(tmp_path / "copy")
    write(tmp_path / "copy", b"on", {Doubt.CLONED})
    assert everything(tmp_path / "copy")[0]["a"] == b"on"
    everything(tmp_path / "state")


@links
def test_a_whole_folder_that_was_put_back(tmp_path):
    filled(tmp_path / "state")
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    write(tmp_path / "state")
    shutil.rmtree(tmp_path / "state")
    shutil.copytree(tmp_path / "backup", tmp_path / "state")
    with pytest.raises(StoreClonedError, match="or from a backup"):
        everything(tmp_path / "state")


def test_a_folder_that_was_moved_is_the_same(tmp_path):
    filled(tmp_path / "state")
    (tmp_path / "state").rename(tmp_path / "moved")
    everything(tmp_path / "moved")


def test_where_file_numbers_do_not_last_they_say_nothing(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refused)
    filled(tmp_path / "state")
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    everything(tmp_path / "copy")


def test_another_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(store_witness, "machine_identifier", lambda: b"one")
    filled(tmp_path)
    everything(tmp_path)
    monkeypatch.setattr(store_witness, "machine_identifier", lambda: b"other")
    with pytest.raises(StoreClonedError, match="another computer"):
        everything(tmp_path)
    write(tmp_path, b"on", {Doubt.CLONED})
    assert everything(tmp_path)[0]["a"] == b"on"
    monkeypatch.setattr(store_witness, "machine_identifier", lambda: b"")
    with pytest.raises(StoreClonedError):
        everything(tmp_path)


def test_a_machine_without_identifier(tmp_path, monkeypatch):
    monkeypatch.setattr(store_witness, "machine_identifier", lambda: b"")
    filled(tmp_path)
    everything(tmp_path)


def test_the_machine_is_not_readable_in_the_files(tmp_path, monkeypatch):
    identifier = b"d41d8cd98f00b204e9800998ecf8427e"
    monkeypatch.setattr(store_witness, "machine_identifier", lambda: identifier)
    filled(tmp_path)
    assert not any(identifier in file.read_bytes() for file in tmp_path.iterdir())


def test_the_identifier_is_read_where_the_system_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr(store_witness.sys, "platform", "linux")
    monkeypatch.setattr(store_witness, "_MACHINE_FILES", (tmp_path / "none", tmp_path / "id"))
    assert store_witness.machine_identifier() == b""
    (tmp_path / "id").write_bytes(b"uninitialized\n")
    assert store_witness.machine_identifier() == b""
    (tmp_path / "id").write_bytes(b"0123\n")
    assert store_witness.machine_identifier() == b"0123"
    (tmp_path / "id").write_bytes(bytes(100_000))
    assert len(store_witness.machine_identifier()) <= store_witness.MAX_IDENTIFIER


def test_another_copys_database_in_place_of_ones_own(tmp_path):
    filled(tmp_path)
    copy(tmp_path, tmp_path / "other")
    write(tmp_path, b"here")
    for _ in range(3):
        write(tmp_path / "other", b"there", frozenset(Doubt))
    copy(tmp_path / "other", tmp_path, DATABASE)
    with pytest.raises(StoreClonedError, match="another copy than"):
        everything(tmp_path)


# ---- notes --------------------------------------------------------------------------------------


def test_ones_own_notes_are_ones_past(tmp_path):
    filled(tmp_path)
    notes = []
    for number in range(5):
        with opened(tmp_path) as store:
            notes.append(store.note())
            store.write({"a": bytes([number])}, [Entry("h", number + 1, b"x")])
            notes.append(store.note())
            for note in notes:
                store.check_clone(note)
    assert {len(note) for note in notes} == {NOTE}
    assert len(set(notes)) == 10


def test_a_note_tells_of_a_whole_machine_that_was_set_back(tmp_path):
    """A snapshot: every file as it was, and nothing local that knows."""
    filled(tmp_path)
    copy(tmp_path, tmp_path / "snapshot")
    with opened(tmp_path) as store:
        store.write({"a": b"1"})
        note = store.note()
    copy(tmp_path / "snapshot", tmp_path)
    with opened(tmp_path) as store:
        with pytest.raises(StoreClonedError, match="another copy"):
            store.check_clone(note)
        store.write({"a": b"on"})
        with pytest.raises(StoreClonedError):
            store.check_clone(note)
        store.check_clone(store.note())


def test_a_snapshot_of_a_program_that_runs(tmp_path):
    with made(tmp_path) as store:
        store.write({"a": b"1"})
        copy(tmp_path, tmp_path / "snapshot")
        store.write({"a": b"2"})
        note = store.note()
    copy(tmp_path / "snapshot", tmp_path)
    with opened(tmp_path) as store:
        with pytest.raises(StoreRolledBackError, match="left elsewhere"):
            store.check_clone(note)
        store.write({"a": b"on"})
        with pytest.raises(StoreRolledBackError):
            store.check_clone(note)


def test_two_copies_that_are_both_in_use(tmp_path):
    filled(tmp_path / "one")
    copy(tmp_path / "one", tmp_path / "other")
    with opened(tmp_path / "one") as one, opened(tmp_path / "other", frozenset(Doubt)) as other:
        note = one.note()
        other.check_clone(note)
        one.write({"a": b"1"})
        other.write({"a": b"1"})
        for store, note in ((one, other.note()), (other, one.note())):
            with pytest.raises(StoreClonedError, match="in use elsewhere"):
                store.check_clone(note)


def test_a_note_older_than_what_is_remembered(tmp_path):
    filled(tmp_path)
    with opened(tmp_path) as store:
        old = store.note()
    copy(tmp_path, tmp_path / "other")
    for number in range(MAX_RUNS + 2):
        write(tmp_path, bytes([number]))
    with opened(tmp_path) as store:
        store.check_clone(old)
    for _ in range(MAX_RUNS + 10):
        write(tmp_path / "other", b"other", frozenset(Doubt))
    with opened(tmp_path / "other") as other, opened(tmp_path) as store, pytest.raises(StoreClonedError):
        store.check_clone(other.note())


@pytest.mark.parametrize("note", [b"", b"x", bytes(NOTE), bytes(NOTE - 1), os.urandom(1000)])
def test_what_is_no_note(tmp_path, note):
    with made(tmp_path) as store, pytest.raises(StateError, match="no note"):
        store.check_clone(note)


def test_another_stores_note(tmp_path):
    with made(tmp_path / "a") as one, made(tmp_path / "b") as other, pytest.raises(StateError):
        one.check_clone(other.note())


def test_looking_changes_nothing(tmp_path):
    filled(tmp_path)
    everything(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    everything(tmp_path)
    with StateFolder(tmp_path) as folder, PeerStore.open(folder, KEY) as store:
        store.write({})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
