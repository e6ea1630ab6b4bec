"""A mailbox that moves to another bridge: contacts, invites, mail on the way, kills, the old box's end."""

from __future__ import annotations

import asyncio
import os
import random

import pytest
from messenger_live import link_of, world
from peers_live import DAY, MAILBOX, run, until

from ptproxy.peers import messenger_moving
from ptproxy.peers.mailbox_answers import Refusal, RequestRefused
from ptproxy.peers.mailbox_client import MailboxOwner
from ptproxy.peers.mailbox_delivery import token_id_of
from ptproxy.peers.mailbox_stream import MailboxStream
from ptproxy.peers.messenger_events import ContactChanged, LineState
from ptproxy.peers.messenger_moving import MAX_FORMER
from ptproxy.peers.messenger_receiving import _hello
from ptproxy.peers.payload import Hello

NEW = bytes(range(32, 64))
"""The key of the bridge that is moved to."""
KILLS = int(os.environ.get("PTPROXY_MESSENGER_KILLS", "4"))


def at(tmp_path, story):
    async def main():
        async with world(tmp_path) as here:
            await here.mailbox(NEW)
            await story(here)

    run(main)


async def is_told(bob, alice, link):
    await bob.until(lambda: bob.messenger.ledger.contacts[bob.peer(alice).id].mailbox == link)


async def boxes(here, key):
    """How many boxes the mailbox of this key has."""
    box = here.mailboxes[key]
    service, _ = box.running[-1]
    found = asyncio.get_running_loop().create_future()
    service.thread.submit(
        lambda store: store._db.execute("SELECT count(*) FROM boxes").fetchone()[0], found.set_result
    )
    return await found


