"""Sealed records of five lengths: all that whoever carries a meeting sees of it.

::

    record = size u8, 0 to 4 │ AES-256-GCM(key, nonce, size u8; frames │ zeros)
    nonce  = four zeros │ number of the record under this key u64

A record is 256, 1024, 4096, 16384 or 65536 bytes long, whole. Every key serves one direction of one
meeting, between two rekeyings, so no (key, nonce) comes twice.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ptproxy.buffer import Buffer
from ptproxy.e2e.stream.refusals import MeetingError
from ptproxy.errors import LocalProtocolError

SIZES: Final = (256, 1024, 4096, 16384, 65536)
"""Bytes that a record can have: a key pressed, a line, a page, bulk."""
AROUND: Final = 1 + 16
"""Bytes of a record that are no plaintext."""
CAPACITIES: Final = tuple(size - AROUND for size in SIZES)
"""Bytes of frames that a record of each size holds."""
MAX_RECORDS: Final = 2**24
"""Records under one key: beyond, the meeting is over. 2^36 blocks keep GCM's bound at 2^-57 (SP 800-38D,
section 8.3 allows 2^32 records); rekeying comes long before."""

_NONCE: Final = struct.Struct(">4xQ")
_CODES: Final = tuple(bytes((code,)) for code in range(len(SIZES)))
_ZEROS: Final = bytes(SIZES[-1])


def size_for(length: int) -> int:
    """Which size a record gets that is to hold ``length`` bytes of frames, or as many of them as it can.

    The shortest that holds them; if more than half of it were padding, the next shorter, full.
    """
    size = bisect_left(CAPACITIES, length)
    if size == len(SIZES) or (size and 2 * length < CAPACITIES[size]):
        size -= 1
    return size


class Sealer:
    """One direction's sending key."""

    __slots__ = ("_cipher", "records")

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self.records = 0
        """Records sealed so far."""

    def seal(self, parts: Sequence[Buffer], length: int, size: int) -> bytes:
        """A record of the size numbered ``size`` that holds ``parts``, ``length`` bytes together."""
        if self.records >= MAX_RECORDS:
            raise LocalProtocolError("stream: too many records under one key")
        zeros = _ZEROS[: CAPACITIES[size] - length]
        code = _CODES[size]
        sealed = self._cipher.encrypt(_NONCE.pack(self.records), b"".join((*parts, zeros)), code)
        self.records += 1
        return code + sealed


class Opener:
    """One direction's receiving key, and what has come and is not a whole record yet."""

    __slots__ = ("_cipher", "_received", "_taken", "records")

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self.records = 0
        self._received = bytearray()
        self._taken = 0

    def receive(self, data: Buffer) -> None:
        """Bytes came, cut anywhere; :meth:`next` until it has no more, before the next ones."""
        del self._received[: self._taken]
        self._taken = 0
        self._received += data

    def next(self) -> bytes | None:
        """What the next record holds, None until it is whole; :class:`MeetingError` where it is no record."""
        start = self._taken
        if start == len(self._received):
            return None
        code = self._received[start]
        if code >= len(SIZES):
            raise MeetingError("stream: not a record")
        end = start + SIZES[code]
        if end > len(self._received):
            return None
        nonce = _NONCE.pack(self.records)
        with memoryview(self._received) as view:
            try:
                plaintext = self._cipher.decrypt(nonce, view[start + 1 : end], _CODES[code])
            except InvalidTag:
                raise MeetingError("stream: a record that does not verify") from None
        self.records += 1
        self._taken = end
        return plaintext

    def switch(self, key: bytes) -> None:
        """The records from here on are under another key."""
        self._cipher = AESGCM(key)
        self.records = 0
