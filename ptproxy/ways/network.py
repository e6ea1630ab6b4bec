"""Which network this machine is in: a name for it that tells nothing to who reads it, and what changed.

What was found out about ways is worth nothing in another network. A network is
known by the gateway that is used first (by its hardware address where the system tells it, so that
two homes with 192.168.1.1 are two), else by that gateway and the prefixes of this machine's own
addresses. It is written down only as an HMAC under a secret of this
installation: the name alone tells neither where its owner was nor whether two
owners were in one place. Who has that secret as well, and it lies in the same
state folder, can check a guess: a gateway's hardware address that is known, or all of one maker's.

The hardware address is often learnt a moment after the network was entered, and forgotten by
the system while nothing is sent. Neither is a change: the network gets its better name, and keeps it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass, field, replace
from typing import Final

NAME_SIZE: Final = 16
"""Bytes of a network's name, as hexadecimal digits twice that."""
NOWHERE: Final = ""
"""The name of no network at all."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where packets to anywhere leave; two are equal whether or not the hardware is known."""

    interface: str
    address: str
    """An IP literal, or whatever the system has in its place."""
    hardware: str = field(default="", compare=False)
    """Its hardware address, "" where the system does not tell it (yet)."""

    def is_another(self, other: Gateway) -> bool:
        """Whether they are two for certain: one address may have two owners, in two networks."""
        return self != other or bool(self.hardware and other.hardware and self.hardware != other.hardware)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the system says of its networks; loopback is none."""

    addresses: frozenset[str] = frozenset()
    """This machine's own, IP literals."""
    gateways: tuple[Gateway, ...] = ()
    """Of default routes, the one that is used first at the beginning."""

    @property
    def connected(self) -> bool:
        """Whether there is any way out."""
        return bool(self.gateways)

    def name(self, secret: bytes) -> str:
        """The network's name; :data:`NOWHERE` without any."""
        if not self.connected:
            return NOWHERE
        first = self.gateways[0]
        known_by = [first.hardware]
        if not first.hardware:
            known_by = [f"{first.interface} {first.address}", *sorted(prefixes_of(self.addresses))]
        said = "\n".join(known_by).encode()
        return hmac.digest(secret, b"ptproxy network\0" + said, hashlib.sha256)[:NAME_SIZE].hex()

    def is_elsewhere(self, before: Surroundings) -> bool:
        """Whether this is another network, or one again: what was asked before will not be answered."""
        return self.connected and (not before.connected or self.gateways[0].is_another(before.gateways[0]))

    def lost_since(self, before: Surroundings) -> frozenset[str]:
        """Addresses that are gone: connections from them are dead."""
        return before.addresses - self.addresses

    def remembering(self, before: Surroundings) -> Surroundings:
        """With the hardware addresses that were known of the same gateways, where they are forgotten now."""
        if not self.addresses & before.addresses:
            return self  # perhaps another network of the same plan
        known = {gateway: gateway.hardware for gateway in before.gateways}
        return replace(
            self,
            gateways=tuple(
                replace(each, hardware=each.hardware or known.get(each, "")) for each in self.gateways
            ),
        )


def prefixes_of(addresses: frozenset[str]) -> set[str]:
    """The networks that addresses are likely to be in (/24, /64)."""
    found = set()
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if not address.is_link_local:
            found.add(
                str(ipaddress.ip_network(f"{address}/{24 if address.version == 4 else 64}", strict=False))
            )
    return found
