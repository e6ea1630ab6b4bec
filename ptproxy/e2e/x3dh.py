"""X3DH (Signal, revision 1): three or four Diffie-Hellman products and what is derived from them.

::

    DH1 = IK_A · SPK_B     DH2 = E · IK_B     DH3 = E · SPK_B     DH4 = E · OPK_B
    SK  = HKDF-SHA256(salt 32 zeros, F │ DH1 │ DH2 │ DH3 │ [DH4], info)        F = 32 × FF

The products are of two kinds: those of the ephemeral key alone (DH2 to DH4), which
a responder can compute before it knows who asks, and DH1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ptproxy.e2e.curve import CurveKey, CurveKeyPair

SECRET: Final = 32
"""Bytes of everything that is derived."""

_SALT: Final = bytes(32)
_F: Final = b"\xff" * 32


@dataclass(frozen=True, slots=True)
class EphemeralProducts:
    """What the initiator's ephemeral key gives."""

    dh2: bytes = field(repr=False)
    dh3: bytes = field(repr=False)
    dh4: bytes = field(repr=False)
    """Empty without a one-time prekey."""

    @classmethod
    def initiate(
        cls, ephemeral: CurveKeyPair, peer: CurveKey, signed_prekey: CurveKey, one_time: CurveKey | None
    ) -> EphemeralProducts:
        """The initiator's side; ``peer`` is the responder's identity key."""
        return cls(
            ephemeral.exchange(peer),
            ephemeral.exchange(signed_prekey),
            ephemeral.exchange(one_time) if one_time else b"",
        )

    @classmethod
    def respond(
        cls, dh2: bytes, ephemeral: CurveKey, signed_prekey: CurveKeyPair, one_time: CurveKeyPair | None
    ) -> EphemeralProducts:
        """The responder's side; ``dh2`` it has computed before, to open the gate."""
        return cls(dh2, signed_prekey.exchange(ephemeral), one_time.exchange(ephemeral) if one_time else b"")

    def material(self) -> bytes:
        """DH2 │ DH3 │ [DH4]."""
        return self.dh2 + self.dh3 + self.dh4


def key_material(dh1: bytes, products: EphemeralProducts) -> bytes:
    """KM of X3DH section 2.2, as section 3.3 makes it: DH1 │ DH2 │ DH3 │ [DH4]."""
    return dh1 + products.material()


def derive(material: bytes, info: bytes) -> bytes:
    """KDF of X3DH section 2.2: 32 bytes."""
    return HKDF(hashes.SHA256(), SECRET, _SALT, info).derive(_F + material)
