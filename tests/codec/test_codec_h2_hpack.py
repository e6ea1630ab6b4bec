"""HPACK: whatever a browser's encoder writes, another decoder reads; decoding is bounded."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.http2.hpack import MAX_BLOCK, MAX_LIST, HpackDecoder, HpackEncoder, HpackHabits
from ptproxy.errors import CodecError

CHROMIUM = HpackHabits(frozenset((":method", ":path", ":scheme")))
FIREFOX = HpackHabits(
    frozenset((":path",)), frozenset(("authorization",)), True, True, frozenset((":path",)), 20
)
NAMES = st.sampled_from([":method", ":path", ":authority", "cookie", "accept", "x-a", "x-b", "authorization"])
VALUES = st.one_of(
    st.sampled_from(["GET", "POST", "/", "/index.html", "", "a", "*/*", "\xff" * 3]),
    st.text(st.characters(max_codepoint=255), max_size=120),
)
LISTS = st.lists(st.tuples(NAMES, VALUES), max_size=12)


@pytest.mark.parametrize("habits", [CHROMIUM, FIREFOX])
@given(st.lists(st.one_of(LISTS, st.integers(0, 70000)), max_size=12))
def test_another_decoder_reads_it(habits, work):
    encoder, decoder = HpackEncoder(habits), hpack.Decoder(max_header_list_size=1 << 20)
    decoder.max_allowed_table_size = 4096
    for item in work:
        if isinstance(item, int):
            encoder.set_table_size(item)
            decoder.max_allowed_table_size = item
            continue
        got = decoder.decode(encoder.encode(item), raw=True)
        assert [(n.decode("latin-1"), v.decode("latin-1")) for n, v in got] == item


def test_a_changed_table_size_is_announced_with_the_smallest_before():
    encoder = HpackEncoder(CHROMIUM)
    encoder.set_table_size(100)
    encoder.set_table_size(50)
    encoder.set_table_size(200)
    assert encoder.encode([(":method", "GET")]) == b"\x3f\x13" + b"\x3f\xa9\x01" + b"\x82"
    assert encoder.encode([(":method", "GET")]) == b"\x82"


def test_the_newest_of_equal_names_is_named():
    encoder = HpackEncoder(CHROMIUM)
    encoder.encode([("x-a", "1"), ("x-a", "2")])
    assert encoder.encode([("x-a", "3")])[0] == 0x40 | 62


@pytest.mark.parametrize("habits", [CHROMIUM, FIREFOX])
def test_a_field_larger_than_the_table_empties_it(habits):
    encoder, decoder = HpackEncoder(habits), hpack.Decoder()
    decoder.decode(encoder.encode([("x-a", "1")]))
    decoder.decode(encoder.encode([("x-b", "2" * 5000)]))
    assert encoder.encode([("x-a", "1")])[0] == 0x40


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_garbage_raises_only_codec_errors(blocks):
    decoder = HpackDecoder(65536)
    try:
        for block in blocks:
            decoder.decode(block)
    except CodecError:
        pass


@pytest.mark.parametrize(
    "block",
    [
        b"\xff" * 60000,  # an integer without end
        b"\x40\x01a\x7f\xe1\xfb\x00" + b"x" * 32768 + b"\xbe" * 10000,  # a large field, again and again
        b"\x00\x01a\x00" * 16000,
        b"\x3f\xe2\xff\x03",  # a table larger than announced
        b"\x00" * (MAX_BLOCK + 1),
    ],
)
def test_bombs_are_refused(block):
    with pytest.raises(CodecError):
        HpackDecoder(65536).decode(block)
    assert MAX_LIST < 1 << 20
