"""What a node has to know of its network, what others have to know of a node, and both as text.

::

    node's key file = "ptproxy-directory-key:" base64url(version u8 = 1 │ signing seed 32 │ sealing seed 32
                      │ nonce 16 │ id 32)
    a node          = "ptproxy-node:" base64url(contact), to be pasted where somebody joins
    first nodes     = "ptproxy-nodes:" base64url(list), as ``dht.first_nodes`` has it: a file, or a paste
    a beacon        = "ptproxy-beacon:" base64url(statement, dht/beacon), whole or of some signers only
    signer of lists = base64url of an Ed25519 key

base64url is without padding (RFC 4648 section 5). Plain values: nothing here reads a file or the clock.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ptproxy import addresses
from ptproxy.dht import admission
from ptproxy.dht.admission import NODE_WORK, Minted
from ptproxy.dht.beacon import BeaconSigners, BeaconStatement
from ptproxy.dht.contact import NONCE, Address, Contact
from ptproxy.dht.diversity import Diversity
from ptproxy.dht.first_nodes import MAX_LIST, FirstNodes
from ptproxy.dht.identifier import ID_BYTES, NodeId
from ptproxy.dht.probation import FULL, SHARE, Probation
from ptproxy.dht.record import RECORD_WORK
from ptproxy.dht.responder import NodeKeys
from ptproxy.dht.signing import KEY, SigningKey
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError, StateError

KEY_PREFIX: Final = "ptproxy-directory-key:"
NODE_PREFIX: Final = "ptproxy-node:"
LIST_PREFIX: Final = "ptproxy-nodes:"
BEACON_PREFIX: Final = "ptproxy-beacon:"
MAX_TEXT: Final = len(LIST_PREFIX) + MAX_LIST * 4 // 3 + 4
"""Characters of the longest of these texts, a list of first nodes: 18,852."""

_VERSION: Final = 1
_KEY_FILE: Final = 1 + 2 * KEY + NONCE + ID_BYTES


@dataclass(frozen=True, slots=True)
class DirectoryNetwork:
    """What the nodes of one network must agree on, and how widely they are spread."""

    id_work: WorkTarget = NODE_WORK
    record_work: WorkTarget = RECORD_WORK
    probation: Probation = field(default_factory=lambda: Probation(founded=0.0, full=FULL, share=SHARE))
    signers: BeaconSigners | None = None
    """Who says what the beacon is; None: a network without one."""
    diversity: Diversity = field(default_factory=Diversity)
    private_addresses: bool = False
    """Whether nodes may have addresses that are not the Internet's: for networks of one machine or lab."""

    @classmethod
    def of(
        cls, listed: FirstNodes, diversity: Diversity | None = None, *, private_addresses: bool = False
    ) -> DirectoryNetwork:
        """The network that a signed list describes."""
        return cls(
            listed.id_work,
            listed.record_work,
            Probation(float(listed.founded)),
            listed.signers,
            diversity or Diversity(),
            private_addresses,
        )


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """A node's keys and the place that its work has given it. The repr shows no key."""

    keys: NodeKeys = field(repr=False)
    minted: Minted

    @property
    def id(self) -> NodeId:
        """Its place."""
        return self.minted.id

    @classmethod
    def parse(cls, text: str, target: WorkTarget = NODE_WORK) -> NodeIdentity:
        """From a key file; :class:`StateError` for anything else, or less work than ``target``. 0.4 ms."""
        data = _unwrapped(text, KEY_PREFIX)
        if data is None or len(data) != _KEY_FILE or data[0] != _VERSION:
            raise StateError("no key of a directory node")
        signing, sealing = data[1 : 1 + KEY], data[1 + KEY : 1 + 2 * KEY]
        nonce, place = data[1 + 2 * KEY : -ID_BYTES], int.from_bytes(data[-ID_BYTES:], "big")
        keys = NodeKeys(SigningKey(signing), X25519PrivateKey.from_private_bytes(sealing))
        try:
            admission.check(place, keys.signing.public, nonce, target)
        except DhtError as error:
            raise StateError(f"a directory node's key that its network does not take: {error}") from None
        return cls(keys, Minted(place, nonce))

    def serialize(self) -> str:
        """One line, for a file that only its owner reads."""
        keys = self.keys.signing.serialize_private() + self.keys.sealing.private_bytes_raw()
        place = self.id.to_bytes(ID_BYTES, "big")
        return _wrapped(KEY_PREFIX, bytes((_VERSION,)) + keys + self.minted.nonce + place)

    def contact(self, address: Address, sequence: int) -> Contact:
        """How the node is reached at ``address``, signed."""
        signing, seal_key = self.keys.signing, self.keys.seal_key
        return Contact.make(signing, self.id, seal_key, self.minted.nonce, sequence, address)


