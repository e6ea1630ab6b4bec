"""What streams with contacts need of a messenger's state: the session that keys them, and where to meet."""

from __future__ import annotations

from ptproxy.e2e import Session, Standing
from ptproxy.peers.dialers import Dialers, Errand
from ptproxy.peers.messenger_events import ContactId
from ptproxy.peers.messenger_ledger import Ledger
from ptproxy.peers.peer_meetings import Home
from ptproxy.tunnel.stream import Dialer


def session(ledger: Ledger, contact: ContactId) -> Session | None:
    """The session that is sent in with a contact; None without one, and while nothing may be sent."""
    conversation = ledger.correspondence.conversations.get(contact)
    record = ledger.contacts.get(contact)
    if conversation is None or record is None or record.stranger:
        return None
    return None if conversation.standing is Standing.CHANGED else conversation.session


def meeting_place(ledger: Ledger, dialers: Dialers, contact: ContactId, home: Home) -> Dialer | None:
    """The bridge of our mailbox or of the contact's, under a key for meeting this contact there."""
    record = ledger.contacts.get(contact)
    theirs = record.mailbox if record is not None else None
    link = ledger.profile.mailbox if home is Home.OURS else theirs
    if link is None:
        return None
    return dialers.dialer(link, ledger.profile.purpose(Errand.MEET, link, contact))
