"""HPACK (RFC 7541) as a browser encodes, and a bounded decoder.

What an encoder may choose, each browser chooses always alike; an encoder that
chooses otherwise gives other lengths. :class:`HpackEncoder` follows a
:class:`HpackHabits`. Chromium's (quiche ``hpack_encoder.cc`` and
``hpack_header_table.cc``, read 2026-11; confirmed by recordings of Chromium 156):

- a field that stands in the static or the dynamic table is an index, the
  static table first, of several equal entries the newest;
- ``:authority`` and every ordinary field is a literal with incremental
  indexing, the other pseudo-header fields are literals without indexing;
- a name is an index wherever one is known (static first, then the newest);
- a string is Huffman coded if that makes it shorter, not if equally long;
- a changed table size is announced at the start of the next block, after the
  smallest size set meanwhile where that was lower.

Firefox's, by recordings of 153 (2026-11): only ``:path`` is not indexed, of
several entries with the name the one with the highest index is named, and
every string is Huffman coded.

The Huffman code and the static table are the ``hpack`` package's, and so is the decoder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import hpack
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from ptproxy.errors import CodecError

DEFAULT_TABLE: Final = 4096
"""SETTINGS_HEADER_TABLE_SIZE's initial value, in bytes."""
MAX_ENCODER_TABLE: Final = 65536
"""Bytes of dynamic table that we keep, whatever a server allows."""
ENTRY_OVERHEAD: Final = 32
"""What an entry counts beside its strings (RFC 7541 section 4.1)."""
MAX_BLOCK: Final = 65536
"""Bytes of one header block that we collect; at most 0.1 s to decode; nginx sends 32 KiB at most."""
MAX_LIST: Final = 262144
"""Bytes of one header list decoded: what Chromium announces as SETTINGS_MAX_HEADER_LIST_SIZE."""

Field = tuple[str, str]
"""(name in lower case, value), ISO 8859-1."""


@dataclass(frozen=True, slots=True)
class HpackHabits:
    """Which fields a browser does not put into the dynamic table."""

    unindexed: frozenset[str]
    """Names sent as literals without indexing."""
    never_indexed: frozenset[str] = frozenset()
    """Names sent as literals never indexed (RFC 7541 section 6.2.3)."""
    huffman_always: bool = False
    """Huffman coded even where that makes a string no shorter."""
    highest_name: bool = False
    """A name is the highest index that has it, not the lowest static or newest dynamic one."""
    literal: frozenset[str] = frozenset()
    """Names sent as literals even where a table has the whole field."""
    short_cookie: int = 0
    """Cookie crumbs below this many bytes are never indexed: Firefox's protection against guessing."""


def _static() -> tuple[dict[tuple[bytes, bytes], int], dict[bytes, int]]:
    fields: dict[tuple[bytes, bytes], int] = {}
    names: dict[bytes, int] = {}
    for index, (name, value) in enumerate(HeaderTable.STATIC_TABLE, 1):
        fields.setdefault((name, value), index)
        names.setdefault(name, index)
    return fields, names


_STATIC_FIELDS, _STATIC_NAMES = _static()
_STATIC_LAST_NAMES = {name: index for index, (name, _) in enumerate(HeaderTable.STATIC_TABLE, 1)}
_STATIC_SIZE: Final = len(HeaderTable.STATIC_TABLE)
_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


