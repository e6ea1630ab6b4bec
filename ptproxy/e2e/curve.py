"""X25519 keys (RFC 7748), each in one encoding only.

::

    05 │ u, 32 bytes, little-endian, below 2^255 - 19, not of low order

RFC 7748 lets a receiver take any 32 bytes. Here two texts never mean one key: a
key's bytes are what signatures and associated data bind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ptproxy.e2e.rng import Rng
from ptproxy.errors import E2EError

RAW: Final = 32
"""Bytes of a public key, private key or shared secret (RFC 7748 section 5)."""
ENCODED: Final = 1 + RAW
"""Bytes of an encoded public key."""

_TYPE: Final = b"\x05"
_PRIME: Final = 2**255 - 19
_LOW_ORDER: Final = frozenset(
    (
        0,
        1,
        _PRIME - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
)
"""u of every point whose order divides 8, on the curve and its twist; every scalar takes them to zero."""


@dataclass(frozen=True, slots=True)
class CurveKey:
    """A public key: ``raw`` is u, canonical and of large order (:class:`E2EError` otherwise)."""

    raw: bytes

    def __post_init__(self) -> None:
        u = int.from_bytes(self.raw, "little")
        if len(self.raw) != RAW or u >= _PRIME or u in _LOW_ORDER:
            raise E2EError("an X25519 key: not canonical, or of low order")

    @classmethod
    def parse(cls, data: bytes) -> CurveKey:
        """From its 33 bytes; :class:`E2EError` for anything else, a key of another kind included."""
        if data[:1] != _TYPE:
            raise E2EError("not an X25519 key")
        return cls(data[1:])

    def serialize(self) -> bytes:
        """33 bytes."""
        return _TYPE + self.raw


class CurveKeyPair:
    """A private key with its public half, ``public``. Equality is of the public halves."""

    __slots__ = ("_key", "_private", "public")

    def __init__(self, private: bytes) -> None:
        """From 32 private bytes; ValueError for another length."""
        self._private = bytes(private)
        self._key = X25519PrivateKey.from_private_bytes(self._private)
        self.public: CurveKey = CurveKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, rng: Rng) -> CurveKeyPair:
        """A new pair; ``rng`` is a CSPRNG in production."""
        return cls(rng(RAW))

    def exchange(self, peer: CurveKey) -> bytes:
        """The shared secret, 32 bytes; :class:`E2EError` where it is zero."""
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(peer.raw))
        except ValueError:
            raise E2EError("X25519: a shared secret of zeros") from None

    def serialize_private(self) -> bytes:
        """The 32 private bytes: for the encrypted store and nothing else."""
        return self._private

    def __eq__(self, other: object) -> bool:
        return self.public == other.public if type(other) is CurveKeyPair else NotImplemented

    def __hash__(self) -> int:
        return hash(self.public)

    def __repr__(self) -> str:
        return "<CurveKeyPair>"
