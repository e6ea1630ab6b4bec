"""What a person's records say: how to begin with them while they are away, and where their mailbox is now.

::

    prekey bundle    content = the bundle, 1 to 1,831 bytes, as it is published
    mailbox pointer  content = bridge line (``bridge_line``) │ passes, 0 to 1,024 bytes

A bundle is not looked into here: ``ptproxy.e2e.bundle.verify`` says whether it is good.
It comes without one-time prekeys, which only a mailbox can hand out once each. ``passes``
is what a contact needs to deposit there; its form is the messenger's. Both records lie under a
secret that the person gave the contact (in an invite, or over the ratchet): with a
secret for each contact nothing links their records, and one contact can be left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ptproxy.config.link import Link
from ptproxy.dht.bridge_line import serialize_line, take_line
from ptproxy.dht.record import RecordError
from ptproxy.dht.record_secret import MAX_CONTENT
from ptproxy.errors import LocalProtocolError
from ptproxy.fields import Fields

MAX_PASSES: Final = 1_024
"""Bytes of passes: several times 77, beside a usual bridge line."""


@dataclass(frozen=True, slots=True)
class PrekeyBundleRecord:
    """A bundle as its owner signed it; :class:`LocalProtocolError` for one of an impossible length."""

    bundle: bytes

    def __post_init__(self) -> None:
        if not 0 < len(self.bundle) <= MAX_CONTENT:
            raise LocalProtocolError(f"a published bundle has 1 to {MAX_CONTENT} bytes")

    @classmethod
    def parse(cls, data: bytes) -> PrekeyBundleRecord:
        """From a record's content; :class:`RecordError` for anything else."""
        if not 0 < len(data) <= MAX_CONTENT:
            raise RecordError("prekey bundle: of an impossible length")
        return cls(data)

    def serialize(self) -> bytes:
        """The bundle."""
        return self.bundle


@dataclass(frozen=True, slots=True)
class MailboxPointer:
    """Where somebody's mailbox is, and what lets a contact use it."""

    mailbox: Link = field(repr=False)
    passes: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.passes) > MAX_PASSES:
            raise LocalProtocolError(f"the passes of a mailbox pointer have {MAX_PASSES} bytes at most")

    @classmethod
    def parse(cls, data: bytes) -> MailboxPointer:
        """From a record's content; :class:`RecordError` for anything else."""
        fields = Fields(data, RecordError("mailbox pointer: cut short"))
        mailbox = take_line(fields)
        passes = fields.rest()
        if len(passes) > MAX_PASSES:
            raise RecordError("mailbox pointer: too many passes")
        return cls(mailbox, passes)

    def serialize(self) -> bytes:
        """The reverse; :class:`LocalProtocolError` where line and passes are too long for a record."""
        data = serialize_line(self.mailbox) + self.passes
        if len(data) > MAX_CONTENT:
            raise LocalProtocolError(f"a mailbox pointer has {MAX_CONTENT} bytes at most")
        return data
