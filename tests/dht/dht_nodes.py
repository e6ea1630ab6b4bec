"""Nodes for tests: contacts that are signed, and many that only look like it."""

from __future__ import annotations

import random

from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.identifier import ID_BYTES, NodeId
from ptproxy.dht.signing import SigningKey


def signed_contact(
    number: int, place: NodeId | None = None, sequence: int = 1, host: bytes | None = None
) -> Contact:
    """A contact whose signature verifies; its id is not what admission would make of it."""
    rng = random.Random(number)
    signer = SigningKey.generate(rng.randbytes)
    if place is None:
        place = rng.getrandbits(256)
    address = Address(host or bytes((11, *rng.randbytes(3))), rng.randrange(1, 65_536))
    return Contact.make(signer, place, rng.randbytes(32), rng.randbytes(16), sequence, address)


def plain_contact(place: NodeId, host: bytes | None = None, sequence: int = 1) -> Contact:
    """A contact without a real key: enough for tables and lookups. Each has a network of its own."""
    rng = random.Random(place)
    return Contact(
        place,
        place.to_bytes(ID_BYTES, "big"),
        bytes(32),
        bytes(16),
        sequence,
        Address(host or rng.randbytes(4), 4_000),
        bytes(64),
    )
