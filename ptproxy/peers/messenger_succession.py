"""Our own identity is followed by another: contacts are told by the old one, then the new one begins anew.

Two steps, so that the person sees between them whom the statement has reached:

1. :func:`announce`: the successor is made and kept; every contact with a session is told of it, in its order
   among what waits.
2. :func:`become`: prekeys and identity are the new ones, all sessions end, invites are revoked, and each
   contact gets a hello of the new identity, in a session of its own. The contact's program shows it as
   vouched for; until the person there accepts it, nothing comes from there.

What contacts sealed for the old identity and we have not collected before the second step is lost, as its
sessions and prekeys are.
"""

from __future__ import annotations

from ptproxy.e2e import Fingerprint, OwnIdentity, Standing
from ptproxy.errors import LocalProtocolError
from ptproxy.peers.messenger_events import ContactId
from ptproxy.peers.messenger_ledger import Change, Ledger


def announce(ledger: Ledger, change: Change) -> OwnIdentity:
    """Make the successor, or take the one that was announced, and have contacts told."""
    profile = ledger.profile
    if not profile.successor:
        profile.successor = OwnIdentity.generate(ledger.rng).serialize()
        change.profile()
    for record in ledger.contacts.values():
        conversation = ledger.correspondence.conversations[record.id]
        if not record.stranger and conversation.session and conversation.standing is not Standing.CHANGED:
            record.owes_succession = True
            change.contact(record)
            change.wake(record.id)
    return OwnIdentity.parse(profile.successor)


def announced(ledger: Ledger) -> Fingerprint | None:
    """Of the successor that contacts are being told of; None where there is none."""
    successor = ledger.profile.successor
    return OwnIdentity.parse(successor).public.fingerprint if successor else None


def untold(ledger: Ledger) -> list[ContactId]:
    """Whose mailbox may not have the announcement: it waits, or is sealed and not deposited."""
    if not ledger.profile.successor:
        return []
    return [
        record.id
        for record in ledger.contacts.values()
        if record.owes_succession or ledger.outboxes[record.id].sealed is not None
    ]


def become(ledger: Ledger, change: Change) -> None:
    """From now on we are the successor; :class:`LocalProtocolError` where none was announced."""
    if not ledger.profile.successor:
        raise LocalProtocolError("succession: no successor was announced")
    successor = OwnIdentity.parse(ledger.profile.successor)
    ledger.correspondence.succeed(successor, change.now, ledger.rng)
    ledger.profile.successor, ledger.profile.published = b"", b""
    change.profile()
    change.want_box()
    for invite in list(ledger.invites.values()):
        ledger.drop_invite(change, invite)
    for record in ledger.contacts.values():
        _begin_anew(ledger, change, record.id)


def _begin_anew(ledger: Ledger, change: Change, contact: ContactId) -> None:
    record, outbox = ledger.contacts[contact], ledger.outboxes[contact]
    record.owes_succession = False
    record.owes_hello = not record.stranger
    record.owed_delivered, record.owed_read = [], []
    if outbox.sealed is not None:
        outbox.sealed = None  # of an ended session; its lines stay as they are
        change.sealed(outbox)
    change.contact(record)
    change.wake(contact)
