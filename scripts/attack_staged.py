"""A bridge whose clock and name server the attack has in its hand; run in place of ``python -m ptproxy``.

``PTPROXY_STAGE`` names a file of 16 bytes, mapped by both: seconds that the clock is ahead (f64), and which
answer names have (u64): 0 the target's address, 1 the inside's, 2 both, 3 the inside's as IPv4-mapped IPv6,
4 as NAT64. Nothing else of the bridge is different.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

STAGE = struct.Struct("<dQ")
ENVIRONMENT = "PTPROXY_STAGE"
INSIDE = "127.0.0.66"
"""An address that the bridge may not dial, where something listens."""
OUTSIDE = "127.0.0.1"
SUFFIX = ".flip.example"
KEEP = 0.2
"""Seconds that the bridge keeps an answer here: a name turns round between two dials."""
ANSWERS = (
    (OUTSIDE,),
    (INSIDE,),
    (OUTSIDE, INSIDE),
    (f"::ffff:{INSIDE}",),
    ("64:ff9b::7f00:42",),
)


class Stage:
    """The file, from either side."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(STAGE.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), STAGE.size)

    @property
    def ahead(self) -> float:
        return float(STAGE.unpack_from(self._map)[0])

    @property
    def answer(self) -> int:
        return int(STAGE.unpack_from(self._map)[1])

    def set(self, ahead: float, answer: int) -> None:
        """Clock and names from now on."""
        STAGE.pack_into(self._map, 0, ahead, answer)


def main() -> None:
    stage = Stage(Path(os.environ[ENVIRONMENT]))
    clock, look_up = time.time, socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **named: Any) -> Any:
        if not str(host).endswith(SUFFIX):
            return look_up(host, *rest, **named)
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 0))
            for ip in ANSWERS[stage.answer]
        ]

    time.time = lambda: clock() + stage.ahead
    socket.getaddrinfo = getaddrinfo
    import ptproxy.proxy.resolve  # noqa: PLC0415  (after the clock is ours)

    ptproxy.proxy.resolve.KEEP = KEEP  # type: ignore[misc]
    from ptproxy.cli.main import main as command  # noqa: PLC0415

    command()


if __name__ == "__main__":
    sys.exit(main())
