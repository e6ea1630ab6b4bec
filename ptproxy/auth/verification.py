"""Continuous verification: now and then both sides prove again, inside a carrier, that they hold their keys.

A Noise ``KK`` handshake (25519, AESGCM, SHA256), the bridge being the initiator::

    prologue  = "ptproxy 1 verification" ‖ the carrier's handshake hash (32 bytes)
    challenge = KK message 1, empty payload: 48 bytes, from the bridge
    proof     = KK message 2, empty payload: 48 bytes, from the client

The challenge verifies only where the bridge's key made it for this client on
this carrier; the proof only for this very challenge. The keys that Split would
give are not used. When to ask, and looking at the access list again, is the
tunnel's business.
"""

from __future__ import annotations

from random import Random
from typing import Final

from ptproxy.auth import noise
from ptproxy.auth.credentials import StaticKey
from ptproxy.buffer import Buffer
from ptproxy.errors import AuthenticationError, LocalProtocolError

CHALLENGE_LENGTH: Final = noise.DHLEN + noise.TAGLEN
"""Bytes of a challenge."""
PROOF_LENGTH: Final = noise.DHLEN + noise.TAGLEN
"""Bytes of a proof."""

_LABEL: Final = b"ptproxy 1 verification"


class BridgeVerification:
    """The bridge's side on one carrier; ``handshake_hash`` is that of its opening."""

    __slots__ = ("_client_public", "_handshake", "_key", "_prologue", "_rng")

    def __init__(self, key: StaticKey, client_public: bytes, handshake_hash: bytes, rng: Random) -> None:
        self._key = key
        self._client_public = client_public
        self._prologue = _LABEL + handshake_hash
        self._rng = rng
        self._handshake: noise.Initiator | None = None

    @property
    def outstanding(self) -> bool:
        """Whether a challenge was made whose proof has not come."""
        return self._handshake is not None

    def challenge(self) -> bytes:
        """A new challenge, 48 bytes. One at a time: :class:`LocalProtocolError` while one is outstanding."""
        if self._handshake is not None:
            raise LocalProtocolError("verification: one challenge at a time")
        self._handshake = noise.Initiator(noise.KK, self._prologue, self._key, self._client_public)
        return self._handshake.write_message(b"", self._rng)

    def check(self, proof: Buffer) -> None:
        """Return if ``proof`` answers the outstanding challenge, else :class:`AuthenticationError`."""
        handshake, self._handshake = self._handshake, None
        if handshake is None:
            raise AuthenticationError("verification: a proof that nobody asked for")
        if len(proof) != PROOF_LENGTH:
            raise AuthenticationError("verification: a proof of impossible length")
        try:
            handshake.read_message(bytes(proof))
        except AuthenticationError:
            raise AuthenticationError("verification: the proof does not verify") from None

    def __repr__(self) -> str:
        return "<BridgeVerification>"


class ClientVerification:
    """The client's side on one carrier; ``handshake_hash`` is that of its opening."""

    __slots__ = ("_bridge_public", "_key", "_prologue", "_rng")

    def __init__(self, key: StaticKey, bridge_public: bytes, handshake_hash: bytes, rng: Random) -> None:
        self._key = key
        self._bridge_public = bridge_public
        self._prologue = _LABEL + handshake_hash
        self._rng = rng

    def prove(self, challenge: Buffer) -> bytes:
        """The proof for ``challenge``, 48 bytes; :class:`AuthenticationError` if it is not the bridge's."""
        if len(challenge) != CHALLENGE_LENGTH:
            raise AuthenticationError("verification: a challenge of impossible length")
        handshake = noise.Responder(noise.KK, self._prologue, self._key, self._bridge_public)
        try:
            handshake.read_message(bytes(challenge))
            return handshake.write_message(b"", self._rng)
        except AuthenticationError:
            raise AuthenticationError("verification: the challenge does not verify") from None

    def __repr__(self) -> str:
        return "<ClientVerification>"
