"""Captures for tests: TLS connections as record sizes, put into packets and files."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from hello_bytes import alpn, body, listed, message, records, server_name, versions

from ptproxy.inspect.flows import DOWN, UP
from ptproxy.inspect.pcap import FILE_HEAD, Packet, serialize
from ptproxy.inspect.segments import ACK, FIN, SYN, packet_of

CLIENT, SERVER = ("127.0.0.1", 40000), ("127.0.0.1", 443)


def hello(name: bytes = b"camo.test", padding: int = 0) -> bytes:
    """A ClientHello in one record, as long as wanted."""
    content = body(
        server_name(name),
        alpn(b"h2"),
        versions(0x0304),
        listed(10, 29),
        listed(13, 0x0403),
        (21, bytes(padding)),
    )
    return records(message(content))


def record(kind: int, size: int) -> bytes:
    return struct.pack(">BHH", kind, 0x0303, size) + bytes(size)


def pcap(packets: Iterable[Packet]) -> bytes:
    return FILE_HEAD + b"".join(serialize(packet) for packet in packets)


def flow(
    steps: Sequence[tuple[int, bytes]], at: float = 1000.0, port: int = 40000, mss: int = 1448
) -> list[Packet]:
    """A TCP connection that carries these bytes in these directions, 1 ms apart."""
    client = (CLIENT[0], port)
    ends = {UP: (client, SERVER), DOWN: (SERVER, client)}
    place = {UP: 1, DOWN: 1}
    made = [
        packet_of(client, SERVER, 0, 0, SYN),
        packet_of(SERVER, client, 0, 1, SYN | ACK),
        packet_of(client, SERVER, 1, 1, ACK),
    ]
    for direction, data in steps:
        for start in range(0, len(data), mss):
            piece = data[start : start + mss]
            made.append(packet_of(*ends[direction], place[direction], place[-direction], ACK, piece))
            place[direction] += len(piece)
    made.append(packet_of(client, SERVER, place[UP], place[DOWN], ACK | FIN))
    return [Packet(at + number / 1000, 101, data) for number, data in enumerate(made)]


def tls13(
    inner: Sequence[tuple[int, int]], padding: int = 300, flight: int = 2500
) -> list[tuple[int, bytes]]:
    """TLS 1.3: a handshake, then application data records of these sizes."""
    steps = [
        (UP, hello(padding=padding)),
        (DOWN, record(22, 122) + record(20, 1) + record(23, flight)),
        (UP, record(20, 1) + record(23, 53)),
    ]
    return steps + [(direction, record(23, size)) for direction, size in inner]
