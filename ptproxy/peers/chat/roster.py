"""Who there is, under one label each, and whom somebody means who writes a label."""

from __future__ import annotations

from collections.abc import Iterator

from ptproxy.e2e import Standing
from ptproxy.peers.chat.commands import CommandError
from ptproxy.peers.chat.names import Named, labels, skeleton
from ptproxy.peers.messenger import Messenger
from ptproxy.peers.messenger_events import ContactId
from ptproxy.peers.peer import Peer


class Roster:
    """The contacts of a messenger as they stand on the screen; :meth:`refresh` it when they change."""

    def __init__(self, messenger: Messenger) -> None:
        self._messenger = messenger
        self._labels: dict[ContactId, str] = {}
        self._named: dict[ContactId, str] = {}
        self.refresh()

    def refresh(self) -> None:
        """Label who is new or has another name, behind those who have a label already and keep it.

        Whoever writes to a label twice writes to the same contact. Of those who are labelled together,
        names that we gave come first, then verified contacts, strangers last.
        """
        peers = {peer.id: peer for peer in sorted(self._messenger.contacts(), key=_precedence)}
        new = [peer for peer in peers.values() if self._named.get(peer.id) != peer.name]
        changed = {peer.id for peer in new}
        kept = {number: self._labels[number] for number in peers if number not in changed}
        found = labels([Named(peer.name, peer.fingerprint) for peer in new], kept.values())
        labelled = kept | {peer.id: label for peer, label in zip(new, found, strict=True)}
        self._labels = {number: labelled[number] for number in peers}
        self._named = {number: peer.name for number, peer in peers.items()}

    def label(self, contact: ContactId) -> str:
        """What the contact is called; harmless, one row."""
        return self._labels.get(contact, "(gone)")

    def find(self, who: str) -> Peer:
        """The contact of this label or fingerprint; :class:`CommandError` where there is none."""
        wanted = " ".join(who.casefold().split())
        for peer in self:
            if self._labels[peer.id].casefold() == wanted:
                return peer
        for peer in self:
            if peer.fingerprint.matches(who):
                return peer
        raise CommandError("there is no contact of that name; /contacts lists them")

    def resembling(self, name: str) -> str | None:
        """The label of a contact that ``name`` looks like, if there is one."""
        wanted = skeleton(name)
        return next((label for label in self._labels.values() if skeleton(label) == wanted), None)

    def __iter__(self) -> Iterator[Peer]:
        """The contacts in the order of their labels' precedence."""
        there = {peer.id: peer for peer in self._messenger.contacts()}
        return (there[contact] for contact in self._labels if contact in there)

    def __len__(self) -> int:
        return len(self._labels)


def _precedence(peer: Peer) -> int:
    if peer.stranger:
        return 3
    if peer.name != peer.said_name:
        return 0
    return 1 if peer.standing is Standing.VERIFIED else 2
