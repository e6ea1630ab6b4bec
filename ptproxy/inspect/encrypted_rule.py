"""Whether the Great Firewall's rule for fully encrypted traffic would block a connection.

Wu et al., "How the Great Firewall of China Detects and Blocks Fully Encrypted
Traffic", USENIX Security 2023, Algorithm 1: a connection is let be if its first
payload from the client satisfies one of five exemptions, and is blocked
otherwise.
"""

from __future__ import annotations

import re
from typing import Final

_PRINTABLE: Final = frozenset(range(0x20, 0x7F))
_BITS_FEW: Final = 3.4
_BITS_MANY: Final = 4.6
"""Set bits for each byte between which a payload counts as random."""
_FIRST: Final = 6
"""Bytes that must be printable at the beginning."""
_RUN: Final = re.compile(rb"[\x20-\x7e]{21}")
"""More than 20 printable bytes in a row."""
_PROTOCOL: Final = re.compile(rb"[\x16\x17]\x03[\x00-\x09]|(?:GET|PUT|POST|HEAD) ")
"""The first bytes of TLS and HTTP, as far as the rule looks."""

EXEMPTIONS: Final = {
    "Ex1": "few or many bits are set",
    "Ex2": "the first six bytes are printable",
    "Ex3": "more than half of the bytes are printable",
    "Ex4": "more than 20 printable bytes in a row",
    "Ex5": "it begins as TLS or HTTP does",
}
"""What lets a connection be, by the paper's names."""


def exemptions(payload: bytes) -> tuple[str, ...]:
    """Which of :data:`EXEMPTIONS` a first payload satisfies; none: it would be blocked.

    An empty payload tells nothing and is exempt by all that it has: it has none.
    """
    if not payload:
        return ()
    found = []
    bits = int.from_bytes(payload).bit_count() / len(payload)
    if bits <= _BITS_FEW or bits >= _BITS_MANY:
        found.append("Ex1")
    if len(payload) >= _FIRST and all(byte in _PRINTABLE for byte in payload[:_FIRST]):
        found.append("Ex2")
    if sum(byte in _PRINTABLE for byte in payload) > len(payload) / 2:
        found.append("Ex3")
    if _RUN.search(payload):
        found.append("Ex4")
    if _PROTOCOL.match(payload):
        found.append("Ex5")
    return tuple(found)
