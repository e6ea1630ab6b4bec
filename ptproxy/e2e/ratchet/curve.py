"""X25519 as the ratchet needs it (RFC 7748)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ptproxy.e2e.ratchet.refusals import RatchetRuleError
from ptproxy.errors import LocalProtocolError

KEY: Final = 32
"""Bytes of a private or public key, and of a DH result."""
_P: Final = 2**255 - 19


class RatchetPair:
    """A key pair of one turn; ``public`` is its public key of 32 bytes."""

    __slots__ = ("_key", "_private", "public")

    def __init__(self, private: bytes) -> None:
        """``private`` is 32 bytes, as RFC 7748 clamps them."""
        if len(private) != KEY:
            raise LocalProtocolError("ratchet: a private key has 32 bytes")
        self._private = private
        self._key = X25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, rng: Callable[[int], bytes]) -> RatchetPair:
        """A new pair from ``rng``, a CSPRNG in production."""
        return cls(rng(KEY))

    def serialize(self) -> bytes:
        """The private key, 32 bytes."""
        return self._private

    def exchange(self, public: X25519PublicKey) -> bytes:
        """The DH result; :class:`RatchetRuleError` for a public key of low order, which gives zero."""
        try:
            return self._key.exchange(public)
        except ValueError:
            raise RatchetRuleError("ratchet: an X25519 key of low order") from None

    def __repr__(self) -> str:
        return "<RatchetPair>"


def parse_public(public: bytes) -> X25519PublicKey:
    """A public key of 32 bytes; :class:`RatchetRuleError` if it is not the canonical form of its point."""
    if len(public) != KEY or int.from_bytes(public, "little") >= _P:
        raise RatchetRuleError("ratchet: not an X25519 key")
    return X25519PublicKey.from_public_bytes(public)
