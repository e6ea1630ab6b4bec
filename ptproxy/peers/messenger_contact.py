"""What is kept of one contact beside its ratchets: names, its mailbox, passes, what it is owed.

Stored, as the piece ``messenger/contact <id in hex>``::

    version u8 = 2 │ flags u8 │ last number u64 │ read u64 │ unread u32
    │ oldest u64 │ kept u64 │ told u64            (not in version 1: a history without an end)
    │ own name length u16 │ own name │ said name length u16 │ said name
    │ link length u16 │ link │ prekeys key 0 or 32 (where there is a link)
    │ held passes │ given passes │ owed delivered │ owed read        (messenger_passes.py)

    owed = count u16 │ (number u64) *

Flags: 1 owes a hello, 2 stranger, 4 wishes for passes, 8 a pass is to be made for it,
16 is to hear of our successor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final

from ptproxy.config.link import MAX_LINK, Link
from ptproxy.errors import StateError
from ptproxy.fields import Fields
from ptproxy.peers.messenger_events import ContactId
from ptproxy.peers.messenger_passes import GivenPasses, HeldPasses
from ptproxy.peers.payload import MAX_NAME, MAX_NUMBER, PREKEYS_KEY

MAX_OWED: Final = 4_096
"""Lines whose receipts wait; beyond that the oldest are not confirmed: the contact wrote thousands
that we could not answer."""

_VERSION: Final = 2
_ENDLESS: Final = 1
"""The version before: its histories are counted from now on."""
CONTACT: Final = 16
"""Bytes of a contact's id."""


class _Flag(IntFlag):
    OWES_HELLO = 1
    STRANGER = 2
    WISHES = 4
    PASS_DUE = 8
    OWES_SUCCESSION = 16


_ALL: Final = 31


@dataclass(slots=True)
class ContactRecord:
    """One contact; whoever changes it says so to the :class:`~ptproxy.e2e.unsaved.Unsaved`."""

    id: ContactId
    own_name: str = ""
    """What the person calls it."""
    said_name: str = ""
    """What it calls itself."""
    mailbox: Link | None = field(default=None, repr=False)
    prekeys_key: bytes = field(default=b"", repr=False)
    held: HeldPasses = field(default_factory=HeldPasses, repr=False)
    given: GivenPasses = field(default_factory=GivenPasses, repr=False)
    owes_hello: bool = False
    """It is to be told our name, mailbox and passes."""
    stranger: bool = False
    """It wrote to us without an invite; nothing is answered until the person wants it."""
    wishes: bool = False
    """We have only what its invite gave us: the next message asks for passes."""
    pass_due: bool = False
    """It is to be given a pass, however many it has: it said that it runs out."""
    owes_succession: bool = False
    """It is to be told, in the old identity's name, who follows it."""
    last_number: int = 0
    """Of the history's lines."""
    oldest: int = 1
    """No line below this number is kept any more."""
    kept: int = 0
    """Bytes of the lines that are kept, as they are stored."""
    told: int = 0
    """When the hello that we go by was said, in milliseconds of its clock: mail may change its order."""
    read: int = 0
    """The person has seen the lines up to this number."""
    unread: int = 0
    owed_delivered: list[int] = field(default_factory=list)
    """Numbers of the contact's lines (its own numbers) that it is to be told about."""
    owed_read: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What to show; as it came."""
        return self.own_name or self.said_name

    @property
    def piece(self) -> str:
        """The name of its piece."""
        return contact_piece(self.id)

    def next_number(self) -> int:
        """The number of a new line."""
        self.last_number += 1
        return self.last_number

    def owe(self, owed: list[int], number: int) -> None:
        """One more line to confirm."""
        if number not in owed[-1:]:
            owed.append(number)
        del owed[:-MAX_OWED]

    def serialize(self) -> bytes:
        """See the module."""
        link = b"" if self.mailbox is None else self.mailbox.serialize().encode("ascii")
        flags = (
            _Flag.OWES_HELLO * self.owes_hello
            | _Flag.STRANGER * self.stranger
            | _Flag.WISHES * self.wishes
            | _Flag.PASS_DUE * self.pass_due
            | _Flag.OWES_SUCCESSION * self.owes_succession
        )
        return b"".join(
            (
                bytes((_VERSION, flags)),
                self.last_number.to_bytes(8, "big"),
                self.read.to_bytes(8, "big"),
                self.unread.to_bytes(4, "big"),
                self.oldest.to_bytes(8, "big"),
                self.kept.to_bytes(8, "big"),
                self.told.to_bytes(8, "big"),
                _sized(self.own_name.encode()),
                _sized(self.said_name.encode()),
                _sized(link),
                self.prekeys_key if link else b"",
                self.held.serialize(),
                self.given.serialize(),
                _numbers(self.owed_delivered),
                _numbers(self.owed_read),
            )
        )

    @classmethod
    def parse(cls, contact: ContactId, data: bytes) -> ContactRecord:
        """The reverse; :class:`StateError` where it is damaged."""
        damaged = StateError("contact record: damaged, or of a version that this program does not know")
        fields = Fields(data, damaged)
        version, flags = fields.number(1), fields.number(1)
        if version not in (_VERSION, _ENDLESS) or flags & ~_ALL:
            raise damaged
        record = cls(contact)
        record.owes_hello, record.stranger = bool(flags & _Flag.OWES_HELLO), bool(flags & _Flag.STRANGER)
        record.wishes, record.pass_due = bool(flags & _Flag.WISHES), bool(flags & _Flag.PASS_DUE)
        record.owes_succession = bool(flags & _Flag.OWES_SUCCESSION)
        record.last_number, record.read, record.unread = fields.number(8), fields.number(8), fields.number(4)
        if version != _ENDLESS:
            record.oldest, record.kept, record.told = fields.number(8), fields.number(8), fields.number(8)
        try:
            record.own_name = fields.take(fields.number(2)).decode()
            record.said_name = fields.take(fields.number(2)).decode()
            link = fields.take(fields.number(2)).decode("ascii")
            record.mailbox = Link.parse(link) if link else None
        except ValueError:
            raise damaged from None
        record.prekeys_key = fields.take(PREKEYS_KEY) if link else b""
        record.held = HeldPasses.take_from(fields, damaged)
        record.given = GivenPasses.take_from(fields, damaged)
        record.owed_delivered = _take_numbers(fields, damaged)
        record.owed_read = _take_numbers(fields, damaged)
        fields.end()
        if len(link) > MAX_LINK or len(record.said_name.encode()) > MAX_NAME:
            raise damaged
        return record


def contact_piece(contact: ContactId) -> str:
    """The name of a contact's piece."""
    return f"messenger/contact {contact.hex()}"


def history_list(contact: ContactId) -> str:
    """The name of a contact's list of lines."""
    return f"messenger/history {contact.hex()}"


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _numbers(numbers: list[int]) -> bytes:
    return len(numbers).to_bytes(2, "big") + b"".join(number.to_bytes(8, "big") for number in numbers)


def _take_numbers(fields: Fields, damaged: StateError) -> list[int]:
    numbers = [fields.number(8) for _ in range(fields.number(2))]
    if len(numbers) > MAX_OWED or any(not 0 < number <= MAX_NUMBER for number in numbers):
        raise damaged
    return numbers
