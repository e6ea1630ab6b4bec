"""One meeting: a connection between the two, from hellos to its end, and the keys while it lasts.

    both     hello                                   in whatever order; then the keys are there
    both     record, record, …
    opener   REKEY(its key, a turn)                  when the ratchet has turned, at most once a minute
    acceptor REKEYED(its key)                        its next record is under the new keys
    opener   SWITCH                                  its next record is, too
    (or)     NOT_NOW                                 that turn is not known there (any more)

Only the opener proposes, so proposals never cross. It proposes the newest turn that the acceptor itself
has taken, which the acceptor therefore knows; or knew, and then says NOT_NOW, and the next proposal,
with a later turn, comes a minute later. Until SWITCH nothing depends on either's having heard the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.e2e.curve import CurveKey, CurveKeyPair
from ptproxy.e2e.rng import Rng
from ptproxy.e2e.stream.frames import Frame, KeyFrame, NotNow, Rekey, Rekeyed, Switch, parse_frames
from ptproxy.e2e.stream.hello import HELLO, NONCE, Hello
from ptproxy.e2e.stream.keys import Role, Seed, StepKeys, Turn, TurnSecrets, step, transcript
from ptproxy.e2e.stream.records import MAX_RECORDS, Opener, Sealer, size_for
from ptproxy.e2e.stream.refusals import StreamRuleError
from ptproxy.errors import E2EError

REKEY_EVERY: Final = 60.0
"""Seconds between looks whether the ratchet has turned."""
REKEY_RECORDS: Final = 2**20
"""Records of one direction after which there are new keys even without a new turn: 64 GiB at most."""

Turns = Callable[[], TurnSecrets | None]
"""What can be agreed on now; None while there is no session, or nothing may be sent."""


class Meeting:
    """One side of a meeting."""

    __slots__ = (
        "_answer", "_hello", "_hello_key", "_keys", "_look_at", "_next", "_opener", "_pair", "_proposed",
        "_received", "_refused_until", "_rng", "_sealer", "_secrets", "_seed", "_turns",
        "confirmed", "number", "role", "turn",
    )  # fmt: skip

    def __init__(
        self, seed: Seed, role: Role, number: int, secrets: TurnSecrets, turns: Turns, now: float, rng: Rng
    ) -> None:
        """``secrets``: what ``turns`` says at this moment."""
        self.number = number
        self.role = role
        self.turn = secrets.newest
        """The turn in use; before the peer's hello the newest that we know."""
        self.confirmed = False
        """Whether a record has verified: who is there knows the turn's secret."""
        self._seed = seed
        self._turns = turns
        self._rng = rng
        self._secrets: TurnSecrets | None = secrets
        self._pair: CurveKeyPair | None = CurveKeyPair.generate(rng)
        self._hello_key = seed.hello_key(number, role.other)
        self._hello = Hello(self._pair.public, secrets.newest).seal(seed.hello_key(number, role), rng(NONCE))
        self._received = bytearray()
        self._keys: StepKeys | None = None
        self._sealer: Sealer
        self._opener: Opener
        self._look_at = now + REKEY_EVERY
        self._refused_until = now
        self._proposed: tuple[Rekey, CurveKeyPair, bytes] | None = None
        self._answer: tuple[Rekeyed | Switch | NotNow, StepKeys | None] | None = None
        self._next: StepKeys | None = None  # the acceptor's, from REKEYED to SWITCH

    @property
    def hello(self) -> bytes:
        """What this side says first."""
        return self._hello

    @property
    def established(self) -> bool:
        """Whether the peer's hello has come: records may be sealed."""
        return self._keys is not None

    @property
    def expecting(self) -> bool:
        """Whether the peer owes a hello, or an answer to REKEY."""
        return self._keys is None or self._proposed is not None

    @property
    def exhausted(self) -> bool:
        """Whether our key has sealed all it may, and no new one came: the meeting is to be given up."""
        return self._keys is not None and self._sealer.records >= MAX_RECORDS

    def receive(self, data: Buffer) -> None:
        """Bytes came, cut anywhere; :meth:`next` until it has no more.

        :class:`~ptproxy.e2e.stream.refusals.MeetingError` for what is not the peer's hello.
        """
        if self._keys is not None:
            self._opener.receive(data)
            return
        self._received += data
        if len(self._received) >= HELLO:
            self._establish(bytes(self._received[:HELLO]))
            self._opener.receive(self._received[HELLO:])
            self._received.clear()

    def next(self, now: float) -> list[Frame] | None:
        """The frames of the next record, those about keys left out; None until it is whole.

        :class:`~ptproxy.e2e.stream.refusals.MeetingError` for a record that does not verify,
        :class:`StreamRuleError` for one that does and is against the rules.
        """
        plaintext = self._opener.next() if self._keys is not None else None
        if plaintext is None:
            return None
        self.confirmed = True
        frames = parse_frames(plaintext)
        if frames and isinstance(frames[-1], KeyFrame):
            self._hear_of_keys(frames.pop(), now)
        return frames

    def seal(self, parts: Sequence[Buffer], length: int, size: int) -> bytes:
        """A record; see :meth:`~ptproxy.e2e.stream.records.Sealer.seal`."""
        return self._sealer.seal(parts, length, size)

    def key_record(self, now: float) -> bytes | None:
        """A record about keys, if one is due."""
        if self._answer is not None:
            (frame, keys), self._answer = self._answer, None
            record = self._seal_one(frame.serialize())
            if keys is not None:
                self._sealer = Sealer(keys.of(self.role))
            return record
        if self.role is Role.OPENER and self._proposed is None:
            return self._propose(now)
        return None

    def _establish(self, hello: bytes) -> None:
        """The peer's hello is there: agree on a turn, take the first keys."""
        assert self._pair is not None
        assert self._secrets is not None
        said = Hello.open(hello, self._hello_key)
        turn = self._secrets.agree(said.newest)
        dh = self._pair.exchange(said.key)
        both = (self._hello, hello) if self.role is Role.OPENER else (hello, self._hello)
        name = self._seed.stream + self.number.to_bytes(4, "big")
        exported = self._secrets.secrets[turn]
        self._keys = keys = step(self._seed.chain(self.number), dh, exported, transcript(name, *both))
        self._sealer = Sealer(keys.of(self.role))
        self._opener = Opener(keys.of(self.role.other))
        self.turn = Turn(self._secrets.newest.session, turn)
        self._pair = self._secrets = None

    def _propose(self, now: float) -> bytes | None:
        """The opener: REKEY, where the acceptor has taken a later turn or a key has sealed much."""
        much = max(self._sealer.records, self._opener.records) >= REKEY_RECORDS
        if now < self._refused_until or (now < self._look_at and not much):
            return None
        self._look_at = now + REKEY_EVERY
        secrets = self._turns()
        if secrets is None:
            return None
        session, number = secrets.newest.session, secrets.heard
        if session == self.turn.session:
            if number <= self.turn.number and not much:
                return None
            number = max(number, self.turn.number)
        secret = secrets.secrets.get(number)
        if secret is None:
            return None
        pair = CurveKeyPair.generate(self._rng)
        rekey = Rekey(pair.public.raw, Turn(session, number))
        self._proposed = rekey, pair, secret
        return self._seal_one(rekey.serialize())

    def _hear_of_keys(self, frame: Frame, now: float) -> None:
        """What each side may say of keys, and when; :class:`StreamRuleError` for anything else."""
        if isinstance(frame, Rekeyed) and self._proposed is not None:
            self._accepted(frame, now)
        elif isinstance(frame, NotNow) and self._proposed is not None:
            self._refused(now)
        elif isinstance(frame, Rekey) and self._may_be_asked:
            self._answer = self._accept(frame)
        elif isinstance(frame, Switch) and self._answer is None and self._next is not None:
            self._opener.switch(self._next.of(Role.OPENER))
            self._next = None
        else:
            raise StreamRuleError("stream: keys spoken of out of turn")

    @property
    def _may_be_asked(self) -> bool:
        """Whether this side is the acceptor and has answered all, up to SWITCH."""
        return self.role is Role.ACCEPTOR and self._answer is None and self._next is None

    def _accepted(self, rekeyed: Rekeyed, now: float) -> None:
        """The opener: what it proposed is taken. SWITCH is to be said."""
        assert self._proposed is not None
        (rekey, pair, secret), self._proposed = self._proposed, None
        self._look_at = now + REKEY_EVERY
        keys = self._step(rekey, rekeyed, pair, _peer_key(rekeyed.key), secret)
        self._opener.switch(keys.of(Role.ACCEPTOR))
        self._answer = Switch(), keys

    def _refused(self, now: float) -> None:
        """The opener: what it proposed is not known there."""
        self._proposed = None
        # However much was sealed: it would be asked at once, for ever.
        self._look_at = self._refused_until = now + REKEY_EVERY

    def _accept(self, rekey: Rekey) -> tuple[Rekeyed | NotNow, StepKeys | None]:
        """The acceptor: new keys where it knows that turn."""
        peer = _peer_key(rekey.key)
        if rekey.turn.session == self.turn.session and rekey.turn.number < self.turn.number:
            raise StreamRuleError("stream: a turn before the one in use")
        secrets = self._turns()
        secret = None if secrets is None else secrets.secrets.get(rekey.turn.number)
        if secrets is None or secret is None or secrets.newest.session != rekey.turn.session:
            return NotNow(), None
        pair = CurveKeyPair.generate(self._rng)
        rekeyed = Rekeyed(pair.public.raw)
        self._next = self._step(rekey, rekeyed, pair, peer, secret)
        return rekeyed, self._next

    def _step(
        self, rekey: Rekey, rekeyed: Rekeyed, pair: CurveKeyPair, peer: CurveKey, secret: bytes
    ) -> StepKeys:
        """The keys after a rekeying; both sides."""
        assert self._keys is not None
        said = transcript(self._keys.transcript, rekey.serialize(), rekeyed.serialize())
        self._keys = keys = step(self._keys.chain, pair.exchange(peer), secret, said)
        self.turn = rekey.turn
        return keys

    def _seal_one(self, frame: bytes) -> bytes:
        return self._sealer.seal((frame,), len(frame), size_for(len(frame)))

    def __repr__(self) -> str:
        return f"<Meeting {self.number}, {self.role.name.lower()}, {self.turn.number}>"


def _peer_key(raw: bytes) -> CurveKey:
    try:
        return CurveKey(raw)
    except E2EError:
        raise StreamRuleError("stream: not an X25519 key") from None
