"""What other people's classifiers say of a capture: nDPI's ``ndpiReader`` and ``tshark``, where installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptproxy.errors import StartError

TIMEOUT: Final = 300.0
"""Seconds for a program over one capture."""
MAX_OUTPUT: Final = 256 << 20
"""Bytes of a report that are read."""

_SEARCH: Final = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
_NDPI_FLOW: Final = re.compile(r"^\s*\d+\s+TCP .*?\[proto: [\d.]+/([^\]]+)\]")
_NDPI_RISK: Final = re.compile(r"\[Risk: \*\* (.*?) \*\*\]\[Risk Score")
_STARS: Final = re.compile(r" *\*{2,} *")
"""What stands between two risks."""
_LOW: Final = frozenset(
    ("eth", "ethertype", "ip", "ipv6", "tcp", "sll", "raw", "null", "vlan", "frame", "data-text-lines")
)
"""Layers that every TCP connection has."""


@dataclass(frozen=True, slots=True)
class Labels:
    """How a program sorts the TCP flows of a capture."""

    program: str
    labels: Counter[str]
    """Flows by what they are called."""
    risks: Counter[str]
    """Flows by what is held against them."""


def installed(program: str) -> str | None:
    """Where a program is, None without it."""
    return shutil.which(program, path=_SEARCH)


def ndpi(capture: Path, port: int | None) -> Labels | None:
    """nDPI's protocol and risks of each flow; None where ``ndpiReader`` is not installed."""
    program = installed("ndpiReader")
    if program is None:
        return None
    labels, risks = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="ptproxy-inspect-") as folder:
        report = Path(folder) / "report"
        command = [program, "-q", "-i", str(capture.absolute()), "-v", "2", "-w", str(report)]
        _run([*command, *(("-f", f"tcp port {port}") if port else ())], Path(folder) / "output")
        text = _text(report)
    for line in text.splitlines():
        flow = _NDPI_FLOW.match(line)
        if flow is None:
            continue
        labels[flow[1]] += 1
        told = _NDPI_RISK.search(line)
        risks.update(_STARS.split(told[1]) if told else ())
    return Labels("ndpiReader", labels, risks)


def tshark(capture: Path, port: int | None) -> Labels | None:
    """The protocols that tshark dissects in each flow; None where it is not installed."""
    program = installed("tshark")
    if program is None:
        return None
    only = "tcp.len > 0" + (f" && tcp.port == {port}" if port else "")
    fields = ["-T", "fields", "-e", "tcp.stream", "-e", "frame.protocols"]
    with tempfile.TemporaryDirectory(prefix="ptproxy-inspect-") as folder:
        output = Path(folder) / "output"
        _run([program, "-n", "-r", str(capture.absolute()), "-Y", only, *fields], output)
        text = _text(output)
    seen: dict[str, set[str]] = {}
    for line in text.splitlines():
        stream, _, protocols = line.partition("\t")
        if protocols:
            seen.setdefault(stream, set()).update(set(protocols.split(":")) - _LOW)
    return Labels("tshark", Counter("+".join(sorted(found)) or "tcp" for found in seen.values()), Counter())


def _run(command: list[str], output: Path) -> None:
    """Run a program to its end, its standard output in a file."""
    with output.open("wb") as file:
        try:
            subprocess.run(  # noqa: S603  (found above, no shell)
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise StartError(f"{Path(command[0]).name} took more than {TIMEOUT:.0f} s") from None


def _text(report: Path) -> str:
    """What a program wrote, as far as it is read."""
    if not report.exists():
        return ""
    with report.open("rb") as file:
        return file.read(MAX_OUTPUT).decode("utf-8", "replace")
