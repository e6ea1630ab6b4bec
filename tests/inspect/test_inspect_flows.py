"""Reassembly: whatever order, overlap and repetition segments come in, the same records come out."""

from __future__ import annotations

import struct

import pytest
from capture_bytes import CLIENT, SERVER, flow, hello, record, tls13
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.inspect.flows import DOWN, MAX_RECORDS, UP, FlowReader, Part
from ptproxy.inspect.pcap import Packet
from ptproxy.inspect.segments import ACK, SYN, Segment, packet_of, segment_of


def flows(packets, port=443):
    reader = FlowReader(port)
    reader.receive(packets)
    return reader.flows()


def shape(one):
    return [(part.direction, part.kind, part.size) for part in one.records]


STEPS = st.lists(st.tuples(st.sampled_from([UP, DOWN]), st.integers(0, 4000)), min_size=1, max_size=8)


@given(STEPS, st.integers(1, 1500))
def test_records_are_found_however_they_are_cut(inner, mss) -> None:
    (one,) = flows(flow(tls13(inner), mss=mss))
    assert one.tls
    assert not one.lost
    assert one.hello is not None
    assert one.hello.server_name == "camo.test"
    wanted = [(DOWN, 22, 122), (DOWN, 20, 1), (DOWN, 23, 2500), (UP, 20, 1), (UP, 23, 53)]
    assert shape(one)[1:] == wanted + [(side, 23, size) for side, size in inner]
    assert one.up == sum(len(data) for side, data in tls13(inner) if side == UP)
    assert one.down == sum(len(data) for side, data in tls13(inner) if side == DOWN)


@given(STEPS, st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_order_overlap_and_repetition_do_not_matter(inner, rng, start) -> None:
    data = b"".join(content for side, content in tls13(inner) if side == UP)
    answer = b"".join(content for side, content in tls13(inner) if side == DOWN)
    packets = [
        packet_of(CLIENT, SERVER, start, 0, SYN),
        packet_of(SERVER, CLIENT, 7, 0, SYN | ACK),
    ]
    pieces, at = [], 0
    while at < len(data):
        size = rng.randrange(1, 500)
        back = rng.randrange(0, min(at, 40) + 1)
        pieces.append((at - back, data[at - back : at + size]))
        at += size
    pieces += rng.sample(pieces, len(pieces) // 3)
    rng.shuffle(pieces)
    packets += [packet_of(CLIENT, SERVER, start + 1 + at, 0, ACK, piece) for at, piece in pieces]
    packets.append(packet_of(SERVER, CLIENT, 8, 0, ACK, answer))
    (one,) = flows(Packet(float(number), 101, packet) for number, packet in enumerate(packets))
    assert one.up == len(data)
    assert not one.lost
    assert [size for side, kind, size in shape(one) if side == UP and kind == 23] == [
        53, *(size for side, size in inner if side == UP)
    ]  # fmt: skip


def test_missing_bytes_are_told() -> None:
    packets = flow(tls13([(UP, 3000), (DOWN, 100)]))
    (one,) = flows(packets[:-5] + packets[-4:])
    assert one.lost


def test_what_is_no_tls_has_no_records() -> None:
    (one,) = flows(flow([(UP, b"\x93" * 300), (DOWN, b"\x01" * 40)]))
    assert not one.tls
    assert one.hello is None
    assert one.records == []
    assert one.first_payload == b"\x93" * 300
    assert [(part.direction, part.size) for part in one.segments] == [(UP, 300), (DOWN, 40)]


def test_flows_of_other_ports_and_without_a_beginning_are_left_out() -> None:
    packets = flow(tls13([(UP, 10)]))
    assert flows(packets, 444) == []
    assert flows(packets[1:], 443) == flows(packets[1:], None) == []
    assert len(flows(packets, None)) == 1
    assert flows(packets[:3], None) == []


def test_the_same_port_may_be_used_again() -> None:
    packets = flow(tls13([(UP, 10)]), 1.0) + flow(tls13([(UP, 20)]), 2.0)
    assert [one.records[-1].size for one in flows(packets)] == [10, 20]


def test_what_is_kept_is_bounded() -> None:
    (one,) = flows(flow(tls13([(UP, 10)] * (MAX_RECORDS + 50))))
    assert len(one.records) == len(one.segments) == MAX_RECORDS
    assert one.up > MAX_RECORDS * 15


def test_records_carry_time_and_direction() -> None:
    (one,) = flows(flow([(UP, hello()), (DOWN, record(22, 40))], at=5.0))
    assert one.records == [
        Part(5.003, UP, 22, len(hello()) - 5),
        Part(5.004, DOWN, 22, 40),
    ]


IPV4 = packet_of(("192.0.2.1", 1), ("192.0.2.2", 2), 3, 4, ACK, b"data")
IPV6 = packet_of(("2001:db8::1", 1), ("2001:db8::2", 2), 3, 4, ACK, b"data")
ETHERNET = bytes(12) + b"\x08\0" + IPV4


@pytest.mark.parametrize(
    ("link", "data"),
    [
        (101, IPV4),
        (228, IPV4),
        (1, ETHERNET),
        (1, ETHERNET + bytes(6)),  # padded to 60 bytes
        (1, bytes(12) + b"\x81\0\0\5\x08\0" + IPV4),
        (1, bytes(12) + b"\x88\xa8\0\5\x81\0\0\6\x08\0" + IPV4),
        (113, bytes(14) + b"\x08\0" + IPV4),
        (276, b"\x08\0" + bytes(18) + IPV4),
        (0, b"\2\0\0\0" + IPV4),
        (101, IPV4[:2] + b"\0\0" + IPV4[4:]),  # hardware left the length out
    ],
)
def test_link_layers(link: int, data: bytes) -> None:
    found = segment_of(1.0, link, data)
    assert found == Segment(1.0, ("192.0.2.1", 1), ("192.0.2.2", 2), 3, ACK, b"data")


def test_ipv6_with_and_without_extension_heads() -> None:
    wanted = Segment(1.0, ("2001:db8::1", 1), ("2001:db8::2", 2), 3, ACK, b"data")
    assert segment_of(1.0, 101, IPV6) == wanted
    size = struct.unpack_from(">H", IPV6, 4)[0]
    extended = IPV6[:4] + struct.pack(">H", size + 16) + b"\0" + IPV6[7:40]
    extended += b"\x3c\0" + bytes(6) + b"\6\0" + bytes(6) + IPV6[40:]
    assert segment_of(1.0, 101, extended) == wanted


@pytest.mark.parametrize(
    ("link", "data"),
    [
        (1, bytes(12) + b"\x08\6" + bytes(40)),
        (105, IPV4),
        (101, IPV4[:30]),
        (101, IPV4[:9] + b"\x11" + IPV4[10:]),
        (101, IPV4[:6] + b"\x20\0" + IPV4[8:]),
        (101, IPV4[:32] + b"\xf0" + IPV4[33:]),
        (101, b""),
    ],
)
def test_what_is_no_segment_is_none(link: int, data: bytes) -> None:
    assert segment_of(1.0, link, data) is None


@given(st.sampled_from([0, 1, 101, 113, 276]), st.binary(max_size=120))
def test_no_packet_raises(link: int, data: bytes) -> None:
    segment_of(0.0, link, data)
    flows([Packet(0.0, link, data), Packet(0.0, 101, IPV4[:20] + data)], None)
