"""The keys that come out of a handshake, each by its own label.

    k1, k2    = Noise Split (the client's sending key, the bridge's)
    h         = Noise handshake hash
    root      = HKDF-Extract(salt h, k1 ‖ k2)
    token key = HKDF-Expand(root, "ptproxy 1 token key", 32)
    ticket    = HKDF-Expand(token key, "ptproxy 1 ticket", 16)

With sealing, ``c`` being the ML-KEM-768 ciphertext and ``z`` its shared secret:

    seal root = HKDF-Extract(salt SHA-256(h ‖ c), k1 ‖ k2 ‖ z)
    up        = HKDF-Expand(seal root, "ptproxy 1 seal client to bridge", 32)
    down      = HKDF-Expand(seal root, "ptproxy 1 seal bridge to client", 32)

The encapsulation key is inside Noise message 2 and so inside ``h``.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

from ptproxy.auth.mask import expand

TICKET_BYTES: Final = 16
"""Bytes of a ticket: as many as a Sec-WebSocket-Key has, and more than can be guessed."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What the rest of a carrier is keyed with. Every field is secret except the hash."""

    handshake_hash: bytes = field(repr=False)
    """32 bytes naming this handshake (Noise section 11.2): later proofs are bound to it."""
    token_key: bytes = field(repr=False)
    """32 bytes for the codec's own tokens (R24)."""
    seal_send: bytes = field(default=b"", repr=False)
    """32 bytes for this side's :class:`~ptproxy.auth.seal.Sealer`; ``b""`` without sealing."""
    seal_receive: bytes = field(default=b"", repr=False)
    """32 bytes for this side's :class:`~ptproxy.auth.seal.Opener`; ``b""`` without sealing."""


def token_key(k1: bytes, k2: bytes, handshake_hash: bytes) -> bytes:
    """The token key, 32 bytes."""
    return expand(hmac.digest(handshake_hash, k1 + k2, "sha256"), b"ptproxy 1 token key")


def ticket(token_key: bytes) -> bytes:
    """What names an opening on the connection that it was made for, 16 bytes: good once."""
    return expand(token_key, b"ptproxy 1 ticket")[:TICKET_BYTES]


def seal_keys(
    k1: bytes, k2: bytes, handshake_hash: bytes, ciphertext: bytes, shared: bytes
) -> tuple[bytes, bytes]:
    """The seal keys client to bridge and bridge to client, 32 bytes each."""
    salt = hashlib.sha256(handshake_hash + ciphertext).digest()
    root = hmac.digest(salt, k1 + k2 + shared, "sha256")
    return expand(root, b"ptproxy 1 seal client to bridge"), expand(root, b"ptproxy 1 seal bridge to client")
