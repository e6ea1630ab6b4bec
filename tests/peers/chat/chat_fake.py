"""A messenger in memory: contacts that a test makes, lines that it lets come, the real one's events."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from pathlib import Path

from ptproxy.config.link import Link
from ptproxy.dht.invite import Invite
from ptproxy.e2e import Fingerprint, Standing
from ptproxy.errors import DialError, E2EError, Reason
from ptproxy.peers.file_transfer import ABANDONED
from ptproxy.peers.messenger_events import (
    BridgesPassedOn,
    ContactAdded,
    ContactChanged,
    ContactRemoved,
    Direction,
    Line,
    LineDelivered,
    LineDeposited,
    LineRead,
    LineReceived,
    LineState,
    StandingChanged,
    Trouble,
)
from ptproxy.peers.messenger_passed_on import PassedOn

NOON = 1_795_435_200.0
"""A time of day that every picture shows: 2026-11-23, 12:00 UTC."""


TOKEN = bytes(range(16))
"""What is secret in a link."""


def fingerprint_of(name: str) -> Fingerprint:
    return Fingerprint(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())


def link_at(host: str) -> Link:
    """Of a bridge that lets nobody in without this token."""
    return Link(hashlib.sha256(host.encode()).digest(), host, 443, "/front", host, ("raw",), token=TOKEN)


def leave_partial_files(folder: Path) -> tuple[Path, Path]:
    """What came of two files: of one that nobody goes on with, and of another one."""
    old, fresh = (folder / f".{name}.ptproxy.part" for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"some of it")
    os.utime(old, (1, time.time() - ABANDONED - 60))
    return old, fresh


class FakePeer:
    def __init__(self, messenger: FakeMessenger, name: str) -> None:
        self.messenger = messenger
        self.said_name = name
        self.given_name = ""
        self.fingerprint = fingerprint_of(name)
        self.id = self.fingerprint.data[:16]
        self.standing = Standing.UNVERIFIED
        self.candidate: Fingerprint | None = None
        self.vouched = False
        self.stranger = False
        self.trouble = Trouble.NONE
        self.lines: list[Line] = []
        self.read_to = 0
        self.passed_on: list[Invite] = []
        self.presence: list[tuple[object, float]] = []

    @property
    def name(self) -> str:
        return self.given_name or self.said_name

    @property
    def safety_number(self) -> Fingerprint:
        return Fingerprint.of_pair(self.messenger.fingerprint, self.fingerprint)

    @property
    def unread(self) -> int:
        return sum(
            line.direction is Direction.THEIRS and line.state is LineState.DELIVERED for line in self.lines
        )

    async def rename(self, name: str) -> None:
        self.given_name = name
        self.messenger.tell(ContactChanged(self.id))

    async def compare(self, text: str) -> bool:
        if not (self.fingerprint.matches(text) or self.safety_number.matches(text)):
            return False
        self.standing = Standing.VERIFIED
        self.messenger.tell(StandingChanged(self.id, self.standing))
        return True

    async def accept(self, fingerprint: Fingerprint) -> None:
        if self.candidate != fingerprint:
            raise E2EError("contact: this is not the identity that was seen")
        self.fingerprint, self.candidate, self.standing = fingerprint, None, Standing.UNVERIFIED
        self.messenger.tell(StandingChanged(self.id, self.standing))

    async def keep(self) -> None:
        self.candidate, self.standing = None, Standing.UNVERIFIED
        self.messenger.tell(StandingChanged(self.id, self.standing))

    async def welcome(self) -> None:
        self.stranger = False
        self.messenger.tell(ContactChanged(self.id))

    async def remove(self) -> None:
        del self.messenger.peers[self.id]
        self.messenger.tell(ContactRemoved(self.id))

    async def send(self, text: str) -> int:
        if self.standing is Standing.CHANGED:
            raise E2EError("conversation: the peer's identity has changed; the person has to decide")
        return self._append(Direction.OURS, LineState.WAITING, text).number

    async def history(self, before: int | None = None, limit: int = 100) -> list[Line]:
        older = [line for line in self.lines if before is None or line.number < before]
        return older[::-1][:limit]

    async def mark_read(self, number: int) -> None:
        for line in self.lines:
            if line.direction is Direction.THEIRS and line.number <= number:
                self._to(line.number, LineState.READ)

    async def pass_on(self, invite: Invite) -> None:
        self.passed_on.append(invite)

    async def tell_presence(self, presence: object, seconds: float) -> None:
        self.presence.append((presence, seconds))

    # ---- what the test does in the contact's place

    def passes_on(self, invite: Invite) -> None:
        self.messenger.bridges.entries.append(PassedOn(self.id, NOON, invite))
        self.messenger.tell(BridgesPassedOn(self.id, invite.id))

    def writes(self, text: str, *, told: bool = True) -> Line:
        line = self._append(Direction.THEIRS, LineState.DELIVERED, text)
        if told:
            self.messenger.tell(LineReceived(self.id, line, self.standing))
        return line

    def has(self, number: int, state: LineState) -> None:
        """A line of ours has come so far."""
        self._to(number, state)
        kind = {
            LineState.DEPOSITED: LineDeposited,
            LineState.DELIVERED: LineDelivered,
            LineState.READ: LineRead,
        }[state]
        self.messenger.tell(kind(self.id, number))

    def changes_identity(self, *, vouched: bool = False) -> Fingerprint:
        self.candidate = fingerprint_of(self.said_name + " again")
        self.standing, self.vouched = Standing.CHANGED, vouched
        self.messenger.tell(StandingChanged(self.id, self.standing, self.candidate, vouched))
        return self.candidate

    def _append(self, direction: Direction, state: LineState, text: str) -> Line:
        when = NOON + 60 * len(self.lines)
        line = Line(len(self.lines) + 1, direction, state, when, when, text)
        self.lines.append(line)
        return line

    def _to(self, number: int, state: LineState) -> None:
        line = self.lines[number - 1]
        self.lines[number - 1] = Line(
            line.number, line.direction, state, line.written, line.arrived, line.text
        )


class FakeInvite:
    id = bytes(range(16))
    label = ""
    left = 1
    expires = 20_786
    ready = True

    class invite:
        @staticmethod
        def serialize() -> str:
            return "ptproxy-contact:" + "abcdefghij" * 30

        @staticmethod
        def qr_text() -> str:
            return "PTPROXY:CONTACT:" + "ABCDEFGHIJ" * 30


class FakeStreams:
    """Takes what is offered, opens nothing."""

    def __init__(self) -> None:
        self.purposes: dict[bytes, object] = {}

    def offer(self, purpose: bytes, incoming: object) -> None:
        self.purposes[purpose] = incoming

    async def open_stream(self, contact: bytes, purpose: bytes, protocol: object) -> None:
        raise DialError(Reason.TIMED_OUT, "the contact is not there")


class FakeBridges:
    """Invites to bridges that contacts have passed on."""

    def __init__(self) -> None:
        self.entries: list[PassedOn] = []

    def known(self) -> list[PassedOn]:
        return list(self.entries)

    async def take(self, number: bytes) -> None:
        for each in self.entries:
            each.taken |= each.invite.id == number

    async def drop(self, number: bytes) -> None:
        self.entries = [each for each in self.entries if each.invite.id != number]


class FakeMessenger:
    name = "Me"
    trouble = Trouble.NONE

    def __init__(self, *names: str) -> None:
        self.receipts = True
        self.mailbox = link_at("mailbox.example")
        self.former_mailboxes: list[Link] = []
        self.successor: Fingerprint | None = None
        self.waiting: list[bytes] = []
        """Contacts that have not been told of the successor."""
        self.fingerprint = fingerprint_of("me")
        self.peers: dict[bytes, FakePeer] = {}
        self.on_event = lambda event: None
        self.open_invites: list[FakeInvite] = []
        self.running = False
        self.streams = FakeStreams()
        self.bridges = FakeBridges()
        for name in names:
            self.meets(name)

    def tell(self, event: object) -> None:
        self.on_event(event)

    def meets(self, name: str, *, stranger: bool = False) -> FakePeer:
        peer = FakePeer(self, name)
        peer.stranger = stranger
        self.peers[peer.id] = peer
        self.tell(ContactAdded(peer.id, stranger=stranger))
        return peer

    def contacts(self) -> list[FakePeer]:
        return list(self.peers.values())

    def contact(self, contact: bytes) -> FakePeer:
        return self.peers[contact]

    async def run(self) -> None:
        self.running = True
        await asyncio.Event().wait()

    async def settled(self) -> None:
        pass

    async def rename(self, name: str) -> None:
        self.name = name

    async def move(self, mailbox: Link) -> None:
        self.former_mailboxes.append(self.mailbox)
        self.mailbox = mailbox

    async def tell_read(self) -> None:
        self.receipts = True

    async def keep_read_to_myself(self) -> None:
        self.receipts = False

    async def announce_successor(self) -> Fingerprint:
        self.successor = self.successor or fingerprint_of("me again")
        return self.successor

    def untold(self) -> list[bytes]:
        return list(self.waiting) if self.successor else []

    async def become_successor(self) -> None:
        self.fingerprint, self.successor = self.successor, None

    async def invite(self, *, persons: int = 1, days: int = 7, label: str = "") -> FakeInvite:
        invite = FakeInvite()
        invite.label, invite.left = label, persons
        self.open_invites.append(invite)
        return invite

    def invites(self) -> list[FakeInvite]:
        return list(self.open_invites)

    async def revoke(self, invite: bytes) -> None:
        self.open_invites = [each for each in self.open_invites if each.id != invite]

    async def add(self, invite: object) -> FakePeer:
        return self.meets("new")
