"""What a directory node answers: everything it knows, to anybody, for no more bytes than it was asked with.

A node does not decide whom to trust here: answers are signed, records verify by
themselves, and who may write is decided where records are kept (:class:`Records`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ptproxy.dht.contact import MAX_CONTACT, Address, Contact
from ptproxy.dht.density import NO_CAP, Seats
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.messages import (
    HEAD,
    Answer,
    Find,
    Holding,
    Nodes,
    Ping,
    Pong,
    Request,
    Seek,
    Store,
    Stored,
    Verdict,
    parse_request,
)
from ptproxy.dht.rpc import sign_answer
from ptproxy.dht.signing import SIGNATURE, SigningKey
from ptproxy.dht.table import K, RoutingTable
from ptproxy.errors import DhtError


class Records(Protocol):
    """Where a node keeps records."""

    def get(self, location: NodeId, now: float) -> bytes | None:
        """The record at ``location``, 2,048 bytes, if it is here and has not expired."""

    def token(self, location: NodeId, source: Address, now: float) -> bytes:
        """What a STORE for ``location`` from ``source`` must show, at most 32 bytes."""

    def put(self, request: Store, source: Address, now: float) -> Verdict:
        """Keep a record, or say why not."""


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
        match request:
            case Ping():
                return Pong(self.contact)
            case Find():
                return self._nodes(
                    request.target, self._records.token(request.target, source, now), now, room
                )
            case Seek():
                token = self._records.token(request.location, source, now)
                record = self._records.get(request.location, now)
                if record is not None:
                    return Holding(token, record)
                return self._nodes(request.location, token, now, room)
            case Store():
                return Stored(self._records.put(request, source, now))

    def _nodes(self, target: NodeId, token: bytes, now: float, room: int) -> Nodes:
        count = max(0, min(K, (room - len(token) - 2) // MAX_CONTACT))
        return Nodes(token, tuple(self._table.handed_on(target, now, self._seats(), count)))
