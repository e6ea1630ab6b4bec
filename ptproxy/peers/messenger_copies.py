"""Another copy of this state, or an older one: what the note at our mailbox says of it, and how one goes on.

All copies of an identity come to one mailbox. Each leaves a note there that says, sealed, how far it has come
(``STORE.md``, "Old states and copies"); each looks first at what was left last. So a whole disk that was set
back, or a machine that was cloned, is noticed where nothing beside the database could tell. Nothing goes to a
contact before the first look, unless our mailbox is out of reach.

The mailbox learns nothing by it but that its owner is there: a note is left while we speak to it anyhow.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ptproxy.errors import DialError, StateError
from ptproxy.log import get_logger
from ptproxy.peers.mailbox_answers import RequestRefused
from ptproxy.peers.mailbox_client import MailboxOwner
from ptproxy.peers.messenger_ledger import Change, Ledger
from ptproxy.peers.store_doubt import StoreDoubtError

EVERY: Final = 60.0
"""Seconds between two notes, while things change: what a state may be set back by without being noticed."""
DEAF: Final = 2
"""Streams that end at our question, one after another, until we ask no more: it may know no notes."""

log = get_logger(__name__)


class Notes:
    """Our note at one mailbox."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._unanswered = 0
        self._left_at = float("-inf")
        self._left_change = -1

    async def compare(self, owner: MailboxOwner) -> None:
        """Look at the note that is there, then leave ours.

        :class:`~ptproxy.peers.store.StoreRolledBackError`, :class:`~ptproxy.peers.store.StoreClonedError`:
        another copy has been there, and the person has not said to go on all the same.
        """
        if self._unanswered >= DEAF:
            return
        try:
            note = await owner.recall()
            self._unanswered = 0
            if note:
                async with self._ledger.change() as change:
                    self._compared(change, note)
            await self._leave(owner)
        except DialError:
            self._unanswered += 1
            raise
        except RequestRefused as refused:  # what waits for us is worth more
            log.warning("the mailbox keeps no note of ours", why=str(refused))

    def _compared(self, change: Change, note: bytes) -> None:
        ledger = self._ledger
        if ledger.profile.note_void:
            return
        try:
            ledger.store.check_clone(note)
        except StoreDoubtError as error:
            if error.doubt not in ledger.store.accepted:
                raise
            start_anew(ledger, change)
        except StateError:
            log.warning("the mailbox has a note that is not ours: ours takes its place")

    async def follow(self, owner: MailboxOwner) -> None:
        """Leave a note again, where something has changed and the last one is old enough."""
        due = self._left_at + EVERY <= asyncio.get_running_loop().time()
        if due and self._unanswered < DEAF and self._ledger.changes != self._left_change:
            await self._leave(owner)

    async def _leave(self, owner: MailboxOwner) -> None:
        ledger = self._ledger
        async with ledger.change():
            note, changes = ledger.store.note(), ledger.changes
        await owner.keep(note)
        self._left_at, self._left_change = asyncio.get_running_loop().time(), changes
        if ledger.profile.note_void:
            async with ledger.change() as change:
                ledger.profile.note_void = False
                change.profile()


def start_anew(ledger: Ledger, change: Change) -> None:
    """A state that was put back, or copied, goes on: new prekeys, sessions, and passes for every contact.

    What came or was given since that state is forgotten: mail under passes of that time cannot be opened.
    The note at the mailbox is of that time, too.
    """
    ledger.correspondence.start_anew(change.now, ledger.rng)
    ledger.profile.note_void = True
    change.profile()
    change.want_box()
    for record in ledger.contacts.values():
        if not record.stranger:
            record.owes_hello = record.pass_due = record.wishes = True
            change.contact(record)
            change.wake(record.id)
