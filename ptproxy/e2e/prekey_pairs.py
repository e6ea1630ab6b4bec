"""Prekeys with their private halves: how one is made and published, and its stored form.

::

    signed   = id u32 │ made u64 │ age u32 │ X25519 private 32 │ KEM seed 0 or 64 │ SHA-256 of the bundle 32
    one-time = id u32 │ age u32 │ X25519 private 32 │ KEM seed 0 or 64 │ SHA-256 of the one-time prekey 32

Secret, all of it. What their ages mean are the rules of :mod:`~ptproxy.e2e.prekeys`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from ptproxy.e2e import curve, kem
from ptproxy.e2e.bundle import BUNDLE_LIFE, NO_ONE_TIME, OneTimePrekey, PrekeyBundle
from ptproxy.e2e.curve import CurveKeyPair
from ptproxy.e2e.identity import OwnIdentity
from ptproxy.e2e.kem import KemKeyPair
from ptproxy.e2e.rng import Rng
from ptproxy.e2e.suite import Suite
from ptproxy.errors import LocalProtocolError
from ptproxy.fields import Fields

ID_TRIES: Final = 64
"""Draws of an id that is not in use before the random numbers must be broken."""

_ID: Final = 4
_TIME: Final = 8
_AGE: Final = 4
_DIGEST: Final = 32


@dataclass(slots=True)
class SignedPrekeyPair:
    """A signed prekey and the KEM prekey of its bundle."""

    id: int
    made: int
    """Unix seconds."""
    age: int
    """Seconds counted since it was superseded."""
    pair: CurveKeyPair
    kem_pair: KemKeyPair | None
    """In suites with a KEM."""
    digest: bytes = b""
    """SHA-256 of the published bundle."""

    @classmethod
    def make(
        cls, owner: OwnIdentity, suite: Suite, taken: Collection[int], now: int, rng: Rng
    ) -> SignedPrekeyPair:
        """A new one, whose id is none of ``taken``."""
        number, pair = _new_id(taken, rng), CurveKeyPair.generate(rng)
        kem_pair = KemKeyPair.generate(suite.kem, rng) if suite.kem else None
        made = cls(number, now, 0, pair, kem_pair)
        made.digest = hashlib.sha256(made.sign_bundle(owner, suite)).digest()
        return made

    def sign_bundle(self, owner: OwnIdentity, suite: Suite) -> bytes:
        """The bundle to publish, the same bytes whenever it is asked for."""
        kem_prekey = self.kem_pair.public if self.kem_pair else None
        expires = self.made + BUNDLE_LIFE
        bundle = PrekeyBundle(suite, owner.public, self.id, self.made, expires, self.pair.public, kem_prekey)
        return bundle.sign(owner)

    def serialize(self) -> bytes:
        """Its stored form."""
        return (
            self.id.to_bytes(_ID, "big")
            + self.made.to_bytes(_TIME, "big")
            + self.age.to_bytes(_AGE, "big")
            + self.pair.serialize_private()
            + (self.kem_pair.serialize_private() if self.kem_pair else b"")
            + self.digest
        )

    @classmethod
    def parse(cls, fields: Fields, suite: Suite) -> SignedPrekeyPair:
        """From the front of ``fields``; their error where they end."""
        number, made, age = fields.number(_ID), fields.number(_TIME), fields.number(_AGE)
        pair = CurveKeyPair(fields.take(curve.RAW))
        kem_pair = KemKeyPair(suite.kem, fields.take(kem.SEED)) if suite.kem else None
        return cls(number, made, age, pair, kem_pair, fields.take(_DIGEST))


@dataclass(slots=True)
class OneTimePrekeyPair:
    """A one-time prekey and its KEM prekey. The private halves are bytes: most are used by nobody."""

    id: int
    age: int
    """Seconds counted since it was made."""
    private: bytes = field(repr=False)
    seed: bytes = field(repr=False)
    """Of the KEM prekey; empty in a suite without a KEM."""
    digest: bytes
    """SHA-256 of the published one-time prekey."""

    @classmethod
    def make(
        cls, owner: OwnIdentity, suite: Suite, taken: Collection[int], expires: int, rng: Rng
    ) -> tuple[OneTimePrekeyPair, bytes]:
        """A new one, whose id is none of ``taken``, and what is published of it."""
        number, pair = _new_id(taken, rng), CurveKeyPair.generate(rng)
        kem_pair = KemKeyPair.generate(suite.kem, rng) if suite.kem else None
        kem_prekey = kem_pair.public if kem_pair else None
        published = OneTimePrekey(suite, number, expires, pair.public, kem_prekey).sign(owner)
        seed = kem_pair.serialize_private() if kem_pair else b""
        return cls(number, 0, pair.serialize_private(), seed, hashlib.sha256(published).digest()), published

    def pairs(self, suite: Suite) -> tuple[CurveKeyPair, KemKeyPair | None]:
        """The keys to agree with."""
        return CurveKeyPair(self.private), KemKeyPair(suite.kem, self.seed) if suite.kem else None

    def serialize(self) -> bytes:
        """Its stored form."""
        return (
            self.id.to_bytes(_ID, "big")
            + self.age.to_bytes(_AGE, "big")
            + self.private
            + self.seed
            + self.digest
        )

    @classmethod
    def parse(cls, fields: Fields, suite: Suite) -> OneTimePrekeyPair:
        """From the front of ``fields``; their error where they end."""
        number, age, private = fields.number(_ID), fields.number(_AGE), fields.take(curve.RAW)
        seed = fields.take(kem.SEED if suite.kem else 0)
        return cls(number, age, private, seed, fields.take(_DIGEST))


def _new_id(taken: Collection[int], rng: Rng) -> int:
    """An id that is not in use. Random: counted ones would tell a mailbox how many are used."""
    for _ in range(ID_TRIES):
        number = int.from_bytes(rng(_ID), "big")
        if number != NO_ONE_TIME and number not in taken:
            return number
    raise LocalProtocolError("prekeys: the random numbers repeat")
