"""Streams between two messengers: signals in the conversation, a meeting at the contact's own bridge."""

from __future__ import annotations

import asyncio

import pytest
from messenger_live import world
from peers_live import run

from ptproxy.errors import DialError, Reason
from ptproxy.peers.dialers import Errand
from ptproxy.peers.messenger_events import SignalReceived


class End(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = bytearray()
        self.there = asyncio.Event()
        self.over = asyncio.Event()
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        self.there.set()

    def data_received(self, data):
        self.received += data

    def eof_received(self):
        return False

    def connection_lost(self, exc):
        self.over.set()


def test_a_stream_between_two_messengers(tmp_path):
    async def main():
        async with world(tmp_path, meet=True) as here:
            alice, bob = await here.met()
            taken, mine = End(), End()
            alice.messenger.streams.offer(b"test", lambda incoming: incoming.accept(taken))
            stream = await bob.peer(alice).open_stream(b"test", mine)
            stream.write(b"x" * 200_000)
            await taken.there.wait()
            taken.transport.write(b"hello")
            await alice.until(lambda: len(taken.received) == 200_000)
            await bob.until(lambda: mine.received == b"hello")
            stream.close()
            taken.transport.close()
            await asyncio.gather(taken.over.wait(), mine.over.wait())
            assert alice.told(SignalReceived)
            meeting = [
                purpose.key
                for person in (alice, bob)
                for purpose in person.wires.purposes.values()
                if purpose.errand is Errand.MEET
            ]
            assert len(set(meeting)) == len(meeting) >= 2

    run(main)


def test_a_stream_that_may_not_be(tmp_path):
    async def main():
        async with world(tmp_path, meet=True) as here:
            alice, bob = await here.met()
            alice.messenger.streams.offer(b"test", lambda incoming: incoming.refuse())
            with pytest.raises(DialError) as refused:
                await bob.peer(alice).open_stream(b"test", End())
            assert refused.value.reason is Reason.NOT_PERMITTED
            ledger = bob.messenger.ledger
            conversation = ledger.correspondence.conversations[bob.peer(alice).id]
            async with ledger.change():
                conversation.see(bob.messenger.fingerprint)
            with pytest.raises(DialError) as refused:
                await bob.peer(alice).open_stream(b"test", End())
            assert refused.value.reason is Reason.NOT_PERMITTED

    run(main)
