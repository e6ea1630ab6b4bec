"""What an agreement binds, and what it hands to the ratchet.

::

    T  = SHA-256(label │ suite u8 │ E 33 │ bundle id u32 │ one-time id u32
                 │ SPK 33 │ [OPK 33] │ [KEM prekey] │ [ciphertext] │ bundle hash 32)
    AD = X25519 of A 33 │ X25519 of B 33 │ Ed25519 of A 33 │ Ed25519 of B 33 │ suite u8 │ T 32

A is who began. Which of the bracketed parts are there follows from suite and
one-time id, so no two sets of fields are the same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from ptproxy.e2e.curve import CurveKey
from ptproxy.e2e.identity import Identity
from ptproxy.e2e.pqxdh import Encapsulation
from ptproxy.e2e.suite import Suite

_TRANSCRIPT_LABEL: Final = b"ptproxy 1 e2e transcript\x00"
_SESSION_LABEL: Final = b"ptproxy 1 e2e session\x00"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides have, and nobody else; the ratchet begins with it."""

    secret: bytes = field(repr=False)
    """SK, 32 bytes."""
    associated_data: bytes
    """AD, 165 bytes: goes into every message's authentication."""
    suite: Suite

    @property
    def session_id(self) -> bytes:
        """32 bytes, public, the same on both sides.

        Of several sessions begun in the same second both sides send in the one whose id
        is smaller.
        """
        return hashlib.sha256(_SESSION_LABEL + self.associated_data).digest()


def transcript(
    suite: Suite,
    ephemeral: CurveKey,
    ids: bytes,
    signed_prekey: CurveKey,
    one_time: CurveKey | None,
    encapsulation: Encapsulation,
    bundle_hash: bytes,
) -> bytes:
    """T, 32 bytes; ``ids`` is bundle id │ one-time id."""
    return hashlib.sha256(
        _TRANSCRIPT_LABEL
        + bytes((suite,))
        + ephemeral.serialize()
        + ids
        + signed_prekey.serialize()
        + (one_time.serialize() if one_time else b"")
        + encapsulation.key
        + encapsulation.ciphertext
        + bundle_hash
    ).digest()


def associated_data(initiator: Identity, responder: Identity, suite: Suite, transcript: bytes) -> bytes:
    """AD, 165 bytes: X3DH section 3.3's two keys, then its "additional information"."""
    return (
        initiator.agreement.serialize()
        + responder.agreement.serialize()
        + initiator.signing.serialize()
        + responder.signing.serialize()
        + bytes((suite,))
        + transcript
    )
