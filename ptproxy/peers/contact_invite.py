"""A contact's invite: all that somebody needs to write to us for the first time, in one line of text.

::

    content = version u8 = 1 │ fingerprint 32 │ prekeys key 32 │ secret 32 │ persons u16 │ expires u32
              │ mailbox link, to the end
    check   = SHA-256("ptproxy 1 contact invite" │ content), first 6 bytes

    text = "ptproxy-contact:" base64url(content │ check), without padding
    QR   = "PTPROXY:CONTACT:" base32(content │ check), without padding: the alphanumeric mode's letters

``secret`` makes two passes at the owner's box (``PROTOCOL.md``, "Tokens and envelopes")::

    to fetch    HKDF(secret, "ptproxy 1 contact invite fetch"):    one token, FETCHES uses a person
    to deposit  HKDF(secret, "ptproxy 1 contact invite deposit"):  DEPOSITS tokens, one use a person each

(HKDF: RFC 5869 with SHA-256, no salt.) The check is against slips of copying, no protection: whoever
can change an invite on its way can put in everything of their own, fingerprint and all. So an
invite is to come by a way that is trusted, or fingerprints are compared afterwards.

It is as secret as what it permits: whoever has it learns the mailbox, can use up its passes, and sees
from the bundle whose it is. Nothing in it serves for reading anything.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ptproxy.config.link import MAX_LINK, Link
from ptproxy.e2e import Fingerprint, Rng
from ptproxy.errors import RemoteProtocolError
from ptproxy.peers.mailbox_delivery import DeliveryPass, expiry_day
from ptproxy.peers.mailbox_requests import Right
from ptproxy.peers.payload import PREKEYS_KEY

DEPOSITS: Final = 16
"""Messages that each person can deposit until our answer brings passes of their own."""
FETCHES: Final = 4
"""Bundles that each person can fetch: an answer that got lost has used one."""
MAX_PERSONS: Final = 256
"""Who may use one invite: 1,024 fetches are far below what a token can have, 65,535."""
MAX_DAYS: Final = 365
"""Days for which an invite is good; a mailbox takes tokens for 400."""
ID: Final = 8
"""Bytes that name an invite among its owner's."""
MAX_INVITE: Final = 8_192
"""Characters of a text that is looked at: the longest invite has 3,600."""

_VERSION: Final = 1
_SECRET: Final = 32
_CHECK: Final = 6
_TEXT: Final = "ptproxy-contact:"
_QR: Final = "PTPROXY:CONTACT:"
_FIELDS: Final = struct.Struct(f">B32s{PREKEYS_KEY}s{_SECRET}sHI")
_CHECK_LABEL: Final = b"ptproxy 1 contact invite"
_ID_LABEL: Final = b"ptproxy 1 contact invite id"
_FETCH_LABEL: Final = b"ptproxy 1 contact invite fetch"
_DEPOSIT_LABEL: Final = b"ptproxy 1 contact invite deposit"
_DAY: Final = 86_400


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

    @classmethod
    def make(
        cls,
        fingerprint: Fingerprint,
        mailbox: Link,
        prekeys_key: bytes,
        now: float,
        rng: Rng,
        *,
        persons: int,
        days: int,
    ) -> Self:
        """A new one; ``days`` are rounded up to a common day, as a token's are."""
        return cls(fingerprint, mailbox, prekeys_key, rng(_SECRET), persons, expiry_day(now, days * _DAY))

    @property
    def id(self) -> bytes:
        """8 bytes that name it, and tell nothing of its secret."""
        return hashlib.sha256(_ID_LABEL + self.secret).digest()[:ID]

    def fetching(self) -> DeliveryPass:
        """The pass to fetch the bundle."""
        uses = FETCHES * self.persons
        return DeliveryPass(self._derive(_FETCH_LABEL), Right.FETCH, 0, 1, uses, self.expires)

    def depositing(self) -> DeliveryPass:
        """The pass to deposit the first messages."""
        secret = self._derive(_DEPOSIT_LABEL)
        return DeliveryPass(secret, Right.DEPOSIT, 0, DEPOSITS, self.persons, self.expires)

    def serialize(self) -> str:
        """One line of text, 500 characters with a usual link."""
        return _TEXT + base64.urlsafe_b64encode(self._checked()).decode("ascii").rstrip("=")

    def qr_text(self) -> str:
        """The same in the alphabet of a QR code's alphanumeric mode, 600 characters."""
        return _QR + base64.b32encode(self._checked()).decode("ascii").rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """From either form, with white space anywhere; raises :class:`InviteError`, repeating nothing."""
        if len(text) > MAX_INVITE:
            raise InviteError("a contact's invite is one line of text; this is longer than any")
        text = "".join(text.split())
        try:
            if text.startswith(_TEXT):
                bare = text.removeprefix(_TEXT)
                checked = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
            elif text.startswith(_QR):
                bare = text.removeprefix(_QR)
                checked = base64.b32decode(bare + "=" * (-len(bare) % 8))
            else:
                raise InviteError(f"a contact's invite starts with {_TEXT}")
        except (binascii.Error, ValueError):
            raise InviteError("the invite is damaged: was all of it copied?") from None
        invite = cls._parse(checked)
        if text not in (invite.serialize(), invite.qr_text()):
            raise InviteError("the invite is damaged: was all of it copied?")
        return invite

    @classmethod
    def _parse(cls, checked: bytes) -> Self:
        content, check = checked[:-_CHECK], checked[-_CHECK:]
        if not hmac.compare_digest(check, _check(content)):
            raise InviteError("the invite is damaged: was all of it copied?")
        if not content or content[0] != _VERSION:
            raise InviteError("the invite is of a version that this program does not know")
        if not _FIELDS.size < len(content) <= _FIELDS.size + MAX_LINK:
            raise InviteError("the invite is of an impossible length")
        _, fingerprint, prekeys_key, secret, persons, expires = _FIELDS.unpack_from(content)
        try:
            mailbox = Link.parse(content[_FIELDS.size :].decode("ascii"))
        except ValueError:
            raise InviteError("the mailbox in the invite is no bridge link") from None
        if not 0 < persons <= MAX_PERSONS:
            raise InviteError("the invite is for an impossible number of persons")
        return cls(Fingerprint(fingerprint), mailbox, prekeys_key, secret, persons, expires)

    def _checked(self) -> bytes:
        content = _FIELDS.pack(
            _VERSION, self.fingerprint.data, self.prekeys_key, self.secret, self.persons, self.expires
        )
        content += self.mailbox.serialize().encode("ascii")
        return content + _check(content)

    def _derive(self, label: bytes) -> bytes:
        return HKDF(hashes.SHA256(), 32, None, label).derive(self.secret)


def _check(content: bytes) -> bytes:
    return hashlib.sha256(_CHECK_LABEL + content).digest()[:_CHECK]
