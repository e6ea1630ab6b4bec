"""Datagrams of the directory, records, signed lists, invites, and what a node has stored."""

from __future__ import annotations

import base64
import functools
import json
from random import Random
from typing import Any

from fuzz_target import Reach, Table, Tape, piece

from ptproxy.config.link import Link
from ptproxy.dht import messages
from ptproxy.dht import record as records
from ptproxy.dht.beacon import BeaconError, Beacons, BeaconSigners, BeaconStatement, sign_value, value_of
from ptproxy.dht.bridge_record import BridgeBucket
from ptproxy.dht.bucket import Acquaintance
from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.datagrams import Reassembly
from ptproxy.dht.datagrams import cut as cut_message
from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.epoch import epoch_of
from ptproxy.dht.first_nodes import FirstNodes
from ptproxy.dht.invite import Invite, InviteError
from ptproxy.dht.issuing import InviteList
from ptproxy.dht.node import Node
from ptproxy.dht.person_record import MailboxPointer, PrekeyBundleRecord
from ptproxy.dht.probation import NO_PROBATION
from ptproxy.dht.record import RecordError
from ptproxy.dht.record_secret import RecordSecret, RecordType
from ptproxy.dht.responder import NodeKeys, Responder
from ptproxy.dht.rpc import sign_answer
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.storage import RecordStorage, StoredRecord, Write, WriteRefusedError
from ptproxy.dht.table import RoutingTable
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DhtError, StateError
from ptproxy.peers.directory_network import (
    NodeIdentity,
    read_beacon,
    read_first_nodes,
    read_node,
    read_signer,
    write_node,
)

TABLE = Table("dht")
NOW = 1_800_000_000 // 86_400 * 86_400 + 43_200
EPOCH = epoch_of(NOW)
CHEAP = WorkTarget(bits=2, memory=8)
ISSUER = SigningKey(bytes(range(32)))
SECRET = RecordSecret(bytes(range(1, 33)))
LINK = Link(bytes(32), "bridge.example", 443, "/a", "bridge.example", ("http",), token=bytes(16))
HERE = Address(b"\x0b\0\0\1", 1)


@functools.cache
def contact(number: int) -> Contact:
    """A node whose signature verifies."""
    rng = Random(number)
    signer = SigningKey(rng.randbytes(32))
    return Contact.make(
        signer,
        rng.getrandbits(256),
        rng.randbytes(32),
        rng.randbytes(16),
        1,
        Address(bytes((11, *rng.randbytes(3))), 4000),
    )


@functools.cache
def sealed() -> bytes:
    """A record with its work done."""
    keys = SECRET.keys(RecordType.BRIDGE_BUCKET, EPOCH)
    nonce = keys.find_work(CHEAP, 0, 10_000)
    assert nonce is not None
    return keys.seal(BridgeBucket((LINK,)).serialize(), 0, ISSUER, nonce, Random(1).randbytes).serialize()


# ---- messages --------------------------------------------------------------------------------------


def _requests() -> list[bytes]:
    asked = (
        messages.Ping(contact(1)),
        messages.Find(None, 7),
        messages.Seek(None, 9),
        messages.Store(contact(2), 9, b"token", sealed()),
    )
    return [messages.serialize_request(bytes(messages.TAG), one) for one in asked]


@TABLE.target("requests", Reach.BEFORE, "directory node", DhtError, seeds=_requests)
def requests(data: bytes) -> None:
    """Requests, each in its one form."""
    tag, found = messages.parse_request(data)
    assert messages.serialize_request(tag, found, len(data)) == data


@TABLE.target(
    "answers",
    Reach.BEFORE,
    "directory node, bridge, client",
    DhtError,
    seeds=lambda: [
        messages.serialize_answer(bytes(messages.TAG), one)
        for one in (
            messages.Pong(contact(1)),
            messages.Nodes(b"token", (contact(1), contact(2))),
            messages.Holding(b"t", sealed()),
            messages.Stored(None),
        )
    ],
)
def answers(data: bytes) -> None:
    """Answers, each in its one form."""
    tag, found = messages.parse_answer(data)
    assert messages.serialize_answer(tag, found) == data


@TABLE.target(
    "contacts",
    Reach.BEFORE,
    "directory node, client",
    DhtError,
    seeds=lambda: [
        b"\0" + contact(1).serialize(),
        b"\1" + HERE.serialize(),
        b"\2" + write_node(contact(1)).encode(),
    ],
)
def contacts(data: bytes) -> None:
    """Contacts and addresses in their one form, and as a line to paste."""
    kind, data = data[:1], data[1:]
    if kind == b"\2":
        assert write_node(read_node(data.decode("latin-1")))
        return
    parsed: Any = (Address if kind == b"\1" else Contact).parse(data)
    assert parsed[0].serialize() == data[: parsed[1]]


