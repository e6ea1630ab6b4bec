"""A random walk of two real sessions: everything that can happen to them, drawn from one seed.

A ClientSession and a BridgeSession with windows of a few bytes talk over up to
three carriers, each two pipes of bytes. Every step is drawn from
``random.Random(seed)``: applications open, write, stall, end and reset streams
(:mod:`walk_streams`); carriers are dialled, cut inside a frame, declared dead late,
never or wrongly, and the bridge is restarted (:mod:`walk_carriers`). The seed's
profile says how often each step is taken (:mod:`walk_profiles`), and some profiles
bring about what is rare (:mod:`walk_rare`) or let streams compete (:mod:`walk_order`).

Events are judged as they come (:mod:`walk_oracle`), and two watches read every frame
and judge whether each side says what the rules have it owe (:mod:`walk_wire`). In the
end the walk is brought to rest, first with stalled readers still stalled (nothing
transmitted may stay retained), then with everybody reading, and every stream is judged.

No I/O and no clock: the same seed gives the same walk.
"""

from __future__ import annotations

from collections.abc import Callable

from walk_carriers import Figures
from walk_hostile import FRAMES, attack
from walk_oracle import (
    End,
    Fault,
    LeftBehind,
    NeverArrived,
    NoSilence,
    NotReady,
    Pair,
    RetentionPinned,
    SessionBroken,
)
from walk_order import Contention
from walk_pipes import Pipe
from walk_profiles import FACTORS, PHASES, RARE, WEIGHTS
from walk_rare import Rare

ROUNDS = 300
"""Deadlines that may pass before two sessions at rest must be silent."""

SILENCE = 100.0
"""Seconds without progress after which all is said: longer than any interval of the rules."""

PUMPS = 2000
"""Exchanges without a deadline between that may happen at rest."""


