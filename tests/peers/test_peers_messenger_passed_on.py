"""Invites to bridges from contact to contact: through a mailbox, over a restart, bounded."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from messenger_live import world
from peers_live import run

from ptproxy.config.link import Link
from ptproxy.dht.invite import Invite
from ptproxy.dht.signing import SigningKey
from ptproxy.errors import StateError
from ptproxy.peers.messenger_events import BridgesPassedOn
from ptproxy.peers.messenger_passed_on import MOST, MOST_OF_ONE, PassedOn, PassedOnList
from ptproxy.peers.payload import BridgeInvite, PayloadError, parse_part, serialize_part

RNG = random.Random(7).randbytes
FAR = 4_000_000_000


def invite_to(number: int, expires: int = FAR) -> Invite:
    host = f"bridge{number}.example"
    link = Link(RNG(32), host, 443, "/", host, ("http",))
    return Invite.issue(SigningKey(bytes(32)), (link,), expires, RNG)


def of(contact: int, number: int, *, taken: bool = False) -> PassedOn:
    return PassedOn(bytes((contact,)) * 16, 5.0, invite_to(number), taken)


# ---- what is kept -----------------------------------------------------------------------------------


def test_one_contact_cannot_fill_the_list():
    listed = PassedOnList()
    mine = of(1, 0)
    assert listed.add(mine)
    assert not listed.add(PassedOn(mine.contact, 9.0, mine.invite))
    for number in range(3 * MOST):
        listed.add(of(2, number))
    assert len(listed.entries) == 1 + MOST_OF_ONE
    assert listed.entries[0] is mine
    for contact in range(3, 100):
        listed.add(of(contact, 1))
        listed.add(of(contact, 2))
    assert len(listed.entries) == MOST


def test_what_was_taken_goes_last_and_stays_without_its_contact():
    listed = PassedOnList()
    taken = of(1, 0, taken=True)
    listed.add(taken)
    for number in range(2 * MOST_OF_ONE):
        listed.add(of(1, number + 1))
    assert taken in listed.entries
    assert listed.forget(taken.contact)
    assert listed.entries == [taken]
    assert not listed.forget(taken.contact)


LISTED = PassedOnList([of(1, 1), of(2, 2, taken=True)]).serialize()


def test_it_comes_back():
    again = PassedOnList.parse(LISTED)
    assert [(each.contact[0], each.taken, each.arrived) for each in again.entries] == [
        (1, False, 5.0),
        (2, True, 5.0),
    ]
    assert again.serialize() == LISTED


@given(st.integers(0, len(LISTED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_another_list(place, change):
    data = LISTED[:place] + bytes((LISTED[place] ^ change,)) + LISTED[place + 1 :]
    try:
        PassedOnList.parse(data)
    except StateError:
        pass


@given(st.binary(max_size=300))
def test_garbage_is_no_invite(data):
    with pytest.raises(PayloadError):
        parse_part(b"\x08" + len(data).to_bytes(3, "big") + data)


def test_an_invite_that_somebody_changed_is_none():
    part = serialize_part(BridgeInvite(invite_to(1)))
    with pytest.raises(PayloadError):
        parse_part(part[:90] + bytes((part[90] ^ 1,)) + part[91:])
    assert "bridge1" not in repr(BridgeInvite(invite_to(1)))


# ---- between people ---------------------------------------------------------------------------------


def passed_on(person):
    return person.messenger.bridges.known()


def test_from_one_to_the_other_and_over_a_restart(tmp_path):
    async def main():
        async with world(tmp_path) as scene:
            alice, bob = await scene.met()
            invite = invite_to(1)
            await alice.peer(bob).pass_on(invite)
            await bob.until(lambda: bob.told(BridgesPassedOn))
            assert bob.told(BridgesPassedOn) == [BridgesPassedOn(bob.peer(alice).id, invite.id)]
            await bob.kill()
            await bob.start()
            [found] = passed_on(bob)
            assert (found.contact, found.invite, found.taken) == (bob.peer(alice).id, invite, False)
            await bob.messenger.bridges.take(invite.id)
            await bob.stop()
            await bob.start()
            assert passed_on(bob)[0].taken
            with pytest.raises(KeyError):
                await bob.messenger.bridges.take(bytes(16))
            await bob.peer(alice).remove()
            assert [each.taken for each in passed_on(bob)] == [True]
            await bob.messenger.bridges.drop(invite.id)
            assert passed_on(bob) == []

    run(main)


def test_what_is_over_or_of_a_stranger_is_not_kept(tmp_path):
    async def main():
        async with world(tmp_path) as scene:
            alice, bob = await scene.met()
            await alice.peer(bob).pass_on(invite_to(1, 5))
            await alice.peer(bob).send("behind it")
            await bob.heard(1)
            assert not bob.told(BridgesPassedOn)
            async with bob.messenger.ledger.change() as change:
                bob.peer(alice)._record.stranger = True
                change.contact(bob.peer(alice)._record)
            await alice.peer(bob).pass_on(invite_to(2))
            await alice.peer(bob).send("and again")
            await bob.heard(2)
            assert passed_on(bob) == []

    run(main)


def test_a_contact_that_is_removed_takes_along_what_was_not_taken(tmp_path):
    async def main():
        async with world(tmp_path) as scene:
            alice, bob = await scene.met()
            await alice.peer(bob).pass_on(invite_to(1))
            await bob.until(lambda: passed_on(bob))
            await bob.peer(alice).remove()
            assert passed_on(bob) == []
            assert b"bridge1" not in bob.store.pieces()["messenger/passed on"]

    run(main)
