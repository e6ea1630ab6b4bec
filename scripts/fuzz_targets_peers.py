"""What mailboxes, guards, peers that want to meet and signed lists say."""

from __future__ import annotations

import functools
import json
from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fuzz_target import Reach, Table, cut, uncut

from ptproxy.config.link import Link
from ptproxy.dht.contact import Address
from ptproxy.dht.invite import Invite
from ptproxy.dht.signing import SigningKey
from ptproxy.errors import StateError
from ptproxy.peers import find_frames, rendezvous
from ptproxy.peers.find_bridges import KnownBridges
from ptproxy.peers.find_list import BridgeList, BridgeListError
from ptproxy.peers.find_network import KnownNetwork
from ptproxy.peers.mailbox_answers import DOWN_FRAMES, Bundle, Displaced, Done, Mail, Refusal, Refused, State
from ptproxy.peers.mailbox_answers import Hello as BoxHello
from ptproxy.peers.mailbox_conversation import BridgeConversation, ClientConversation, prove
from ptproxy.peers.mailbox_delivery import DeliveryPass, DeliveryToken, EnvelopeError, PassError, open_prekeys
from ptproxy.peers.mailbox_frames import PREFACE, FrameReader, MailboxFrameError
from ptproxy.peers.mailbox_requests import (
    FIRST_FRAMES,
    OWNER_FRAMES,
    SENDER_FRAMES,
    Close,
    Deposit,
    Fetch,
    Listen,
    Right,
    Status,
    Taken,
)

TABLE = Table("peers")
DAY = 86_400
NOW = 20_000 * DAY + 1000.0
KEY = bytes(32)
CHALLENGE = bytes(range(32))
OWNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
LINK = Link(KEY, "mailbox.example", 443, "/box", "mailbox.example", ("websocket",))
SIGNER = SigningKey(bytes(range(32)))


def _invite() -> Invite:
    return Invite.issue(SIGNER, (LINK,), 4_000_000_000, Random(1).randbytes)


def _pass(right: Right = Right.DEPOSIT) -> DeliveryPass:
    return DeliveryPass.make(Random(2).randbytes, NOW, seconds=99 * DAY, count=8, uses=1, right=right)


# ---- mailboxes -----------------------------------------------------------------------------------


def _up() -> list[bytes]:
    proof = prove(OWNER, KEY, CHALLENGE).serialize()
    deposit = Deposit(KEY, bytes(2048)).serialize() + Fetch(KEY).serialize()
    return [
        PREFACE
        + proof
        + Status().serialize()
        + Listen(3).serialize()
        + Taken((bytes(16),)).serialize()
        + Close().serialize(),
        PREFACE + deposit,
    ]


@TABLE.target("mailbox_bridge", Reach.AFTER, "bridge", MailboxFrameError, seeds=lambda: uncut(*_up()))
def mailbox_bridge(data: bytes) -> None:
    """An owner's and a sender's requests."""
    conversation = BridgeConversation(KEY, CHALLENGE)
    for part in cut(data):
        for _ in conversation.receive_data(part):
            conversation.answer(Done())


@TABLE.target(
    "mailbox_client",
    Reach.AFTER,
    "peer",
    MailboxFrameError,
    seeds=lambda: uncut(
        BoxHello(CHALLENGE).serialize()
        + State(*range(8)).serialize()
        + Mail(bytes(16), KEY, bytes(2048)).serialize(),
        BoxHello(CHALLENGE).serialize() + Refused(tuple(Refusal)[1], 9).serialize() + Displaced().serialize(),
    ),
)
def mailbox_client(data: bytes) -> None:
    """A mailbox's answers."""
    conversation = ClientConversation()
    for request in (Status(), Listen(2), Fetch(KEY)):
        conversation.ask(request)
    for part in cut(data):
        conversation.receive_data(part)


ALL_FRAMES: Any = {**FIRST_FRAMES, **OWNER_FRAMES, **SENDER_FRAMES, **DOWN_FRAMES}


@TABLE.target(
    "mailbox_frames",
    Reach.AFTER,
    "bridge, peer",
    MailboxFrameError,
    seeds=lambda: (
        [one[len(PREFACE) :] for one in _up()] + [Done().serialize(), Bundle(bytes(2048), b"").serialize()]
    ),
    longest=8192,
)
def mailbox_frames(data: bytes) -> None:
    """Every kind of frame; what is read is written the same."""
    reader = FrameReader()
    reader.receive_data(data)
    while (frame := reader.next_frame(ALL_FRAMES)) is not None:
        again = FrameReader()
        again.receive_data(frame.serialize())
        same = again.next_frame(ALL_FRAMES)
        assert same is not None
        assert same.serialize() == frame.serialize()


@TABLE.target(
    "delivery",
    Reach.AFTER,
    "bridge, peer",
    EnvelopeError,
    PassError,
    MailboxFrameError,
    seeds=lambda: [_pass().serialize(), DeliveryToken(KEY, KEY, KEY).seal(b"message", Random(1).randbytes)],
)
def delivery(data: bytes) -> None:
    """Passes and envelopes."""
    if len(data) < 60:
        found = DeliveryPass.parse(data)
        assert DeliveryPass.parse(found.serialize()) == found
        return
    for read in (DeliveryToken(KEY, KEY, KEY).open, functools.partial(open_prekeys, KEY)):
        try:
            read(data)
        except EnvelopeError:
            continue


@TABLE.target(
    "rendezvous",
    Reach.AFTER,
    "bridge",
    rendezvous.RendezvousError,
    seeds=lambda: [rendezvous.opening(KEY, rendezvous.Side.FIRST)],
)
def meet(data: bytes) -> None:
    """A peer that wants to meet another."""
    found = rendezvous.parse_opening(data)
    if found is not None:
        assert data.startswith(rendezvous.opening(*found))


# ---- finding bridges --------------------------------------------------------------------------------


@TABLE.target(
    "find_frames",
    Reach.AFTER,
    "bridge, client",
    find_frames.FindFrameError,
    seeds=lambda: uncut(
        find_frames.NetworkFrame(KEY, "ptproxy-nodes:AAAA").serialize()
        + find_frames.Letter(Address(b"\x0b\1\2\3", 4000), bytes(99)).serialize(),
        find_frames.BeaconFrame(bytes(120)).serialize(),
    ),
)
def find(data: bytes) -> None:
    """Frames between a client and a guard."""
    reader = find_frames.FrameReader()
    for part in cut(data):
        for frame in reader.receive_data(part):
            assert find_frames.FrameReader().receive_data(frame.serialize()) == [frame]


@TABLE.target(
    "find_list",
    Reach.BEFORE,
    "client",
    BridgeListError,
    seeds=lambda: [BridgeList.sign(SIGNER, 1, 4_000_000_000, (LINK,)).encode()],
)
def find_list(data: bytes) -> None:
    """A signed list of bridges, from a web site."""
    text = data.decode("latin-1")
    BridgeList.signer(text)
    BridgeList.parse(text, SIGNER.public, NOW)


@TABLE.target(
    "find_kept",
    Reach.DISK,
    "client",
    StateError,
    seeds=lambda: [
        json.dumps(KnownNetwork().to_dict()).encode(),
        b'{"sources": [{"name": "a", "links": [], "seen": 5, "order": [1, 2]}]}',
    ],
)
def find_kept(data: bytes) -> None:
    """What was kept of bridges and of the directory; what is read can be kept again."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        json.dumps(KnownNetwork.from_dict(found).to_dict())
    except StateError:
        known = KnownBridges.from_dict(found)
        known.merged()
        json.dumps(known.to_dict())
