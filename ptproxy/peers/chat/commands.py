"""What a person or a script asks of the chat: one line each, as text or as a JSON object.

Text::

    NAME: TEXT                       say something to a contact
    /VERB ARGUMENT ...               anything else; an argument with blanks stands in "..."

JSON (one object a line, in UTF-8; ``id`` is optional and comes back in the answer)::

    {"do": VERB, FIELD: VALUE, ..., "id": "7"}

========  ==============================  =========================================================
say       who text                        a line to a contact (JSON; in text ``NAME: TEXT``)
add       invite [name]                   a contact, by an invite
invite    [label]                         an invite for somebody, who is called so in the list of invites
invites                                   those that are still good
revoke    invite                          one of them is good no longer, by the start of its id
whoami                                    what we are called, our identity, what is set
myname    name                            what we are called; contacts are told
receipts  on|off                          whether contacts are told what was read
mailbox   link                            have our mailbox at the bridge of this link from now on
successor                                 make an identity that is to follow ours, and tell contacts of it;
                                          again: whom that has reached
become    words                           be that identity; ``words``: its first four words or more
contacts                                  who there is, and how they stand
welcome   who                             a stranger who wrote is a contact from now on
number    who                             the safety number
verify    who text                        the number was compared: it was this one
accept    who words                       write to the identity that was seen in the known one's place;
                                          ``words``: its first four words or more, as they were shown
keep      who                             stay with the identity that is known
remove    who                             forget a contact
rename    who name                        call a contact something else, on this side only
presence  who on|off                      whether this contact is told that we are there
history   who [count]                     the last lines
share     who invite                      pass on an invite to bridges, itself or ``@FILE``
bridges                                   those that contacts have passed on
use       invite                          take one of them, by the start of its id, for a client
drop      invite                          do not, or no longer
findable  who on|off                      whether this contact finds our mailbox in the directory
send      who path                        offer a file
take      offer                           take a file that is offered
refuse    offer                           do not
stop      file                            break off a file on its way, either way
quit                                      leave
========  ==============================  =========================================================

Contacts are named by their labels (:mod:`~ptproxy.peers.chat.names`) or their fingerprints. Whatever is
wrong with a line is a :class:`CommandError`, in words for whoever wrote it; it never repeats an invite
or a link.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final, TypeVar, cast

from ptproxy.peers.chat.commands_bridges import Bridges, Drop, Findable, Share, Use

MAX_LINE: Final = 1 << 18
"""Bytes of a line: the longest message with every character escaped as JSON does."""
MAX_ID: Final = 64
"""Characters of an ``id``."""
MAX_HISTORY: Final = 1_000
"""Lines that one ``history`` shows."""


class CommandError(ValueError):
    """A line that asks for nothing that there is."""


@dataclass(frozen=True, slots=True)
class Say:
    """A line to a contact."""

    who: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Add:
    """A contact, by an invite."""

    invite: str = field(repr=False)
    name: str = ""


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite for somebody."""

    label: str = ""


@dataclass(frozen=True, slots=True)
class Invites:
    """Invites that are still good."""


@dataclass(frozen=True, slots=True)
class Revoke:
    """An invite is good no longer."""

    invite: str


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """What you are called, your identity, what is set."""


@dataclass(frozen=True, slots=True)
class MyName:
    """You are called something else; contacts are told."""

    name: str


@dataclass(frozen=True, slots=True)
class Receipts:
    """Whether contacts are told what you have read: on or off."""

    state: str

    def __post_init__(self) -> None:
        _check_switch("receipts", self.state)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Your mailbox is at another bridge from now on; contacts are told."""

    link: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Successor:
    """Announce a new identity of yours, or see whom that has reached."""


@dataclass(frozen=True, slots=True)
class Become:
    """Be the identity that was announced, named by its first words."""

    words: str


@dataclass(frozen=True, slots=True)
class Contacts:
    """Who there is."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """A stranger becomes a contact."""

    who: str


@dataclass(frozen=True, slots=True)
class Number:
    """A contact's safety number."""

    who: str


@dataclass(frozen=True, slots=True)
class Verify:
    """The safety number was compared."""

    who: str
    text: str


@dataclass(frozen=True, slots=True)
class Accept:
    """The identity that was seen is accepted, named by its first words."""

    who: str
    words: str


@dataclass(frozen=True, slots=True)
class Keep:
    """The known identity stays."""

    who: str


@dataclass(frozen=True, slots=True)
class Remove:
    """A contact is forgotten."""

    who: str


@dataclass(frozen=True, slots=True)
class Rename:
    """A contact is called something else."""

    who: str
    name: str


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a contact is told that we are there: on or off."""

    who: str
    state: str

    def __post_init__(self) -> None:
        _check_switch("presence", self.state)


@dataclass(frozen=True, slots=True)
class History:
    """A conversation's last lines."""

    who: str
    count: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_HISTORY:
            raise CommandError(f"history shows 1 to {MAX_HISTORY} lines")


@dataclass(frozen=True, slots=True)
class Send:
    """A file is offered."""

    who: str
    path: str


