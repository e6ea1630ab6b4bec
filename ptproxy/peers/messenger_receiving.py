"""What mail does to the ledger: whose it is, what it says, what is told and owed for it.

Whatever a mailbox or a peer sends is taken in or dropped, and never comes to an error: mail under a token
that is not ours, envelopes and messages that do not verify, copies of what was read.

Who writes is what the ratchet says, never what the token says: that was given to one contact, which may
hand it on. Somebody new is a contact where the token is of an invite that is still good, a *stranger* where
it is another contact's, and nobody where the invite was for others.
"""

from __future__ import annotations

from typing import Final

from ptproxy.e2e import Kind, ReceivedMessage
from ptproxy.errors import E2EError
from ptproxy.log import get_logger
from ptproxy.peers.local_hosts import is_local
from ptproxy.peers.mailbox_answers import Mail
from ptproxy.peers.mailbox_delivery import EnvelopeError
from ptproxy.peers.messenger_contact import ContactRecord
from ptproxy.peers.messenger_events import (
    ContactAdded,
    ContactChanged,
    Direction,
    InviteUsed,
    Line,
    LineDelivered,
    LineRead,
    LineReceived,
    LineState,
    PresenceChanged,
    SignalReceived,
    StandingChanged,
    UnknownReceived,
)
from ptproxy.peers.messenger_history import add_line
from ptproxy.peers.messenger_ledger import Change, Ledger, TokenOwner
from ptproxy.peers.messenger_passed_on import receive_passed_on
from ptproxy.peers.messenger_passes import HeldPasses
from ptproxy.peers.messenger_profile import OwnInvite
from ptproxy.peers.messenger_records import ContactSecrets
from ptproxy.peers.messenger_sending import seal_elsewhere
from ptproxy.peers.payload import (
    BridgeInvite,
    Hello,
    Part,
    Pass,
    Payload,
    PayloadError,
    Presence,
    PresenceNotice,
    Read,
    Receipt,
    Records,
    Signal,
    TextLine,
    Unknown,
    Wish,
)

MOST_CONFIRMED: Final = 1_024
"""Lines that one receipt is looked up for: who claims millions costs no more than that."""
OWN_CLOCK: Final = 86_400.0
"""Seconds that a peer's presence may have been said in our future: clocks are wrong."""

log = get_logger(__name__)


def receive(ledger: Ledger, change: Change, mail: Mail) -> None:
    """Take one mail in. When the change is saved the mailbox may delete it."""
    known = ledger.tokens.get(mail.token_id)
    if known is None:
        log.debug("mail under a token that is not known")
        return
    _mark_used(change, known)
    try:
        message = known.given.tokens[known.place].open(mail.envelope)
        received = ledger.correspondence.receive(message, change.now, ledger.rng)
    except (EnvelopeError, E2EError) as error:
        log.debug("mail that is not read", why=str(error))
        return
    record = _writer(ledger, change, known, received)
    if record is not None:
        _settle_invites(ledger, change, known, record)
        _read(ledger, change, record, received)


def _mark_used(change: Change, known: TokenOwner) -> None:
    """A token of a contact's is used once; those of an invite serve for several persons."""
    bit = 1 << known.place
    if isinstance(known.owner, ContactRecord) and not known.given.used & bit:
        known.given.used |= bit
        change.contact(known.owner)
        change.want_box()  # it has a look at how many are left


def _writer(
    ledger: Ledger, change: Change, known: TokenOwner, received: ReceivedMessage
) -> ContactRecord | None:
    """The record of who wrote, a new one for somebody new; None for who may not write."""
    conversation = received.conversation
    record = ledger.contacts.get(conversation.id)
    invite = known.owner if isinstance(known.owner, OwnInvite) else None
    if record is not None and not (record.stranger and invite is not None and invite.open(change.now)):
        return record
    if record is None:
        if invite is not None and not invite.open(change.now):
            ledger.correspondence.remove(conversation)
            return None
        record = ContactRecord(conversation.id)
        ledger.put_contact(record)
    change.contact(record)
    if invite is None:
        record.stranger = True
        change.tell(ContactAdded(record.id, stranger=True))
        return record
    conversation.person_wants_it()
    record.stranger = False  # whom the person has invited is none, whatever came before
    record.owes_hello = record.pass_due = True
    invite.left -= 1
    invite.waiting.append(record.id)
    change.invite(invite)
    change.tell(ContactAdded(record.id, invite.invite.id))
    change.tell(InviteUsed(invite.invite.id, invite.left))
    change.want_box()
    return record


def _settle_invites(ledger: Ledger, change: Change, known: TokenOwner, record: ContactRecord) -> None:
    """Who uses a pass of its own needs the invite no more that it came by."""
    if known.owner is not record:
        return
    for invite in list(ledger.invites.values()):
        if record.id in invite.waiting:
            invite.waiting.remove(record.id)
            if invite.spent:
                ledger.drop_invite(change, invite)
            else:
                change.invite(invite)


