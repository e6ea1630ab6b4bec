"""Random bytes in small helpings: one call of the generator for hundreds of masks."""

from __future__ import annotations

from random import Random

POOL = 4096
"""Bytes drawn at once: 1,024 WebSocket masks; a system call for each would cost more than the mask."""


class RandomPool:
    """Hands out bytes drawn from ``rng`` (a CSPRNG in production), each only once."""

    __slots__ = ("_at", "_pool", "_rng")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._pool = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        at = self._at
        end = at + count
        if end <= len(self._pool):
            self._at = end
            return self._pool[at:end]
        if count > POOL // 4:
            return self._rng.randbytes(count)
        self._pool = self._rng.randbytes(POOL)
        self._at = count
        return self._pool[:count]

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit`` - 1; for small limits the bias of 32 bits is nothing."""
        return int.from_bytes(self.take(4), "big") % limit
