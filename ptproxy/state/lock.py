"""Advisory locks on files: one process at a time."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from ptproxy.state.files import FILE_MODE, NO_LINK, give_to_owner


def open_lock(path: Path) -> IO[bytes]:
    """The file to lock, made when missing; raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK | getattr(os, "O_CLOEXEC", 0), FILE_MODE)
    file = os.fdopen(descriptor, "r+b")
    give_to_owner(descriptor, path.parent)
    return file


if sys.platform == "win32":
    import msvcrt

    def take_lock(file: IO[bytes]) -> None:
        """Lock the file until it is closed, or raise OSError where somebody else has."""
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def wait_for_lock(file: IO[bytes]) -> None:
        """Lock the file until it is closed; raises OSError after ten tries of a second each."""
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)

else:
    import fcntl

    def take_lock(file: IO[bytes]) -> None:
        """Lock the file until it is closed or the process ends, or raise OSError where somebody else has."""
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def wait_for_lock(file: IO[bytes]) -> None:
        """Lock the file until it is closed or the process ends, as soon as nobody else has."""
        fcntl.flock(file, fcntl.LOCK_EX)
