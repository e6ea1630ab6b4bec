"""The bridge's end of an http carrier: POSTs put in order, GETs answered in order.

Requests of several carriers may come mixed on a connection (a web server in
front pools them), so a carrier owns no link: it owns the answers it has under
way. :class:`TokenTable` says which carrier a request belongs to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from ptproxy.codec.http_records import (
    CLOSE,
    DATA,
    END,
    HELLO,
    MAX_RECORD,
    NEXT,
    PAD,
    POLL,
    POST,
    RECORD_HEAD,
    STREAM,
    padding,
    record,
    record_head,
    token_text,
)
from ptproxy.codec.http_uploads import Arriving, UploadOrder
from ptproxy.codec.interface import (
    Buffer,
    CarrierEnded,
    CarrierWritable,
    Event,
    Link,
    PayloadReceived,
)
from ptproxy.errors import CodecError

POST_WINDOW: Final = 64
"""POST numbers from the next one on that are accepted (HTTP/2 puts many small ones in flight)."""
POST_PAST: Final = 32
"""POST numbers before it that are still known: a lost answer is asked for again."""
GET_WINDOW: Final = 8
"""GET numbers from the current one on that are accepted: two streamed or four polls, and a change between."""
MAX_POLL: Final = 1 << 20
"""Payload bytes of one answered poll: four in flight fill 100 MiB/s at 40 ms."""
FIRST_QUOTA: Final = 1 << 20
"""Payload bytes of a carrier's first streamed GET ..."""
LAST_QUOTA: Final = 64 << 20
""" ... doubled with each full one up to this."""
STREAM_AGE: Final = (15.0, 25.0)
"""Seconds after which a streamed GET is to be followed by the next: below the 30 s that some CDNs allow a request."""
QUIET: Final = (5.0, 8.0)
"""Seconds of silence on a streamed GET before a PAD record: below a CDN's 10 s for an idle connection."""
POLL_AGE: Final = (6.0, 8.0)
"""Seconds after which a poll is answered without data."""
NO_GET: Final = 30.0
"""Seconds without any GET in flight after which the client is gone."""
CLOSE_WAIT: Final = 3.0
"""Seconds that a clean close waits for a GET in whose answer it can be said."""
MAX_PADDING: Final = 255
"""Bytes of padding in HELLO, PAD, NEXT, END, CLOSE."""
SMALL: Final = 4096
"""Payload bytes up to which a record is written as one buffer."""
UNLIMITED: Final = 1 << 30
"""What :meth:`BridgeHttp.room` says while a streamed GET is open."""


class Answer(Protocol):
    """One response under way on some link."""

    link: Link

    def begin(self, first: bytes) -> None:
        """Start a body of unknown length with ``first``."""

    def write(self, parts: list[Buffer], size: int) -> None:
        """More of it: ``size`` bytes."""

    def end(self, last: bytes) -> None:
        """The last of it."""

    def complete(self, parts: list[Buffer], size: int) -> None:
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
    """When the next GET is due."""
    sent: int = 0
    written_at: float = 0.0
    next_said: bool = False


class TokenTable:
    """Which carrier, kind and number a token stands for: all carriers of one bridge."""

    __slots__ = ("_known", "rng")

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self._known: dict[str, tuple[BridgeHttp, int, int]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, text: str) -> tuple[BridgeHttp, int, int] | None:
        """The carrier, kind and number that a token names; looked up by its HMAC, never compared."""
        return self._known.get(text)

    def grant(self, carrier: BridgeHttp, key: bytes, kind: int, number: int) -> str:
        """Accept one more request of a carrier; returns its token."""
        text = token_text(key, kind, number).decode()
        self._known[text] = (carrier, kind, number)
        return text

    def revoke(self, text: str) -> None:
        """Accept it no more."""
        self._known.pop(text, None)


