"""The bridge's end of an http carrier: POSTs put in order, GETs answered in order.

Requests of several carriers may come mixed on a connection (a web server in
front pools them), so a carrier owns no link: it owns the answers it has under
way (:mod:`~ptproxy.codec.http_downloads`) and the uploads that arrive
(:mod:`~ptproxy.codec.http_uploads`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.http_downloads import Answer, DownloadOrder
from ptproxy.codec.http_tokens import CarrierTokens, TokenTable
from ptproxy.codec.http_uploads import Arriving, UploadOrder
from ptproxy.codec.interface import (
    CarrierEnded,
    CarrierWritable,
    Event,
    Link,
    PayloadReceived,
)
from ptproxy.codec.shape import ClassShape
from ptproxy.errors import CodecError

NO_GET: Final = 30.0
"""Seconds without any GET in flight after which the client is gone."""
CLOSE_WAIT: Final = 3.0
"""Seconds that a clean close waits for a GET in whose answer it can be said."""


class BridgeHttp:
    """One carrier."""

    __slots__ = (
        "_close_at", "_closing", "_downloads", "_ended", "_no_get_at", "_resume", "_tokens", "_untold",
        "_uploads", "now",
    )  # fmt: skip

    def __init__(self, table: TokenTable, key: bytes, opening: Answer, now: float, rng: Random) -> None:
        self.now = now
        self._uploads = UploadOrder()
        self._downloads = DownloadOrder(rng, opening, now)
        self._no_get_at = now + NO_GET
        self._resume: list[Link] = []
        self._closing = self._ended = False
        self._untold = False  # the end of our own clean close is still to be told
        self._close_at: float | None = None
        self._tokens = CarrierTokens(table, self, key)

    # ---- for the tunnel --------------------------------------------------------------------------

    def send_data(self, chunks: Sequence[Buffer], now: float) -> None:
        """Queue payload for the current GET."""
        self.now = now
        if not self._ended and not self._closing:
            self._downloads.queue(chunks, now)

    def follow(self, shape: ClassShape) -> None:
        """Answer polls as this shape has it."""
        self._downloads.follow(shape.down)

    def room(self) -> int:
        """What the current GET takes now."""
        return 0 if self._ended or self._closing else self._downloads.room()

    def links_to_flush(self) -> Collection[Link]:
        """Links with something to write or to close."""
        self.pump()
        flush, self._downloads.flush = self._downloads.flush, set()
        return flush

    def close(self, now: float) -> None:
        """Send what is queued, then CLOSE; a GET to say it in is awaited for :data:`CLOSE_WAIT`."""
        self.now = now
        if not self._closing and not self._ended:
            self._closing = True
            self._close_at = now + CLOSE_WAIT

    def deadline(self) -> float | None:
        """Pads, polls' ends, the next GET, a client that is gone."""
        if self._untold or self._resume:
            return self.now
        if self._ended:
            return None
        due = self._downloads.deadline()
        if self._close_at is not None:
            due = min(due, self._close_at)
        return due if len(self._downloads) else min(due, self._no_get_at)

    def on_deadline(self, now: float) -> list[Event]:
        """Write what is due."""
        events: list[Event] = []
        self.now = now
        resume, self._resume = self._resume, []
        for link in resume:
            events += link.receive_data(b"", now)
            self._downloads.flush.add(link)  # whatever it answered, or that it closes
        if self._untold:
            self._untold = False
            events.append(CarrierEnded(self, ""))
        elif self._ended:
            pass
        elif self._close_at is not None and now >= self._close_at:
            self._end("", events)
        elif not len(self._downloads) and now >= self._no_get_at:
            self._end("no download request for too long", events)
        else:
            self._downloads.on_deadline(now)
            self.pump()
        return events

    # ---- uploads, for the links ------------------------------------------------------------------

    def upload_begun(self, number: int, now: float) -> Arriving:
        """A POST of this carrier begins."""
        self.now = now
        return self._uploads.begin(number)

    def upload_received(
        self, upload: Arriving, parts: list[memoryview], now: float, events: list[Event], *, done: bool
    ) -> None:
        """Part of its body, perhaps the last. Raises CodecError, the carrier being ended then."""
        self.now = now
        if self._ended:
            return
        uploads = self._uploads
        out: list[Buffer] = []
        try:
            uploads.receive_data(upload, parts, out)
            if done:
                uploads.finish(upload, out)
        except CodecError as error:
            self._end(str(error), events)
            raise
        if out:
            events.append(PayloadReceived(self, out[0] if len(out) == 1 else b"".join(out)))
        if done:
            self._tokens.posts_up_to(uploads.next)
        if uploads.closed:
            self._downloads.clear_queue()
            self._downloads.pump(now, closing=True)
            self._end("", events)

    def upload_lost(self, upload: Arriving) -> None:
        """Its connection broke off; it may come again."""
        self._uploads.drop(upload)

    # ---- downloads, for the links ----------------------------------------------------------------

    def download_asked(self, answer: Answer, kind: int, number: int, now: float, events: list[Event]) -> bool:
        """A GET of this carrier; False where it cannot be answered any more."""
        self.now = now
        downloads = self._downloads
        if self._ended or number < downloads.next:
            return False
        known = downloads.find(number)
        if known is not None:
            if known.sent:
                self._end("a download asked for again", events)
                return False
            downloads.remove(known)
        downloads.add(number, kind, answer, now)
        self.pump()
        if self.room() > 0:
            events.append(CarrierWritable(self))
        return True

    def answer_lost(self, answer: Answer, now: float, events: list[Event]) -> None:
        """The connection broke off under an answer."""
        self.now = now
        if not self._ended and self._downloads.has(answer):
            self._end("download connection lost", events)

    def resume(self, link: Link) -> None:
        """A link holds a further request, to be read when its answer is through."""
        self._resume.append(link)

    def pump(self) -> None:
        """Write the queue into the answers under way, in order."""
        if self._ended:
            return
        downloads = self._downloads
        closed = downloads.pump(self.now, closing=self._closing)
        self._tokens.gets_up_to(max(downloads.next, 1))
        if closed:
            self._end("", [])
            self._untold = True
        elif len(downloads):
            self._no_get_at = self.now + NO_GET

    # ---- the end ---------------------------------------------------------------------------------

    def _end(self, reason: str, events: list[Event]) -> None:
        if not self._ended:
            self._ended = True
            self._tokens.revoke()
            self._downloads.abandon()
            events.append(CarrierEnded(self, reason))
