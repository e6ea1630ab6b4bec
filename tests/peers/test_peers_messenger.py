"""Messengers at work: people, their mailboxes, and everything that goes wrong between them."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace

import pytest
from messenger_live import link_of, world
from peers_live import START, PipeDialer, run

from ptproxy.e2e import IdentityChangedError, OwnIdentity, Standing, Suite
from ptproxy.e2e.prekeys import Prekeys
from ptproxy.e2e.succession import declare
from ptproxy.errors import E2EError, LocalProtocolError, StartError, StateError
from ptproxy.peers import messenger, messenger_sending
from ptproxy.peers.contact_invite import DEPOSITS, InviteError
from ptproxy.peers.dialers import Errand
from ptproxy.peers.mailbox_client import BoxTakenOver, MailboxOwner, MailboxSender
from ptproxy.peers.mailbox_delivery import DeliveryPass
from ptproxy.peers.mailbox_requests import Right
from ptproxy.peers.messenger import MAX_INVITES, Messenger, OutboxFullError
from ptproxy.peers.messenger_box import make_pass
from ptproxy.peers.messenger_events import (
    ContactAdded,
    ContactChanged,
    ContactRemoved,
    DeliveryTroubled,
    Direction,
    InviteUsed,
    LineDelivered,
    LineDeposited,
    LineFailed,
    LineRead,
    LineState,
    MailboxChanged,
    PresenceChanged,
    SignalReceived,
    StandingChanged,
    Trouble,
    UnknownReceived,
)
from ptproxy.peers.messenger_outbox import MAX_WAITING
from ptproxy.peers.messenger_passes import (
    ARRIVES,
    GOOD_FOR,
    MAX_GIVEN,
    RESERVE,
    TOKENS,
    Given,
    GivenPasses,
    PassState,
)
from ptproxy.peers.payload import MAX_TEXT, Hello, Payload, Presence, Unknown, serialize_part

KILLS = int(os.environ.get("PTPROXY_MESSENGER_KILLS", "4"))
"""Stories of people who are killed; each of them other seeds."""


def at(tmp_path, story, **config):
    """Run a story in a world with one mailbox."""

    async def main():
        async with world(tmp_path, **config) as here:
            await story(here)

    run(main)


def test_an_invite_makes_two_contacts_that_write(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        assert (alice.peer(bob).name, bob.peer(alice).name) == ("bob", "alice")
        hello = await bob.peer(alice).send("hello")
        assert await alice.heard(1) == ["hello"]
        await alice.peer(bob).send("hello yourself")
        assert await bob.heard(1) == ["hello yourself"]
        assert alice.peer(bob).standing is Standing.UNVERIFIED
        assert len(alice.told(ContactAdded)) == len(bob.told(ContactAdded)) == 1
        lines = await alice.peer(bob).history()
        assert [(line.direction, line.text) for line in lines] == [
            (Direction.OURS, "hello yourself"), (Direction.THEIRS, "hello"),
        ]  # fmt: skip
        await bob.until(lambda: bob.told(LineDelivered))
        contact = bob.peer(alice).id
        assert bob.told(LineDeposited) == [LineDeposited(contact, hello)]
        assert bob.told(LineDelivered) == [LineDelivered(contact, hello)]
        assert not bob.told(LineRead)
        assert alice.peer(bob).unread == 1
        await alice.peer(bob).mark_read(lines[-1].number)
        await bob.until(lambda: bob.told(LineRead))
        assert alice.peer(bob).unread == 0
        (line,) = [line for line in await bob.peer(alice).history() if line.number == hello]
        assert line.state is LineState.READ

    at(tmp_path, story)


def test_many_lines_come_once_and_in_order_and_passes_are_refilled(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        said = [f"line {number}" for number in range(8 * TOKENS)]
        for text in said:
            await bob.peer(alice).send(text)
            if len(bob.store.lists["messenger/outbox " + bob.peer(alice).id.hex()]) > 2:
                await bob.messenger.settled()  # one message a line, or nearly: passes run low again and again
        assert await alice.heard(len(said)) == said
        await alice.messenger.settled()
        history = await alice.peer(bob).history(limit=len(said))
        assert [line.text for line in reversed(history)] == said
        assert len(alice.messenger.ledger.contacts[alice.peer(bob).id].given.of(Right.DEPOSIT)) <= MAX_GIVEN

    at(tmp_path, story)


def test_wishes_that_were_written_before_a_pass_came_are_answered_by_that_one(tmp_path):
    """Two who had each other's wishes answered one by one had all their older passes retire at once."""

    async def story(here):
        alice, bob = await here.met()
        await bob.peer(alice).send("a line under the pass that alice gave")
        await alice.heard(1)
        await alice.messenger.settled()
        await bob.messenger.settled()
        record = bob.messenger.ledger.contacts[bob.peer(alice).id]
        given = alice.messenger.ledger.contacts[alice.peer(bob).id].given
        async with bob.messenger.ledger.change() as change:
            while record.held.left(Right.DEPOSIT, here.clock.now) > RESERVE + 6:
                record.held.take(here.clock.now)  # as for mail that expired
            change.contact(record)
        before = len(given.of(Right.DEPOSIT))
        await alice.stop()
        for number in range(5):  # each of them asks
            await bob.peer(alice).send(f"line {number}")
            await bob.messenger.settled()
        await alice.start()
        await alice.messenger.settled()
        await bob.until(lambda: record.held.left(Right.DEPOSIT, here.clock.now) > TOKENS)
        given = alice.messenger.ledger.contacts[alice.peer(bob).id].given
        assert len(given.of(Right.DEPOSIT)) == before + 1

    at(tmp_path, story)


def test_a_pass_may_be_unseen_until_something_comes_under_it_or_for_half_a_day():
    def make():
        return DeliveryPass.make(
            os.urandom, START, seconds=GOOD_FOR, count=TOKENS, uses=1, right=Right.DEPOSIT
        )

    given = Given(make())
    passes = GivenPasses([given])
    assert not passes.may_be_unseen(START)  # nobody was told of it
    given.state, given.told = PassState.TOLD, START
    assert passes.may_be_unseen(START)
    assert passes.may_be_unseen(START - 60.0)
    assert passes.may_be_unseen(START + ARRIVES - 1.0)
    assert not passes.may_be_unseen(START + ARRIVES)
    passes.may_be_lost()
    assert not passes.may_be_unseen(START)
    given.told = START
    given.used = 4
    assert not passes.may_be_unseen(START)
    fetch = Given(replace(make(), right=Right.FETCH, count=1), PassState.TOLD, told=START)
    assert not GivenPasses([fetch]).may_be_unseen(START)


