"""Invites to bridges that contacts have passed on: kept until the person takes them, or does not.

Stored, as the piece ``messenger/passed on``::

    version u8 = 1 │ count u8
    │ (contact 16 │ arrived u64, ms │ taken u8 │ length u16 │ the invite, as its text has it) *

Nothing is done with one by itself: whoever passes on bridges of a censor's would see who comes. A contact
has few places, so that none can fill the list; what was taken stays when the contact is removed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ptproxy.dht.invite import MAX_TEXT, Invite, InviteError
from ptproxy.errors import StateError
from ptproxy.fields import Fields
from ptproxy.peers.messenger_contact import CONTACT
from ptproxy.peers.messenger_events import BridgesPassedOn, ContactId

if TYPE_CHECKING:
    from ptproxy.peers.messenger_ledger import Change, Ledger

PASSED_ON: Final = "messenger/passed on"
MOST_OF_ONE: Final = 4
"""Invites of one contact that are kept: the newest."""
MOST: Final = 32
"""... of all. With more, the oldest of whoever has most goes; what was taken goes last."""

_VERSION: Final = 1


@dataclass(slots=True)
class PassedOn:
    """One invite, of one contact."""

    contact: ContactId
    arrived: float
    """Unix seconds, by our clock."""
    invite: Invite = field(repr=False)
    taken: bool = False
    """The person wants its bridges."""


class PassedOnList:
    """All of them, the oldest first."""

    __slots__ = ("entries",)

    def __init__(self, entries: list[PassedOn] | None = None) -> None:
        self.entries = entries if entries is not None else []

    def add(self, new: PassedOn) -> bool:
        """One more; whether it is news. The same one again of the same contact is not."""
        known = [each for each in self.entries if each.contact == new.contact]
        if any(each.invite == new.invite for each in known):
            return False
        self.entries.append(new)
        if len(known) >= MOST_OF_ONE:
            self._make_room(known)
        elif len(self.entries) > MOST:
            counts = {each.contact: 0 for each in self.entries}
            for each in self.entries:
                counts[each.contact] += 1
            most = max(counts.values())
            self._make_room([each for each in self.entries if counts[each.contact] == most])
        return True

    def _make_room(self, among: list[PassedOn]) -> None:
        gone = min(among, key=lambda each: (each.taken, self.entries.index(each)))
        self.entries = [each for each in self.entries if each is not gone]

    def forget(self, contact: ContactId) -> bool:
        """A contact is gone, and with it what was not taken; whether there was any."""
        kept = [each for each in self.entries if each.taken or each.contact != contact]
        changed = len(kept) != len(self.entries)
        self.entries = kept
        return changed

    def serialize(self) -> bytes:
        """See the module."""
        parts = [bytes((_VERSION, len(self.entries)))]
        for each in self.entries:
            text = each.invite.serialize().encode("ascii")
            arrived = int(each.arrived * 1000).to_bytes(8, "big")
            parts += [each.contact, arrived, bytes((each.taken,)), len(text).to_bytes(2, "big"), text]
        return b"".join(parts)

    @classmethod
    def parse(cls, data: bytes) -> PassedOnList:
        """The reverse; :class:`StateError` where it is damaged."""
        damaged = StateError("invites passed on: damaged, or of a version that this program does not know")
        fields = Fields(data, damaged)
        if fields.number(1) != _VERSION:
            raise damaged
        entries = []
        for _ in range(fields.number(1)):
            contact, arrived, taken = fields.take(CONTACT), fields.number(8), fields.number(1)
            try:
                text = fields.take(fields.number(2)).decode("ascii")
                invite = Invite.parse(text)
            except (UnicodeDecodeError, InviteError):
                raise damaged from None
            if taken > 1 or len(text) > MAX_TEXT or arrived > 2**53:
                raise damaged
            entries.append(PassedOn(contact, arrived / 1000, invite, bool(taken)))
        fields.end()
        if len(entries) > MOST:
            raise damaged
        return cls(entries)


def receive_passed_on(ledger: Ledger, change: Change, contact: ContactId, invite: Invite) -> None:
    """A contact has passed an invite on; one that is over is not worth the person's time."""
    if change.now < invite.expires and ledger.passed_on.add(PassedOn(contact, change.now, invite)):
        change.passed_on()
        change.tell(BridgesPassedOn(contact, invite.id))


class PassedOnBridges:
    """What contacts have passed on, for the program above."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def known(self) -> list[PassedOn]:
        """Those that are good, the oldest first."""
        now = self._ledger.clock()
        return [each for each in self._ledger.passed_on.entries if now < each.invite.expires]

    async def take(self, number: bytes) -> None:
        """The person wants the bridges of the invite of this id; KeyError where there is none."""
        async with self._ledger.change() as change:
            for each in self._of(number):
                each.taken = True
            change.passed_on()

    async def drop(self, number: bytes) -> None:
        """... does not, or no longer; KeyError where there is none."""
        async with self._ledger.change() as change:
            gone = self._of(number)
            listed = self._ledger.passed_on
            listed.entries = [each for each in listed.entries if each not in gone]
            change.passed_on()

    def _of(self, number: bytes) -> list[PassedOn]:
        found = [each for each in self._ledger.passed_on.entries if each.invite.id == number]
        if not found:
            raise KeyError(number)
        return found