@TABLE.target(
    "datagrams",
    Reach.BEFORE,
    "directory node, bridge",
    seeds=lambda: [
        b"".join(
            bytes((0,)) + b"\xff" + len(one).to_bytes(2, "big") + one
            for one in cut_message(_requests()[3], Random(1).randbytes)
        ),
        b"\1" + piece(b"12345678\x10data"),
    ],
)
def datagrams(data: bytes) -> None:
    """Pieces of messages from a few addresses, as time passes."""
    tape, reassembly, now = Tape(data), Reassembly(), 0.0
    while tape:
        who = tape.byte()
        now += (who >> 4) * 0.5
        try:
            message = reassembly.receive_datagram(tape.piece(), Address(bytes((11, 0, 0, who & 7)), 1), now)
        except DhtError:
            continue
        assert message is None or len(message) <= 64 * messages.LONGEST
        assert len(reassembly) <= 4096


class Place:
    """A node with neighbours, records, and requests under way."""

    def __init__(self) -> None:
        rng = Random(3)
        self.keys = NodeKeys.generate(rng.randbytes)
        self.contact = Contact.make(
            self.keys.signing, rng.getrandbits(256), self.keys.seal_key, bytes(16), 1, HERE
        )
        self.table = RoutingTable(self.contact.id, ANY_NETWORK, NO_PROBATION)
        for number in range(8):
            self.table.answered(contact(number), 0.0)
        storage = RecordStorage(rng.randbytes, CHEAP, 16)
        responder = Responder(self.keys, self.contact, self.table, storage, rng.randbytes)
        self.node = Node(self.table, lambda _contact, _now: True, rng.randbytes, responder)


@TABLE.target(
    "node",
    Reach.BEFORE,
    "directory node",
    seeds=lambda: [
        b"".join(b"\0" + piece(one) for one in _requests()),
        b"\3\2\0\0\2\0\0"
        + piece(messages.serialize_answer(bytes(messages.TAG), messages.Nodes(b"t", (contact(3),)))),
        b"\3\1\0" + piece(b"\1\1" + bytes(90)),
    ],
    longest=8192,
)
def node(data: bytes) -> None:
    """A node among others: anything comes from anywhere, answers signed by who was asked among it."""
    tape, place = Tape(data), Place()
    now = float(NOW)
    asked: list[tuple[Address, bytes]] = []
    by_address = {contact(number).address: number for number in range(8)}
    while tape:
        order = tape.byte() & 3
        try:
            if order == 0:
                place.node.receive_message(tape.piece(), contact(tape.byte() & 7).address, now)
            elif order == 1:
                now += (0.1, 3.0, 60.0, 4000.0)[tape.byte() & 3]
                place.node.on_deadline(now)
            elif order == 2 and asked:
                address, request = asked.pop()
                number = by_address.get(address, 0)
                signer = SigningKey(Random(number).randbytes(32))
                tag, _ = messages.parse_request(request)
                found = messages.parse_answer(tag[:0] + tape.piece())[1]
                place.node.receive_message(sign_answer(signer, request, tag, found), address, now)
            elif order == 3:
                place.node.look_up(tape.number() << 240, now)
        except DhtError:
            pass
        asked += [
            (address, message)
            for address, message in place.node.messages_to_send(now)
            if address in by_address
        ]
        del asked[:-16]


@TABLE.target("storage", Reach.BEFORE, "directory node", seeds=lambda: [b"\0" + sealed()])
def storage(data: bytes) -> None:
    """A record that somebody wants kept, with a token that is right."""
    kept = RecordStorage(Random(1).randbytes, CHEAP, 4)
    try:
        location = records.Record.parse(data[1:]).header.locations()[data[0] % 3]
    except (RecordError, IndexError):
        location = 7
    try:
        kept.write(Write(location, kept.token(location, 1 << 200, NOW), data[1:]), 1 << 200, NOW)
    except WriteRefusedError:
        return
    assert kept.read(location, NOW) == data[1:]


# ---- records, lists, invites ------------------------------------------------------------------------


@TABLE.target("records", Reach.BEFORE, "client, peer", RecordError, seeds=lambda: [sealed()])
def record(data: bytes) -> None:
    """A record from the directory, opened."""
    records.judge(data, 7, EPOCH)
    found = records.Record.parse(data)
    assert found.serialize() == data
    found.verify()
    SECRET.keys(RecordType.BRIDGE_BUCKET, EPOCH).open(data, ISSUER.public)


