"""Invites to bridges, from contact to contact: passed on, taken by the person, handed to a client as a file.

The file has what was taken, one ``ptproxy-invite:`` a line, and nothing of whom it is from: the store knows
that, and is encrypted. A client whose ``find.chat`` names the file looks these invites up as its own.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from ptproxy.config.quantities import Endpoint
from ptproxy.dht.invite import MAX_TEXT, PREFIX, Invite
from ptproxy.errors import DhtError, why
from ptproxy.peers.chat.commands import Command, CommandError
from ptproxy.peers.chat.commands_bridges import Bridges, Drop, Findable, Share, Use
from ptproxy.peers.chat.roster import Roster
from ptproxy.peers.chat.told import INDENT, Done, Record
from ptproxy.peers.file_pieces import in_thread
from ptproxy.peers.messenger import Messenger
from ptproxy.peers.messenger_passed_on import PassedOn
from ptproxy.state import write_file

FILE: Final = "bridges.invites"
"""The file's name, in the chat's folder."""
SHOWN_ID: Final = 10
"""Hexadecimal digits of an invite's id that people see, as ``ptproxy dht show`` has them."""


@dataclass(frozen=True, slots=True)
class BridgesTold(Record):
    """An invite to bridges that a contact has passed on."""

    event: ClassVar[str] = "bridges"
    who: str
    contact: str
    invite: str
    """The start of its id, which commands name it by."""
    bridges: tuple[str, ...]
    """Host and port of each."""
    expires: int
    taken: bool

    def rows(self) -> list[str]:
        """One row."""
        day = time.strftime("%Y-%m-%d", time.gmtime(min(self.expires, 253_402_300_799)))
        what = f"{self.invite} ({', '.join(self.bridges)}), good until {day}"
        if self.taken:
            return [f"* bridges {what}, from {self.who}: taken; /drop {self.invite} gives them up"]
        return [
            f"* {self.who} passes on an invite to bridges {what}:",
            f"{INDENT}who runs them sees you come; /use {self.invite} or /drop {self.invite}",
        ]


class BridgeInvites:
    """The commands about invites to bridges, done on a messenger."""

    def __init__(self, messenger: Messenger, roster: Roster, file: Path) -> None:
        """What is taken is written into ``file``."""
        self._messenger = messenger
        self._roster = roster
        self._file = file
        self.do: dict[type[Command], Callable[[Any], Awaitable[list[Record]]]] = {
            Share: self._share,
            Bridges: self._bridges,
            Use: self._use,
            Drop: self._drop,
            Findable: self._findable,
        }
        """What does each command; the last record is :class:`Done`."""

    def told(self, each: PassedOn) -> BridgesTold:
        """One invite for people."""
        return BridgesTold(
            self._roster.label(each.contact),
            each.contact.hex(),
            each.invite.id.hex()[:SHOWN_ID],
            tuple(str(Endpoint(link.host, link.port)) for link in each.invite.bridges),
            each.invite.expires,
            each.taken,
        )

    def waiting(self, contact: bytes) -> PassedOn | None:
        """The oldest of a contact that the person has not decided about."""
        known = self._messenger.bridges.known()
        return next((each for each in known if each.contact == contact and not each.taken), None)

    async def _share(self, command: Share) -> list[Record]:
        peer = self._roster.find(command.who)
        try:
            invite = Invite.parse(await in_thread(_given, command.invite))
            invite.check_time(time.time())
        except DhtError as error:
            raise CommandError(str(error)) from None
        await peer.pass_on(invite)
        return [
            Done(
                f"passed on to {self._roster.label(peer.id)}, who finds its bridges as you do, now and when "
                "they move: an invite is meant for one person; whoever gave it may have another one"
            )
        ]

    async def _bridges(self, _: Bridges) -> list[Record]:
        known = self._messenger.bridges.known()
        return [*map(self.told, known), Done("" if known else "no contact has passed on any")]

    async def _use(self, command: Use) -> list[Record]:
        found = self._named(command.invite)
        await self._write({each.invite.id for each in self._taken()} | {found.invite.id})
        await self._messenger.bridges.take(found.invite.id)
        return [
            self.told(found),
            Done(f"in {self._file}: a client with  find: chat: {self._file}  finds these bridges"),
        ]

    async def _drop(self, command: Drop) -> list[Record]:
        found = self._named(command.invite)
        if found.taken:
            await self._write({each.invite.id for each in self._taken()} - {found.invite.id})
        await self._messenger.bridges.drop(found.invite.id)
        return [Done("a client that has it keeps the bridges until it starts again" if found.taken else "")]

    async def _findable(self, command: Findable) -> list[Record]:
        peer = self._roster.find(command.who)
        label = self._roster.label(peer.id)
        if command.state == "on":
            await peer.publish()
            return [
                Done(
                    f"{label} finds your mailbox in the directory when it is gone, if your mailbox's bridge "
                    "offers lookups; whoever runs that bridge sees that you publish, and not what"
                )
            ]
        if command.state != "off":
            raise CommandError("findable is on or off")
        await peer.unpublish()
        return [Done(f"{label} finds nothing of you there from tomorrow on")]

    def _named(self, start: str) -> PassedOn:
        known = self._messenger.bridges.known()
        found = [each for each in known if len(start) >= 4 and each.invite.id.hex().startswith(start)]
        if len({each.invite.id for each in found}) != 1:
            raise CommandError(
                "there is no such invite to bridges" if not found else "more than one begins so"
            )
        return found[0]

    def _taken(self) -> list[PassedOn]:
        return [each for each in self._messenger.bridges.known() if each.taken]

    async def _write(self, wanted: set[bytes]) -> None:
        """The file first: where it cannot be written nothing has changed."""
        taken = [each.invite for each in self._messenger.bridges.known() if each.invite.id in wanted]
        lines = ["# Invites to bridges that were taken in the chat, which writes this file; secrets."]
        lines += dict.fromkeys(invite.serialize() for invite in taken)
        await in_thread(write_file, self._file, "\n".join(lines) + "\n")


def _given(text: str) -> str:
    """An invite, or what begins so in the file that ``@FILE`` names; in a thread."""
    if not text.startswith("@"):
        return text
    try:
        with Path(text[1:]).expanduser().open(encoding="ascii", errors="replace") as file:
            words = file.read(4 * MAX_TEXT).split()
    except (OSError, RuntimeError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else "there is no such file"
        raise CommandError(f"cannot read that file: {reason}") from None
    return next((word for word in words if word.startswith(PREFIX)), "")
