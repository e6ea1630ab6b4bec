"""ML-KEM keys (FIPS 203), from ``cryptography`` 48 or newer on OpenSSL 3.5 or newer, as in its wheels.

::

    07 │ encapsulation key of ML-KEM-768, 1184 bytes
    08 │ encapsulation key of ML-KEM-1024, 1568 bytes

A key with a coefficient of 3329 or more is refused (FIPS 203 section 7.2). A
private key is kept as its seed ``d │ z`` (algorithm 16).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from typing import Any, Final

from ptproxy.e2e.rng import Rng
from ptproxy.errors import E2EError, StartError

SEED: Final = 64
"""Bytes of a private key's seed."""


class Kem(Enum):
    """A parameter set; the value is its name in ``cryptography``."""

    ML_KEM_768 = "MLKEM768"
    ML_KEM_1024 = "MLKEM1024"

    @cached_property
    def type(self) -> bytes:
        """The byte before an encoded key."""
        return b"\x07" if self is Kem.ML_KEM_768 else b"\x08"

    @cached_property
    def raw(self) -> int:
        """Bytes of an encapsulation key (FIPS 203 table 3)."""
        return 1184 if self is Kem.ML_KEM_768 else 1568

    @cached_property
    def encoded(self) -> int:
        """Bytes of an encoded key."""
        return 1 + self.raw

    @cached_property
    def ciphertext(self) -> int:
        """Bytes of a ciphertext (FIPS 203 table 3)."""
        return 1088 if self is Kem.ML_KEM_768 else 1568


@lru_cache(maxsize=len(Kem))
def require(kem: Kem) -> tuple[Any, Any]:
    """The library's classes for private and public keys; :class:`StartError` where they do not work."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  (may be missing)
        from cryptography.hazmat.primitives.asymmetric import mlkem  # noqa: PLC0415  (may be missing)
    except ImportError:
        raise StartError(
            "messages between peers need ML-KEM, which this version of the Python package 'cryptography' "
            "lacks: install cryptography 48 or newer"
        ) from None
    private, public = getattr(mlkem, f"{kem.value}PrivateKey"), getattr(mlkem, f"{kem.value}PublicKey")
    try:
        private.from_seed_bytes(bytes(SEED))
    except UnsupportedAlgorithm:
        raise StartError(
            "messages between peers need ML-KEM, which the OpenSSL below the Python package 'cryptography' "
            "lacks: install the wheel from PyPI (OpenSSL 3.5 or newer)"
        ) from None
    return private, public


@dataclass(frozen=True, slots=True)
class KemKey:
    """An encapsulation key: ``raw`` passes FIPS 203's input checks (:class:`E2EError` otherwise)."""

    kem: Kem
    raw: bytes

    def __post_init__(self) -> None:
        self._public()

    def _public(self) -> Any:
        try:
            return require(self.kem)[1].from_public_bytes(self.raw)
        except ValueError:
            raise E2EError("an ML-KEM key: not canonical, or of another length") from None

    @classmethod
    def parse(cls, kem: Kem, data: bytes) -> KemKey:
        """From its encoding; :class:`E2EError` for anything else, a key of another kind included."""
        if data[:1] != kem.type:
            raise E2EError("not an ML-KEM key, or not of this parameter set")
        return cls(kem, data[1:])

    def serialize(self) -> bytes:
        """1185 or 1569 bytes."""
        return self.kem.type + self.raw

    def encapsulate(self) -> tuple[bytes, bytes]:
        """A shared secret of 32 bytes and its ciphertext. The randomness is the library's own."""
        secret, ciphertext = self._public().encapsulate()
        return secret, ciphertext


class KemKeyPair:
    """A decapsulation key with its public half, ``public``."""

    __slots__ = ("_key", "_seed", "public")

    def __init__(self, kem: Kem, seed: bytes) -> None:
        """From a seed of 64 bytes; ValueError for another length."""
        self._seed = bytes(seed)
        self._key = require(kem)[0].from_seed_bytes(self._seed)
        self.public: KemKey = KemKey(kem, self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, kem: Kem, rng: Rng) -> KemKeyPair:
        """A new pair; ``rng`` is a CSPRNG in production."""
        return cls(kem, rng(SEED))

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared secret; a ciphertext of the right length that is not one gives a random secret.

        :class:`E2EError` for another length.
        """
        try:
            secret: bytes = self._key.decapsulate(ciphertext)
        except ValueError:
            raise E2EError("ML-KEM: not a ciphertext") from None
        return secret

    def serialize_private(self) -> bytes:
        """The seed, 64 bytes: for the encrypted store and nothing else."""
        return self._seed

    def __repr__(self) -> str:
        return "<KemKeyPair>"
