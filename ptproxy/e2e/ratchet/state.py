"""All that a ratchet remembers, and its stored form (RATCHET.md, *State*).

    version u8 = 1 ‖ flags u8 ‖ revision u64 ‖ AD 32 ‖ previous u32 ‖ root 164 ‖ key of the newest turn 32
    ‖ sending chain 68 ‖ receiving chain 68 and its keys ‖ count u8 ‖ old chains
    ‖ KEM step 20 ‖ seed 64, key 1184 or ciphertext 1088

Every field but the counters is secret.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final

from ptproxy.e2e.curve import CurveKey, CurveKeyPair
from ptproxy.e2e.kem import SEED, KemKeyPair
from ptproxy.e2e.ratchet.chains import ReceivingChain, SendingChain
from ptproxy.e2e.ratchet.header import MAX_CHAIN
from ptproxy.e2e.ratchet.kem import CIPHERTEXT, ENCAPSULATION_KEY, KEM
from ptproxy.e2e.ratchet.kem_step import KemStep, check_offer
from ptproxy.e2e.ratchet.kept import KEY, MAX_KEPT, MAX_OLD_CHAINS, KeptChain
from ptproxy.e2e.ratchet.refusals import RatchetRuleError
from ptproxy.e2e.ratchet.root import Root, TurnKeys
from ptproxy.errors import E2EError, StateError
from ptproxy.fields import Fields

VERSION: Final = 1
_FIXED: Final = struct.Struct(">BQ32sI")
_CHAIN: Final = struct.Struct(">32s32sI")
_KEM: Final = struct.Struct(">IIIQ")


class _Flag(IntFlag):
    SENDING = 1
    RECEIVING = 2
    OURS = 4
    OFFER = 8
    ASKED = 16
    ANSWER = 32
    OFFER_LEADS = 64
    TURN_IS_THEIRS = 128


@dataclass(slots=True)
class RatchetState:
    """The state between two messages. Of ``pair`` and ``peer`` there is always exactly one."""

    ad: bytes = field(repr=False)
    """What every message is bound to, 32 bytes."""
    root: Root
    kem: KemStep
    pair: CurveKeyPair | None = None
    """This side's key pair, while the newest turn is its own."""
    peer: CurveKey | None = None
    """The other side's public key, while the newest turn is theirs."""
    sending: SendingChain | None = None
    receiving: ReceivingChain | None = None
    old: list[KeptChain] = field(default_factory=list)
    """Chains of former turns whose keys are kept, oldest first."""
    previous: int = 0
    """Messages of this side's previous chain (``PN``)."""
    revision: int = 0
    """How often this changed."""

    def kept(self) -> list[KeptChain]:
        """All chains that may keep keys, oldest first."""
        return self.old if self.receiving is None else [*self.old, self.receiving.kept]

    def serialize(self) -> bytes:
        """The stored form: below 1.7 kB, and 32 bytes for each kept key."""
        own = _newest_key(self.pair, self.peer)
        parts = [
            bytes((VERSION,)),
            _FIXED.pack(self._flags(), self.revision, self.ad, self.previous),
            self.root.serialize(),
            own,
        ]
        if self.sending is not None:
            parts.append(_CHAIN.pack(self.sending.header_key, self.sending.key, self.sending.position))
        if self.receiving is not None:
            chain = self.receiving
            parts.append(_CHAIN.pack(chain.kept.header_key, chain.key, chain.position))
            parts.append(chain.kept.serialize())
        parts.append(bytes([len(self.old)]))
        for kept in self.old:
            parts += kept.header_key, kept.serialize()
        kem = self.kem
        parts.append(_KEM.pack(kem.epoch, kem.sent, kem.read, kem.since))
        offer = b"" if kem.offer is None else kem.offer.serialize_private()
        parts.append(offer or kem.asked or kem.answer or b"")
        return b"".join(parts)

    def _flags(self) -> int:
        kem = self.kem
        return (
            _Flag.SENDING * (self.sending is not None)
            | _Flag.RECEIVING * (self.receiving is not None)
            | _Flag.OURS * kem.ours
            | _Flag.OFFER * (kem.offer is not None)
            | _Flag.ASKED * (kem.asked is not None)
            | _Flag.ANSWER * (kem.answer is not None)
            | _Flag.OFFER_LEADS * kem.offer_leads
            | _Flag.TURN_IS_THEIRS * (self.peer is not None)
        )

    @classmethod
    def parse(cls, data: bytes) -> RatchetState:
        """From what :meth:`serialize` wrote; :class:`StateError` for anything else."""
        fields = Fields(data, StateError("ratchet state: damaged (of a wrong length)"))
        if fields.number(1) != VERSION:
            raise StateError("ratchet state: of a version that this program does not know")
        code, revision, ad, previous = fields.unpack(_FIXED)
        flags = _Flag(code)
        root = Root.parse(fields.take(Root.SIZE))
        key = fields.take(KEY)
        theirs = _Flag.TURN_IS_THEIRS in flags
        state = cls(
            ad,
            root,
            kem=KemStep(ours=_Flag.OURS in flags, since=0),
            pair=None if theirs else CurveKeyPair(key),
            peer=_peer(key) if theirs else None,
            sending=SendingChain(*_chain(fields)) if _Flag.SENDING in flags else None,
            receiving=_receiving(fields) if _Flag.RECEIVING in flags else None,
            old=[_old(fields) for _ in range(fields.number(1))],
            previous=previous,
            revision=revision,
        )
        _parse_kem(fields, state.kem, flags)
        fields.end()
        _check(state)
        return state


