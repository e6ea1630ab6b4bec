"""What a directory node answers: everything it knows, to anybody, for no more bytes than it was asked with.

A node does not decide whom to trust here: answers are signed, records verify by
themselves, and who may write is decided where records are kept (:class:`Records`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ptproxy.dht.contact import MAX_CONTACT, Address, Contact
from ptproxy.dht.density import NO_CAP, Seats
from ptproxy.dht.identifier import NodeId, Rng
from ptproxy.dht.messages import (
    HEAD,
    Answer,
    Find,
    Found,
    Get,
    Holding,
    Leave,
    Nodes,
    Ping,
    Pong,
    Request,
    Seek,
    Store,
    Stored,
    parse_request,
)
from ptproxy.dht.rpc import sign_answer
from ptproxy.dht.sealing import SEALED, SealedRequest
from ptproxy.dht.signing import KEY, SIGNATURE, SigningKey
from ptproxy.dht.storage import Refusal, Write, WriteRefusedError
from ptproxy.dht.table import K, RoutingTable
from ptproxy.errors import DhtError

_ACCOUNT: Final = b"ptproxy 1 dht account "


class Records(Protocol):
    """Where a node keeps records: :class:`~ptproxy.dht.storage.RecordStorage`, say."""

    def read(self, location: NodeId, now: float) -> bytes | None:
        """The record at ``location``, 2,048 bytes, if it is here and still good."""

    def token(self, location: NodeId, guard: NodeId, now: float) -> bytes:
        """What a write of ``guard`` at ``location`` must show, at most 32 bytes."""

    def write(self, write: Write, guard: NodeId, now: float) -> None:
        """Keep a record; :class:`WriteRefusedError` says why not."""

    def write_copy(self, write: Write, guard: NodeId, now: float) -> None:
        """Keep a copy for a while; :class:`WriteRefusedError` says why not."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send back, and which node it was that asked, by its own word."""

    data: bytes
    sender: Contact | None
    """Not verified: to be pinged at its own address before it gets into a table. None for a client."""


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """A node's two private keys."""

    signing: SigningKey
    sealing: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, rng: Rng) -> NodeKeys:
        """New ones; ``rng`` is a CSPRNG in production."""
        return cls(SigningKey.generate(rng), X25519PrivateKey.from_private_bytes(rng(KEY)))

    @property
    def seal_key(self) -> bytes:
        """The public half of ``sealing``, as a contact has it."""
        return self.sealing.public_key().public_bytes_raw()


class Responder:
    """Answers for one node. ``contact`` is its own and may be replaced by a later one."""

    __slots__ = ("_keys", "_records", "_rng", "_table", "contact", "seats")

    def __init__(
        self,
        keys: NodeKeys,
        contact: Contact,
        table: RoutingTable,
        records: Records,
        rng: Rng,
    ) -> None:
        self.contact = contact
        self.seats: Callable[[], Seats] = lambda: NO_CAP
        """The seats around any place, as the node sees the network: its ``Node`` sets this."""
        self._keys = keys
        self._rng = rng
        self._table = table
        self._records = records

    def receive_request(self, data: bytes, source: Address, now: float) -> Reply:
        """The answer to a message; :class:`DhtError` for what is no request: nothing is sent then."""
        if data[:1] != bytes((SEALED,)):
            return self._open(data, source, now)
        sealed = SealedRequest(data, self._keys.sealing)
        reply = self._open(sealed.request, source, now)
        return Reply(sealed.seal_answer(reply.data, self._rng), None)

    def _open(self, data: bytes, source: Address, now: float) -> Reply:
        """The answer to a message that is not sealed, or no longer."""
        tag, request = parse_request(data)
        room = len(data) - HEAD - SIGNATURE
        answer = self.answer(request, source, now, room)
        signed = sign_answer(self._keys.signing, data, tag, answer)
        if len(signed) > len(data):
            raise DhtError("a request that is shorter than its answer")
        return Reply(signed, request.sender)

    def answer(self, request: Request, source: Address, now: float, room: int) -> Answer:
        """The answer itself, with as many nodes as fit ``room`` bytes."""
        match request:
            case Ping():
                return Pong(self.contact)
            case Find():
                return self._nodes(request.target, source, now, room)
            case Seek():
                record = self._records.read(request.location, now)
                if record is not None:
                    return Holding(self._records.token(request.location, account(source), now), record)
                return self._nodes(request.location, source, now, room)
            case Get():
                record = self._records.read(request.location, now)
                if record is not None:
                    return Found(record)
                return self._nodes(request.location, source, now, room)
            case Store() | Leave():
                return Stored(self._keep(request, account(source), now))

    def _keep(self, request: Store | Leave, asker: NodeId, now: float) -> Refusal | None:
        write = Write(request.location, request.token, request.record)
        try:
            if isinstance(request, Store):
                self._records.write(write, asker, now)
            else:
                self._records.write_copy(write, asker, now)
        except WriteRefusedError as refused:
            return refused.refusal
        return None

    def _nodes(self, target: NodeId, source: Address, now: float, room: int) -> Nodes:
        token = self._records.token(target, account(source), now)
        count = max(0, min(K, (room - len(token) - 2) // MAX_CONTACT))
        return Nodes(token, tuple(self._table.handed_on(target, now, self.seats(), count)))


def account(source: Address) -> NodeId:
    """Whose account a request counts on: whoever has this address, or this /64.

    What a request says of its sender counts for nothing. The token that a write needs is
    sent to the address, so nobody writes on the account of somebody else.
    """
    owner = source.host if len(source.host) == 4 else source.host[:8]
    return int.from_bytes(hashlib.sha256(_ACCOUNT + owner).digest(), "big")