CONTENTS: tuple[Any, ...] = (BridgeBucket.parse, PrekeyBundleRecord.parse, MailboxPointer.parse)


@TABLE.target(
    "contents",
    Reach.AFTER,
    "client, peer",
    RecordError,
    seeds=lambda: [b"\0" + BridgeBucket((LINK,)).serialize(), b"\1" + bytes(185), b"\2" + bytes(120)],
)
def contents(data: bytes) -> None:
    """What records say: bridges, a bundle, a mailbox."""
    parse = CONTENTS[data[0] % 3 if data else 0]
    found = parse(data[1:])
    assert parse(found.serialize()) == found


def _list() -> bytes:
    listed = FirstNodes(
        7,
        NOW,
        NOW + 86_400,
        NOW - 10**7,
        WorkTarget(13),
        WorkTarget(8),
        BeaconSigners((bytes(32), bytes(31) + b"\1"), 2),
        (contact(1), contact(2)),
    )
    return listed.sign(ISSUER)


@TABLE.target(
    "lists",
    Reach.BEFORE,
    "client, directory node",
    DhtError,
    seeds=lambda: [b"\0" + _list(), b"\1" + _list()[:-64], b"\2ptproxy-nodes:AAAA", b"\3" + b"A" * 43],
)
def lists(data: bytes) -> None:
    """Signed lists of first nodes: as they come (0), rightly signed whatever they say (1), as text."""
    kind, data = data[:1], data[1:]
    if kind == b"\1":
        FirstNodes.parse(data + ISSUER.sign(b"ptproxy 1 dht first nodes ", data), ISSUER.public, NOW)
    elif kind == b"\2":
        read_first_nodes(data.decode("latin-1"), ISSUER.public, NOW)
    elif kind == b"\3":
        read_signer(data.decode("latin-1"))
    else:
        FirstNodes.parse(data, ISSUER.public, NOW)


SIGNERS = [SigningKey(bytes((place,)) * 32) for place in range(3)]


def _statement() -> BeaconStatement:
    value = value_of(EPOCH, b"round 1")
    return BeaconStatement(
        EPOCH, value, {place: sign_value(SIGNERS[place], EPOCH, value) for place in (0, 2)}
    )


@TABLE.target(
    "beacon",
    Reach.BEFORE,
    "client, directory node",
    DhtError,
    BeaconError,
    seeds=lambda: [_statement().serialize(), b"ptproxy-beacon:AAAA"],
)
def beacon(data: bytes) -> None:
    """A statement of the beacon's signers."""
    if data[:8] == b"ptproxy-":
        read_beacon(data.decode("latin-1"))
        return
    Beacons(BeaconSigners(tuple(key.public for key in SIGNERS), 2)).learn(data, NOW)


def _invite() -> Invite:
    return Invite.issue(ISSUER, (LINK,), NOW + 1000, Random(1).randbytes)


@TABLE.target(
    "invite",
    Reach.LOCAL,
    "client, peer",
    InviteError,
    seeds=lambda: [b"\0" + _invite().serialize().encode(), b"\1" + _invite_data()],
)
def invite(data: bytes) -> None:
    """An invite that a person pastes, as text (0) or by what is in it."""
    text = data[1:].decode("latin-1")
    if data[:1] == b"\1":
        text = PREFIX + base64.urlsafe_b64encode(data[1:]).decode().rstrip("=")
    found = Invite.parse(text)
    assert Invite.parse(found.serialize()) == found


PREFIX = _invite().serialize().partition(":")[0] + ":"


def _invite_data() -> bytes:
    body = _invite().serialize().removeprefix(PREFIX)
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


# ---- what is stored --------------------------------------------------------------------------------


@TABLE.target(
    "stored",
    Reach.DISK,
    "directory node, bridge",
    StateError,
    DhtError,
    seeds=lambda: [
        b"\0" + bytes(60) + sealed(),
        b"\1" + bytes(20) + contact(1).serialize(),
        b"\2" + bytes(80),
        b'\3{"invites": []}',
    ],
)
def stored(data: bytes) -> None:
    """A node's records, acquaintances and key; an operator's list of invites."""
    kind, data = (data[0] & 3 if data else 0), data[1:]
    if kind == 0:
        StoredRecord.parse(data)
    elif kind == 1:
        Acquaintance.parse(data)
    elif kind == 2:
        NodeIdentity.parse(data.decode("latin-1"), CHEAP)
    else:
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            return
        if isinstance(found, dict):
            InviteList.from_dict(ISSUER, found).to_dict()
