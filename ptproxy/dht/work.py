"""Work that shows it was done: Argon2id (RFC 9106), once over a little memory, until zeros lead.

::

    w = Argon2id(password = subject │ nonce 16, salt = label, one pass, one lane, m KiB), 32 bytes
    w is enough for b bits if its first b bits are zero

Checking costs one Argon2id, finding 2^b on average. Memory is as much as a checker
can afford (512 KiB: 0.4 ms), since memory is what a GPU cannot have a thousandfold. A label of
16 bytes keeps work for one purpose from serving another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from ptproxy.errors import LocalProtocolError

MEMORY: Final = 512
"""KiB of one computation: a check takes 0.25 to 0.4 ms (1 MiB: 0.5 to 0.7; 19 MiB: 17.5)."""
NONCE: Final = 16
"""Bytes that a searcher varies."""
WORK: Final = 32
"""Bytes of w."""

_LABEL: Final = 16
_MOST_BITS: Final = 40
_LEAST_MEMORY: Final = 8


@dataclass(frozen=True, slots=True)
class WorkTarget:
    """How much work one network asks for; test networks ask for less."""

    bits: int
    """Leading zero bits, 0 to 40: the mean search takes 2^bits computations."""
    memory: int = MEMORY
    """KiB, 8 at least (RFC 9106 section 3.1)."""

    def __post_init__(self) -> None:
        if not 0 <= self.bits <= _MOST_BITS or self.memory < _LEAST_MEMORY:
            raise LocalProtocolError(f"a work target has 0 to {_MOST_BITS} bits and 8 KiB or more")

    def reached_by(self, work: bytes) -> bool:
        """Whether ``work``, 32 bytes, begins with enough zeros."""
        return int.from_bytes(work, "big") >> (8 * WORK - self.bits) == 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came back with."""

    nonce: bytes
    """16 bytes."""
    work: bytes
    """w, 32 bytes."""


def compute(label: bytes, subject: bytes, nonce: bytes, memory: int) -> bytes:
    """w, 32 bytes: one Argon2id over ``memory`` KiB."""
    if len(label) != _LABEL or len(nonce) != NONCE:
        raise LocalProtocolError(f"a label of work has {_LABEL} bytes, its nonce {NONCE}")
    argon2id = Argon2id(salt=label, length=WORK, iterations=1, lanes=1, memory_cost=memory)
    return argon2id.derive(subject + nonce)


def search(label: bytes, subject: bytes, target: WorkTarget, first: int, tries: int) -> Found | None:
    """The first of ``tries`` nonces, counted up from ``first``, that reaches ``target``; or None.

    Bounded by ``tries``, so that a caller can show progress, give up, or let many processes search.
    """
    for number in range(first, first + tries):
        nonce = number.to_bytes(NONCE, "big")
        work = compute(label, subject, nonce, target.memory)
        if target.reached_by(work):
            return Found(nonce, work)
    return None
