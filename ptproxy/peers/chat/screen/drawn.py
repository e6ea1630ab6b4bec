"""What the parts of the screen draw alike: signs, times, QR codes."""

from __future__ import annotations

import time
from typing import Final

from textual.content import Content

from ptproxy.e2e import Standing
from ptproxy.peers.chat.qr import qr_rows

STANDING_SIGNS: Final = {
    Standing.UNVERIFIED: (" ", ""),
    Standing.VERIFIED: ("✓", "bold $success"),
    Standing.CHANGED: ("!", "bold $error reverse"),
}
"""Sign and style. Names hold none of them (``shown.OWN_SIGNS``) and never stand in their column."""
STANDING_WORDS: Final = {
    Standing.UNVERIFIED: (" not verified ", "$warning"),
    Standing.VERIFIED: (" ✓ verified ", "bold $success"),
    Standing.CHANGED: (" ! CHANGED ", "bold $error reverse"),
}
QR_STYLE: Final = "black on white"


def clock(when: float, now: float) -> str:
    """A time of day, with its day where that is not today."""
    try:
        then, today = time.localtime(when), time.localtime(now)
        form = "%H:%M" if then[:3] == today[:3] else "%Y-%m-%d %H:%M"
        return time.strftime(form, then)
    except (OverflowError, ValueError, OSError):  # no time that a calendar has
        return "--:--"


def qr_code(text: str) -> Content:
    """A QR code, dark on light whatever the theme."""
    return Content("\n").join(Content.styled(row, QR_STYLE) for row in qr_rows(text))
