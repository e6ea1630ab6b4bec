"""Where nodes and records lie: numbers of 256 bits, and the distance between two of them.

The distance of two identifiers is their XOR, read as a number (Kademlia, section
2.1). Whoever shares a longer prefix is closer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

NodeId: TypeAlias = int
"""0 to 2^256 - 1: the place of a node, or the location of a record. On the wire 32 bytes, big-endian."""

Rng: TypeAlias = Callable[[int], bytes]
"""That many fresh random bytes: ``os.urandom`` in production, ``random.Random(seed).randbytes`` in tests."""

ID_BITS: Final = 256
ID_BYTES: Final = ID_BITS // 8


def shared_prefix(one: NodeId, other: NodeId) -> int:
    """How many leading bits two identifiers have in common: 256 if they are the same."""
    return ID_BITS - (one ^ other).bit_length()


def id_at_prefix(own: NodeId, shared: int, rng: Rng) -> NodeId:
    """A random identifier that has exactly ``shared`` (0 to 255) leading bits in common with ``own``."""
    below = ID_BITS - shared - 1
    tail = int.from_bytes(rng(ID_BYTES), "big") & ((1 << below) - 1)
    return ((own >> below) ^ 1) << below | tail
