"""TCP segments in captured packets: link layer, IPv4 and IPv6, TCP (RFC 9293 section 3.1).

Only what reassembly needs is read. Fragments, other protocols and packets that
were not captured whole enough are no segments; nothing raises.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Final

FIN, SYN, ACK = 1, 2, 16

Endpoint = tuple[str, int]
"""Address and port."""

_IPV4, _IPV6, _TCP = 0x0800, 0x86DD, 6
_ETHERNET: Final = 1
_PLAIN_IP: Final = frozenset((12, 14, 101, 228, 229))
"""LINKTYPE_RAW and its kin: the packet begins with an IP head."""
_TAGS: Final = frozenset((0x8100, 0x88A8, 0x9100))
"""EtherTypes of VLAN tags."""
_OPTIONS: Final = frozenset((0, 43, 60))
"""IPv6 extension heads that are passed over: hop by hop, routing, destination."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment."""

    time: float
    source: Endpoint
    destination: Endpoint
    sequence: int
    flags: int
    payload: bytes


def packet_of(
    source: Endpoint,
    destination: Endpoint,
    sequence: int,
    acknowledged: int,
    flags: int,
    payload: bytes = b"",
) -> bytes:
    """An IP packet with a TCP segment; checksums are left to whoever sends it, and nobody does."""
    tcp = struct.pack(
        ">HHIIBBHHH",
        source[1],
        destination[1],
        sequence & 0xFFFFFFFF,
        acknowledged & 0xFFFFFFFF,
        5 << 4,
        flags,
        0xFFFF,
        0,
        0,
    )
    ends = [ipaddress.ip_address(end[0]).packed for end in (source, destination)]
    size = len(tcp) + len(payload)
    if len(ends[0]) == 4:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, 64, _TCP, 0)
    else:
        head = struct.pack(">IHBB", 6 << 28, size, _TCP, 64)
    return b"".join((head, *ends, tcp, payload))


def segment_of(time: float, link: int, data: bytes) -> Segment | None:
    """The TCP segment in a packet, None where there is none."""
    try:
        place = _network(link, data)
        return None if place is None else _internet(time, data[place:])
    except (IndexError, ValueError):
        return None


def _network(link: int, data: bytes) -> int | None:
    """Where the IP head begins."""
    if link in _PLAIN_IP:
        return 0
    if link in (0, 108):  # BSD loopback: four bytes of address family
        return 4
    if link == 113:  # Linux cooked
        return 16 if int.from_bytes(data[14:16]) in (_IPV4, _IPV6) else None
    if link == 276:  # Linux cooked, version 2
        return 20 if int.from_bytes(data[0:2]) in (_IPV4, _IPV6) else None
    if link != _ETHERNET:
        return None
    at = 12
    while int.from_bytes(data[at : at + 2]) in _TAGS:
        at += 4
    return at + 2 if int.from_bytes(data[at : at + 2]) in (_IPV4, _IPV6) else None


def _internet(time: float, data: bytes) -> Segment | None:
    """The segment in an IP packet."""
    if data[0] >> 4 == 4:
        head, size = 4 * (data[0] & 15), int.from_bytes(data[2:4])
        fragment = int.from_bytes(data[6:8]) & 0x3FFF
        if data[9] != _TCP or fragment or head < 20:
            return None
        source, destination = (socket.inet_ntop(socket.AF_INET, data[at : at + 4]) for at in (12, 16))
    elif data[0] >> 4 == 6:
        head, following, size = 40, data[6], 40 + int.from_bytes(data[4:6])
        while following in _OPTIONS:
            following, head = data[head], head + 8 * (data[head + 1] + 1)
        if following != _TCP:
            return None
        source, destination = (socket.inet_ntop(socket.AF_INET6, data[at : at + 16]) for at in (8, 24))
    else:
        return None
    # Hardware that cuts segments leaves a length of 0 or the small ones' behind.
    return _transport(time, source, destination, data[head : size if size > head else len(data)])


def _transport(time: float, source: str, destination: str, data: bytes) -> Segment | None:
    offset = 4 * (data[12] >> 4)
    if offset < 20 or offset > len(data):
        return None
    return Segment(
        time,
        (source, int.from_bytes(data[0:2])),
        (destination, int.from_bytes(data[2:4])),
        int.from_bytes(data[4:8]),
        data[13],
        data[offset:],
    )
