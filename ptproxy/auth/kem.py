"""ML-KEM-768 (FIPS 203), from ``cryptography``, imported only when sealing is on.

Older versions of ``cryptography`` (before 48) or of OpenSSL (before 3.5) lack it;
:func:`require` says so in one line before any handshake starts.
"""

from __future__ import annotations

from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Final

from ptproxy.errors import AuthenticationError, StartError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

ENCAPSULATION_KEY: Final = 1184
"""Bytes of an encapsulation key (FIPS 203 table 3)."""
CIPHERTEXT: Final = 1088
"""Bytes of a ciphertext (FIPS 203 table 3)."""
SHARED_SECRET: Final = 32
"""Bytes of a shared secret (FIPS 203 table 3)."""
SEED: Final = 64
"""Bytes of the seed ``d ‖ z`` that a key is made from (FIPS 203 algorithm 16)."""


@lru_cache(maxsize=1)
def require() -> None:
    """Return where ML-KEM-768 works, raise :class:`StartError` where it does not."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  (may be missing)
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey  # noqa: PLC0415  (may be missing)
    except ImportError:
        raise StartError(
            "sealing needs ML-KEM-768, which this version of the Python package 'cryptography' lacks: "
            "install cryptography 48 or newer, or switch sealing off in both configurations"
        ) from None
    try:
        MLKEM768PrivateKey.from_seed_bytes(bytes(SEED))
    except UnsupportedAlgorithm:
        raise StartError(
            "sealing needs ML-KEM-768, which the OpenSSL below the Python package 'cryptography' lacks: "
            "install the wheel from PyPI (OpenSSL 3.5 or newer), or switch sealing off in both configurations"
        ) from None


class DecapsulationKey:
    """A key for one exchange; ``public`` is its encapsulation key of 1184 bytes."""

    __slots__ = ("_key", "public")

    def __init__(self, rng: Random) -> None:
        """``rng`` is a CSPRNG in production."""
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey  # noqa: PLC0415  (may be missing)

        self._key: MLKEM768PrivateKey = MLKEM768PrivateKey.from_seed_bytes(rng.randbytes(SEED))
        self.public: bytes = self._key.public_key().public_bytes_raw()

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared secret of a ciphertext of 1088 bytes (a wrong one gives a random secret)."""
        try:
            return self._key.decapsulate(ciphertext)
        except ValueError:
            raise AuthenticationError("ML-KEM: not a ciphertext") from None

    def __repr__(self) -> str:
        return "<DecapsulationKey>"


def encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """A shared secret and its ciphertext for ``public``; :class:`AuthenticationError` if that is no key.

    The randomness is the library's own: it offers no other.
    """
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey  # noqa: PLC0415  (may be missing)

    try:
        return MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError:
        raise AuthenticationError("ML-KEM: not an encapsulation key") from None
