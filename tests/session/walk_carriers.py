"""The random walk's carriers: pipes of bytes that are dialled, cut, noticed, mistaken and restarted."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from walk_oracle import NeverArrived, Pair, Side

from ptproxy.errors import SessionError
from ptproxy.session import BridgeSession, ClientSession, Limits, RetentionBudget, frames
from ptproxy.session.frames import HEADER, FrameParser

FRAME_NAMES = {value: name for name, value in vars(frames).items() if name.isupper() and type(value) is int}
FRAME_NAMES.update({frames.OPEN: "OPEN", frames.DATA: "DATA", frames.PONG: "PONG"})

NEVER = 1e9
"""Seconds beyond every walk."""

CARRIERS = 3
"""The client dials no further one while so many are alive, unless one is suspected."""


def tiny_limits(rng: random.Random, pressing: bool, strict: bool) -> tuple[Limits, int, int]:
    """Limits of a few bytes; the total and the floor of a retention budget to match."""
    window = rng.choice((3, 6, 12, 12))
    limits = Limits(
        initial_window=window,
        window_growth=2,
        max_window=window * rng.choice((1, 4, 16)),
        receive_budget=window * rng.choice((1, 2, 8)),
        acknowledge_after=rng.choice((1, 4, 64)),
        resend_wait=rng.choice((0, 3, 1000)),
        shared_frame=rng.choice((1, 2, 4)),
        lone_frame=rng.choice((2, 5, 16)),
        open_data=rng.choice((0, 2, 8)),
        join_below=rng.choice((0, 1024)),
        interactive_bytes=10,
        budget_poll=3.0,
        ask_delay=rng.choice((0.0, 0.05)),
        pressure_time=20.0 if pressing else NEVER,
        suspect_after=NEVER if strict else 1.0,
        safety_net=NEVER if strict else 10.0,
    )
    return limits, rng.choice((8, 30, 300)), 4


def count_frames(data: bytes) -> int:
    """How many frames these bytes begin with; each carrier's bytes start with a frame's head."""
    count = position = 0
    while position < len(data):
        position += HEADER + int.from_bytes(data[position + 1 : position + 4], "big")
        count += 1
    return count


def describe(data: bytes) -> str:
    """Frames for the trace."""
    parts = []
    for kind, *fields in FrameParser().receive_data(data):
        shown = ", ".join(str(f.nbytes if isinstance(f, memoryview) else f) for f in fields)
        parts.append(f"{FRAME_NAMES[kind]}({shown})")
    return " ".join(parts)


class Pipe:
    """One carrier between the two: bytes under way each way, and who still regards it as alive."""

    __slots__ = ("alive", "arrives", "bridge", "client", "down", "incarnation", "number", "open", "up")

    def __init__(self, number: int, alive: tuple[int, ...], incarnation: int) -> None:
        self.number = number
        self.alive = alive
        self.incarnation = incarnation
        self.up = bytearray()
        self.down = bytearray()
        self.open = True  # bytes written still arrive
        self.arrives = True  # CONFIRM was not lost
        self.client = "dialling"  # attached, done
        self.bridge = "waiting"  # attached, done


class Figures:
    """What a walk did."""

    __slots__ = ("bytes", "cuts", "frames", "streams")

    def __init__(self) -> None:
        self.frames = self.cuts = self.streams = self.bytes = 0


class Carriers:
    """Two sessions and the carriers between them; every method of no arguments is a step of the walk."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.trace = trace
        self.rng = rng = random.Random(seed)
        self.draw = rng.random
        self.now = 0.0
        self.strict = rng.random() < 0.6  # no timer repeats anything: the other rules must do
        self.pressing = rng.random() < 0.05  # a full budget resets sessions (R21)
        self.limits, self.retention, self.floor = tiny_limits(rng, self.pressing, self.strict)
        self.incarnation = 0  # how often the bridge was restarted
        self.known = 0  # the incarnation that the client's session belongs to
        self.lost = False  # the client is being told that its session is lost
        self.pairs: dict[tuple[int, int], Pair] = {}
        self.pipes: dict[int, Pipe] = {}
        self.figures = Figures()
        self.restarts = rng.random() < 0.08
        self.client = Side("client", ClientSession(self.limits, self.budget(), 0.0), self, 0)
        self.bridge = Side("bridge", BridgeSession(self.limits, self.budget(), 0.0), self, 1)
        self.sides = (self.client, self.bridge)

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
        self.figures.frames += count_frames(data)
        if side is self.client:
            self.mark_left(data)
        pipe = self.pipes[number]
        if self.trace is not None:
            self.log(f"{side.name} sends on {number}{'' if pipe.open else ' (cut)'}: {describe(data)}")
        if pipe.open:
            if side is self.client:
                if pipe.bridge != "done":
                    pipe.up += data
            elif pipe.client != "done":
                pipe.down += data
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
        count = len(waiting) if many else int(draw() * (len(waiting) + 1))
        self.deliver_one(pipe, up, count)

    def deliver_one(self, pipe: Pipe, up: bool, count: int) -> bool:
        """``count`` bytes of a pipe arrive at a side that still reads it; True if anything happened."""
        side = self.bridge if up else self.client
        if up and pipe.bridge == "waiting":
            return self.arrive(pipe)
        if not count or (pipe.bridge if up else pipe.client) != "attached":
            return False
        waiting = pipe.up if up else pipe.down
        data = waiting[:count]
        del waiting[:count]
        if self.trace is not None:
            self.log(f"{side.name} receives {count} bytes on {pipe.number}")
        batch = side.session.receive_data(pipe.number, memoryview(data), self.now)
        self.take(side, batch)
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
        done += self.deliver_one(pipe, True, len(pipe.up))
        if pipe.bridge == "attached" and number in self.bridge.session.ready:
            done += self.drain_one(self.bridge, number, 1 << 20)
        done += self.deliver_one(pipe, False, len(pipe.down))
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
        del pipe.up[int(draw() * (len(pipe.up) + 1)) :]
        del pipe.down[int(draw() * (len(pipe.down) + 1)) :]
        if pipe.bridge == "waiting" and draw() < 0.5:
            pipe.arrives = False
        self.log(f"cut {pipe.number} leaving {len(pipe.up)} up, {len(pipe.down)} down")

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

    def dial(self) -> None:
        """The client begins a connection."""
        used = sum(1 for pipe in self.pipes.values() if pipe.client != "done")
        if used - len(self.client.suspected) < CARRIERS:
            self.dial_one()

    def dial_one(self) -> Pipe:
        """The client begins a connection."""
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
        self.bridge = Side("bridge", BridgeSession(self.limits, self.budget(), self.now), self, 1)
        self.sides = (self.client, self.bridge)

    def judge_lost(self) -> None:
        """Exactly the streams whose OPEN never left outlive the session (R19)."""
        for pair in self.pairs.values():
            end = pair.opener if pair.key[1] < 0 else pair.acceptor
            if end is None or end.over:
                continue
            if pair.key[1] >= 0 or pair.left:
                raise NeverArrived(f"{end!r}: was not told that its session is lost")
