"""A contact's identity is accepted, or the contact removed: what that does to all that is kept of it."""

from __future__ import annotations

from typing import Final

from ptproxy.e2e import Fingerprint
from ptproxy.peers.messenger_contact import ContactRecord, history_list
from ptproxy.peers.messenger_events import ContactRemoved, Direction, Line, LineFailed, LineState
from ptproxy.peers.messenger_history import add_line, forget
from ptproxy.peers.messenger_ledger import Change, Ledger
from ptproxy.peers.messenger_outbox import sealed_piece
from ptproxy.peers.messenger_passes import MAX_HELD
from ptproxy.peers.store import Entry

AT_A_TIME: Final = 500
"""Lines that are deleted in one transaction."""
MERGED: Final = 1_000
"""Lines of a stranger that come over to the contact that it turns out to be."""


def accept(ledger: Ledger, change: Change, record: ContactRecord, fingerprint: Fingerprint) -> None:
    """The conversation goes on with the identity that was seen; :class:`~ptproxy.errors.E2EError` if not so.

    What waits was written to somebody else, as far as we know: it is not sent. Where the new identity
    has written to us as a stranger, that conversation becomes a part of this one.
    """
    conversation = ledger.correspondence.conversations[record.id]
    other = ledger.correspondence.find(fingerprint)
    ledger.correspondence.accept(conversation, fingerprint)
    _give_up(ledger, change, record)
    if other is not None and other is not conversation:
        _merge(ledger, change, record, ledger.contacts[other.id])
    record.owes_hello = record.pass_due = True
    change.contact(record)
    change.wake(record.id)
    change.want_box()


def _give_up(ledger: Ledger, change: Change, record: ContactRecord) -> None:
    """Nothing of what waits is sent."""
    outbox = ledger.outboxes[record.id]
    lines = [waiting.line for waiting in outbox.waiting if waiting.line]
    if outbox.sealed is not None:
        lines += outbox.sealed.lines
        outbox.sealed = None
        change.sealed(outbox)
    for waiting in outbox.waiting:
        change.left(record.id, waiting)
    outbox.waiting.clear()
    outbox.presence = None
    record.owed_delivered, record.owed_read = [], []
    for number in lines:
        for line, _ in ledger.lines(record.id, number, 1):
            if line.state is LineState.WAITING:
                change.line(record.id, line.come_to(LineState.FAILED))
                change.tell(LineFailed(record.id, number))


def _merge(ledger: Ledger, change: Change, record: ContactRecord, other: ContactRecord) -> None:
    """``other`` is the same peer: its mailbox, passes and lines are ``record``'s."""
    _give_up(ledger, change, other)
    if other.mailbox is not None:
        same = other.mailbox == record.mailbox
        record.held.passes = other.held.passes + (record.held.passes if same else [])
        del record.held.passes[MAX_HELD:]
        record.said_name, record.mailbox = other.said_name, other.mailbox
        record.prekeys_key = other.prekeys_key
    displaced = record.given.take_over(other.given)
    ledger.forget_tokens(other)
    ledger.forget_tokens(record)
    for given in record.given.passes:
        ledger.know_tokens(given, record)
    if displaced:
        ledger.profile.revoke(displaced)
        change.profile()
    waiting = {entry.number for entry in change.entries if entry.list == history_list(other.id)}
    for line, said in reversed(_newest(ledger, other)):
        state = LineState.FAILED if line.number in waiting else line.state
        moved = Line(record.next_number(), line.direction, state, line.written, line.arrived, line.text)
        add_line(ledger, change, record, moved, said)
        if moved.direction is Direction.THEIRS and moved.state < LineState.READ:
            record.unread += 1
            record.owe(record.owed_delivered, said)
    forget(change, other)
    for invite in ledger.invites.values():
        if other.id in invite.waiting:
            invite.waiting = [record.id if each == other.id else each for each in invite.waiting]
            change.invite(invite)
    _forget(ledger, change, other)
    change.tell(ContactRemoved(other.id, into=record.id))


def _newest(ledger: Ledger, record: ContactRecord) -> list[tuple[Line, int]]:
    return ledger.lines(record.id, max(record.oldest, record.last_number - MERGED + 1), MERGED)


def _forget(ledger: Ledger, change: Change, record: ContactRecord) -> None:
    del ledger.contacts[record.id], ledger.outboxes[record.id]
    ledger.unsaved.gone(record.piece)
    ledger.unsaved.gone(sealed_piece(record.id))
    if ledger.passed_on.forget(record.id):
        change.passed_on()
    if ledger.records.forget(record.id):
        change.records()


async def remove(ledger: Ledger, record: ContactRecord) -> None:
    """Forget a contact: first its lines, some at a time, then itself with its sessions and passes."""
    while True:
        async with ledger.change() as change:
            entries = ledger.store.entries(history_list(record.id), None, AT_A_TIME)
            if entries:
                change.entries += [Entry(history_list(record.id), number, None) for number, _ in entries]
                record.kept = max(0, record.kept - sum(len(data) for _, data in entries))
                change.contact(record)
                continue
            _take_leave(ledger, change, record)
            return


def _take_leave(ledger: Ledger, change: Change, record: ContactRecord) -> None:
    outbox = ledger.outboxes[record.id]
    for waiting in outbox.waiting:
        change.left(record.id, waiting)
    for given in record.given.good():
        if given.granted:
            ledger.profile.revoke(given.unused_ids())
    change.profile()
    change.want_box()
    for invite in list(ledger.invites.values()):
        if record.id in invite.waiting:
            invite.waiting.remove(record.id)
            change.invite(invite)
            if invite.spent:
                ledger.drop_invite(change, invite)
    record.given.passes.clear()
    ledger.forget_tokens(record)
    _forget(ledger, change, record)
    ledger.correspondence.remove(ledger.correspondence.conversations[record.id])
    change.tell(ContactRemoved(record.id))
