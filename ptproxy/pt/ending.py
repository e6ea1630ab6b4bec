"""When a process that its parent started is to end: at a signal, or when the parent closes our input."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import Final

from ptproxy.proxy.startup import Signals

CHUNK: Final = 4096
"""Bytes read of an input that nobody reads."""
LOOK_EVERY: Final = 1.0
"""Seconds between looks whether the parent still is our parent."""


def end_with_input(loop: asyncio.AbstractEventLoop, signals: Signals, descriptor: int = 0) -> None:
    """Ask to stop when ``descriptor`` (standard input) is closed at the other end, or was never open.

    A thread waits there, because input may be a pipe, a terminal or a file, and
    loops watch files no more than some watch pipes.
    """

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(descriptor, CHUNK):
                pass
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(signals.ask)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def end_with_parent(loop: asyncio.AbstractEventLoop, signals: Signals, parent: int) -> None:
    """Ask to stop when ``parent`` is gone without having ended us (Shadowsocks, killed).

    ``parent``: the process that started us, asked for when we began: it may be gone by now.
    """

    def look() -> None:
        if os.getppid() != parent:
            signals.ask()
        else:
            loop.call_later(LOOK_EVERY, look)

    look()
