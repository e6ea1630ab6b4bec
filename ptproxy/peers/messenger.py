"""Everything a chat program needs below its screen: identity, contacts, lines, the own mailbox.

::

    async with PeerStore... as store:
        messenger = await Messenger.create(store, dialers, "Alice", mailbox_link)     # once
        messenger = await Messenger.open(store, dialers)                              # later
        messenger.on_event = show
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(messenger.run())
            invite = await messenger.invite()               # ContactInvite: text and QR
            peer = await messenger.add(ContactInvite.parse(text))
            number = await peer.send("hello")
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ptproxy.config.link import Link
from ptproxy.e2e import Fingerprint, Rng
from ptproxy.errors import PtproxyError
from ptproxy.peers.contact_invite import ContactInvite
from ptproxy.peers.dialers import Dialers
from ptproxy.peers.messenger_events import ContactId, Event, Line, Trouble
from ptproxy.peers.peer import Peer


class OutboxFullError(PtproxyError):
    """Too much waits for this contact: nothing more is taken until some of it has left."""


class Store(Protocol):
    """What is needed of :class:`~ptproxy.peers.store.PeerStore`."""


@dataclass(frozen=True, slots=True)
class OpenInvite:
    """An invite of ours that is still good."""

    id: bytes
    label: str
    """What the person called it."""
    left: int
    """How many may still come by it."""
    expires: int
    """The day (since 1970, UTC) from whose beginning on it is worth nothing."""
    ready: bool
    """Our mailbox knows it."""
    invite: ContactInvite


class Messenger:
    """One identity at work."""

    on_event: Callable[[Event], None]
    """Told everything that happens, in the loop; must not block."""

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
    ) -> Messenger:
        """A new identity, saved in an empty store. ``name`` is told to contacts."""
        raise NotImplementedError

    @classmethod
    async def open(
        cls,
        store: Store,
        dialers: Dialers,
        *,
        clock: Callable[[], float] = time.time,
        rng: Rng = os.urandom,
    ) -> Messenger:
        """What the store holds; :class:`~ptproxy.errors.StateError` where it is damaged or empty."""
        raise NotImplementedError

    async def run(self) -> None:
        """Collect, deposit, keep the mailbox in order, until cancelled.

        Raises :class:`~ptproxy.peers.mailbox_client.BoxTakenOver` where another program has
        opened our box: then there are two copies of this state, and neither may go on unasked.
        """
        raise NotImplementedError

    async def settled(self) -> None:
        """Wait until nothing waits to leave: no line, no grant, no publication. Needs :meth:`run`."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> Fingerprint:
        """Our own."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What we call ourselves."""
        raise NotImplementedError

    @property
    def mailbox(self) -> Link:
        """Where our box is."""
        raise NotImplementedError

    @property
    def trouble(self) -> Trouble:
        """Whether our own mailbox is reached."""
        raise NotImplementedError

    @property
    def receipts(self) -> bool:
        """Whether contacts are told what was read (on by default); that it was delivered they always are."""
        raise NotImplementedError

    async def rename(self, name: str) -> None:
        """Call ourselves otherwise; contacts are told."""
        raise NotImplementedError

    def contacts(self) -> Sequence[Peer]:
        """All of them, strangers too."""
        raise NotImplementedError

    def contact(self, contact: ContactId) -> Peer:
        """The contact of this id; KeyError where there is none."""
        raise NotImplementedError

    async def history(self, contact: ContactId, before: int | None = None, limit: int = 100) -> list[Line]:
        """See :meth:`~ptproxy.peers.peer.Peer.history`."""
        raise NotImplementedError

    async def invite(self, *, persons: int = 1, days: int = 7, label: str = "") -> OpenInvite:
        """An invite that ``persons`` may use within ``days``; it works once :class:`InviteReady` is told."""
        raise NotImplementedError

    def invites(self) -> Sequence[OpenInvite]:
        """Those that are still good."""
        raise NotImplementedError

    async def revoke(self, invite: bytes) -> None:
        """The invite of this id is good no longer: whoever has it can neither fetch nor write with it."""
        raise NotImplementedError

    async def add(self, invite: ContactInvite) -> Peer:
        """Add who gave this invite; again: the contact there is, with fresh passes.

        Returns when the contact is on disk; fetching its bundle, beginning and saying hello
        follow in the background, as often as it takes.
        :class:`~ptproxy.errors.LocalProtocolError` for an invite of our own.
        """
        raise NotImplementedError
