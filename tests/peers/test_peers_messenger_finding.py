"""Two people whose mailboxes are gone meet again by records in the directory; nothing else there counts."""

from __future__ import annotations

import contextlib
import random

import pytest
from find_live import Cast, Clock, directory_of
from hypothesis import given
from hypothesis import strategies as st
from messenger_live import link_of, world
from peers_live import run

from ptproxy.config.link import Link
from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.person_record import MailboxPointer
from ptproxy.dht.record_secret import RecordType
from ptproxy.errors import LocalProtocolError, StateError
from ptproxy.peers import find_way, messenger_courier, messenger_finding
from ptproxy.peers.messenger_events import ContactChanged, LineState
from ptproxy.peers.messenger_finding import take_pointer
from ptproxy.peers.messenger_records import MOST, FindSecrets

RNG = random.Random(3).randbytes
OTHER = bytes(range(1, 33))
THIRD = bytes(range(2, 34))
POINTER = RecordType.MAILBOX_POINTER

# ---- what is kept -----------------------------------------------------------------------------------


def some_secrets() -> FindSecrets:
    secrets = FindSecrets()
    secrets.publish_for(bytes(16), RNG)
    secrets.publish_for(bytes(range(16)), RNG)
    secrets.contacts[bytes(16)].theirs = RNG(64)
    secrets.contacts[bytes(16)].progress = {"2": {"20000": [5, 1]}}
    return secrets


STORED = some_secrets().serialize()


def test_secrets_come_back():
    again = FindSecrets.parse(STORED)
    assert again.serialize() == STORED
    assert again.contacts[bytes(16)].progress == {"2": {"20000": [5, 1]}}
    assert FindSecrets.parse(FindSecrets().serialize()).seed == b""


@given(st.integers(0, len(STORED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_other_secrets(place, change):
    data = STORED[:place] + bytes((STORED[place] ^ change,)) + STORED[place + 1 :]
    with contextlib.suppress(StateError):
        FindSecrets.parse(data)


def test_each_contact_has_a_secret_of_its_own_and_few_have_one():
    secrets = FindSecrets()
    told = [secrets.publish_for(bytes((number,)) * 16, RNG) for number in range(MOST)]
    assert len({each[:32] for each in told}) == MOST
    assert len({each[32:] for each in told}) == 1
    assert secrets.publish_for(bytes(16), RNG) == told[0], "once more says the same"
    with pytest.raises(LocalProtocolError):
        secrets.publish_for(b"x" * 16, RNG)
    assert told[0].hex() not in repr(secrets.contacts)


# ---- between people ---------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def meeting(folder, monkeypatch):
    """Two who have met, at one mailbox each, and a directory behind every bridge."""
    for name in ("SOON", "SEARCH_AGAIN", "AGAIN", "LOOK"):
        monkeypatch.setattr(messenger_finding, name, (1.0, 2.0) if name == "SOON" else 1.0)
    monkeypatch.setattr(messenger_courier, "GONE", 1)
    async with world(folder) as scene:
        await scene.mailbox(OTHER)
        await scene.mailbox(THIRD)
        clock = Clock(scene.clock())
        async with directory_of(8, clock) as directory:
            cast = Cast(folder, directory)
            relay = await cast.bridge("bridge", await cast.guard("guard"))
            scene.others = {find_way.SERVICE: relay}
            alice = await scene.person("alice", link_of()).start()
            bob = await scene.person("bob", link_of(OTHER, "other.example")).start()
            await bob.messenger.add(await alice.invite())
            await bob.until(lambda: bob.peer(alice).name)
            await alice.until(lambda: alice.peer(bob))
            for person in (alice, bob):
                person.messenger.finding.diversity = ANY_NETWORK
                await person.messenger.settled()
            try:
                yield scene, alice, bob
            finally:
                for person in scene.people:
                    await person.stop()
                scene.others = {}
                await cast.stop()


async def published(person, link):
    """Wait until the directory has it that the mailbox of ``person`` is there."""

    def out():
        said = person.messenger.finding._mine.values()
        known = [mine._publications[POINTER] for mine in said if POINTER in mine._publications]
        contents = [MailboxPointer.parse(each.content).mailbox for each in known]
        return contents == [link] and not any(mine.due(person.world.clock()) for mine in said)

    await person.until(out)


def test_who_has_moved_is_found_when_nobody_could_be_told(tmp_path, monkeypatch):
    """Bob's bridge is gone with the mail in it, so is his hello that says where he is: Alice finds him."""

    async def main():
        async with meeting(tmp_path, monkeypatch) as (scene, alice, bob):
            await bob.peer(alice).publish()
            await alice.until(lambda: alice.peer(bob).can_be_found)
            assert bob.peer(alice).finds_us
            await scene.shut(OTHER)
            alices = scene.services.pop(alice.link.key)  # nobody can be told anything for now
            await bob.messenger.move(link_of(THIRD, "third.example"))
            await bob.until(lambda: any(bob.peer(alice)._record.given.good()))
            await bob.until(lambda: all(each.granted for each in bob.peer(alice)._record.given.good()))
            bob.messenger.finding.look()
            await published(bob, bob.messenger.mailbox)
            await bob.stop()  # before he could say hello
            scene.services[alice.link.key] = alices
            number = await alice.peer(bob).send("where are you?")
            await alice.until(lambda: alice.peer(bob)._record.mailbox.key == THIRD)
            assert ContactChanged(alice.peer(bob).id) in alice.events

            async def state():
                return (await alice.peer(bob).history())[0].state

            while await state() < LineState.DEPOSITED:
                await alice.messenger.ledger.next_change()
            assert number
            await bob.start()
            assert "where are you?" in await bob.heard(1)

    run(main)


def test_who_has_not_asked_for_it_publishes_nothing(tmp_path):
    async def main():
        async with world(tmp_path) as scene:
            alice, bob = await scene.met()
            assert not alice.peer(bob).can_be_found
            assert not alice.messenger.finding._publishes()
            await bob.peer(alice).publish()
            await alice.until(lambda: alice.peer(bob).can_be_found)
            assert bob.messenger.finding._publishes() == [bob.peer(alice).id]
            await bob.peer(alice).unpublish()
            assert not bob.messenger.finding._publishes()
            await alice.peer(bob).remove()
            assert alice.messenger.ledger.records.contacts == {}

    run(main)


def test_a_pointer_into_our_own_network_or_without_passes_is_not_taken(tmp_path):
    async def main():
        async with world(tmp_path) as scene:
            alice, bob = await scene.met()
            record, before = alice.peer(bob)._record, alice.peer(bob)._record.mailbox
            local = Link(RNG(32), "192.168.1.1", 443, "/", "router.example", ("http",))
            for passes in (b"", bytes(45), b"\xff" * 90, b"x" * 44):
                async with alice.messenger.ledger.change() as change:
                    take_pointer(alice.messenger.ledger, change, record, MailboxPointer(local, passes))
                assert record.mailbox == before
            public = Link(RNG(32), "box.example", 443, "/", "box.example", ("http",))
            passes = list(record.held.passes)
            for useless in (b"", b"\xff" * 90):
                async with alice.messenger.ledger.change() as change:
                    take_pointer(alice.messenger.ledger, change, record, MailboxPointer(public, useless))
                assert (record.mailbox, record.held.passes) == (before, passes)
            good = b"".join(each.given.serialize() for each in passes)
            async with alice.messenger.ledger.change() as change:
                take_pointer(alice.messenger.ledger, change, record, MailboxPointer(public, good))
            assert record.mailbox == public

    run(main)
