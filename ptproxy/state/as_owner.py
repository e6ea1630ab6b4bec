"""Root acts with another user's rights in that user's folder, where a library follows links.

SQLite opens its log and its shared memory by name, and gives them the database's owner. Between a look at
such a name and its use the folder's owner can put a link there, symbolic or hard, to a file that is root's
alone. With the file system rights of the owner (Linux: setfsuid(2), of one thread) a link leads only to what
that user may open anyway. Elsewhere the look has to do.

Root's way to the folder stays open (CAP_DAC_READ_SEARCH): systemd keeps the folders of services with a user
of the moment below one that is root's alone. Nothing can be written, made or given away by it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ptproxy.state.files import other_owner

_NOBODY: Final = -1
"""An id that cannot be set: the call only tells which one holds."""
_CAPABILITIES: Final = 0x20080522
"""The version of capset(2)'s structure: two words of 32 bits of each set."""
_SEARCH: Final = 1 << 2
"""CAP_DAC_READ_SEARCH, capabilities(7)."""


@contextlib.contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """As root, open files with the rights of another user whose folder this is; raises ``OSError``.

    It holds for the calling thread alone. Nothing may be awaited inside.
    """
    owner = other_owner(folder)
    if owner is None or sys.platform != "linux":
        yield
        return
    library = ctypes.CDLL(None)
    user, group = owner
    group_before, user_before = _held(library.setfsgid), _held(library.setfsuid)
    try:
        _hold(library.setfsgid, group)
        _hold(library.setfsuid, user)
        _may_search(library)
        yield
    finally:
        _hold(library.setfsuid, user_before)
        _hold(library.setfsgid, group_before)


def _held(call: Callable[[int], int]) -> int:
    return call(_NOBODY)


def _hold(call: Callable[[int], int], number: int) -> None:
    """Neither call reports a failure."""
    call(number)
    if _held(call) != number:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _may_search(library: ctypes.CDLL) -> None:
    """Go on finding the way to the folder, where this process may; setfsuid(0) ends it."""
    head = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, of the lower and the upper 32
    if library.capget(head, sets) == 0 and sets[1] & _SEARCH:
        sets[0] |= _SEARCH
        library.capset(head, sets)