class BridgeHttp:
    """One carrier."""

    __slots__ = (
        "_close_at", "_closing", "_downloads", "_ended", "_ended_untold", "_flush", "_get_tokens", "_key", "_next_down",
        "_no_get_at", "_post_tokens", "_queue", "_queued", "_quota", "_resume", "_rng", "_table", "_uploads", "now",
    )  # fmt: skip

    def __init__(self, table: TokenTable, key: bytes, opening: Answer, now: float) -> None:
        self._table = table
        self._rng = table.rng
        self._key = key
        self.now = now
        self._queue: list[Buffer] = []
        self._queued = 0
        self._uploads = UploadOrder()
        self._downloads: dict[int, Download] = {}
        self._next_down = 0
        self._quota = FIRST_QUOTA
        self._no_get_at = now + NO_GET
        self._flush: set[Link] = set()
        self._resume: list[Link] = []
        self._closing = self._ended = self._ended_untold = False
        self._close_at: float | None = None
        self._downloads[0] = Download(0, POLL, opening, now + NO_GET, now + NO_GET)
        self._post_tokens = deque(table.grant(self, key, POST, n) for n in range(POST_WINDOW))
        self._get_tokens = deque(
            table.grant(self, key, kind, n) for n in range(1, 1 + GET_WINDOW) for kind in (STREAM, POLL)
        )

    # ---- for the tunnel --------------------------------------------------------------------------

    def send_data(self, chunks: Sequence[Buffer], now: float) -> None:
        """Queue payload for the current GET."""
        self.now = now
        if self._ended or self._closing:
            return
        for chunk in chunks:
            if len(chunk):
                self._queue.append(chunk)
                self._queued += len(chunk)

    def room(self) -> int:
        """What the current GET takes now."""
        if self._ended or self._closing:
            return 0
        current = self._downloads.get(self._next_down)
        if current is None:
            return 0
        return UNLIMITED if current.kind == STREAM else max(MAX_POLL - self._queued, 0)

    def links_to_flush(self) -> Collection[Link]:
        """Links with something to write or to close."""
        self.pump()
        flush, self._flush = self._flush, set()
        return flush

    def close(self, now: float) -> None:
        """Send what is queued, then CLOSE; call on until :class:`CarrierEnded` or :data:`CLOSE_WAIT` is over."""
        self.now = now
        if not self._closing and not self._ended:
            self._closing = True
            self._close_at = now + CLOSE_WAIT
            if not self._downloads and not self._queue:
                self._end([])

    def deadline(self) -> float | None:
        """Pads, polls' ends, the next GET, a client that is gone."""
        if self._ended_untold or self._resume:
            return self.now
        if self._ended:
            return None
        due = self._no_get_at if not self._downloads else self.now + NO_GET
        if self._close_at is not None and self._close_at < due:
            due = self._close_at
        for download in self._downloads.values():
            due = min(due, download.quiet_at)
        current = self._downloads.get(self._next_down)
        if current is not None and current.kind == STREAM and not current.next_said:
            due = min(due, current.age_at)
        return due

    def on_deadline(self, now: float) -> list[Event]:
        """Write what is due."""
        events: list[Event] = []
        self.now = now
        resume, self._resume = self._resume, []
        for link in resume:
            events += link.receive_data(b"", now)
        if self._ended_untold:
            self._ended_untold = False
            events.append(CarrierEnded(self, ""))
        if self._ended:
            return events
        if self._close_at is not None and now >= self._close_at:
            self._end(events)
        elif not self._downloads and now >= self._no_get_at:
            self._end(events, "no download request for too long")
        else:
            for download in list(self._downloads.values()):
                if download.number >= self._next_down:
                    self._download_due(download, now)
            self.pump()
        return events

    # ---- uploads, for the links ------------------------------------------------------------------

    def upload_begun(self, number: int, now: float) -> Arriving:
        """A POST of this carrier begins."""
        self.now = now
        return self._uploads.begin(number)

    def upload_received(
        self, upload: Arriving, parts: list[memoryview], done: bool, events: list[Event]
    ) -> None:
        """Part of its body, perhaps the last. Raises CodecError, the carrier being ended then."""
        if self._ended:
            return
        uploads = self._uploads
        before = uploads.next
        out: list[Buffer] = []
        try:
            uploads.receive_data(upload, parts, out)
            if done:
                uploads.finish(upload, out)
        except CodecError as error:
            self._end(events, str(error))
            raise
        if out:
            events.append(PayloadReceived(self, out[0] if len(out) == 1 else b"".join(out)))
        for number in range(before, uploads.next):
            self._post_tokens.append(self._table.grant(self, self._key, POST, number + POST_WINDOW))
            if len(self._post_tokens) > POST_WINDOW + POST_PAST:
                self._table.revoke(self._post_tokens.popleft())
        if uploads.closed:
            self._closed_by_client(events)

    def _closed_by_client(self, events: list[Event]) -> None:
        self._queue, self._queued = [], 0
        self._closing = True
        self.pump()
        self._end([])
        self._ended_untold = False
        events.append(CarrierEnded(self, ""))

    def upload_lost(self, upload: Arriving) -> None:
        """Its connection broke off; it may come again."""
        self._uploads.drop(upload)

    # ---- downloads, for the links ----------------------------------------------------------------

    def download_asked(
        self, answer: Answer, kind: int, number: int, now: float, events: list[Event]
    ) -> bool:
        """A GET of this carrier; False where it cannot be answered any more."""
        self.now = now
        known = self._downloads.get(number)
        if self._ended or number < self._next_down:
            return False
        if known is not None:
            if known.sent:
                self._end(events, "a download asked for again")
                return False
            known.answer.abandon()
            self._flush.add(known.answer.link)
        rng = self._rng
        if kind == STREAM:
            download = Download(number, kind, answer, now + rng.uniform(*QUIET), now + rng.uniform(*STREAM_AGE))
            answer.begin(record(HELLO, padding(rng, MAX_PADDING)))
        else:
            download = Download(number, kind, answer, now + rng.uniform(*POLL_AGE), now + 2 * NO_GET)
        download.written_at = now
        self._downloads[number] = download
        if kind == POLL:
            while (
                self._next_down < number
                and (open_one := self._downloads.get(self._next_down)) is not None
                and open_one.kind == STREAM
            ):
                self._finish(open_one)  # the front buffers: what it holds is let out by the body's end
        self.pump()
        if self.room() > 0:
            events.append(CarrierWritable(self))
        return True

    def answer_lost(self, answer: Answer, events: list[Event]) -> None:
        """The connection broke off under an answer."""
        for download in self._downloads.values():
            if download.answer is answer:
                self._end(events, "download connection lost")
                return

    def resume(self, link: Link) -> None:
        """A link holds a further request, to be read when its answer is through."""
        self._resume.append(link)

    def pump(self) -> None:
        """Write the queue into the answers under way, in order."""
        while not self._ended:
            current = self._downloads.get(self._next_down)
            if current is None:
                return
            if self._queue:
                if current.kind == STREAM:
                    self._write(current)
                else:
                    self._complete_poll(current)
                    continue
            if self._closing:
                self._finish(current, CLOSE)
                self._end([])
                self._ended_untold = True
                return
            if not current.next_said or current.number + 1 not in self._downloads:
                return
            if current.sent < self._quota and self.now < current.age_at:
                return
            if current.sent >= self._quota:
                self._quota = min(2 * self._quota, LAST_QUOTA)
            self._finish(current)

    # ---- writing ---------------------------------------------------------------------------------

    def _write(self, download: Download) -> None:
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
        download.written_at = self.now
        if not download.next_said and 2 * download.sent >= self._quota:
            self._say_next(download)
        self._flush.add(answer.link)

    def _say_next(self, download: Download) -> None:
        said = record(NEXT, padding(self._rng, MAX_PADDING))
        download.answer.write([said], len(said))
        download.next_said = True
        download.written_at = self.now
        self._flush.add(download.answer.link)

    def _complete_poll(self, download: Download, last: int = END) -> None:
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
        if self._closing and not self._queue:
            last = CLOSE
        if size:
            parts.insert(0, record_head(DATA, size))
            size += RECORD_HEAD
        end = record(last, padding(self._rng, MAX_PADDING))
        parts.append(end)
        size += len(end)
        if size <= SMALL:
            parts = [b"".join(parts)]
        download.answer.complete(parts, size)
        self._done(download)
        if last == CLOSE:
            self._end([])
            self._ended_untold = True

    def _finish(self, download: Download, last: int = END) -> None:
        if download.kind == POLL:
            self._complete_poll(download, last)
            return
        download.answer.end(record(last, padding(self._rng, MAX_PADDING)))
        self._done(download)

    def _done(self, download: Download) -> None:
        self._flush.add(download.answer.link)
        del self._downloads[download.number]
        self._next_down = download.number + 1
        if download.number:
            for kind in (STREAM, POLL):
                self._table.revoke(self._get_tokens.popleft())
                self._get_tokens.append(
                    self._table.grant(self, self._key, kind, download.number + GET_WINDOW)
                )
        if not self._downloads:
            self._no_get_at = self.now + NO_GET

    def _download_due(self, download: Download, now: float) -> None:
        ripe = download.kind == STREAM and now >= download.age_at and not download.next_said
        if ripe and download.number == self._next_down:
            self._say_next(download)
        if now < download.quiet_at:
            return
        if download.kind == POLL:
            while self._next_down <= download.number and self._next_down in self._downloads and not self._ended:
                self._finish(self._downloads[self._next_down])
            return
        if download.written_at + QUIET[0] <= now:
            pad = record(PAD, self._rng.randbytes(self._rng.randrange(MAX_PADDING + 1)))
            download.answer.write([pad], len(pad))
            download.written_at = now
            self._flush.add(download.answer.link)
        download.quiet_at = download.written_at + self._rng.uniform(*QUIET)

    # ---- the end ---------------------------------------------------------------------------------

    def _end(self, events: list[Event], reason: str = "") -> None:
        if self._ended:
            return
        self._ended = True
        for text in (*self._post_tokens, *self._get_tokens):
            self._table.revoke(text)
        self._post_tokens.clear()
        self._get_tokens.clear()
        for download in self._downloads.values():
            download.answer.abandon()
            self._flush.add(download.answer.link)
        self._downloads.clear()
        self._queue, self._queued = [], 0
        events.append(CarrierEnded(self, reason))
