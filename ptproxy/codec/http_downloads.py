"""A bridge's view of one carrier's GETs: payload in, bodies out in the order of their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from ptproxy.buffer import Buffer
from ptproxy.codec.http_records import (
    CLOSE,
    DATA,
    END,
    HELLO,
    MAX_RECORD,
    NEXT,
    PAD,
    POLL,
    RECORD_HEAD,
    SMALL,
    STREAM,
    padding,
    record,
    record_head,
)
from ptproxy.codec.interface import Link
from ptproxy.codec.randomness import RandomPool

MAX_POLL: Final = 1 << 20
"""Payload bytes of one answered poll: four in flight fill 100 MiB/s at 40 ms."""
FIRST_QUOTA: Final = 1 << 20
"""Payload bytes of a carrier's first streamed GET ..."""
LAST_QUOTA: Final = 64 << 20
""" ... doubled with each full one up to this."""
STREAM_AGE: Final = (15.0, 25.0)
"""Seconds after which a streamed GET is to be followed by the next: some CDNs cut a request at 30 s."""
QUIET: Final = (5.0, 8.0)
"""Seconds of silence on a streamed GET before a PAD record: below a CDN's 10 s for an idle connection."""
POLL_AGE: Final = (6.0, 8.0)
"""Seconds after which a poll is answered without data."""
UNLIMITED: Final = 1 << 30
"""What there is room for while a streamed GET is open."""


class Answer(Protocol):
    """One response under way on some link."""

    @property
    def link(self) -> Link:
        """Where it is written."""

    def begin(self, first: bytes) -> None:
        """Start a body of unknown length with ``first``."""

    def write(self, parts: Sequence[Buffer], size: int) -> None:
        """More of it: ``size`` bytes."""

    def end(self, last: bytes) -> None:
        """The last of it."""

    def complete(self, parts: Sequence[Buffer], size: int) -> None:
        """A whole response at once."""

    def abandon(self) -> None:
        """Break it off."""


@dataclass(slots=True, eq=False)
class Download:
    """One GET that waits for its answer's end."""

    number: int
    kind: int
    answer: Answer
    quiet_at: float
    """When PAD is due, or a poll's empty answer."""
    age_at: float
    """When the next GET is to be asked for (streamed ones)."""
    written_at: float
    sent: int = 0
    next_said: bool = False


