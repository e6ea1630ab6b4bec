"""Safety numbers: what two people compare to know that nobody stands between them, as rows to draw.

Both screens show the same: the fingerprint of the pair
(:meth:`~ptproxy.e2e.fingerprint.Fingerprint.of_pair`), as twelve groups of digits, as twelve words and
as a QR code. Whoever reads one of them out, or scans it, has compared both identities.
"""

from __future__ import annotations

from typing import Final

import segno

from ptproxy.e2e import Fingerprint

IN_A_ROW: Final = 4
"""Groups or words of one row: three rows, as people read such numbers to each other."""
QR_BORDER: Final = 2
"""Modules of quiet around a QR code: four by the standard (ISO 18004), but readers need two."""

_HALVES: Final = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
"""Two modules above each other as one character; to be drawn dark on light."""


def digit_rows(number: Fingerprint) -> list[str]:
    """Three rows of four groups of five digits."""
    return _rows(number.digits())


def word_rows(number: Fingerprint) -> list[str]:
    """Three rows of four words of five letters."""
    return _rows(number.words())


def qr_rows(text: str) -> list[str]:
    """A QR code as rows of half blocks, two modules each, to be drawn dark on light."""
    code = segno.make(text, error="l", micro=False)
    modules = [[int(module > 0) for module in row] for row in code.matrix_iter(border=QR_BORDER)]
    if len(modules) % 2:
        modules.append([0] * len(modules[0]))
    return [
        "".join(_HALVES[upper, lower] for upper, lower in zip(above, below, strict=True))
        for above, below in zip(modules[::2], modules[1::2], strict=True)
    ]


def _rows(text: str) -> list[str]:
    groups = text.split()
    return [" ".join(groups[place : place + IN_A_ROW]) for place in range(0, len(groups), IN_A_ROW)]
