"""Two people with conversations and streams, in one loop: their signals are really sealed by the ratchet."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random

from peers_live import PipeDialer

from ptproxy.config.model import RendezvousConfig
from ptproxy.e2e import Correspondence, OwnIdentity, Standing, Suite, verify
from ptproxy.peers.peer_meetings import Home
from ptproxy.peers.peer_streams import PeerStreams
from ptproxy.peers.rendezvous_service import RendezvousService

NOW = 1_800_000_000.0


class Party:
    """One person: a correspondence with one contact, named by ``CONTACT``."""

    CONTACT = b"the other one..."

    def __init__(self, name, **options):
        self.name = name
        self.rng = random.Random(f"streams {name}").randbytes
        self.mine = Correspondence.create(OwnIdentity.generate(self.rng), Suite.X3DH, NOW, self.rng)
        self.other: Party
        self.homes = {}
        """A dialer for each of the two homes, by whose it is."""
        self.deaf = False
        """Whether what is signalled to it gets lost."""
        self.signals = []
        self.streams = PeerStreams(self.dialer, self.signal, self.session, rng=os.urandom, **options)

    @property
    def conversation(self):
        return self.mine.add(self.other.mine.owner.public.fingerprint, self.rng)

    def session(self, contact):
        assert contact == self.CONTACT
        return None if self.conversation.standing is Standing.CHANGED else self.conversation.session

    def dialer(self, contact, home):
        assert contact == self.CONTACT
        return self.homes.get(home)

    async def signal(self, contact, body):
        assert contact == self.CONTACT
        self.signals.append(body)
        message = self.conversation.send(body, NOW, self.rng)
        await asyncio.sleep(0)
        if not self.other.deaf:
            asyncio.get_running_loop().call_soon(self.other.hear, message)

    def hear(self, message):
        self.streams.signal_received(self.CONTACT, self.mine.receive(message, NOW, self.rng).body)

    def chat(self):
        """A line there, a line back: the ratchet turns twice."""
        for one, other in ((self, self.other), (self.other, self)):
            other.mine.receive(one.conversation.send(b"line", NOW, one.rng), NOW, other.rng)


def acquainted(**options):
    """Two who have written to each other."""
    alice, bob = Party("alice", **options), Party("bob", **options)
    alice.other, bob.other = bob, alice
    bundle = verify(bob.mine.bundle(), None, bob.mine.owner.public.fingerprint, NOW, (Suite.X3DH,))
    alice.conversation.begin(bundle, NOW, alice.rng)
    alice.chat()
    return alice, bob


def at_home(alice, bob, **config):
    """Each has a bridge with a rendezvous; the four dialers."""
    services = {party: RendezvousService(RendezvousConfig(offer=True, **config)) for party in (alice, bob)}
    for party in (alice, bob):
        party.homes = {
            Home.OURS: PipeDialer(party.name, services[party], seed=1),
            Home.THEIRS: PipeDialer(party.name, services[party.other], seed=2),
        }
    return services


def sever(*parties):
    """Every connection of these breaks."""
    for party in parties:
        for dialer in party.homes.values():
            if dialer is not None:
                dialer.sever()


class Talker(asyncio.Protocol):
    """An application's end: writes as it may, keeps what comes."""

    def __init__(self, data=b"", *, end=True):
        self.data = data
        self.end = end
        self.sent = 0
        self.received = bytearray()
        self.made = 0
        self.eof = False
        self.paused = False
        self.lost = asyncio.get_running_loop().create_future()
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.made += 1
        self.go_on()

    def go_on(self):
        while not self.paused and self.sent < len(self.data):
            self.transport.write(self.data[self.sent : self.sent + 20_000])
            self.sent += 20_000
        if self.end and self.sent >= len(self.data):
            self.transport.write_eof()

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.go_on()

    def data_received(self, data):
        self.received += data

    def eof_received(self):
        self.eof = True
        return True

    def connection_lost(self, exc):
        assert not self.lost.done()
        self.lost.set_result(exc)

    @property
    def digest(self):
        return hashlib.sha256(self.received).hexdigest()
