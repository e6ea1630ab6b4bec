"""What the system says of another process (CPU, memory, descriptors), and what a ptproxy process says."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ptproxy.proxy.control_asking import Asking

TICK = os.sysconf("SC_CLK_TCK")
PATIENCE = 30.0
"""Seconds for an answer over the control socket: a bridge under attack has other things to do as well."""


def cpu_seconds(pid: int) -> float:
    """User and system time since its start, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid: int) -> float:
    """MiB that it has, shared pages in full."""
    return _mib(f"/proc/{pid}/status", "VmRSS")


def proportional(pid: int) -> float:
    """MiB that it has (PSS): of pages that several share, its part."""
    return _mib(f"/proc/{pid}/smaps_rollup", "Pss")


def peak(pid: int) -> float:
    """MiB that it had at most since its start, or since :func:`forget_peak`."""
    return _mib(f"/proc/{pid}/status", "VmHWM")


def forget_peak(pid: int) -> None:
    """:func:`peak` counts from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def descriptors(pid: int) -> int:
    """Open descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def state_of(folder: Path) -> dict[str, Any]:
    """What ``ptproxy status --json`` prints of the process with this state folder."""
    with Asking(folder, PATIENCE) as asking:
        return asking.ask("state")


def _mib(place: str, name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(place).read_text(), re.M)
    if found is None:
        raise OSError(f"{place} does not tell {name}")
    return int(found[1]) / 1024
