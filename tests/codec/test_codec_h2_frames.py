"""HTTP/2 frames: any split gives the same, garbage raises only what is documented."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.http2 import frames
from ptproxy.codec.http2.frames import Frame, FrameReader, Priority
from ptproxy.errors import CodecError


def plain(found):
    return [(one.type, one.flags, one.stream, bytes(one.payload)) for one in found]


def build(kind, flags, stream, payload):
    return frames.frame_head(kind, flags, stream, len(payload)) + payload


FRAMES = st.one_of(
    st.builds(
        build,
        st.sampled_from([0, 1, 9]),
        st.integers(0, 255),
        st.integers(1, 2**31 - 1),
        st.binary(max_size=99),
    ),
    st.builds(build, st.just(8), st.just(0), st.integers(0, 2**31 - 1), st.binary(min_size=4, max_size=4)),
    st.builds(
        build, st.integers(10, 255), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=9)
    ),
)


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_any_split_gives_the_same_frames(whole, sizes):
    data = b"".join(whole)
    expected = plain(FrameReader().receive_data(data))
    assert len(expected) == len(whole)
    reader, found, at = FrameReader(), [], 0
    while at < len(data):
        piece = bytearray(data[at : at + sizes[0]])
        sizes = sizes[1:] + sizes[:1]
        found += plain(reader.receive_data(piece))
        at += len(piece)
    assert found == expected
    assert reader.empty


@given(st.lists(st.binary(max_size=60)))
def test_garbage_raises_only_codec_errors(pieces):
    reader = FrameReader()
    try:
        for piece in pieces:
            reader.receive_data(piece)
    except CodecError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        frames.frame_head(frames.DATA, 0, 1, frames.MAX_FRAME + 1),
        frames.frame_head(frames.DATA, 0, 0, 1),
        frames.frame_head(frames.HEADERS, 0, 0, 1),
        frames.frame_head(frames.SETTINGS, 0, 1, 6),
        frames.frame_head(frames.PING, 0, 1, 8),
        frames.frame_head(frames.PING, 0, 0, 7),
        frames.frame_head(frames.RST_STREAM, 0, 1, 5),
        frames.frame_head(frames.WINDOW_UPDATE, 0, 0, 3),
        frames.frame_head(frames.GOAWAY, 0, 0, 7),
    ],
)
def test_a_wrong_head_is_refused_before_its_payload(data):
    with pytest.raises(CodecError):
        FrameReader().receive_data(data)


@pytest.mark.parametrize(
    ("flags", "payload", "bare"),
    [
        (0, b"abc", b"abc"),
        (frames.PADDED, b"\x02abc\0\0", b"abc"),
        (frames.PADDED, b"\x00", b""),
        (frames.PADDED, b"\x01\x00", b""),
    ],
)
def test_padding_is_taken_off(flags, payload, bare):
    assert bytes(frames.without_padding(Frame(frames.DATA, flags, 1, payload))) == bare


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x03ab"])
def test_too_much_padding_is_refused(payload):
    with pytest.raises(CodecError):
        frames.without_padding(Frame(frames.DATA, frames.PADDED, 1, payload))


@pytest.mark.parametrize(
    "payload",
    [
        b"\0",
        b"\0\2\0\0\0\1",  # push for a client
        b"\0\4\x80\0\0\0",
        b"\0\5\0\0\0\1",
        b"\0\5\1\0\0\0",
        b"\0\x08\0\0\0\2",
        b"\0\x99\0\0\0\0" * 65,
    ],
)
def test_wrong_settings_are_refused(payload):
    with pytest.raises(CodecError):
        frames.parse_settings(Frame(frames.SETTINGS, 0, 0, payload))


@given(st.integers(0, 40000), st.booleans(), st.booleans())
def test_a_long_block_goes_on_in_continuations(size, ends, prioritised):
    block = bytes(index & 0xFF for index in range(size))
    signal = Priority(7, 220, True) if prioritised else None
    found = FrameReader().receive_data(frames.headers_frames(9, block, ends, signal))
    assert [one.type for one in found] == [frames.HEADERS] + [frames.CONTINUATION] * (len(found) - 1)
    assert [bool(one.flags & frames.END_HEADERS) for one in found] == [False] * (len(found) - 1) + [True]
    assert bool(found[0].flags & frames.END_STREAM) == ends
    rest = b"".join(bytes(one.payload) for one in found[1:])
    assert bytes(frames.header_fragment(found[0])) + rest == block
