"""What systemd is told of a process: sd_notify(3), where it wants to know."""

from __future__ import annotations

import contextlib
import os
import socket


def tell_supervisor(state: str) -> None:
    """Say ``READY=1`` or ``MAINPID=123`` to whoever asked for it by ``NOTIFY_SOCKET``; else do nothing.

    What cannot be said is not said: a supervisor that is not there must not stop a bridge.
    """
    place = os.environ.get("NOTIFY_SOCKET", "")
    if place[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect("\0" + place[1:] if place[0] == "@" else place)
        sock.send(state.encode())
