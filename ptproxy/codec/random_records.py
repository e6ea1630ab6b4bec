"""The records of the ``random`` codec, written and read; ``random.py`` has the format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256, shake_128
from math import exp, log
from random import Random
from struct import Struct
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.randomness import RandomPool
from ptproxy.errors import CodecError

NONCE: Final = 16
"""Bytes of the nonce."""
TAG: Final = 8
"""Bytes of the tag: a stranger passes it once in 2**64 tries."""
START: Final = NONCE + TAG
"""Bytes before the first record."""
MAX_PAYLOAD: Final = 65536
"""Payload bytes of one record; two of them carry what the tunnel draws in one go."""
END: Final = MAX_PAYLOAD + 1
"""In place of a payload length: the stream ends here."""
MAX_PADDING: Final = 32767
"""Padding bytes of one record: what 15 bits hold."""
REACH: Final = (64, 1024)
"""Longest padding of a small record, in bytes: the range a carrier draws from."""
BEND: Final = (1.0, 2.0)
"""Exponent of the padding's distribution: 1 is uniform, 2 favours short ones (at most 1 in 8 is none)."""
SMALL: Final = 4096
"""Payload bytes up to which padding is not limited by the payload's length."""
BULK_SHIFT: Final = 6
"""Larger records take at most payload >> 6 bytes of padding: 1.6 %."""
JOIN: Final = 4096
"""Payload bytes up to which a record is joined into one buffer: one write is cheaper than one copy."""
_HEADER: Final = Struct(">I")
_BLOCK: Final = Struct(">1024I")


def keystream(direction: bytes, path: str, nonce: bytes) -> tuple[bytes, Iterator[int]]:
    """The tag, and the words that mask the headers."""
    seed = sha256(b"ptproxy random 1 " + direction + sha256(path.encode()).digest() + nonce).digest()

    def words(block: bytes) -> Iterator[int]:
        yield from _BLOCK.unpack(block)[TAG // 4 :]
        number = 1
        while True:
            yield from _BLOCK.unpack(shake_128(seed + number.to_bytes(8, "big")).digest(_BLOCK.size))
            number += 1

    first = shake_128(seed + bytes(8)).digest(_BLOCK.size)
    return first[:TAG], words(first)


def looks_like_method(start: Buffer) -> bool:
    """Whether bytes begin as an HTTP request does: with three capital letters."""
    return len(start) >= 3 and all(0x41 <= byte <= 0x5A for byte in start[:3])


class RecordWriter:
    """Makes one direction's bytes."""

    __slots__ = ("_lengths", "_pool", "_start", "_words")

    def __init__(self, direction: bytes, path: str, rng: Random) -> None:
        nonce = rng.randbytes(NONCE)
        while looks_like_method(nonce):
            nonce = rng.randbytes(NONCE)
        tag, self._words = keystream(direction, path, nonce)
        self._start = nonce + tag
        self._pool = RandomPool(rng)
        reach = exp(rng.uniform(log(REACH[0]), log(REACH[1])))
        bend = rng.uniform(*BEND)
        self._lengths = [int(reach * rng.random() ** bend) for _ in range(256)]

    def start(self, length: int) -> bytes:
        """What precedes ``length`` bytes of payload (or :data:`END`): on the first call nonce and tag too."""
        pool = self._pool
        padding = self._lengths[pool.take(1)[0]]
        if SMALL < length <= MAX_PAYLOAD:
            padding = min(padding, length >> BULK_SHIFT)
        start, self._start = self._start, b""
        return start + _HEADER.pack((length << 15 | padding) ^ next(self._words)) + pool.take(padding)

    def write(self, chunks: Sequence[Buffer], out: list[Buffer]) -> None:
        """Append the records for a payload."""
        length = sum(map(len, chunks))
        if length <= JOIN:
            if length:
                out.append(b"".join((self.start(length), *chunks)))
            return
        room = 0
        for chunk in chunks:
            size, at = len(chunk), 0
            while at < size:
                if not room:
                    room = min(length, MAX_PAYLOAD)
                    length -= room
                    out.append(self.start(room))
                take = min(room, size - at)
                out.append(chunk if take == size else memoryview(chunk)[at : at + take])
                at += take
                room -= take


class RecordReader:
    """Reads one direction's bytes after nonce and tag."""

    __slots__ = ("_partial", "_payload", "_skip", "_words", "ended")

    def __init__(self, words: Iterator[int]) -> None:
        self._words = words
        self._partial = b""  # the beginning of a header
        self._skip = 0  # padding still to come
        self._payload = 0  # payload still to come after it, or END
        self.ended = False

    @property
    def mid_header(self) -> bool:
        """Whether a header has begun and is not complete."""
        return bool(self._partial)

    @property
    def lengths(self) -> tuple[int, int]:
        """Padding and payload bytes of the current record that have not come."""
        return self._skip, self._payload

    def receive_data(self, data: Buffer) -> list[Buffer]:
        """Pieces of payload, views of ``data``; raises :class:`CodecError`."""
        out: list[Buffer] = []
        view = memoryview(data)
        at, size = 0, len(view)
        while at < size and not self.ended:
            if self._skip:
                take = min(self._skip, size - at)
                self._skip -= take
                at += take
            elif self._payload:
                end = min(at + self._payload, size)
                self._payload -= end - at
                out.append(view[at:end])
                at = end
            else:
                at = self.read_header(view, at, size)
                continue
            if self._payload == END and not self._skip:
                self.ended = True
        return out

    def read_header(self, view: memoryview, at: int, size: int) -> int:
        """Take what is there of a header; where it ends."""
        partial = self._partial
        if partial or size - at < 4:
            end = min(at + 4 - len(partial), size)
            self._partial = partial = partial + bytes(view[at:end])
            if len(partial) < 4:
                return end
            (word,) = _HEADER.unpack(partial)
            self._partial = b""
        else:
            end = at + 4
            (word,) = _HEADER.unpack_from(view, at)
        word ^= next(self._words)
        length = word >> 15
        if length > END:
            raise CodecError("a record header that makes no sense")
        self._skip = word & MAX_PADDING
        self._payload = length
        if length == END and not self._skip:
            self.ended = True
        return end