def _read(ledger: Ledger, change: Change, record: ContactRecord, received: ReceivedMessage) -> None:
    if received.kind is Kind.SUCCESSION:
        contact = received.conversation.contact
        change.tell(StandingChanged(record.id, contact.standing, contact.candidate, contact.vouched))
        return
    try:
        if received.kind is not Kind.TEXT:
            raise PayloadError("a message of an unknown kind")
        payload = Payload.parse(received.body)
    except PayloadError as error:
        log.debug("a message that is not understood", why=str(error))
        change.tell(UnknownReceived(record.id))
        return
    before = record.mailbox
    for part in payload.parts:
        _take_in(ledger, change, record, received, part, payload.sent / 1000)
    seal_elsewhere(ledger, change, record, before)
    if any(isinstance(part, Unknown) for part in payload.parts):
        change.tell(UnknownReceived(record.id))
    change.wake(record.id)


def _take_in(
    ledger: Ledger,
    change: Change,
    record: ContactRecord,
    received: ReceivedMessage,
    part: Part,
    sent: float,
) -> None:
    match part:
        case Hello():
            _hello(ledger, change, record, part, sent)
        case TextLine():
            _line(ledger, change, record, received, part)
        case Receipt():
            _receipt(ledger, change, record, part)
        case Pass():
            record.held.add(part.given, invite=False)
            record.wishes = False
            change.contact(record)
        case Wish():
            given = record.given
            if part.left * 2 <= ledger.wanted and not (given.on_the_way() or given.may_be_unseen(change.now)):
                record.pass_due = True
                change.contact(record)
                change.want_box()
        case PresenceNotice():
            _presence(change, record, part, sent)
        case BridgeInvite() if not record.stranger:
            receive_passed_on(ledger, change, record.id, part.invite)
        case Records() if not record.stranger:
            ledger.records.contacts.setdefault(record.id, ContactSecrets()).theirs = part.secret
            change.records()
        case Signal() if not record.stranger:
            change.tell(SignalReceived(record.id, part.content, sent))
        case _:
            pass


def _hello(ledger: Ledger, change: Change, record: ContactRecord, hello: Hello, sent: float) -> None:
    told = record.told / 1000
    if sent < told <= change.now + OWN_CLOCK:
        return  # an older one that comes late
    record.told = round(sent * 1000)
    record.given.may_be_lost()
    change.contact(record)
    before = record.said_name, record.mailbox, record.prekeys_key
    record.said_name = hello.name
    if is_local(hello.mailbox.host) and not is_local(ledger.profile.mailbox.host):
        log.debug("a contact names a mailbox within our own network: not taken")
    else:
        if record.mailbox is not None and record.mailbox.key != hello.mailbox.key:
            record.held = HeldPasses()  # good at the box that it had; those for the new one stand behind this
        record.mailbox, record.prekeys_key = hello.mailbox, hello.prekeys_key
    if before != (record.said_name, record.mailbox, record.prekeys_key):
        change.tell(ContactChanged(record.id))


def _line(
    ledger: Ledger, change: Change, record: ContactRecord, received: ReceivedMessage, said: TextLine
) -> None:
    line = Line(
        record.next_number(),
        Direction.THEIRS,
        LineState.DELIVERED,
        said.written / 1000,
        change.now,
        said.text,
    )
    record.unread += 1
    record.owe(record.owed_delivered, said.number)
    add_line(ledger, change, record, line, said.number)
    change.tell(LineReceived(record.id, line, received.standing))


def _receipt(ledger: Ledger, change: Change, record: ContactRecord, receipt: Receipt) -> None:
    """Lines of ours have come further. Numbers that are no lines of ours say nothing."""
    state = LineState.READ if receipt.what is Read.READ else LineState.DELIVERED
    budget = MOST_CONFIRMED
    for first, count in reversed(receipt.ranges):
        for line, _ in ledger.lines(record.id, first, min(count, budget)) if budget else ():
            if line.direction is Direction.OURS and line.state < state:
                change.line(record.id, line.come_to(state))
                change.tell(
                    LineRead(record.id, line.number)
                    if state is LineState.READ
                    else LineDelivered(record.id, line.number)
                )
        budget -= min(count, budget)


def _presence(change: Change, record: ContactRecord, notice: PresenceNotice, sent: float) -> None:
    """Not for strangers, and not where it is over already."""
    until = min(sent, change.now) + notice.seconds
    if record.stranger or sent > change.now + OWN_CLOCK:
        return
    if notice.presence is Presence.AWAY:
        change.tell(PresenceChanged(record.id, Presence.AWAY, change.now))
    elif until > change.now:
        change.tell(PresenceChanged(record.id, Presence.HERE, until))
