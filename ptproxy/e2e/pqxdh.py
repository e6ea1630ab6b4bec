"""PQXDH (Signal, revision 3): X3DH with a KEM's shared secret behind its products.

::

    SK = HKDF-SHA256(salt 32 zeros, F │ DH1 │ DH2 │ DH3 │ [DH4] │ SS, info)

The KEM prekey is the one-time one where a one-time prekey is used, else the bundle's
(section 3.3). In a suite without a KEM, ``SS`` and the ciphertext are empty and what
comes out is X3DH's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ptproxy.e2e.kem import KemKey, KemKeyPair


@dataclass(frozen=True, slots=True)
class Encapsulation:
    """What the KEM adds to an agreement."""

    key: bytes
    """The KEM prekey, encoded; empty without a KEM."""
    ciphertext: bytes
    """Empty without a KEM."""
    secret: bytes = field(repr=False)
    """SS, 32 bytes; empty without a KEM."""

    @classmethod
    def initiate(cls, prekey: KemKey | None) -> Encapsulation:
        """The initiator's side: PQKEM-ENC of section 2.2."""
        if prekey is None:
            return cls(b"", b"", b"")
        secret, ciphertext = prekey.encapsulate()
        return cls(prekey.serialize(), ciphertext, secret)

    @classmethod
    def respond(cls, prekey: KemKeyPair | None, ciphertext: bytes) -> Encapsulation:
        """The responder's side: PQKEM-DEC. A ciphertext that is none gives a secret nobody has."""
        if prekey is None:
            return cls(b"", b"", b"")
        return cls(prekey.public.serialize(), ciphertext, prekey.decapsulate(ciphertext))
