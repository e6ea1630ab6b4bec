"""What tests of the key agreement share: peers from seeds, and every way to damage bytes."""

from random import Random

import pytest

from ptproxy.e2e import Authorship, OwnIdentity, Prekeys, Suite, begin, examine, verify
from ptproxy.errors import E2EError

NOW = 1_800_000_000
DAY = 86_400
PAYLOAD = b"what the ratchet says"


class Peer:
    """An identity with its prekeys, and the mailbox's list of one-time prekeys beside it."""

    def __init__(self, name, suite=Suite.PQXDH_768, one_time=3, now=NOW):
        self.rng = Random(f"ptproxy e2e {name}").randbytes
        self.owner = OwnIdentity.generate(self.rng)
        self.prekeys = Prekeys.create(self.owner, suite, now, self.rng)
        self.mailbox = self.prekeys.refill(self.owner, 100 - one_time, now, self.rng)

    @property
    def public(self):
        return self.owner.public

    def fetched(self, *, one_time=True, now=NOW, accepted=tuple(Suite)):
        """What another peer gets from this one's mailbox, verified."""
        published = self.mailbox.pop() if one_time else None
        bundle = self.prekeys.bundle(self.owner)
        return verify(bundle, published, self.public.fingerprint, now, accepted)

    def begin(self, other, *, one_time=True, authorship=Authorship.SIGNED):
        return self.begin_with(other.fetched(one_time=one_time), authorship)

    def begin_with(self, verified, authorship=Authorship.SIGNED):
        return begin(self.owner, verified, self.rng, authorship)

    def examine(self, opening, payload=PAYLOAD):
        return examine(opening + payload, self.owner, self.prekeys)

    def accept(self, opening, payload=PAYLOAD):
        received = self.examine(opening, payload)
        self.prekeys.commit(received.use)
        return received

    def reload(self):
        """Stop and start again from what was saved."""
        self.owner = OwnIdentity.parse(self.owner.serialize())
        self.prekeys = Prekeys.parse(self.prekeys.serialize())


def pair(suite=Suite.PQXDH_768, one_time=3):
    return Peer("alice", suite, one_time), Peer("bob", suite, one_time)


def flip(data, position, mask=1):
    """``data`` with some bits of one byte changed."""
    return data[:position] + bytes((data[position] ^ mask,)) + data[position + 1 :]


def refused(bob, opening, error=E2EError, match=None, payload=PAYLOAD):
    """``bob`` refuses, and is what he was before, to the byte."""
    saved = bob.prekeys.serialize()
    with pytest.raises(error, match=match) as caught:
        bob.examine(opening, payload)
    assert bob.prekeys.serialize() == saved
    return caught
