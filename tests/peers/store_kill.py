"""Two people with real stores in one program that is killed at any point, as often as one likes.

A *trial* is a process that forks victims, one after another. A victim opens both stores and lets the two
write and read until it is killed with SIGKILL: by itself at a step that its seed names (before or after any
statement of a transaction, in the middle of the witness, before or after bytes leave), or by its parent at
any moment. The last one is left alone until everything has arrived.

What leaves goes into a file, the *wire*, which keeps it whatever happens; and each key that sealed a message
is noted beside it. In the end: every line was read exactly once and in order, everything refused was a
repetition, no store took itself for an old one or a copy, and no key sealed two messages that left.

PYTHONPATH=. python tests/peers/store_kill.py FOLDER SEED KILLS [WHO]     figures as JSON, or what was wrong
"""

import contextlib
import hashlib
import json
import os
import select
import signal
import sys
from collections import Counter
from pathlib import Path
from random import Random

from store_folder import KEY

from ptproxy.e2e.bundle import verify
from ptproxy.e2e.correspondence import Correspondence
from ptproxy.e2e.first_message import opening_length
from ptproxy.e2e.identity import OwnIdentity
from ptproxy.e2e.ratchet import SIZES
from ptproxy.e2e.ratchet import ratchet as ratchet_module
from ptproxy.e2e.suite import Suite
from ptproxy.errors import E2EError
from ptproxy.peers.store import Entry, PeerStore
from ptproxy.state import MarkFile, StateFolder

NOW = 1_800_000_000
OPERATIONS = 400
"""What a victim does that nobody kills."""
LONGEST = 0.12
"""Seconds until a victim is killed by its parent, at most."""
STEPS = 1500
"""Steps until a victim kills itself, at most."""
NAMES = ("alice", "bob")
SUITE = Suite.PQXDH_768


class Fault(Exception):
    """Something happened that must not."""


class Wire:
    """Whatever left, in order: length u32 ‖ sender u8 ‖ message."""

    def __init__(self, path):
        self.path = path
        self.records = []
        data = path.read_bytes() if path.exists() else b""
        place = 0
        while len(data) >= place + 4 and len(data) >= place + (
            size := 5 + int.from_bytes(data[place : place + 4], "big")
        ):
            self.records.append((data[place + 4], data[place + 5 : place + size]))
            place += size
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(self.file, place)  # what was half written has not left

    def append(self, sender, message):
        os.write(self.file, len(message).to_bytes(4, "big") + bytes([sender]) + message)
        self.records.append((sender, message))


