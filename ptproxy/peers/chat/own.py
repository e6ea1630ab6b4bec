"""What is asked about ourselves: name, receipts, mailbox, invites, the identity and who is to follow it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from ptproxy.config.link import Link
from ptproxy.config.quantities import Endpoint
from ptproxy.e2e import Fingerprint
from ptproxy.peers.chat import commands as asked
from ptproxy.peers.chat.commands import Command, CommandError
from ptproxy.peers.chat.qr import qr_png
from ptproxy.peers.chat.roster import Roster
from ptproxy.peers.chat.shown import NAMELESS, shown_name
from ptproxy.peers.chat.told import Done, Record
from ptproxy.peers.chat.told_own import InviteTold, SelfTold, SuccessorTold
from ptproxy.peers.file_pieces import in_thread
from ptproxy.peers.messenger import Messenger, OpenInvite
from ptproxy.state import write_file

TYPED_WORDS: Final = 4
"""Words of an identity that are typed to name it: 64 bits, which nobody finds a second identity for."""
SHOWN_ID: Final = 8
"""Hexadecimal digits of an invite's id that people see."""


class Own:
    """The commands about ourselves, done on a messenger."""

    def __init__(self, messenger: Messenger, roster: Roster) -> None:
        self._messenger = messenger
        self._roster = roster
        self.do: dict[type[Command], Callable[[Any], Awaitable[list[Record]]]] = {
            asked.WhoAmI: self._who_am_i,
            asked.MyName: self._my_name,
            asked.Receipts: self._receipts,
            asked.Mailbox: self._mailbox,
            asked.Successor: self._successor,
            asked.Become: self._become,
            asked.Invite: self._invite,
            asked.Invites: self._invites,
            asked.Revoke: self._revoke,
        }
        """What does each command; the last record is :class:`Done`."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Of our identity."""
        return self._messenger.fingerprint

    def told(self) -> SelfTold:
        """Who we are."""
        number = self._messenger.fingerprint
        return SelfTold(
            self._messenger.name,
            number.qr_text(),
            number.words(),
            receipts=self._messenger.receipts,
            mailbox=_place(self._messenger.mailbox),
            former_mailboxes=tuple(map(_place, self._messenger.former_mailboxes)),
        )

    def successor(self) -> SuccessorTold | None:
        """Who is to follow us; None where nobody was announced."""
        successor = self._messenger.successor
        if successor is None:
            return None
        waiting = tuple(map(self._roster.label, self._messenger.untold()))
        return SuccessorTold(successor.qr_text(), successor.words(), waiting)

    async def _who_am_i(self, _: asked.WhoAmI) -> list[Record]:
        successor = self.successor()
        return [self.told(), *([successor] if successor is not None else []), Done("")]

    async def _my_name(self, command: asked.MyName) -> list[Record]:
        name = shown_name(command.name)
        if name == NAMELESS:
            raise CommandError("there is nothing to see in that name")
        if name == self._messenger.name:
            return [self.told(), Done("that is your name already")]
        await self._messenger.rename(name)
        return [self.told(), Done("your contacts are told")]

    async def _receipts(self, command: asked.Receipts) -> list[Record]:
        if command.state == "on":
            await self._messenger.tell_read()
        else:
            await self._messenger.keep_read_to_myself()
        return [self.told(), Done("")]

    async def _mailbox(self, command: asked.Mailbox) -> list[Record]:
        try:
            link = Link.parse(command.link)
        except ValueError as error:  # it never repeats a secret of the link
            raise CommandError(str(error)) from None
        if link == self._messenger.mailbox:
            return [self.told(), Done("your mailbox is there already")]
        await self._messenger.move(link)
        return [
            self.told(),
            Done("your contacts are told once it is reached; until then they write to the old one"),
        ]

    async def _successor(self, _: asked.Successor) -> list[Record]:
        await self._messenger.announce_successor()
        successor = self.successor()
        assert successor is not None
        return [
            successor,
            Done(
                "wait until all are told, then /become it with its first words; "
                "your invites end then, and what is still on its way to you is lost"
            ),
        ]

    async def _become(self, command: asked.Become) -> list[Record]:
        successor = self._messenger.successor
        if successor is None:
            raise CommandError("no new identity was announced; /successor makes one")
        if not names_start(successor, command.words):
            raise CommandError(f"write the new identity's first {TYPED_WORDS} words; /successor shows them")
        await self._messenger.become_successor()
        return [
            self.told(),
            Done(
                "you are the new identity: your contacts have to accept it, and compare safety numbers again"
            ),
        ]

    async def _invite(self, command: asked.Invite) -> list[Record]:
        return [
            _invite_told(await self._messenger.invite(label=command.label), shown=True),
            Done("whoever has this line can write to you: give it to one person, where nobody else reads it"),
        ]

    async def _invites(self, _: asked.Invites) -> list[Record]:
        return [*(_invite_told(each, shown=False) for each in self._messenger.invites()), Done("")]

    async def save_qr(self, made: OpenInvite, folder: Path) -> Path:
        """Write an invite's QR code as a picture; where. :class:`~ptproxy.errors.StartError` if not."""
        path = folder / f"invite {made.id.hex()[:SHOWN_ID]}.png"
        await in_thread(write_file, path, qr_png(made.invite.qr_text()))
        return path

    async def _revoke(self, command: asked.Revoke) -> list[Record]:
        found = [each for each in self._messenger.invites() if each.id.hex().startswith(command.invite)]
        if len(found) != 1:
            raise CommandError("there is no such invite" if not found else "more than one begins so")
        await self._messenger.revoke(found[0].id)
        return [Done("nobody can use that invite any more")]


def names_start(fingerprint: Fingerprint, text: str) -> bool:
    """Whether ``text`` is the whole fingerprint or at least the first words of it."""
    typed = text.casefold().split()
    return fingerprint.matches(text) or (
        len(typed) >= TYPED_WORDS and fingerprint.words().split()[: len(typed)] == typed
    )


def _place(mailbox: Link) -> str:
    """A bridge for people: nothing of its link that opens anything."""
    return str(Endpoint(mailbox.host, mailbox.port))


def _invite_told(each: OpenInvite, *, shown: bool) -> InviteTold:
    text = each.invite.serialize() if shown else ""
    return InviteTold(each.id.hex()[:SHOWN_ID], each.label, each.left, each.expires, each.ready, text)
