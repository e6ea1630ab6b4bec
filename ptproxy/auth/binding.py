"""What ties a handshake to the TLS connection it runs in.

Wire form, part of the Noise prologue::

    kind u8 │ digest
    0x00      nothing: a third party (a CDN) terminates TLS
    0x01      SHA-256 of the leaf certificate in DER, 32 bytes

The client binds to the certificate that it saw; a bridge accepts its own, or
its fronting web server's, current and previous. An attacker in the middle of
TLS shows another certificate, and the handshake fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

DIGEST_LENGTH = 32
"""Bytes of a SHA-256 digest."""


class BindingKind(IntEnum):
    """What a handshake is bound to; numbers are part of the wire format."""

    NONE = 0
    CERTIFICATE = 1


@dataclass(frozen=True, slots=True)
class Binding:
    """A kind, and for a certificate its digest of 32 bytes (else ``b""``)."""

    kind: BindingKind
    digest: bytes = b""

    def __post_init__(self) -> None:
        if len(self.digest) != (DIGEST_LENGTH if self.kind is BindingKind.CERTIFICATE else 0):
            raise ValueError("a certificate binding has a digest of 32 bytes, an empty one none")

    @classmethod
    def none(cls) -> Binding:
        """Bound to nothing: only where the bridge line says so."""
        return cls(BindingKind.NONE)

    @classmethod
    def certificate(cls, digest: bytes) -> Binding:
        """Bound to the leaf certificate whose DER has this SHA-256 (32 bytes)."""
        return cls(BindingKind.CERTIFICATE, digest)

    def serialize(self) -> bytes:
        """The wire form above."""
        return bytes((self.kind,)) + self.digest
