"""When ML-KEM is mixed into the root, and what is refused so that it cannot be left out.

The rules are RATCHET.md's, *KEM step*. Of the three things that a side can
hold it has one at a time: its own offer that waits for the answer, the other's
offer that waits for this side's next turn, or the answer that its present chain
carries. Steps alternate, so offers never cross.

    idle, ours ──due, on sending──▶ offered ──answer on a new turn──▶ idle, theirs
    idle, theirs ──an offer read──▶ asked ──own turn taken──▶ answering ──their turn──▶ idle, ours

Judging (:meth:`KemStep.secret_of`, :meth:`KemStep.check`) changes nothing;
:meth:`KemStep.heard` takes in a message that has verified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ptproxy.e2e.kem import KemKey, KemKeyPair, require
from ptproxy.e2e.ratchet.header import Header, Part
from ptproxy.e2e.ratchet.kem import KEM, KemSecret, decapsulate, encapsulate
from ptproxy.e2e.ratchet.refusals import RatchetRuleError
from ptproxy.e2e.rng import Rng
from ptproxy.errors import E2EError

INTERVAL: Final = 50
"""Messages, both ways, between two steps. Part of the protocol: who offers later is refused."""
MAX_WAIT: Final = 7 * 86_400
"""Seconds between two steps where less is written."""
_MAX_COUNT: Final = 2**32 - 1


@dataclass(slots=True, eq=False, repr=False, kw_only=True)
class KemStep:
    """One side's place in the sequence of KEM steps.

    To make one raises :class:`~ptproxy.errors.StartError` where the library has no ML-KEM: now, not
    fifty messages into a conversation.
    """

    ours: bool
    """Whether the next offer is this side's; the first is the initiator's."""
    since: int
    """When this epoch began, in seconds."""
    epoch: int = 0
    """Steps in the root."""
    sent: int = 0
    """Messages sent in this epoch."""
    read: int = 0
    """Messages read that the other side sent in this epoch."""
    offer: KemKeyPair | None = None
    """This side's offer that waits for the answer."""
    offer_leads: bool = False
    """Whether this side's present chain has carried the offer from its first message."""
    asked: bytes | None = None
    """The other's offer, which this side's next turn answers."""
    answer: bytes | None = None
    """The ciphertext that this side's present chain carries."""

    def __post_init__(self) -> None:
        require(KEM)

    # ---- sending

    def due(self, now: float) -> bool:
        """Whether the next message begins an offer."""
        return (
            self.ours
            and self.offer is None
            and self.answer is None
            and (self.sent + self.read >= INTERVAL or now - self.since >= MAX_WAIT)
        )

    def take_turn(self, now: int) -> KemSecret | None:
        """This side takes a turn: the secret of the step that its chain answers, if one is asked for."""
        if self.asked is None:
            self.answer = None
            self.offer_leads = self.offer is not None
            return None
        secret, self.answer = encapsulate(self.asked)
        self.asked = None
        self._begin_epoch(ours=True, now=now)
        return secret

    def make_offer(self, key: KemKeyPair, *, first: bool) -> None:
        """Offer from now on; ``first`` where the next message is the first of its chain."""
        self.offer = key
        self.offer_leads = first

    def carry(self) -> tuple[Part, bytes]:
        """What the next message carries; it is counted."""
        if self.sent < _MAX_COUNT:
            self.sent += 1
        if self.answer is not None:
            return Part.ANSWER, self.answer
        if self.offer is not None:
            return Part.OFFER, self.offer.public.raw
        return Part.NOTHING, b""

    # ---- reading

    def secret_of(self, header: Header) -> KemSecret | None:
        """The secret that a new turn of the other side mixes in.

        :class:`RatchetRuleError` for a turn that may not begin like this.
        """
        if header.part is Part.ANSWER:
            if self.offer is None or header.epoch != self.epoch + 1:
                raise RatchetRuleError("ratchet: an answer to no offer")
            return decapsulate(self.offer, header.carried)
        if header.epoch != self.epoch:
            raise RatchetRuleError("ratchet: a turn of another epoch")
        if self.offer is not None and self.offer_leads:
            raise RatchetRuleError("ratchet: a turn that left an offer unanswered")
        if header.part is Part.NOTHING and not self.ours and self.read >= INTERVAL:
            raise RatchetRuleError("ratchet: a turn without the offer that is due")
        return None

    def check(self, header: Header) -> None:
        """Raise :class:`RatchetRuleError` where a message of a turn taken, or an offer, breaks a rule."""
        if header.epoch > self.epoch:
            raise RatchetRuleError("ratchet: a message of a later epoch")
        if header.part is not Part.OFFER or header.epoch < self.epoch:
            return
        if self.ours:
            raise RatchetRuleError("ratchet: an offer out of turn")
        if self.asked is None:
            check_offer(header.carried)
        elif self.asked != header.carried:
            raise RatchetRuleError("ratchet: a second, different offer")

    def turn_taken(self, secret: KemSecret | None, now: int) -> None:
        """The other side has taken a turn: this side's chain is over. ``secret``: its offer was answered."""
        self.answer = None
        self.offer_leads = False
        if secret is not None:
            self.offer = None
            self._begin_epoch(ours=False, now=now)

    def heard(self, header: Header) -> None:
        """A message has verified: count it, and remember an offer."""
        if header.epoch != self.epoch:
            return
        if self.read < _MAX_COUNT:
            self.read += 1
        if header.part is Part.OFFER and self.asked is None:
            self.asked = header.carried

    def _begin_epoch(self, *, ours: bool, now: int) -> None:
        self.epoch += 1
        self.ours = ours
        self.sent = self.read = 0
        self.since = now

    def __repr__(self) -> str:
        return f"<KemStep epoch {self.epoch}>"


def new_offer(rng: Rng) -> KemKeyPair:
    """A key to offer, from ``rng``, a CSPRNG in production."""
    return KemKeyPair.generate(KEM, rng)


def check_offer(offer: bytes) -> None:
    """Raise :class:`RatchetRuleError` unless it is an ML-KEM-768 key (FIPS 203 section 7.2)."""
    try:
        KemKey(KEM, offer)
    except E2EError:
        raise RatchetRuleError("ratchet: not an ML-KEM-768 key") from None
