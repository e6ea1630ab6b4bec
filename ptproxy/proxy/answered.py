"""The seconds in which answered openings claim to have been made, on the disk before they are answered.

After a clean stop the replay filter's snapshot says more. After a kill these seconds are what has to be
refused: they are written into the system's memory of the file (microseconds, without waiting for the disk),
which outlives the process, but not a power cut. So each page names the system's start that it was written
after, and after another one it is known only that nothing was answered since that start.

The file is pages of 4,096 bytes: page 0 what was known at the bridge's start, page 1 and following one for
each worker (a bridge of one process has page 1). A page is written whole by one call, which a kill does not
divide. Big-endian::

    magic 4 | start of the system 16 (zeros: not known) | floor f64 | count u16 | each: first u64, last u64
    BLAKE2b of all before, 16 bytes

No key of an opening is in it, nor how many there were.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ptproxy.auth.replay import WINDOW, unknown_until
from ptproxy.auth.spans import Spans
from ptproxy.errors import StartError
from ptproxy.log import get_logger
from ptproxy.state import MarkFile

PAGE: Final = 4096
MOST_PAGES: Final = 1025
"""Page 0 and more workers than a machine has cores."""
MAGIC: Final = b"PTA1"
_HEAD: Final = struct.Struct(">4s16sdH")
_SPAN: Final = struct.Struct(">QQ")
_CHECK: Final = 16
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_UNKNOWN: Final = bytes(16)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class System:
    """The system's present run."""

    start: bytes
    """16 bytes that no other run has; zeros where that cannot be told."""
    up: float
    """Seconds that it has run for, sleep included; 0 where that cannot be told."""

    @classmethod
    def now(cls) -> System:
        """Ask it (Linux; elsewhere nothing is known)."""
        try:
            start = bytes.fromhex(_BOOT.read_text("ascii").replace("-", ""))
            up = time.clock_gettime(time.CLOCK_BOOTTIME)
        except (OSError, ValueError, AttributeError):
            return cls(_UNKNOWN, 0.0)
        return cls(start, up) if len(start) == len(_UNKNOWN) else cls(_UNKNOWN, 0.0)


@dataclass(frozen=True, slots=True)
class Page:
    """One page's content."""

    start: bytes
    floor: float
    spans: tuple[tuple[int, int], ...]

    def serialize(self) -> bytes:
        """Its bytes, at most a page."""
        data = _HEAD.pack(MAGIC, self.start, self.floor, len(self.spans))
        data += b"".join(_SPAN.pack(*span) for span in self.spans)
        return data + _check(data)

    @classmethod
    def parse(cls, data: bytes) -> Page:
        """Raises ``ValueError`` for what is no page."""
        if len(data) < _HEAD.size:
            raise ValueError
        magic, start, floor, count = _HEAD.unpack_from(data)
        end = _HEAD.size + count * _SPAN.size
        if magic != MAGIC or len(data) < end + _CHECK or data[end : end + _CHECK] != _check(data[:end]):
            raise ValueError
        if not 0 <= floor < 2**63:
            raise ValueError
        return cls(start, floor, tuple(_SPAN.iter_unpack(data[_HEAD.size : end])))


def _check(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECK).digest()


class Answered:
    """One process's page, and the file it is in."""

    __slots__ = ("_file", "_page", "_spans", "_start", "_whole")

    def __init__(self, file: MarkFile, start: bytes, worker: int = 0) -> None:
        """``start``: of the system, as :class:`System` has it. Goes on with the page there is."""
        self._file = file
        self._start = start
        self._page = 1 + worker
        self._whole = True
        pages = _pages(file)
        self._spans = Spans()
        mine = pages[self._page] if len(pages) > self._page else None
        if mine is not None:
            self._spans = Spans(mine.spans)

    def note(self, second: int) -> None:
        """An opening of this second is going to be answered.

        Where that cannot be written the file is removed, so that a later start knows that it knows nothing.
        """
        if self._whole and self._spans.add(second, second):
            try:
                self._write(self._page, 0.0, self._spans)
            except StartError as error:
                self._whole = False
                log.warning("after a crash clients will be kept out for a minute", why=str(error))
                with contextlib.suppress(StartError):  # a file system that takes nothing at all
                    self._file.remove()

    def begin(self, floor: float, spans: Spans) -> None:
        """What is known as the bridge starts; the pages of its workers are to add to it."""
        self._write(0, floor, spans)

    def forget(self, pages: int) -> None:
        """Empty so many workers' pages: what was in them is in page 0 now."""
        for page in range(1, pages + 1):
            self._write(page, 0.0, Spans())
        if pages >= self._page:
            self._spans = Spans()

    def _write(self, page: int, floor: float, spans: Spans) -> None:
        self._file.write(page * PAGE, Page(self._start, floor, tuple(spans)).serialize())

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._file.close()


def _pages(file: MarkFile) -> list[Page | None]:
    """Each page; None for one that is damaged."""
    data = file.read(MOST_PAGES * PAGE)
    pages: list[Page | None] = []
    for place in range(0, len(data), PAGE):
        said = data[place : place + PAGE]
        try:
            never = place > 0 and not any(said)  # of a worker that has answered nobody
            pages.append(Page(b"", 0.0, ()) if never else Page.parse(said))
        except ValueError:
            pages.append(None)
    return pages


def left(file: MarkFile, system: System, unix_now: float) -> tuple[float, Spans, int] | None:
    """What a bridge that did not stop cleanly has left: floor, refused seconds, number of its pages.

    None where there never was one. Where not all can be known the floor lies ahead of all that can have
    been answered: the window beyond the system's start if that was after the bridge's end, else beyond now.
    """
    pages = _pages(file)
    if not pages:
        return None
    whole = [page for page in pages if page is not None and page.start]
    spans = Spans(span for page in whole for span in page.spans)
    if None in pages or system.start == _UNKNOWN or any(p.start == _UNKNOWN for p in whole):
        return unknown_until(unix_now, WINDOW), spans, len(pages)
    if any(page.start != system.start for page in whole):
        return unknown_until(unix_now - system.up, WINDOW), spans, len(pages)
    return whole[0].floor, spans, len(pages)
