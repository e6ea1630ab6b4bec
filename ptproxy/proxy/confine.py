"""What every process of ptproxy gives up at its start, whoever started it.

Its memory holds keys: it goes into no core file and no other process of the same user may look into it
(``PR_SET_DUMPABLE``, Linux). No program that it starts can gain rights, as by set-user-ID
(``PR_SET_NO_NEW_PRIVS``, Linux; for good, also for children). Descriptors are raised to the hard limit.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""prctl(2); the value 0 also keeps ptrace(2) and /proc/PID/mem from processes of the same user."""
PR_SET_NO_NEW_PRIVS: Final = 38


def confine(*, may_gain: bool = False) -> tuple[str, ...]:
    """Confine this process; what this system does not let us do, by name.

    To be called before any thread is started: ``no_new_privs`` is a thread's, and its descendants'.
    ``may_gain``: a program that it starts (a browser, whose sandbox may be set-user-ID) may have more rights.
    """
    raise_descriptor_limit()
    return (*_no_core(), *close_memory(), *(() if may_gain else _no_new_privileges()))


def raise_descriptor_limit() -> None:
    """As many descriptors as the system lets us have: the usual 1024 are 500 streams at a client."""
    try:
        import resource  # noqa: PLC0415  (not on every system)
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS: no limit is more than it takes
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def close_memory() -> Iterator[str]:
    """Nobody of the same user looks in; to be called again after a change of user, which undoes it."""
    if sys.platform == "linux" and not _prctl(PR_SET_DUMPABLE, 0):
        yield "memory closed to others"


def _no_core() -> Iterator[str]:
    try:
        import resource  # noqa: PLC0415

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        yield "no core files"


def _no_new_privileges() -> Iterator[str]:
    if sys.platform == "linux" and not _prctl(PR_SET_NO_NEW_PRIVS, 1):
        yield "no new privileges"


def _prctl(option: int, value: int) -> bool:
    try:
        import ctypes  # noqa: PLC0415  (not in every Python)

        call = ctypes.CDLL(None, use_errno=True).prctl
        call.argtypes, call.restype = [ctypes.c_int, *[ctypes.c_ulong] * 4], ctypes.c_int
        return int(call(option, value, 0, 0, 0)) == 0
    except (ImportError, OSError, AttributeError, MemoryError):
        return False
