"""Free memory goes back to the system.

glibc keeps what was freed below anything still in use, which after a burst of
streams that nobody reads is tens of MiB for good. Other C libraries give it back
by themselves, or offer no way to ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

IDLE_SHARE: Final = 0.02
"""Part of a processor that an idle process uses at most."""
BUSY_CALLS: Final = 12
"""Calls after which a process that is never idle asks all the same."""


class FreeMemory:
    """To be called every few seconds: has free memory returned once, after work, in a quiet moment."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._called_at = clock()
        self._used = time.process_time()
        self._worked = 0
        self._trim: Callable[[int], int] | None = None
        self._looked = False

    def give_back(self, busy_calls: int = BUSY_CALLS) -> bool:
        """Whether the system was asked to take free memory back.

        A process that is never idle asks after ``busy_calls`` calls: fewer where memory is short.
        """
        now, used = self._clock(), time.process_time()
        idle = used - self._used < (now - self._called_at) * IDLE_SHARE
        self._called_at, self._used = now, used
        if not idle:
            self._worked += 1
        if not self._worked or not (idle or self._worked >= busy_calls):
            return False
        self._worked = 0
        if not self._looked:
            self._looked = True
            self._trim = _malloc_trim()
        if self._trim is None:
            return False
        self._trim(0)
        return True


def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's function of that name, where that is the C library."""
    try:
        import ctypes  # noqa: PLC0415  (costs a start-up ten milliseconds; not in every Python)

        trim = ctypes.CDLL(None).malloc_trim
        trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    except (ImportError, OSError, AttributeError, TypeError):
        return None
    return trim
