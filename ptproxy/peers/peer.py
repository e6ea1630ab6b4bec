"""One contact, as a program uses it: lines, receipts, identity, signals, key material for streams.

A :class:`Peer` is a view: it holds nothing but the contact's id, and may be made and thrown away at
will. Every method that changes something returns when that is on disk. Once the contact is removed,
everything here raises KeyError.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ptproxy.dht.invite import Invite
from ptproxy.e2e import Conversation, Fingerprint, IdentityChangedError, Standing
from ptproxy.errors import LocalProtocolError
from ptproxy.peers.messenger_contact import ContactRecord
from ptproxy.peers.messenger_events import (
    ContactChanged,
    ContactId,
    Direction,
    Line,
    LineState,
    StandingChanged,
    Trouble,
)
from ptproxy.peers.messenger_history import add_line
from ptproxy.peers.messenger_identity import accept, remove
from ptproxy.peers.messenger_ledger import Change
from ptproxy.peers.messenger_outbox import OutboxFullError
from ptproxy.peers.messenger_sending import waits
from ptproxy.peers.payload import (
    MAX_NAME,
    MAX_PRESENCE,
    MAX_SIGNAL,
    MAX_TEXT,
    BridgeInvite,
    Presence,
    PresenceNotice,
    Records,
    Signal,
    TextLine,
    serialize_part,
)
from ptproxy.peers.peer_stream import PeerStream

if TYPE_CHECKING:
    from ptproxy.peers.messenger import Messenger

SIGNAL_LIFE: Final = 600.0
"""Seconds after which a signal that has not left is worth nothing: whoever signalled has given up."""
AWAY_LIFE: Final = 600.0
"""Seconds for which it is worth saying that we went away."""
AT_A_TIME: Final = 500
"""Lines that are marked as read in one transaction."""


class Peer:
    """A contact of a messenger."""

    __slots__ = ("_messenger", "id")

    def __init__(self, messenger: Messenger, contact: ContactId) -> None:
        self._messenger = messenger
        self.id = contact
        """16 bytes; see ``messenger_events``."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Peer) and other.id == self.id and other._messenger is self._messenger

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Peer {self.id.hex()}>"

    @property
    def _record(self) -> ContactRecord:
        return self._messenger.ledger.contacts[self.id]

    @property
    def _conversation(self) -> Conversation:
        return self._messenger.ledger.correspondence.conversations[self.id]

    # ---- who it is

    @property
    def name(self) -> str:
        """What we call it (:meth:`rename`), else what it calls itself, else ""; as it came: hostile text."""
        return self._record.name

    @property
    def said_name(self) -> str:
        """What it calls itself; hostile text."""
        return self._record.said_name

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the identity that we write to and read from."""
        return self._conversation.contact.known

    @property
    def safety_number(self) -> Fingerprint:
        """One for both sides of the conversation: what two people compare."""
        return Fingerprint.of_pair(self._messenger.fingerprint, self.fingerprint)

    @property
    def standing(self) -> Standing:
        """Unverified, verified or changed."""
        return self._conversation.standing

    @property
    def candidate(self) -> Fingerprint | None:
        """The identity that was seen in place of the known one, while ``standing`` is changed."""
        return self._conversation.contact.candidate

    @property
    def vouched(self) -> bool:
        """Whether the old key has signed that ``candidate`` follows it."""
        return self._conversation.contact.vouched

    @property
    def stranger(self) -> bool:
        r"""Whether it wrote to us without an invite and was not :meth:`welcome`\ d."""
        return self._record.stranger

    @property
    def trouble(self) -> Trouble:
        """Why what we write waits."""
        return self._messenger.couriers.troubles.get(self._record.id, Trouble.NONE)

    @property
    def unread(self) -> int:
        """Lines that came and were not :meth:`mark_read`."""
        return self._record.unread

    async def rename(self, name: str) -> None:
        """Call it ``name`` here; "": as it calls itself."""
        if len(name.encode()) > MAX_NAME:
            raise LocalProtocolError(f"a name has at most {MAX_NAME} bytes in UTF-8")
        async with self._messenger.ledger.change() as change:
            self._record.own_name = name
            change.contact(self._record)
            change.tell(ContactChanged(self.id))

    async def compare(self, text: str) -> bool:
        """The person typed or scanned the other's fingerprint, or the safety number, in any form.

        Whether it is the right one; then the contact is verified.
        """
        async with self._messenger.ledger.change() as change:
            if self.safety_number.matches(text):
                text = self.fingerprint.qr_text()
            same = self._conversation.compare(text)
            if same:
                self._standing_changed(change)
        return same

    async def accept(self, fingerprint: Fingerprint) -> None:
        """The person accepts the identity seen in place of the known one: the conversation goes on with it.

        Lines that have not left are not sent to it: they become FAILED.
        :class:`~ptproxy.errors.E2EError` where ``fingerprint`` is not the candidate's.
        """
        async with self._messenger.ledger.change() as change:
            accept(self._messenger.ledger, change, self._record, fingerprint)
            self._standing_changed(change)

    async def keep(self) -> None:
        """The person stays with the known identity."""
        async with self._messenger.ledger.change() as change:
            self._conversation.keep()
            self._standing_changed(change)

    async def welcome(self) -> None:
        """The person wants this stranger as a contact: it gets an answer, and passes to go on writing."""
        async with self._messenger.ledger.change() as change:
            self._welcome(change)

    def _welcome(self, change: Change) -> None:
        if self._record.stranger:
            self._conversation.person_wants_it()
            self._record.stranger = False
            self._record.owes_hello = self._record.pass_due = True
            change.contact(self._record)
            change.tell(ContactChanged(self.id))
            change.wake(self.id)
            change.want_box()

    def _standing_changed(self, change: Change) -> None:
        contact = self._conversation.contact
        change.tell(StandingChanged(self.id, contact.standing, contact.candidate, contact.vouched))
        change.wake(self.id)

    async def remove(self) -> None:
        """Forget the contact, its history and what it may deposit with us."""
        await remove(self._messenger.ledger, self._record)
        self._messenger.couriers.forget(self.id)

    # ---- lines

    async def send(self, text: str) -> int:
        """Write a line; its number. It leaves in the background, in order, as soon as that is possible.

        ``text`` has at most :data:`~ptproxy.peers.payload.MAX_TEXT` bytes in UTF-8. A stranger that
        is written to is welcome.
        :class:`~ptproxy.e2e.IdentityChangedError` while the person has to decide;
        :class:`~ptproxy.errors.LocalProtocolError` for a longer or empty text;
        :class:`~ptproxy.peers.messenger.OutboxFullError` while too much waits.
        """
        if not text or len(_encoded(text)) > MAX_TEXT:
            raise LocalProtocolError(f"a line has 1 to {MAX_TEXT} bytes in UTF-8")
        ledger = self._messenger.ledger
        async with ledger.change() as change:
            self._may_send()
            self._welcome(change)
            record = self._record
            number = record.next_number()
            line = Line(number, Direction.OURS, LineState.WAITING, change.now, change.now, text)
            add_line(ledger, change, record, line)
            part = serialize_part(TextLine(number, int(change.now * 1000), text))
            change.waiting(self.id, ledger.outboxes[self.id].add(number, part))
            change.wake(self.id)
        return number

    async def settled(self) -> None:
        """Wait until nothing waits to leave for this contact; needs ``Messenger.run``, takes what it takes.

        Nothing leaves while its identity is in doubt: then this returns at once.
        """
        ledger = self._messenger.ledger
        while waits(ledger, self._record):
            await ledger.next_change()

    async def history(self, before: int | None = None, limit: int = 100) -> list[Line]:
        """Lines numbered below ``before`` (None: the newest), newest first, at most ``limit``."""
        return await self._messenger.ledger.history(self._record.id, before, limit)

    async def mark_read(self, number: int) -> None:
        """The person has seen the lines up to ``number``; the contact is told so, if receipts are on."""
        ledger = self._messenger.ledger
        number = min(number, self._record.last_number)
        while self._record.read < number:
            async with ledger.change() as change:
                record = self._record
                last = min(number, record.read + AT_A_TIME)
                for line, said in ledger.lines(self.id, record.read + 1, last - record.read):
                    if line.direction is Direction.THEIRS and line.state < LineState.READ:
                        change.line(self.id, line.come_to(LineState.READ), said)
                        record.unread = max(0, record.unread - 1)
                        if ledger.profile.receipts:
                            record.owe(record.owed_read, said)
                record.read = last
                change.contact(record)
                change.wake(self.id)

    async def tell_presence(self, presence: Presence, seconds: float = 600.0) -> None:
        """Say that we are here (for ``seconds``) or away. Nothing is ever said without this call."""
        async with self._messenger.ledger.change() as change:
            self._may_send()
            outbox = self._messenger.ledger.outboxes[self.id]
            here = presence is Presence.HERE
            outbox.presence = PresenceNotice(presence, min(MAX_PRESENCE, int(seconds)) if here else 0)
            outbox.presence_until = change.now + (seconds if here else AWAY_LIFE)
            change.wake(self.id)

    async def pass_on(self, invite: Invite) -> None:
        """Pass on an invite to bridges, which the contact's person takes or not. Raises as :meth:`send`.

        Whoever has an invite finds its bridges, now and when they move.
        """
        async with self._messenger.ledger.change() as change:
            self._may_send()
            self._welcome(change)
            part = serialize_part(BridgeInvite(invite))
            change.waiting(self.id, self._messenger.ledger.outboxes[self.id].add(0, part))
            change.wake(self.id)

    @property
    def finds_us(self) -> bool:
        """Whether we publish for it in the directory where our mailbox is."""
        known = self._messenger.ledger.records.contacts.get(self._record.id)
        return known is not None and bool(known.ours)

    @property
    def can_be_found(self) -> bool:
        """Whether it has told us how its mailbox is found in the directory when it is gone."""
        known = self._messenger.ledger.records.contacts.get(self._record.id)
        return known is not None and bool(known.theirs)

    async def publish(self) -> None:
        """Publish for it in the directory where our mailbox is, from now on. Raises as :meth:`send`.

        :class:`~ptproxy.errors.LocalProtocolError` for more than ``messenger_records.MOST`` contacts.
        """
        ledger = self._messenger.ledger
        async with ledger.change() as change:
            self._may_send()
            part = serialize_part(Records(ledger.records.publish_for(self._record.id, ledger.rng)))
            change.records()
            self._welcome(change)
            change.waiting(self.id, ledger.outboxes[self.id].add(0, part))
            change.wake(self.id)
        self._messenger.finding.look()

    async def unpublish(self) -> None:
        """No longer; what lies there is gone within thirty hours."""
        async with self._messenger.ledger.change() as change:
            known = self._messenger.ledger.records.contacts.get(self._record.id)
            if known is not None:
                known.ours, known.progress = b"", {}
                change.records()

    # ---- streams

    async def open_stream(self, purpose: bytes, protocol: asyncio.Protocol) -> PeerStream:
        """A stream to the contact's program, which has offered ``purpose`` and takes it.

        See :meth:`~ptproxy.peers.peer_streams.PeerStreams.open_stream`; what a contact may open here is
        offered by ``messenger.streams.offer``.
        """
        return await self._messenger.streams.open_stream(self._record.id, purpose, protocol)

    async def signal(self, body: bytes) -> None:
        """Bytes for another part of the contact's program; worth nothing after some minutes.

        At most :data:`~ptproxy.peers.payload.MAX_SIGNAL` bytes. Raises as :meth:`send` does.
        """
        if len(body) > MAX_SIGNAL:
            raise LocalProtocolError(f"a signal has at most {MAX_SIGNAL} bytes")
        async with self._messenger.ledger.change() as change:
            self._may_send()
            until = int((change.now + SIGNAL_LIFE) * 1000)
            waiting = self._messenger.ledger.outboxes[self.id].add(0, serialize_part(Signal(body)), until)
            change.waiting(self.id, waiting)
            change.wake(self.id)

    def _may_send(self) -> None:
        if self.standing is Standing.CHANGED:
            raise IdentityChangedError("the contact's identity has changed: the person has to decide")
        if self._messenger.ledger.outboxes[self.id].full:
            raise OutboxFullError("too much waits for this contact")

    @property
    def turn(self) -> int | None:
        """The newest turn of the ratchet that is sent in, None without a session."""
        session = self._conversation.session
        return None if session is None else session.ratchet.turn

    @property
    def session_id(self) -> bytes:
        """32 bytes that both sides have for the session that is sent in; b"" without one."""
        session = self._conversation.session
        return b"" if session is None else session.id

    def export(self, label: bytes, length: int, turn: int | None = None) -> bytes:
        """Key material that both sides can make, of a turn (None: :attr:`turn`): see ``Ratchet.export``.

        It is of the session that :attr:`session_id` names.
        :class:`~ptproxy.errors.LocalProtocolError` without a session or where the turn's secret is gone.
        """
        session = self._conversation.session
        if session is None:
            raise LocalProtocolError("there is no session with this contact yet")
        return session.ratchet.export(label, length, turn)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise LocalProtocolError("a line is Unicode text; this has half of a surrogate pair") from None