class HpackEncoder:
    """Encodes header lists one after another over one connection."""

    __slots__ = ("_entries", "_fields", "_habits", "_inserted", "_limit", "_names", "_smallest", "_used")

    def __init__(self, habits: HpackHabits) -> None:
        self._habits = habits
        self._limit = DEFAULT_TABLE
        self._smallest: int | None = None  # of the sizes set since the last block
        self._used = 0
        self._inserted = 0  # entries ever put in: the newest has this number
        self._entries: deque[tuple[bytes, bytes]] = deque()  # oldest first
        self._fields: dict[tuple[bytes, bytes], int] = {}
        self._names: dict[bytes, int] = {}

    def set_table_size(self, size: int) -> None:
        """The server's SETTINGS_HEADER_TABLE_SIZE."""
        size = min(size, MAX_ENCODER_TABLE)
        if size == self._limit:
            return
        self._smallest = size if self._smallest is None else min(self._smallest, size)
        self._limit = size
        self._evict(0)

    def encode(self, fields: Iterable[Field]) -> bytes:
        """The block for a header list; names are lower case, cookies already in crumbs."""
        out = bytearray()
        if self._smallest is not None:
            if self._smallest < self._limit:
                encode_integer(out, 0x20, 5, self._smallest)
            encode_integer(out, 0x20, 5, self._limit)
            self._smallest = None
        habits = self._habits
        for name, value in fields:
            field = (name.encode("latin-1"), value.encode("latin-1"))
            index = self._index(_STATIC_FIELDS.get(field), self._fields.get(field))
            if index and name not in habits.literal:
                encode_integer(out, 0x80, 7, index)
            elif name in habits.never_indexed or (name == "cookie" and len(value) < habits.short_cookie):
                self._literal(out, 0x10, 4, field, index)
            elif name in habits.unindexed:
                self._literal(out, 0x00, 4, field, index)
            else:
                self._literal(out, 0x40, 6, field, index)
                self._insert(field)
        return bytes(out)

    def _index(self, static: int | None, number: int | None) -> int:
        if static:
            return static
        return 0 if number is None else _STATIC_SIZE + 1 + self._inserted - number

    def _literal(
        self, out: bytearray, prefix: int, bits: int, field: tuple[bytes, bytes], index: int
    ) -> None:
        name, value = field
        if not index and self._habits.highest_name:
            index = self._highest(name)
        elif not index:
            index = self._index(_STATIC_NAMES.get(name), self._names.get(name))
        encode_integer(out, prefix, bits, index)
        always = self._habits.huffman_always
        if not index:
            _string(out, name, always)
        _string(out, value, always)

    def _highest(self, name: bytes) -> int:
        count = len(self._entries)
        oldest = next((at for at, entry in enumerate(self._entries) if entry[0] == name), count)
        return _STATIC_SIZE + count - oldest if oldest < count else _STATIC_LAST_NAMES.get(name, 0)

    def _insert(self, field: tuple[bytes, bytes]) -> None:
        size = len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
        self._evict(size)
        if size > self._limit:
            return
        self._inserted += 1
        self._used += size
        self._entries.append(field)
        self._fields[field] = self._names[field[0]] = self._inserted

    def _evict(self, room: int) -> None:
        """Drop the oldest entries until ``room`` bytes are free, or all are gone."""
        entries = self._entries
        while entries and self._used + room > self._limit:
            number = self._inserted - len(entries) + 1
            field = entries.popleft()
            self._used -= len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
            if self._fields.get(field) == number:
                del self._fields[field]
            if self._names.get(field[0]) == number:
                del self._names[field[0]]


def encode_integer(out: bytearray, prefix: int, bits: int, value: int) -> None:
    """An integer behind a prefix (RFC 7541 section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        out.append(prefix | value)
        return
    out.append(prefix | most)
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _string(out: bytearray, text: bytes, always: bool) -> None:
    """A string literal (RFC 7541 section 5.2)."""
    coded = _HUFFMAN.encode(text)
    if always or len(coded) < len(text):
        encode_integer(out, 0x80, 7, len(coded))
        out += coded
    else:
        encode_integer(out, 0, 7, len(text))
        out += text


class HpackDecoder:
    """Decodes a server's header blocks; raises only :class:`CodecError`."""

    __slots__ = ("_decoder",)

    def __init__(self, table_size: int) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=MAX_LIST)
        self._decoder.max_allowed_table_size = table_size
        """What we have announced as SETTINGS_HEADER_TABLE_SIZE; the table is in use from the start, and
        a server that keeps to the initial size uses less of it."""

    def allow_table_size(self, size: int) -> None:
        """The encoder may use a table of up to so many bytes from now on (SETTINGS_HEADER_TABLE_SIZE)."""
        self._decoder.max_allowed_table_size = size

    def decode(self, block: bytes) -> list[Field]:
        """The header list of one block of at most :data:`MAX_BLOCK` bytes."""
        if len(block) > MAX_BLOCK:
            raise CodecError("HTTP/2: a header block too large")
        try:
            fields = self._decoder.decode(block, raw=True)
        except hpack.HPACKError as error:
            raise CodecError(f"HTTP/2: a header block that cannot be decoded: {error}") from None
        return [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in fields]
