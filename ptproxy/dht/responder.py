"""What a directory node answers: everything it knows, to anybody, for no more bytes than it was asked with.

A node does not decide whom to trust here: answers are signed, records verify by
themselves, and who may write is decided where records are kept (:class:`Records`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from ptproxy.dht.contact import MAX_CONTACT, Address, Contact
from ptproxy.dht.density import NO_CAP, Seats
from ptproxy.dht.diversity import address_block
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.messages import (
    HEAD,
    Answer,
    Find,
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
from ptproxy.dht.signing import SIGNATURE, SigningKey
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
    """Not verified: to be pinged at its own address before it gets into a table."""


class Responder:
    """Answers for one node. ``contact`` is its own and may be replaced by a later one."""

    __slots__ = ("_records", "_seats", "_signer", "_table", "contact")

    def __init__(
        self,
        signer: SigningKey,
        contact: Contact,
        table: RoutingTable,
        records: Records,
        seats: Callable[[], Seats] = lambda: NO_CAP,
    ) -> None:
        self.contact = contact
        self._signer = signer
        self._table = table
        self._records = records
        self._seats = seats

    def receive_request(self, data: bytes, source: Address, now: float) -> Reply:
        """The answer to a message; :class:`DhtError` for what is no request: nothing is sent then."""
        tag, request = parse_request(data)
        room = len(data) - HEAD - SIGNATURE
        answer = self.answer(request, source, now, room)
        signed = sign_answer(self._signer, data, tag, answer)
        if len(signed) > len(data):
            raise DhtError("a request that is shorter than its answer")
        return Reply(signed, request.sender)

    def answer(self, request: Request, source: Address, now: float, room: int) -> Answer:
        """The answer itself, with as many nodes as fit ``room`` bytes."""
        asker = requester(request.sender, source)
        match request:
            case Ping():
                return Pong(self.contact)
            case Find():
                return self._nodes(request.target, self._records.token(request.target, asker, now), now, room)
            case Seek():
                token = self._records.token(request.location, asker, now)
                record = self._records.read(request.location, now)
                if record is not None:
                    return Holding(token, record)
                return self._nodes(request.location, token, now, room)
            case Store() | Leave():
                return Stored(self._keep(request, asker, now))

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

    def _nodes(self, target: NodeId, token: bytes, now: float, room: int) -> Nodes:
        count = max(0, min(K, (room - len(token) - 2) // MAX_CONTACT))
        return Nodes(token, tuple(self._table.handed_on(target, now, self._seats(), count)))


def requester(sender: Contact | None, source: Address) -> NodeId:
    """Whose account a request counts on: the node at ``source`` if it says who it is, else that network.

    A node's id counts only with the address that its contact names. So the token that
    a write needs is sent there and nowhere else: nobody writes on another's account.
    """
    if sender is not None and sender.address == source:
        return sender.id
    block = address_block(source)
    return int.from_bytes(hashlib.sha256(_ACCOUNT + block).digest(), "big")
