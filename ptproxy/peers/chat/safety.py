"""Safety numbers: what two people compare to know that nobody stands between them, as rows to draw.

Both screens show the same: the fingerprint of the pair
(:meth:`~ptproxy.e2e.fingerprint.Fingerprint.of_pair`), as twelve groups of digits and as twelve
words (and as a QR code, :mod:`~ptproxy.peers.chat.qr`). Whoever reads one of them out, or scans it, has
compared both identities.
"""

from __future__ import annotations

from typing import Final

from ptproxy.e2e import Fingerprint

IN_A_ROW: Final = 4
"""Groups or words of one row: three rows, as people read such numbers to each other."""


def digit_rows(number: Fingerprint) -> list[str]:
    """Three rows of four groups of five digits."""
    return in_rows(number.digits())


def word_rows(number: Fingerprint) -> list[str]:
    """Three rows of four words of five letters."""
    return in_rows(number.words())


def in_rows(text: str) -> list[str]:
    """Groups or words as rows of :data:`IN_A_ROW`."""
    groups = text.split()
    return [" ".join(groups[place : place + IN_A_ROW]) for place in range(0, len(groups), IN_A_ROW)]
