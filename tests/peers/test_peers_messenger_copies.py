"""Copies of a messenger's state that no file beside them tells of: the note at the mailbox does."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

import pytest
from messenger_live import Person, link_of, world
from peers_live import run
from store_folder import FILES, KEY, copy

from ptproxy.errors import DialError, Reason
from ptproxy.peers import messenger, messenger_copies
from ptproxy.peers.mailbox_client import MailboxOwner
from ptproxy.peers.mailbox_store import MailboxStore
from ptproxy.peers.messenger_events import LineState
from ptproxy.peers.store import Doubt, PeerStore, StoreClonedError, StoreRolledBackError
from ptproxy.state import StateFolder


class Stored(Person):
    """Somebody whose state is in a folder."""

    def __init__(self, world, name, folder, link) -> None:
        super().__init__(world, name, link)
        self.folder = folder
        self.files = contextlib.ExitStack()
        world.people.append(self)

    async def start(self, *accepted):
        state = self.files.enter_context(StateFolder(self.folder))
        there = (self.folder / "peer.sqlite3").exists()
        opening = PeerStore.open(state, KEY, accepted) if there else PeerStore.create(state, KEY)
        self.store = self.files.enter_context(opening)
        return await super().start()

    async def stop(self):
        await super().stop()
        self.files.close()

    async def ended(self):
        """Wait for the program to end by itself, and raise what ended it."""
        try:
            await self.task
        finally:
            self.task = None
            self.files.close()


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """A note is left at every chance; and nothing on the disk tells one copy from another."""
    monkeypatch.setattr(messenger_copies, "EVERY", 0.0)
    monkeypatch.setattr(StateFolder, "file_number", lambda *_: 0)


def stories(tmp_path, story):
    """Alice, on disk, and Bob have met."""

    async def main():
        async with world(tmp_path) as here:
            link = (await here.person("bob").start()).link
            alice, bob = await Stored(here, "alice", tmp_path / "alice", link).start(), here.people[0]
            await bob.messenger.add(await alice.invite())
            await bob.until(lambda: bob.peer(alice) and bob.peer(alice).name)
            await alice.until(lambda: alice.peer(bob))
            await asyncio.gather(alice.messenger.settled(), bob.messenger.settled())
            await story(here, alice, bob)

    run(main)


async def exchange(alice, bob, text):
    """Alice writes a line, and has word that Bob has it."""
    number = await alice.peer(bob).send(text)

    async def is_delivered():
        while (await alice.peer(bob).history(number + 1, 1))[0].state < LineState.DELIVERED:
            await alice.messenger.ledger.next_change()

    await is_delivered()
    return number


async def exchange_and_note(alice, bob, text):
    """... and the mailbox has Alice's note of a time after that."""
    before = alice.messenger.ledger.changes
    await exchange(alice, bob, text)
    await alice.until(lambda: alice.messenger._box._notes._left_change > before)


def test_one_copy_starts_again_and_again(tmp_path):
    async def story(here, alice, bob):
        for number in range(4):
            await alice.stop()
            await alice.start()
            await exchange(alice, bob, f"line {number}")
        assert bob.lines() == [f"line {number}" for number in range(4)]

    stories(tmp_path, story)


def test_a_disk_that_was_set_back_is_noticed_before_anything_leaves(tmp_path):
    async def story(here, alice, bob):
        await exchange(alice, bob, "before")
        await alice.stop()
        copy(alice.folder, tmp_path / "snapshot")
        await alice.start()
        await exchange_and_note(alice, bob, "forgotten")
        await alice.stop()
        copy(tmp_path / "snapshot", alice.folder)
        await alice.start()
        with contextlib.suppress(StoreClonedError):  # a run that the old state knows nothing of
            await alice.peer(bob).send("with keys that were used")
        with pytest.raises(StoreClonedError):
            await alice.ended()
        assert bob.lines() == ["before", "forgotten"]
        # the person goes on all the same: with new keys, so that it is read
        await alice.start(Doubt.CLONED)
        await bob.heard(3)
        await exchange(alice, bob, "and on")
        assert bob.lines()[2:] == ["with keys that were used", "and on"]
        await alice.stop()
        await alice.start()  # and is not asked again
        await exchange(alice, bob, "as ever")

    stories(tmp_path, story)


def test_a_snapshot_of_a_running_program_that_was_put_back(tmp_path):
    async def story(here, alice, bob):
        await exchange(alice, bob, "before")
        snapshot = tmp_path / "snapshot"
        async with alice.messenger.ledger.change():
            copy(alice.folder, snapshot)
        await exchange_and_note(alice, bob, "forgotten")
        await alice.stop()
        copy(snapshot, alice.folder)
        await alice.start()
        with pytest.raises(StoreRolledBackError):
            await alice.ended()

    stories(tmp_path, story)


