"""What a message says about itself, encrypted (RATCHET.md, *Message*).

    part u8 ‖ epoch u32 ‖ X25519 key 32 ‖ length of the previous chain u32 ‖ number u32
    ‖ with an offer: ML-KEM-768 key 1184        with an answer: ciphertext 1088 ‖ 96 zeros

Both long forms have one length, so that not even a holder of the header's
size could tell which it is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ptproxy.e2e.ratchet.kem import CIPHERTEXT, ENCAPSULATION_KEY
from ptproxy.e2e.ratchet.refusals import RatchetRuleError

MAX_CHAIN: Final = 1 << 24
"""Messages of one chain: its header key meets as many random nonces, far below the 2^32 of SP 800-38D."""

_FIXED: Final = struct.Struct(">BI32sII")
SHORT: Final = _FIXED.size
"""Bytes of a header that carries nothing."""
LONG: Final = SHORT + ENCAPSULATION_KEY
"""Bytes of a header that carries an offer or an answer."""
_NO_MORE: Final = bytes(ENCAPSULATION_KEY - CIPHERTEXT)


class Part(IntEnum):
    """What of a KEM step a message carries."""

    NOTHING = 0
    OFFER = 1
    ANSWER = 2


_PARTS: Final = tuple(Part)


@dataclass(slots=True)
class Header:
    """A header in the clear: only the two sides ever see one."""

    part: Part
    """What ``carried`` is."""
    epoch: int
    """KEM steps in the root of this chain."""
    key: bytes
    """The sender's X25519 key of this turn (``header.dh``)."""
    previous: int
    """Messages of the sender's previous chain (``header.pn``)."""
    number: int
    """Of this message in its chain, from 0 (``header.n``)."""
    carried: bytes
    """An ML-KEM key, a ciphertext, or nothing."""

    def serialize(self) -> bytes:
        """45 or 1229 bytes."""
        fixed = _FIXED.pack(self.part, self.epoch, self.key, self.previous, self.number)
        if self.part is Part.ANSWER:
            return fixed + self.carried + _NO_MORE
        return fixed + self.carried

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """From 45 or 1229 bytes; :class:`RatchetRuleError` for what no side may say."""
        part, epoch, key, previous, number = _FIXED.unpack_from(data)
        carried = data[SHORT:]
        if part == Part.ANSWER and carried[CIPHERTEXT:] == _NO_MORE:
            carried = carried[:CIPHERTEXT]
        elif part > Part.OFFER or (part == Part.OFFER) != bool(carried):
            raise RatchetRuleError("ratchet: a header of an unknown form")
        if number >= MAX_CHAIN or previous > MAX_CHAIN:
            raise RatchetRuleError("ratchet: a chain longer than chains are")
        return cls(_PARTS[part], epoch, key, previous, number, carried)
