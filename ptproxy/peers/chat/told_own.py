"""What is told of ourselves: who we are, what is set, our invites, who is to follow us."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import ClassVar, Final

from ptproxy.peers.chat.shown import shown_name
from ptproxy.peers.chat.told import INDENT, Record

MOST_NAMES: Final = 8
"""Contacts that one row names."""


@dataclass(frozen=True, slots=True)
class ReadyTold(Record):
    """The chat has begun: commands are taken from now on."""

    event: ClassVar[str] = "ready"
    name: str
    fingerprint: str

    def rows(self) -> list[str]:
        """One row."""
        return [f"* you are {shown_name(self.name)}; /help tells what can be written here"]


@dataclass(frozen=True, slots=True)
class SelfTold(Record):
    """Who we are, and what contacts are told of us."""

    event: ClassVar[str] = "self"
    name: str
    fingerprint: str
    words: str
    """The fingerprint for people."""
    receipts: bool
    """Contacts are told what was read."""
    mailbox: str
    """Host and port of the bridge that it is at."""
    former_mailboxes: tuple[str, ...]
    """... that it was at, and that are still looked into."""

    def rows(self) -> list[str]:
        """Name, words, what is set, the mailbox."""
        told = "are told" if self.receipts else "are NOT told"
        return [
            f"* you are {shown_name(self.name)}; contacts {told} what you have read",
            f"{INDENT}{self.words}",
            f"* {self.mailbox_row()}",
        ]

    def mailbox_row(self) -> str:
        """Where the mailbox is, and was."""
        former = ", ".join(self.former_mailboxes)
        return f"your mailbox is at {self.mailbox}" + (f"; still looked into: {former}" if former else "")


@dataclass(frozen=True, slots=True)
class SuccessorTold(Record):
    """An identity of ours that is to follow the one we have, and whom that has reached."""

    event: ClassVar[str] = "successor"
    fingerprint: str
    words: str
    waiting: tuple[str, ...]
    """Contacts, by their labels, to whose mailbox this is still on its way."""

    def reached(self) -> str:
        """Who is not told yet, as one row."""
        more = ", ..." if len(self.waiting) > MOST_NAMES else ""
        return (
            f"not told of it yet: {', '.join(self.waiting[:MOST_NAMES])}{more}"
            if self.waiting
            else "all contacts that can be told are told"
        )

    def rows(self) -> list[str]:
        """Words, who waits."""
        return [
            "* your new identity, which follows the one you have once you /become it:",
            f"{INDENT}{self.words}",
            f"* {self.reached()}",
        ]


@dataclass(frozen=True, slots=True)
class InviteTold(Record):
    """An invite of ours."""

    event: ClassVar[str] = "invite"
    invite: str
    """The start of its id."""
    label: str
    left: int
    expires: int
    ready: bool
    text: str = field(repr=False)
    """The line to give away; nothing in lists."""

    def rows(self) -> list[str]:
        """One row, and the invite's own."""
        day = time.strftime("%Y-%m-%d", time.gmtime(self.expires * 86_400))
        called = f" ({shown_name(self.label)})" if self.label else ""
        state = "" if self.ready else ", as soon as your mailbox knows it"
        return [
            f"* invite {self.invite}{called}: good for {self.left} until {day}{state}",
            *([self.text] if self.text else []),
        ]


@dataclass(frozen=True, slots=True)
class InviteChanged(Record):
    """An invite works from now on, or somebody came by it."""

    event: ClassVar[str] = "invite-changed"
    invite: str
    left: int
    """How many may still come; -1: as many as before, it works now."""

    def rows(self) -> list[str]:
        """One row."""
        what = "can be used now" if self.left < 0 else f"was used; good for {self.left} more"
        return [f"* invite {self.invite} {what}"]
