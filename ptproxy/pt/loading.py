"""Loading the tunnel: the moment between telling the parent that we listen and a loop for signals."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def leave_at_signals() -> None:
    """Until a loop takes them over, signals end the process at once, and well: what is written is whole."""

    def leave(number: int, frame: FrameType | None) -> None:
        del number, frame
        os._exit(0)

    for number in SIGNALS:
        signal.signal(number, leave)
