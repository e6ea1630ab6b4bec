"""Bodies come out as they were before their encoding, and no more of them than was said."""

from __future__ import annotations

import gzip
import random
import sys
import tracemalloc
import zlib
from itertools import pairwise

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.page import body as body_module
from ptproxy.codec.page.body import MAX_FRAMES, ZSTD_WINDOW_LOG, BodyText

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MOST = 1 << 20
PACK = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}
ENCODED = sorted(set(PACK) - {"identity"})


def read(encoding, data, cuts=(), most=MOST):
    body = BodyText(encoding, most)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return b"".join(body.feed(data[a:b]) for a, b in pairwise(edges)), body


@given(st.sampled_from(sorted(PACK)), st.binary(max_size=3000), st.lists(st.integers(0, 5000), max_size=8))
def test_any_text_comes_back_in_any_pieces(encoding, text, cuts):
    assert read(encoding, PACK[encoding](text), cuts)[0] == text


@pytest.mark.parametrize("encoding", ENCODED)
@given(st.binary(max_size=300), st.lists(st.integers(0, 5000), max_size=4))
def test_nonsense_closes_a_body_and_raises_nothing(encoding, data, cuts):
    text, body = read(encoding, data, cuts)
    assert len(text) <= MOST
    if body.closed:
        assert body.feed(b"more") == b""


@pytest.mark.parametrize("encoding", ENCODED)
@given(
    st.binary(min_size=20, max_size=2000), st.integers(0, 1 << 20), st.integers(1, 255), st.integers(1, 4000)
)
def test_a_damaged_body_raises_nothing(encoding, text, at, change, most):
    data = bytearray(PACK[encoding](text))
    data[at % len(data)] ^= change
    assert len(read(encoding, bytes(data), (at,), most)[0]) <= most


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("most", [1, 1000, 70_000])
def test_no_more_comes_of_a_body_than_was_said(encoding, most):
    text = random.Random(most).randbytes(most) * 3
    found, body = read(encoding, PACK[encoding](text), range(0, 300_000, 777), most)
    assert found == text[:most]
    assert body.closed
    assert body.feed(b"more") == b""


@pytest.mark.parametrize("encoding", ENCODED)
def test_a_bomb_takes_no_more_memory_than_its_limit(encoding):
    """256 MiB of zeros: 200 bytes in br, 8 kB in zstd."""
    packed = {
        "gzip": lambda: gzip.compress(bytes(1 << 28), 1),
        "deflate": lambda: zlib.compress(bytes(1 << 28), 1),
        "br": lambda: brotli.compress(bytes(1 << 28), quality=1),
        "zstd": lambda: zstd.compress(bytes(1 << 28)),
    }[encoding]()
    tracemalloc.start()
    text, body = read(encoding, packed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(text) == MOST
    assert body.closed
    assert peak < 8 * MOST + 2 * len(packed)


def test_a_window_larger_than_browsers_take_is_refused():
    def packed(window):
        options = {
            zstd.CompressionParameter.window_log: window,
            zstd.CompressionParameter.content_size_flag: 0,
        }
        compressor = zstd.ZstdCompressor(options=options)
        return compressor.compress(b"text") + compressor.flush()

    assert read("zstd", packed(ZSTD_WINDOW_LOG))[0] == b"text"
    text, body = read("zstd", packed(ZSTD_WINDOW_LOG + 1))
    assert (text, body.closed) == (b"", True)


def test_frames_one_after_another_are_one_body_up_to_a_number():
    frame = zstd.compress(b"x")
    skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    assert read("zstd", frame + skippable + frame)[0] == b"xx"
    assert read("zstd", frame * MAX_FRAMES, range(0, 9999, 7))[0] == b"x" * MAX_FRAMES
    body = read("zstd", frame * (MAX_FRAMES + 1))[1]
    assert body.closed


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_follows_the_end_is_not_collected(encoding):
    """It was, and added up anew with every piece."""
    body = BodyText(encoding, MOST)
    assert body.feed(PACK[encoding](b"text")) == b"text"
    tracemalloc.start()
    for _ in range(64):
        assert body.feed(bytes(1 << 16)) == b""
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 1 << 17


def test_names_are_read_as_browsers_read_them():
    assert read(" GZIP ", gzip.compress(b"text"))[0] == b"text"
    assert read("x-gzip", gzip.compress(b"text"))[0] == b"text"
    assert read("", b"text")[0] == b"text"
    assert read("dcb", b"text")[1].closed
    assert set(body_module._DECODERS) == {"gzip", "x-gzip", "deflate", "br", "zstd"}