def test_mail_that_waits_under_a_retired_pass_is_read(tmp_path):
    """A contact's passes are replaced, again and again, while its mail waits in the box."""

    async def story(here):
        alice, bob = await here.met()
        alice.wires.sever()
        service = here.services.pop(alice.link.key)  # alice does not come to it, bob's stream goes on
        record = bob.messenger.ledger.contacts[bob.peer(alice).id]
        alice.wires.down = True
        here.services[alice.link.key] = service
        for number in range(20):
            await bob.peer(alice).send(f"line {number}")
            await bob.messenger.settled()
        assert record.held.passes
        async with alice.messenger.ledger.change() as change:
            given = alice.messenger.ledger.contacts[alice.peer(bob).id].given
            for _ in range(2 * MAX_GIVEN):
                make_pass(alice.messenger.ledger, change, alice.messenger.ledger.contacts[alice.peer(bob).id],
                      Right.DEPOSIT, TOKENS)  # fmt: skip
            assert len(given.of(Right.DEPOSIT)) == MAX_GIVEN
        await alice.stop()
        alice.wires.down = False
        await alice.start()
        assert await alice.heard(20) == [f"line {number}" for number in range(20)]

    at(tmp_path, story)


def test_lines_that_wait_leave_in_few_messages(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        await alice.stop()
        bob.wires.down = True
        bob.wires.sever()
        for number in range(40):
            await bob.peer(alice).send(f"line {number}")
        left = bob.messenger.ledger.contacts[bob.peer(alice).id].held.left
        before = left(Right.DEPOSIT, here.clock.now)
        bob.wires.down = False
        await bob.messenger.settled()
        assert before - left(Right.DEPOSIT, here.clock.now) <= 5
        await alice.start()
        assert await alice.heard(40) == [f"line {number}" for number in range(40)]

    at(tmp_path, story)


def test_a_long_line_and_the_longest(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        texts = ["☺" * (MAX_TEXT // 3), "x" * MAX_TEXT, "short"]
        for text in texts:
            await bob.peer(alice).send(text)
        assert await alice.heard(3) == texts
        for wrong in ("", "x" * (MAX_TEXT + 1), "\ud800"):
            with pytest.raises(LocalProtocolError):
                await bob.peer(alice).send(wrong)

    at(tmp_path, story)


def test_both_add_each_other_at_once(tmp_path):
    async def story(here):
        alice, bob = await here.person("alice").start(), await here.person("bob").start()
        hers, his = await alice.invite(), await bob.invite()
        await asyncio.gather(alice.messenger.add(his), bob.messenger.add(hers))
        await asyncio.gather(alice.peer(bob).send("from alice"), bob.peer(alice).send("from bob"))
        assert await alice.heard(1) == ["from bob"]
        assert await bob.heard(1) == ["from alice"]
        await asyncio.gather(alice.messenger.settled(), bob.messenger.settled())
        for number in range(5):
            await alice.peer(bob).send(f"{number}")
            await bob.peer(alice).send(f"{number}")
        assert (await alice.heard(6))[1:] == (await bob.heard(6))[1:] == ["0", "1", "2", "3", "4"]
        assert len(alice.messenger.contacts()) == len(bob.messenger.contacts()) == 1

    at(tmp_path, story)


def test_lines_before_the_first_answer_and_two_mailboxes(tmp_path):
    async def story(here):
        other = await here.mailbox(bytes(reversed(range(32))))
        alice, bob = here.person("alice"), here.person("bob", other)
        await alice.start()
        invite = await alice.invite()
        await alice.stop()
        await bob.start()
        await bob.messenger.add(invite)
        for number in range(5):
            await bob.peer_of(invite).send(f"line {number}")
        await bob.messenger.settled()
        await bob.stop()
        await alice.start()
        assert await alice.heard(5) == [f"line {number}" for number in range(5)]
        await alice.peer_named("bob").send("answer")
        await alice.messenger.settled()
        await bob.start()
        assert await bob.heard(1) == ["answer"]
        assert alice.peer_named("bob").fingerprint == bob.messenger.fingerprint

    at(tmp_path, story)


def test_keys_of_errands_are_all_different_at_the_mailbox(tmp_path):
    async def story(here):
        alice, _ = await here.met()
        carol = await here.person("carol").start()
        await carol.messenger.add(await alice.invite())
        await carol.until(lambda: carol.peer(alice).name)
        seen = [purpose for person in here.people for purpose in person.wires.purposes.values()]
        assert len({purpose.key for purpose in seen}) == len(seen) == 3 + 4
        assert {purpose.errand for purpose in seen} == {Errand.OWN_BOX, Errand.DEPOSIT}

    at(tmp_path, story)


# ---- what breaks


def test_the_mailbox_is_away_and_streams_break(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        said = []
        for number in range(30):
            said.append(f"line {number}")
            await bob.peer(alice).send(said[-1])
            if number % 7 == 3:
                await here.shut()
                await alice.until(lambda: alice.messenger.trouble is Trouble.MAILBOX_UNREACHABLE)
            if number % 7 == 5:
                await here.open()
            if number % 3 == 0:
                alice.wires.sever()
                bob.wires.sever()
        assert await alice.heard(30) == said
        assert Trouble.MAILBOX_UNREACHABLE in [event.trouble for event in alice.told(MailboxChanged)]

    at(tmp_path, story)


def test_weeks_away(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        await alice.stop()
        said = []
        for week in range(4):
            for number in range(3):
                said.append(f"week {week}, line {number}")
                await bob.peer(alice).send(said[-1])
                await bob.messenger.settled()
            await bob.stop()
            here.clock.pass_days(7)
            await bob.start()
        await alice.start()
        assert await alice.heard(12) == said
        await alice.peer(bob).send("back")
        assert await bob.heard(1) == ["back"]

    at(tmp_path, story)


def test_who_only_looks_in_gets_what_waited(tmp_path):
    """A program that starts, waits until all is settled and leaves has asked its mailbox."""

    async def story(here):
        alice, bob = await here.met()
        await alice.stop()
        for number in range(30):
            await bob.peer(alice).send(f"line {number}")
            await bob.peer(alice).settled()
        await alice.start()
        await alice.messenger.settled()
        assert alice.lines() == [f"line {number}" for number in range(30)]
        assert alice.peer(bob).unread == 30
        await alice.stop()
        await alice.start()
        await alice.messenger.settled()  # nothing waits: that is all there is to know
        assert len(alice.lines()) == 30

    at(tmp_path, story)


def test_who_cannot_look_in_does_not_wait_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(messenger, "COLLECTED", 0.01)

    async def story(here):
        alice, _ = await here.met()
        await alice.stop()
        alice.wires.down = True
        await alice.start()
        await alice.messenger.settled()
        assert alice.messenger.trouble is Trouble.MAILBOX_UNREACHABLE

    at(tmp_path, story)


def test_one_contact_is_settled_though_another_is_not(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        elsewhere = link_of(bytes(32), "gone.example")
        carol = await here.person("carol").start()
        await carol.messenger.add(replace(await alice.invite(), mailbox=elsewhere))
        await carol.messenger.add(await bob.invite())
        friend = carol.peer(bob)
        await friend.send("hello")
        await friend.settled()
        assert [line.state >= LineState.DEPOSITED for line in await friend.history()] == [True]
        assert not messenger_sending.waits(carol.messenger.ledger, carol.messenger.ledger.contacts[friend.id])
        assert messenger_sending.waits(
            carol.messenger.ledger, carol.messenger.ledger.contacts[carol.peer(alice).id]
        )

    at(tmp_path, story)


def test_a_box_that_was_deleted_is_made_again(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        await alice.stop()
        await here.shut()
        for path in (here.mailboxes[alice.link.key].folder / "state").glob("mailbox*"):
            path.unlink()
        await here.open()
        await bob.peer(alice).send("to nobody")
        await bob.until(lambda: bob.peer(alice).trouble is Trouble.NO_PASS)
        await alice.start()
        await alice.until(lambda: alice.messenger.trouble is Trouble.NONE)
        await bob.peer(alice).send("again")  # writing is trying
        assert await alice.heard(2) == ["to nobody", "again"]
        await bob.until(lambda: bob.peer(alice).trouble is Trouble.NONE)
        carol = await here.person("carol").start()
        await carol.messenger.add(await alice.invite())
        await carol.peer(alice).send("hello")
        assert (await alice.heard(3))[2] == "hello"

    at(tmp_path, story)


def test_a_contact_that_runs_out_asks_for_more(tmp_path):
    """As after weeks in which its mail expired: we count its tokens as unused."""

    async def story(here):
        alice, bob = await here.met()
        record = bob.messenger.ledger.contacts[bob.peer(alice).id]
        deposits = next(held for held in record.held.passes if held.given.right is Right.DEPOSIT)
        deposits.next = TOKENS - 5
        await bob.peer(alice).send("nearly out")
        await bob.until(lambda: record.held.left(Right.DEPOSIT, here.clock.now) > TOKENS)

    at(tmp_path, story)


def test_the_last_tokens_are_for_passes(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        record = bob.messenger.ledger.contacts[bob.peer(alice).id]
        deposits = next(held for held in record.held.passes if held.given.right is Right.DEPOSIT)
        deposits.next = TOKENS - RESERVE
        bob.messenger.ledger.outboxes[record.id].asked = here.clock.now  # not long ago
        await bob.peer(alice).send("out")
        await bob.until(lambda: bob.peer(alice).trouble is Trouble.NO_PASS)
        assert deposits.next == TOKENS - RESERVE
        here.clock.pass_days(1)
        await bob.peer(alice).send("asking")
        assert await alice.heard(2) == ["out", "asking"]
        await bob.until(lambda: record.held.left(Right.DEPOSIT, here.clock.now) >= TOKENS)

    at(tmp_path, story)


def test_a_token_that_is_refused_is_replaced(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        given = alice.messenger.ledger.contacts[alice.peer(bob).id].given.of(Right.DEPOSIT)[0]
        used = bob.messenger.ledger.contacts[bob.peer(alice).id].held.passes
        place = next(held.next for held in used if held.given.right is Right.DEPOSIT)
        async with alice.messenger.ledger.change() as change:
            alice.messenger.ledger.profile.revoke([given.tokens[place].id])
            change.profile()
            change.want_box()
        await alice.messenger.settled()
        await bob.peer(alice).send("by the next one")
        assert await alice.heard(1) == ["by the next one"]
        assert not bob.told(DeliveryTroubled)

    at(tmp_path, story)


def test_a_full_box_is_waited_for(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        await alice.stop()
        for number in range(12):
            await bob.peer(alice).send("x" * 1500 + str(number))
        await bob.until(lambda: bob.peer(alice).trouble is Trouble.MAILBOX_FULL)
        await alice.start()
        assert [text[1500:] for text in await alice.heard(12)] == [str(number) for number in range(12)]
        await bob.until(lambda: bob.peer(alice).trouble is Trouble.NONE)

    at(tmp_path, story, box_messages=5)


@pytest.mark.parametrize("seed", range(KILLS))
def test_killed_at_any_write(tmp_path, seed):
    """Either loses its memory at a random write, again and again: each line comes once, in order."""

    async def story(here):
        dice = random.Random(seed)
        alice, bob = await here.met()
        said = {"alice": [], "bob": []}
        for _ in range(30):
            person, other = dice.choice([(alice, bob), (bob, alice)])
            person.store.fail_at = person.store.writes + dice.randrange(1, 10)
            text = f"{person.name} {len(said[person.name])}"
            try:
                await person.peer_named(other.name).send(text)
                said[person.name].append(text)
                if dice.random() < 0.3:
                    await person.kill()
            except OSError:
                pass  # it was not said
            if dice.random() < 0.5:
                await asyncio.sleep(0.003)
            for each in (alice, bob):
                if each.is_gone:
                    await each.recover()
        for each in (alice, bob):
            each.store.fail_at = 0
            if each.is_gone:
                await each.recover()
        for person, other in ((alice, bob), (bob, alice)):
            assert await lines_of(person, other, len(said[other.name])) == said[other.name]
            assert all(person.lines().count(text) <= 1 for text in said[other.name])

    at(tmp_path, story)


async def lines_of(person, other, count):
    """The lines of ``other`` in the history, once there are so many."""
    while True:
        for each in (person, other):
            if each.is_gone:  # of a write that had failed before
                await each.recover()
        lines = await person.peer_named(other.name).history(limit=10_000)
        found = [line.text for line in reversed(lines) if line.direction is Direction.THEIRS]
        if len(found) >= count:
            return found
        await asyncio.sleep(0.005)


def test_a_state_that_was_put_back_begins_anew(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        backup = alice.store.copy()
        for number in range(4):
            await alice.peer(bob).send(f"since then {number}")
            await bob.heard(number + 1)
        await bob.peer(alice).send("since then, too")
        await alice.heard(1)
        await asyncio.gather(alice.messenger.settled(), bob.messenger.settled())
        await alice.stop()
        alice.store = backup
        alice.was_put_back = True
        await alice.start()
        await alice.peer(bob).send("after it")
        assert (await bob.heard(5))[4] == "after it"
        await bob.peer(alice).send("hello again")
        assert (await alice.heard(2))[1] == "hello again"
        assert not alice.told(UnknownReceived)
        assert not bob.told(UnknownReceived)

    at(tmp_path, story)


def test_a_disk_that_fails_ends_everything_at_once(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        bob.store.fail_at = bob.store.writes + 1
        with pytest.raises(OSError, match="disk"):
            await bob.peer(alice).send("not said")
        with pytest.raises(OSError, match="disk"):
            await bob.task
        with pytest.raises(OSError, match="disk"):
            await bob.peer(alice).send("not said either")
        await bob.recover()
        await bob.peer(alice).send("said")
        assert await alice.heard(1) == ["said"]

    at(tmp_path, story)


def test_a_change_that_fails_half_way_ends_everything_and_one_that_fails_before_it_nothing(tmp_path):
    async def story(here):
        _, bob = await here.met()
        ledger = bob.messenger.ledger
        await bob.messenger.settled()

        async def fail(when):
            async with ledger.change() as change:
                if when == "half-way":
                    ledger.correspondence.refill(1_000, change.now, ledger.rng)
                raise ValueError(when)

        with pytest.raises(ValueError, match="before"):
            await fail("before")
        assert ledger.broken is None
        with pytest.raises(ValueError, match="half-way"):
            await fail("half-way")
        with pytest.raises(ValueError, match="half-way"):
            await bob.task
        assert ledger.correspondence.has_unsaved  # asked, and not taken
        await bob.recover()

    at(tmp_path, story)


def test_a_second_copy_ends_the_first(tmp_path):
    async def story(here):
        alice, _ = await here.met()
        copy = here.person("alice")
        copy.store = alice.store.copy()
        await copy.start()
        with pytest.raises(BoxTakenOver):
            await alice.task
        alice.task = None

    at(tmp_path, story)


# ---- identities


async def another_identity(here, alice):
    """Alice's mailbox shows a bundle of somebody else, sealed with her key: she lost her state."""
    profile = alice.messenger.ledger.profile
    stranger = OwnIdentity.generate(alice.rng)
    correspondence = alice.messenger.ledger.correspondence
    before = correspondence.owner, correspondence.prekeys
    correspondence.owner = stranger
    correspondence.prekeys = Prekeys.create(stranger, Suite.PQXDH_768, here.clock.now, alice.rng)
    profile.published = b""
    await alice.messenger.invite()
    await alice.messenger.settled()
    return stranger, before


def test_another_bundle_stops_sending_until_the_person_decides(tmp_path):
    async def story(here):
        alice = await here.person("alice").start()
        invite = await alice.invite()
        stranger, _ = await another_identity(here, alice)
        bob = await here.person("bob").start()
        peer = await bob.messenger.add(invite)
        number = await peer.send("for alice alone")
        await bob.until(lambda: bob.told(StandingChanged))
        (event,) = bob.told(StandingChanged)
        assert (event.standing, event.candidate, event.vouched) == (
            Standing.CHANGED, stranger.public.fingerprint, False,
        )  # fmt: skip
        assert peer.candidate == stranger.public.fingerprint
        with pytest.raises(IdentityChangedError):
            await peer.send("more")
        await bob.messenger.settled()  # nothing can leave
        await bob.until(lambda: peer.trouble is Trouble.IDENTITY_CHANGED)
        assert not alice.lines()
        await peer.accept(stranger.public.fingerprint)
        assert bob.told(LineFailed) == [LineFailed(peer.id, number)]
        await peer.send("to whoever it is")
        assert await alice.heard(1) == ["to whoever it is"]
        assert [line.state for line in await peer.history()][1:] == [LineState.FAILED]

    at(tmp_path, story)


def test_what_was_written_before_a_change_does_not_leave(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        peer, ledger = bob.peer(alice), bob.messenger.ledger
        bob.wires.down = True
        bob.wires.sever()
        await peer.send("sealed")
        await bob.until(lambda: peer.trouble is Trouble.MAILBOX_UNREACHABLE)
        assert ledger.outboxes[peer.id].sealed
        await peer.send("waiting")
        async with ledger.change() as change:
            ledger.correspondence.conversations[peer.id].see(bob.messenger.fingerprint)
            change.wake(peer.id)
        bob.wires.down = False
        await bob.until(lambda: peer.trouble is Trouble.IDENTITY_CHANGED)
        await alice.peer(bob).send("what comes is read")
        assert await bob.heard(1) == ["what comes is read"]
        assert alice.lines() == bob.told(LineDelivered) == alice.told(LineDelivered) == []
        await peer.keep()
        assert await alice.heard(2) == ["sealed", "waiting"]

    at(tmp_path, story)


def test_a_successor_that_wrote_already_becomes_the_contact(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        for text in ("one", "two"):
            await alice.peer(bob).send(text)
        await bob.heard(2)
        await alice.messenger.settled()
        contact = bob.peer(alice)
        new = await here.person("alice the second").start()
        peer = await new.messenger.add(await bob.invite())
        await peer.send("three")
        await bob.heard(3)
        ledger, record = alice.messenger.ledger, alice.messenger.ledger.contacts[alice.peer(bob).id]
        statement = declare(
            ledger.correspondence.owner, new.messenger.ledger.correspondence.owner, here.clock.now
        )
        async with ledger.change() as change:
            conversation = ledger.correspondence.conversations[record.id]
            message = conversation.send_succession(statement, change.now, ledger.rng)
            token = record.held.take(change.now)
            change.contact(record)
        await deposit(here, token, token.seal(message, ledger.rng))
        await bob.until(lambda: bob.told(StandingChanged))
        successor = new.messenger.fingerprint
        assert bob.told(StandingChanged) == [StandingChanged(contact.id, Standing.CHANGED, successor, True)]
        before = bob.peer(new)
        with pytest.raises(E2EError):
            await contact.accept(alice.messenger.fingerprint)
        await contact.accept(successor)
        assert bob.told(ContactRemoved) == [ContactRemoved(before.id, into=contact.id)]
        assert [each.id for each in bob.messenger.contacts()] == [contact.id]
        assert (contact.fingerprint, contact.standing) == (successor, Standing.UNVERIFIED)
        assert contact.unread == 3
        assert [line.text for line in await contact.history()] == ["three", "two", "one"]
        await contact.send("to the second")
        assert await new.heard(1) == ["to the second"]
        await peer.send("four")
        assert (await bob.heard(4))[3] == "four"
        assert not any(before.id.hex() in name for name in bob.store.kept)
        assert not any(rows for name, rows in bob.store.lists.items() if before.id.hex() in name)
        await bob.kill()
        await bob.start()
        assert [line.text for line in await bob.peer(new).history()][:2] == ["four", "to the second"]

    at(tmp_path, story)


def test_an_identity_is_followed_by_another(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        await alice.peer(bob).send("from the first")
        await bob.heard(1)
        with pytest.raises(LocalProtocolError):
            await alice.messenger.become_successor()
        old, contact = alice.messenger.fingerprint, bob.peer(alice)
        assert await contact.compare(old.digits())
        assert (alice.messenger.successor, alice.messenger.untold()) == (None, [])
        new = await alice.messenger.announce_successor()
        assert alice.messenger.successor == new
        assert alice.messenger.untold() == [alice.peer(bob).id]
        await alice.peer(bob).send("the last one")
        await alice.messenger.settled()
        assert alice.messenger.untold() == []
        await bob.until(lambda: bob.told(StandingChanged)[-1:] == [
            StandingChanged(contact.id, Standing.CHANGED, new, True)
        ])  # fmt: skip
        assert await bob.heard(2) == ["from the first", "the last one"]
        await alice.kill()
        await alice.start()
        assert await alice.messenger.announce_successor() == new
        await alice.messenger.become_successor()
        assert alice.messenger.fingerprint == new != old
        assert (alice.messenger.successor, alice.messenger.untold()) == (None, [])
        await alice.peer(bob).send("from the second")
        await alice.messenger.settled()
        assert (await bob.heard(3))[2] == "from the second"  # as somebody new, with our own pass
        with pytest.raises(IdentityChangedError):
            await contact.send("who are you?")
        await contact.accept(new)
        assert [each.id for each in bob.messenger.contacts()] == [contact.id]
        await contact.send("welcome")
        assert await alice.heard(1) == ["welcome"]
        assert [line.text for line in await contact.history()] == [
            "welcome", "from the second", "the last one", "from the first",
        ]  # fmt: skip
        await alice.kill()
        await alice.start()
        assert alice.messenger.fingerprint == new
        await alice.peer(bob).send("once more")
        assert (await bob.heard(4))[3] == "once more"

    at(tmp_path, story)


def test_the_known_identity_can_be_kept(tmp_path):
    async def story(here):
        alice = await here.person("alice").start()
        invite = await alice.invite()
        _, before = await another_identity(here, alice)
        bob = await here.person("bob").start()
        peer = await bob.messenger.add(invite)
        await peer.send("for alice alone")
        await bob.until(lambda: peer.standing is Standing.CHANGED)
        correspondence = alice.messenger.ledger.correspondence
        correspondence.owner, correspondence.prekeys = before
        alice.messenger.ledger.profile.published = b""
        await alice.messenger.invite()
        await alice.messenger.settled()
        await peer.keep()
        assert await alice.heard(1) == ["for alice alone"]
        assert peer.standing is Standing.UNVERIFIED

    at(tmp_path, story)


def test_comparing_by_fingerprint_or_safety_number(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        assert alice.peer(bob).safety_number == bob.peer(alice).safety_number
        assert not await alice.peer(bob).compare(alice.messenger.fingerprint.digits())
        assert alice.peer(bob).standing is Standing.UNVERIFIED
        assert await alice.peer(bob).compare(bob.messenger.fingerprint.words())
        assert await bob.peer(alice).compare(alice.peer(bob).safety_number.digits())
        assert alice.peer(bob).standing is bob.peer(alice).standing is Standing.VERIFIED
        await bob.kill()
        await bob.start()
        assert bob.peer(alice).standing is Standing.VERIFIED

    at(tmp_path, story)


def test_a_stranger_with_a_contacts_pass_is_not_answered_until_welcome(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        carol = await here.person("carol").start()
        invite = await alice.invite()
        ledger = bob.messenger.ledger
        bobs = ledger.contacts[bob.peer(alice).id]
        peer = await carol.messenger.add(invite)
        carols = carol.messenger.ledger.contacts[peer.id]
        carols.held.passes[1:] = [replace_pass(each) for each in bobs.held.passes if each.left(0)]
        await peer.send("you do not know me")
        await alice.heard(1)
        stranger = alice.peer(carol)
        assert stranger.stranger
        assert alice.told(ContactAdded)[-1] == ContactAdded(stranger.id, stranger=True)
        await alice.messenger.settled()
        assert not carol.told(LineDelivered)
        await stranger.welcome()
        await carol.until(lambda: carol.told(LineDelivered) and peer.name == "alice")
        assert not stranger.stranger

    def replace_pass(held):
        return replace(held, next=held.given.count - 1)

    at(tmp_path, story)


def test_a_stranger_whom_the_person_invites_is_none(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        carol = await here.person("carol").start()
        peer = await carol.messenger.add(await alice.invite())
        bobs = bob.messenger.ledger.contacts[bob.peer(alice).id]
        carols = carol.messenger.ledger.contacts[peer.id]
        carols.held.passes[1:] = [
            replace(held, next=held.given.count - 1) for held in bobs.held.passes if held.left(0)
        ]
        await peer.send("you do not know me")
        await alice.heard(1)
        assert alice.peer(carol).stranger
        await carol.messenger.add(await alice.invite(label="for Carol"))
        await peer.send("now you do")
        await carol.until(lambda: len(carol.told(LineDelivered)) == 2)
        assert not alice.peer(carol).stranger
        assert [one.label for one in alice.messenger.invites()] == [""]  # the first, which nobody came by
        assert len(alice.messenger.contacts()) == 2

    at(tmp_path, story)


# ---- invites


def test_an_invite_serves_as_many_as_it_says(tmp_path):
    async def story(here):
        alice = await here.person("alice").start()
        invite = await alice.invite(persons=2, label="for the club")
        assert [(one.label, one.left, one.ready) for one in alice.messenger.invites()] == [
            ("for the club", 2, True)
        ]
        for name in ("bob", "carol"):
            person = await here.person(name).start()
            await person.messenger.add(invite)
            await person.until(lambda person=person: person.peer(alice).name)
        assert [event.left for event in alice.told(InviteUsed)] == [1, 0]
        assert alice.messenger.invites() == []
        for person in here.people[1:]:
            await person.peer(alice).send("thank you")
        await alice.heard(2)
        await alice.messenger.settled()
        assert not alice.messenger.ledger.invites  # both have passes of their own: it is gone
        dave = await here.person("dave").start()
        peer = await dave.messenger.add(invite)
        await peer.send("let me in")
        await dave.until(lambda: peer.trouble is Trouble.NO_PASS)
        assert len(alice.messenger.contacts()) == 2

    at(tmp_path, story)


def test_who_comes_late_by_a_spent_invite_is_nobody(tmp_path):
    """Its tokens are still good, for the one who came in time."""

    async def story(here):
        key = bytes(reversed(range(32)))
        other = await here.mailbox(key)
        await here.shut(key)
        alice = await here.person("alice").start()
        invite = await alice.invite()
        eve = await here.person("eve", other).start()
        peer = await eve.messenger.add(invite)
        number = await peer.send("me too")
        bob = await here.person("bob").start()
        await bob.messenger.add(invite)
        await bob.until(lambda: bob.peer(alice).name)
        await here.open(key)
        await eve.until(lambda: LineDeposited(peer.id, number) in eve.told(LineDeposited))
        await bob.peer(alice).send("hello")
        assert await alice.heard(1) == ["hello"]
        assert [contact.fingerprint for contact in alice.messenger.contacts()] == [bob.messenger.fingerprint]
        assert len(alice.told(ContactAdded)) == 1

    at(tmp_path, story)


def test_a_revoked_invite_is_worth_nothing(tmp_path):
    async def story(here):
        alice = await here.person("alice").start()
        invite = await alice.invite()
        await alice.messenger.revoke(invite.id)
        await alice.messenger.settled()
        assert alice.messenger.invites() == []
        bob = await here.person("bob").start()
        peer = await bob.messenger.add(invite)
        await bob.until(lambda: peer.trouble is Trouble.NO_PASS)
        assert alice.messenger.contacts() == []

    at(tmp_path, story)


def test_what_cannot_be_invited_or_added(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        invite = await alice.invite()
        with pytest.raises(LocalProtocolError):
            await alice.messenger.add(invite)
        for wrong in ({"persons": 0}, {"persons": 257}, {"days": 0}, {"days": 366}, {"label": "x" * 257}):
            with pytest.raises(LocalProtocolError):
                await alice.messenger.invite(**wrong)
        while len(alice.messenger.invites()) < MAX_INVITES:
            await alice.messenger.invite()
        with pytest.raises(LocalProtocolError):
            await alice.messenger.invite()
        here.clock.pass_days(15)
        with pytest.raises(InviteError, match="expired"):
            await bob.messenger.add(invite)
        with pytest.raises(StartError):
            await Messenger.create(alice.store, alice.wires, "again", link_of())

    at(tmp_path, story)


def test_adding_again_mends_what_ran_dry(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        contact = bob.peer(alice)
        bob.messenger.ledger.contacts[contact.id].held.passes.clear()
        await contact.send("stuck")
        await bob.until(lambda: contact.trouble is Trouble.NO_PASS)
        await bob.messenger.add(await alice.invite())
        assert await alice.heard(1) == ["stuck"]
        await bob.until(lambda: contact.trouble is Trouble.NONE)
        assert len(bob.messenger.contacts()) == len(alice.messenger.contacts()) == 1
        for number in range(2 * DEPOSITS):
            await contact.send(f"{number}")
            await bob.messenger.settled()
        assert len(await alice.heard(1 + 2 * DEPOSITS)) == 1 + 2 * DEPOSITS

    at(tmp_path, story)


# ---- parts of messages


def test_signals_and_presence_are_for_the_moment(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        await bob.peer(alice).signal(b"\0\1\2")
        await bob.peer(alice).tell_presence(Presence.HERE, 60)
        await alice.until(lambda: alice.told(SignalReceived) and alice.told(PresenceChanged))
        contact = alice.peer(bob).id
        assert alice.told(SignalReceived)[0].body == b"\0\1\2"
        now = here.clock.now
        (presence,) = alice.told(PresenceChanged)
        assert (presence.contact, presence.presence) == (contact, Presence.HERE)
        assert now + 59 <= presence.until <= now + 60
        await bob.peer(alice).tell_presence(Presence.AWAY)
        await alice.until(lambda: len(alice.told(PresenceChanged)) == 2)
        # Those that could not leave in time do not leave.
        bob.wires.down = True
        bob.wires.sever()
        await bob.peer(alice).signal(b"late")
        await bob.peer(alice).tell_presence(Presence.HERE, 60)
        here.clock.now += 3600
        await bob.peer(alice).send("later")
        bob.wires.down = False
        await alice.heard(1)
        assert len(alice.told(SignalReceived)) == 1
        assert len(alice.told(PresenceChanged)) == 2

    at(tmp_path, story)


def test_nobody_says_that_they_are_there_by_themselves(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        await bob.peer(alice).send("hello")
        await alice.heard(1)
        assert not alice.told(PresenceChanged)

    at(tmp_path, story)


def test_parts_that_we_do_not_know_do_no_harm(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        ledger, contact = bob.messenger.ledger, bob.peer(alice).id
        async with ledger.change() as change:
            for part in (serialize_part(Unknown(99, b"from the future")), serialize_part(Unknown(99, b""))):
                change.waiting(contact, ledger.outboxes[contact].add(0, part))
        await bob.peer(alice).send("and a line")
        assert await alice.heard(1) == ["and a line"]
        assert alice.told(UnknownReceived) == [UnknownReceived(alice.peer(bob).id)]
        # A whole message of another kind, of another version, and one that makes no sense
        conversation = ledger.correspondence.conversations[contact]
        record = ledger.contacts[contact]
        for body in (b"\2" + bytes(20), b"", b"\1" + bytes(8) + b"\2\0\0\1x"):
            async with ledger.change() as change:
                message = conversation.send(body, change.now, ledger.rng)
                token = record.held.take(change.now)
                change.contact(record)
            await deposit(here, token, token.seal(message, ledger.rng))
        await alice.until(lambda: len(alice.told(UnknownReceived)) == 4)
        await bob.peer(alice).send("still good")
        assert await alice.heard(2) == ["and a line", "still good"]

    at(tmp_path, story)


async def deposit(here, token, envelope):
    (service,) = here.services.values()
    async with await MailboxSender.connect(PipeDialer("somebody", service)) as sender:
        await sender.deposit(token, envelope)


def test_mail_that_is_none_is_taken_and_forgotten(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        ledger, contact = bob.messenger.ledger, bob.peer(alice).id
        record = ledger.contacts[contact]
        async with ledger.change() as change:
            tokens = [record.held.take(change.now) for _ in range(4)]
            change.contact(record)
            message = ledger.correspondence.conversations[contact].send(b"x", change.now, ledger.rng)
        await deposit(here, tokens[0], bytes(2048))
        await deposit(here, tokens[1], tokens[1].seal(b"no message", ledger.rng))
        await deposit(here, tokens[2], tokens[2].seal(message, ledger.rng))
        await deposit(here, tokens[3], tokens[3].seal(message, ledger.rng))  # a copy under another token
        await bob.peer(alice).send("a line")
        assert await alice.heard(1) == ["a line"]
        assert len(alice.told(UnknownReceived)) == 1
        await alice.messenger.settled()
        async with await alice.owner(here) as owner:
            assert owner.state.messages == 0

    at(tmp_path, story)


def test_receipts_can_be_kept_to_oneself(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        await alice.messenger.keep_read_to_myself()
        assert not alice.messenger.receipts
        number = await bob.peer(alice).send("hello")
        await alice.heard(1)
        await alice.peer(bob).mark_read(1 << 40)
        await alice.messenger.tell_read()
        await bob.until(lambda: bob.told(LineDelivered))
        await bob.peer(alice).send("again")
        await alice.heard(2)
        await alice.peer(bob).mark_read(1 << 40)
        await bob.until(lambda: bob.told(LineRead))
        assert number not in [event.number for event in bob.told(LineRead)]

    at(tmp_path, story)


def test_a_contact_cannot_send_us_into_our_own_network(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        ledger, contact = bob.messenger.ledger, bob.peer(alice).id
        known = alice.messenger.ledger.contacts[alice.peer(bob).id]
        hello = Hello("Robert", bytes(32), replace(link_of(), host="192.168.1.1"))
        async with ledger.change() as change:
            change.waiting(contact, ledger.outboxes[contact].add(0, serialize_part(hello)))
            change.wake(contact)
        await alice.until(lambda: alice.told(ContactChanged)[-1:] and known.said_name == "Robert")
        assert known.mailbox == bob.messenger.mailbox
        await alice.peer(bob).send("still there?")
        assert await bob.heard(1) == ["still there?"]
        alice.messenger.ledger.profile.mailbox = replace(alice.messenger.mailbox, host="192.168.1.2")
        async with ledger.change() as change:  # who lives there may be sent there
            change.waiting(contact, ledger.outboxes[contact].add(0, serialize_part(hello)))
            change.wake(contact)
        await alice.until(lambda: known.mailbox == hello.mailbox)

    at(tmp_path, story)


def test_no_hello_keeps_us_from_starting_again(tmp_path):
    """A link is kept as serialize() writes it, which was longer than any link that is read."""

    async def story(here):
        alice, bob = await here.met()
        ledger, contact = bob.messenger.ledger, bob.peer(alice).id
        pages = tuple("/" + "(" * 200 + str(number) for number in range(8))
        hello = Hello("Robert", bytes(32), replace(link_of(), pages=pages))
        body = hello.body().replace(b"%28", b"(")
        async with ledger.change() as change:
            payload = Payload(int(change.now * 1000), (Unknown(Hello.KIND, body),)).serialize()
            conversation, record = ledger.correspondence.conversations[contact], ledger.contacts[contact]
            message = conversation.send(payload, change.now, ledger.rng)
            token = record.held.take(change.now)
            change.contact(record)
        await deposit(here, token, token.seal(message, ledger.rng))
        await bob.peer(alice).send("are you there?")
        await alice.heard(1)
        await alice.stop()
        await alice.start()
        await alice.peer(bob).send("I am")
        assert await bob.heard(1) == ["I am"]

    at(tmp_path, story)


def test_names_change(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        await bob.messenger.rename("Robert")
        await alice.until(lambda: alice.peer(bob).name == "Robert")
        assert alice.told(ContactChanged)
        await alice.peer(bob).rename("my Bob")
        assert (alice.peer(bob).name, alice.peer(bob).said_name) == ("my Bob", "Robert")
        with pytest.raises(LocalProtocolError):
            await bob.messenger.rename("x" * 257)

    at(tmp_path, story)


# ---- the end


def test_a_removed_contact_is_gone_with_everything(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        for number in range(3):
            await bob.peer(alice).send(f"{number}")
            await alice.heard(number + 1)
        await alice.messenger.settled()
        contact = alice.peer(bob)
        await contact.remove()
        await alice.messenger.settled()
        assert alice.told(ContactRemoved) == [ContactRemoved(contact.id)]
        assert alice.messenger.contacts() == []
        with pytest.raises(KeyError):
            await contact.send("hello?")
        left = [name for name in alice.store.kept if contact.id.hex() in name]
        assert left == []
        assert not any(rows for name, rows in alice.store.lists.items() if contact.id.hex() in name)
        await bob.peer(alice).send("are you there?")
        await bob.until(lambda: bob.peer(alice).trouble is Trouble.NO_PASS)
        await alice.stop()
        await alice.start()
        assert alice.messenger.contacts() == []

    at(tmp_path, story)


def test_the_outbox_has_an_end(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        bob.wires.down = True
        bob.wires.sever()
        peer = bob.peer(alice)
        for _ in range(MAX_WAITING - 1):
            await peer.send("x")
        while not bob.messenger.ledger.outboxes[peer.id].full:  # a first message has been sealed
            await peer.send("x")
        with pytest.raises(OutboxFullError):
            await peer.send("x")
        assert len(bob.messenger.ledger.outboxes[peer.id].waiting) == MAX_WAITING

    at(tmp_path, story)


def test_a_store_that_holds_nothing_or_nonsense(tmp_path):
    async def story(here):
        alice, _ = await here.met()
        await alice.stop()
        with pytest.raises(StateError):
            await Messenger.open(type(alice.store)(), alice.wires)
        contact = next(name for name in alice.store.kept if name.startswith("messenger/contact"))
        for damage in (
            {contact: None},
            {contact: b"\1"},
            {"messenger/contact 00": alice.store.kept[contact]},
            {"messenger/invite 00": b""},
            {"e2e/identity": b""},
        ):
            store = alice.store.copy()
            store.write(damage)
            with pytest.raises(StateError):
                await Messenger.open(store, alice.wires)

    at(tmp_path, story)


def test_a_program_that_fails_at_an_event_stops_nothing(tmp_path):
    async def main():
        failed = []
        async with world(tmp_path) as here:
            alice, bob = await here.met()
            asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
            alice.messenger.on_event = lambda event: 1 / 0
            await bob.peer(alice).send("hello")
            await bob.until(lambda: bob.told(LineDelivered))
            assert failed
            assert all(isinstance(context["exception"], ZeroDivisionError) for context in failed)

    run(main)


def test_both_sides_export_the_same(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        one, other = alice.peer(bob), bob.peer(alice)
        assert one.session_id == other.session_id != b""
        turn = min(one.turn, other.turn)
        assert one.export(b"test", 32, turn) == other.export(b"test", 32, turn)
        carol = await here.person("carol").start()
        carol.wires.down = True
        carol.wires.sever()
        fresh = await carol.messenger.add(await alice.invite())
        assert (fresh.turn, fresh.session_id) == (None, b"")
        with pytest.raises(LocalProtocolError):
            fresh.export(b"test", 32)

    at(tmp_path, story)


def test_trouble_is_told_once_and_its_end(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        bob.wires.down = True
        bob.wires.sever()
        await bob.peer(alice).send("hello")
        await bob.until(lambda: bob.peer(alice).trouble is Trouble.MAILBOX_UNREACHABLE)
        await asyncio.sleep(0.02)
        bob.wires.down = False
        await alice.heard(1)
        await bob.until(lambda: bob.peer(alice).trouble is Trouble.NONE)
        troubles = [event.trouble for event in bob.told(DeliveryTroubled)]
        assert troubles == [Trouble.MAILBOX_UNREACHABLE, Trouble.NONE]

    at(tmp_path, story)


def test_a_mailbox_that_is_not_reached_uses_nothing_up(tmp_path):
    """An invite is good for four fetches: it is not worth less for every attempt without a network."""

    async def story(here):
        alice, bob = [await here.person(name).start() for name in ("alice", "bob")]
        invite = await alice.invite()
        bob.wires.down = True
        await bob.messenger.add(invite)
        errands, dialer = [], bob.wires.dialer

        def counted(link, purpose):
            errands.append(purpose.errand)
            return dialer(link, purpose)

        bob.wires.dialer = counted
        await bob.until(lambda: errands.count(Errand.DEPOSIT) > 6)
        await bob.stop()
        await bob.start()
        bob.wires.down = False
        await bob.peer_of(invite).send("at last")
        assert await alice.heard(1) == ["at last"]

    at(tmp_path, story)


def test_a_mailbox_that_talks_nonsense_ends_nothing(tmp_path, monkeypatch):
    """It does so while it is told something, which is when somebody waits for its answer."""

    async def story(here):
        alice = await here.person("alice").start()
        await alice.messenger.settled()
        plain, times = MailboxOwner.grant, []

        async def grant(owner, tokens):
            times.append(len(tokens))
            if len(times) == 1:
                owner._stream.data_received(b"\xff" * 64)
            await plain(owner, tokens)

        monkeypatch.setattr(MailboxOwner, "grant", grant)
        await alice.invite()  # at the second time, over another stream
        assert len(times) > 1

    at(tmp_path, story)


def test_a_day_passes_and_prekeys_rotate(tmp_path):
    async def story(here):
        alice, _ = await here.met()
        invite = await alice.invite(days=30)
        before = alice.messenger.ledger.profile.published
        here.clock.pass_days(8)
        await alice.stop()
        await alice.start()
        await alice.until(lambda: alice.messenger.ledger.profile.published not in (b"", before))
        carol = await here.person("carol").start()
        await carol.messenger.add(invite)
        await carol.peer(alice).send("hello")
        assert await alice.heard(1) == ["hello"]
        async with await alice.owner(here) as owner:
            assert owner.state.one_times >= 90

    at(tmp_path, story)
