"""What people compare to know that nobody stands between them.

::

    60 digits   the 32 bytes as a number modulo 10^60, in twelve groups of five
    12 words    the first 24 bytes as proquints (arXiv 0901.4016), five letters each
    QR          PTPROXY:E2E1: and the 32 bytes in base32, without padding

Words are no language's, so that they read out alike in all of them. Typed ones are
taken with any spacing and case, digits of any script.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import unicodedata
from dataclasses import dataclass
from typing import Final

from ptproxy.errors import E2EError

LENGTH: Final = 32
"""Bytes of a fingerprint."""
DIGITS: Final = 60
"""Decimal digits: 199 bits, what two people will still read to each other."""
WORDS: Final = 12
"""Words of 16 bits."""
MAX_TYPED: Final = 256
"""Characters of a text that is compared: four times the longest form."""

_GROUP: Final = 5
_QR_PREFIX: Final = "PTPROXY:E2E1:"
_QR_LENGTH: Final = len(_QR_PREFIX) + 52
_CONSONANTS: Final = "bdfghjklmnprstvz"
_VOWELS: Final = "aiou"
_PAIR_LABEL: Final = b"ptproxy 1 e2e pair\x00"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """32 bytes of a hash over an identity, or over two of them."""

    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != LENGTH:
            raise E2EError("a fingerprint is 32 bytes")

    @classmethod
    def of_pair(cls, one: Fingerprint, other: Fingerprint) -> Fingerprint:
        """One for both sides of a conversation, the same whoever asks: a "safety number"."""
        low, high = sorted((one.data, other.data))
        return cls(hashlib.sha256(_PAIR_LABEL + low + high).digest())

    def digits(self) -> str:
        """Twelve groups of five digits."""
        digits = f"{int.from_bytes(self.data, 'big') % 10**DIGITS:0{DIGITS}d}"
        return " ".join(digits[start : start + _GROUP] for start in range(0, DIGITS, _GROUP))

    def words(self) -> str:
        """Twelve words."""
        return " ".join(
            _proquint(int.from_bytes(self.data[2 * place : 2 * place + 2], "big")) for place in range(WORDS)
        )

    def qr_text(self) -> str:
        """65 characters of the QR code's alphanumeric mode, all 32 bytes."""
        return _QR_PREFIX + base64.b32encode(self.data).decode("ascii").rstrip("=")

    @classmethod
    def parse_qr(cls, text: str) -> Fingerprint:
        """The reverse of :meth:`qr_text`; :class:`E2EError` for any other text."""
        wrong = E2EError("this QR code holds no fingerprint of ptproxy")
        if len(text) != _QR_LENGTH or not text.isascii() or not text.startswith(_QR_PREFIX):
            raise wrong
        try:
            fingerprint = cls(base64.b32decode(text[len(_QR_PREFIX) :] + "===="))
        except binascii.Error:
            raise wrong from None
        if fingerprint.qr_text() != text:
            raise wrong
        return fingerprint

    def matches(self, text: str) -> bool:
        """Whether ``text``, typed or scanned, is this fingerprint in one of its three forms, whole."""
        if len(text) > MAX_TYPED:
            return False
        typed = _bare(text)
        forms = (_bare(self.digits()), _bare(self.words()), _bare(self.qr_text()))
        return any(hmac.compare_digest(typed, form) for form in forms)


def _proquint(number: int) -> str:
    return (
        _CONSONANTS[number >> 12]
        + _VOWELS[number >> 10 & 3]
        + _CONSONANTS[number >> 6 & 15]
        + _VOWELS[number >> 4 & 3]
        + _CONSONANTS[number & 15]
    )


def _bare(text: str) -> bytes:
    """Letters and digits only, lower case, digits of any script as ASCII ones."""
    return "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else character.casefold()
        for character in text
        if character.isalnum()
    ).encode("utf-8", "surrogatepass")
