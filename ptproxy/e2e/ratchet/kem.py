"""What one exchange of ML-KEM-768 gives to the root (FIPS 203; RATCHET.md, *Turns*)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from ptproxy.e2e.kem import Kem, KemKey, KemKeyPair

KEM: Final = Kem.ML_KEM_768
"""The parameter set of every step, whatever the agreement's suite."""
ENCAPSULATION_KEY: Final = KEM.raw
"""Bytes of an offer."""
CIPHERTEXT: Final = KEM.ciphertext
"""Bytes of an answer."""


@dataclass(frozen=True, slots=True)
class KemSecret:
    """What one KEM step gives to the root."""

    shared: bytes = field(repr=False)
    """The shared secret, 32 bytes."""
    transcript: bytes
    """SHA-256 over key and ciphertext: the step is about these and no others."""


def encapsulate(offer: bytes) -> tuple[KemSecret, bytes]:
    """A new secret for an offer, and the ciphertext that answers it.

    :class:`~ptproxy.errors.E2EError` for a key that FIPS 203 section 7.2 refuses.
    """
    shared, ciphertext = KemKey(KEM, offer).encapsulate()
    return KemSecret(shared, _transcript(offer, ciphertext)), ciphertext


def decapsulate(pair: KemKeyPair, ciphertext: bytes) -> KemSecret:
    """The secret behind an answer of 1088 bytes; one to another offer gives an unrelated secret."""
    return KemSecret(pair.decapsulate(ciphertext), _transcript(pair.public.raw, ciphertext))


def _transcript(offer: bytes, ciphertext: bytes) -> bytes:
    return hashlib.sha256(offer + ciphertext).digest()
