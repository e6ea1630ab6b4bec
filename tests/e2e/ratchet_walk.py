"""A random walk: two sides, a hostile and lossy way between them, and programs that die at any point.

Everything follows from the seed. ``Model`` says, from the numbers of messages
alone, which of them a receiver must still be able to read; the walk compares
that with what the ratchet does, step by step, and looks at every message that
leaves: its length, its nonce, its key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from random import Random
from unittest import mock

from ptproxy.e2e.curve import CurveKeyPair
from ptproxy.e2e.ratchet import (
    MAX_PLAINTEXT,
    SIZES,
    AlreadyReadError,
    Ratchet,
    RatchetError,
    TooFarAheadError,
)
from ptproxy.e2e.ratchet import ratchet as ratchet_module

MAX_SKIP, MAX_KEPT, MAX_OLD, MAX_AGE = 1000, 2000, 5, 30 * 86_400
"""RATCHET.md's, once more: a model that took them from the code could not disagree."""


class Fault(Exception):
    """The ratchet did something that its rules forbid."""


@dataclass
class Message:
    ident: int
    sender: str
    turn: int
    number: int
    previous: int
    text: bytes
    data: bytes


@dataclass
class Chain:
    """What a receiver may still read of a chain: number → when it was passed over."""

    turn: int
    missing: dict[int, int] = field(default_factory=dict)


class Model:
    """Which messages one receiver can read."""

    def __init__(self) -> None:
        self.open: Chain | None = None
        self.position = 0
        self.old: list[Chain] = []

    def verdict(self, message: Message, now: int) -> str:
        """``read``, ``far`` or ``no``."""
        if self.open is None or message.turn > self.open.turn:
            return "far" if message.number > MAX_SKIP else "read"
        if message.turn == self.open.turn and message.number >= self.position:
            return "far" if message.number - self.position > MAX_SKIP else "read"
        for chain in self.chains():
            if chain.turn == message.turn and message.number in chain.missing:
                return "read" if chain.missing[message.number] + MAX_AGE >= now else "no"
        return "no"

    def chains(self) -> list[Chain]:
        return self.old + ([self.open] if self.open else [])

    def read(self, message: Message, now: int) -> None:
        if self.open is None or message.turn > self.open.turn:
            if self.open is not None:
                self._pass_over(message.previous, now)
                self.old.append(self.open)
                self.old = [chain for chain in self.old if chain.missing][-MAX_OLD:]
            self.open, self.position = Chain(message.turn), 0
        if message.turn == self.open.turn and message.number >= self.position:
            self._pass_over(message.number, now)
            self.position = message.number + 1
        else:
            for chain in self.chains():
                if chain.turn == message.turn:
                    del chain.missing[message.number]
        self._expire(now)

    def _pass_over(self, until: int, now: int) -> None:
        if until - self.position > MAX_SKIP:
            return
        for number in range(self.position, until):
            self.open.missing[number] = now
        for chain in self.chains():
            while sum(len(c.missing) for c in self.chains()) > MAX_KEPT and chain.missing:
                del chain.missing[min(chain.missing)]

    def _expire(self, now: int) -> None:
        for chain in self.chains():
            chain.missing = {n: since for n, since in chain.missing.items() if since + MAX_AGE >= now}
        self.old = [chain for chain in self.old if chain.missing]


class Side:
    """A program with its disk: ``saved`` is what a restart finds."""

    def __init__(self, name: str, ratchet: Ratchet, skew: int) -> None:
        self.name = name
        self.ratchet = ratchet
        self.saved = ratchet.serialize()
        self.skew = skew
        self.model = Model()
        self.chain_turn = -1
        self.number = self.previous = 0

    def save(self) -> None:
        before, self.saved = self.saved, self.ratchet.serialize()
        if int.from_bytes(self.saved[2:10], "big") <= int.from_bytes(before[2:10], "big"):
            raise Fault("a change that the revision does not show")

    def restart(self) -> None:
        self.ratchet = Ratchet.parse(self.saved)
        if self.ratchet.serialize() != self.saved:
            raise Fault("a state that is not what was stored")


