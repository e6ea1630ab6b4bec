"""Openings, what stands in them, sealed records, tokens and what was stored of people."""

from __future__ import annotations

import functools
import json
from random import Random
from typing import Any

from fuzz_target import Reach, Table, cut, uncut

from ptproxy.auth import (
    Answer,
    Binding,
    BridgeOpening,
    ClientOpening,
    Hello,
    ReplayFilter,
    StaticKey,
    Verdict,
    access_record,
    noise,
)
from ptproxy.auth.credentials import Token, decode_key, encode_key
from ptproxy.auth.mask import mask_of
from ptproxy.auth.payload import prologue
from ptproxy.auth.seal import Opener, Sealer
from ptproxy.auth.signed import SignedDocument, Signer, verify
from ptproxy.auth.verification import BridgeVerification, ClientVerification
from ptproxy.config.link import Front, Link
from ptproxy.errors import AuthenticationError, ConfigError, LocalProtocolError

TABLE = Table("auth")
NOW = 1_800_000_000
BRIDGE = StaticKey(bytes(range(32)))
CLIENT = StaticKey(bytes(range(1, 33)))
BINDING = Binding.certificate(bytes(32))
HELLO = Hello(b"", 3, (1, 2), NOW, bytes(16), 2)
ANSWER = Answer(bytes(range(16)), Verdict.NEW, NOW, bytes(32))
PROLOGUE = prologue("websocket", False, BINDING)


def client_opening() -> ClientOpening:
    """The same one each time."""
    return ClientOpening(BRIDGE.public, CLIENT, "websocket", False, BINDING, HELLO, Random(1))


def bridge_opening() -> BridgeOpening:
    """A bridge's, that has seen nothing."""
    return BridgeOpening(BRIDGE, "websocket", False, [BINDING], ReplayFilter(NOW - 3600))


def _message1(payload: bytes) -> bytes:
    """An opening with any payload, as who knows the bridge's key can make."""
    handshake = noise.Initiator(noise.IK, PROLOGUE, CLIENT, BRIDGE.public)
    mask, nonce = mask_of(BRIDGE.public), bytes(16)
    nonce = client_opening().message1[: len(nonce)]
    masked = mask.up(nonce).update(handshake.write_message(payload, Random(2)))
    return nonce + mask.mac(nonce + masked) + masked


@TABLE.target(
    "opening_bridge",
    Reach.BEFORE,
    "bridge",
    AuthenticationError,
    seeds=lambda: [
        b"\0" + client_opening().message1,
        b"\1" + HELLO.serialize(),
        b"\1" + HELLO.serialize() + bytes(99),
    ],
)
def opening_bridge(data: bytes) -> None:
    """Message 1: of a stranger, or (1) what a client with a key says inside; then CONFIRM."""
    opening = bridge_opening()
    message = _message1(data[1:]) if data[:1] == b"\1" else data[1:]
    found = opening.examine(message, NOW)
    opening.answer(ANSWER, Random(3))
    assert found.hello == Hello.parse(found.hello.serialize())
    opening.receive_confirm(data)


@TABLE.target("opening_client", Reach.BEFORE, "client", AuthenticationError, seeds=lambda: uncut(_answered()))
def opening_client(data: bytes) -> None:
    """Message 2 of whoever answers."""
    opening = client_opening()
    for part in cut(data):
        if opening.receive_data(part) is not None:
            opening.confirm()
            return


@functools.cache
def _answered() -> bytes:
    bridge = bridge_opening()
    bridge.examine(client_opening().message1, NOW)
    return bridge.answer(ANSWER, Random(3))


@TABLE.target(
    "hello",
    Reach.BEFORE,
    "bridge",
    AuthenticationError,
    seeds=lambda: [HELLO.serialize(), Hello(bytes(16), 2**32 - 1, (), 0).serialize()],
)
def hello(data: bytes) -> None:
    """What a client says in message 1."""
    found = Hello.parse(data)
    assert Hello.parse(found.serialize()) == found


@TABLE.target("answer", Reach.AFTER, "client", AuthenticationError, seeds=lambda: [ANSWER.serialize()])
def answer(data: bytes) -> None:
    """What a bridge says in message 2."""
    found = Answer.parse(data)
    assert Answer.parse(found.serialize()) == found


