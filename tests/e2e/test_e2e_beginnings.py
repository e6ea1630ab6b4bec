"""Random beginnings: three peers, a mailbox that loses, doubles, reorders and forges, crashes in between.

Every opening that comes is accepted exactly once by what is saved, both sides then have the
same, and nothing else is ever accepted. ``PTPROXY_WALKS`` takes a bigger count than CI's.
"""

import os
from collections import Counter
from random import Random

import pytest
from agreement_pair import NOW, PAYLOAD, Peer, flip

from ptproxy.e2e import KnownOpeningError, Prekeys, Suite, UnknownPrekeyError, examine
from ptproxy.e2e.prekeys import GRACE, ROTATION
from ptproxy.errors import E2EError

WALKS = int(os.environ.get("PTPROXY_WALKS", "100"))
STEPS = 60
NAMES = ("alice", "bob", "carol")


class Walk:
    """One walk: who has begun with whom, what is under way, what each has accepted and saved."""

    def __init__(self, seed):
        self.random = Random(f"beginnings {seed}")
        suite = self.random.choice([Suite.X3DH, Suite.X3DH, Suite.PQXDH_768])
        self.peers = [Peer(f"{name} {seed}", suite, one_time=2) for name in NAMES]
        self.saved = [peer.prekeys.serialize() for peer in self.peers]
        self.now = NOW
        self.under_way = []
        self.accepted = Counter()
        self.figures = Counter()

    def run(self):
        for _ in range(STEPS):
            self.figures[name := self.random.choice(list(ACTIONS))] += 1
            ACTIONS[name](self)
        return self.figures

    def begin(self):
        one, other = self.random.sample(range(3), 2)
        peer = self.peers[other]
        one_time = bool(peer.mailbox) and self.random.random() < 0.7
        verified = peer.fetched(one_time=one_time, now=self.now)
        beginning = self.peers[one].begin_with(verified)
        self.under_way.append((one, other, beginning, one_time, self.now))

    def deliver(self):
        """Any message, any number of times; now and then the receiver dies before it has saved."""
        if not self.under_way:
            return
        one, other, beginning, one_time, made = self.random.choice(self.under_way)
        peer = self.peers[other]
        try:
            received = examine(beginning.opening + PAYLOAD, peer.owner, peer.prekeys)
        except KnownOpeningError:
            assert self.accepted[beginning.key] == 1
            return
        except UnknownPrekeyError:
            assert self.now - made >= GRACE or (one_time and self.accepted[beginning.key])
            return
        assert received.agreement == beginning.agreement
        assert received.peer == self.peers[one].public
        peer.prekeys.commit(received.use)
        if self.random.random() < 0.3:
            peer.prekeys = Prekeys.parse(self.saved[other])
            return
        self.saved[other] = peer.prekeys.serialize()
        self.accepted[beginning.key] += 1
        assert self.accepted[beginning.key] == 1

    def forge(self):
        """Changed on the way, sent to somebody else, or mixed with another."""
        if not self.under_way:
            return
        _, other, beginning, *_ = self.random.choice(self.under_way)
        opening, position = beginning.opening, self.random.randrange(len(beginning.opening))
        third = self.random.choice(self.under_way)[2].opening
        kind = self.random.randrange(3)
        if kind == 0:
            opening = flip(opening, position, 1 << self.random.randrange(8))
        elif kind == 1:
            other = (other + 1) % 3
        elif opening[35:] != third[35:]:
            opening = opening[:35] + third[35:]
        else:
            return
        peer = self.peers[other]
        before = peer.prekeys.serialize()
        with pytest.raises(E2EError):
            examine(opening + PAYLOAD, peer.owner, peer.prekeys)
        assert peer.prekeys.serialize() == before

    def wait(self):
        """Time passes; one of them looks after its prekeys."""
        self.now += self.random.randrange(ROTATION // 2)
        for place, peer in enumerate(self.peers):
            said = peer.prekeys.maintain(peer.owner, self.now, peer.rng)
            if said.one_time:
                peer.mailbox = peer.prekeys.replace(peer.owner, self.now, peer.rng)[:2]
            self.saved[place] = peer.prekeys.serialize()

    def restart(self):
        place = self.random.randrange(3)
        self.peers[place].prekeys = Prekeys.parse(self.saved[place])


ACTIONS = {
    "begin": Walk.begin,
    "deliver": Walk.deliver,
    "deliver again": Walk.deliver,
    "forge": Walk.forge,
    "wait": Walk.wait,
    "restart": Walk.restart,
}


def test_random_beginnings():
    figures = Counter()
    for seed in range(WALKS):
        walk = Walk(seed)
        try:
            figures += walk.run()
        except BaseException:
            print(f"the walk with seed {seed}")
            raise
        figures["accepted"] += sum(walk.accepted.values())
    assert figures["accepted"] > WALKS
    print(dict(figures))
