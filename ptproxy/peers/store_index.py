"""Which entries a list has: number and nonce of each, 20 bytes in memory.

Made when a list is looked at for the first time, while all its entries are compared with the list's digest.
What the database returns afterwards is compared with it, row by row: a damaged or planted tree of pages can
answer one question truthfully and the next one not.

New numbers are the greatest as a rule. Others are set aside, and put in their places all together when it
matters: each by itself would move all that follow it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

from ptproxy.peers.store_rows import NONCE


class Index:
    """Numbers, rising, and their nonces."""

    __slots__ = ("_aside", "_nonces", "_numbers")

    def __init__(self) -> None:
        self._numbers = array("Q")
        self._nonces = bytearray()
        self._aside: dict[int, bytes] = {}
        """Entries below the greatest that are not among the others yet."""

    def put(self, number: int, nonce: bytes) -> None:
        """Entry ``number`` is the row with ``nonce`` from now on."""
        if number in self._aside:
            self._aside[number] = nonce
            return
        if not self._numbers or number > self._numbers[-1]:
            self._numbers.append(number)
            self._nonces += nonce
            return
        place, there = self._find(number)
        if there:
            self._nonces[place * NONCE : (place + 1) * NONCE] = nonce
        else:
            self._aside[number] = nonce

    def drop(self, number: int) -> None:
        """There is no entry ``number`` any more."""
        if self._aside.pop(number, None) is not None:
            return
        place, there = self._find(number)
        if there:
            del self._numbers[place]
            del self._nonces[place * NONCE : (place + 1) * NONCE]

    def nonce(self, number: int) -> bytes | None:
        """That of entry ``number``, None where there is no such entry."""
        if number in self._aside:
            return self._aside[number]
        place, there = self._find(number)
        return self._at(place) if there else None

    def page(self, before: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to ``limit`` numbers below ``before`` with their nonces, the greatest first."""
        self._put_in_place()
        end = bisect_left(self._numbers, before)
        places = range(end - 1, max(-1, end - 1 - limit), -1)
        return [(self._numbers[place], self._at(place)) for place in places]

    def _put_in_place(self) -> None:
        if not self._aside:
            return
        known = [(number, self._at(place)) for place, number in enumerate(self._numbers)]
        numbers, nonces = zip(*sorted([*known, *self._aside.items()]), strict=True)
        self._numbers, self._nonces = array("Q", numbers), bytearray(b"".join(nonces))
        self._aside.clear()

    def _at(self, place: int) -> bytes:
        return bytes(self._nonces[place * NONCE : (place + 1) * NONCE])

    def _find(self, number: int) -> tuple[int, bool]:
        place = bisect_left(self._numbers, number)
        return place, place < len(self._numbers) and self._numbers[place] == number

    def __len__(self) -> int:
        return len(self._numbers) + len(self._aside)
