"""How a node is reached: its keys, its address, the proof that its place was not picked, signed by itself.

::

    contact = id 32 │ key 32 │ seal key 32 │ nonce 16 │ sequence u64 │ address │ signature 64
    address = 04 │ IPv4 address 4 │ port u16      or      06 │ IPv6 address 16 │ port u16

``key`` is Ed25519 and signs everything that the node says; requests that others
must not read are sealed for ``seal key`` (X25519). ``id`` is what admission makes
of ``key`` and ``nonce``: a claim until that has been checked, as it costs 400 µs
and the signature 80. The signature covers "ptproxy 1 dht contact " and everything
before it; of two contacts of one key the one with the higher ``sequence`` counts.

One form only: a port that is not 0, no IPv4 address in the clothes of IPv6 (which
would count as another network).
"""

from __future__ import annotations

import struct
import weakref
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from ptproxy.dht.identifier import ID_BYTES, NodeId
from ptproxy.dht.signing import KEY, SIGNATURE, SigningKey, verify
from ptproxy.errors import DhtError, LocalProtocolError

NONCE: Final = 16
"""Bytes that a node varies until its id shows enough work."""
MAX_CONTACT: Final = ID_BYTES + 2 * KEY + NONCE + 8 + 19 + SIGNATURE
"""Bytes of a contact with an IPv6 address, 203; 12 fewer with an IPv4 one."""

_LABEL: Final = b"ptproxy 1 dht contact "
_HEAD: Final = struct.Struct(f">{ID_BYTES}s{KEY}s{KEY}s{NONCE}sQ")
_SIZE: Final = {4: MAX_CONTACT - 12, 6: MAX_CONTACT}
"""Bytes of a contact, by the first byte of its address."""
_HOST: Final = {4: 4, 6: 16}
_MAPPED: Final = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Address:
    """Where datagrams go: ``host`` is the 4 or 16 bytes of an IP address."""

    host: bytes
    port: int

    @classmethod
    def parse(cls, data: bytes, start: int = 0) -> tuple[Address, int]:
        """The address at ``start`` and where it ends; :class:`DhtError` for anything else."""
        size = _HOST.get(data[start], 0) if start < len(data) else 0
        end = start + 1 + size + 2
        if not size or end > len(data):
            raise DhtError("an address of no known kind, or cut short")
        host = data[start + 1 : start + 1 + size]
        port = int.from_bytes(data[end - 2 : end], "big")
        if not port or host.startswith(_MAPPED):
            raise DhtError("an address that nobody has")
        return cls(host, port), end

    def serialize(self) -> bytes:
        """7 or 19 bytes; :class:`LocalProtocolError` for what :meth:`parse` would refuse."""
        size = len(self.host)
        if size not in _HOST.values() or not 0 < self.port < 1 << 16 or self.host.startswith(_MAPPED):
            raise LocalProtocolError("not an address that a contact can have")
        return bytes((4 if size == 4 else 6,)) + self.host + self.port.to_bytes(2, "big")

    def __str__(self) -> str:
        if len(self.host) == 4:
            return f"{IPv4Address(self.host)}:{self.port}"
        return f"[{IPv6Address(self.host)}]:{self.port}"


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Contact:
    """One node, as it says itself. Parsed is not verified: see :meth:`verify`, then admission."""

    id: NodeId
    key: bytes
    seal_key: bytes
    nonce: bytes
    sequence: int
    """Rises whenever the node says something else: another address, another seal key."""
    address: Address
    signature: bytes
    _form: bytes = field(init=False, repr=False, compare=False)
    """What :meth:`serialize` gives, kept: a node names the same contacts all day."""

    @classmethod
    def make(
        cls, signer: SigningKey, place: NodeId, seal_key: bytes, nonce: bytes, sequence: int, address: Address
    ) -> Contact:
        """Our own, signed. ``place`` and ``nonce`` are what admission found for the key."""
        contact = cls(place, signer.public, seal_key, nonce, sequence, address, bytes(SIGNATURE))
        signature = signer.sign(_LABEL, contact.serialize()[:-SIGNATURE])
        return cls(place, signer.public, seal_key, nonce, sequence, address, signature)

    @classmethod
    def parse(cls, data: bytes, start: int = 0) -> tuple[Contact, int]:
        """The contact at ``start`` and where it ends; :class:`DhtError` for anything else.

        The same object for the same bytes as long as somebody holds it: see :func:`shared`.
        """
        if start + _HEAD.size >= len(data):
            raise DhtError("a contact that is cut short")
        end = start + _SIZE.get(data[start + _HEAD.size], 0)
        form = data[start:end]
        known = _SHARED.get(data[end - SIGNATURE : end])
        if known is not None and known.serialize() == form:
            return known, end
        place, key, seal_key, nonce, sequence = _HEAD.unpack_from(data, start)
        address, at = Address.parse(data, start + _HEAD.size)
        if end > len(data):
            raise DhtError("a contact that is cut short")
        place = int.from_bytes(place, "big")
        contact = cls(place, key, seal_key, nonce, sequence, address, data[at:end])
        object.__setattr__(contact, "_form", form)
        return shared(contact), end

    def serialize(self) -> bytes:
        """191 or 203 bytes, the reverse of :meth:`parse`; :class:`LocalProtocolError` if it has no form."""
        try:
            return self._form
        except AttributeError:
            object.__setattr__(self, "_form", self._serialized())
            return self._form

    def _serialized(self) -> bytes:
        sizes = (len(self.key), len(self.seal_key), len(self.nonce), len(self.signature))
        if sizes != (KEY, KEY, NONCE, SIGNATURE):
            raise LocalProtocolError("a contact's keys, nonce or signature of another length")
        try:
            place = self.id.to_bytes(ID_BYTES, "big")
            head = _HEAD.pack(place, self.key, self.seal_key, self.nonce, self.sequence)
        except (struct.error, OverflowError):
            raise LocalProtocolError("a contact's numbers are too large") from None
        return head + self.address.serialize() + self.signature

    def verify(self) -> None:
        """Return if the node itself signed this; :class:`DhtError` if not. Says nothing about its work."""
        verify(self.key, self.signature, _LABEL, self.serialize()[:-SIGNATURE])

    def supersedes(self, other: Contact) -> bool:
        """Whether this is what the node said later."""
        return self.sequence > other.sequence


_SHARED: Final[weakref.WeakValueDictionary[bytes, Contact]] = weakref.WeakValueDictionary()
"""By signature. A contact is in it as long as somebody holds it."""


def shared(contact: Contact) -> Contact:
    """The one object for this contact in the whole process: what ``sys.intern`` is for strings.

    A contact takes 700 bytes, and reading one 6 µs, of which an answer has twenty. A thousand nodes in one
    process that each know a hundred and thirty of the others would have two hundred copies of every one.
    """
    known = _SHARED.setdefault(contact.signature, contact)
    # Who asks may have a false contact with the signature of a true one, which is another thing.
    return known if known is contact or known == contact else contact
