"""Who a peer is: an Ed25519 key that signs and an X25519 key that agrees, under one fingerprint.

::

    identity     = Ed25519 key, encoded 33 │ X25519 key, encoded 33
    own identity = version u8 = 1 │ Ed25519 seed 32 │ X25519 private 32      (secret: the store encrypts it)

One identity is one device.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from ptproxy.e2e import curve, signing
from ptproxy.e2e.curve import CurveKey, CurveKeyPair
from ptproxy.e2e.fingerprint import Fingerprint
from ptproxy.e2e.rng import Rng
from ptproxy.e2e.signing import SigningKey, VerifyingKey
from ptproxy.errors import E2EError, StateError
from ptproxy.fields import Fields

ENCODED: Final = signing.ENCODED + curve.ENCODED
"""Bytes of an encoded identity."""

_VERSION: Final = 1
_LABEL: Final = b"ptproxy 1 e2e identity\x00"


@dataclass(frozen=True, slots=True)
class Identity:
    """The public half of an identity. That one person holds both keys is shown by using them, not here."""

    signing: VerifyingKey
    agreement: CurveKey

    @classmethod
    def parse(cls, data: bytes) -> Identity:
        """From its 66 bytes; :class:`E2EError` for anything else."""
        fields = Fields(data, E2EError("an identity is 66 bytes"))
        signing_key, agreement_key = fields.take(signing.ENCODED), fields.take(curve.ENCODED)
        fields.end()
        return cls(VerifyingKey.parse(signing_key), CurveKey.parse(agreement_key))

    def serialize(self) -> bytes:
        """66 bytes."""
        return self.signing.serialize() + self.agreement.serialize()

    @property
    def fingerprint(self) -> Fingerprint:
        """What people compare, and what an invite names a peer by."""
        return Fingerprint(hashlib.sha256(_LABEL + self.serialize()).digest())

    def shares_a_key_with(self, other: Identity) -> bool:
        """Whether either key is the other's: two different people never do."""
        return self.signing == other.signing or self.agreement == other.agreement


class OwnIdentity:
    """An identity with its private keys; ``public`` is what others see of it."""

    __slots__ = ("agreement", "public", "signing")

    def __init__(self, signing_key: SigningKey, agreement: CurveKeyPair) -> None:
        self.signing = signing_key
        self.agreement = agreement
        self.public: Identity = Identity(signing_key.public, agreement.public)

    @classmethod
    def generate(cls, rng: Rng) -> OwnIdentity:
        """A new identity; ``rng`` is a CSPRNG in production."""
        return cls(SigningKey.generate(rng), CurveKeyPair.generate(rng))

    @classmethod
    def parse(cls, data: bytes) -> OwnIdentity:
        """From :meth:`serialize`'s 65 bytes; :class:`StateError` where they are damaged."""
        damaged = StateError("own identity: damaged, or of a version that this program does not know")
        fields = Fields(data, damaged)
        if fields.number(1) != _VERSION:
            raise damaged
        seed, private = fields.take(signing.RAW), fields.take(curve.RAW)
        fields.end()
        return cls(SigningKey(seed), CurveKeyPair(private))

    def serialize(self) -> bytes:
        """65 bytes, secret: for the encrypted store and nothing else."""
        return bytes((_VERSION,)) + self.signing.serialize_private() + self.agreement.serialize_private()

    def __repr__(self) -> str:
        return "<OwnIdentity>"
