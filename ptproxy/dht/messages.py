"""What nodes and clients say to each other: six requests and their answers.

::

    request = version u8 = 1 │ kind u8 │ tag 16 │ sender │ fields │ zeros
    sender  = 00  (a client: never in a table)     or     01 │ contact  (a directory node)
    answer  = version u8 = 1 │ kind u8 │ tag 16 │ fields │ signature 64

    1 PING                                         129 PONG     contact
    2 FIND   target 32                             130 NODES    token │ count u8 │ contacts
    3 SEEK   location 32                           130 NODES, or 131 HOLDING   token │ record 2048
    4 STORE  location 32 │ token │ record 2048     132 STORED   verdict u8: 0, or a number of ``Refusal``
    5 LEAVE  location 32 │ token │ record 2048     132 STORED   (a copy, on the way to the location)
    6 GET    location 32                           130 NODES, or 133 FOUND   record 2048

    token   = length u8 (0 to 32) │ bytes: what the node wants to see in a STORE

``signature`` is the asked node's, label "ptproxy 1 dht answer ", of SHA-256(request) │
answer without its signature: it belongs to this request and to no other. FOUND has none: it is
for whom one record is enough, and the record proves itself. The tag, that only the node asked
and those on the way know, is all that keeps others from giving another record of that place.

**An answer is never longer than its request**: whoever forges the sender's address
gets nothing for it. A request is padded with zeros for the longest answer it wants
(:data:`LONGEST`); of a shorter one the answer names fewer nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from ptproxy.dht.contact import MAX_CONTACT, Contact
from ptproxy.dht.identifier import ID_BITS, ID_BYTES, NodeId
from ptproxy.dht.record import RECORD
from ptproxy.dht.signing import SIGNATURE
from ptproxy.dht.storage import Refusal
from ptproxy.dht.table import K
from ptproxy.errors import DhtError, LocalProtocolError

VERSION: Final = 1
TAG: Final = 16
"""Random bytes that an answer repeats."""
TOKEN: Final = 32
"""Bytes of a write token at most."""
HEAD: Final = 2 + TAG
LONGEST: Final = HEAD + 1 + TOKEN + 1 + K * MAX_CONTACT + SIGNATURE
"""Bytes of the longest message: NODES with 20 IPv6 contacts, 4,176. What requests are padded to."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there, and who are you now?"""

    KIND: ClassVar[int] = 1
    sender: Contact | None


@dataclass(frozen=True, slots=True)
class Find:
    """Who is closest to ``target``?"""

    KIND: ClassVar[int] = 2
    sender: Contact | None
    target: NodeId


@dataclass(frozen=True, slots=True)
class Seek:
    """The record at ``location``, or who is closest to it?"""

    KIND: ClassVar[int] = 3
    sender: Contact | None
    location: NodeId


@dataclass(frozen=True, slots=True)
class Store:
    """Keep this record. ``token`` came with a NODES or HOLDING of the same node."""

    KIND: ClassVar[int] = 4
    sender: Contact | None
    location: NodeId
    token: bytes
    record: bytes


@dataclass(frozen=True, slots=True)
class Leave:
    """Keep a copy of this record for a while, though others are closer to its location."""

    KIND: ClassVar[int] = 5
    sender: Contact | None
    location: NodeId
    token: bytes
    record: bytes


@dataclass(frozen=True, slots=True)
class Get:
    """Any record at ``location``, or who is closest to it?"""

    KIND: ClassVar[int] = 6
    sender: Contact | None
    location: NodeId


@dataclass(frozen=True, slots=True)
class Pong:
    """What the node says of itself now."""

    KIND: ClassVar[int] = 129
    contact: Contact


