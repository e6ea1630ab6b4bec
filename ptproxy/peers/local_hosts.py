"""Whether a host that a contact names is a machine of some private network, as far as its name shows.

A contact chooses where its mailbox is, and so a machine that we connect to: it is not to be one beside us. An
IPv6 address can be one of IPv4 in disguise, which a translator or a tunnel makes a private one again: all
known forms are looked into. What a public name leads to is for the resolver to say.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

LOCAL_NAMES: Final = frozenset({"localhost", "local", "internal", "lan", "home", "arpa"})
"""Last labels of names that belong to no public host (RFC 6761, RFC 6762, and what routers use)."""

_HEXADECIMAL: Final = re.compile("0x[0-9a-f]*")
"""Of a name that ends like this resolvers make an IPv4 address: inet_aton(3) reads 0x7f.0x1 as 127.0.0.1."""
_LOCAL_NETWORKS: Final = (
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # a translator of one's own (RFC 8215)
    ipaddress.IPv6Network("fec0::/10"),  # the site, of former times (RFC 3879)
)
_EMBEDDING: Final = (
    (ipaddress.IPv6Network("::/96"), 0),  # "compatible" (RFC 4291 section 2.5.5.1)
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # mapped (RFC 4291 section 2.5.5.2)
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),  # translated (RFC 2765 section 2.1)
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64 (RFC 6052 section 2.1)
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4 (RFC 3056 section 2)
)
"""Networks whose addresses have an IPv4 address in them, so many bits from the right."""
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""Before an IPv4 address, what an interface of a tunnel within a site is called (RFC 5214 section 6.1)."""


def is_local(host: str) -> bool:
    """Whether this is a machine of some private network, and so no place to be sent to."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        _, dot, last = host.rpartition(".")
        return not dot or last in LOCAL_NAMES or _HEXADECIMAL.fullmatch(last) is not None
    if isinstance(address, ipaddress.IPv4Address):
        return _is_private(address)
    return (
        _is_private(address)
        or any(address in network for network in _LOCAL_NETWORKS)
        or any(map(_is_private, _embedded(address)))
    )


def _is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_multicast or not address.is_global


def _embedded(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that something on the way may take it for."""
    number = int(address)
    shifts = [shift for network, shift in _EMBEDDING if address in network]
    if number >> 32 & 0xFFFF_FFFF in _ISATAP:
        shifts.append(0)
    return [ipaddress.IPv4Address(number >> shift & 0xFFFF_FFFF) for shift in shifts]
