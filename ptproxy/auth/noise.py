"""The Noise Protocol Framework (revision 34) for 25519, AESGCM and SHA256: handshakes IK and KK.

Written from the specification (https://noiseprotocol.org/noise.html); method
names and tokens are its own. Two classes stand for the two sides,
:class:`Initiator` and :class:`Responder`; both raise
:class:`~ptproxy.errors.AuthenticationError` for a message that does not
verify, after which the object must be dropped.

Differences to the specification: a Diffie-Hellman result of zero (a peer's
point of low order) is refused, which section 12.1 leaves open; only the four
patterns in the table below exist; there is no rekey here (``seal`` has its own).

This module knows neither masks, padding nor what a payload means.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ptproxy.errors import AuthenticationError, LocalProtocolError

DHLEN: Final = 32
"""Bytes of a public key and of a DH result (section 12.1)."""
HASHLEN: Final = 32
"""Bytes of a SHA-256 digest (section 12.5)."""
TAGLEN: Final = 16
"""Bytes that AES-GCM adds to a plaintext (section 12.3)."""
MAX_MESSAGE: Final = 65535
"""Longest Noise message in bytes (section 3)."""
MAX_NONCE: Final = 2**64 - 1
"""The nonce that is never used (section 5.1)."""

_ZERO: Final = bytes(DHLEN)


class PrivateKey(Protocol):
    """What a handshake asks of a local key: its public half and the DH function."""

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""

    def exchange(self, public: bytes) -> bytes:
        """DH with ``public``: 32 bytes; :class:`AuthenticationError` for a point of low order."""


class KeyPair:
    """An X25519 key pair (RFC 7748 section 5); its repr shows neither half."""

    __slots__ = ("_private", "public")

    def __init__(self, private: bytes) -> None:
        """From 32 private bytes (clamped by X25519 itself); ValueError for another length."""
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public: bytes = self._private.public_key().public_bytes_raw()

    @classmethod
    def from_rng(cls, rng: Random) -> KeyPair:
        """A fresh pair; ``rng`` is a CSPRNG in production."""
        return cls(rng.randbytes(DHLEN))

    def exchange(self, public: bytes) -> bytes:
        """DH with a peer's 32 bytes; :class:`AuthenticationError` where the result would be zero."""
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:  # OpenSSL refuses an all-zero result (RFC 7748 section 6.1)
            raise AuthenticationError("Noise: the peer's public key is not usable") from None
        if hmac.compare_digest(shared, _ZERO):
            raise AuthenticationError("Noise: the peer's public key is not usable")
        return shared

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def hkdf(chaining_key: bytes, material: bytes, outputs: int) -> tuple[bytes, ...]:
    """Noise's HKDF (section 4.3): two or three outputs of 32 bytes."""
    temporary = hmac.digest(chaining_key, material, "sha256")
    output = b""
    result = []
    for number in range(1, outputs + 1):
        output = hmac.digest(temporary, output + bytes((number,)), "sha256")
        result.append(output)
    return tuple(result)


class CipherState:
    """A key and its counter nonce (section 5.1); without a key it passes bytes on unchanged."""

    __slots__ = ("_aead", "key", "n")

    def __init__(self, key: bytes | None = None) -> None:
        self.initialize_key(key)

    def initialize_key(self, key: bytes | None) -> None:
        """Set ``key`` (32 bytes, or None for no key) and nonce 0."""
        self.key = key
        self.n = 0
        self._aead = None if key is None else AESGCM(key)

    def encrypt_with_ad(self, ad: bytes, plaintext: bytes) -> bytes:
        """The ciphertext with its tag."""
        if self._aead is None:
            return plaintext
        ciphertext = self._aead.encrypt(self._nonce(), plaintext, ad)
        self.n += 1
        return ciphertext

    def decrypt_with_ad(self, ad: bytes, ciphertext: bytes) -> bytes:
        """The plaintext; :class:`AuthenticationError` for a wrong or missing tag (``n`` then stays)."""
        if self._aead is None:
            return ciphertext
        try:
            plaintext = self._aead.decrypt(self._nonce(), ciphertext, ad)
        except (InvalidTag, ValueError):
            raise AuthenticationError("Noise: a tag does not verify") from None
        self.n += 1
        return plaintext

    def _nonce(self) -> bytes:
        """Nonce ``n``: four zero bytes, then eight bytes big-endian (section 12.3)."""
        if self.n == MAX_NONCE:
            raise LocalProtocolError("Noise: the nonce is used up")
        return self.n.to_bytes(12, "big")

    def __repr__(self) -> str:
        return f"<CipherState n={self.n}>"