class Walk(Rare):
    """One walk; :meth:`run` raises a :class:`walk_oracle.Fault` or returns :class:`Figures`."""

    def run(self) -> Figures:
        """Walk, come to rest, judge."""
        try:
            self.walk()
            self.rest()
            if self.hostile:
                self.attack()
            elif self.profile.contention:
                Contention(self.rng).run()
        except Fault:
            raise
        except Exception as error:
            raise SessionBroken(f"{type(error).__name__}: {error}") from error
        return self.figures

    def walk(self) -> None:
        """Draw and take steps."""
        rng, draw = self.rng, self.draw
        steps: list[Callable[[], object]] = [getattr(self, name) for name in (*RARE, *WEIGHTS)]
        factors = [FACTORS[int(draw() * 5)] for _ in WEIGHTS]
        self.hostile = draw() < 0.15
        for _ in range((0, 1, 1, 1, 2, 3)[int(draw() * 6)]):
            self.arrive(self.attach_one(self.dial_one()))
        for phase in PHASES:
            weights = self.profile.of(phase, factors)
            if self.restarts:
                weights[-1] = 1.0
            for step in rng.choices(steps, weights, k=rng.randrange(15, 70)):
                step()
        self.check_budget()

    # -- rest ------------------------------------------------------------------------

    def rest(self) -> None:
        """Everything is connected and heard; then everybody reads, writes a last time and ends."""
        self.resting = True
        self.reconnect()
        self.settle()
        self.judge_stalled()
        for side in self.sides:
            for end in list(side.ends.values()):
                self.revive(end)
        self.settle_reading()
        self.judge_living()
        for side in self.sides:
            for end in list(side.ends.values()):
                if end.stream.is_association:
                    if end.index == 0:
                        self.reset_one(end)
                else:
                    self.eof_one(end)
        self.settle_reading()
        self.judge()

    def reconnect(self) -> None:
        """Dials end, cuts are noticed by some and never by others, and one carrier works.

        Without R20's timers (a strict walk) the client notices every cut; the bridge may never.
        """
        for pipe in list(self.pipes.values()):
            if pipe.client == "dialling":
                if pipe.open:
                    self.attach_one(pipe)
                else:
                    self.dial_fails(pipe)
        for pipe in list(self.pipes.values()):
            self.arrive(pipe)
            if not pipe.open:
                for side in self.sides:
                    if self.draw() < 0.5 or (self.strict and side is self.client):
                        self.lose(pipe, side)
        if not self.working():
            self.connect_one()

    def connect_one(self) -> Pipe:
        """The client dials, and both ends attach."""
        pipe = self.attach_one(self.dial_one())
        self.arrive(pipe)
        return pipe

    def settle(self) -> None:
        """Exchange everything and let time pass until nobody has anything left to say."""
        heard, before = self.now, None
        for _ in range(ROUNDS):
            self.pump()
            progress = self.progress()
            if progress != before:
                heard, before = self.now, progress
            if self.client.suspected:
                self.log(f"client suspects {sorted(self.client.suspected)}")
                self.client.suspected.clear()
                self.connect_one()
                continue
            deadlines = [d for side in self.sides if (d := side.session.deadline()) is not None]
            if not deadlines or min(deadlines) > heard + SILENCE:
                self.check_unready()
                return
            self.now = max(self.now, min(deadlines))
            for side in self.sides:
                self.wake(side)
            self.check_budget()
        raise NoSilence(f"deadlines after {ROUNDS} rounds: {deadlines}")

    def progress(self) -> tuple[int, ...]:
        """What changes while two sessions get anywhere; a question that is repeated changes nothing."""
        state = []
        for side in self.sides:
            session = side.session
            state += [side.heard, len(session.streams), len(session.tombstones), session.account.retained]
        return tuple(state)

    def pump(self) -> None:
        """Exchange until no byte moves."""
        for _ in range(PUMPS):
            done = 0
            for pipe in list(self.pipes.values()):
                done += self.exchange_one(pipe)
            if not done:
                return
        raise NoSilence(f"bytes after {PUMPS} exchanges")

    def check_unready(self) -> None:
        """Carriers that are not ready have nothing to send."""
        for side in self.sides:
            for number in sorted(side.session.carriers):
                if side.session.data_to_send(number, 1 << 20, self.now):
                    raise NotReady(f"{side.name}: carrier {number} was not ready and had something to send")

    def revive(self, end: End) -> None:
        """A stalled application goes on: it accepts, reads, and writes a little more."""
        end.stalled = False
        if end.index and not end.accepted:
            self.accept_one(end)
        self.consume_one(end, end.delivered - end.consumed)
        end.polite = False
        if not end.waiting:
            self.write_one(end, 3)

    def settle_reading(self) -> None:
        """Come to silence while everybody reads all there is."""
        for _ in range(ROUNDS):
            self.settle()
            ends = [end for side in self.sides for end in (*side.ends.values(), *side.leftover)]
            unread = [end for end in ends if end.delivered > end.consumed]
            if not unread:
                return
            for end in unread:
                self.consume_one(end, end.delivered - end.consumed)
        raise NoSilence(f"unread bytes after {ROUNDS} rounds: {unread}")

    def attack(self) -> None:
        """One more stream is opened, and one side says of it what must not be said."""
        opener = self.sides[self.draw() < 0.5]
        if opener.goaway_said or opener.goaway_heard:
            return
        working = [self.pipes[number] for number in self.working()] or [self.connect_one()]
        end = self.open_one(opener, 2)
        assert end is not None
        self.settle()
        victim = self.sides[self.draw() < 0.5]
        target = end.pair.opener if victim is opener else end.pair.acceptor
        if target is None or target.over:
            raise NeverArrived(f"{end!r}: was never dialled")
        index = int(self.draw() * len(FRAMES))
        self.log(f"{victim.name} is told {FRAMES[index].__name__} on {working[0].number}")
        attack(victim.session, working[0].number, target.stream, self.now, index)

    # -- judgement -------------------------------------------------------------------

    def judge_stalled(self) -> None:
        """Everything transmitted is acknowledged, whoever reads; only what has no credit is retained (R8)."""
        for pair in self.pairs.values():
            opener, acceptor = pair.opener, pair.acceptor
            if opener is None or opener.over or acceptor is None or acceptor.over:
                continue
            for end, other in ((opener, acceptor), (acceptor, opener)):
                buffer = end.stream.buffer
                allowed = buffer.end > buffer.start and end.stream.limit > buffer.start
                if allowed or buffer.start != other.delivered:
                    raise RetentionPinned(f"{end!r}: {buffer.start} acknowledged of {other.delivered}")

    def judge_living(self) -> None:
        """Everybody has read everything, every acceptance was told, and nobody waits with room to write."""
        for pair in self.pairs.values():
            opener, acceptor = pair.opener, pair.acceptor
            if opener is None or opener.over or acceptor is None or acceptor.over:
                continue
            if not opener.accepted:
                raise NeverArrived(f"{opener!r}: acceptance")
            for end, other in ((opener, acceptor), (acceptor, opener)):
                if end.delivered != other.written:
                    raise NeverArrived(f"{end!r}: {end.delivered} of {other.written} bytes")
                if end.waiting:
                    raise NotReady(f"{end!r}: not told to go on writing")

    def judge(self) -> None:
        """Every stream has ended as its applications asked, and nothing is left."""
        for side in self.sides:
            if side.ends:
                raise LeftBehind(f"{next(iter(side.ends.values()))!r} has not ended")
            if side.session.streams or not side.session.idle:
                raise LeftBehind(f"{side.name}: {side.session.streams} idle={side.session.idle}")
            session = side.session
            if (
                session.account.retained
                or session._granted_unread
                or session._unread_over
                or session._windows
            ):
                raise LeftBehind(
                    f"{side.name}: {session.account.retained} retained, {session._granted_unread} granted"
                )
        for pair in self.pairs.values():
            self.judge_pair(pair)

    def judge_pair(self, pair: Pair) -> None:
        """One stream: finished on both sides with everything delivered, or reset and told so."""
        opener, acceptor = pair.opener, pair.acceptor
        assert opener is not None
        if acceptor is None:
            if opener.over not in ("reset", "refused", "session lost", "restart"):
                raise NeverArrived(f"{opener!r}: was never dialled")
            return
        for end, other in ((opener, acceptor), (acceptor, opener)):
            if end.over == "finished" and end.delivered != other.written:
                raise NeverArrived(f"{end!r}: {end.delivered} of {other.written} bytes")