class Person:
    """A correspondence and its store, as a messenger has them."""

    def __init__(self, place, folder, wire, rng):
        self.place = place
        self.name = NAMES[place]
        self.wire = wire
        self.rng = os.urandom
        self.folder = StateFolder(folder / self.name)
        if not (folder / self.name / "made").exists():
            with contextlib.suppress(FileNotFoundError):
                (folder / self.name / "peer.sqlite3").unlink()
            self.store = PeerStore.create(self.folder, KEY)
            (folder / self.name / "made").touch()
        else:
            self.store = PeerStore.open(self.folder, KEY)
        pieces = self.store.pieces()
        self.mine = None
        if "e2e/identity" not in pieces:
            self.mine = Correspondence.create(OwnIdentity.generate(rng), SUITE, NOW, self.rng)
            self.save({"next": b"0", "cursor": b"0"})
            pieces = self.store.pieces()
        self.mine = Correspondence.parse(
            {name[4:]: value for name, value in pieces.items() if name.startswith("e2e/")}
        )
        self.next, self.cursor = int(pieces["next"]), int(pieces["cursor"])

    def save(self, pieces, *entries):
        unsaved = {f"e2e/{name}": value for name, value in self.mine.take_unsaved().items()}
        self.store.write({**unsaved, **pieces}, entries)

    def fetched(self):
        """What a mailbox would hand out."""
        (one_time,) = self.mine.refill(99, NOW, self.rng)
        self.save({})
        return verify(self.mine.bundle(), one_time, self.mine.owner.public.fingerprint, NOW)

    def send(self, other, now):
        conversation = self.mine.add(other.mine.owner.public.fingerprint, self.rng)
        if conversation.session is None:
            conversation.begin(other.fetched(), now, self.rng)
        message = conversation.send(f"{self.name} {self.next}".encode(), now, self.rng)
        self.next += 1
        entry = Entry("outbox", self.store.next_number("outbox"), message)
        self.save({"next": str(self.next).encode()}, entry)

    def deposit(self):
        """The oldest that has not left, as it is."""
        waiting = self.store.entries("outbox")
        if waiting:
            number, message = waiting[-1]
            self.wire.append(self.place, message)
            self.store.write({}, [Entry("outbox", number, None)])

    def receive(self, now):
        """The next of the other's, if there is one."""
        records = self.wire.records
        while self.cursor < len(records) and records[self.cursor][0] == self.place:
            self.cursor += 1
        if self.cursor == len(records):
            return False
        message = records[self.cursor][1]
        self.cursor += 1
        done = {"cursor": str(self.cursor).encode()}
        try:
            received = self.mine.receive(message, now, self.rng)
        except E2EError as error:
            if message not in [earlier for _, earlier in records[: self.cursor - 1]]:
                raise Fault(f"{self.name} refuses what comes for the first time: {error!r}") from error
            self.save(done)
            return True
        self.save(done, Entry("history", self.store.next_number("history"), received.body))
        return True

    def close(self):
        self.store.close()
        self.folder.close()


class LeavesFirst(Person):
    """Careless: the bytes leave before they are saved."""

    def save(self, pieces, *entries):
        for entry in entries:
            if entry.list == "outbox":
                self.wire.append(self.place, entry.value)
        super().save(pieces, *(entry for entry in entries if entry.list != "outbox"))


class InTwo(Person):
    """Careless: the session in one transaction, what it read or sealed in the next."""

    def save(self, pieces, *entries):
        super().save(pieces)
        if entries:
            self.store.write({}, entries)


class ShownFirst(Person):
    """Careless: what it read is kept before the session that read it."""

    def save(self, pieces, *entries):
        if entries:
            self.store.write({}, entries)
        super().save(pieces)


PEOPLE = {people.__name__: people for people in (Person, LeavesFirst, InTwo, ShownFirst)}


