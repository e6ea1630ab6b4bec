"""Ed25519 keys and signatures (RFC 8032), each key in one encoding only.

::

    06 │ A, 32 bytes: y little-endian, below 2^255 - 19, and the sign of x in the top bit

A public key of low order is refused: there are signatures under it that verify for
any message. A signature covers ``label │ 00 │ message``, so that one made for one
purpose never serves another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ptproxy.e2e.rng import Rng
from ptproxy.errors import E2EError, LocalProtocolError

RAW: Final = 32
"""Bytes of a public key or private seed (RFC 8032 section 5.1)."""
ENCODED: Final = 1 + RAW
"""Bytes of an encoded public key."""
SIGNATURE: Final = 64
"""Bytes of a signature."""

_TYPE: Final = b"\x06"
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


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key: ``raw`` is canonical and of large order (:class:`E2EError` otherwise)."""

    raw: bytes

    def __post_init__(self) -> None:
        y = int.from_bytes(self.raw, "little") & ~_SIGN
        if len(self.raw) != RAW or y >= _PRIME or y in _LOW_ORDER:
            raise E2EError("an Ed25519 key: not canonical, or of low order")

    @classmethod
    def parse(cls, data: bytes) -> VerifyingKey:
        """From its 33 bytes; :class:`E2EError` for anything else, a key of another kind included."""
        if data[:1] != _TYPE:
            raise E2EError("not an Ed25519 key")
        return cls(data[1:])

    def serialize(self) -> bytes:
        """33 bytes."""
        return _TYPE + self.raw

    def verify(self, signature: bytes, label: bytes, message: bytes) -> None:
        """Return if this key signed ``message`` under ``label``; :class:`E2EError` if not."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, _signed(label, message))
        except (InvalidSignature, ValueError):
            raise E2EError("a signature does not verify") from None


class SigningKey:
    """A private key with its public half, ``public``."""

    __slots__ = ("_key", "_seed", "public")

    def __init__(self, seed: bytes) -> None:
        """From 32 private bytes; ValueError for another length."""
        self._seed = bytes(seed)
        self._key = Ed25519PrivateKey.from_private_bytes(self._seed)
        self.public: VerifyingKey = VerifyingKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, rng: Rng) -> SigningKey:
        """A new key; ``rng`` is a CSPRNG in production."""
        return cls(rng(RAW))

    def sign(self, label: bytes, message: bytes) -> bytes:
        """64 bytes, the same for the same input."""
        return self._key.sign(_signed(label, message))

    def serialize_private(self) -> bytes:
        """The 32 private bytes: for the encrypted store and nothing else."""
        return self._seed

    def __repr__(self) -> str:
        return "<SigningKey>"


def _signed(label: bytes, message: bytes) -> bytes:
    if b"\x00" in label:
        raise LocalProtocolError("a signature's label has no zero byte")
    return label + b"\x00" + message
