"""Ed25519 signatures (RFC 8032) of what nodes say; a signature covers ``label │ message``.

A public key of low order, or one that is not canonical, verifies nothing: under a
key of low order there are signatures that fit any message, so that anybody could
speak for such a node.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ptproxy.dht.identifier import Rng
from ptproxy.errors import DhtError

KEY: Final = 32
"""Bytes of a public key, and of a private seed (RFC 8032 section 5.1.5)."""
SIGNATURE: Final = 64
"""Bytes of a signature."""

_PRIME: Final = 2**255 - 19
_SIGN: Final = 1 << 255
_LOW_ORDER: Final = frozenset(
    (
        0,
        1,
        _PRIME - 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    )
)
"""y of every point whose order divides 8, the cofactor."""


def verify(key: bytes, signature: bytes, label: bytes, message: bytes) -> None:
    """Return if ``key`` signed ``message`` under ``label``; :class:`DhtError` if not."""
    y = int.from_bytes(key, "little") & ~_SIGN
    if len(key) != KEY or y >= _PRIME or y in _LOW_ORDER:
        raise DhtError("a node's key that is not canonical, or of low order")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, label + message)
    except (InvalidSignature, ValueError):
        raise DhtError("a signature does not verify") from None


class SigningKey:
    """A node's private key with its public half, ``public`` (32 bytes)."""

    __slots__ = ("_key", "_seed", "public")

    def __init__(self, seed: bytes) -> None:
        """From 32 private bytes; ValueError for another length."""
        self._seed = bytes(seed)
        self._key = Ed25519PrivateKey.from_private_bytes(self._seed)
        self.public: bytes = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, rng: Rng) -> SigningKey:
        """A new key; ``rng`` is a CSPRNG in production."""
        return cls(rng(KEY))

    def sign(self, label: bytes, message: bytes) -> bytes:
        """64 bytes, the same for the same input."""
        return self._key.sign(label + message)

    def serialize_private(self) -> bytes:
        """The 32 private bytes: for a file that only its owner reads, and nothing else."""
        return self._seed

    def __repr__(self) -> str:
        return "<SigningKey>"
