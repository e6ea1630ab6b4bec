"""How long a browser takes between the steps of loading a page: least and most, drawn evenly between.

From recordings of Chromium 156 and cover record by record (2026-11).
"""

from __future__ import annotations

from typing import Final

SCAN_DELAY: Final = (0.016, 0.045)
"""Seconds from the page's first bytes to the first requests."""
LAYOUT_DELAY: Final = (0.005, 0.012)
"""Seconds from the last blocking answer to what layout finds."""
FONT_DELAY: Final = (0.0004, 0.015)
"""Seconds from layout to its fonts."""
SIGHT_DELAY: Final = (0.001, 0.008)
"""Seconds from layout to pictures becoming urgent because they are in sight."""
SCAN_MORE_DELAY: Final = (0.001, 0.006)
"""Seconds from further bytes of the page to the requests they lead to."""
BROKEN_DELAY: Final = (0.0015, 0.004)
"""Seconds from the first bytes of what is no picture to its request being given up."""
ICON_DELAY: Final = (0.020, 0.060)
"""Seconds from the last answer to the icon."""
ASK_TOGETHER: Final = 0.65
"""Share of the requests found at once that leave together with the one before ..."""
ASK_PAUSE: Final = (0.0005, 0.004)
ASK_LONG_PAUSE: Final = (0.004, 0.012)
ASK_LONG_PAUSES: Final = 0.2
"""... and seconds to the others; for this share of them while the page's process does something else."""