@dataclass(frozen=True, slots=True)
class Nodes:
    """The closest that the node knows and would hand on."""

    KIND: ClassVar[int] = 130
    token: bytes
    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """The record."""

    KIND: ClassVar[int] = 131
    token: bytes
    record: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of it: None if it is kept."""

    KIND: ClassVar[int] = 132
    refusal: Refusal | None


@dataclass(frozen=True, slots=True)
class Found:
    """The record alone, and not signed."""

    KIND: ClassVar[int] = 133
    record: bytes


Request: TypeAlias = Ping | Find | Seek | Store | Leave | Get
Answer: TypeAlias = Pong | Nodes | Holding | Stored | Found


def serialize_request(tag: bytes, request: Request, size: int = 0) -> bytes:
    """The bytes of a request, padded to ``size``."""
    sender = b"\0" if request.sender is None else b"\1" + request.sender.serialize()
    match request:
        case Ping():
            fields = b""
        case Find():
            fields = _place(request.target)
        case Seek() | Get():
            fields = _place(request.location)
        case Store() | Leave():
            fields = _place(request.location) + _token(request.token) + _record(request.record)
    return (_head(request.KIND, tag) + sender + fields).ljust(size, b"\0")


def parse_request(data: bytes) -> tuple[bytes, Request]:
    """The tag and the request; :class:`DhtError` for anything else."""
    kind, tag, at = _parse_head(data)
    sender, at = _parse_sender(data, at)
    request: Request
    if kind == Ping.KIND:
        request = Ping(sender)
    elif kind == Find.KIND:
        target, at = _parse_place(data, at)
        request = Find(sender, target)
    elif kind in (Seek.KIND, Get.KIND):
        location, at = _parse_place(data, at)
        request = (Seek if kind == Seek.KIND else Get)(sender, location)
    elif kind in (Store.KIND, Leave.KIND):
        location, at = _parse_place(data, at)
        token, at = _parse_token(data, at)
        record, at = _take(data, at, RECORD)
        request = (Store if kind == Store.KIND else Leave)(sender, location, token, record)
    else:
        raise DhtError("a request of an unknown kind")
    if data.count(0, at) != len(data) - at:
        raise DhtError("a request with something behind it")
    return tag, request


def serialize_answer(tag: bytes, answer: Answer) -> bytes:
    """The bytes of an answer without its signature; a FOUND has none."""
    match answer:
        case Pong():
            fields = answer.contact.serialize()
        case Nodes():
            if len(answer.contacts) > K:
                raise LocalProtocolError(f"an answer names {K} nodes at most")
            named = b"".join(contact.serialize() for contact in answer.contacts)
            fields = _token(answer.token) + bytes((len(answer.contacts),)) + named
        case Holding():
            fields = _token(answer.token) + _record(answer.record)
        case Stored():
            fields = bytes((answer.refusal or 0,))
        case Found():
            fields = _record(answer.record)
    return _head(answer.KIND, tag) + fields


def parse_answer(data: bytes) -> tuple[bytes, Answer]:
    """The tag and the answer, from its bytes without their signature; :class:`DhtError` for anything else."""
    kind, tag, at = _parse_head(data)
    answer: Answer
    if kind == Pong.KIND:
        contact, at = Contact.parse(data, at)
        answer = Pong(contact)
    elif kind == Nodes.KIND:
        token, at = _parse_token(data, at)
        contacts, at = _parse_contacts(data, at)
        answer = Nodes(token, contacts)
    elif kind == Holding.KIND:
        token, at = _parse_token(data, at)
        record, at = _take(data, at, RECORD)
        answer = Holding(token, record)
    elif kind == Stored.KIND:
        verdict, at = _take(data, at, 1)
        answer = Stored(_parse_refusal(verdict[0]))
    elif kind == Found.KIND:
        record, at = _take(data, at, RECORD)
        answer = Found(record)
    else:
        raise DhtError("an answer of an unknown kind")
    if at != len(data):
        raise DhtError("an answer with something behind it")
    return tag, answer


def tag_of(data: bytes) -> bytes:
    """The tag of a message; shorter than :data:`TAG` for what is none."""
    return data[2:HEAD]


def is_signed(answer: bytes) -> bool:
    """Whether a signature belongs to an answer, by its second byte."""
    return answer[1:2] != bytes((Found.KIND,))


def _head(kind: int, tag: bytes) -> bytes:
    if len(tag) != TAG:
        raise LocalProtocolError(f"a tag has {TAG} bytes")
    return bytes((VERSION, kind)) + tag


def _place(place: NodeId) -> bytes:
    if not 0 <= place < 1 << ID_BITS:
        raise LocalProtocolError("a place outside of the space of ids")
    return place.to_bytes(ID_BYTES, "big")


def _token(token: bytes) -> bytes:
    if len(token) > TOKEN:
        raise LocalProtocolError(f"a token has {TOKEN} bytes at most")
    return bytes((len(token),)) + token


def _record(record: bytes) -> bytes:
    if len(record) != RECORD:
        raise LocalProtocolError(f"a record has {RECORD} bytes")
    return record


def _take(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    end = at + size
    if end > len(data):
        raise DhtError("a message that is cut short")
    return data[at:end], end


def _parse_head(data: bytes) -> tuple[int, bytes, int]:
    if not HEAD <= len(data) <= LONGEST or data[0] != VERSION:
        raise DhtError("a message of another version, or of an impossible length")
    return data[1], data[2:HEAD], HEAD


def _parse_sender(data: bytes, at: int) -> tuple[Contact | None, int]:
    mark, at = _take(data, at, 1)
    if mark == b"\0":
        return None, at
    if mark != b"\1":
        raise DhtError("a request of neither a client nor a node")
    return Contact.parse(data, at)


def _parse_place(data: bytes, at: int) -> tuple[NodeId, int]:
    place, at = _take(data, at, ID_BYTES)
    return int.from_bytes(place, "big"), at


def _parse_refusal(verdict: int) -> Refusal | None:
    if not verdict:
        return None
    try:
        return Refusal(verdict)
    except ValueError:
        raise DhtError("an answer with an unknown verdict") from None


def _parse_token(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _take(data, at, 1)
    if length[0] > TOKEN:
        raise DhtError("a token that is too long")
    return _take(data, at, length[0])


def _parse_contacts(data: bytes, at: int) -> tuple[tuple[Contact, ...], int]:
    count, at = _take(data, at, 1)
    if count[0] > K:
        raise DhtError("an answer that names too many nodes")
    contacts = []
    for _ in range(count[0]):
        contact, at = Contact.parse(data, at)
        contacts.append(contact)
    return tuple(contacts), at
