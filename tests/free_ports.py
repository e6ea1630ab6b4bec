"""Ports for servers that are told theirs before they listen: nobody is given them by chance meanwhile.

Whoever binds to port 0 or connects gets a port of the system's range for that, so one of it that was free a
moment ago may be somebody's when it is used. Those given here lie below that range, are drawn at random, so
that test runs side by side do not meet, and are never given twice by one process.
"""

from __future__ import annotations

import contextlib
import random
import socket

FIRST, LAST = 10_240, 32_767
"""Above the ports of usual services, below those that Linux (from 32,768) and macOS (from 49,152) give."""
HOST = "127.0.0.1"

_rng = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A port that is free for TCP and UDP, and that only a server told of it will use."""
    while True:
        port = _rng.randint(FIRST, LAST)
        if port in _given:
            continue
        with (
            contextlib.suppress(OSError),
            socket.socket() as tcp,
            socket.socket(type=socket.SOCK_DGRAM) as udp,
        ):
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((HOST, port))
            udp.bind((HOST, port))
            _given.add(port)
            return port