class SymmetricState:
    """The chaining key and the handshake hash (section 5.2)."""

    __slots__ = ("_chaining_key", "_cipher", "h")

    def __init__(self, protocol_name: bytes) -> None:
        if len(protocol_name) <= HASHLEN:
            self.h = protocol_name.ljust(HASHLEN, b"\0")
        else:
            self.h = hashlib.sha256(protocol_name).digest()
        self._chaining_key = self.h
        self._cipher = CipherState()

    def mix_key(self, material: bytes) -> None:
        """``MixKey``."""
        self._chaining_key, key = hkdf(self._chaining_key, material, 2)
        self._cipher.initialize_key(key)

    def mix_hash(self, data: bytes) -> None:
        """``MixHash``."""
        self.h = hashlib.sha256(self.h + data).digest()

    def mix_key_and_hash(self, material: bytes) -> None:
        """``MixKeyAndHash``, for a pre-shared key."""
        self._chaining_key, data, key = hkdf(self._chaining_key, material, 3)
        self.mix_hash(data)
        self._cipher.initialize_key(key)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """``EncryptAndHash``."""
        ciphertext = self._cipher.encrypt_with_ad(self.h, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        """``DecryptAndHash``; :class:`AuthenticationError`."""
        plaintext = self._cipher.decrypt_with_ad(self.h, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def sealed_length(self, length: int) -> int:
        """How long ``length`` bytes are after ``EncryptAndHash`` just now."""
        return length if self._cipher.key is None else length + TAGLEN

    def split(self) -> tuple[CipherState, CipherState]:
        """``Split``: the initiator's sending state, then the responder's."""
        first, second = hkdf(self._chaining_key, b"", 2)
        return CipherState(first), CipherState(second)

    def __repr__(self) -> str:
        return "<SymmetricState>"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A handshake pattern (section 7): two messages, each written once."""

    name: str
    knows_initiator: bool
    """The initiator's static key is a pre-message (the first K of KK)."""
    messages: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def protocol_name(self) -> bytes:
        """The full protocol name (section 8)."""
        return f"Noise_{self.name}_25519_AESGCM_SHA256".encode("ascii")

    @property
    def uses_psk(self) -> bool:
        """Whether a ``psk`` token occurs: each ``e`` is then mixed into the key too (section 9.2)."""
        return "psk" in self.name


_REPLY: Final = ("e", "ee", "se")
IK: Final = Pattern("IK", False, (("e", "es", "s", "ss"), _REPLY))
KK: Final = Pattern("KK", True, (("e", "es", "ss"), _REPLY))
IK_PSK1: Final = Pattern("IKpsk1", False, (("e", "es", "s", "ss", "psk"), _REPLY))
IK_PSK2: Final = Pattern("IKpsk2", False, (("e", "es", "s", "ss"), (*_REPLY, "psk")))


class _HandshakeState:
    """What both sides do alike (section 5.3). ``_dh`` says which keys a DH token joins."""

    __slots__ = (
        "_ephemeral",
        "_message",
        "_pattern",
        "_psk",
        "_static",
        "_symmetric",
        "remote_ephemeral",
        "remote_static",
    )

    _DH: ClassVar[Mapping[str, tuple[str, str]]]
    _FIRST: ClassVar[int]  # which of the pattern's messages this side writes

    def __init__(
        self, pattern: Pattern, prologue: bytes, static: PrivateKey, remote_static: bytes, psk: bytes = b""
    ) -> None:
        if pattern.uses_psk != (len(psk) == HASHLEN):
            raise LocalProtocolError("Noise: a psk pattern needs a psk of 32 bytes, another none")
        self._pattern = pattern
        self._static = static
        self._ephemeral: PrivateKey | None = None
        self.remote_static = remote_static
        self.remote_ephemeral = b""
        self._psk = psk
        self._message = 0
        self._symmetric = SymmetricState(pattern.protocol_name)
        self._symmetric.mix_hash(prologue)

    @property
    def handshake_hash(self) -> bytes:
        """``h``: after the last message the channel binding of section 11.2."""
        return self._symmetric.h

    def write_message(self, payload: bytes, rng: Random) -> bytes:
        """``WriteMessage``: this side's next message; ``rng`` makes the ephemeral key."""
        tokens = self._turn(self._FIRST)
        symmetric = self._symmetric
        parts = []
        for step in tokens:
            if step == "e":
                self._ephemeral = KeyPair.from_rng(rng)
                parts.append(self._ephemeral.public)
                self._mix_ephemeral(self._ephemeral.public)
            elif step == "s":
                parts.append(symmetric.encrypt_and_hash(self._static.public))
            else:
                self._mix(step)
        parts.append(symmetric.encrypt_and_hash(payload))
        message = b"".join(parts)
        if len(message) > MAX_MESSAGE:
            raise LocalProtocolError("Noise: a message longer than 65535 bytes")
        return message

    def read_message(self, message: bytes) -> bytes:
        """``ReadMessage``: the payload; :class:`AuthenticationError` for anything that does not verify."""
        tokens = self._turn(1 - self._FIRST)
        symmetric = self._symmetric
        position = 0
        for step in tokens:
            if step == "e":
                self.remote_ephemeral = _take(message, position, DHLEN)
                position += DHLEN
                self._mix_ephemeral(self.remote_ephemeral)
            elif step == "s":
                length = symmetric.sealed_length(DHLEN)
                self.remote_static = symmetric.decrypt_and_hash(_take(message, position, length))
                position += length
            else:
                self._mix(step)
        return symmetric.decrypt_and_hash(message[position:])

    def _turn(self, number: int) -> tuple[str, ...]:
        """The tokens of message ``number``, which must be the next one."""
        if self._message != number:
            raise LocalProtocolError("Noise: messages out of turn")
        self._message += 1
        return self._pattern.messages[number]

    def _mix_ephemeral(self, public: bytes) -> None:
        self._symmetric.mix_hash(public)
        if self._pattern.uses_psk:
            self._symmetric.mix_key(public)

    def _mix(self, step: str) -> None:
        """Tokens ee, es, se, ss and psk."""
        if step == "psk":
            self._symmetric.mix_key_and_hash(self._psk)
            return
        ours, theirs = self._DH[step]
        local = self._static if ours == "s" else self._ephemeral
        if local is None:
            raise LocalProtocolError("Noise: no ephemeral key yet")
        self._symmetric.mix_key(
            local.exchange(self.remote_static if theirs == "s" else self.remote_ephemeral)
        )

    def _split(self) -> tuple[CipherState, CipherState]:
        if self._message != len(self._pattern.messages):
            raise LocalProtocolError("Noise: the handshake is not finished")
        return self._symmetric.split()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._pattern.name} message {self._message}>"


class Initiator(_HandshakeState):
    """The side that writes message 1 and knows the other's static key beforehand."""

    __slots__ = ()
    _DH: ClassVar[Mapping[str, tuple[str, str]]] = {
        "ee": ("e", "e"),
        "es": ("e", "s"),
        "se": ("s", "e"),
        "ss": ("s", "s"),
    }
    _FIRST = 0

    def __init__(
        self, pattern: Pattern, prologue: bytes, static: PrivateKey, remote_static: bytes, psk: bytes = b""
    ) -> None:
        super().__init__(pattern, prologue, static, remote_static, psk)
        if pattern.knows_initiator:
            self._symmetric.mix_hash(static.public)
        self._symmetric.mix_hash(remote_static)

    def split(self) -> tuple[CipherState, CipherState]:
        """The sending and the receiving state of this side."""
        return self._split()


class Responder(_HandshakeState):
    """The side that reads message 1; it knows the other's static key beforehand only in KK."""

    __slots__ = ()
    _DH: ClassVar[Mapping[str, tuple[str, str]]] = {
        "ee": ("e", "e"),
        "es": ("s", "e"),
        "se": ("e", "s"),
        "ss": ("s", "s"),
    }
    _FIRST = 1

    def __init__(
        self,
        pattern: Pattern,
        prologue: bytes,
        static: PrivateKey,
        remote_static: bytes = b"",
        psk: bytes = b"",
    ) -> None:
        super().__init__(pattern, prologue, static, remote_static, psk)
        if pattern.knows_initiator:
            self._symmetric.mix_hash(remote_static)
        self._symmetric.mix_hash(static.public)

    def split(self) -> tuple[CipherState, CipherState]:
        """The sending and the receiving state of this side."""
        theirs, ours = self._split()
        return ours, theirs


def _take(message: bytes, position: int, length: int) -> bytes:
    part = message[position : position + length]
    if len(part) != length:
        raise AuthenticationError("Noise: a message cut short")
    return part