def test_contacts_follow_and_the_old_box_is_closed(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        assert await boxes(here, MAILBOX) == 2
        new = link_of(NEW, "new.example")
        await alice.messenger.move(new)
        assert (alice.messenger.mailbox, alice.messenger.former_mailboxes) == (new, [link_of()])
        await is_told(bob, alice, new)
        assert bob.told(ContactChanged)
        await bob.peer(alice).send("to the new one")
        assert await alice.heard(1) == ["to the new one"]
        await alice.peer(bob).send("from it")
        assert await bob.heard(1) == ["from it"]
        await alice.stop()
        await alice.start()  # a look at the old box: everybody has come over
        await alice.until(lambda: not alice.messenger.former_mailboxes)
        assert (await boxes(here, MAILBOX), await boxes(here, NEW)) == (1, 1)
        await bob.peer(alice).send("and on")
        assert await alice.heard(2) == ["to the new one", "and on"]

    at(tmp_path, story)


def test_the_two_bridges_have_nothing_in_common(tmp_path):
    """Neither box key nor token: two operators who compare see no identity, but for address and time."""

    async def story(here):
        alice, bob = await here.met()
        invite = await alice.invite(persons=3)
        await alice.messenger.move(link_of(NEW, "new.example"))
        await is_told(bob, alice, link_of(NEW, "new.example"))
        await alice.messenger.revoke(invite.id)
        assert not alice.messenger.ledger.profile.revoked  # else the new bridge were told its tokens
        await alice.messenger.settled()
        seen = []
        for key in (MAILBOX, NEW):
            service, _ = here.mailboxes[key].running[-1]
            found = asyncio.get_running_loop().create_future()
            service.thread.submit(
                lambda store: {
                    row[0]
                    for table, column in (("boxes", "key"), ("tokens", "id"))
                    for row in store._db.execute(f"SELECT {column} FROM {table}")
                },
                found.set_result,
            )
            seen.append(await found)
        assert all(seen)
        assert not seen[0] & seen[1]
        keys = {(link, purpose.key) for (link, _), purpose in alice.wires.purposes.items()}
        assert len({key for _, key in keys}) == len(keys)

    at(tmp_path, story)


def test_the_old_bridge_is_gone_for_ever(tmp_path):
    """That is why one moves; what Bob had written meanwhile comes to the new one."""

    async def story(here):
        alice, bob = await here.met()
        await here.mailbox(bytes(32))
        await bob.messenger.move(link_of(bytes(32), "bobs.example"))
        await is_told(alice, bob, link_of(bytes(32), "bobs.example"))
        await asyncio.gather(alice.messenger.settled(), bob.messenger.settled())
        await here.shut()
        for number in range(3):
            await bob.peer(alice).send(f"line {number}")
        await alice.messenger.move(link_of(NEW, "new.example"))
        assert await alice.heard(3) == ["line 0", "line 1", "line 2"]
        assert alice.messenger.former_mailboxes  # it may come back
        here.clock.pass_days(400)
        await alice.until(lambda: not alice.messenger.former_mailboxes)

    at(tmp_path, story)


def test_the_old_bridge_is_tried_again_for_as_long_as_it_is_gone(tmp_path, monkeypatch):
    """When the pause between attempts has grown to that between looks, too."""
    for name in ("AGAIN", "SELDOM", "UPKEEP"):
        monkeypatch.setattr(messenger_moving, name, 20.0)
    tried = []
    connect = MailboxOwner.connect.__func__

    async def connecting(cls, dialer, mailbox, key, *rest):
        if mailbox == MAILBOX:
            tried.append(key)
        return await connect(cls, dialer, mailbox, key, *rest)

    async def story(here):
        alice = await here.person("alice").start()
        await alice.invite()  # somebody may still come by it
        await here.shut()
        monkeypatch.setattr(MailboxOwner, "connect", classmethod(connecting))
        await alice.messenger.move(link_of(NEW, "new.example"))
        await alice.until(lambda: len(tried) > 4)

    at(tmp_path, story)


@pytest.mark.parametrize("silent", ["connect", "grant"])
def test_a_bridge_that_has_fallen_silent_does_not_keep_us(tmp_path, monkeypatch, silent):
    """Two minutes for an answer are too long for somebody who wants to leave."""

    async def story(here):
        alice, bob = await here.met()
        held = asyncio.Event()
        connect, grant = MailboxOwner.connect.__func__, MailboxOwner.grant

        async def connecting(cls, dialer, mailbox, key, *rest):
            if mailbox == MAILBOX and silent == "connect":
                held.set()
                await asyncio.Event().wait()
            return await connect(cls, dialer, mailbox, key, *rest)

        async def granting(owner, tokens):
            if not held.is_set() and silent == "grant":
                held.set()
                await until(lambda: owner._stream.error)
                raise owner._stream.error
            await grant(owner, tokens)

        await alice.stop()
        monkeypatch.setattr(MailboxOwner, "connect", classmethod(connecting))
        monkeypatch.setattr(MailboxOwner, "grant", granting)
        await alice.start()
        if silent == "grant":
            await alice.messenger.invite()
        await held.wait()
        await alice.messenger.move(link_of(NEW, "new.example"))
        await is_told(bob, alice, link_of(NEW, "new.example"))
        await bob.peer(alice).send("found you")
        assert await alice.heard(1) == ["found you"]

    at(tmp_path, story)


def test_what_comes_to_the_old_box_is_read(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        await alice.stop()
        for number in range(3):
            await bob.peer(alice).send(f"line {number}")
        await bob.peer(alice).settled()
        bob.wires.down = True
        bob.wires.sever()
        await bob.peer(alice).send("sealed for the old box")
        await bob.until(lambda: bob.messenger.ledger.outboxes[bob.peer(alice).id].sealed)
        await bob.stop()
        await alice.start()
        await alice.messenger.move(link_of(NEW, "new.example"))
        assert await alice.heard(3) == ["line 0", "line 1", "line 2"]
        bob.wires.down = False
        await bob.start()
        assert (await alice.heard(4))[3] == "sealed for the old box"
        lines = await bob.peer(alice).history()
        await bob.until(lambda: not bob.messenger.ledger.outboxes[bob.peer(alice).id].sealed)
        assert {line.state >= LineState.WAITING for line in lines} == {True}

    at(tmp_path, story)


def test_an_old_bridge_without_room_for_a_bundle_hands_out_what_it_has(tmp_path, monkeypatch):
    async def publish(owner, *_):
        raise RequestRefused(Refusal.BOX_FULL)

    async def story(here):
        alice, bob = await here.met()
        await alice.stop()
        await bob.peer(alice).send("waits there")
        await bob.peer(alice).settled()
        alice.wires.down = True
        await alice.start()
        monkeypatch.setattr(MailboxOwner, "publish", publish)
        async with alice.messenger.ledger.change() as change:
            alice.messenger.ledger.profile.published = b""  # so that there is something to publish
            change.profile()
        await alice.messenger.move(link_of(NEW, "new.example"))
        alice.wires.down = False
        assert await alice.heard(1) == ["waits there"]

    at(tmp_path, story)


@pytest.mark.parametrize("told_by", ["a hello", "an invite"])
def test_no_token_of_the_old_box_is_shown_to_the_new_bridge(tmp_path, monkeypatch, told_by):
    """Its operator could ask the old one whose that is: what was sealed goes under a new one at once."""
    shown = []
    deposit = MailboxStream._deposit

    def depositing(stream, request):
        shown.append((stream._service, token_id_of(request.token)))
        deposit(stream, request)

    async def story(here):
        alice, bob = await here.met()
        await here.mailbox(bytes(32))
        await bob.messenger.move(link_of(bytes(32), "bobs.example"))
        await is_told(alice, bob, link_of(bytes(32), "bobs.example"))
        await asyncio.gather(alice.messenger.settled(), bob.messenger.settled())
        old = set(alice.messenger.ledger.tokens)
        await here.shut()
        await bob.peer(alice).send("sealed for the old box")
        await bob.until(lambda: bob.messenger.ledger.outboxes[bob.peer(alice).id].sealed)
        monkeypatch.setattr(MailboxStream, "_deposit", depositing)
        if told_by == "an invite":
            await here.shut(bytes(32))
        await alice.messenger.move(link_of(NEW, "new.example"))
        if told_by == "an invite":
            await bob.messenger.add(await alice.invite())
        assert await alice.heard(1) == ["sealed for the old box"]
        assert not {token for service, token in shown if service is here.services[NEW]} & old

    at(tmp_path, story)


def test_an_old_invite_is_used_at_the_old_bridge(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        invite = await alice.invite(persons=2, days=60)
        await alice.messenger.move(link_of(NEW, "new.example"))
        await is_told(bob, alice, link_of(NEW, "new.example"))
        here.clock.pass_days(45)  # the bundle of that time is good no longer
        await alice.stop()
        await alice.start()
        await alice.messenger.settled()
        carol = await here.person("carol").start()
        await carol.messenger.add(invite)
        await carol.peer_of(invite).send("hello")
        assert await alice.heard(1) == ["hello"]
        await is_told(carol, alice, link_of(NEW, "new.example"))
        assert link_of() in alice.messenger.former_mailboxes  # one more may come

    at(tmp_path, story)


def test_there_and_back_again_and_round_and_round(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        await alice.messenger.move(link_of(NEW, "new.example"))
        await is_told(bob, alice, link_of(NEW, "new.example"))
        await alice.messenger.move(link_of())
        await is_told(bob, alice, link_of())
        assert alice.messenger.former_mailboxes in ([link_of(NEW, "new.example")], [])
        await bob.peer(alice).send("home again")
        assert await alice.heard(1) == ["home again"]
        same = link_of(MAILBOX, "other-name.example")
        await alice.messenger.move(same)  # the same bridge under another name: the same box
        await is_told(bob, alice, same)
        await bob.peer(alice).send("the same")
        assert (await alice.heard(2))[1] == "the same"
        for number in range(2 * MAX_FORMER):  # none of these is there
            await alice.messenger.move(link_of(bytes([number + 100]) * 32, f"b{number}.example"))
        assert same in alice.messenger.former_mailboxes
        assert len(alice.messenger.former_mailboxes) <= 2
        await alice.messenger.move(link_of(NEW, "new.example"))
        await bob.peer(alice).send("after all that")
        assert (await alice.heard(3))[2] == "after all that"

    at(tmp_path, story)


@pytest.mark.parametrize("seed", range(KILLS))
def test_killed_at_any_write_of_a_move(tmp_path, seed):
    async def story(here):
        rng = random.Random(f"moving {seed}")
        alice, bob = await here.met()
        new, written = link_of(NEW, "new.example"), 0
        alice.store.fail_at = alice.store.writes + rng.randrange(1, 25)
        while True:
            try:
                if alice.messenger.mailbox != new:
                    await alice.messenger.move(new)
                await bob.peer(alice).send(f"line {written}")
                written += 1
                for _ in range(200):
                    await asyncio.sleep(0.0005)
                    if alice.is_gone:
                        raise OSError
                break
            except OSError:
                await alice.recover()
        await is_told(bob, alice, new)
        await bob.peer(alice).send("the last")
        await alice.until(lambda: "the last" in alice.lines())
        texts = [line.text for line in reversed(await alice.peer(bob).history())]
        assert texts == [*(f"line {number}" for number in range(written)), "the last"]

    at(tmp_path, story)


def test_a_hello_of_another_mailbox_ends_the_passes_for_the_old_one(tmp_path):
    """They open nothing at the new one: whoever kept them would first try each of them there."""

    async def story(here):
        alice, bob = await here.met()
        ledger = bob.messenger.ledger
        record = ledger.contacts[bob.peer(alice).id]
        async with ledger.change() as change:
            held = list(record.held.passes)
            assert held
            same = Hello("alice", record.prekeys_key, link_of(MAILBOX, "other-name.example"))
            _hello(ledger, change, record, same, change.now)
            assert record.held.passes == held  # the same mailbox under another name
            moved = Hello("alice", record.prekeys_key, link_of(NEW, "new.example"))
            _hello(ledger, change, record, moved, change.now)
            assert not record.held.passes

    at(tmp_path, story)


def test_an_older_hello_that_comes_late_changes_nothing(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        record = bob.messenger.ledger.contacts[bob.peer(alice).id]
        old = Hello("alice", record.prekeys_key, record.mailbox)
        await alice.messenger.move(link_of(NEW, "new.example"))
        await is_told(bob, alice, link_of(NEW, "new.example"))
        ledger = bob.messenger.ledger
        async with ledger.change() as change:
            _hello(ledger, change, record, old, record.told / 1000 - 1)
            assert record.mailbox == link_of(NEW, "new.example")
            record.told = round((change.now + 10 * DAY) * 1000)  # its clock was wrong once
            _hello(ledger, change, record, Hello("later", old.prekeys_key, record.mailbox), change.now)
        assert record.said_name == "later"

    at(tmp_path, story)
