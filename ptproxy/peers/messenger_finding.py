"""Finding each other again when a mailbox is gone, by records in the directory (``find_person``).

For each contact that the person chose, prekey bundle and mailbox are published under a secret of its own,
through the bridges of our own mailbox and of invites that were taken. A contact whose mailbox is not reached,
or takes nothing from us any more, is looked for there; what is found is believed for the key that it told us
in the conversation, and its mailbox is taken as if a hello had named it. So two can meet again when both
have moved and both old bridges are gone.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from ptproxy.config.link import Link
from ptproxy.dht.diversity import Diversity
from ptproxy.dht.person_record import MailboxPointer
from ptproxy.dht.signing import SigningKey
from ptproxy.e2e import Standing, verify
from ptproxy.errors import DhtError, E2EError, LocalProtocolError, PtproxyError, StateError
from ptproxy.log import get_logger
from ptproxy.peers.dialers import Dialers, Errand
from ptproxy.peers.find_directory import Directory
from ptproxy.peers.find_person import PersonRecords, find_bundle, find_mailbox, publish_person
from ptproxy.peers.find_tunnels import name_of
from ptproxy.peers.local_hosts import is_local
from ptproxy.peers.mailbox_delivery import DeliveryPass, PassError
from ptproxy.peers.mailbox_requests import Right
from ptproxy.peers.messenger_contact import ContactRecord
from ptproxy.peers.messenger_events import ContactChanged, ContactId
from ptproxy.peers.messenger_ledger import Change, Ledger
from ptproxy.peers.messenger_passes import HeldPasses, PassState
from ptproxy.peers.messenger_sending import seal_elsewhere

SOON: Final = (20.0, 60.0)
"""Seconds after the start until anything is published: the mailbox comes first."""
LOOK: Final = 300.0
"""Seconds between looks whether something is due: records have their moments in slots of six hours."""
AGAIN: Final = 60.0
"""Seconds until what did not get out is tried again, doubled up to :data:`AGAIN_MOST`."""
AGAIN_MOST: Final = 3_600.0
SEARCH_AGAIN: Final = 3_600.0
"""Seconds between two searches for one contact, whose records change every six hours or when it moves ..."""
SEARCH_AGAIN_MOST: Final = 43_200.0
"""... doubled up to this while nothing new is found: who is never there must not have us search for ever."""
MOST_BRIDGES: Final = 3
"""Bridges over which a lookup goes."""
MOST_PASSES: Final = 2
"""Passes to deposit that a record has, the newest: 64 messages."""

_PASS: Final = 45

log = get_logger(__name__)


class Finding:
    """Publishes for contacts and searches for them, while the messenger runs."""

    def __init__(self, ledger: Ledger, dialers: Dialers, *, pace: float = 1.0) -> None:
        """``pace`` multiplies every wait (tests)."""
        self.diversity: Diversity | None = None
        """How many nodes of one network are asked; None: what is right outside of tests."""
        self._ledger = ledger
        self._dialers = dialers
        self._pace = pace
        self._wanted = asyncio.Event()
        self._lost: dict[ContactId, None] = {}
        self._searched: dict[ContactId, tuple[float, float]] = {}
        """When last, and how long until the next time."""
        self._mine: dict[ContactId, PersonRecords] = {}

    def look(self) -> None:
        """There is something to publish, or no longer."""
        self._wanted.set()

    def lost(self, contact: ContactId) -> None:
        """A contact's mailbox is gone, as far as we see: search for it, if there is a way and not lately."""
        known = self._ledger.records.contacts.get(contact)
        if known is None or known.found_by is None:
            return
        now = asyncio.get_running_loop().time()
        when, pause = self._searched.get(contact, (float("-inf"), SEARCH_AGAIN / 2))
        if now - when >= pause * self._pace:
            self._searched[contact] = now, min(2 * pause, SEARCH_AGAIN_MOST)
            self._lost[contact] = None
            self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        pause, failures = random.uniform(*SOON), 0
        while True:
            await self._wait(pause * self._pace)
            self._wanted.clear()
            try:
                good = await self._step()
            except PtproxyError as error:
                log.info("the directory is not reached", why=str(error))
                good = False
            failures = 0 if good else failures + 1
            pause = LOOK if good else min(AGAIN * 2.0 ** min(failures - 1, 16), AGAIN_MOST)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        except TimeoutError:
            pass

    async def _step(self) -> bool:
        """Search and publish what there is; whether all of it is done."""
        if not self._publishes() and not self._lost:
            self._mine = {}
            return True
        async with self._ledger.change():  # the bundle may be a new one, which is kept
            self._gather()
        now = self._ledger.clock()
        due = [contact for contact, mine in self._mine.items() if mine.deadline(now) <= now]
        if not due and not self._lost:
            return True
        directory = self._directory()
        try:
            left = 0
            for contact in list(self._lost):
                await directory.reach()
                del self._lost[contact]
                try:
                    await self._search(directory, contact)
                except DhtError as error:  # signed by the contact, and nothing that a program can read
                    log.info("what a contact says in the directory is not used", why=str(error))
            for contact in due:
                left += await self._publish(directory, contact)
        finally:
            await directory.close()
            await self._keep()
        return not left

    def _directory(self) -> Directory:
        """The directory, through our mailbox's bridge and those of invites that the person took."""
        links = [self._ledger.profile.mailbox]
        for each in self._ledger.passed_on.entries:
            links += each.invite.bridges if each.taken else ()
        ways: dict[str, Link] = {}
        for link in links:
            ways.setdefault(name_of(link), link)
        profile = self._ledger.profile
        dialers = {
            name: self._dialers.dialer(link, profile.purpose(Errand.DIRECTORY, link))
            for name, link in list(ways.items())[:MOST_BRIDGES]
        }
        network, clock = self._ledger.records.network, self._ledger.clock
        return Directory(dialers, network, self._ledger.rng, diversity=self.diversity, clock=clock)

    async def _keep(self) -> None:
        """How far our records are, and what was learned of the network."""
        async with self._ledger.change() as change:
            for contact, mine in self._mine.items():
                known = self._ledger.records.contacts.get(contact)
                if known is not None and known.ours:
                    known.progress = mine.progress()
            change.records()

    # ---- ours ---------------------------------------------------------------------------------------

    def _gather(self) -> None:
        """What is to be said for whom, as things are now."""
        records, contacts = self._ledger.records, self._ledger.contacts
        bundle = self._ledger.correspondence.bundle() if any(self._publishes()) else b""
        kept = {}
        for contact in self._publishes():
            known = records.contacts[contact]
            mine = self._mine.get(contact)
            secret = known.secret
            assert secret is not None
            fresh = mine is None or mine.secret != secret
            mine = PersonRecords(secret) if mine is None or fresh else mine
            mine.bundle(bundle)
            passes = _passes_of(contacts[contact])
            try:
                if passes:  # else our box does not know any yet: a place without them is of no use
                    mine.mailbox(self._ledger.profile.mailbox, passes)
            except LocalProtocolError as error:  # a mailbox's link of almost two thousand characters
                log.info("our mailbox does not fit a record", why=str(error))
            if fresh:
                try:
                    mine.resume(known.progress)
                except StateError:
                    log.debug("how far a record is was not kept")  # nodes say what they hold
            kept[contact] = mine
        self._mine = kept

    def _publishes(self) -> list[ContactId]:
        return [
            contact
            for contact, known in self._ledger.records.contacts.items()
            if known.ours and contact in self._ledger.contacts
        ]

    async def _publish(self, directory: Directory, contact: ContactId) -> int:
        signer = SigningKey(self._ledger.records.seed)
        now, rng = self._ledger.clock(), self._ledger.rng
        return await publish_person(directory, self._mine[contact], signer, rng, now, _nothing)

    # ---- theirs -------------------------------------------------------------------------------------

    async def _search(self, directory: Directory, contact: ContactId) -> None:
        known = self._ledger.records.contacts.get(contact)
        found_by = None if known is None else known.found_by
        if found_by is None:
            return
        secret, key = found_by
        pointer = await find_mailbox(directory, secret, key)
        bundle = b"" if pointer is None else await find_bundle(directory, secret, key) or b""
        async with self._ledger.change() as change:
            record = self._ledger.contacts.get(contact)
            if record is None or pointer is None:
                log.info("a contact that was looked for says nothing in the directory")
                return
            before = record.mailbox
            take_pointer(self._ledger, change, record, pointer)
            if record.mailbox != before:
                self._searched.pop(contact, None)
            if bundle:
                begin_with(self._ledger, change, record, bundle)


