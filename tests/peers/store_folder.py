"""Stores in a temporary folder, for the tests: opened cheaply, and their files handled as a thief would."""

import contextlib
import shutil
import sqlite3

from ptproxy.peers.store import Entry, PeerStore, StoreKey
from ptproxy.peers.store_key import PassphraseCost
from ptproxy.state import StateFolder

CHEAP = PassphraseCost(memory=8, iterations=1, lanes=1)
KEY = StoreKey.passphrase(b"correct horse", CHEAP)
FILES = ("peer.sqlite3", "peer.sqlite3-wal", "peer.witness")


@contextlib.contextmanager
def made(path):
    with StateFolder(path) as folder, PeerStore.create(folder, KEY) as store:
        yield store


@contextlib.contextmanager
def opened(path, accepted=(), key=KEY):
    with StateFolder(path) as folder, PeerStore.open(folder, key, accepted) as store:
        yield store


def filled(path):
    """A store of three pieces and a list of twelve, closed; what it holds."""
    pieces = {"identity": b"secret one", "e2e/session": bytes(range(256)) * 8, "empty": b""}
    with made(path) as store:
        store.write(pieces)
        for number in range(1, 13):
            store.write({}, [Entry("history", number, f"line {number}".encode())])
    return pieces, [(number, f"line {number}".encode()) for number in range(12, 0, -1)]


def everything(path, accepted=()):
    """All that a store returns."""
    with opened(path, accepted) as store:
        return store.pieces(), {name: store.entries(name) for name in store.lists()}


@contextlib.contextmanager
def raw(path):
    """The database, as anybody can change it who can write the file."""
    database = sqlite3.connect(path / "peer.sqlite3", isolation_level=None)
    try:
        yield database
    finally:
        database.close()


def copy(path, other, files=FILES):
    """Copy the files of a store, in place where there are such: no file gets another number."""
    other.mkdir(exist_ok=True)
    for name in files:
        target = other / name
        if (path / name).exists():
            with (path / name).open("rb") as source, target.open("r+b" if target.exists() else "wb") as to:
                shutil.copyfileobj(source, to)
                to.truncate()
        else:
            target.unlink(missing_ok=True)