DOCUMENT = SignedDocument("shape", 7, NOW - 9, NOW + 86_400, b'{"shape": null}')


@TABLE.target(
    "signed",
    Reach.AFTER,
    "client",
    AuthenticationError,
    seeds=lambda: [DOCUMENT.serialize(), Signer(BRIDGE).sign(DOCUMENT)],
)
def signed(data: bytes) -> None:
    """A document that a bridge pushes, and one that says it were one."""
    try:
        found = SignedDocument.parse(data)
        assert SignedDocument.parse(found.serialize()) == found
    except LocalProtocolError:
        pass  # longer than it may be said, which verify() looks at first
    verify(data, "shape", Signer(BRIDGE).public, BRIDGE.public, NOW)


@TABLE.target(
    "seal",
    Reach.BEFORE,
    "bridge, client",
    AuthenticationError,
    seeds=lambda: uncut(b"".join(Sealer(bytes(32)).seal([b"payload", bytes(300)]))),
)
def seal(data: bytes) -> None:
    """Sealed records."""
    opener = Opener(bytes(32))
    for part in cut(data):
        opener.receive_data(part)


@TABLE.target(
    "verification",
    Reach.AFTER,
    "bridge, client",
    AuthenticationError,
    seeds=lambda: [b"\0" + _proof(), b"\1" + _challenge()],
)
def verification(data: bytes) -> None:
    """A proof, or a challenge (1)."""
    if data[:1] == b"\1":
        ClientVerification(CLIENT, BRIDGE.public, bytes(32), Random(1)).prove(data[1:])
        return
    bridge = BridgeVerification(BRIDGE, CLIENT.public, bytes(32), Random(1))
    bridge.challenge()
    bridge.check(data[1:])


@functools.cache
def _challenge() -> bytes:
    return BridgeVerification(BRIDGE, CLIENT.public, bytes(32), Random(1)).challenge()


def _proof() -> bytes:
    return ClientVerification(CLIENT, BRIDGE.public, bytes(32), Random(2)).prove(_challenge())


@TABLE.target(
    "credentials",
    Reach.LOCAL,
    "bridge, client",
    ValueError,
    seeds=lambda: [
        encode_key(bytes(32)).encode(),
        b"AAAAAAAAAAAAAAAAAAAAAA",
        StaticKey(bytes(32)).serialize_private().encode(),
    ],
)
def credentials(data: bytes) -> None:
    """Keys and tokens that somebody typed."""
    text = data.decode("latin-1")
    for read in (Token.parse, StaticKey.parse_private, decode_key):
        try:
            read(text)
        except ValueError as error:
            said = str(error)
            if len(text) >= 8 and text in said:
                raise AssertionError("an error that repeats what may be a secret") from None


@TABLE.target("access", Reach.DISK, "bridge", ConfigError, seeds=lambda: [json.dumps(_people()).encode()])
def access(data: bytes) -> None:
    """The list of people; what is read can be written again."""
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict):
        access_record.serialize(*access_record.parse(found))


def _people() -> Any:
    invite = access_record.Invite(Token(bytes(16)).id, "anna", 3, NOW + 9, 86_400, (8080,))
    person = access_record.Identity(CLIENT.public, "bob", NOW, None, True, invite.id, (22,))
    return access_record.serialize([person], [invite])


LINK = Link(
    bytes(range(32)),
    "example.org",
    443,
    "/a",
    "example.org",
    ("websocket", "http"),
    token=bytes(16),
    pin=bytes(32),
)


@TABLE.target(
    "link",
    Reach.LOCAL,
    "client",
    ValueError,
    seeds=lambda: [LINK.serialize().encode(), LINK.serialize().replace("443", "8443").encode() + b"&x=y"],
)
def link(data: bytes) -> None:
    """A bridge's link that somebody was given; what is read is written so that it is read the same."""
    found = Link.parse(data.decode("utf-8", "replace"))
    assert Link.parse(found.serialize()) == found


@TABLE.target(
    "front",
    Reach.LOCAL,
    "client",
    ValueError,
    seeds=lambda: [b"front.example", b"[2001:db8::1]:8443/name", b"192.0.2.1:443"],
)
def front(data: bytes) -> None:
    """A way to a bridge, as in a link or a configuration."""
    Front.parse(data.decode("utf-8", "replace"))