def take_pointer(ledger: Ledger, change: Change, record: ContactRecord, pointer: MailboxPointer) -> None:
    """The contact's mailbox is there now, with these passes, as if a hello had said so.

    Without a pass that is good there nothing changes.
    """
    link = pointer.mailbox
    if is_local(link.host) and not is_local(ledger.profile.mailbox.host):
        log.debug("a contact names a mailbox within our own network: not taken")
        return
    before, held = record.mailbox, record.held
    if before is None or before.key != link.key:
        held = HeldPasses()  # those that there are were good at the box that it had
    for given in _passes_in(pointer):
        held.add(given, invite=False)
    if not held.left(Right.DEPOSIT, change.now):
        log.info("a contact's mailbox was found, and no pass for it")
        return  # what is sealed would only show the new mailbox a token of the old one
    record.mailbox, record.held = link, held
    change.contact(record)
    seal_elsewhere(ledger, change, record, before)
    if before != link:
        log.info("a contact's mailbox was found in the directory")
        change.tell(ContactChanged(record.id))
    change.wake(record.id)


def begin_with(ledger: Ledger, change: Change, record: ContactRecord, bundle: bytes) -> None:
    """Begin a session with a bundle of the directory, where one is missing and the mailbox gives none."""
    conversation = ledger.correspondence.conversations[record.id]
    if (
        conversation.standing is Standing.CHANGED
        or not conversation.needs_beginning(change.now)
        or record.held.fetching(change.now) is not None
    ):
        return
    try:
        verified = verify(bundle, None, conversation.contact.known, change.now)
    except E2EError as error:
        log.info("a bundle of the directory is not used", why=str(error))
        return
    conversation.begin(verified, change.now, ledger.rng)
    change.contact(record)
    change.wake(record.id)


def _passes_in(pointer: MailboxPointer) -> list[DeliveryPass]:
    """What a pointer brings, as far as it can be read."""
    passes = []
    for start in range(0, len(pointer.passes), _PASS):
        try:
            passes.append(DeliveryPass.parse(pointer.passes[start : start + _PASS]))
        except PassError:
            break
    return passes


def _passes_of(record: ContactRecord) -> bytes:
    """The newest passes that our box knows, to deposit and to fetch."""
    known = [each for each in record.given.good() if each.state in (PassState.GRANTED, PassState.TOLD)]
    deposit = [each for each in known if each.given.right is Right.DEPOSIT and each.unused][-MOST_PASSES:]
    fetch = [each for each in known if each.given.right is Right.FETCH][-1:]
    return b"".join(each.given.serialize() for each in (*deposit, *fetch))


def _nothing() -> None:
    """Progress is kept behind each round: without it nodes say what they hold."""
