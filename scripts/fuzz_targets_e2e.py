"""What peers say to each other end to end: bundles, messages, the ratchet, streams, and what is stored."""

from __future__ import annotations

import functools
from random import Random
from typing import Any

from fuzz_target import Reach, Table, Tape, piece

from ptproxy.e2e import OwnIdentity, Suite, verify
from ptproxy.e2e.bundle import OneTimePrekey, PrekeyBundle
from ptproxy.e2e.contact import Contact
from ptproxy.e2e.content import Content
from ptproxy.e2e.correspondence import Correspondence
from ptproxy.e2e.curve import CurveKeyPair
from ptproxy.e2e.fingerprint import Fingerprint
from ptproxy.e2e.first_message import opening_key
from ptproxy.e2e.identity import Identity
from ptproxy.e2e.prekeys import Prekeys
from ptproxy.e2e.ratchet import Ratchet
from ptproxy.e2e.ratchet.header import Header
from ptproxy.e2e.replay import ReplayCache
from ptproxy.e2e.session import Session
from ptproxy.e2e.stream import (
    MeetingError,
    MeetSignal,
    OpenSignal,
    Role,
    SealedStream,
    Seed,
    StreamRuleError,
    StreamSignalError,
    TurnSecrets,
    parse_signal,
)
from ptproxy.e2e.stream.frames import Data, Eof, Gone, Reset, Window, parse_frames
from ptproxy.e2e.stream.hello import Hello
from ptproxy.e2e.stream.records import CAPACITIES
from ptproxy.e2e.succession import declare
from ptproxy.e2e.succession import verify as verify_succession
from ptproxy.errors import E2EError, Reason, StateError

TABLE = Table("e2e")
NOW = 1_800_000_000
ALL = tuple(Suite)
SUITE = Suite.X3DH
"""The quickest; the post-quantum ones differ by keys of other lengths."""


class Person:
    """A correspondence, the same for the same name."""

    def __init__(self, name: str, suite: Suite = SUITE) -> None:
        self.rng = Random(f"ptproxy fuzz {name}").randbytes
        self.mine = Correspondence.create(OwnIdentity.generate(self.rng), suite, NOW, self.rng)
        self.mailbox = self.mine.refill(98, NOW, self.rng)

    @property
    def fingerprint(self) -> Fingerprint:
        """Who it is."""
        return self.mine.owner.public.fingerprint

    def to(self, other: Person) -> Any:
        """The conversation."""
        return self.mine.add(other.fingerprint, self.rng)


@functools.cache
def met() -> tuple[Person, Person, bytes, bytes]:
    """Two who have exchanged a line, the first message, and a later one that has not been read."""
    alice, bob = Person("alice"), Person("bob")
    alice.to(bob).begin(
        verify(bob.mine.bundle(), bob.mailbox.pop(), bob.fingerprint, NOW, ALL), NOW, alice.rng
    )
    first = alice.to(bob).send(b"hello", NOW, alice.rng)
    bob.mine.receive(first, NOW, bob.rng)
    alice.mine.receive(bob.to(alice).send(b"hello yourself", NOW, bob.rng), NOW, alice.rng)
    return alice, bob, first, alice.to(bob).send(b"later", NOW, alice.rng)


@functools.cache
def saved() -> dict[str, bytes]:
    """Bob's store."""
    return dict(met()[1].mine.serialize())


# ---- messages ---------------------------------------------------------------------------------------


@TABLE.target(
    "message",
    Reach.AFTER,
    "peer",
    E2EError,
    seeds=lambda: [met()[2], met()[3], Person("carol").mine.bundle()],
    longest=8192,
)
def message(data: bytes) -> None:
    """Whatever a mailbox hands out: what is refused changes nothing."""
    bob = Correspondence.parse(saved())
    try:
        opening_key(data)
    except E2EError:
        pass
    try:
        bob.receive(data, NOW, Random(1).randbytes)
    except E2EError:
        assert dict(bob.serialize()) == saved(), "a message that was refused has changed something"
        raise


