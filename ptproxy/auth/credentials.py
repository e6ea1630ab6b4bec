"""Keys and tokens as people and files hold them.

A key is 32 bytes, in text 43 characters of base64url without padding (RFC
4648 section 5). An invite token is 16 bytes, in text 22 characters. Both are
accepted in their one canonical spelling only.

This module knows neither files nor who is allowed in (``access``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field
from random import Random
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ptproxy.auth.noise import DHLEN, KeyPair

KEY_LENGTH: Final = DHLEN
"""Bytes of a public or private key."""
TOKEN_LENGTH: Final = 16
"""Bytes of an invite token: 128 bits cannot be guessed, and fit a link of one line."""

_TOKEN_ID_LABEL: Final = b"ptproxy 1 invite token id"


class StaticKey(KeyPair):
    """A side's long-lived X25519 key pair. ``public`` is its 32 public bytes.

    Equality is of the public halves; the repr shows nothing.
    """

    __slots__ = ("_bytes",)

    def __init__(self, private: bytes) -> None:
        """From 32 private bytes; ValueError for another length."""
        super().__init__(private)
        self._bytes = bytes(private)

    @classmethod
    def generate(cls, rng: Random) -> StaticKey:
        """A new key; ``rng`` is a CSPRNG in production."""
        return cls(rng.randbytes(KEY_LENGTH))

    @classmethod
    def parse_private(cls, text: str) -> StaticKey:
        """From :meth:`serialize_private`'s text (white space around it is ignored); ValueError."""
        return cls(decode_key(text.strip()))

    def serialize_private(self) -> str:
        """The private half in 43 characters: for a file of mode 0600 and nothing else."""
        return encode_key(self._bytes)

    def derive(self, label: bytes) -> bytes:
        """32 secret bytes for one other purpose: HKDF-SHA256 of the private half, ``label`` its info."""
        return HKDF(hashes.SHA256(), KEY_LENGTH, None, label).derive(self._bytes)

    def __eq__(self, other: object) -> bool:
        if type(other) is not StaticKey:
            return NotImplemented
        return hmac.compare_digest(self.public, other.public)

    def __hash__(self) -> int:
        return hash(self.public)


def encode_key(key: bytes) -> str:
    """32 bytes as 43 characters; ValueError for another length."""
    if len(key) != KEY_LENGTH:
        raise ValueError("a key is 32 bytes")
    return _encode(key)


def decode_key(text: str) -> bytes:
    """The 32 bytes of 43 characters; ValueError with a text that does not repeat them."""
    return _decode(text, KEY_LENGTH, "a key")


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """An invite token: whoever presents ``secret`` (16 bytes) may enrol a key."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != TOKEN_LENGTH:
            raise ValueError("an invite token is 16 bytes")

    @classmethod
    def parse(cls, text: str) -> Token:
        """From 22 characters; ValueError with a text that does not repeat them."""
        return cls(_decode(text, TOKEN_LENGTH, "an invite token"))

    def serialize(self) -> str:
        """22 characters, for an invite link."""
        return _encode(self.secret)

    @property
    def id(self) -> str:
        """What a bridge keeps instead of the token: :func:`token_id`."""
        return token_id(self.secret)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Token:
            return NotImplemented
        return hmac.compare_digest(self.secret, other.secret)

    def __hash__(self) -> int:
        return hash(self.id)


def new_token(rng: Random) -> Token:
    """A new invite token; ``rng`` is a CSPRNG in production."""
    return Token(rng.randbytes(TOKEN_LENGTH))


def token_id(secret: bytes) -> str:
    """SHA-256 of a label and the token, in hexadecimal: names an invite without giving it away.

    A plain hash is enough: 128 random bits cannot be searched.
    """
    return hashlib.sha256(_TOKEN_ID_LABEL + secret).hexdigest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str, length: int, what: str) -> bytes:
    characters = (length * 4 + 2) // 3
    wrong = f"{what} is {characters} characters of base64url (A-Z a-z 0-9 - _)"
    if len(text) != characters or not text.isascii():
        raise ValueError(wrong)
    try:
        data = base64.b64decode(text + "=" * (-characters % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError(wrong) from None
    if len(data) != length or not hmac.compare_digest(_encode(data), text):
        raise ValueError(f"{wrong}, in their canonical spelling")
    return data
