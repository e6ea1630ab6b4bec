"""Listening sockets, opened before anything else: what connects early waits in the kernel for us."""

from __future__ import annotations

import os
import socket
from typing import Final

BACKLOG: Final = 512
"""Connections that may wait while the rest of the program is loaded."""


def open_door(host: str, port: int) -> socket.socket:
    """Listen on an IP literal; port 0 lets the system choose. Raises ``OSError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def open_datagram_door(host: str, port: int) -> socket.socket:
    """Take UDP on an IP literal; raises ``OSError``."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def place_of(sock: socket.socket) -> tuple[str, int]:
    """IP and port that a socket is bound to."""
    name = sock.getsockname()
    return str(name[0]), int(name[1])
