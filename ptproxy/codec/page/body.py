"""Bodies of pages and style sheets as they were before Content-Encoding (RFC 9110 section 8.4), bounded.

What browsers offer is what is read: gzip and deflate (RFC 1950 to 1952), br
(RFC 7932), zstd (RFC 8878). A few bytes can stand for gigabytes in each of
them, so a body is told how much may come of it, no decoder makes more, and one
that has made so much is let go with its window.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Final

import brotli

from ptproxy.buffer import Buffer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_WINDOW_LOG: Final = 23
"""Binary logarithm of the largest window, 8 MiB: more is no web's (RFC 9659), and Chromium refuses it."""
MAX_FRAMES: Final = 64
"""zstd frames of one body; servers send one. An empty frame costs us more than the nine bytes that it has."""

Decode = Callable[[bytes, int], bytes]
"""(what has come, how much may come of it at most) -> what came of it, hardly more than that. Where that is
less, all that has come is used up. Raises one of :data:`_NONSENSE`."""

_NONSENSE = (zlib.error, brotli.error, zstd.ZstdError, ValueError, EOFError)


def _inflate(format_bits: int) -> Decode:
    """What follows the end is passed over, as browsers do (the object would collect it)."""
    inflater = zlib.decompressobj(format_bits)
    return lambda data, most: b"" if inflater.eof else inflater.decompress(data, most)


def _brotli() -> Decode:
    decompressor = brotli.Decompressor()
    return lambda data, most: bytes(decompressor.process(data, output_buffer_limit=most))


class _Zstd:
    """Frames one after another; what lies between them is theirs (skippable frames)."""

    __slots__ = ("_frame", "_frames")

    def __init__(self) -> None:
        self._frames = 0
        self._frame = self._next()

    def _next(self) -> zstd.ZstdDecompressor:
        self._frames += 1
        if self._frames > MAX_FRAMES:
            raise ValueError("a body of too many frames")
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})

    def __call__(self, data: bytes, most: int) -> bytes:
        text = b""
        while True:
            if self._frame.eof:
                if not data:
                    return text
                self._frame = self._next()
            text += self._frame.decompress(data, most - len(text))
            if not self._frame.eof or len(text) >= most:
                return text
            data = self._frame.unused_data


_DECODERS: Final[dict[str, Callable[[], Decode]]] = {
    "gzip": lambda: _inflate(31),
    "x-gzip": lambda: _inflate(31),
    "deflate": lambda: _inflate(15),
    "br": _brotli,
    "zstd": _Zstd,
}
"""By name of the encoding, how a body's decoder is made."""


class BodyText:
    """One body, decoded as it arrives."""

    __slots__ = ("_decode", "_room", "closed")

    def __init__(self, encoding: str, most: int) -> None:
        """``most``: bytes that come of it; what is beyond is not looked at."""
        encoding = encoding.strip().lower()
        self._room = most
        self._decode: Decode | None = None
        self.closed = False
        """Nothing (more) can be read of it."""
        if encoding in _DECODERS:
            self._decode = _DECODERS[encoding]()
        elif encoding not in ("", "identity"):
            self.closed = True

    def feed(self, data: Buffer) -> bytes:
        """What ``data`` adds; b"" once it is closed."""
        if self.closed:
            return b""
        try:
            text = bytes(data) if self._decode is None else self._decode(bytes(data), self._room)
        except _NONSENSE:
            return self._close()
        text = text[: self._room]
        self._room -= len(text)
        if not self._room:
            self._close()
        return text

    def _close(self) -> bytes:
        self.closed = True
        self._decode = None
        return b""