@dataclass(frozen=True, slots=True)
class Take:
    """A file that is offered is taken."""

    offer: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """A file that is offered is not taken."""

    offer: str


@dataclass(frozen=True, slots=True)
class Stop:
    """A file on its way is broken off."""

    file: str


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave."""


Command = (
    Say | Add | Invite | Invites | Revoke | WhoAmI | MyName | Receipts | Mailbox | Successor | Become
    | Contacts | Welcome | Number | Verify | Accept | Keep | Remove | Rename | Presence | History | Send
    | Take | Refuse | Stop | Share | Bridges | Use | Drop | Findable | Quit
)  # fmt: skip

VERBS: Final[dict[str, type[Command]]] = {
    kind.__name__.lower(): kind
    for kind in (
        Say, Add, Invite, Invites, Revoke, WhoAmI, MyName, Receipts, Mailbox, Successor, Become, Contacts,
        Welcome, Number, Verify, Accept, Keep, Remove, Rename, Presence, History, Send, Take, Refuse, Stop,
        Share, Bridges, Use, Drop, Findable, Quit,
    )
}  # fmt: skip
_REST: Final[dict[type[Command], str]] = {
    Add: "name",
    Invite: "label",
    MyName: "name",
    Become: "words",
    Verify: "text",
    Accept: "words",
    Rename: "name",
    Send: "path",
}
"""The last argument of these takes all words that are left."""

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Asked:
    """A command, and what its answer is to be told apart by."""

    command: Command
    id: str = ""


def parse_text(line: str) -> Command:
    """A line of text; :class:`CommandError` for one that is none."""
    if line.startswith("/"):
        return parse_slash(line)
    who, colon, text = line.partition(":")
    if not colon or not who.strip() or not text.strip():
        raise CommandError("write NAME: TEXT, or /contacts, /invite, /add ...; /help tells more")
    return Say(who.strip(), text.strip())


def parse_slash(line: str, here: str = "") -> Command:
    """``/verb arguments``; with ``here`` commands about a contact leave out whom: they are about that one."""
    try:
        words = shlex.split(line.removeprefix("/"))
    except ValueError:
        raise CommandError('a quotation mark is missing: "..." holds one argument together') from None
    kind = VERBS.get(words[0]) if words else None
    if kind is None or kind is Say:
        raise CommandError("there is no such command; /help tells which there are")
    names = [each.name for each in fields(kind)]
    needed = sum(each.default is MISSING for each in fields(kind))
    values = words[1:]
    if here and names[:1] == ["who"]:
        values.insert(0, here)
    if kind in _REST and len(values) > len(names):
        values[len(names) - 1 :] = [" ".join(values[len(names) - 1 :])]
    if not needed <= len(values) <= len(names):
        raise CommandError(
            f"{usage(words[0])}: {'too many' if len(values) > len(names) else 'too few'} words"
        )
    return _make(kind, dict(zip(names, values, strict=False)))


def parse_json(line: bytes) -> Asked:
    """An object; :class:`CommandError` for anything else."""
    try:
        found = json.loads(line) if len(line) <= MAX_LINE else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CommandError('one JSON object a line, as in {"do": "say", "who": "anna", "text": "hello"}')
    number = found.pop("id", "")
    if not isinstance(number, str) or len(number) > MAX_ID:
        raise CommandError(f"id is a string of at most {MAX_ID} characters")
    verb = found.pop("do", None)
    kind = VERBS.get(verb) if isinstance(verb, str) else None
    if kind is None:
        raise AnsweredError(number, f"do is one of {', '.join(VERBS)}")
    try:
        return Asked(_make(kind, found), number)
    except CommandError as error:
        raise AnsweredError(number, str(error)) from None


class AnsweredError(CommandError):
    """An object whose ``id`` is known, and that asks for nothing that there is."""

    def __init__(self, number: str, text: str) -> None:
        super().__init__(text)
        self.id = number


def usage(verb: str) -> str:
    """A command as people write it: ``/verify WHO TEXT``."""
    words = [
        each.name.upper() if each.default is MISSING else f"[{each.name.upper()}]"
        for each in fields(VERBS[verb])
    ]
    return " ".join((f"/{verb}", *words))


def _make(kind: type[C], values: dict[str, Any]) -> C:
    """A command from its fields by name, each of its type."""
    known = {each.name: each for each in fields(cast("Any", kind))}
    unknown = values.keys() - known.keys()
    missing = [name for name, each in known.items() if each.default is MISSING and name not in values]
    if unknown or missing:
        verb = kind.__name__.lower()
        raise CommandError(f"{verb} takes {', '.join(known) or 'nothing'}")
    for name, value in values.items():
        if known[name].type in ("int", int):
            values[name] = _count(value)
        elif not isinstance(value, str) or (not value.strip() and known[name].default is MISSING):
            raise CommandError(f"{name} is a text and not empty")
        elif not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
            raise CommandError(f"{name} holds half a character, which UTF-8 has not")
    return kind(**values)


def _check_switch(what: str, state: str) -> None:
    if state not in ("on", "off"):
        raise CommandError(f"{what} is on or off")


def _count(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise CommandError("count is a number")
