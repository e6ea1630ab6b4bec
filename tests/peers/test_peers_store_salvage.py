"""A store that is damaged in places: what still opens is kept, and it counts as one that was put back."""

import pytest
from store_folder import KEY, copy, everything, filled, made, opened, raw

from ptproxy.errors import StartError, StateError
from ptproxy.peers.store import Doubt, Entry, StoreDoubtError
from ptproxy.peers.store_key import StoreKey
from ptproxy.peers.store_salvage import Lost, salvage
from ptproxy.state import StateFolder

ALL = frozenset(Doubt)


def salvaged(path):
    with StateFolder(path) as folder:
        return salvage(folder, KEY)


def test_nothing_was_damaged(tmp_path):
    pieces, entries = filled(tmp_path)
    assert salvaged(tmp_path) == Lost(0, 0)
    with pytest.raises(StoreDoubtError):
        everything(tmp_path)
    assert everything(tmp_path, ALL) == (pieces, {"history": entries})
    with opened(tmp_path, ALL) as store:
        store.write({"prekeys": b"new"}, [Entry("history", store.next_number("history"), b"on")])
    assert everything(tmp_path)[1]["history"] == [(13, b"on"), *entries]


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        ("UPDATE pieces SET sealed = zeroblob(length(sealed)) WHERE length(sealed) > 1000", Lost(1, 0)),
        ("DELETE FROM pieces WHERE length(sealed) > 1000", Lost(0, 0)),
        ("UPDATE store SET value = zeroblob(300) WHERE part = 'head'", Lost(0, 0)),
        ("DELETE FROM store WHERE part = 'head'", Lost(0, 0)),
        ("UPDATE entries SET sealed = zeroblob(400) WHERE number IN (3, 4)", Lost(0, 2)),
        ("UPDATE entries SET number = 'x' WHERE number = 3", Lost(0, 1)),
        ("UPDATE entries SET list = 'x' WHERE number = 3", Lost(0, 1)),
        ("INSERT INTO pieces VALUES (12, 'x')", Lost(1, 0)),
        ("UPDATE pieces SET sealed = 1", Lost(4, 12)),
    ],
)
def test_what_still_opens_is_kept(tmp_path, damage, lost):
    pieces, entries = filled(tmp_path)
    with raw(tmp_path) as database:
        database.execute(damage)
    with pytest.raises(StateError):
        everything(tmp_path)
    assert salvaged(tmp_path) == lost
    with pytest.raises(StoreDoubtError):
        everything(tmp_path)
    found, lists = everything(tmp_path, ALL)
    assert found.items() <= pieces.items()
    assert len(found) >= len(pieces) - lost.pieces - 1
    assert set(lists.get("history", [])) <= set(entries)
    assert len(lists.get("history", [])) == len(entries) - lost.entries
    with opened(tmp_path, ALL) as store:
        assert not lists or store.next_number("history") == 13
        store.write({"identity": b"on"}, [Entry("history", 20, b"line 20")])
    assert everything(tmp_path)[0]["identity"] == b"on"


@pytest.mark.parametrize("pieces", [{}, {"identity": b"secret", "prekeys": b"more"}])
def test_a_store_that_has_no_list_yet(tmp_path, pieces):
    with made(tmp_path) as store:
        store.write(pieces)
    assert salvaged(tmp_path) == Lost(0, 0)
    assert everything(tmp_path, ALL) == (pieces, {})
    with raw(tmp_path) as database:
        database.execute("DELETE FROM pieces WHERE rowid = 1")
    if pieces:
        assert salvaged(tmp_path) == Lost(0, 0)
        assert len(everything(tmp_path, ALL)[0]) == 1


def test_no_doubt_is_left_out_after_a_row_was_set_back(tmp_path):
    """Salvaging vouches for what a thief has put back, so it is asked about."""
    filled(tmp_path)
    with raw(tmp_path) as database:
        before = database.execute("SELECT sealed, name FROM pieces WHERE length(sealed) > 1000").fetchone()
    with opened(tmp_path) as store:
        store.write({"e2e/session": b"newer"})
    with raw(tmp_path) as database:
        database.execute("UPDATE pieces SET sealed = ? WHERE name = ?", before)
    assert salvaged(tmp_path) == Lost(0, 0)
    with pytest.raises(StoreDoubtError):
        everything(tmp_path)


def test_an_old_note_is_another_copys_afterwards(tmp_path):
    filled(tmp_path)
    with opened(tmp_path) as store:
        note = store.note()
    salvaged(tmp_path)
    with opened(tmp_path, ALL) as store, pytest.raises(StoreDoubtError):
        store.check_clone(note)


def test_what_cannot_be_salvaged(tmp_path):
    filled(tmp_path)
    copy(tmp_path, tmp_path / "good")
    with StateFolder(tmp_path) as folder, pytest.raises(StartError, match="wrong passphrase"):
        salvage(folder, StoreKey.passphrase(b"another"))
    with raw(tmp_path) as database:
        database.execute("UPDATE store SET value = zeroblob(90) WHERE part = 'key'")
    with pytest.raises(StateError):
        salvaged(tmp_path)
    copy(tmp_path / "good", tmp_path)
    path = tmp_path / "peer.sqlite3"
    data = bytearray(path.read_bytes())
    for place in range(8192, len(data), 8192):
        data[place : place + 8] = bytes(8)
    path.write_bytes(data)
    with pytest.raises((StateError, StartError)):
        salvaged(tmp_path)
    copy(tmp_path / "good", tmp_path)
    everything(tmp_path)
