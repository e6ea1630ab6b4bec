"""What an IP address leads to: whether that is the public Internet, and which addresses it has in disguise.

An IPv6 address can be one of IPv4 that a translator or a tunnel makes out of it again: whoever judges an
address by its network alone lets those pass. All known forms are looked into.

Sources: IANA's special-purpose address registries (RFC 6890 and its updates).
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

IP = ipaddress.IPv4Address | ipaddress.IPv6Address

REFUSED_V4: Final = (
    "0.0.0.0/8",  # this network (RFC 791)
    "10.0.0.0/8",  # private (RFC 1918)
    "100.64.0.0/10",  # carrier-grade NAT (RFC 6598); Alibaba Cloud's metadata, 100.100.100.200
    "127.0.0.0/8",  # loopback (RFC 1122)
    "168.63.129.16/32",  # Azure's platform address, public by its number
    "169.254.0.0/16",  # link-local (RFC 3927); most clouds' metadata, 169.254.169.254
    "172.16.0.0/12",  # private (RFC 1918)
    "192.0.0.0/24",  # IETF protocol assignments (RFC 6890); Oracle Cloud's metadata, 192.0.0.192
    "192.0.2.0/24",  # documentation (RFC 5737)
    "192.88.99.0/24",  # 6to4 relays (RFC 7526)
    "192.168.0.0/16",  # private (RFC 1918)
    "198.18.0.0/15",  # benchmarking (RFC 2544)
    "198.51.100.0/24",  # documentation (RFC 5737)
    "203.0.113.0/24",  # documentation (RFC 5737)
    "224.0.0.0/4",  # multicast (RFC 5771)
    "240.0.0.0/4",  # reserved (RFC 1112) and limited broadcast (RFC 919)
)
"""IPv4 networks that are not the public Internet."""

REFUSED_V6: Final = (
    "::/128",  # unspecified (RFC 4291)
    "::1/128",  # loopback (RFC 4291)
    "64:ff9b:1::/48",  # local NAT64 (RFC 8215)
    "100::/64",  # discard (RFC 6666)
    "100:0:0:1::/64",  # dummy (RFC 9780)
    "2001:2::/48",  # benchmarking (RFC 5180)
    "2001:10::/28",  # ORCHID (RFC 4843)
    "2001:20::/28",  # ORCHIDv2 (RFC 7343)
    "2001:db8::/32",  # documentation (RFC 3849)
    "3fff::/20",  # documentation (RFC 9637)
    "fc00::/7",  # unique-local (RFC 4193); fd00:ec2::254 and fd20:ce::254 are metadata
    "fe80::/10",  # link-local (RFC 4291)
    "fec0::/10",  # site-local (RFC 3879)
    "ff00::/8",  # multicast (RFC 4291)
)
"""IPv6 networks that are not the public Internet; nor is anything outside :data:`GLOBAL_V6`."""

GLOBAL_V6: Final = 0b001
"""The first 3 bits of 2000::/3, all that IANA allots global unicast from (RFC 4291 section 2.4)."""

_LAST_4_BYTES: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "::/96",  # IPv4-compatible (RFC 4291 section 2.5.5.1)
        "::ffff:0:0/96",  # IPv4-mapped (RFC 4291 section 2.5.5.2)
        "::ffff:0:0:0/96",  # IPv4-translated (RFC 2765)
        "64:ff9b::/96",  # NAT64 (RFC 6052)
    )
)
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""Before an IPv4 address, what an interface of a tunnel within a site is called (RFC 5214 section 6.1)."""


class _Ranges:
    """Numbers in a few ranges, found by bisection."""

    __slots__ = ("_first", "_last")

    def __init__(self, networks: Iterable[str]) -> None:
        parsed = [ipaddress.ip_network(text) for text in networks]
        merged = ipaddress.collapse_addresses(parsed)  # type: ignore[type-var]  # all of one family
        pairs = sorted((int(net.network_address), int(net.broadcast_address)) for net in merged)
        self._first = [first for first, _ in pairs]
        self._last = [last for _, last in pairs]

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._first, number) - 1
        return index >= 0 and number <= self._last[index]


_NOT_PUBLIC_V4 = _Ranges(REFUSED_V4)
_NOT_PUBLIC_V6 = _Ranges(REFUSED_V6)


def is_public(ip: IP) -> bool:
    """Whether an address is of the public Internet by its own network, whatever it carries."""
    number = int(ip)
    if ip.version == 4:
        return number not in _NOT_PUBLIC_V4
    return number >> 125 == GLOBAL_V6 and number not in _NOT_PUBLIC_V6


def carried(ip: IP) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address stands for, by the network it is in; none for most."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ()
    number = int(ip)
    for network in _LAST_4_BYTES:
        if ip in network and number > 1:  # :: and ::1 are themselves
            return (ipaddress.IPv4Address(number & 0xFFFFFFFF),)
    if ip.sixtofour is not None:  # RFC 3056
        return (ip.sixtofour,)
    return ip.teredo or ()  # RFC 4380: the server, and the client's public address


def tunnelled(ip: IP) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 address that a tunnel within a site may lead to, behind an IPv6 network of any kind (ISATAP).

    Unlike what is :func:`carried` it does not take the place of the IPv6 address: both are to be judged.
    """
    if isinstance(ip, ipaddress.IPv4Address) or int(ip) >> 32 & 0xFFFF_FFFF not in _ISATAP:
        return ()
    return (ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF),)


def plain(ip: IP) -> IP:
    """``ip`` as the system dials it: an IPv4-mapped address is its IPv4 address."""
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped if mapped is not None else ip
