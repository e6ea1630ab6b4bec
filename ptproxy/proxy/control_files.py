"""Tells when one of a few files has changed: a look at each every two seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

LOOK_EVERY: Final = 2.0
"""Seconds between looks: one stat a file."""

FileStatus = tuple[int, int, int] | None
"""By what a change of a file is known; None: it cannot be looked at."""
_Seen = tuple[FileStatus, ...]


class FileWatch:
    """Calls ``changed`` once the files have changed and then stayed as they are for one look.

    So a file that is being written, or a certificate whose key comes a moment later, is read when it is
    whole. What is there at the first look counts as read, where :meth:`follow` is not told what was read.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None], every: float = LOOK_EVERY
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._every = every
        self._files: tuple[Path, ...] = ()
        self._known: _Seen = ()
        self._last: _Seen = ()
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, files: Iterable[Path], read: Mapping[Path, FileStatus] | None = None) -> None:
        """Follow these, and no others; of one that is followed already, what was noted stays.

        ``read``: files as they were before they were read, which may have changed since.
        """
        files = tuple(files)
        if files != self._files:
            known = {**(read or {}), **dict(zip(self._files, self._known, strict=True))}
            seen = _look(files)
            self._known = tuple(known.get(path, now) for path, now in zip(files, seen, strict=True))
            self._last = seen
            self._files = files
        if self._timer is None:
            self._timer = self._loop.call_later(self._every, self.look)

    def note(self) -> None:
        """The files are being read just now."""
        self._known = self._last = _look(self._files)

    def look(self) -> None:
        """Look now, and again later."""
        self._timer = self._loop.call_later(self._every, self.look)
        seen, before = _look(self._files), self._last
        self._last = seen
        if seen != self._known and seen == before:
            self._known = seen
            self._changed()

    def stop(self) -> None:
        """No more looks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def status_of(path: Path) -> FileStatus:
    """A file as it is now."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _look(files: Iterable[Path]) -> _Seen:
    return tuple(status_of(path) for path in files)