@functools.cache
def _ratchets() -> tuple[bytes, bytes]:
    rng = Random(1).randbytes
    key = CurveKeyPair.generate(rng)
    alice = Ratchet.initiate(bytes(32), b"ad", key.public, NOW, rng)
    bob = Ratchet.respond(bytes(32), b"ad", key, NOW)
    sent = alice.encrypt(b"up", NOW, rng)
    return bob.serialize(), sent


@TABLE.target("ratchet", Reach.AFTER, "peer", E2EError, seeds=lambda: [_ratchets()[1]], longest=8192)
def ratchet(data: bytes) -> None:
    """A message of the ratchet's: what is refused changes nothing."""
    bob = Ratchet.parse(_ratchets()[0])
    try:
        bob.decrypt(data, NOW)
    except E2EError:
        assert bob.serialize() == _ratchets()[0]
        raise


@TABLE.target(
    "headers", Reach.AFTER, "peer", E2EError, seeds=lambda: [bytes(45), bytes(1229), bytes(44) + b"\1"]
)
def headers(data: bytes) -> None:
    """A ratchet's header, once it is decrypted, and what a message holds."""
    Content.parse(data)
    if len(data) not in (45, 1229):
        return  # the sizes that a header is decrypted from
    found = Header.parse(data)
    assert Header.parse(found.serialize()) == found


@TABLE.target(
    "bundle",
    Reach.BEFORE,
    "peer",
    E2EError,
    seeds=lambda: [
        piece(bob.mine.bundle()) + bob.mailbox[0] for bob in (Person("bob"), Person("eve", Suite.PQXDH_768))
    ],
)
def bundle(data: bytes) -> None:
    """A bundle and a one-time prekey from a mailbox."""
    tape = Tape(data)
    said, one_time = tape.piece(), tape.rest()
    try:
        verify(said, one_time or None, Fingerprint(bytes(32)), NOW, ALL)
    except E2EError:
        PrekeyBundle.parse(said)
        OneTimePrekey.parse(one_time)


@TABLE.target(
    "identity",
    Reach.LOCAL,
    "peer",
    E2EError,
    seeds=lambda: [
        b"\0" + Person("bob").mine.owner.public.serialize(),
        b"\1" + Fingerprint(bytes(32)).qr_text().encode(),
        b"\2" + declare(Person("bob").mine.owner, Person("eve").mine.owner, NOW),
    ],
)
def identity(data: bytes) -> None:
    """An identity, a fingerprint as a QR code, a succession."""
    if data[:1] == b"\1":
        found = Fingerprint.parse_qr(data[1:].decode("latin-1"))
        assert Fingerprint.parse_qr(found.qr_text()) == found
    elif data[:1] == b"\2":
        verify_succession(data[1:], Person("bob").fingerprint, NOW)
    else:
        assert Identity.parse(data[1:]).serialize() == data[1:]


# ---- streams ----------------------------------------------------------------------------------------

SEED = Seed(bytes(range(16)), bytes(range(32)))


@TABLE.target(
    "signals",
    Reach.AFTER,
    "peer",
    StreamSignalError,
    seeds=lambda: [
        OpenSignal(bytes(16), bytes(32), b"file").serialize(),
        MeetSignal(bytes(16), 3).serialize(),
        b"\1\3" + bytes(17),
        b"\1\4" + bytes(16),
    ],
)
def signals(data: bytes) -> None:
    """Signals about streams."""
    found = parse_signal(data)
    assert parse_signal(found.serialize()) == found


FRAMES = (
    Data.header(0, 3) + b"abc",
    Eof(3).serialize(),
    Window(0, 65_536).serialize(),
    Reset(Reason.GENERAL).serialize(),
    Gone().serialize(),
)


@TABLE.target(
    "stream_frames", Reach.AFTER, "peer", StreamRuleError, seeds=lambda: [*FRAMES, b"".join(FRAMES[:3])]
)
def stream_frames(data: bytes) -> None:
    """The frames of a record."""
    parse_frames(data)


@functools.cache
def _secrets() -> tuple[TurnSecrets, TurnSecrets]:
    alice, bob, _, _ = met()
    return TurnSecrets.of(alice.to(bob).session, SEED.stream), TurnSecrets.of(
        bob.to(alice).session, SEED.stream
    )


