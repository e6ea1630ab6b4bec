"""What contacts say and offer, what a person sees of it, and what a messenger has stored."""

from __future__ import annotations

from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fuzz_target import Reach, Table, cut

from ptproxy.config.link import Link
from ptproxy.dht.invite import Invite
from ptproxy.dht.signing import SigningKey
from ptproxy.e2e import Fingerprint
from ptproxy.errors import StateError
from ptproxy.peers import contact_invite, file_messages, payload
from ptproxy.peers.chat.commands import CommandError, parse_json, parse_slash, parse_text
from ptproxy.peers.chat.names import skeleton
from ptproxy.peers.chat.shown import NAME_CELLS, folded, shown_name, shown_text, width
from ptproxy.peers.contact_invite import ContactInvite
from ptproxy.peers.file_name import safe_name
from ptproxy.peers.mailbox_delivery import DeliveryPass
from ptproxy.peers.mailbox_requests import (
    Right,
)
from ptproxy.peers.messenger_contact import ContactRecord
from ptproxy.peers.messenger_events import Direction, Line, LineState
from ptproxy.peers.messenger_line import parse_line, serialize_line
from ptproxy.peers.messenger_outbox import Sealed, Waiting
from ptproxy.peers.messenger_passed_on import PassedOn, PassedOnList
from ptproxy.peers.messenger_passes import PassState
from ptproxy.peers.messenger_profile import FormerBox, OwnInvite, Profile
from ptproxy.peers.messenger_records import FindSecrets
from ptproxy.peers.store_head import Head, ListState, Named

TABLE = Table("messenger")
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


def _payload() -> bytes:
    parts = (
        payload.Hello("me", KEY, LINK),
        payload.TextLine(1, 5, "hello \u263a"),
        payload.Receipt.of(next(iter(payload.Read)), {1, 2, 9}),
        payload.Pass(_pass()),
        payload.Signal(b"signal"),
        payload.Wish(3),
        payload.BridgeInvite(_invite()),
        payload.Records(bytes(64)),
    )
    return payload.Payload(5, parts).serialize()


@TABLE.target(
    "payload",
    Reach.AFTER,
    "peer",
    payload.PayloadError,
    seeds=lambda: [_payload(), payload.Payload(5, ()).serialize()],
)
def payloads(data: bytes) -> None:
    """What a contact has sealed; what is read is written so that it is read the same."""
    found = payload.Payload.parse(data)
    assert payload.Payload.parse(found.serialize()) == found


@TABLE.target(
    "invite",
    Reach.LOCAL,
    "peer",
    contact_invite.InviteError,
    seeds=lambda: [_contact_invite().serialize().encode(), _contact_invite().qr_text().encode()],
)
def invite(data: bytes) -> None:
    """An invite that a person pastes."""
    found = ContactInvite.parse(data.decode("utf-8", "replace"))
    assert ContactInvite.parse(found.serialize()) == found


def _contact_invite() -> ContactInvite:
    rng = Random(1).randbytes
    return ContactInvite.make(Fingerprint(rng(32)), LINK, rng(32), NOW, rng, persons=3, days=7)


@TABLE.target(
    "files",
    Reach.AFTER,
    "peer",
    file_messages.FileProtocolError,
    seeds=lambda: [
        b"\0" + file_messages.Offer(bytes(16), 9, KEY, "a.txt").serialize(),
        b"\1" + file_messages.accept(5) + b"\2",
    ],
)
def files(data: bytes) -> None:
    """A file that is offered, what its receiver answers, and its name."""
    if data[:1] == b"\1":
        answers = file_messages.Answers(9)
        for part in cut(data[1:]):
            answers.receive(bytes(part))
        return
    found = file_messages.Offer.parse(data[1:])
    if found is not None:
        name = safe_name(found[0].name)
        assert name
        assert "/" not in name
        assert name not in (".", "..")
        assert len(name.encode()) <= 255


@TABLE.target(
    "shown",
    Reach.AFTER,
    "peer",
    seeds=lambda: [
        "e\u0301 \u202ehidden\u2028 \U0001f468\u200d\U0001f469".encode(),
        b"\x1b[31mred\r\n\tx",
        "\u4e2d\u6587".encode() * 30,
    ],
)
def shown(data: bytes) -> None:
    """Hostile text on a screen: nothing of it drives the terminal."""
    text = data.decode("utf-8", "replace")
    name = shown_name(text)
    assert name
    assert "\n" not in name
    assert width(name) <= NAME_CELLS
    for row in shown_text(text).split("\n"):
        assert all(sign >= " " and not "\x7f" <= sign <= "\x9f" for sign in row)
        folded(row, 10)
    skeleton(text)


@TABLE.target(
    "commands",
    Reach.LOCAL,
    "peer",
    CommandError,
    seeds=lambda: [
        b'{"do": "say", "who": "anna", "text": "hello", "id": "1"}',
        b"/verify anna 12345",
        b"anna: hello",
    ],
)
def commands(data: bytes) -> None:
    """Lines of a program, and of a person."""
    if data[:1] == b"{":
        parse_json(data)
        return
    text = data.decode("utf-8", "replace")
    try:
        parse_text(text)
    except CommandError:
        parse_slash(text, "anna")


# ---- what a messenger has stored -------------------------------------------------------------------


def _stored() -> list[bytes]:
    rng = Random(3).randbytes
    record = ContactRecord(bytes(16), "mine", "theirs", LINK, KEY)
    record.held.add(_pass(), invite=True)
    record.owed_delivered, record.owed_read = [5, 6], [1 << 61]
    profile = Profile.make("me", LINK, rng)
    profile.revoke([KEY])
    profile.former = [FormerBox(LINK, KEY, 20_000, KEY)]
    own = OwnInvite(_contact_invite(), "for Bob", 2, PassState.GRANTED, [bytes(16)])
    line = Line(7, next(iter(Direction)), next(iter(LineState)), 1.5, 2.5, "text")
    return [
        record.serialize(),
        profile.serialize(),
        own.serialize(),
        Sealed(KEY, KEY, (1, 9), bytes(2048)).serialize(),
        Waiting(3, 9, 1234, b"part").serialize(),
        serialize_line(line, 3),
        PassedOnList([PassedOn(bytes(16), 5.0, _invite())]).serialize(),
        FindSecrets(KEY).serialize(),
    ]


STORED: tuple[Any, ...] = (
    lambda data: ContactRecord.parse(bytes(16), data),
    Profile.parse,
    OwnInvite.parse,
    Sealed.parse,
    lambda data: Waiting.parse(3, data),
    lambda data: parse_line(7, data)[0],
    PassedOnList.parse,
    FindSecrets.parse,
    Head.parse,
    ListState.parse,
    Named.parse,
)


@TABLE.target(
    "stored",
    Reach.DISK,
    "peer",
    StateError,
    seeds=lambda: (
        [bytes((kind,)) + data for kind, data in enumerate(_stored())]
        + [b"\x08" + bytes(60), b"\x09" + bytes(40), b"\x0a" + bytes(40)]
    ),
)
def stored(data: bytes) -> None:
    """Rows of a messenger's store: the first byte says of which kind."""
    found = STORED[data[0] % len(STORED) if data else 0](data[1:])
    if hasattr(found, "serialize"):
        found.serialize()
