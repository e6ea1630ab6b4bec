"""Bodies of pages and style sheets as they were before Content-Encoding (RFC 9110 section 8.4), bounded.

gzip and deflate come with Python. For the other encodings that browsers accept
(br, zstd) the caller may name decoders; without one a body stays closed and
what it names is not loaded, so a bridge's site had better answer in gzip.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Final

from ptproxy.buffer import Buffer

MAX_DECODED: Final = 2 << 20
"""Bytes that come of one body; what is beyond is not looked at."""

Decode = Callable[[bytes, int], bytes]
"""(what has come, how much may come of it at most) -> what came of it; may raise ValueError."""
Decoders = Mapping[str, Callable[[], Decode]]
"""By name of the encoding, how a body's decoder is made."""


class BodyText:
    """One body, decoded as it arrives."""

    __slots__ = ("_decode", "_room", "closed")

    def __init__(self, encoding: str, decoders: Decoders) -> None:
        encoding = encoding.strip().lower()
        self._room = MAX_DECODED
        self._decode: Decode | None = None
        self.closed = False
        """Nothing (more) can be read of it."""
        if encoding in decoders:
            self._decode = decoders[encoding]()
        elif encoding in ("gzip", "x-gzip", "deflate"):
            inflate = zlib.decompressobj(47 if encoding != "deflate" else 15)
            self._decode = inflate.decompress
        elif encoding not in ("", "identity"):
            self.closed = True

    def feed(self, data: Buffer) -> bytes:
        """What ``data`` adds; b"" once it is closed."""
        if self.closed:
            return b""
        try:
            text = bytes(data) if self._decode is None else self._decode(bytes(data), self._room)
        except (zlib.error, ValueError):
            self.closed = True
            return b""
        text = text[: self._room]
        self._room -= len(text)
        self.closed = not self._room
        return text