def _newest_key(pair: CurveKeyPair | None, peer: CurveKey | None) -> bytes:
    """The key of the newest turn: this side's private or the other's public one."""
    if pair is not None:
        return pair.serialize_private()
    assert peer is not None
    return peer.raw


def _peer(key: bytes) -> CurveKey:
    try:
        return CurveKey(key)
    except E2EError:
        raise StateError("ratchet state: damaged (X25519 key)") from None


def _chain(fields: Fields) -> tuple[TurnKeys, int]:
    header, key, position = fields.unpack(_CHAIN)
    return TurnKeys(header, key), position


def _receiving(fields: Fields) -> ReceivingChain:
    chain = ReceivingChain(*_chain(fields))
    chain.kept.parse_runs(fields)
    return chain


def _old(fields: Fields) -> KeptChain:
    kept = KeptChain(fields.take(KEY))
    kept.parse_runs(fields)
    return kept


def _parse_kem(fields: Fields, kem: KemStep, flags: _Flag) -> None:
    kem.epoch, kem.sent, kem.read, kem.since = fields.unpack(_KEM)
    kem.offer_leads = _Flag.OFFER_LEADS in flags
    if _Flag.OFFER in flags:
        kem.offer = KemKeyPair(KEM, fields.take(SEED))
    if _Flag.ASKED in flags:
        kem.asked = fields.take(ENCAPSULATION_KEY)
    if _Flag.ANSWER in flags:
        kem.answer = fields.take(CIPHERTEXT)


def _check(state: RatchetState) -> None:
    """Raise :class:`StateError` for what no sequence of messages leads to."""
    kem = state.kem
    ours_is_newest = state.pair is not None
    sound = (
        (state.sending is not None) == (ours_is_newest and state.root.turn > 0)
        and (state.receiving is not None or state.root.turn <= 1)
        and (kem.offer is not None) + (kem.asked is not None) + (kem.answer is not None) <= 1
        and (kem.offer is None or kem.ours)
        and (kem.asked is None or not kem.ours)
        and (kem.answer is None or (kem.ours and state.sending is not None))
        and (not kem.offer_leads or (kem.offer is not None and state.sending is not None))
        and len(state.old) <= MAX_OLD_CHAINS
        and all(chain.runs for chain in state.old)
        and sum(chain.count for chain in state.kept()) <= MAX_KEPT
        and state.previous <= MAX_CHAIN
        and (state.sending is None or state.sending.position <= MAX_CHAIN)
        and (state.receiving is None or _within(state.receiving))
    )
    if not sound:
        raise StateError("ratchet state: damaged (contradictory)")
    if kem.asked is not None:
        try:
            check_offer(kem.asked)
        except RatchetRuleError:
            raise StateError("ratchet state: damaged (ML-KEM key)") from None


def _within(chain: ReceivingChain) -> bool:
    """Whether the kept keys of an open chain are of messages before its position."""
    runs = chain.kept.runs
    return chain.position <= MAX_CHAIN and (not runs or runs[-1].first + len(runs[-1]) <= chain.position)