class Walk:
    """One walk. ``say`` is called with a line for each step."""

    def __init__(self, seed: int, say: Callable[[str], None] = lambda line: None) -> None:
        self.random = Random(f"ratchet walk {seed}")
        self.rng = self.random.randbytes
        self.say = say
        self.now = 1_800_000_000.0
        self.figures: Counter[str] = Counter()
        self.flying: list[Message] = []
        self.past: list[Message] = []
        self.read: set[int] = set()
        self.keys: dict[bytes, int] = {}
        self.nonces: set[bytes] = set()
        self.sealing = b""
        key = CurveKeyPair.generate(self.rng)
        secret, ad = self.rng(32), self.rng(self.random.randrange(200))
        skews = [self.random.choice((0, 0, -300, 7200)) for _ in range(2)]
        self.alice = Side("alice", Ratchet.initiate(secret, ad, key.public, self.now, self.rng), skews[0])
        self.bob = Side("bob", Ratchet.respond(secret, ad, key, self.now), skews[1])
        self.loss = self.random.choice((0.0, 0.05, 0.3))
        self.order = self.random.choice((0.95, 0.6, 0.1))
        self.balance = self.random.choice((0.5, 0.5, 0.1, 0.9))
        self.mortality = 0.03
        self.steps = self.random.choice((40, 120, 250))

    def run(self) -> Counter[str]:
        with self._watch_keys():
            for _ in range(self.steps):
                self._step()
            while self.flying:
                self._deliver()
            self._still_alive()
        self.figures["epochs"] = self.alice.ratchet.epoch
        self.figures["turns"] = self.alice.ratchet.turn
        return self.figures

    def _watch_keys(self) -> AbstractContextManager[object]:
        seal = ratchet_module.seal

        def watched(cipher, message_key, *rest):
            self.sealing = message_key
            return seal(cipher, message_key, *rest)

        return mock.patch.object(ratchet_module, "seal", watched)

    def _step(self) -> None:
        self._time()
        draw = self.random.random()
        if draw < 0.42:
            side = self.alice if self.random.random() < self.balance else self.bob
            burst = self.random.choices((1, 5, 60, 1060), (90, 8, 2, 0.15))[0]
            for _ in range(burst):
                self._send(side, short=burst > 5)
        elif draw < 0.80:
            self._deliver()
        elif draw < 0.90:
            self._forge()
        elif draw < 0.945:
            self._replay()
        elif draw < 0.95:
            self._overtake_in_every_turn()
        else:
            self.figures["restarts"] += 1
            self.random.choice((self.alice, self.bob)).restart()

    def _time(self) -> None:
        draw = self.random.random()
        if draw < 0.9:
            self.now += self.random.random() * 30
        elif draw < 0.985:
            self.now += self.random.random() * 86_400
        elif draw < 0.998:
            self.now += self.random.random() * 9 * 86_400
        else:
            self.now += self.random.choice((31 * 86_400, -3600))

    def _send(self, side: Side, short: bool = False) -> None:
        if not side.ratchet.can_encrypt:
            return
        other = (self.bob if side is self.alice else self.alice).model.open
        if side.ratchet.unanswered > 900 and (other is None or other.turn < side.ratchet.turn):
            return  # a thousand lost before the first of a turn is read cannot be made up for (RATCHET.md)
        limit = 60 if short else self.random.choices((60, 500, 5000, MAX_PLAINTEXT), (80, 15, 4, 1))[0]
        text = self.rng(self.random.randint(0, limit))
        data = side.ratchet.encrypt(text, self.now + side.skew, self.rng)
        if self.random.random() < self.mortality:  # killed before it was saved: the message has not left
            self.figures["killed sending"] += 1
            side.restart()
            return
        turn = side.ratchet.turn
        if turn != side.chain_turn:
            side.previous, side.number, side.chain_turn = side.number, 0, turn
        message = Message(self.figures["sent"], side.name, turn, side.number, side.previous, text, data)
        side.number += 1
        side.save()
        self.figures["sent"] += 1
        self._look_at(message)
        self.say(f"{side.name} sends {message.ident}: turn {turn} number {message.number}")
        if self.random.random() >= self.loss:
            self.flying.append(message)
        self.past.append(message)

    def _look_at(self, message: Message) -> None:
        if len(message.data) not in SIZES:
            raise Fault("a length that no message has")
        if self.keys.setdefault(self.sealing, message.ident) != message.ident:
            raise Fault("one key for two messages that left")
        if message.data[:12] in self.nonces:
            raise Fault("a nonce repeated")
        self.nonces.add(message.data[:12])

    def _deliver(self) -> None:
        if not self.flying:
            return
        index = 0 if self.random.random() < self.order else self.random.randrange(len(self.flying))
        message = self.flying[index]
        if self.random.random() >= 0.05:  # otherwise it will come once more
            del self.flying[index]
        self._receive(message)

    def _overtake_in_every_turn(self) -> None:
        """A quick exchange in which the first message of each turn comes late: old chains pile up."""
        for _ in range(self.random.randrange(2, 6)):
            for side in (self.alice, self.bob):
                self._send(side, short=True)
                self._send(side, short=True)
                if self.flying and self.flying[-1] is self.past[-1]:
                    self._receive(self.flying.pop())

    def _replay(self) -> None:
        if self.past:
            self._receive(self.random.choice(self.past[-300:]))

    def _receiver(self, message: Message) -> Side:
        return self.bob if message.sender == "alice" else self.alice

    def _receive(self, message: Message) -> None:
        side = self._receiver(message)
        now = self.now + side.skew
        expected = side.model.verdict(message, int(now))
        if expected != "read":
            error = self._refused(side, message.data, f"{message.ident} ({expected})")
            if (expected == "far") != isinstance(error, TooFarAheadError):
                raise Fault(f"message {message.ident} refused as {type(error).__name__}, not {expected}")
            self.figures["far" if expected == "far" else "repeated"] += 1
            return
        try:
            text = side.ratchet.decrypt(message.data, now)
        except RatchetError as error:
            raise Fault(f"message {message.ident} was to be read: {type(error).__name__} {error}") from error
        if text != message.text:
            raise Fault("another text than was written")
        if (
            self.random.random() < self.mortality
        ):  # killed before it was saved: nothing was shown, it comes again
            self.figures["killed reading"] += 1
            side.restart()
            self.flying.append(message)
            return
        if message.ident in self.read:
            raise Fault("read twice")
        self.read.add(message.ident)
        side.save()
        side.model.read(message, int(now))
        self.figures["read"] += 1
        self.say(f"{side.name} reads {message.ident}")

    def _refused(self, side: Side, data: bytes, what: str) -> RatchetError:
        before = side.ratchet.serialize()
        try:
            side.ratchet.decrypt(data, self.now + side.skew)
        except RatchetError as error:
            if side.ratchet.serialize() != before:
                raise Fault(f"{what}: refused, and the state changed") from error
            self.say(f"{side.name} refuses {what}")
            return error
        raise Fault(f"{what}: not refused")

    def _forge(self) -> None:
        if not self.past:
            return
        message = self.random.choice(self.flying or self.past)
        data = bytearray(message.data)
        side = self._receiver(message)
        kind = self.random.randrange(7)
        if kind <= 1:
            data[self.random.randrange(len(data) if kind else 80)] ^= 1 << self.random.randrange(8)
        elif kind == 2:
            del data[self.random.randrange(len(data)) :]
        elif kind == 3:
            longer = next((size for size in SIZES if size > len(data)), len(data) + 1)
            data += self.rng(self.random.choice((1, longer - len(data))))
        elif kind == 4:
            data = bytearray(self.rng(self.random.choice(SIZES)))
        elif kind == 5:
            other = self.random.choice(self.past)
            cut = self.random.choice((12, 73, 1257))
            data = bytearray(other.data[:cut] + message.data[cut:])
            if data in (other.data, message.data):
                return
        else:
            side = self.alice if message.sender == "alice" else self.bob  # reflected
        error = self._refused(side, bytes(data), f"forgery {kind}")
        if isinstance(error, AlreadyReadError | TooFarAheadError) and kind in (4, 6):
            raise Fault(f"forgery {kind} was taken for a genuine header")
        self.figures["forged"] += 1

    def _still_alive(self) -> None:
        """Whatever was lost, both go on: after a few lines each way all is read again."""
        self.mortality = self.loss = 0
        for line in range(6):
            for side in (self.bob, self.alice):
                if not side.ratchet.can_encrypt:
                    continue
                self._send(side, short=True)
                if not self.flying:
                    raise Fault("a side that may write did not")
                read = self.figures["read"]
                self._receive(self.flying.pop())
                if line > 1 and self.figures["read"] == read:
                    raise Fault("the session did not recover")
        one, other = self.alice.ratchet, self.bob.ratchet
        if one.epoch != other.epoch or one.turn != other.turn:
            raise Fault("two sides that have read everything differ")
        if one.export(b"x", 40) != other.export(b"x", 40):
            raise Fault("exports differ")
