"""One side of one conversation (Signal's Double Ratchet with header encryption, section 4).

Either the newest turn is this side's (it has the turn's key pair, and a
sending chain unless it is a responder that has heard nothing), or it is the
other's (this side has the other's public key and takes a turn before it
sends). RATCHET.md has the rules. :meth:`Ratchet.encrypt` and
:meth:`Ratchet.decrypt` first do everything that can fail, then change the
state, so that an error leaves it as it was.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ptproxy.e2e.curve import CurveKey, CurveKeyPair
from ptproxy.e2e.ratchet.chains import Reach, ReceivingChain, SendingChain, check_reach
from ptproxy.e2e.ratchet.envelope import NONCE, check_plaintext, check_size, open_body, open_header, seal
from ptproxy.e2e.ratchet.header import MAX_CHAIN, Header, Part
from ptproxy.e2e.ratchet.kem_step import KemStep, new_offer
from ptproxy.e2e.ratchet.kept import KEY, MAX_OLD_CHAINS, KeptChain, make_room
from ptproxy.e2e.ratchet.refusals import AlreadyReadError, RatchetRuleError, UnreadableError
from ptproxy.e2e.ratchet.root import MAX_TURN, Root
from ptproxy.e2e.ratchet.state import RatchetState
from ptproxy.e2e.rng import Rng
from ptproxy.errors import E2EError, LocalProtocolError

_LABEL_AD: Final = b"ptproxy 1 ratchet"


class Ratchet:
    """One side. Every change is to be saved before what it gave is used: see the package's docstring."""

    __slots__ = ("_state",)

    def __init__(self, state: RatchetState) -> None:
        self._state = state

    @classmethod
    def initiate(
        cls,
        secret: bytes,
        associated_data: bytes,
        peer_ratchet_key: CurveKey,
        now: float,
        rng: Rng,
    ) -> Ratchet:
        """The side that began the agreement and writes first (``RatchetInitAliceHE``).

        ``secret`` is the agreement's 32 bytes, ``peer_ratchet_key`` the responder's
        signed prekey.
        """
        kem = KemStep(ours=True, since=_seconds(now))
        state = RatchetState(_bind(associated_data), Root.start(secret), kem, peer=peer_ratchet_key)
        ratchet = cls(state)
        ratchet._take_turn(CurveKeyPair.generate(rng), _seconds(now))
        return ratchet

    @classmethod
    def respond(
        cls, secret: bytes, associated_data: bytes, own_ratchet_pair: CurveKeyPair, now: float
    ) -> Ratchet:
        """The side whose signed prekey pair was used; it reads before it writes (``RatchetInitBobHE``)."""
        kem = KemStep(ours=False, since=_seconds(now))
        return cls(RatchetState(_bind(associated_data), Root.start(secret), kem, pair=own_ratchet_pair))

    @classmethod
    def parse(cls, data: bytes) -> Ratchet:
        """From what :meth:`serialize` wrote.

        :class:`~ptproxy.errors.StateError` for anything else.
        """
        return cls(RatchetState.parse(data))

    def serialize(self) -> bytes:
        """All of it, secret: below 1.7 kB and 32 bytes for each kept key."""
        return self._state.serialize()

    @property
    def revision(self) -> int:
        """How often the state changed: a stored one with a higher number is newer."""
        return self._state.revision

    @property
    def turn(self) -> int:
        """The newest turn that this side knows; the other knows this one, the one before or the next."""
        return self._state.root.turn

    @property
    def heard_turn(self) -> int:
        """The newest turn that the other side has taken and this one has heard; -1 before any."""
        return self.turn if self._state.peer is not None else self.turn - 1

    @property
    def epoch(self) -> int:
        """KEM steps in the root."""
        return self._state.kem.epoch

    @property
    def can_encrypt(self) -> bool:
        """False only for a responder that has read nothing yet."""
        return self._state.sending is not None or self._state.peer is not None

    @property
    def unanswered(self) -> int:
        """Messages of this side's present chain: when a thousand are all lost, the session is too."""
        return 0 if self._state.sending is None else self._state.sending.position

    def export(self, label: bytes, length: int, turn: int | None = None) -> bytes:
        """``length`` bytes (1–8160) for another use, from the secret of a turn: this one or the one before.

        Both sides get the same for the same label, length and turn. The secret
        is kept until two turns later, so what is keyed with it is as safe
        from a thief as that.
        """
        return self._state.root.export(label, length, self.turn if turn is None else turn)

    def encrypt(self, plaintext: bytes, now: float, rng: Rng) -> bytes:
        """A message of one of :data:`~ptproxy.e2e.ratchet.envelope.SIZES`, never the same twice.

        ``plaintext`` has 0 to :data:`~ptproxy.e2e.ratchet.envelope.MAX_PLAINTEXT`
        bytes. :class:`LocalProtocolError`, and nothing changes, if it is longer, if
        this is a responder that has read nothing, or if 2^24 messages went unanswered.
        """
        state, seconds = self._state, _seconds(now)
        check_plaintext(plaintext)
        self._check_may_send()
        kem = state.kem
        pair = None if state.peer is None else CurveKeyPair.generate(rng)
        offer = new_offer(rng) if kem.due(seconds) else None
        nonce = rng(NONCE)
        # From here on nothing fails.
        if pair is not None:
            self._take_turn(pair, seconds)
        assert state.sending is not None
        assert state.pair is not None
        chain = state.sending
        if offer is not None:
            kem.make_offer(offer, first=chain.position == 0)
        part, carried = kem.carry()
        header = Header(part, kem.epoch, state.pair.public.raw, state.previous, chain.position, carried)
        message = seal(chain.cipher, chain.next(), state.ad, header.serialize(), plaintext, nonce)
        self._changed(seconds)
        return message

    def decrypt(self, message: bytes, now: float) -> bytes:
        """The plaintext of a message, in whatever order it came, once.

        :class:`~ptproxy.e2e.ratchet.refusals.RatchetError`, in one of four kinds, if it is
        refused; then nothing has changed.
        """
        check_size(message)
        state, seconds = self._state, _seconds(now)
        if state.pair is not None:
            header = open_header(AESGCM(state.root.next_header), state.ad, message)
            if header is not None:
                return self._read_new_turn(state.pair, header, message, seconds)
        chain = state.receiving
        if chain is not None:
            header = open_header(chain.kept.cipher, state.ad, message)
            if header is not None:
                if header.number >= chain.position:
                    return self._read_next(chain, header, message, seconds)
                return self._read_kept(chain.kept, header, message, seconds)
        for kept in state.old:
            header = open_header(kept.cipher, state.ad, message)
            if header is not None:
                return self._read_kept(kept, header, message, seconds)
        raise UnreadableError("ratchet: not a message of this session")

    def expire(self, now: float) -> bool:
        """Give up keys that were kept for too long (sending and reading do too); whether there were any."""
        state = self._state
        expired = [chain.expire(now) for chain in state.kept()]
        if not any(expired):
            return False
        state.old = [chain for chain in state.old if chain.runs]
        state.revision += 1
        return True

    def _check_may_send(self) -> None:
        """Raise :class:`LocalProtocolError` where nothing can be sent."""
        state = self._state
        if state.peer is not None:
            if state.root.turn == MAX_TURN:
                raise LocalProtocolError("ratchet: the last turn was taken")
        elif state.sending is None:
            raise LocalProtocolError("ratchet: a responder reads before it writes")
        elif state.sending.position >= MAX_CHAIN:
            raise LocalProtocolError("ratchet: too many messages without an answer")

    def _take_turn(self, pair: CurveKeyPair, now: int) -> None:
        """The sending half of ``DHRatchetHE``, when it is needed."""
        state = self._state
        assert state.peer is not None
        dh = pair.exchange(state.peer)
        state.root, keys = state.root.step(dh, state.kem.take_turn(now))
        state.sending = SendingChain(keys)
        state.pair, state.peer = pair, None

    def _read_next(self, chain: ReceivingChain, header: Header, message: bytes, now: int) -> bytes:
        """A message at or beyond the open chain's position."""
        self._state.kem.check(header)
        reach = chain.reach(header.number)
        plaintext = open_body(reach.message_key, self._state.ad, message, header)
        self._move(chain, reach, now)
        self._state.kem.heard(header)
        self._changed(now)
        return plaintext

    def _read_kept(self, chain: KeptChain, header: Header, message: bytes, now: int) -> bytes:
        """A message that was overtaken (``TrySkippedMessageKeysHE``)."""
        self._state.kem.check(header)
        message_key = chain.find(header.number, now)
        if message_key is None:
            raise AlreadyReadError("ratchet: read before, or too late")
        plaintext = open_body(message_key, self._state.ad, message, header)
        chain.remove(header.number)
        self._state.kem.heard(header)
        self._changed(now)
        return plaintext

    def _read_new_turn(self, pair: CurveKeyPair, header: Header, message: bytes, now: int) -> bytes:
        """The first message of the other side's next turn that arrives (``DHRatchetHE``, its first half)."""
        state = self._state
        check_reach(0, header.number)
        if header.part is Part.OFFER:
            state.kem.check(header)
        peer = _peer_key(header.key)
        dh = pair.exchange(peer)
        secret = state.kem.secret_of(header)
        root, keys = state.root.step(dh, secret)
        chain = ReceivingChain(keys)
        reach = Reach(chain, header.number)
        plaintext = open_body(reach.message_key, state.ad, message, header)

        if state.receiving is not None:
            self._close(state.receiving, header.previous, now)
        state.previous = 0 if state.sending is None else state.sending.position
        state.root, state.receiving, state.sending = root, chain, None
        state.pair, state.peer = None, peer
        state.kem.turn_taken(secret, now)
        self._move(chain, reach, now)
        state.kem.heard(header)
        self._changed(now)
        return plaintext

    def _move(self, chain: ReceivingChain, reach: Reach, now: int) -> None:
        """Move the open chain on, within the bound of kept keys."""
        if reach.skipped:
            make_room(self._state.kept(), len(reach.skipped) // KEY)
        chain.take(reach, now)

    def _close(self, chain: ReceivingChain, length: int, now: int) -> None:
        """Keep the rest of a chain that the other side has ended after ``length`` messages, or give it up."""
        state = self._state
        rest = chain.skip(length)
        if rest:
            make_room(state.kept(), len(rest) // KEY)
            chain.keep(rest, now)
        if not chain.kept.runs:
            return
        state.old.append(chain.kept)
        if len(state.old) > MAX_OLD_CHAINS:
            lost = state.old.pop(0)
            lost.drop(lost.count)

    def _changed(self, now: int) -> None:
        """After every change: keys that are too old go, and so do chains without any."""
        state = self._state
        state.revision += 1
        if state.receiving is not None and state.receiving.kept.runs:
            state.receiving.kept.expire_first(now)
        if state.old:
            for chain in state.old:
                chain.expire_first(now)
            state.old = [chain for chain in state.old if chain.runs]

    def __repr__(self) -> str:
        return f"<Ratchet turn {self.turn}, revision {self.revision}>"


def _peer_key(raw: bytes) -> CurveKey:
    """The key in a header; :class:`RatchetRuleError` if it is not canonical, or of low order."""
    try:
        return CurveKey(raw)
    except E2EError:
        raise RatchetRuleError("ratchet: not an X25519 key") from None


def _bind(associated_data: bytes) -> bytes:
    """``AD``: of one length whatever the agreement's is."""
    return hashlib.sha256(_LABEL_AD + associated_data).digest()


def _seconds(now: float) -> int:
    """``now`` as it is stored."""
    return max(0, int(now))
