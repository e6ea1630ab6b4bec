"""Who a peer is to us: what the person has said about its identity, and what has changed since.

    unverified ──the person has compared──▶ verified
        │  ▲                                   │
        │  └──── accepted, or kept ────┐       │
        └──another identity is seen──▶ changed ◀┘

Rules:

1. While ``CHANGED`` nothing is sent, whatever was compared before.
2. A new identity is accepted by its fingerprint, so that nobody accepts another one than was
   shown. Accepting is not comparing: the contact is unverified then.
3. Keeping the known identity restores what was: a mailbox that shows a wrong bundle cannot take
   a comparison away.
4. One that the old key vouches for (:mod:`~ptproxy.e2e.succession`) is not displaced by one that
   only somebody on the way has shown.

Stored: ``version u8 = 1 │ flags u8 │ known 32 │ candidate 0 or 32``. Flags: 1 compared,
2 added by the person, 4 a candidate follows, 8 the old key vouches for it, 16 stale.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from ptproxy.e2e.fingerprint import LENGTH, Fingerprint
from ptproxy.errors import E2EError, StateError
from ptproxy.fields import Fields

_VERSION: Final = 1


class Standing(IntEnum):
    """What a program shows beside a peer's name."""

    UNVERIFIED = 0
    """Nobody has compared fingerprints."""
    VERIFIED = 1
    """The person has compared them."""
    CHANGED = 2
    """Another identity was seen in its place: nothing is sent until the person has decided."""


class _Flag(IntFlag):
    COMPARED = 1
    ADDED = 2
    CANDIDATE = 4
    VOUCHED = 8
    STALE = 16


_ALL: Final = _Flag.COMPARED | _Flag.ADDED | _Flag.CANDIDATE | _Flag.VOUCHED | _Flag.STALE


@dataclass(slots=True)
class Contact:
    """A peer. Changing it is :class:`~ptproxy.e2e.conversation.Conversation`'s, which has it saved."""

    known: Fingerprint
    """The identity that we write to and read from."""
    compared: bool = False
    """The person has compared ``known``."""
    added: bool = False
    """The person named or answered this peer; otherwise it is a stranger that wrote to us."""
    candidate: Fingerprint | None = None
    """The identity seen in place of ``known``."""
    vouched: bool = False
    """The key of ``known`` has signed that ``candidate`` follows it."""
    stale: bool = False
    """The sessions are those of a state that was put back: they are read, and nothing is sent in them."""

    @property
    def standing(self) -> Standing:
        """The state that a program shows."""
        if self.candidate is not None:
            return Standing.CHANGED
        return Standing.VERIFIED if self.compared else Standing.UNVERIFIED

    def compare(self, text: str) -> bool:
        """The person typed or scanned ``text``: verified if it is the known fingerprint, in any form."""
        if not self.known.matches(text):
            return False
        self.compared = self.added = True
        return True

    def see(self, identity: Fingerprint) -> None:
        """Another identity was found where this peer's should be: at a mailbox, in a bundle."""
        if not self.vouched and identity != self.known:
            self.candidate = identity

    def hear_succession(self, successor: Fingerprint) -> None:
        """A statement of the known identity has verified: it names its successor."""
        self.candidate, self.vouched = successor, True

    def accept(self, fingerprint: Fingerprint) -> None:
        """The person accepts the candidate; :class:`E2EError` where this is not its fingerprint."""
        if self.candidate is None or not hmac.compare_digest(self.candidate.data, fingerprint.data):
            raise E2EError("contact: this is not the identity that was seen")
        self.known, self.compared, self.added = self.candidate, False, True
        self.candidate, self.vouched = None, False

    def keep(self) -> None:
        """The person stays with the known identity."""
        self.candidate, self.vouched = None, False

    def serialize(self) -> bytes:
        """34 or 66 bytes."""
        flags = (
            _Flag.COMPARED * self.compared
            | _Flag.ADDED * self.added
            | _Flag.CANDIDATE * (self.candidate is not None)
            | _Flag.VOUCHED * self.vouched
            | _Flag.STALE * self.stale
        )
        candidate = b"" if self.candidate is None else self.candidate.data
        return bytes((_VERSION, flags)) + self.known.data + candidate

    @classmethod
    def parse(cls, data: bytes) -> Contact:
        """The reverse; :class:`StateError` where it is damaged."""
        damaged = StateError("contact: damaged, or of a version that this program does not know")
        fields = Fields(data, damaged)
        version, flags = fields.number(1), fields.number(1)
        if version != _VERSION or flags & ~_ALL or (flags & _Flag.VOUCHED and not flags & _Flag.CANDIDATE):
            raise damaged
        known = Fingerprint(fields.take(LENGTH))
        candidate = Fingerprint(fields.take(LENGTH)) if flags & _Flag.CANDIDATE else None
        fields.end()
        if candidate == known:
            raise damaged
        return cls(
            known,
            bool(flags & _Flag.COMPARED),
            bool(flags & _Flag.ADDED),
            candidate,
            bool(flags & _Flag.VOUCHED),
            bool(flags & _Flag.STALE),
        )
