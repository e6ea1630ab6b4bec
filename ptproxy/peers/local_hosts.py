"""Whether a host that a contact names is a machine of some private network, as far as its name shows.

A contact chooses where its mailbox is, and so a machine that we connect to: it is not to be one beside us.
What an IPv6 address carries in disguise counts (:mod:`ptproxy.addresses`). What a public name leads to is
for the resolver to say.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from ptproxy.addresses import carried, is_public, tunnelled

LOCAL_NAMES: Final = frozenset({"localhost", "local", "internal", "lan", "home", "arpa"})
"""Last labels of names that belong to no public host (RFC 6761, RFC 6762, and what routers use)."""

_HEXADECIMAL: Final = re.compile("0x[0-9a-f]*")
"""Of a name that ends like this resolvers make an IPv4 address: inet_aton(3) reads 0x7f.0x1 as 127.0.0.1."""


def is_local(host: str) -> bool:
    """Whether this is a machine of some private network, and so no place to be sent to."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        _, dot, last = host.rpartition(".")
        return not dot or last in LOCAL_NAMES or _HEXADECIMAL.fullmatch(last) is not None
    faces = (*(carried(address) or (address,)), *tunnelled(address))
    return not all(map(is_public, faces))
