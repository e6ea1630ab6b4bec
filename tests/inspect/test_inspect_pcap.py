"""Capture files: both formats, every byte order, any split; garbage raises only what is documented."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.errors import CodecError
from ptproxy.inspect.pcap import FILE_HEAD, MAX_BLOCK, CaptureReader, Packet, serialize

PACKETS = st.lists(
    st.tuples(st.integers(0, 2**31), st.integers(0, 999_999), st.binary(max_size=90)), max_size=6
)
SPLITS = st.lists(st.integers(1, 60), min_size=1, max_size=20)


def classic(packets, order: str, nano: bool = False, link: int = 1) -> bytes:
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for seconds, micros, data in packets:
        fraction = micros * 1000 if nano else micros
        out += struct.pack(order + "IIII", seconds, fraction, len(data), len(data) + 7) + data
    return out


def block(order: str, kind: int, content: bytes) -> bytes:
    content += bytes(-len(content) % 4)
    size = len(content) + 12
    return struct.pack(order + "II", kind, size) + content + struct.pack(order + "I", size)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def newer(packets, order: str, link: int = 1, resolution: int | None = None) -> bytes:
    options = b"" if resolution is None else struct.pack(order + "HHBxxxHH", 9, 1, resolution, 0, 0)
    out = section(order) + block(order, 1, struct.pack(order + "HHI", link, 0, 0) + options)
    unit = {None: 10**6, 6: 10**6, 9: 10**9, 0x80 | 20: 1 << 20}[resolution]
    for seconds, micros, data in packets:
        ticks = seconds * unit + micros * unit // 10**6
        head = struct.pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
        out += block(order, 6, head + data) + block(order, 0xBAD, b"unknown")
    return out


def read(data: bytes, splits=(1 << 20,)) -> list[Packet]:
    reader, found, at, turn = CaptureReader(), [], 0, 0
    while at < len(data):
        size = splits[turn % len(splits)]
        found += reader.receive_data(bytearray(data[at : at + size]))
        at, turn = at + size, turn + 1
    reader.receive_eof()
    return found


def check(found, packets, link=1) -> None:
    assert [(one.link, one.data) for one in found] == [(link, data) for _, _, data in packets]
    for one, (seconds, micros, _) in zip(found, packets, strict=True):
        assert one.time == pytest.approx(seconds + micros / 1e6, abs=2e-6)


@given(PACKETS, st.sampled_from("<>"), st.booleans(), SPLITS)
def test_pcap_is_read_however_it_is_split(packets, order, nano, splits) -> None:
    check(read(classic(packets, order, nano, 101), splits), packets, 101)


@given(PACKETS, st.sampled_from("<>"), st.sampled_from([None, 6, 9, 0x80 | 20]), SPLITS)
def test_pcapng_is_read_however_it_is_split(packets, order, resolution, splits) -> None:
    check(read(newer(packets, order, 113, resolution), splits), packets, 113)


def test_sections_may_follow_one_another_in_another_order() -> None:
    both = newer([(1, 2, b"one")], "<", 1) + newer([(3, 4, b"two")], ">", 101)
    assert [(one.link, one.data) for one in read(both)] == [(1, b"one"), (101, b"two")]


def test_a_simple_packet_block_is_of_the_first_interface() -> None:
    data = section("<") + block("<", 1, struct.pack("<HHI", 101, 0, 0)) + block("<", 3, b"\4\0\0\0abcd")
    assert read(data) == [Packet(0.0, 101, b"abcd")]


@given(PACKETS)
def test_what_is_serialised_is_read(packets) -> None:
    made = [Packet(seconds + micros / 1e6, 101, data) for seconds, micros, data in packets]
    check(read(FILE_HEAD + b"".join(map(serialize, made))), packets, 101)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xd4\xc3",
        b"GIF89a",
        FILE_HEAD[:10],
        FILE_HEAD + b"\0" * 15,
        FILE_HEAD + struct.pack("<IIII", 0, 0, MAX_BLOCK + 1, 0),
        section("<")[:20],
        section("<") + struct.pack("<II", 6, 8),
        section("<") + struct.pack("<II", 6, 14) + bytes(6),
        section("<") + block("<", 6, bytes(20)),
        section("<") + block("<", 1, b""),
        section("<")[:-4] + b"\0\0\0\0",
        b"\x0a\x0d\x0d\x0a" + bytes(30),
    ],
)
def test_what_is_no_capture_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        read(data)


@given(st.binary(max_size=200), st.sampled_from([b"", FILE_HEAD, section("<"), newer([], ">")]), SPLITS)
def test_garbage_raises_only_codec_errors(data, start, splits) -> None:
    def outcome(pieces):
        try:
            return read(start + data, pieces)
        except CodecError as error:
            return str(error)

    assert outcome(splits) == outcome((1 << 20,))
