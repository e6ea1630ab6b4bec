"""One HTTP/1.1 request of a browser: its head, judged before a byte of its body is kept; without I/O.

Heads are read by :mod:`ptproxy.front.http_head`. A body has a Content-Length; whoever judges the head says
how long it may be. There is one request a connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import FrontError, RemoteProtocolError
from ptproxy.front.http_head import RequestHead, head_end

MAX_HEAD: Final = 16 << 10
"""Bytes of a head: browsers send some 700, and a person's other cookies for 127.0.0.1."""


class Refused(RemoteProtocolError):  # noqa: N818  (what happens to a request)
    """A request that is not answered with what it asks for."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        """Of HTTP."""


@dataclass(slots=True)
class Request:
    """All of it."""

    head: RequestHead
    body: bytes


class RequestReader:
    """Reads the request of one connection."""

    __slots__ = ("_buffer", "_is_judged", "_judge", "_length", "_searched", "head")

    def __init__(self, judge: Callable[[RequestHead], int]) -> None:
        """``judge`` returns the bytes that a body may have, or raises :class:`Refused`."""
        self._judge = judge
        self._buffer = bytearray()
        self._searched = 0
        self.head: RequestHead | None = None
        """Once it has come, good or not."""
        self._is_judged = False
        self._length = 0

    @property
    def is_judged(self) -> bool:
        """Whether its head has come and was found good."""
        return self._is_judged

    def receive_data(self, data: Buffer) -> Request | None:
        """Bytes arrived: the request once all of it is there; raises :class:`Refused`."""
        self._buffer += data
        if self.head is None:
            end = head_end(self._buffer, self._searched)
            if end < 0 or end > MAX_HEAD or (not end and len(self._buffer) > MAX_HEAD):
                raise Refused(431, "the head is too long")
            if not end:
                self._searched = len(self._buffer)
                return None
            self._begin(bytes(self._buffer[:end]))
            del self._buffer[:end]
        if len(self._buffer) < self._length:
            return None
        assert self.head is not None
        return Request(self.head, bytes(self._buffer[: self._length]))

    def _begin(self, text: bytes) -> None:
        try:
            head = RequestHead.parse(text)
            length = head.fields.content_length() or 0
        except FrontError as error:
            raise Refused(400, str(error)) from None
        if head.fields.values_of(b"transfer-encoding"):
            raise Refused(411, "a body says how long it is")
        self.head = head
        most = self._judge(head)
        if length > most:
            raise Refused(413, "the body is too long")
        self._is_judged, self._length = True, length
