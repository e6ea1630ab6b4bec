"""A bridge's view of one carrier's POSTs: bodies in, payload out in order, each byte once.

The body of the POST whose turn it is passes through as it arrives; later ones
are held. A POST that breaks off may come again under its number: what was
passed on before is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.http_records import FIN, UPLOAD_HEAD
from ptproxy.errors import CodecError

MAX_EARLY: Final = 8
"""POSTs held because an earlier one is missing ..."""
MAX_EARLY_BYTES: Final = 1 << 20
""" ... or payload bytes of them: a carrier that is above both is broken."""

MAX_PAYLOAD: Final = 1 << 20
"""Payload bytes of one POST: nginx lets no more pass by default."""


@dataclass(slots=True, eq=False)
class Arriving:
    """One POST's body on its way in."""

    number: int
    head: bytes = b""
    flags: int = 0
    left: int = 0
    """Payload bytes still to come."""
    position: int = 0
    """Payload bytes that have come."""
    held: list[bytes] = field(default_factory=list)


class UploadOrder:
    """Puts bodies in order."""

    __slots__ = ("_arriving", "_complete", "_delivered", "_held", "closed", "next")

    def __init__(self) -> None:
        self.next = 0
        """The number whose payload passes through now."""
        self.closed = False
        """The carrier's last POST has passed."""
        self._delivered = 0  # payload bytes of that number passed on
        self._arriving: list[Arriving] = []
        self._complete: dict[int, Arriving] = {}
        self._held = 0

    def begin(self, number: int) -> Arriving:
        """A POST with this number begins."""
        upload = Arriving(number)
        self._arriving.append(upload)
        return upload

    def receive_data(self, upload: Arriving, parts: list[memoryview], out: list[Buffer]) -> None:
        """Part of its body; payload whose turn it is goes to ``out``. May raise CodecError."""
        for given in parts:
            part = given
            if len(upload.head) < UPLOAD_HEAD:
                part = self._receive_head(upload, part)
            if upload.left and len(part):
                payload = part[: upload.left]
                upload.left -= len(payload)
                start = upload.position
                upload.position += len(payload)
                if upload.number == self.next:
                    self._deliver(payload, start, out)
                elif upload.number > self.next and upload.number not in self._complete:
                    upload.held.append(bytes(payload))
                    self._held += len(payload)
                    self._check_held()

    def finish(self, upload: Arriving, out: list[Buffer]) -> None:
        """Its body is complete. May raise CodecError."""
        if len(upload.head) < UPLOAD_HEAD or upload.left:
            raise CodecError("an upload's body is shorter than its payload")
        self._arriving.remove(upload)
        if upload.number < self.next or upload.number in self._complete:
            self._release(upload)
            return
        self._complete[upload.number] = upload
        self._check_held()
        while not self.closed and (done := self._complete.pop(self.next, None)) is not None:
            self._flush(done, out)
            self.closed = bool(done.flags & FIN)
            self.next += 1
            self._delivered = 0
            for waiting in self._arriving:
                if waiting.number == self.next:
                    self._flush(waiting, out)

    def drop(self, upload: Arriving) -> None:
        """Its connection broke off."""
        if upload in self._arriving:
            self._arriving.remove(upload)
            self._release(upload)

    def _receive_head(self, upload: Arriving, part: memoryview) -> memoryview:
        taken = part[: UPLOAD_HEAD - len(upload.head)]
        upload.head += bytes(taken)
        if len(upload.head) == UPLOAD_HEAD:
            upload.flags = upload.head[0]
            upload.left = int.from_bytes(upload.head[1:], "big")
            if upload.flags & ~FIN or upload.left > MAX_PAYLOAD:
                raise CodecError("an upload that no client of ours makes")
        return part[len(taken) :]

    def _deliver(self, payload: Buffer, start: int, out: list[Buffer]) -> None:
        new = start + len(payload) - self._delivered
        if new > 0:
            out.append(memoryview(payload)[-new:])
            self._delivered += new

    def _flush(self, upload: Arriving, out: list[Buffer]) -> None:
        start = 0
        for payload in upload.held:
            self._deliver(payload, start, out)
            start += len(payload)
        self._release(upload)

    def _release(self, upload: Arriving) -> None:
        self._held -= sum(map(len, upload.held))
        upload.held = []

    def _check_held(self) -> None:
        if self._held > MAX_EARLY_BYTES:
            early = [known for known in self._arriving if known.held]
            if len(self._complete) + len(early) > MAX_EARLY:
                raise CodecError("too many uploads ahead of a missing one")
