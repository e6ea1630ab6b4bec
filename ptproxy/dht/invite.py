"""An invite: what an operator gives a person, so that they find bridges today and when these have moved.

::

    invite = version u8 = 1 │ issuer's key 32 │ secret 32 │ expires u64 │ bridge bucket (``bridge_record``)
             │ signature 64 by the issuer, label "ptproxy 1 dht invite ", of everything before it

    as text, also in a QR code: "ptproxy-invite:" │ the bytes in base64url without padding

Its bridge lines are good now; with ``secret`` and ``issuer`` the record of the day is found and
opened when they no longer are. The signature shows a damaged or changed invite at once, and lets
those who know the issuer check one that was passed on. Whoever holds the text holds the invite.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import Final

from ptproxy.config.link import Link
from ptproxy.dht import signing
from ptproxy.dht.bridge_record import BridgeBucket
from ptproxy.dht.identifier import Rng
from ptproxy.dht.record_secret import SECRET, RecordSecret
from ptproxy.dht.signing import KEY, SIGNATURE, SigningKey
from ptproxy.errors import DhtError, LocalProtocolError
from ptproxy.fields import Fields

PREFIX: Final = "ptproxy-invite:"
MAX_TEXT: Final = 2_953
"""Characters of an invite's text: what the largest QR code holds. The longest invite has 2,639."""
MAX_TIME: Final = 2**53
"""Seconds: what every JSON reader keeps exactly."""
INVITE_ID: Final = 16
"""Bytes by which an operator's list names an invite."""

_VERSION: Final = 1
_TIME: Final = 8
_LABEL: Final = b"ptproxy 1 dht invite "
_ID_LABEL: Final = b"ptproxy 1 dht invite id\x00"


class InviteError(DhtError):
    """Text that is no invite, or one that was changed or cut; the message is for a person."""


class InviteExpiredError(InviteError):
    """The invite was good once."""


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite whose signature has verified: made by :meth:`issue` or read by :meth:`parse`."""

    issuer: bytes
    """32 bytes: the Ed25519 key that signs the insides of its records."""
    secret: RecordSecret
    expires: int
    """Unix seconds: from then on no records are published for it."""
    bridges: tuple[Link, ...] = field(repr=False)
    """One to three, as they were when it was made."""
    signature: bytes = field(repr=False)

    @classmethod
    def issue(cls, issuer: SigningKey, bridges: tuple[Link, ...], expires: int, rng: Rng) -> Invite:
        """A new invite under a new secret; :class:`LocalProtocolError` for one that cannot be said."""
        if not bridges or not 0 <= expires <= MAX_TIME:
            raise LocalProtocolError("an invite has a bridge at least, and a time when it ends")
        draft = cls(issuer.public, RecordSecret.generate(rng), expires, bridges, b"")
        signature = issuer.sign(_LABEL, draft._said())
        return cls(draft.issuer, draft.secret, expires, bridges, signature)

    @classmethod
    def parse(cls, text: str) -> Invite:
        """From its text, white space around it ignored.

        :class:`InviteError` for anything else. Says nothing of its expiry: see :meth:`check_time`.
        """
        data = _decode(text.strip())
        fields = Fields(data, InviteError("this invite is cut short, or damaged"))
        if fields.number(1) != _VERSION:
            raise InviteError("this invite is of a version that this program does not know")
        issuer, secret, expires = fields.take(KEY), fields.take(SECRET), fields.number(_TIME)
        try:
            bucket = BridgeBucket.take(fields)
            said = fields.so_far()
            signature = fields.take(SIGNATURE)
            fields.end()
            signing.verify(issuer, signature, _LABEL, said)
        except InviteError:
            raise
        except DhtError as error:
            raise InviteError(f"this invite is damaged, or somebody changed it ({error})") from None
        if not bucket.bridges or expires > MAX_TIME:
            raise InviteError("this invite names no bridge, or an impossible time")
        return cls(issuer, RecordSecret(secret), expires, bucket.bridges, signature)

    def serialize(self) -> str:
        """One line of text, a secret: some 800 to 1,300 characters with three usual bridge lines."""
        return PREFIX + _encode(self._said() + self.signature)

    def check_time(self, now: float) -> None:
        """Return while the invite is good; :class:`InviteExpiredError` afterwards."""
        if now >= self.expires:
            raise InviteExpiredError("this invite has expired: ask whoever gave it for a new one")

    @property
    def id(self) -> bytes:
        """16 bytes that name it in lists and logs, and give nothing away."""
        return invite_id(self.secret)

    def _said(self) -> bytes:
        head = bytes((_VERSION,)) + self.issuer + self.secret.data + self.expires.to_bytes(_TIME, "big")
        return head + BridgeBucket(self.bridges).serialize()


def invite_id(secret: RecordSecret) -> bytes:
    """What an invite with this secret is known by."""
    return hashlib.sha256(_ID_LABEL + secret.data).digest()[:INVITE_ID]


def _decode(text: str) -> bytes:
    """The bytes of a text in its one canonical spelling."""
    if not text.startswith(PREFIX):
        raise InviteError(f"an invite starts with {PREFIX}")
    if len(text) > MAX_TEXT or not text.isascii():
        raise InviteError(f"an invite is one line of at most {MAX_TEXT} ASCII characters")
    body = text.removeprefix(PREFIX)
    try:
        data = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except binascii.Error:
        data = b""
    if _encode(data) != body:
        raise InviteError("this invite is cut short, or damaged")
    return data


def _encode(data: bytes) -> str:
    """base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")
