"""Requests that only the asked node can read, for the way through a bridge and its guard.

::

    sealed request = 02 │ HPKE to the node's seal key: (reply key 32 │ request)
    sealed answer  = 02 │ nonce 12 │ AES-256-GCM under the reply key: answer

HPKE (RFC 9180) in base mode, one message a context: DHKEM(X25519, HKDF-SHA256),
HKDF-SHA256, AES-256-GCM, info "ptproxy 1 dht request"; encapsulated key and
ciphertext one behind the other. The reply key is random and new for each request;
the nonce is random because a guard may bring the same request twice, and gets two
answers. The associated data of an answer is "ptproxy 1 dht answer".

A guard sees sizes, times and which node was asked; not what for. The node sees what
for, and the guard's address. The answer inside is signed as always: a guard that
makes up a reply would need the reply key, and the node's signature.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from ptproxy.dht.identifier import Rng
from ptproxy.dht.messages import LONGEST
from ptproxy.errors import DhtError

SEALED: Final = 2
"""The first byte, where a message in the open has its version, 1."""
REPLY_KEY: Final = 32
NONCE: Final = 12
OVERHEAD: Final = 1 + 32 + REPLY_KEY + 16
"""Bytes that a sealed request is longer than what is in it; an answer grows by less (29)."""

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_INFO: Final = b"ptproxy 1 dht request"
_ANSWER: Final = b"ptproxy 1 dht answer"


class SealedCall:
    """The asking side of one request. ``sealed`` is what goes to the guard; the repr shows no key."""

    __slots__ = ("_key", "sealed")

    def __init__(self, request: bytes, seal_key: bytes, rng: Rng) -> None:
        """Seal ``request`` for the node whose X25519 key this is; :class:`DhtError` for one of low order."""
        key = rng(REPLY_KEY)
        self._key = AESGCM(key)
        try:
            public = X25519PublicKey.from_public_bytes(seal_key)
            sealed = _SUITE.encrypt(key + request, public, _INFO)
        except ValueError:
            raise DhtError("a node's seal key that nothing can be sealed for") from None
        self.sealed: bytes = bytes((SEALED,)) + sealed

    def open_answer(self, data: bytes) -> bytes:
        """The answer, still to be verified; :class:`DhtError` if it was not sealed for this request."""
        if not 1 + NONCE < len(data) <= LONGEST + OVERHEAD or data[0] != SEALED:
            raise DhtError("a sealed answer of an impossible length or version")
        try:
            return self._key.decrypt(data[1 : 1 + NONCE], data[1 + NONCE :], _ANSWER)
        except InvalidTag:
            raise DhtError("a sealed answer that does not open") from None


class SealedRequest:
    """The asked side of one request: ``request`` is what was in it."""

    __slots__ = ("_key", "request")

    def __init__(self, data: bytes, key: X25519PrivateKey) -> None:
        """Open ``data``; :class:`DhtError` if it was not sealed for ``key``."""
        if not OVERHEAD < len(data) <= LONGEST + OVERHEAD or data[0] != SEALED:
            raise DhtError("a sealed request of an impossible length or version")
        try:
            opened = _SUITE.decrypt(data[1:], key, _INFO)
        except (InvalidTag, ValueError):
            raise DhtError("a sealed request that does not open") from None
        self._key = AESGCM(opened[:REPLY_KEY])
        self.request: bytes = opened[REPLY_KEY:]

    def seal_answer(self, answer: bytes, rng: Rng) -> bytes:
        """The answer for whoever asked."""
        nonce = rng(NONCE)
        return bytes((SEALED,)) + nonce + self._key.encrypt(nonce, answer, _ANSWER)
