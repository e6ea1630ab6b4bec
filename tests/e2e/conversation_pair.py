"""People with a store each, for the tests of conversations: whoever is killed starts from what was saved."""

from random import Random

from ptproxy.e2e.bundle import verify
from ptproxy.e2e.correspondence import Correspondence
from ptproxy.e2e.identity import OwnIdentity
from ptproxy.e2e.suite import Suite

NOW = 1_800_000_000
DAY = 86_400
ALL = tuple(Suite)


class Person:
    """A correspondence, its store, and the one-time prekeys at its mailbox."""

    def __init__(self, name, suite=Suite.PQXDH_768, one_time=4):
        self.name = name
        self.rng = Random(f"ptproxy conversation {name}").randbytes
        self.mine = Correspondence.create(OwnIdentity.generate(self.rng), suite, NOW, self.rng)
        self.mailbox = self.mine.refill(100 - one_time, NOW, self.rng)
        self.store = {}
        self.save()

    @property
    def fingerprint(self):
        return self.mine.owner.public.fingerprint

    def save(self):
        """One transaction."""
        for piece, data in self.mine.take_unsaved().items():
            if data is None:
                self.store.pop(piece, None)
            else:
                self.store[piece] = data

    def restart(self):
        self.mine = Correspondence.parse(self.store)

    def saved(self):
        """Whether the store has everything: a change that was not named would be lost by a restart."""
        return self.mine.serialize() == self.store

    def to(self, other):
        return self.mine.add(other.fingerprint, self.rng)

    def fetched(self, now=NOW):
        published = self.mailbox.pop() if self.mailbox else None
        return verify(self.mine.bundle(), published, self.fingerprint, now, ALL)

    def begin(self, other, now=NOW):
        self.to(other).begin(other.fetched(now), now, self.rng)
        return self.to(other)

    def send(self, other, text, now=NOW):
        message = self.to(other).send(text, now, self.rng)
        self.save()
        return message

    def receive(self, message, now=NOW):
        received = self.mine.receive(message, now, self.rng)
        self.save()
        assert self.saved()
        return received

    def read(self, message, now=NOW):
        return self.receive(message, now).body


def met(**options):
    """Two who have exchanged a line."""
    alice, bob = Person("alice", **options), Person("bob", **options)
    alice.begin(bob)
    assert bob.read(alice.send(bob, b"hello")) == b"hello"
    assert alice.read(bob.send(alice, b"hello yourself")) == b"hello yourself"
    return alice, bob
