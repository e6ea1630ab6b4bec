"""What the workers of one bridge know of one another, in memory that all of them have.

Each worker writes only its own part and reads the others'; every write is one aligned
word, so nobody needs a lock and nobody reads half of anything. What a killed worker
leaves is cleared before it is started again.
"""

from __future__ import annotations

import mmap
import zlib
from typing import Final

BUCKET: Final = 8
"""Words looked through for one token."""
TOKENS_EACH: Final = 112
"""Tokens of an ``http`` carrier that are good at one time: 96 for POSTs, 16 for GETs."""
SPARE: Final = 3
"""Words for each token that is expected at most: buckets fill unevenly."""

_WORD: Final = 8


class TokenIndex:
    """Which worker has the ``http`` carrier that a request's token names, or has given a ticket.

    A token is indexed by 48 of its bits, in one of the words of its bucket. One for which there is no
    room is not found by others: its request is nobody's, and the client tries again.
    """

    __slots__ = ("_mask", "_memory", "_words", "index", "workers")

    def __init__(self, workers: int, carriers: int) -> None:
        """For so many carriers in each of the workers; made before they are forked."""
        buckets = 1
        while buckets * BUCKET < carriers * TOKENS_EACH * SPARE:
            buckets *= 2
        self._mask = buckets - 1
        self._memory = mmap.mmap(-1, workers * buckets * BUCKET * _WORD)  # shared with who is forked
        self._words = memoryview(self._memory).cast("Q")
        self.workers = workers
        self.index = 0
        """Whose part this process writes."""

    def publish(self, token: str) -> None:
        """This worker has the carrier of this token."""
        self._change(token, 0, _word(token))

    def withdraw(self, token: str) -> None:
        """It is good no more."""
        self._change(token, _word(token), 0)

    def owner(self, token: str) -> int | None:
        """Which other worker has its carrier."""
        word = _word(token)
        for worker in range(self.workers):
            if worker != self.index:
                start = self._bucket(token, worker)
                if word in self._words[start : start + BUCKET].tolist():
                    return worker
        return None

    def clear(self, worker: int) -> None:
        """Forget what a worker that has ended had published."""
        size = (self._mask + 1) * BUCKET * _WORD
        self._memory[worker * size : (worker + 1) * size] = bytes(size)

    def _bucket(self, token: str, worker: int) -> int:
        bucket = zlib.crc32(token.encode("ascii", "replace")) & self._mask
        return (worker * (self._mask + 1) + bucket) * BUCKET

    def _change(self, token: str, before: int, after: int) -> None:
        start = self._bucket(token, self.index)
        words = self._words[start : start + BUCKET].tolist()
        if before in words:
            self._words[start + words.index(before)] = after


def _word(token: str) -> int:
    """The token's first eight characters, which are not zeros."""
    return int.from_bytes(token[:8].encode("ascii", "replace"), "big") or 1


class Crowd:
    """How many sessions and carriers each worker has."""

    __slots__ = ("_words", "index", "workers")

    def __init__(self, workers: int) -> None:
        """Made before the workers are forked."""
        self._words = memoryview(mmap.mmap(-1, max(workers * 2 * _WORD, mmap.PAGESIZE))).cast("Q")
        self.workers = workers
        self.index = 0
        """Whose part this process writes."""

    def note(self, sessions: int, carriers: int) -> None:
        """This worker has so many."""
        self._words[2 * self.index], self._words[2 * self.index + 1] = sessions, carriers

    def all(self) -> tuple[int, int]:
        """Sessions and carriers of all workers."""
        words = self._words[: 2 * self.workers].tolist()
        return sum(words[::2]), sum(words[1::2])

    def clear(self, worker: int) -> None:
        """A worker has ended."""
        self._words[2 * worker], self._words[2 * worker + 1] = 0, 0
