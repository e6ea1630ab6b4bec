"""How many nodes of one network may stand together, so that an address block does not become a crowd.

Addresses cost an attacker more than keys do, but whoever rents one block has 256
or 65,536 of them at once. So nodes are counted by network: the /16 of an IPv4
address, the /32 of an IPv6 one (what a provider is given), or whatever a table of
autonomous systems says.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from ptproxy.dht.contact import Address, Contact

IN_BUCKET: Final = 2
"""Nodes of one network in a bucket, a reply, or a result: a tenth of each."""
IN_LOOKUP: Final = 4
"""Nodes of one network that a lookup asks."""
UNLIMITED: Final = 1 << 30

Network: TypeAlias = Hashable
NetworkOf: TypeAlias = Callable[[Address], Network]
"""The network that an address counts as part of, by any name."""


def address_block(address: Address) -> bytes:
    """The /16 of an IPv4 address, the /32 of an IPv6 one."""
    host = address.host
    return host[:2] if len(host) == 4 else host[:4]


@dataclass(frozen=True, slots=True)
class Diversity:
    """The limits in force; :data:`ANY_NETWORK` has none, for networks of one machine."""

    network_of: NetworkOf = address_block
    in_bucket: int = IN_BUCKET
    in_lookup: int = IN_LOOKUP

    def spread(self, contacts: Iterable[Contact]) -> list[Contact]:
        """``contacts`` in their order, without those for which a network has no place left."""
        if self.in_bucket >= UNLIMITED:
            return list(contacts)
        counts: dict[Network, int] = {}
        kept = []
        for contact in contacts:
            network = self.network_of(contact.address)
            count = counts.get(network, 0)
            if count < self.in_bucket:
                counts[network] = count + 1
                kept.append(contact)
        return kept


ANY_NETWORK: Final = Diversity(in_bucket=UNLIMITED, in_lookup=UNLIMITED)
