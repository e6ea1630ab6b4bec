"""What opens a store: a passphrase or a key file, and the form in which the master key waits for it.

    wrapped = version u8 = 1 ‖ kind u8 ‖ memory u32 ‖ iterations u32 ‖ lanes u32 ‖ salt 16
              ‖ nonce 12 ‖ AES-256-GCM(wrapping key, nonce, label ‖ all before the nonce, master key 32)

    kind 1: wrapping key = Argon2id(passphrase, salt, memory KiB, iterations, lanes), 32 bytes     RFC 9106
    kind 2: wrapping key = HKDF-SHA256(key of the file, salt, label of the kind), 32 bytes         RFC 5869
            and the three numbers are 0

The master key is random and never changes with the passphrase: another passphrase wraps it anew. Whoever
has an old copy of the wrapped form and the old passphrase still has the master key.
"""

from __future__ import annotations

import base64
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ptproxy.config.keyfile import read_key
from ptproxy.errors import LocalProtocolError, StartError, StateError
from ptproxy.state import write_file

KEY: Final = 32
"""Bytes of every key here."""
MAX_PASSPHRASE: Final = 1024
"""Bytes; more is a file that somebody pasted."""
MAX_MEMORY: Final = 1 << 20
"""KiB that a stored cost may ask for, 1 GiB: a damaged or planted file must not exhaust the machine."""
MAX_WORK: Final = 4 << 20
"""KiB times iterations that a stored cost may ask for: some ten seconds."""
MAX_LANES: Final = 16

_VERSION: Final = 1
_PASSPHRASE: Final = 1
_FILE: Final = 2
_SALT: Final = 16
_NONCE: Final = 12
_TAG: Final = 16
_FRONT: Final = struct.Struct(f">BBIII{_SALT}s")
WRAPPED: Final = _FRONT.size + _NONCE + KEY + _TAG
"""Bytes of a wrapped master key, whatever opens it."""

_LABEL: Final = b"ptproxy 1 store master key\0"
_LABEL_FILE: Final = b"ptproxy 1 store key file"


@dataclass(frozen=True, slots=True)
class PassphraseCost:
    """What one guess at a passphrase costs (RFC 9106 section 3.1: m, t, p)."""

    memory: int = 256 << 10
    """KiB. Four times RFC 9106's second recommendation (section 4), for a passphrase that is all there is
    between a stolen disk and everything: 0.7 s on two slow cores."""
    iterations: int = 3
    lanes: int = 4

    def permitted(self) -> bool:
        """Whether a program that meets these numbers in a file may do that work."""
        return (
            1 <= self.lanes <= MAX_LANES
            and 8 * self.lanes <= self.memory <= MAX_MEMORY
            and self.iterations >= 1
            and self.memory * self.iterations <= MAX_WORK
        )

    def derive(self, passphrase: bytes, salt: bytes) -> bytes:
        """The wrapping key."""
        kdf = Argon2id(
            salt=salt, length=KEY, iterations=self.iterations, lanes=self.lanes, memory_cost=self.memory
        )
        return kdf.derive(passphrase)


class StoreKey:
    """A passphrase or the content of a key file. Never printed."""

    __slots__ = ("_cost", "_kind", "_secret")

    def __init__(self, kind: int, secret: bytes, cost: PassphraseCost) -> None:
        """Use :meth:`passphrase` or :meth:`file`."""
        self._kind = kind
        self._secret = secret
        self._cost = cost

    @classmethod
    def passphrase(cls, passphrase: bytes, cost: PassphraseCost = PassphraseCost()) -> Self:
        """What a person types, encoded; whoever asks for it normalises it (NFC), so that keyboards agree.

        ``cost`` is for wrapping; opening does the work that the store names. :class:`StartError` for an
        empty passphrase, or a longer one than ``MAX_PASSPHRASE``.
        """
        if not cost.permitted():
            raise LocalProtocolError("store: a passphrase at a cost that no program would pay")
        if not 1 <= len(passphrase) <= MAX_PASSPHRASE:
            raise StartError(f"a passphrase has 1 to {MAX_PASSPHRASE:,} bytes")
        return cls(_PASSPHRASE, passphrase, cost)

    @classmethod
    def file(cls, path: Path) -> Self:
        """The key of a file that :meth:`make_file` made; :class:`StartError` for anything else."""
        if not path.exists():
            raise StartError(f"there is no key file {path}")
        try:
            text = read_key(path)
        except ValueError as error:
            raise StartError(str(error)) from None
        return cls(_FILE, base64.urlsafe_b64decode(f"{text}="), PassphraseCost())

    @classmethod
    def make_file(cls, path: Path) -> Self:
        """A new key file, for its owner only; :class:`StartError` where there is one already."""
        secret = secrets.token_bytes(KEY)
        text = base64.urlsafe_b64encode(secret).decode().rstrip("=")
        write_file(path, f"{text}\n", replace=False)
        return cls(_FILE, secret, PassphraseCost())

    def wrap(self, master: bytes, rng: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
        """The stored form of the master key, ``WRAPPED`` bytes."""
        salt, nonce = rng(_SALT), rng(_NONCE)
        cost = self._cost
        numbers = (cost.memory, cost.iterations, cost.lanes) if self._kind == _PASSPHRASE else (0, 0, 0)
        front = _FRONT.pack(_VERSION, self._kind, *numbers, salt)
        key = self._wrapping_key(cost, salt)
        return front + nonce + AESGCM(key).encrypt(nonce, master, _LABEL + front)

    def unwrap(self, wrapped: bytes) -> bytes:
        """The master key.

        :class:`StartError`: another passphrase or file opens it. :class:`StateError`: nothing does.
        """
        if len(wrapped) != WRAPPED:
            raise StateError("store: the wrapped key is damaged")
        version, kind, memory, iterations, lanes, salt = _FRONT.unpack_from(wrapped)
        cost = PassphraseCost(memory, iterations, lanes)
        if version > _VERSION:
            raise StartError("the store was written by a newer ptproxy: update this one")
        sound = (
            cost.permitted() if kind == _PASSPHRASE else (kind, memory, iterations, lanes) == (_FILE, 0, 0, 0)
        )
        if version != _VERSION or not sound:
            raise StateError("store: the wrapped key is damaged")
        if kind != self._kind:
            needed = "a passphrase, not a key file" if kind == _PASSPHRASE else "a key file, not a passphrase"
            raise StartError(f"the store opens with {needed}")
        front, nonce, sealed = (
            wrapped[: _FRONT.size],
            wrapped[_FRONT.size : _FRONT.size + _NONCE],
            wrapped[_FRONT.size + _NONCE :],
        )
        try:
            return AESGCM(self._wrapping_key(cost, salt)).decrypt(nonce, sealed, _LABEL + front)
        except InvalidTag:
            what = "passphrase" if kind == _PASSPHRASE else "key file"
            raise StartError(f"the store does not open: wrong {what}, or the store is damaged") from None

    def _wrapping_key(self, cost: PassphraseCost, salt: bytes) -> bytes:
        if self._kind == _PASSPHRASE:
            return cost.derive(self._secret, salt)
        return HKDF(hashes.SHA256(), KEY, salt, _LABEL_FILE).derive(self._secret)

    def __repr__(self) -> str:
        return f"<StoreKey: {'passphrase' if self._kind == _PASSPHRASE else 'file'}>"
