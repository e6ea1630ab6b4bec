"""Invites: ours are made, and those of others taken."""

from __future__ import annotations

from typing import Final

from ptproxy.errors import LocalProtocolError
from ptproxy.peers.contact_invite import MAX_DAYS, MAX_PERSONS, ContactInvite, InviteError
from ptproxy.peers.mailbox_delivery import DAY
from ptproxy.peers.messenger_contact import ContactRecord
from ptproxy.peers.messenger_events import ContactAdded, ContactChanged
from ptproxy.peers.messenger_ledger import Change, Ledger
from ptproxy.peers.messenger_passes import HeldPasses
from ptproxy.peers.messenger_profile import MAX_LABEL, OwnInvite
from ptproxy.peers.messenger_sending import seal_elsewhere

MAX_INVITES: Final = 32
"""Invites of ours that are good at a time, 544 tokens of a box's 4,096; and a quarter of those that are kept
while mail may still come under them."""


def make(ledger: Ledger, change: Change, persons: int, days: int, label: str) -> OwnInvite:
    """One of ours; :class:`~ptproxy.errors.LocalProtocolError` as ``Messenger.invite`` says."""
    if not (0 < persons <= MAX_PERSONS and 0 < days <= MAX_DAYS and len(label.encode()) <= MAX_LABEL):
        raise LocalProtocolError("invite: for more persons, days or letters than there may be")
    still_open = sum(one.open(change.now) for one in ledger.invites.values())
    if still_open >= MAX_INVITES or len(ledger.invites) >= 4 * MAX_INVITES:
        raise LocalProtocolError(f"invite: there are {MAX_INVITES} already; revoke one")
    profile = ledger.profile
    made = ContactInvite.make(
        ledger.correspondence.owner.public.fingerprint,
        profile.mailbox,
        profile.prekeys_key,
        change.now,
        ledger.rng,
        persons=persons,
        days=days,
    )
    own = OwnInvite(made, label, persons)
    ledger.put_invite(own)
    change.invite(own)
    change.want_box()
    return own


def take(ledger: Ledger, change: Change, invite: ContactInvite) -> ContactRecord:
    """Who gave this invite is a contact, with its passes in place of those that we had."""
    if change.now >= invite.expires * DAY:
        raise InviteError("the invite has expired: ask for a new one")
    conversation = ledger.correspondence.add(invite.fingerprint, ledger.rng)
    record = ledger.contacts.get(conversation.id)
    if record is None:
        record = ContactRecord(conversation.id)
        ledger.put_contact(record)
        change.tell(ContactAdded(record.id))
    else:
        change.tell(ContactChanged(record.id))
    before = record.mailbox
    record.mailbox, record.prekeys_key = invite.mailbox, invite.prekeys_key
    record.stranger = False
    record.owes_hello = record.wishes = record.pass_due = True
    record.held = HeldPasses()  # of an earlier time: who invites us again knows why
    record.held.add(invite.fetching(), invite=True)
    record.held.add(invite.depositing(), invite=True)
    seal_elsewhere(ledger, change, record, before)
    change.contact(record)
    change.wake(record.id)
    change.want_box()
    return record
