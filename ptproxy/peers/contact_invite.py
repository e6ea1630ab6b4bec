"""A contact's invite: all that somebody needs to write to us for the first time, in one line of text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from ptproxy.config.link import Link
from ptproxy.e2e import Fingerprint
from ptproxy.errors import RemoteProtocolError


class InviteError(RemoteProtocolError):
    """A text that is no invite, or one of a version that we do not know."""


@dataclass(frozen=True, slots=True)
class ContactInvite:
    """Who, where, and with which passes."""

    fingerprint: Fingerprint
    mailbox: Link = field(repr=False)
    prekeys_key: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    persons: int
    """How many may use it."""
    expires: int
    """The day (since 1970, UTC) from whose beginning on it is worth nothing."""

    def serialize(self) -> str:
        """One line of text."""
        raise NotImplementedError

    def qr_text(self) -> str:
        """The same in the alphabet of a QR code's alphanumeric mode."""
        raise NotImplementedError

    @classmethod
    def parse(cls, text: str) -> Self:
        """From either form, with whatever white space; raises :class:`InviteError`."""
        raise NotImplementedError
