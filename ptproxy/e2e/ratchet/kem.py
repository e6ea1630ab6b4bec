"""ML-KEM-768 as the ratchet needs it (FIPS 203).

A library without it is noticed when this is imported, not fifty messages into
a conversation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from ptproxy.e2e.ratchet.refusals import RatchetRuleError
from ptproxy.errors import LocalProtocolError, StartError

try:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
except ImportError:
    raise StartError(
        "messages between peers need ML-KEM-768, which this version of the Python package 'cryptography' "
        "lacks: install cryptography 47 or newer"
    ) from None

ENCAPSULATION_KEY: Final = 1184
"""Bytes of an encapsulation key (table 3)."""
CIPHERTEXT: Final = 1088
"""Bytes of a ciphertext (table 3)."""
SEED: Final = 64
"""Bytes of the seed ``d ‖ z`` of a decapsulation key (algorithm 16)."""


@dataclass(frozen=True, slots=True)
class KemSecret:
    """What one KEM step gives to the root."""

    shared: bytes = field(repr=False)
    """The shared secret, 32 bytes."""
    transcript: bytes
    """SHA-256 over key and ciphertext: the step is about these and no others."""


class DecapsulationKey:
    """The key behind an offer; ``public`` is what is offered, 1184 bytes."""

    __slots__ = ("_key", "_seed", "public")

    def __init__(self, seed: bytes) -> None:
        """``seed`` is 64 random bytes."""
        if len(seed) != SEED:
            raise LocalProtocolError("ratchet: the seed of an ML-KEM key has 64 bytes")
        self._seed = seed
        self._key = MLKEM768PrivateKey.from_seed_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    def serialize(self) -> bytes:
        """The seed."""
        return self._seed

    def decapsulate(self, ciphertext: bytes) -> KemSecret:
        """The secret behind a ciphertext of 1088 bytes; one for another key gives an unrelated secret."""
        return KemSecret(self._key.decapsulate(ciphertext), _transcript(self.public, ciphertext))

    def __repr__(self) -> str:
        return "<DecapsulationKey>"


def check(public: bytes) -> None:
    """Raise :class:`RatchetRuleError` unless ``public`` is an encapsulation key (FIPS 203 section 7.2)."""
    try:
        MLKEM768PublicKey.from_public_bytes(public)
    except ValueError:
        raise RatchetRuleError("ratchet: not an ML-KEM-768 key") from None


def encapsulate(public: bytes) -> tuple[KemSecret, bytes]:
    """A new secret for a checked key, and its ciphertext. The randomness is the library's own."""
    shared, ciphertext = MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    return KemSecret(shared, _transcript(public, ciphertext)), ciphertext


def _transcript(public: bytes, ciphertext: bytes) -> bytes:
    return hashlib.sha256(public + ciphertext).digest()
