"""A client's uploads: the payload that waits, the POSTs it is cut into, those unanswered."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.http_exchange import Upload
from ptproxy.codec.http_records import FIN, SMALL, UPLOAD_HEAD
from ptproxy.codec.randomness import RandomPool
from ptproxy.codec.shape import Up

MAX_UPLOADS: Final = 4
"""POSTs unanswered at once: with two GETs they fill a browser's six connections."""
MAX_UPLOAD: Final = 960 * 1024
"""Payload bytes of one POST: nginx refuses bodies above 1 MiB by default."""
UPLOAD_SPAN: Final = 32
"""How far the newest POST may be ahead of the oldest unanswered: the bridge knows 32 back and 64 ahead."""
GATHERED: Final = 16 * 1024
"""Payload bytes that wait for no more: a whole record's worth."""
LITTLE: Final = 48
"""Payload bytes that are hardly more than an acknowledgement and an end: a request costs four times as much,
and more of the kind often follows within some milliseconds ..."""
LITTLE_WAITS: Final = 4
""" ... so they wait this many times as long for it."""
MIN_BODY: Final = 200
"""Body bytes of the smallest POST."""
BODY_SIZES: Final = (320, 480, 700, 1000, 1400, 2200)
"""Body bytes up to which small POSTs are padded: web applications' sizes. Larger ones go as they are."""


class UploadQueue:
    """Payload waiting for its POST, and POSTs waiting for their answer."""

    __slots__ = ("_chunks", "_gather", "_most", "_next", "_since", "_unanswered", "closed", "closing", "size")

    def __init__(self, up: Up | None = None) -> None:
        """As many at once and as late as ``up`` says; without one, :data:`MAX_UPLOADS` and at once."""
        self.size = 0
        """Payload bytes that wait."""
        self.closing = False
        """After what waits comes the last POST."""
        self.closed = False
        """It has been made."""
        self._chunks: list[Buffer] = []
        self._most = MAX_UPLOADS if up is None else up.in_flight
        self._gather = 0.0 if up is None else up.gather
        self._since = 0.0
        self._next = 0
        self._unanswered: dict[int, Upload] = {}

    def __len__(self) -> int:
        return len(self._unanswered)

    def add(self, chunks: Iterable[Buffer], now: float) -> None:
        """Payload to be sent."""
        if not self._chunks:
            self._since = now
        for chunk in chunks:
            if len(chunk):
                self._chunks.append(chunk)
                self.size += len(chunk)

    def slot(self) -> bool:
        """Whether one more POST may be made now."""
        unanswered = self._unanswered
        if not unanswered:
            return True
        return len(unanswered) < self._most and self._next - next(iter(unanswered)) < UPLOAD_SPAN

    def ready(self, now: float) -> bool:
        """Whether one is to be made."""
        if self.closing:
            return not self.closed and self.slot()
        waited = now >= self._since + self._patience() or self.size >= GATHERED
        return bool(self._chunks) and waited and self.slot()

    def due(self, now: float) -> float | None:
        """When :meth:`ready` is to be asked again because payload will have waited for more."""
        due = self._since + self._patience()
        return due if self._chunks and due > now and self.size < GATHERED else None

    def _patience(self) -> float:
        return self._gather if self.size > LITTLE else self._gather * LITTLE_WAITS

    def take(self) -> Upload:
        """The next POST, of all that waits if it fits."""
        chunks, size = self._chunks, self.size
        if size <= MAX_UPLOAD:
            self._chunks, self.size = [], 0
        else:
            chunks, size = self._split()
        upload = Upload(self._next, 0, chunks, size)
        if self.closing and not self._chunks:
            upload.flags, self.closed = FIN, True
        self._next += 1
        self._unanswered[upload.number] = upload
        return upload

    def answered(self, upload: Upload) -> None:
        """The bridge has it."""
        self._unanswered.pop(upload.number, None)

    def clear(self) -> None:
        """Nothing waits any more."""
        self._chunks, self.size = [], 0
        self._unanswered.clear()

    def _split(self) -> tuple[list[Buffer], int]:
        taken: list[Buffer] = []
        left = MAX_UPLOAD
        count = 0
        for count, chunk in enumerate(self._chunks):
            if len(chunk) > left:
                view = memoryview(chunk)
                taken.append(view[:left])
                self._chunks[count] = view[left:]
                break
            taken.append(chunk)
            left -= len(chunk)
        del self._chunks[:count]
        self.size -= MAX_UPLOAD
        return taken, MAX_UPLOAD


def body_length(size: int, pool: RandomPool) -> int:
    """Bytes of the body for a payload of ``size``: small ones are padded to a size drawn near a next step."""
    needed = size + UPLOAD_HEAD
    if needed > BODY_SIZES[-1]:
        return needed
    step = min(bisect_left(BODY_SIZES, needed) + pool.below(2), len(BODY_SIZES) - 1)
    least = BODY_SIZES[step - 1] if step else MIN_BODY
    least = max(needed, least)
    return least + pool.below(BODY_SIZES[step] - least + 1)


def request_with_body(head: bytes, upload: Upload, length: int, pool: RandomPool) -> list[Buffer]:
    """Head and body as they are sent: flags and length, payload, padding up to ``length``."""
    head += (upload.flags << 24 | upload.size).to_bytes(UPLOAD_HEAD, "big")
    padding = pool.take(length - upload.size - UPLOAD_HEAD)
    if upload.size <= SMALL:
        return [b"".join((head, *upload.chunks, padding))]
    return [head, *upload.chunks, padding] if padding else [head, *upload.chunks]