class Steps:
    """Counts the steps of a victim, which dies at one of them."""

    def __init__(self, last):
        self.left = last

    def step(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self):
        """Every statement of a database, every write of a witness, what is appended to the wire."""
        step, real_database, real_write, real_append = (
            self.step, StateFolder.database, MarkFile.write, Wire.append,
        )  # fmt: skip

        class Database:
            def __init__(self, database):
                self.real = database

            def __getattr__(self, name):
                return getattr(self.real, name)

            def execute(self, *statement):
                step()
                result = self.real.execute(*statement)
                step()
                return result

        def write(file, place, data):
            step()
            for at in (0, len(data) // 2):
                real_write(file, place + at, data[at : at + len(data) // 2] if not at else data[at:])
                step()

        def append(wire, sender, message):
            step()
            real_append(wire, sender, message)
            step()

        StateFolder.database = lambda *given: Database(real_database(*given))
        MarkFile.write = write
        Wire.append = append


def note_keys(path):
    """Each key that seals a message, and the message's nonce, beside the wire: nonce 12 ‖ SHA-256(key)."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    seal = ratchet_module.seal

    def noted(cipher, message_key, ad, header, plaintext, nonce):
        os.write(file, nonce + hashlib.sha256(message_key).digest())
        return seal(cipher, message_key, ad, header, plaintext, nonce)

    ratchet_module.seal = noted


def live(folder, seed, run, last, kind):
    """One victim's life; ``last``: until everything has arrived."""
    chance = Random(f"store kill {seed} {run}")
    wire = Wire(folder / "wire")
    people = [kind(place, folder, wire, chance.randbytes) for place in range(2)]
    now = NOW + 1000.0 * run
    for _ in range(OPERATIONS if not last else 60):
        now += 1
        place = chance.randrange(2)
        person, other = people[place], people[1 - place]
        action = chance.choice("sddrr")
        if action == "s":
            person.send(other, now)
        elif action == "d":
            person.deposit()
        else:
            person.receive(now)
    while last:
        for person in people:
            while person.store.entries("outbox"):
                person.deposit()
        last = sum(person.receive(now) for person in people)
    for person in people:
        person.close()


def victim(folder, seed, run, last, kind, ready):
    """In a process of its own; never returns."""
    code = 1
    try:
        chance = Random(f"store victim {seed} {run}")
        note_keys(folder / "keys")
        if not last and chance.random() < 0.5:
            Steps(chance.randrange(1, STEPS)).watch()
        os.write(ready, b"x")
        live(folder, seed, run, last, kind)
        code = 0
    except BaseException as error:
        (folder / "fault").write_text(f"run {run}: {type(error).__name__}: {error}")
        raise
    finally:
        os._exit(code)


def kill_one(folder, seed, run, last, kind):
    """Fork a victim and kill it, unless it is the last or does that itself; whether it was killed."""
    there, here = os.pipe()
    process = os.fork()
    if not process:
        victim(folder, seed, run, last, kind, here)
    os.close(here)
    os.read(there, 1)
    ended = os.pidfd_open(process) if hasattr(os, "pidfd_open") else None
    if not last:
        patience = LONGEST * Random(f"store kill at {seed} {run}").random()
        select.select([ended] if ended is not None else [], [], [], patience)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    os.close(there)
    if ended is not None:
        os.close(ended)
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise Fault((folder / "fault").read_text() if (folder / "fault").exists() else f"run {run} failed")
    return os.WIFSIGNALED(status)


def verdict(folder):
    """What is in the stores and on the wire in the end; figures."""
    figures = Counter()
    wire = Wire(folder / "wire")
    people = [Person(place, folder, wire, os.urandom) for place in range(2)]
    for person, other in (people, people[::-1]):
        sent = [f"{person.name} {number}".encode() for number in range(person.next)]
        read = [line for _, line in reversed(other.store.entries("history", limit=10_000))]
        if sorted(read) != sorted(sent):
            twice = [line for line, count in Counter(read).items() if count > 1]
            raise Fault(f"{other.name}: lost {set(sent) - set(read)}, read twice {twice}")
        if read != sent:
            raise Fault(f"{other.name}: out of order")
        figures["lines"] += len(sent)
    for person in people:
        figures["sessions"] += sum(len(known.sessions) for known in person.mine.conversations.values())
        person.close()
    notes = (folder / "keys").read_bytes()
    keys = {notes[at : at + 12]: notes[at + 12 : at + 44] for at in range(0, len(notes), 44)}
    left = {message for _, message in wire.records}
    used = Counter(keys[nonce_of(message)] for message in left)
    if len({nonce_of(message) for message in left}) != len(left) or max(used.values()) > 1:
        raise Fault("one key for two messages that left")
    figures["left"] = len(left)
    figures["repeated"] = len(wire.records) - len(left)
    figures["sealed and never left"] = len(keys) - len(left)
    return figures


def nonce_of(message):
    """A message's nonce, which stands behind the opening where there is one."""
    return message[:12] if len(message) in SIZES else message[opening_length(SUITE) :][:12]


def trial(folder, seed, kills, kind=Person):
    """Kill that many victims, let the last one finish, look at what is left."""
    figures = Counter(trials=1)
    for run in range(kills + 1):
        figures["killed"] += kill_one(folder, seed, run, run == kills, kind)
    return figures + verdict(folder)


if __name__ == "__main__":
    try:
        people = PEOPLE[sys.argv[4]] if len(sys.argv) > 4 else Person
        print(json.dumps(trial(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), people)))
    except Fault as fault:
        sys.exit(f"Fault: {fault}")