class DownloadOrder:
    """The GETs in flight and the payload that waits for them."""

    __slots__ = ("_by_number", "_pool", "_queue", "_queued", "_quota", "_rng", "flush", "next")

    def __init__(self, rng: Random, opening: Answer, now: float) -> None:
        self.next = 0
        """The number that payload is written to."""
        self.flush: set[Link] = set()
        """Links that have something to write or to close."""
        self._rng = rng
        self._pool = RandomPool(rng)
        self._by_number = {0: Download(0, POLL, opening, float("inf"), 0.0, now)}
        self._queue: list[Buffer] = []
        self._queued = 0
        self._quota = FIRST_QUOTA

    def __len__(self) -> int:
        return len(self._by_number)

    def find(self, number: int) -> Download | None:
        """The GET with this number, if it is in flight."""
        return self._by_number.get(number)

    def has(self, answer: Answer) -> bool:
        """Whether an answer is one of those under way."""
        return any(download.answer is answer for download in self._by_number.values())

    def add(self, number: int, kind: int, answer: Answer, now: float) -> None:
        """A GET has come."""
        rng = self._rng
        ages = QUIET if kind == STREAM else POLL_AGE
        download = Download(
            number, kind, answer, now + rng.uniform(*ages), now + rng.uniform(*STREAM_AGE), now
        )
        self._by_number[number] = download
        self.flush.add(answer.link)
        if kind == STREAM:
            answer.begin(record(HELLO, padding(self._pool)))
            return
        while self.next < number and (current := self.find(self.next)) and current.kind == STREAM:
            self._finish(current)  # the front buffers: what it holds is let out by the body's end

    def remove(self, download: Download) -> None:
        """A GET is answered elsewhere: break off this answer."""
        del self._by_number[download.number]
        download.answer.abandon()
        self.flush.add(download.answer.link)

    def abandon(self) -> None:
        """Break off every answer, forget what is queued."""
        self.clear_queue()
        for download in list(self._by_number.values()):
            self.remove(download)

    def queue(self, chunks: Iterable[Buffer]) -> None:
        """Payload to be written."""
        for chunk in chunks:
            if len(chunk):
                self._queue.append(chunk)
                self._queued += len(chunk)

    def clear_queue(self) -> None:
        """Payload that is not wanted any more."""
        self._queue, self._queued = [], 0

    def room(self) -> int:
        """What the current GET takes."""
        current = self._by_number.get(self.next)
        if current is None:
            return 0
        return UNLIMITED if current.kind == STREAM else max(MAX_POLL - self._queued, 0)

    def pump(self, now: float, *, closing: bool) -> bool:
        """Write the queue into the answers in order; True once CLOSE, the very last, is written."""
        while (current := self._by_number.get(self.next)) is not None:
            if self._queue and current.kind == STREAM:
                self._write(current, now)
            if self._queue:
                self._finish(current)
            elif closing:
                self._finish(current, CLOSE)
                return True
            elif not self._is_full(current, now):
                break
            else:
                self._finish(current)
        return False

    def deadline(self) -> float:
        """When :meth:`on_deadline` has something to do."""
        due = float("inf")
        for download in self._by_number.values():
            due = min(due, download.quiet_at)
            if download.number == self.next and download.kind == STREAM and not download.next_said:
                due = min(due, download.age_at)
        return due

    def on_deadline(self, now: float) -> None:
        """Pads where it has been quiet, polls' empty answers, the next GET."""
        for download in list(self._by_number.values()):
            current = download.number == self.next
            if current and download.kind == STREAM and not download.next_said and now >= download.age_at:
                self._say_next(download, now)
            if now < download.quiet_at:
                continue
            if download.kind == STREAM:
                self._pad(download, now)
            else:
                while self.next <= download.number and (before := self.find(self.next)) is not None:
                    self._finish(before)

    # ---- writing ---------------------------------------------------------------------------------

    def _is_full(self, download: Download, now: float) -> bool:
        """Whether a streamed GET has had its share and the next one is there."""
        if not download.next_said or download.number + 1 not in self._by_number:
            return False
        if download.sent >= self._quota:
            self._quota = min(2 * self._quota, LAST_QUOTA)
            return True
        return now >= download.age_at

    def _write(self, download: Download, now: float) -> None:
        chunks, size = self._queue, self._queued
        self._queue, self._queued = [], 0
        answer = download.answer
        if size <= SMALL:
            answer.write([b"".join((record_head(DATA, size), *chunks))], size + RECORD_HEAD)
        elif size <= MAX_RECORD:
            answer.write([record_head(DATA, size), *chunks], size + RECORD_HEAD)
        else:
            for chunk in chunks:
                view = memoryview(chunk)
                for start in range(0, len(view), MAX_RECORD):
                    piece = view[start : start + MAX_RECORD]
                    answer.write([record_head(DATA, len(piece)), piece], len(piece) + RECORD_HEAD)
        download.sent += size
        download.written_at = now
        self.flush.add(answer.link)
        if not download.next_said and 2 * download.sent >= self._quota:
            self._say_next(download, now)

    def _say_next(self, download: Download, now: float) -> None:
        said = record(NEXT, padding(self._pool))
        download.answer.write([said], len(said))
        download.next_said = True
        download.written_at = now
        self.flush.add(download.answer.link)

    def _pad(self, download: Download, now: float) -> None:
        if download.written_at + QUIET[0] <= now:
            pad = record(PAD, padding(self._pool))
            download.answer.write([pad], len(pad))
            download.written_at = now
            self.flush.add(download.answer.link)
        download.quiet_at = download.written_at + self._rng.uniform(*QUIET)

    def _finish(self, download: Download, last: int = END) -> None:
        end = record(last, padding(self._pool))
        if download.kind == STREAM:
            download.answer.end(end)
        else:
            parts, size = self._take_poll()
            parts.append(end)
            size += len(end)
            if size <= SMALL:
                parts = [b"".join(parts)]
            download.answer.complete(parts, size)
        self.flush.add(download.answer.link)
        del self._by_number[download.number]
        self.next = download.number + 1

    def _take_poll(self) -> tuple[list[Buffer], int]:
        """A DATA record with what of the queue fits into one poll."""
        parts: list[Buffer] = []
        size = 0
        while self._queue and size < MAX_POLL:
            view = memoryview(self._queue[0])
            taken = view[: MAX_POLL - size]
            parts.append(taken)
            size += len(taken)
            if len(taken) < len(view):
                self._queue[0] = view[len(taken) :]
            else:
                self._queue.pop(0)
        self._queued -= size
        if size:
            parts.insert(0, record_head(DATA, size))
            size += RECORD_HEAD
        return parts, size