def test_who_was_asked_by_the_files_is_not_asked_again_by_the_mailbox(tmp_path):
    """The database alone was put back, to a run that knows nothing of the one whose note is there."""

    async def story(here, alice, bob):
        await alice.stop()
        copy(alice.folder, tmp_path / "backup", FILES[:2])
        await alice.start()
        await exchange_and_note(alice, bob, "forgotten")
        await alice.stop()
        copy(tmp_path / "backup", alice.folder, FILES[:2])
        alice.was_put_back = True
        await alice.start(Doubt.ROLLED_BACK)
        await alice.peer(bob).send("and on")
        await bob.heard(2)
        assert bob.lines() == ["forgotten", "and on"]

    stories(tmp_path, story)


def test_of_two_copies_the_second_to_come_is_told(tmp_path):
    async def story(here, alice, bob):
        await alice.stop()
        twin = Stored(here, "alice", tmp_path / "twin", alice.link)
        copy(alice.folder, twin.folder)
        await twin.start()
        await exchange_and_note(twin, bob, "I am the copy")
        await twin.stop()
        await alice.start()
        with pytest.raises(StoreClonedError):
            await alice.ended()

    stories(tmp_path, story)


def test_a_note_that_nobody_can_read_is_replaced(tmp_path):
    """A mailbox that alters the note, or keeps none, takes the warning away and nothing else."""

    async def story(here, alice, bob):
        await alice.stop()
        owner = await alice.owner(here)
        await owner.keep(b"nonsense")
        owner.close()
        await alice.start()
        await exchange(alice, bob, "hello")
        await alice.stop()
        owner = await alice.owner(here)
        assert len(await owner.recall()) == 52
        owner.close()

    stories(tmp_path, story)


def test_a_mailbox_of_before_there_were_notes_serves_as_ever(tmp_path, monkeypatch):
    asked = []

    async def recall(owner):
        asked.append(owner)
        owner.close()
        raise DialError(Reason.CONNECTION_LOST)

    async def story(here, alice, bob):
        await alice.stop()
        monkeypatch.setattr(MailboxOwner, "recall", recall)
        await alice.start()
        await exchange(alice, bob, "hello")
        assert len(asked) == messenger_copies.DEAF

    stories(tmp_path, story)


def test_a_mailbox_without_notes_is_left_for_one_that_keeps_them(tmp_path, monkeypatch):
    """What the one does not know the other is asked all the same."""
    new, recall = bytes(range(32, 64)), MailboxOwner.recall
    asked = []

    async def unknown(owner):
        asked.append(owner)
        owner.close()
        raise DialError(Reason.CONNECTION_LOST)

    async def story(here, alice, bob):
        await here.mailbox(new)
        await alice.stop()
        monkeypatch.setattr(MailboxOwner, "recall", unknown)
        await alice.start()
        await exchange(alice, bob, "hello")
        assert len(asked) == messenger_copies.DEAF
        monkeypatch.setattr(MailboxOwner, "recall", recall)
        await alice.messenger.move(link_of(new, "new.example"))
        await exchange(alice, bob, "from there")
        await alice.messenger.settled()
        owner = await alice.owner(here)
        assert len(await owner.recall()) == 52
        owner.close()

    stories(tmp_path, story)


def test_a_tunnel_that_is_not_up_yet_lets_nothing_leave_unasked(tmp_path, monkeypatch):
    """A program is mostly started before its tunnel: what waits may leave as soon as that is up, or later."""
    asked = []
    connect = MailboxOwner.connect.__func__

    async def connecting(cls, *args):
        asked.append(messengers[-1]._box.asked.is_set())
        if len(asked) < 4:
            raise DialError(Reason.TUNNEL_DOWN)
        return await connect(cls, *args)

    async def story(here, alice, bob):
        await alice.stop()
        monkeypatch.setattr(MailboxOwner, "connect", classmethod(connecting))
        await bob.stop()  # whose own box is not what this is about
        await alice.start()
        messengers.append(alice.messenger)
        await alice.until(lambda: alice.messenger._box.asked.is_set())
        assert asked == [False] * 4

    messengers = []
    stories(tmp_path, story)


def test_a_mailbox_that_does_not_say_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr(messenger, "FIRST_LOOK", 0.01)

    async def recall(owner):
        await asyncio.Event().wait()

    async def story(here, alice, bob):
        await alice.stop()
        monkeypatch.setattr(MailboxOwner, "recall", recall)
        await alice.start()
        await alice.peer(bob).send("hello")
        assert await bob.heard(1) == ["hello"]

    stories(tmp_path, story)


@pytest.mark.parametrize("refused", ["recall", "keep"])
def test_a_mailbox_that_keeps_no_notes_for_want_of_room_serves_as_ever(tmp_path, monkeypatch, refused):
    def full(store, *_):
        raise sqlite3.OperationalError("database or disk is full")

    async def story(here, alice, bob):
        await alice.stop()
        monkeypatch.setattr(MailboxStore, refused, full)
        await bob.peer(alice).send("waits")
        await bob.peer(alice).settled()
        await alice.start()
        assert await alice.heard(1) == ["waits"]
        await exchange(alice, bob, "hello")

    stories(tmp_path, story)
