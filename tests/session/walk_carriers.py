"""The random walk's carriers: pipes of bytes that are dialled, cut, noticed, mistaken and restarted."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from walk_oracle import NeverArrived, Pair, Side
from walk_pipes import Pipe, describe, patient, tiny_limits
from walk_profiles import profile_of
from walk_wire import Watch, split

from ptproxy.errors import SessionError
from ptproxy.session import BridgeSession, ClientSession, RetentionBudget, Session, SessionExhausted

CARRIERS = 3
"""The client dials no further one while so many are alive, unless one is suspected."""


class Figures:
    """What a walk did."""

    __slots__ = ("bytes", "cuts", "frames", "streams")

    def __init__(self) -> None:
        self.frames = self.cuts = self.streams = self.bytes = 0


class Carriers:
    """Two sessions and the carriers between them; every method of no arguments is a step of the walk."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.profile = profile_of(seed)
        self.trace = trace
        self.rng = rng = random.Random(seed)
        self.draw = rng.random
        self.now = 0.0
        self.strict = rng.random() < 0.6  # no timer repeats anything: the other rules must do
        self.pressing = rng.random() < 0.05  # a full budget resets sessions (R21)
        self.limits, self.retention, self.floor = tiny_limits(rng, self.pressing, self.strict)
        if self.profile.few_datagrams:
            self.limits = replace(self.limits, max_datagrams=3, max_datagram_bytes=24)
        self.incarnation = 0  # how often the bridge was restarted
        self.known = 0  # the incarnation that the client's session belongs to
        self.refusing = False  # a bridge that was restarted had said GOAWAY
        self.lost = False  # the client is being told that its session is lost
        self.pairs: dict[tuple[int, int], Pair] = {}
        self.pipes: dict[int, Pipe] = {}
        self.figures = Figures()
        self.restarts = rng.random() < 0.08
        self.client = self.side("client", ClientSession(patient(self.limits), self.budget(), 0.0), 0)
        self.bridge = self.side("bridge", BridgeSession(self.limits, self.budget(), 0.0), 1)
        self.sides = (self.client, self.bridge)

    def side(self, name: str, session: Session, parity: int) -> Side:
        """One end, watched."""
        side = Side(name, session, self, parity)
        side.watch = Watch(side, self)
        return side

    def other(self, side: Side) -> Side:
        """The side at the far end."""
        return self.bridge if side is self.client else self.client

    def budget(self) -> RetentionBudget:
        """A process's retention budget for one session of this walk."""
        return RetentionBudget(self.retention, self.floor)

    def key(self, side: Side, number: int) -> tuple[int, int]:
        """A stream's name in ``pairs``: each bridge counts its streams from the start."""
        if number % 2 == 0:
            return (number, -1)
        return (number, self.known if side is self.client else self.incarnation)

    def log(self, text: str) -> None:
        """One line of the trace."""
        if self.trace is not None:
            self.trace(f"{self.now:9.3f} {text}")

    def some_pipe(self) -> Pipe | None:
        """Any carrier that has not ended for both."""
        pipes = self.pipes
        if not pipes:
            return None
        return list(pipes.values())[int(self.draw() * len(pipes))]

    def some_side(self) -> Side:
        """Client or bridge."""
        return self.sides[self.draw() < 0.5]

    def working(self) -> list[int]:
        """Carriers that carry both ways and to which streams may be bound."""
        client = self.client
        return [
            pipe.number
            for pipe in self.pipes.values()
            if pipe.open and pipe.client == pipe.bridge == "attached" and pipe.number not in client.leaving
        ]

    def drain(self) -> None:
        """One carrier of one side gives what fits a budget."""
        side = self.some_side()
        session = side.session
        ready = session.ready
        if ready:
            numbers = [n for n in sorted(ready) if n in session.carriers]
            if numbers:
                budget = (1, 20, 60, 1000)[int(self.draw() * 4)]
                self.drain_one(side, numbers[int(self.draw() * len(numbers))], budget)

    def drain_one(self, side: Side, number: int, budget: int) -> int:
        """Frames of one carrier go on their way, or nowhere if it is cut; returns their bytes."""
        buffers = side.session.data_to_send(number, budget, self.now)
        if not buffers:
            return 0
        data = b"".join(buffers)
        pipe = self.pipes[number]
        way = pipe.up if side is self.client else pipe.down
        words, count = split(data, way.put)
        self.figures.frames += count
        if side is self.client:
            self.mark_left(data)
        if self.trace is not None:
            self.log(f"{side.name} sends on {number}{'' if pipe.open else ' (cut)'}: {describe(data)}")
        if pipe.open and (pipe.bridge if side is self.client else pipe.client) != "done":
            way.add(data, words)
        side.watch.said(words, data, number)
        side.watch.check(self.now)
        return len(data)

    def mark_left(self, data: bytes) -> None:
        """Note which OPENs have left the client (R19)."""
        if not self.restarts:
            return
        for pair in self.pairs.values():
            if not pair.left and pair.target in data:
                pair.left = True

    def deliver(self) -> None:
        """Some bytes of one pipe arrive."""
        pipe = self.some_pipe()
        if pipe is None:
            return
        draw = self.draw
        up = draw() < 0.5
        many = draw() < 0.5
        waiting = pipe.up if up else pipe.down
        size = len(waiting.bytes)
        count = size if many else int(draw() * (size + 1))
        self.deliver_one(pipe, up, count)

    def deliver_one(self, pipe: Pipe, up: bool, count: int) -> bool:
        """``count`` bytes of a pipe arrive at a side that still reads it; True if anything happened."""
        side = self.bridge if up else self.client
        if up and pipe.bridge == "waiting":
            return self.arrive(pipe)
        if not count or (pipe.bridge if up else pipe.client) != "attached":
            return False
        data, words = (pipe.up if up else pipe.down).take(count)
        if self.trace is not None:
            self.log(f"{side.name} receives {count} bytes on {pipe.number}")
        batch = side.session.receive_data(pipe.number, memoryview(data), self.now)
        self.take(side, batch)
        side.watch.heard(words, pipe.number, self.now)
        data[:] = bytes(count)  # a view kept beyond the call shows as wrong bytes
        return True

    def arrive(self, pipe: Pipe) -> bool:
        """The client's CONFIRM reaches the bridge, however late."""
        if pipe.bridge != "waiting" or not pipe.arrives or pipe.client == "dialling":
            return False
        try:
            batch = self.bridge.session.attach_carrier(pipe.number, pipe.alive, self.now)
        except SessionError:
            self.log(f"bridge refuses {pipe.number}")
            pipe.bridge = "done"
            pipe.open = False
            pipe.up.clear()
            self.forget_pipe(pipe)
            return True
        self.log(f"bridge attaches {pipe.number}, alive {pipe.alive}")
        pipe.bridge = "attached"
        self.take(self.bridge, batch)
        self.bridge.watch.attach(pipe.number, pipe.alive, self.now)
        return True

    def take(self, side: Side, batch: list[Any]) -> None:
        """Events of a session, then the carriers it has given up."""
        if batch:
            side.take(batch)
        if side.carriers_given_up:
            for number in side.carriers_given_up:
                self.side_done(side, number)
            side.carriers_given_up.clear()

    def side_done(self, side: Side, number: int) -> None:
        """A side neither reads nor writes a carrier any more; what it wrote before may still arrive."""
        pipe = self.pipes.get(number)
        if pipe is None:
            return
        side.leaving.discard(number)
        side.suspected.discard(number)
        if side is self.client:
            pipe.client = "done"
            pipe.down.clear()
        else:
            pipe.bridge = "done"
            pipe.up.clear()
        self.forget_pipe(pipe)

    def forget_pipe(self, pipe: Pipe) -> None:
        """Drop a carrier on which nothing can happen any more."""
        bridge_over = pipe.bridge == "done" or (pipe.bridge == "waiting" and not pipe.arrives)
        if pipe.client == "done" and bridge_over:
            self.pipes.pop(pipe.number, None)

    def exchange(self) -> None:
        """One carrier works for a moment: all of both ways."""
        pipe = self.some_pipe()
        if pipe is not None:
            self.exchange_one(pipe)

    def exchange_one(self, pipe: Pipe) -> int:
        """Drain and deliver everything of one carrier once; returns how much happened."""
        number = pipe.number
        done = 0
        if pipe.client == "attached" and number in self.client.session.ready:
            done += self.drain_one(self.client, number, 1 << 20)
        done += self.deliver_one(pipe, True, len(pipe.up.bytes))
        if pipe.bridge == "attached" and number in self.bridge.session.ready:
            done += self.drain_one(self.bridge, number, 1 << 20)
        done += self.deliver_one(pipe, False, len(pipe.down.bytes))
        return done

    def cut(self) -> None:
        """A connection breaks: a prefix of what is under way still arrives each way."""
        pipe = self.some_pipe()
        if pipe is not None and pipe.open:
            self.cut_one(pipe)

    def cut_one(self, pipe: Pipe) -> None:
        """Break one connection at random places."""
        draw = self.draw
        pipe.open = False
        self.figures.cuts += 1
        for waiting in (pipe.up.bytes, pipe.down.bytes):
            del waiting[int(draw() * (len(waiting) + 1)) :]
        if pipe.bridge == "waiting" and draw() < 0.5:
            pipe.arrives = False
        self.log(f"cut {pipe.number} leaving {len(pipe.up.bytes)} up, {len(pipe.down.bytes)} down")

    def notice(self) -> None:
        """One side learns of a cut."""
        pipe = self.some_pipe()
        if pipe is not None and not pipe.open:
            self.lose(pipe, self.some_side())

    def mistake(self) -> None:
        """One side declares a carrier dead that is not."""
        pipe = self.some_pipe()
        if pipe is not None and pipe.open:
            self.lose(pipe, self.some_side())

    def lose(self, pipe: Pipe, side: Side) -> None:
        """A side regards a carrier as dead."""
        state = pipe.client if side is self.client else pipe.bridge
        if state != "attached":
            return
        self.log(f"{side.name} loses {pipe.number}")
        batch = side.session.carrier_lost(pipe.number, self.now)
        self.side_done(side, pipe.number)
        self.take(side, batch)
        side.watch.sync(self.now)

    def dial(self) -> None:
        """The client begins a connection."""
        used = sum(1 for pipe in self.pipes.values() if pipe.client != "done")
        if used - len(self.client.suspected) < CARRIERS:
            with suppress(SessionExhausted):  # all of them are needed, as far as the client knows
                self.dial_one()

    def dial_one(self) -> Pipe:
        """The client begins a connection."""
        self.take(self.client, self.client.session.make_room(self.now))
        self.client.watch.sync(self.now)
        number, alive = self.client.session.next_carrier()
        pipe = self.pipes[number] = Pipe(number, alive, self.known)
        self.log(f"client dials {number}, alive {alive}")
        return pipe

    def attach(self) -> None:
        """A connection begun gets its answer, or fails."""
        for pipe in self.pipes.values():
            if pipe.client == "dialling":
                if self.draw() < 0.9:
                    self.attach_one(pipe)
                else:
                    self.dial_fails(pipe)
                return

    def dial_fails(self, pipe: Pipe) -> None:
        """A connection begun comes to nothing."""
        self.log(f"dial of {pipe.number} fails")
        pipe.open = pipe.arrives = False
        batch = self.client.session.carrier_lost(pipe.number, self.now)
        self.side_done(self.client, pipe.number)
        self.take(self.client, batch)

    def attach_one(self, pipe: Pipe) -> Pipe:
        """The client has read message 2; a bridge that was restarted answered `unknown`."""
        client = self.client
        if pipe.incarnation != self.incarnation:
            if not pipe.open:
                self.dial_fails(pipe)
                return pipe
            self.log(f"bridge does not know the session that {pipe.number} names")
            self.lost = True
            self.take(client, client.session.session_lost(self.now))
            client.watch = Watch(client, self)
            self.lost = False
            self.known = self.incarnation
            client.goaway_heard = False
            self.judge_lost()
            for other in list(self.pipes.values()):
                if other is not pipe:
                    self.drop_old(other)
            pipe.incarnation = self.incarnation
        self.log(f"client attaches {pipe.number}")
        pipe.client = "attached"
        self.take(client, client.session.attach_carrier(pipe.number, self.now))
        client.watch.sync(self.now)
        return pipe

    def drop_old(self, pipe: Pipe) -> None:
        """A carrier of the session that was lost."""
        if pipe.client == "dialling":
            self.dial_fails(pipe)
        elif pipe.number in self.client.session.carriers:
            self.lose(pipe, self.client)
        else:
            self.side_done(self.client, pipe.number)

    def restart(self) -> None:
        """The bridge starts anew: it knows nothing of the session, and its targets stay dialled."""
        if not any(pipe.client == "attached" for pipe in self.pipes.values()):
            return
        self.log("bridge restarts")
        for pipe in list(self.pipes.values()):
            if pipe.open and pipe.client != "dialling":
                self.cut_one(pipe)
            pipe.arrives = pipe.open
            if pipe.bridge == "attached":
                pipe.bridge = "done"
                pipe.up.clear()
            self.forget_pipe(pipe)
        for end in list(self.bridge.ends.values()):
            end.close("restart")
        self.incarnation += 1
        self.refusing = self.refusing or self.bridge.goaway_said
        self.bridge = self.side("bridge", BridgeSession(self.limits, self.budget(), self.now), 1)
        self.sides = (self.client, self.bridge)

    def judge_lost(self) -> None:
        """Exactly the streams whose OPEN never left outlive the session (R19)."""
        for pair in self.pairs.values():
            end = pair.opener if pair.key[1] < 0 else pair.acceptor
            if end is None or end.over:
                continue
            if pair.key[1] >= 0 or pair.left:
                raise NeverArrived(f"{end!r}: was not told that its session is lost")
