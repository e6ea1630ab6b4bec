"""Where to begin: what all nodes of a network must agree on, and some nodes of it, signed by who runs it.

::

    list = version u8 = 1 │ sequence u64 │ issued u64 │ expires u64 │ founded u64
           │ id bits u8 │ id memory u32 (KiB) │ record bits u8 │ record memory u32
           │ beacon threshold u8 │ signers u8 │ keys 32 each │ nodes u8 │ contacts │ signature 64

Signed with Ed25519 under "ptproxy 1 dht first nodes ". Threshold and signers 0: a network
without a beacon. Whoever has the list and one node of it that lives can join; whoever
has been there before needs neither, only its own table. The list decides nothing else:
nodes that it does not name are as good.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from ptproxy.dht.beacon import MAX_SIGNERS, BeaconSigners
from ptproxy.dht.contact import MAX_CONTACT, Contact
from ptproxy.dht.signing import KEY, SIGNATURE, SigningKey, verify
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError, LocalProtocolError
from ptproxy.fields import Fields

MAX_NODES: Final = 64
"""Nodes in a list: one that lives is enough, and each is asked by newcomers all day."""
MAX_LIFE: Final = 400 * 86_400
"""Seconds that a list may be good: who runs a network signs again long before."""
MAX_AHEAD: Final = 86_400
"""Seconds that ``issued`` may lie ahead of our clock: clocks of clients are wrong."""
MAX_MEMORY: Final = 65_536
"""KiB of one computation of work: each of our checks would take a tenth of a second."""

T = TypeVar("T")

_VERSION: Final = 1
_LABEL: Final = b"ptproxy 1 dht first nodes "
_HEAD: Final = struct.Struct(">BQQQQBIBIBB")
MAX_LIST: Final = _HEAD.size + MAX_SIGNERS * KEY + 1 + MAX_NODES * MAX_CONTACT + SIGNATURE
"""Bytes of a list, 14,126."""


@dataclass(frozen=True, slots=True)
class FirstNodes:
    """What a list says."""

    sequence: int
    """Rises with every list of a network."""
    issued: int
    """Unix seconds, as are the next two."""
    expires: int
    founded: int
    """When the network began: probation grows with its age."""
    id_work: WorkTarget
    record_work: WorkTarget
    signers: BeaconSigners | None
    contacts: tuple[Contact, ...]

    def sign(self, signer: SigningKey) -> bytes:
        """The list, signed; :class:`LocalProtocolError` for one that :meth:`parse` would refuse."""
        said = self._serialize()
        return said + signer.sign(_LABEL, said)

    @classmethod
    def parse(cls, data: bytes, key: bytes, now: float) -> FirstNodes:
        """The list that ``key`` signed, if it is good now; :class:`DhtError` for anything else."""
        if not SIGNATURE < len(data) <= MAX_LIST:
            raise DhtError("a list of nodes of an impossible length")
        said = data[:-SIGNATURE]
        verify(key, data[-SIGNATURE:], _LABEL, said)
        fields = Fields(said, DhtError("a list of nodes that is cut short or has something behind it"))
        head = _HEAD.unpack(fields.take(_HEAD.size))
        (
            version,
            sequence,
            issued,
            expires,
            founded,
            bits,
            memory,
            record_bits,
            record_memory,
            least,
            count,
        ) = head
        if version != _VERSION:
            raise DhtError("a list of nodes of another version")
        keys = tuple(fields.take(KEY) for _ in range(min(count, MAX_SIGNERS + 1)))
        contacts = []
        nodes, at = fields.number(1), _HEAD.size + len(keys) * KEY + 1
        for _ in range(min(nodes, MAX_NODES + 1)):
            contact, at = Contact.parse(said, at)
            contacts.append(contact)
        if at != len(said):
            raise DhtError("a list of nodes with something behind it")
        found = cls(
            sequence, issued, expires, founded,
            _allowed(lambda: WorkTarget(bits, memory)),
            _allowed(lambda: WorkTarget(record_bits, record_memory)),
            _allowed(lambda: BeaconSigners(keys, least)) if count or least else None,
            tuple(contacts),
        )  # fmt: skip
        _allowed(found.check)
        if issued > now + MAX_AHEAD:
            raise DhtError("a list of nodes from the future; is this machine's clock right?")
        if expires <= now:
            raise DhtError("a list of nodes that has expired")
        return found

    def check(self) -> None:
        """Return if such a list may be; :class:`LocalProtocolError` if not."""
        if not 0 < len(self.contacts) <= MAX_NODES:
            raise LocalProtocolError(f"a list has 1 to {MAX_NODES} nodes")
        if not self.founded <= self.issued < self.expires <= self.issued + MAX_LIFE:
            raise LocalProtocolError("a list that is good for an impossible time")
        if max(self.id_work.memory, self.record_work.memory) > MAX_MEMORY:
            raise LocalProtocolError("work of so much memory that nobody could check it")

    def _serialize(self) -> bytes:
        self.check()
        keys = self.signers.keys if self.signers is not None else ()
        least = self.signers.threshold if self.signers is not None else 0
        try:
            head = _HEAD.pack(
                _VERSION, self.sequence, self.issued, self.expires, self.founded,
                self.id_work.bits, self.id_work.memory, self.record_work.bits, self.record_work.memory,
                least, len(keys),
            )  # fmt: skip
        except struct.error:
            raise LocalProtocolError("a list's numbers are too large") from None
        nodes = b"".join(contact.serialize() for contact in self.contacts)
        return head + b"".join(keys) + bytes((len(self.contacts),)) + nodes


def _allowed(make: Callable[[], T]) -> T:
    """What ``make`` makes; what our own code must not ask for is the other side's fault here."""
    try:
        return make()
    except LocalProtocolError as error:
        raise DhtError(f"a list of nodes: {error}") from None
