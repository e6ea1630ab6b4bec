"""HPACK without state: every field an index of the static table, or a literal without indexing.

What is encoded so changes no decoder's dynamic table (RFC 7541 section 6.2.2),
so that blocks of another encoder may come before and after it.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpack.table import HeaderTable

from ptproxy.codec.http2.hpack import Field, encode_integer

_STATIC = {field: index for index, field in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))}
_NAMES = {name: index for index, (name, _) in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))}


def encode_plainly(fields: Iterable[Field]) -> bytes:
    """The block for a header list; names are lower case."""
    out = bytearray()
    for name, value in fields:
        raw_name, raw_value = name.encode("latin-1"), value.encode("latin-1")
        index = _STATIC.get((raw_name, raw_value))
        if index is not None:
            encode_integer(out, 0x80, 7, index)
            continue
        known = _NAMES.get(raw_name, 0)
        encode_integer(out, 0x00, 4, known)
        if not known:
            encode_integer(out, 0x00, 7, len(raw_name))
            out += raw_name
        encode_integer(out, 0x00, 7, len(raw_value))
        out += raw_value
    return bytes(out)
