"""The mask that makes an opening look like random bytes to all who lack the bridge's public key.

Curve points are recognisable as such (half of all strings are none), and a
bridge that did a DH for every stranger could be exhausted. So everything that
the handshake sends is xored with a keystream, and message 1 is headed by a
MAC. Both are keyed from the bridge's public key, which only holders of a bridge
line know; the mask hides nothing from them (Noise does that).

    root     = HKDF-Extract(salt "ptproxy 1 opening", bridge public key)      RFC 5869 section 2.2
    mac key  = HKDF-Expand(root, "mac", 32)                                  RFC 5869 section 2.3
    up key   = HKDF-Expand(root, "mask client to bridge", 32)
    down key = HKDF-Expand(root, "mask bridge to client", 32)

    keystream(direction) = AES-256-CTR(that key, first counter block = nonce)    SP 800-38A section 6.5
    MAC                  = HMAC-SHA256(mac key, nonce ‖ masked bytes), first 16 bytes
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

NONCE_LENGTH: Final = 16
"""Bytes: one AES block, so that it serves as the first counter block."""
MAC_LENGTH: Final = 16
"""Bytes: 2^-128 for a guess, and half the overhead of a whole SHA-256 in a cookie."""
CACHED_BRIDGES: Final = 64
"""Bridge keys whose mask keys are kept derived (a bridge has one, a client one per bridge line)."""


class Mask:
    """The mask keys of one bridge."""

    __slots__ = ("_down", "_mac_key", "_up")

    def __init__(self, bridge_public: bytes) -> None:
        root = hmac.digest(b"ptproxy 1 opening", bridge_public, "sha256")
        self._mac_key = expand(root, b"mac")
        self._up = expand(root, b"mask client to bridge")
        self._down = expand(root, b"mask bridge to client")

    def mac(self, nonce_and_masked: bytes) -> bytes:
        """16 bytes over the nonce and everything masked behind it (one way only: message 1)."""
        return hmac.digest(self._mac_key, nonce_and_masked, "sha256")[:MAC_LENGTH]

    def up(self, nonce: bytes) -> CipherContext:
        """The client's keystream for an opening: ``update(data)`` masks and unmasks, going on."""
        return Cipher(algorithms.AES(self._up), modes.CTR(nonce)).encryptor()

    def down(self, nonce: bytes) -> CipherContext:
        """The bridge's keystream for an opening."""
        return Cipher(algorithms.AES(self._down), modes.CTR(nonce)).encryptor()

    def __repr__(self) -> str:
        return "<Mask>"


@lru_cache(maxsize=CACHED_BRIDGES)
def mask_of(bridge_public: bytes) -> Mask:
    """The mask of a bridge; derived once, so that a stranger's bytes cost one HMAC."""
    return Mask(bridge_public)


def expand(root: bytes, label: bytes) -> bytes:
    """HKDF-Expand (RFC 5869 section 2.3) with SHA-256 to its one first block of 32 bytes."""
    return hmac.digest(root, label + b"\x01", "sha256")
