"""How a store's rows are sealed and named, and the one number that says which rows there are.

Keys, 32 bytes each, from the master key: HKDF-Expand(master, "ptproxy 1 store " ‖ purpose), RFC 5869
section 2.3; purposes are ``names``, ``rows``, ``set``, ``witness``, ``machine`` and ``note``.

    blinded name = HMAC-SHA256(names key, table ‖ 00 ‖ name), first 16 bytes
    sealed row   = nonce 12, random ‖ AES-256-GCM(rows key, nonce, place, revision u64 ‖ length u32 ‖ content
                   ‖ zeros)
    place        = "ptproxy 1 store " ‖ table ‖ 00 ‖ blinded name (a piece, a list), blinded list ‖ number u64
                   (an entry), nothing (the head)

A row is padded to at least ``SMALLEST`` bytes, and beyond that so that its length tells little: Padmé,
which adds a ninth at most (Nikitin and others, Reducing Metadata Leakage from Encrypted Files, section 4).

A row says its place, so none can be put in another's. That it is the *newest* of its place says the
set's digest, which the head holds sealed:

    digest = XOR of HMAC-SHA256(set key, place ‖ nonce) over all rows of a set

MSet-XOR-Hash of Clarke and others, Incremental Multiset Hash Functions and Their Application to Memory
Integrity Checking (2003): a set is changed at the cost of the change, and whoever has not the key finds
no other set with the same digest. A row's nonce stands for the row: another one under the same nonce
and place is a forgery of GCM. Rows of a set differ in their places.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ptproxy.errors import StateError

NONCE: Final = 12
BLINDED: Final = 16
"""Bytes of a blinded name: two names of one store meet with a chance of 2^-100."""
DIGEST: Final = 32
"""Bytes of a digest, a number in memory: 0 for no rows."""
SMALLEST: Final = 256
"""Bytes that a row is padded to: most lines of a chat are shorter."""
MAX_ROWS: Final = 1 << 32
"""Rows that one master key seals with random nonces (SP 800-38D section 8.3): 100 a second for a year."""

_LABEL: Final = b"ptproxy 1 store "
_TAG: Final = 16
_FRONT: Final = struct.Struct(">QI")
_NUMBER: Final = struct.Struct(">Q")

HEAD: Final = _LABEL + b"head\0"
"""The place of the head."""


class RowKeys:
    """The keys of one store, all from its master key."""

    __slots__ = ("_names", "_rows", "_set", "machine", "master", "note", "witness")

    def __init__(self, master: bytes) -> None:
        def key(purpose: bytes) -> bytes:
            return HKDFExpand(hashes.SHA256(), 32, _LABEL + purpose).derive(master)

        self.master = master
        self._names = key(b"names")
        self._rows = AESGCM(key(b"rows"))
        self._set = key(b"set")
        self.witness = AESGCM(key(b"witness"))
        self.note = AESGCM(key(b"note"))
        self.machine = key(b"machine")

    def piece(self, name: str) -> bytes:
        """The blinded name of a piece."""
        return self._blinded(b"piece", name)

    def list(self, name: str) -> bytes:
        """The blinded name of a list: of the row that holds what is known of it, and in its entries."""
        return self._blinded(b"list", name)

    def seal(self, place: bytes, revision: int, content: bytes, rng: Callable[[int], bytes]) -> bytes:
        """A row."""
        nonce = rng(NONCE)
        length = _FRONT.size + len(content)
        padded = (_FRONT.pack(revision, len(content)) + content).ljust(padme(length), b"\0")
        return nonce + self._rows.encrypt(nonce, padded, place)

    def open(self, place: bytes, sealed: bytes) -> tuple[int, bytes]:
        """A row's revision and content; :class:`StateError` for what was not sealed for this place."""
        try:
            padded = self._rows.decrypt(sealed[:NONCE], sealed[NONCE:], place)
        except (InvalidTag, ValueError):
            raise StateError("store: a row is damaged") from None
        revision, length = _FRONT.unpack_from(padded)
        return revision, padded[_FRONT.size : _FRONT.size + length]

    def element(self, place: bytes, sealed: bytes) -> int:
        """What a row adds to the digest of its set, and takes away when it goes: both is XOR."""
        return int.from_bytes(hmac.digest(self._set, place + sealed[:NONCE], "sha256"), "big")

    def _blinded(self, table: bytes, name: str) -> bytes:
        return hmac.digest(self._names, table + b"\0" + name.encode(), "sha256")[:BLINDED]


def piece_place(blinded: bytes) -> bytes:
    """The place of a piece, or of what is known of a list."""
    return _LABEL + b"piece\0" + blinded


def entry_place(blinded_list: bytes, number: int) -> bytes:
    """The place of an entry."""
    return _LABEL + b"entry\0" + blinded_list + _NUMBER.pack(number)


def padme(length: int) -> int:
    """The length that ``length`` bytes are padded to."""
    if length <= SMALLEST:
        return SMALLEST
    exponent = length.bit_length() - 1
    low = exponent - exponent.bit_length()
    return (length + (1 << low) - 1) >> low << low


def fresh(length: int) -> bytes:
    """Random bytes."""
    return secrets.token_bytes(length)
