"""A login stays open for an hour while its connections are cut, silently or not: every key and echo, once."""

from __future__ import annotations

import random

import pytest
from session_pair import Pair

from ptproxy.session import Session, events

HOUR = 3600.0
STEP = 0.05
"""Seconds of simulated time between two looks at the clock."""
DIAL = 0.2
"""Seconds that a dial takes."""


class Line(Pair):
    """A pair whose connections die: told to both ends, to one, or to nobody."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.rng = rng
        self.silent: set[int] = set()
        self.dials: list[float] = []
        self.cuts = 0

    def cut(self) -> None:
        """The connection that carries the login ends somehow."""
        self.cuts += 1
        number = max(self.client.carriers, default=0)
        if not number:
            return
        knows = self.rng.choice(("both", "client", "bridge", "nobody"))
        self.silent.add(number)
        if knows in ("both", "bridge") and number in self.bridge.carriers:
            self.tell(self.bridge, self.bridge.carrier_lost(number, self.now))
        if knows in ("both", "client"):
            self.tell(self.client, self.client.carrier_lost(number, self.now))
            self.dials.append(self.now + DIAL)

    def step(self) -> None:
        """Time passes: deadlines, what is said, connections that come."""
        self.now += STEP
        for side in (self.client, self.bridge):
            deadline = side.deadline()
            if deadline is not None and deadline <= self.now:
                self.tell(side, side.on_deadline(self.now))
        self.exchange()
        for _ in self.said(self.client, events.CarrierSuspected):
            self.dials.append(self.now + DIAL)
        if self.dials and self.dials[0] <= self.now:
            self.dials.pop(0)
            self.tell(self.client, self.client.make_room(self.now))
            self.attach()
            self.exchange()

    def exchange(self) -> None:
        """Carry what is said; what goes over a dead connection is nowhere."""
        for _ in range(1000):
            if not (self.client.ready or self.bridge.ready):
                return
            for side in (self.client, self.bridge):
                for number in sorted(side.ready):
                    data = self.drain(side, number)
                    if number not in self.silent and number in self.other(side).carriers:
                        self.give(self.other(side), number, data)
        raise AssertionError("the sessions never fall silent")

    def taken(self, side: Session, stream: int) -> bytes:
        return self.received.get((side, stream), b"")


@pytest.mark.parametrize("between", [10.0, 60.0])
@pytest.mark.parametrize("seed", range(2))
def test_a_login_survives_an_hour_of_cuts(seed: int, between: float) -> None:
    rng = random.Random(seed)
    line = Line(rng)
    near, far = line.open()
    typed, cut_at, type_at = b"", line.now, line.now
    asked: float | None = None
    end, waits = line.now + HOUR, []
    while line.now < end or asked is not None:
        if cut_at <= line.now < end:
            line.cut()
            cut_at = line.now + rng.uniform(0.2, between)
        if type_at <= line.now < end and asked is None:
            keys = rng.randbytes(rng.randint(1, 20))
            near.send_data(keys, line.now)
            typed += keys
            asked, type_at = line.now, line.now + rng.choice((0.3, 5.0, 120.0))
        before = len(line.taken(line.bridge, far.id))
        line.step()
        heard = line.taken(line.bridge, far.id)
        if len(heard) > before:
            far.send_data(heard[before:], line.now)
            line.exchange()
        if asked is not None and line.taken(line.client, near.id) == typed:
            waits.append(line.now - asked)
            asked = None
        assert line.now < end + 60, "no echo"
    assert line.taken(line.bridge, far.id) == typed
    assert not line.said(line.client, events.StreamReset)
    assert line.cuts > HOUR / between
    assert len(waits) > 40
    # A second until silence is suspected, a dial, and once more where that is cut too.
    assert max(waits) < 3.0
