"""The chat itself, without a screen: does what commands ask, and says what events mean.

Line mode and the screen are two ways to write commands and to show records; what they do is here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from ptproxy.e2e import Standing
from ptproxy.errors import PtproxyError
from ptproxy.peers.chat import commands as asked
from ptproxy.peers.chat.bridges import FILE, BridgeInvites
from ptproxy.peers.chat.commands import Command, CommandError
from ptproxy.peers.chat.files import Files
from ptproxy.peers.chat.own import SHOWN_ID, TYPED_WORDS, Own, names_start
from ptproxy.peers.chat.roster import Roster
from ptproxy.peers.chat.shown import shown_name
from ptproxy.peers.chat.told import (
    STANDINGS,
    STATES,
    TROUBLES,
    ContactTold,
    Done,
    GoneTold,
    LineTold,
    NumberTold,
    PresenceTold,
    Record,
    Refused,
    StandingTold,
    StateTold,
    TroubleTold,
    UnknownTold,
)
from ptproxy.peers.chat.told_own import InviteChanged
from ptproxy.peers.contact_invite import ContactInvite
from ptproxy.peers.messenger import Messenger
from ptproxy.peers.messenger_events import (
    BridgesPassedOn,
    ContactAdded,
    ContactChanged,
    ContactId,
    ContactRemoved,
    DeliveryTroubled,
    Direction,
    Event,
    InviteReady,
    InviteUsed,
    Line,
    LineDelivered,
    LineDeposited,
    LineFailed,
    LineRead,
    LineReceived,
    LineState,
    MailboxChanged,
    PresenceChanged,
    StandingChanged,
    UnknownReceived,
)
from ptproxy.peers.payload import Presence
from ptproxy.peers.peer import Peer

HERE_SECONDS: Final = 900.0
"""Seconds for which a contact is told that we are there; it is told again before they are over."""

_STATE_EVENTS: Final = {
    LineDeposited: LineState.DEPOSITED,
    LineDelivered: LineState.DELIVERED,
    LineRead: LineState.READ,
    LineFailed: LineState.FAILED,
}


class Chat:
    """A messenger with labels for its contacts."""

    def __init__(self, messenger: Messenger, files: Path, tell: Callable[[Record], None]) -> None:
        """Files of contacts are saved in ``files``; what happens to them is told to ``tell``, in the loop.

        Beside that folder is the file of invites to bridges that were taken.
        """
        self.messenger = messenger
        self.roster = Roster(messenger)
        self.own = Own(messenger, self.roster)
        self.bridges = BridgeInvites(messenger, self.roster, files.parent / FILE)
        self.files = Files(messenger.streams, files, self.roster.label, tell)
        self.present: set[ContactId] = set()
        """Who is told that we are there; nobody at the start, whatever was so before."""
        self._do: dict[type[Command], Callable[[Any], Awaitable[list[Record]]]] = {
            **self.own.do,
            **self.bridges.do,
            asked.Say: self._say,
            asked.Add: self._add,
            asked.Contacts: self._contacts,
            asked.Welcome: self._welcome,
            asked.Number: self._number,
            asked.Verify: self._verify,
            asked.Accept: self._accept,
            asked.Keep: self._keep,
            asked.Remove: self._remove,
            asked.Rename: self._rename,
            asked.Presence: self._presence,
            asked.History: self._history,
            asked.Send: self._send,
            asked.Take: self._take,
            asked.Refuse: self._refuse,
            asked.Stop: self._stop,
        }

    # ---- commands

    async def do(self, command: Command) -> list[Record]:
        """Do it; the last record is :class:`Done` or :class:`Refused`, and then nothing has changed."""
        do = self._do.get(type(command))
        if do is None:
            return [Refused("that cannot be done here")]
        try:
            return await do(command)
        except (CommandError, PtproxyError) as error:
            return [Refused(str(error))]
        except KeyError:  # a Peer's word for it
            return [Refused("that contact was removed meanwhile")]

    async def _say(self, command: asked.Say) -> list[Record]:
        peer = self.roster.find(command.who)
        number = await peer.send(command.text)
        return [StateTold(self.roster.label(peer.id), peer.id.hex(), number, "waiting"), Done("")]

    async def _add(self, command: asked.Add) -> list[Record]:
        peer = await self.messenger.add(ContactInvite.parse(command.invite))
        if command.name:
            await peer.rename(shown_name(command.name))
        self.roster.refresh()
        label = self.roster.label(peer.id)
        called = "" if peer.name else f", called {label} until it answers or you rename it"
        return [
            self.contact(peer),
            Done(f"added{called}; compare safety numbers before you say what only this contact may know"),
        ]

    async def _contacts(self, _: asked.Contacts) -> list[Record]:
        return [*map(self.contact, self.roster), Done("" if len(self.roster) else "no contacts yet")]

    async def _welcome(self, command: asked.Welcome) -> list[Record]:
        peer = self.roster.find(command.who)
        await peer.welcome()
        return [self.contact(peer), Done("")]

    async def _number(self, command: asked.Number) -> list[Record]:
        return [self._number_of(self.roster.find(command.who)), Done("")]

    async def _verify(self, command: asked.Verify) -> list[Record]:
        peer = self.roster.find(command.who)
        if not await peer.compare(command.text):
            raise CommandError(
                "the numbers are NOT the same: compare them once more; "
                "if they stay different, somebody stands between the two of you"
            )
        return [Done(f"the numbers are the same: {self.roster.label(peer.id)} is verified")]

    async def _accept(self, command: asked.Accept) -> list[Record]:
        peer = self.roster.find(command.who)
        candidate = peer.candidate
        if candidate is None:
            raise CommandError("no other identity was seen")
        if not names_start(candidate, command.words):
            raise CommandError(f"write the new identity's first {TYPED_WORDS} words, as they were shown")
        await peer.accept(candidate)
        return [self.contact(peer), Done("accepted; compare safety numbers")]

    async def _keep(self, command: asked.Keep) -> list[Record]:
        peer = self.roster.find(command.who)
        await peer.keep()
        return [self.contact(peer), Done("")]

    async def _remove(self, command: asked.Remove) -> list[Record]:
        await self.roster.find(command.who).remove()
        return [Done("")]

    async def _rename(self, command: asked.Rename) -> list[Record]:
        peer = self.roster.find(command.who)
        await peer.rename(shown_name(command.name))
        self.roster.refresh()
        return [self.contact(peer), Done("")]

    async def _presence(self, command: asked.Presence) -> list[Record]:
        peer = self.roster.find(command.who)
        if command.state == "on":
            await peer.tell_presence(Presence.HERE, HERE_SECONDS)
            self.present.add(peer.id)
            return [Done(f"{self.roster.label(peer.id)} is told that you are here, until you leave")]
        self.present.discard(peer.id)
        await peer.tell_presence(Presence.AWAY, 0.0)
        return [Done(f"{self.roster.label(peer.id)} is told nothing more")]

    async def _history(self, command: asked.History) -> list[Record]:
        peer = self.roster.find(command.who)
        lines = await peer.history(limit=command.count)
        return [*(self.line(peer.id, line) for line in reversed(lines)), Done("")]

    async def _send(self, command: asked.Send) -> list[Record]:
        await self.files.send(self.roster.find(command.who).id, Path(command.path))
        return [Done("")]

    async def _take(self, command: asked.Take) -> list[Record]:
        self.files.take(command.offer)
        return [Done("")]

    async def _refuse(self, command: asked.Refuse) -> list[Record]:
        self.files.refuse(command.offer)
        return [Done("")]

    async def _stop(self, command: asked.Stop) -> list[Record]:
        self.files.stop(command.file)
        return [Done("")]

    async def tell_presence_again(self) -> None:
        """To be called every :data:`HERE_SECONDS` / 2: whoever was told that we are there is told again."""
        known = {peer.id for peer in self.messenger.contacts()}
        for contact in list(self.present):
            peer = self.messenger.contact(contact) if contact in known else None
            if peer is None or peer.standing is Standing.CHANGED:
                self.present.discard(contact)
            else:
                with contextlib.suppress(PtproxyError, KeyError):  # full, or gone: the next time
                    await peer.tell_presence(Presence.HERE, HERE_SECONDS)

    # ---- events

    def told(self, event: Event) -> list[Record]:
        """What an event says, with labels as they are after it; nothing for what only programs care about."""
        if isinstance(event, ContactAdded | ContactChanged):
            self.roster.refresh()
            try:
                peer = self.messenger.contact(event.contact)
            except KeyError:  # removed before anybody looked: that is told behind this
                return []
            return [self.contact(peer)]
        if isinstance(event, ContactRemoved):
            gone = GoneTold(self.roster.label(event.contact), event.contact.hex())
            self.present.discard(event.contact)
            self.roster.refresh()
            return [gone]
        if isinstance(event, LineReceived):
            return [self.line(event.contact, event.line)]
        if isinstance(event, InviteReady | InviteUsed):
            left = event.left if isinstance(event, InviteUsed) else -1
            return [InviteChanged(event.invite.hex()[:SHOWN_ID], left)]
        if isinstance(event, BridgesPassedOn):
            known = self.messenger.bridges.known()
            same = (each for each in known if each.invite.id == event.invite)
            return [self.bridges.told(each) for each in same if each.contact == event.contact]
        if isinstance(event, MailboxChanged):
            return [TroubleTold("", "", TROUBLES[event.trouble])]
        return self._told_of_contact(event)

    def _told_of_contact(self, event: Event) -> list[Record]:
        contact = getattr(event, "contact", b"")
        who, number = self.roster.label(contact), contact.hex()
        if isinstance(event, LineDeposited | LineDelivered | LineRead | LineFailed):
            return [StateTold(who, number, event.number, STATES[_STATE_EVENTS[type(event)]])]
        if isinstance(event, StandingChanged):
            candidate = event.candidate.words() if event.candidate is not None else ""
            return [StandingTold(who, number, STANDINGS[event.standing], candidate, event.vouched)]
        if isinstance(event, PresenceChanged):
            return [PresenceTold(who, number, event.presence is Presence.HERE, event.until)]
        if isinstance(event, DeliveryTroubled):
            return [TroubleTold(who, number, TROUBLES[event.trouble])]
        return [UnknownTold(who, number)] if isinstance(event, UnknownReceived) else []

    def contact(self, peer: Peer) -> ContactTold:
        """A contact as it stands."""
        return ContactTold(
            self.roster.label(peer.id),
            peer.id.hex(),
            peer.name,
            peer.fingerprint.qr_text(),
            STANDINGS[peer.standing],
            peer.stranger,
            peer.unread,
            TROUBLES[peer.trouble],
        )

    def line(self, contact: ContactId, line: Line) -> LineTold:
        """A line of a conversation."""
        ours = line.direction is Direction.OURS
        return LineTold(
            self.roster.label(contact),
            contact.hex(),
            line.number,
            ours,
            STATES[line.state],
            line.written,
            line.text,
        )

    def _number_of(self, peer: Peer) -> NumberTold:
        number = peer.safety_number
        return NumberTold(
            self.roster.label(peer.id),
            peer.id.hex(),
            STANDINGS[peer.standing],
            number.digits(),
            number.words(),
            number.qr_text(),
        )
