"""QR codes (ISO 18004) of invites and safety numbers: as rows of a terminal, and as a picture.

An invite has 500 to 700 characters and needs 69 modules or more a side, so some 40 rows of half blocks: that
is more than a usual window has. Where a code does not fit, whoever draws it says so and offers the picture:
a code that is cut cannot be scanned. The lowest error correction makes the smallest code, and on a screen
nothing is torn or dirty.
"""

from __future__ import annotations

import io
from typing import Final

import segno

QR_BORDER: Final = 2
"""Modules of quiet around a code on the screen: four by the standard, but readers need two."""
PICTURE_BORDER: Final = 4
PICTURE_SCALE: Final = 8
"""Pixels of a module: 600 a side and more, which a telephone reads from any screen."""

_HALVES: Final = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
"""Two modules above each other as one character; to be drawn dark on light."""


def qr_rows(text: str) -> list[str]:
    """A QR code as rows of half blocks, two modules each, to be drawn dark on light."""
    modules = [[int(module > 0) for module in row] for row in _code(text).matrix_iter(border=QR_BORDER)]
    if len(modules) % 2:
        modules.append([0] * len(modules[0]))
    return [
        "".join(_HALVES[upper, lower] for upper, lower in zip(above, below, strict=True))
        for above, below in zip(modules[::2], modules[1::2], strict=True)
    ]


def qr_png(text: str) -> bytes:
    """The same as a picture."""
    picture = io.BytesIO()
    _code(text).save(picture, kind="png", scale=PICTURE_SCALE, border=PICTURE_BORDER)
    return picture.getvalue()


def too_small(rows: list[str], columns: int, lines: int) -> str:
    """Why a window of this size cannot show a code; "" where it can."""
    if len(rows[0]) <= columns and len(rows) <= lines:
        return ""
    return (
        f"Its QR code needs {len(rows[0])} columns and {len(rows)} rows; "
        f"this window has {columns} and {lines}. Make its letters smaller (Ctrl and -)"
    )


def _code(text: str) -> segno.QRCode:
    return segno.make(text, error="l", micro=False)