def is_public(address: Address) -> bool:
    """Whether an address is one of the Internet's, so that a node can be there.

    Of IPv6 those that carry an IPv4 address (6to4, Teredo, NAT64) are not: they would be two networks at
    once, and lead a request into somebody's own network.
    """
    host = IPv4Address(address.host) if len(address.host) == 4 else IPv6Address(address.host)
    return addresses.is_public(host) and not addresses.carried(host)


def read_node(text: str) -> Contact:
    """The node of a ``ptproxy-node:`` line, its signature good; :class:`DhtError` for anything else."""
    data = _unwrapped(text, NODE_PREFIX)
    if data is None:
        raise DhtError(f"no directory node: expected a line that begins with {NODE_PREFIX}")
    contact, end = Contact.parse(data)
    if end != len(data):
        raise DhtError("a directory node's line with something behind it")
    contact.verify()
    return contact


def write_node(contact: Contact) -> str:
    """A node as a line to paste."""
    return _wrapped(NODE_PREFIX, contact.serialize())


def read_first_nodes(text: str, key: bytes, now: float) -> FirstNodes:
    """The list that ``key`` signed, good ``now``; :class:`DhtError` for anything else."""
    data = _unwrapped(text, LIST_PREFIX)
    if data is None:
        raise DhtError(f"no list of directory nodes: expected text that begins with {LIST_PREFIX}")
    return FirstNodes.parse(data, key, now)


def read_own_first_nodes(text: str, key: bytes) -> FirstNodes:
    """The same, whenever it is or was good: for whoever signs the next one."""
    data = _unwrapped(text, LIST_PREFIX) or b""
    issued = int.from_bytes(data[9:17], "big")  # behind version and sequence
    return read_first_nodes(text, key, float(issued))


def write_first_nodes(signed: bytes) -> str:
    """A signed list as one line."""
    return _wrapped(LIST_PREFIX, signed)


def read_beacon(text: str) -> BeaconStatement:
    """A statement that is not verified; :class:`DhtError` for anything else."""
    data = _unwrapped(text, BEACON_PREFIX)
    if data is None:
        raise DhtError(f"no beacon: expected a line that begins with {BEACON_PREFIX}")
    return BeaconStatement.parse(data)


def write_beacon(statement: BeaconStatement) -> str:
    """A statement as a line to paste."""
    return _wrapped(BEACON_PREFIX, statement.serialize())


def read_signer(text: str) -> bytes:
    """The 32-byte key of whoever signs lists; :class:`DhtError` for anything else."""
    data = _unwrapped(text, "")
    if data is None or len(data) != KEY:
        raise DhtError("no key of a list's signer: expected 43 characters of base64url")
    return data


def write_signer(key: bytes) -> str:
    """A signer's public key as text."""
    return _wrapped("", key)


def _wrapped(prefix: str, data: bytes) -> str:
    return prefix + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unwrapped(text: str, prefix: str) -> bytes | None:
    """The bytes behind ``prefix``; None for anything that :func:`_wrapped` does not make."""
    text = text.strip()
    if len(text) > MAX_TEXT or not text.startswith(prefix):
        return None
    try:
        coded = text.removeprefix(prefix).encode("ascii")
        data = base64.b64decode(coded + b"=" * (-len(coded) % 4), b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return data if _wrapped(prefix, data) == text else None
