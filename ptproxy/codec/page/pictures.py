"""What a browser finds out about pictures once they come: which are in sight, and which are none.

A picture without a declared height has none before it is there: all of those
lie at one place, in sight or not together (recordings of Chromium 156, 2026-11:
of 2 to 14 pictures without sizes all became urgent at layout). A body that
begins like no picture ends in a decoding error at once, and Blink then gives
the request up, if the rest of it has not come meanwhile
(``ImageResource::DecodeError``; recorded: 6 to 9 of 14).
"""

from __future__ import annotations

from typing import Final

from ptproxy.buffer import Buffer

VIEWPORT_HEIGHT: Final = 720
"""CSS pixels of a page that are in sight."""
HEAD: Final = 12
"""Bytes by which every kind of picture shows itself."""

_BEGINNINGS: Final = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"\x00\x00\x01\x00",
    b"\x00\x00\x02\x00",
    b"\xff\x0a",
    b"\x00\x00\x00\x0cJXL ",
)


class PictureHead:
    """The first bytes of one answer that should be a picture."""

    __slots__ = ("_head", "broken")

    def __init__(self, content_type: str) -> None:
        """SVG is a document: any beginning will do."""
        self._head: bytearray | None = None if content_type.startswith("image/svg") else bytearray()
        self.broken = False
        """It is no picture."""

    def feed(self, data: Buffer) -> None:
        """More of it."""
        head = self._head
        if head is None:
            return
        head += data[: HEAD - len(head)]
        if len(head) == HEAD:
            self.broken = not is_picture(bytes(head))
            self._head = None


def is_picture(head: bytes) -> bool:
    """Whether a body whose first :data:`HEAD` bytes these are is one that Blink decodes."""
    if head.startswith(_BEGINNINGS):
        return True
    return (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[4:8] == b"ftyp"
