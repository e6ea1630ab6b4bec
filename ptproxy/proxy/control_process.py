"""What the system says of this process: memory, time, descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Any

from ptproxy import __version__


def process_state(began_at: float) -> dict[str, Any]:
    """For a status; ``began_at`` and ``now`` are unix seconds, ``cpu`` seconds, ``memory`` bytes.

    What the system does not tell is None.
    """
    return {
        "program": __version__,
        "pid": os.getpid(),
        "began_at": began_at,
        "now": time.time(),
        "cpu": time.process_time(),
        "resident": resident(),
        "descriptors": descriptors(),
        "most_descriptors": most_descriptors(),
        "tasks": tasks(),
    }


def resident() -> int | None:
    """Bytes of memory that the process has."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None


def most_descriptors() -> int | None:
    """How many may be open."""
    try:
        import resource  # noqa: PLC0415  (POSIX only)
    except ImportError:
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def tasks() -> int | None:
    """Tasks of the loop that this is called in; None outside of one."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return None


def descriptors() -> int | None:
    """Descriptors that are open."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(folder)) - 1  # but for the folder itself
    return None
