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
from ptproxy.codec.shape import Down

MOST_DRAWN: Final = 4 << 20
"""Payload bytes that wait for answers of drawn sizes."""
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
MOST_IDLE: Final = 4
"""Times the pause that ends a drawn body, after which it ends though payload keeps trickling in."""
LITTLE: Final = 24
"""Payload bytes that can be no more than an acknowledgement: alone it waits as long as any answer may, as
the next request costs four times as much."""
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


class DrawnBodies:
    """How large the answers to polls are, and when they go out, by a shape."""

    __slots__ = ("_down", "_first", "_growth", "_last", "_rng", "quota")

    def __init__(self, down: Down, rng: Random) -> None:
        self._down = down
        self._rng = rng
        self._growth = 1.0
        self._first = self._last = 0.0
        self.quota = down.body.draw(rng)
        """Payload bytes of the next answer at most."""

    def queued(self, before: int, now: float) -> None:
        """Payload came while ``before`` bytes waited."""
        self._last = now
        if not before:
            self._first = now

    def due(self, size: int) -> float:
        """When the ``size`` bytes that wait go out without being a full quota."""
        idle = self._down.idle
        latest = self._first + MOST_IDLE * idle
        return latest if size <= LITTLE else min(self._last + idle, latest)

    def taken(self, size: int, now: float) -> None:
        """An answer took ``size`` bytes: draw the next one's."""
        down = self._down
        full = size >= self.quota
        self._first = now
        drawn = down.body.draw(self._rng)
        self._growth = min(self._growth * down.grow, max(down.grow_to / drawn, 1.0)) if full else 1.0
        self.quota = min(int(drawn * self._growth), max(down.grow_to, drawn))


class DownloadOrder:
    """The GETs in flight and the payload that waits for them."""

    __slots__ = ("_by_number", "_drawn", "_pool", "_queue", "_queued", "_quota", "_rng", "flush", "next")

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
        self._drawn: DrawnBodies | None = None

    def follow(self, down: Down) -> None:
        """Answer polls in sizes that a shape draws, from now on."""
        self._drawn = DrawnBodies(down, self._rng)

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

    def queue(self, chunks: Iterable[Buffer], now: float) -> None:
        """Payload to be written."""
        if self._drawn is not None:
            self._drawn.queued(self._queued, now)
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
        if current.kind == STREAM:
            return UNLIMITED
        if self._drawn is None:
            return max(MAX_POLL - self._queued, 0)
        return max(min(self._drawn.quota * len(self._by_number), MOST_DRAWN) - self._queued, 0)

    def pump(self, now: float, *, closing: bool) -> bool:
        """Write the queue into the answers in order; True once CLOSE, the very last, is written."""
        while (current := self._by_number.get(self.next)) is not None:
            if self._queue and current.kind == STREAM:
                self._write(current, now)
            if self._queue:
                if self._drawn is not None and not closing and not self._is_due(self._drawn, now):
                    break
                self._finish(current, now=now)
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
        if self._drawn is not None and self._queue and self.next in self._by_number:
            due = self._drawn.due(self._queued)
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
                    self._finish(before, now=now)

    # ---- writing ---------------------------------------------------------------------------------

    def _is_due(self, drawn: DrawnBodies, now: float) -> bool:
        """Whether a poll is to be answered with what waits."""
        return self._queued >= drawn.quota or now >= drawn.due(self._queued)

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

    def _finish(self, download: Download, last: int = END, now: float = 0.0) -> None:
        end = record(last, padding(self._pool))
        if download.kind == STREAM:
            download.answer.end(end)
        else:
            parts, size = self._take_poll(MAX_POLL if self._drawn is None else self._drawn.quota)
            if self._drawn is not None and size:
                self._drawn.taken(size - RECORD_HEAD, now)
            parts.append(end)
            size += len(end)
            if size <= SMALL:
                parts = [b"".join(parts)]
            download.answer.complete(parts, size)
        self.flush.add(download.answer.link)
        del self._by_number[download.number]
        self.next = download.number + 1

    def _take_poll(self, most: int) -> tuple[list[Buffer], int]:
        """A DATA record with what of the queue fits into one poll."""
        parts: list[Buffer] = []
        size = 0
        while self._queue and size < most:
            view = memoryview(self._queue[0])
            taken = view[: most - size]
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
