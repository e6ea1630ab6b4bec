"""Captures, and what servers answer to the commands that look at them."""

from __future__ import annotations

import struct

from fuzz_target import Reach, Table, cut, uncut

from ptproxy.codec.http2.frames import SETTINGS_ACK, settings_frame
from ptproxy.errors import CodecError, StartError
from ptproxy.inspect.answer import answer_text, http2_text
from ptproxy.inspect.encrypted_rule import exemptions
from ptproxy.inspect.flows import FlowReader
from ptproxy.inspect.nested import verdicts
from ptproxy.inspect.pcap import FILE_HEAD, CaptureReader, Packet, serialize
from ptproxy.inspect.segments import ACK, SYN, packet_of, segment_of
from ptproxy.inspect.server_flight import describe, looks_like_tls, split_records

TABLE = Table("inspect")
CLIENT, SERVER = ("127.0.0.1", 40_000), ("127.0.0.1", 443)


def _capture() -> bytes:
    records = [b"\x16\3\1\0\5hello", b"\x17\3\3\1\0" + bytes(256), b"\x17\3\3\0\x10" + bytes(16)]
    made = [packet_of(CLIENT, SERVER, 0, 0, SYN), packet_of(SERVER, CLIENT, 0, 1, SYN | ACK)]
    at = 1
    for record in records:
        made.append(packet_of(CLIENT, SERVER, at, 1, ACK, record))
        at += len(record)
    return FILE_HEAD + b"".join(
        serialize(Packet(1000.0 + number / 1000, 101, data)) for number, data in enumerate(made)
    )


def _newer() -> bytes:
    def block(kind: int, content: bytes) -> bytes:
        content += bytes(-len(content) % 4)
        size = len(content) + 12
        return struct.pack("<II", kind, size) + content + struct.pack("<I", size)

    section = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    return (
        section
        + block(1, struct.pack("<HHI", 1, 0, 0) + struct.pack("<HHBxxxHH", 9, 1, 6, 0, 0))
        + block(6, struct.pack("<IIIII", 0, 1, 2, 4, 4) + b"data")
    )


@TABLE.target(
    "pcap",
    Reach.LOCAL,
    "person at a terminal",
    CodecError,
    StartError,
    seeds=lambda: uncut(_capture(), _newer()),
    longest=8192,
)
def pcap(data: bytes) -> None:
    """A capture file, the connections in it, and what is said of them."""
    reader, flows = CaptureReader(), FlowReader(443)
    for part in cut(data):
        flows.receive(reader.receive_data(part))
    reader.receive_eof()
    found = flows.flows()
    if found:
        verdicts(found, found)


@TABLE.target(
    "segments",
    Reach.LOCAL,
    "person at a terminal",
    seeds=lambda: [b"\x65" + packet_of(CLIENT, SERVER, 1, 1, ACK, b"data")],
)
def segments(data: bytes) -> None:
    """A packet, of whatever link."""
    segment_of(0.0, data[0] if data else 0, data[1:])


@TABLE.target(
    "server",
    Reach.BEFORE,
    "person at a terminal",
    seeds=lambda: [
        b"\x16\3\3\0\x2e\2\0\0\x2a\3\3" + bytes(32) + b"\0\x13\1\0\0\0\x15\3\3\0\2\2\x28",
        b"\x17\3\3\0\1x",
    ],
)
def server(data: bytes) -> None:
    """A TLS server's flight, described."""
    looks_like_tls(data)
    describe(split_records(data)[0])
    exemptions(data)


@TABLE.target(
    "answers",
    Reach.BEFORE,
    "person at a terminal",
    seeds=lambda: [
        b"HTTP/1.1 200 OK\r\nDate: x\r\nSet-Cookie: a=b\r\n\r\nbody" * 2,
        settings_frame([(3, 9)]) + SETTINGS_ACK + b"\0\0\1\1\4\0\0\0\1\x88",
    ],
)
def answers(data: bytes) -> None:
    """A web server's answers, compared as text."""
    assert isinstance(answer_text(data), str)
    assert isinstance(http2_text(data), str)
