"""What is to be done next for one contact, and what that does to the ledger.

In this order: an envelope that is sealed is deposited, until the mailbox has it; then, where there is
anything to say, a session is begun that is missing, and everything that waits goes into one message of a
size that most messages have, under the next token. Sealing changes ratchet, token and queue in one
transaction with the envelope: a program that is killed deposits exactly that.

While an identity is in doubt nothing of this happens, not even for what was sealed before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ptproxy.config.link import Link
from ptproxy.e2e import ExpiredError, IdentityChangedError, OwnIdentity, PrekeyBundle, Standing, verify
from ptproxy.e2e.succession import declare
from ptproxy.errors import E2EError
from ptproxy.peers.mailbox_answers import Bundle
from ptproxy.peers.mailbox_delivery import DAY, DeliveryToken, EnvelopeError, open_prekeys
from ptproxy.peers.mailbox_requests import Right
from ptproxy.peers.messenger_contact import ContactRecord
from ptproxy.peers.messenger_events import LineDeposited, LineState, StandingChanged, Trouble
from ptproxy.peers.messenger_ledger import Change, Ledger
from ptproxy.peers.messenger_outbox import MAX_LINES, Outbox, Sealed, Waiting
from ptproxy.peers.messenger_passes import RESERVE, PassState
from ptproxy.peers.payload import (
    HEAD,
    Hello,
    Part,
    Pass,
    Payload,
    Read,
    Receipt,
    Wish,
    parse_part,
    serialize_part,
)

PACKED: Final = 1_700
"""Bytes of parts that go into one message: with them an envelope has 2,048 bytes, once the contact has
answered. A longer line goes alone, or behind what is shorter."""
LOW: Final = 8
"""Tokens left at which we ask for more."""
ASK_AGAIN: Final = DAY
"""Seconds between two wishes that the reserve is used for."""


@dataclass(frozen=True, slots=True)
class Deposit:
    """An envelope waits to be deposited."""

    link: Link
    sealed: Sealed = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fetch:
    """A session is to be begun, with what is fetched by this token."""

    link: Link
    token: DeliveryToken = field(repr=False)


@dataclass(frozen=True, slots=True)
class Blocked:
    """There is something to do, and it cannot be done."""

    trouble: Trouble


Job = Deposit | Fetch | Blocked


def next_job(ledger: Ledger, change: Change, record: ContactRecord) -> Job | None:
    """What is to be done now for this contact; seals where that is next. None: nothing."""
    outbox = ledger.outboxes[record.id]
    _drop_stale(change, outbox)
    if outbox.sealed is None and not has_to_say(record, outbox):
        return None
    conversation = ledger.correspondence.conversations[record.id]
    if conversation.standing is Standing.CHANGED:
        return Blocked(Trouble.IDENTITY_CHANGED)
    if record.mailbox is None:
        return Blocked(Trouble.NO_PASS)
    if outbox.sealed is not None:
        return Deposit(record.mailbox, outbox.sealed)
    if record.owes_hello and not record.given.answerable():
        return Blocked(Trouble.NONE)  # our own mailbox is behind, and says so itself
    if conversation.needs_beginning(change.now):
        token = record.held.fetching(change.now)
        if token is not None:
            return Fetch(record.mailbox, token)
        if conversation.session is None:
            return Blocked(Trouble.NO_PASS)
    return _seal(ledger, change, record, outbox)


def has_to_say(record: ContactRecord, outbox: Outbox) -> bool:
    """Whether anything waits to be sealed. To a stranger nothing is said."""
    return not record.stranger and bool(
        record.owes_hello
        or record.owes_succession
        or record.given.untold(PassState.GRANTED)
        or record.owed_delivered
        or record.owed_read
        or outbox.waiting
        or outbox.presence
    )


def waits(ledger: Ledger, record: ContactRecord) -> bool:
    """Whether something is to leave for this contact, and may: not while its identity is in doubt."""
    if ledger.correspondence.conversations[record.id].standing is Standing.CHANGED:
        return False
    outbox = ledger.outboxes[record.id]
    return outbox.sealed is not None or has_to_say(record, outbox)


def _drop_stale(change: Change, outbox: Outbox) -> None:
    """Signals that are too old, and presence, are worth nothing."""
    for waiting in [each for each in outbox.waiting if each.until and each.until < change.now * 1000]:
        outbox.waiting.remove(waiting)
        change.left(outbox.contact, waiting)
    if outbox.presence is not None and outbox.presence_until <= change.now:
        outbox.presence = None


def _seal(ledger: Ledger, change: Change, record: ContactRecord, outbox: Outbox) -> Job:
    passes = record.given.untold(PassState.GRANTED)
    left = record.held.left(Right.DEPOSIT, change.now)
    asks = record.wishes or left <= LOW + 1
    if left <= RESERVE and not passes:
        if not left or change.now - outbox.asked < ASK_AGAIN:
            return Blocked(Trouble.NO_PASS)
        outbox.asked = change.now
    token = record.held.peek(change.now)  # taken when nothing can fail any more
    if token is None or record.mailbox is None:
        return Blocked(Trouble.NO_PASS)
    if record.owes_succession:
        return _seal_succession(ledger, change, record, outbox, token, record.mailbox)
    parts: list[Part] = []
    if record.owes_hello:
        profile = ledger.profile
        parts.append(Hello(profile.name, profile.prekeys_key, profile.mailbox))
    parts += [Pass(each.given) for each in passes]
    if asks:
        parts.append(Wish(min(left - 1, 0xFFFF)))
    parts += _receipts(record)
    if outbox.presence is not None:
        parts.append(outbox.presence)
    taken = _fill(parts, outbox)
    payload = Payload(int(change.now * 1000), (*parts, *(parse_part(each.part) for each in taken)))
    conversation = ledger.correspondence.conversations[record.id]
    message = conversation.send(payload.serialize(), change.now, ledger.rng)
    record.held.take(change.now)
    record.owes_hello = record.wishes = False
    for each in passes:
        each.state, each.told = PassState.TOLD, change.now
    outbox.presence = None
    for waiting in taken:
        outbox.waiting.remove(waiting)
        change.left(record.id, waiting)
    lines = tuple(waiting.line for waiting in taken if waiting.line)
    outbox.sealed = Sealed(token.token, token.key, lines, token.seal(message, ledger.rng))
    change.contact(record)
    change.sealed(outbox)
    return Deposit(record.mailbox, outbox.sealed)


def _seal_succession(
    ledger: Ledger, change: Change, record: ContactRecord, outbox: Outbox, token: DeliveryToken, link: Link
) -> Job:
    """The statement goes alone: it is a message of a kind of its own. What else waits follows it."""
    successor = OwnIdentity.parse(ledger.profile.successor)
    statement = declare(ledger.correspondence.owner, successor, change.now)
    conversation = ledger.correspondence.conversations[record.id]
    message = conversation.send_succession(statement, change.now, ledger.rng)
    record.held.take(change.now)
    record.owes_succession = False
    outbox.sealed = Sealed(token.token, token.key, (), token.seal(message, ledger.rng))
    change.contact(record)
    change.sealed(outbox)
    return Deposit(link, outbox.sealed)


def _receipts(record: ContactRecord) -> list[Part]:
    """Receipts for what is owed; it is owed no longer."""
    receipts: list[Part] = []
    if record.owed_delivered:
        receipt = Receipt.of(Read.DELIVERED, record.owed_delivered)
        said = set(receipt.numbers())
        record.owed_delivered = [number for number in record.owed_delivered if number not in said]
        receipts.append(receipt)
    if record.owed_read:
        receipt = Receipt.of(Read.READ, record.owed_read)
        said = set(receipt.numbers())
        record.owed_read = [number for number in record.owed_read if number not in said]
        receipts.append(receipt)
    return receipts


def _fill(parts: list[Part], outbox: Outbox) -> list[Waiting]:
    """The first of what waits, as far as it fits beside ``parts``; one at least."""
    size = HEAD + sum(len(serialize_part(part)) for part in parts)
    taken: list[Waiting] = []
    for waiting in outbox.waiting:
        size += len(waiting.part)
        if taken and (size > PACKED or len(taken) == MAX_LINES - len(parts)):
            break
        taken.append(waiting)
    return taken


def deposited(ledger: Ledger, change: Change, record: ContactRecord, sealed: Sealed) -> None:
    """The mailbox has the envelope on disk."""
    outbox = ledger.outboxes[record.id]
    if outbox.sealed is not sealed:
        return  # the contact was removed meanwhile, or its identity accepted
    outbox.sealed = None
    change.sealed(outbox)
    for number in sealed.lines:
        if ledger.set_state(change, record.id, number, LineState.DEPOSITED):
            change.tell(LineDeposited(record.id, number))


def seal_again(ledger: Ledger, change: Change, record: ContactRecord, sealed: Sealed) -> bool:
    """The mailbox does not know the token: the same message under the next one, if there is one."""
    outbox = ledger.outboxes[record.id]
    if outbox.sealed is not sealed or record.held.left(Right.DEPOSIT, change.now) <= RESERVE:
        return False
    token = record.held.take(change.now)
    if token is None:
        return False
    message = sealed.delivery().open(sealed.envelope)
    outbox.sealed = Sealed(token.token, token.key, sealed.lines, token.seal(message, ledger.rng))
    change.contact(record)
    change.sealed(outbox)
    return True


def seal_elsewhere(ledger: Ledger, change: Change, record: ContactRecord, before: Link | None) -> None:
    """Where its mailbox is at another bridge than ``before``, that is shown no token of the box it had there:
    the two operators would know whose both are."""
    sealed, link = ledger.outboxes[record.id].sealed, record.mailbox
    if sealed is not None and before is not None and link is not None and before.key != link.key:
        seal_again(ledger, change, record, sealed)


def fetched(
    ledger: Ledger, change: Change, record: ContactRecord, token: DeliveryToken, bundle: Bundle
) -> Trouble:
    """A bundle has come by ``token``: begin with it. What is in the way, :attr:`Trouble.NONE`: nothing."""
    record.held.fetched(token)
    change.contact(record)
    conversation = ledger.correspondence.conversations[record.id]
    if conversation.standing is Standing.CHANGED:
        return Trouble.IDENTITY_CHANGED
    opened = b""
    try:
        opened = open_prekeys(record.prekeys_key, bundle.bundle)
        one_time = open_prekeys(record.prekeys_key, bundle.one_time) if bundle.one_time else None
        verified = verify(opened, one_time, conversation.contact.known, change.now)
    except IdentityChangedError:
        conversation.see(PrekeyBundle.parse(opened).identity.fingerprint)
        contact = conversation.contact
        change.tell(StandingChanged(record.id, contact.standing, contact.candidate, contact.vouched))
        return Trouble.IDENTITY_CHANGED
    except (EnvelopeError, ExpiredError, E2EError):
        return Trouble.BAD_BUNDLE
    conversation.begin(verified, change.now, ledger.rng)
    return Trouble.NONE
