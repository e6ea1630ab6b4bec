"""Everything a chat program needs below its screen: identity, contacts, lines, the own mailbox.

::

    messenger = await Messenger.create(store, dialers, "Alice", mailbox_link)     # once
    messenger = await Messenger.open(store, dialers)                              # later
    messenger.on_event = show
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(messenger.run())
        open_invite = await messenger.invite()          # open_invite.invite.serialize(): a line of text
        peer = await messenger.add(ContactInvite.parse(text))
        number = await peer.send("hello")

What is called returns when it is on disk; what follows on the network happens in :meth:`Messenger.run`,
as often as it takes, and is told by events (``messenger_events``). A program may be killed at any moment:
nothing that was confirmed is lost, no line comes or is shown as new twice.

Behind it: ``messenger_ledger`` (the state, and how it changes), ``messenger_box`` (our mailbox),
``messenger_courier`` (those of contacts), ``messenger_receiving`` and ``messenger_sending`` (what mail does,
what is sent next), ``messenger_streams`` (what streams with contacts need of it), ``payload`` and
``contact_invite`` (the formats).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from ptproxy.config.link import Link
from ptproxy.e2e import Correspondence, Fingerprint, OwnIdentity, Rng, Standing, Suite
from ptproxy.errors import LocalProtocolError, StartError
from ptproxy.peers import messenger_box, messenger_sending
from ptproxy.peers.contact_invite import ContactInvite
from ptproxy.peers.dialers import Dialers, Errand, Purpose
from ptproxy.peers.messenger_box import Box
from ptproxy.peers.messenger_copies import start_anew
from ptproxy.peers.messenger_courier import Couriers
from ptproxy.peers.messenger_events import (
    ContactId,
    ContactRemoved,
    Event,
    Line,
    SignalReceived,
    StandingChanged,
    Trouble,
)
from ptproxy.peers.messenger_finding import Finding
from ptproxy.peers.messenger_invites import MAX_INVITES, make, take
from ptproxy.peers.messenger_ledger import Ledger, Store
from ptproxy.peers.messenger_moving import FormerBoxes
from ptproxy.peers.messenger_outbox import OutboxFullError
from ptproxy.peers.messenger_passed_on import PassedOnBridges
from ptproxy.peers.messenger_profile import PROFILE, OpenInvite, Profile
from ptproxy.peers.messenger_streams import meeting_place, session
from ptproxy.peers.messenger_succession import announce, announced, become, untold
from ptproxy.peers.payload import MAX_NAME
from ptproxy.peers.peer import Peer
from ptproxy.peers.peer_streams import PeerStreams
from ptproxy.peers.store_doubt import doubt_in

__all__ = ["MAX_INVITES", "Messenger", "OpenInvite", "OutboxFullError"]

FIRST_LOOK: Final = 10.0
"""Seconds that nothing leaves while our own mailbox may still say that this state is an old one."""
COLLECTED: Final = 20.0
"""Seconds that :meth:`Messenger.settled` waits for the first look into our box."""


class Messenger:
    """One identity at work."""

    def __init__(self, ledger: Ledger, dialers: Dialers, *, pace: float = 1.0) -> None:
        """Use :meth:`create` or :meth:`open`; ``pace`` multiplies every wait (tests)."""
        self.ledger = ledger
        """The state: for :class:`~ptproxy.peers.peer.Peer` and nobody else."""
        self.couriers = Couriers(ledger, dialers, pace=pace)
        """For :class:`~ptproxy.peers.peer.Peer` and nobody else."""
        self.dialers = dialers
        self.streams = PeerStreams(
            partial(meeting_place, ledger, dialers), self._signal, partial(session, ledger)
        )
        """Streams with contacts: what is offered to them (:meth:`PeerStreams.offer`), and those there are."""
        self.finding = Finding(ledger, dialers, pace=pace)
        """For :class:`~ptproxy.peers.peer.Peer` and nobody else."""
        self.couriers.on_lost = self.finding.lost
        self.bridges = PassedOnBridges(ledger)
        """Invites to bridges that contacts have passed on (:meth:`~ptproxy.peers.peer.Peer.pass_on`)."""
        self.on_event: Callable[[Event], None] = lambda _: None
        """Told everything that happens, in the loop, once it is on disk; must not block."""
        self._box = Box(ledger, dialers, pace=pace)
        self._former = FormerBoxes(ledger, dialers, pace=pace)
        ledger.on_event = self._happened
        ledger.on_wake = self.couriers.wake
        ledger.on_box_wanted = self._box.want

    @classmethod
    async def create(
        cls,
        store: Store,
        dialers: Dialers,
        name: str,
        mailbox: Link,
        *,
        clock: Callable[[], float] = time.time,
        rng: Rng = os.urandom,
        pace: float = 1.0,
    ) -> Messenger:
        """A new identity, saved in an empty store. ``name`` is told to contacts.

        :class:`~ptproxy.errors.StartError` where the store has an identity already;
        :class:`~ptproxy.errors.LocalProtocolError` for a name of more than 256 bytes.
        """
        if PROFILE in store.pieces():
            raise StartError("there is an identity here already: take another state folder for another one")
        _check_name(name)
        owner = OwnIdentity.generate(rng)
        correspondence = Correspondence.create(owner, Suite.PQXDH_768, clock(), rng)
        ledger = Ledger(store, correspondence, Profile.make(name, mailbox, rng), clock, rng)
        async with ledger.change() as change:
            change.profile()
        return cls(ledger, dialers, pace=pace)

    @classmethod
    async def open(
        cls,
        store: Store,
        dialers: Dialers,
        *,
        clock: Callable[[], float] = time.time,
        rng: Rng = os.urandom,
        pace: float = 1.0,
    ) -> Messenger:
        """What the store holds; :class:`~ptproxy.errors.StateError` where it is damaged or empty."""
        return cls(await asyncio.to_thread(Ledger.load, store, clock, rng), dialers, pace=pace)

    async def start_anew(self) -> None:
        """The store was put back to an earlier state, and the person goes on: before :meth:`run`.

        See :func:`~ptproxy.peers.messenger_copies.start_anew`.
        """
        async with self.ledger.change() as change:
            start_anew(self.ledger, change)

    # ---- at work

    async def run(self) -> None:
        """Collect, deposit, keep the mailbox in order, until cancelled.

        Raises :class:`~ptproxy.peers.mailbox_client.BoxTakenOver` where another program has
        opened our box: then there are two copies of this state, and neither may go on unasked.
        Raises :class:`~ptproxy.peers.store.StoreDoubtError` where the mailbox knows a later state than
        this one, or one of another copy; whoever goes on opens the store with that doubt accepted.
        Raises what kept the store from saving; then the messenger is to be opened again.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._box.run())
                tasks.create_task(self._former.run())
                tasks.create_task(self._carry())
                tasks.create_task(self.finding.run())
                tasks.create_task(self.ledger.watch())
        except BaseExceptionGroup as group:
            raise doubt_in(group) or _first(group) from None
        finally:
            await self.streams.close()

    async def _carry(self) -> None:
        """Couriers go once the mailbox was asked whether this state is the newest one, if it can be asked."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK):
                await self._box.asked.wait()
        await self.couriers.run()

    async def settled(self) -> None:
        """Wait until what waited for us has been taken in, and nothing waits to leave. Needs :meth:`run`.

        The first is waited for no longer than ``COLLECTED`` seconds: a mailbox may be out of reach. The
        second (lines, grants, publications) takes as long as it takes: bound it. Contacts whose identity is
        in doubt are left out, as what waits for them does not leave. :meth:`~ptproxy.peers.peer.Peer.settled`
        asks for one contact.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COLLECTED):
                await self._box.collected.wait()
        while not self._is_settled():
            await self.ledger.next_change()

    def _is_settled(self) -> bool:
        ledger = self.ledger
        return messenger_box.settled(ledger) and not any(
            messenger_sending.waits(ledger, record) for record in ledger.contacts.values()
        )

    # ---- ourselves

    @property
    def fingerprint(self) -> Fingerprint:
        """Our own."""
        return self.ledger.correspondence.owner.public.fingerprint

    @property
    def name(self) -> str:
        """What we call ourselves."""
        return self.ledger.profile.name

    @property
    def mailbox(self) -> Link:
        """Where our box is."""
        return self.ledger.profile.mailbox

    @property
    def former_mailboxes(self) -> Sequence[Link]:
        """Where our box was before, and is still looked into."""
        return [box.mailbox for box in self.ledger.profile.former]

    async def move(self, mailbox: Link) -> None:
        """Have our box at another bridge from now on, or reach the same one in another way.

        Contacts are told once the new mailbox knows their passes. What still comes to the old one is
        collected, until everybody writes to the new one and no invite names the old one: an invite goes on
        working for as long as the old bridge does, but for those that it has never heard of, which are gone.
        """
        await self._box.move(mailbox)
        self._former.look()
        self.finding.look()

    @property
    def trouble(self) -> Trouble:
        """Whether our own mailbox is reached."""
        return self._box.trouble

    @property
    def receipts(self) -> bool:
        """Whether contacts are told what was read (on by default); that it was delivered they always are."""
        return self.ledger.profile.receipts

    async def rename(self, name: str) -> None:
        """Call ourselves otherwise; contacts are told."""
        _check_name(name)
        async with self.ledger.change() as change:
            self.ledger.profile.name = name
            change.profile()
            for record in self.ledger.contacts.values():
                if not record.stranger:
                    record.owes_hello = True
                    change.contact(record)
                    change.wake(record.id)

    async def announce_successor(self) -> Fingerprint:
        """Make a new identity that is to follow this one, and tell contacts of it; its fingerprint.

        They see it as vouched for by this one, which whoever has stolen our key could do as well. Wait
        (:meth:`settled`) until they have been told, then :meth:`become_successor`.
        """
        async with self.ledger.change() as change:
            successor = announce(self.ledger, change)
        return successor.public.fingerprint

    @property
    def successor(self) -> Fingerprint | None:
        """The fingerprint of the identity that was announced; None where none was."""
        return announced(self.ledger)

    def untold(self) -> list[ContactId]:
        """Contacts whose mailbox does not have the announcement yet, nor what was written before it."""
        return untold(self.ledger)

    async def become_successor(self) -> None:
        """Be the identity that was announced: all sessions begin anew, our invites are revoked.

        What contacts wrote to the old one and we have not collected is lost.
        :class:`~ptproxy.errors.LocalProtocolError` where none was announced.
        """
        async with self.ledger.change() as change:
            become(self.ledger, change)
        for contact in self.ledger.contacts:
            self.streams.end_contact(contact)  # they are keyed from sessions that have ended

    async def tell_read(self) -> None:
        """From now on contacts are told what was read."""
        await self._set_receipts(True)

    async def keep_read_to_myself(self) -> None:
        """From now on contacts are not told what was read."""
        await self._set_receipts(False)

    async def _set_receipts(self, told: bool) -> None:
        async with self.ledger.change() as change:
            self.ledger.profile.receipts = told
            change.profile()

    def purpose(self, errand: Errand, link: Link, contact: ContactId = b"") -> Purpose:
        """A pseudonym for one errand at one bridge, with its key: the same one each time."""
        return self.ledger.profile.purpose(errand, link, contact)

    # ---- streams

    def _happened(self, event: Event) -> None:
        """Streams first: what the program above does about an event finds them as they are then."""
        match event:
            case SignalReceived():
                self.streams.signal_received(event.contact, event.body)
            case StandingChanged(standing=Standing.CHANGED) | ContactRemoved():
                self.streams.end_contact(event.contact)
        self.on_event(event)

    async def _signal(self, contact: ContactId, body: bytes) -> None:
        if contact in self.ledger.contacts:
            await Peer(self, contact).signal(body)

    # ---- contacts

    def contacts(self) -> Sequence[Peer]:
        """All of them, strangers too."""
        return [Peer(self, contact) for contact in self.ledger.contacts]

    def contact(self, contact: ContactId) -> Peer:
        """The contact of this id; KeyError where there is none."""
        return Peer(self, self.ledger.contacts[contact].id)

    async def history(self, contact: ContactId, before: int | None = None, limit: int = 100) -> list[Line]:
        """See :meth:`~ptproxy.peers.peer.Peer.history`."""
        return await self.ledger.history(contact, before, limit)

    async def add(self, invite: ContactInvite) -> Peer:
        """Add who gave this invite; again: the contact there is, with fresh passes.

        Returns when the contact is on disk; fetching its bundle, beginning and saying hello
        follow in the background, as often as it takes.
        :class:`~ptproxy.errors.LocalProtocolError` for an invite of our own,
        :class:`~ptproxy.peers.contact_invite.InviteError` for one that has expired.
        """
        async with self.ledger.change() as change:
            record = take(self.ledger, change, invite)
        return Peer(self, record.id)

    # ---- invites

    async def invite(self, *, persons: int = 1, days: int = 7, label: str = "") -> OpenInvite:
        """An invite that ``persons`` may use within ``days``.

        It works once :class:`~ptproxy.peers.messenger_events.InviteReady` is told.
        :class:`~ptproxy.errors.LocalProtocolError` beyond 256 persons, 365 days, 256 bytes of label, or
        32 invites that are good at a time.
        """
        async with self.ledger.change() as change:
            own = make(self.ledger, change, persons, days, label)
        return OpenInvite.of(own)

    def invites(self) -> Sequence[OpenInvite]:
        """Those that somebody may still come by."""
        now = self.ledger.clock()
        return [OpenInvite.of(own) for own in self.ledger.invites.values() if own.open(now)]

    async def revoke(self, invite: bytes) -> None:
        """The invite of this id is good no longer: whoever has it can neither fetch nor write with it.

        One that names a former mailbox still fetches our bundle there until that box is closed; what is
        written with it is dropped. Who came by it and has no answer yet has to be invited again.
        KeyError where there is none.
        """
        async with self.ledger.change() as change:
            self.ledger.drop_invite(change, self.ledger.invites[invite])


def _check_name(name: str) -> None:
    if len(name.encode()) > MAX_NAME:
        raise LocalProtocolError(f"a name has at most {MAX_NAME} bytes in UTF-8")


def _first(error: BaseException) -> BaseException:
    """What went wrong, out of the groups it is told in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