class Peer:
    """A stream's other side, whose records are sealed rightly and say what the tape has."""

    def __init__(self) -> None:
        rng = Random(5).randbytes
        ours, theirs = _secrets()
        self.stream = SealedStream(SEED, Role.ACCEPTOR)
        self.other = SealedStream(SEED, Role.OPENER)
        self.stream.begin_meeting(lambda: theirs, float(NOW), rng)
        self.other.begin_meeting(lambda: ours, float(NOW), rng)

    def said(self, stream: SealedStream, now: float) -> bytes:
        """All that a side has to say."""
        out = b""
        while batch := stream.data_to_send(now):
            out += b"".join(map(bytes, batch))
        return out

    def meet(self) -> None:
        """Both hellos."""
        self.stream.receive_data(self.said(self.other, NOW), NOW)
        self.other.receive_data(self.said(self.stream, NOW), NOW)


@TABLE.target(
    "stream",
    Reach.AFTER,
    "peer",
    seeds=lambda: [
        b"\1\2" + piece(b"".join(FRAMES[:2])) + b"\3\2" + piece(FRAMES[2]) + b"\4",
        b"\0" + piece(bytes(300)),
        b"\1\1" + piece(bytes(70)) + b"\2" + piece(b"\5" + bytes(48)),
    ],
)
def stream(data: bytes) -> None:
    """A stream whose peer says anything, in records that verify among it."""
    tape, peer = Tape(data), Peer()
    now = float(NOW)
    if tape.byte() & 1:
        peer.meet()
    while tape and peer.stream.meeting is not None:
        order = tape.byte() % 5
        events: list[Any] = []
        if order == 1:
            events = peer.stream.receive_data(tape.piece(), now)
        elif order == 2 and peer.other.meeting is not None and peer.other.meeting.established:
            said = tape.piece()[: CAPACITIES[0]]
            events = peer.stream.receive_data(peer.other.meeting.seal([said], len(said), 0), now)
        elif order == 3:
            now += 30.0
        elif order == 4:
            peer.stream.receive_data(peer.said(peer.other, now), now)
        peer.said(peer.stream, now)
        if any(type(event).__name__.endswith("Failed") for event in events):
            return


@TABLE.target("hello", Reach.AFTER, "peer", MeetingError, seeds=lambda: [bytes(256)])
def hello(data: bytes) -> None:
    """A meeting's first bytes."""
    if len(data) >= 12 + 16:
        Hello.open(data, bytes(32))


# ---- what is stored ---------------------------------------------------------------------------------


STORED: tuple[Any, ...] = (
    Contact.parse,
    Session.parse,
    Ratchet.parse,
    Prekeys.parse,
    OwnIdentity.parse,
    ReplayCache.parse,
)


def _stored() -> list[bytes]:
    bob = met()[1]
    alice = met()[0]
    conversation = bob.to(alice)
    kept = [
        conversation.contact.serialize(),
        conversation.session.serialize(),
        _ratchets()[0],
        bob.mine.prekeys.serialize(),
        bob.mine.owner.serialize(),
        ReplayCache().serialize(),
    ]
    return [bytes((kind,)) + data for kind, data in enumerate(kept)]


@TABLE.target("stored", Reach.DISK, "peer", StateError, seeds=_stored, longest=16384)
def stored(data: bytes) -> None:
    """Pieces of the store: the first byte says of which kind; a sound one is written the same."""
    parse = STORED[data[0] % len(STORED) if data else 0]
    found = parse(data[1:])
    assert parse(found.serialize()).serialize() == found.serialize()


@TABLE.target(
    "store",
    Reach.DISK,
    "peer",
    StateError,
    seeds=lambda: [b"".join(piece(name.encode()) + piece(value) for name, value in saved().items())],
    longest=16384,
)
def store(data: bytes) -> None:
    """A whole store."""
    tape = Tape(data)
    pieces: dict[str, bytes] = {}
    while tape:
        name = tape.piece().decode("latin-1")
        pieces[name] = tape.piece()
    Correspondence.parse(pieces)
