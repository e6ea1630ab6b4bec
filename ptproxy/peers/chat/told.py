"""What the chat tells: one record for each thing, as JSON for scripts and as text for people.

JSON: one object a line, ASCII only, ``{"event": NAME, FIELD: VALUE, ...}``; names and texts in it are as
they came, for programs that know what to do with them. Text: rows that a terminal may be given,
whatever contacts wrote:

    anna: a line                  a contact's; further rows of it begin with four blanks
    * anna is verified now        ours
    ! no such contact             ours: what was asked for could not be done

No label holds a colon and none begins a row of ours, so that no message can pass for another's or ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import ClassVar, Final

from ptproxy.e2e import Standing
from ptproxy.peers.chat.shown import REPLACEMENT, shown_text
from ptproxy.peers.messenger_events import LineState, Trouble

INDENT: Final = "    "
"""Before each further row of a text: none of its rows begins as one of ours does."""

STATES: Final = {
    LineState.WAITING: "waiting",
    LineState.DEPOSITED: "sent",
    LineState.DELIVERED: "delivered",
    LineState.READ: "read",
    LineState.FAILED: "failed",
}
STANDINGS: Final = {
    Standing.UNVERIFIED: "unverified",
    Standing.VERIFIED: "verified",
    Standing.CHANGED: "changed",
}
TROUBLES: Final = {
    Trouble.NONE: "",
    Trouble.MAILBOX_UNREACHABLE: "the mailbox is not reached; it is tried again",
    Trouble.MAILBOX_FULL: "the mailbox is full; it is tried again",
    Trouble.NO_PASS: "the contact's mailbox takes nothing from us; ask for a new invite and add it",
    Trouble.BAD_BUNDLE: "the contact's mailbox hands out nothing to begin with; it is tried again",
    Trouble.IDENTITY_CHANGED: "the identity has changed; accept or keep decides",
}
"""Why something waits, for a person."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that is told; ``event`` is its name in JSON."""

    event: ClassVar[str] = ""

    def rows(self) -> list[str]:
        """Rows of text, harmless."""
        raise NotImplementedError

    def json(self, number: str = "") -> str:
        """One object; ``number`` is the ``id`` of the command that it answers."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return json.dumps({"event": self.event} | values | ({"id": number} if number else {}))


@dataclass(frozen=True, slots=True)
class LineTold(Record):
    """A line of a conversation."""

    event: ClassVar[str] = "line"
    who: str
    contact: str
    """The contact's id in hexadecimal; it stays the same whatever the contact is called."""
    number: int
    ours: bool
    state: str
    written: float
    text: str = field(repr=False)

    def rows(self) -> list[str]:
        """``anna: text``, ours ``> anna: text``, further rows indented."""
        first, *more = shown_text(self.text).split("\n")
        return [f"{'> ' if self.ours else ''}{self.who}: {first}", *(INDENT + row for row in more)]


@dataclass(frozen=True, slots=True)
class StateTold(Record):
    """How far a line of ours has come."""

    event: ClassVar[str] = "state"
    who: str
    contact: str
    number: int
    state: str

    def rows(self) -> list[str]:
        """One row."""
        return [f"* to {self.who}: line {self.number} is {self.state}"]


@dataclass(frozen=True, slots=True)
class ContactTold(Record):
    """A contact and all that is known of it."""

    event: ClassVar[str] = "contact"
    who: str
    contact: str
    name: str
    fingerprint: str
    standing: str
    stranger: bool
    unread: int
    trouble: str

    def rows(self) -> list[str]:
        """One row."""
        parts = [self.standing]
        parts += ["a stranger who wrote; /welcome answers"] * self.stranger
        parts += [f"{self.unread} unread"] * bool(self.unread)
        parts += [self.trouble] * bool(self.trouble)
        return [f"* {self.who}: {', '.join(parts)}"]


@dataclass(frozen=True, slots=True)
class GoneTold(Record):
    """A contact is no longer there."""

    event: ClassVar[str] = "gone"
    who: str
    contact: str

    def rows(self) -> list[str]:
        """One row."""
        return [f"* {self.who} is removed"]


@dataclass(frozen=True, slots=True)
class StandingTold(Record):
    """What is known of a contact's identity has changed."""

    event: ClassVar[str] = "standing"
    who: str
    contact: str
    standing: str
    candidate: str
    """The words of the identity that was seen in place of the known one, or nothing."""
    vouched: bool

    def rows(self) -> list[str]:
        """What the person has to know to decide."""
        if not self.candidate:
            return [f"* {self.who} is {self.standing} now"]
        says = "the old key says that it follows" if self.vouched else "the old key says nothing of it"
        return [
            f"* {self.who}: ANOTHER IDENTITY was seen, and nothing is sent until you decide; {says}",
            f"{INDENT}{self.candidate}",
            f"{INDENT}ask {self.who} another way, then /accept with the words above, or /keep",
        ]


@dataclass(frozen=True, slots=True)
class PresenceTold(Record):
    """A contact says whether it is there."""

    event: ClassVar[str] = "presence"
    who: str
    contact: str
    here: bool
    until: float

    def rows(self) -> list[str]:
        """One row."""
        return [f"* {self.who} is {'here' if self.here else 'away'}"]


@dataclass(frozen=True, slots=True)
class TroubleTold(Record):
    """Why something waits; nothing: it goes on. Without ``who`` it is our own mailbox."""

    event: ClassVar[str] = "trouble"
    who: str
    contact: str
    trouble: str

    def rows(self) -> list[str]:
        """One row."""
        if self.who:
            return [f"* what you write to {self.who}: {self.trouble or 'all is well again'}"]
        return [f"* your mailbox: {self.trouble or 'it is reached'}"]


@dataclass(frozen=True, slots=True)
class UnknownTold(Record):
    """A contact has sent what only a newer program knows."""

    event: ClassVar[str] = "unknown"
    who: str
    contact: str

    def rows(self) -> list[str]:
        """One row."""
        return [f"* {self.who} sent something that this version does not know: is there a newer ptproxy?"]


@dataclass(frozen=True, slots=True)
class NumberTold(Record):
    """A safety number."""

    event: ClassVar[str] = "number"
    who: str
    contact: str
    standing: str
    digits: str
    words: str
    qr: str
    """The text of its QR code."""

    def rows(self) -> list[str]:
        """The number, in both forms."""
        return [f"* {self.who} ({self.standing}): both of you see", INDENT + self.digits, INDENT + self.words]


@dataclass(frozen=True, slots=True)
class Done(Record):
    """What was asked for is done, and saved."""

    event: ClassVar[str] = "done"
    text: str

    def rows(self) -> list[str]:
        """One row, or none."""
        return [f"* {self.text}"] if self.text else []


@dataclass(frozen=True, slots=True)
class Refused(Record):
    """What was asked for could not be done, and nothing has changed."""

    event: ClassVar[str] = "error"
    text: str

    def rows(self) -> list[str]:
        """One row."""
        return [f"! {shown_text(self.text).replace(chr(10), ' ') or REPLACEMENT}"]
