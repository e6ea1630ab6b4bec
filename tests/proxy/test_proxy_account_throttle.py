"""An account's rate: kept on average, shared evenly, without a stream that waits for ever."""

from __future__ import annotations

import asyncio
import random

import pytest
from test_proxy_exit import FakeIncoming

from ptproxy.proxy.account_throttle import LEAST_DEBT, Allowance, Flow, ThrottledIncoming
from ptproxy.target import Target


class Clock:
    """The part of an event loop that an allowance uses, with a time of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[list] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback):
        call = [self.now + delay, callback]
        self.calls.append(call)

        class Handle:
            @staticmethod
            def cancel() -> None:
                if call in self.calls:
                    self.calls.remove(call)

        return Handle()

    def run(self, seconds: float, each_step=lambda: None) -> None:
        until = self.now + seconds
        while True:
            each_step()
            due = min(self.calls, default=None, key=lambda call: call[0])
            if due is None or due[0] > until:
                self.now = until
                return
            self.calls.remove(due)
            self.now = max(self.now, due[0])
            due[1]()


class Eater:
    """A stream that moves ``size`` bytes whenever it may."""

    def __init__(self, allowance: Allowance, size: int) -> None:
        self.allowance = allowance
        self.size = size
        self.moved = 0
        self.held = 0
        self.flow = Flow(self.hold, self.release)
        allowance.join(self.flow)

    def hold(self) -> None:
        self.held += 1

    def release(self) -> None:
        self.held -= 1

    def step(self) -> None:
        if not self.held:
            self.moved += self.size
            self.allowance.charge(self.flow, self.size)
        assert self.held in (0, 1)


def eat(eaters: list[Eater]) -> None:
    """In turn, until each is held."""
    while any(not each.held for each in eaters):
        for each in eaters:
            each.step()


@pytest.mark.parametrize("size", [1000, 256 * 1024])
@pytest.mark.parametrize("count", [1, 7])
def test_a_rate_is_kept_and_shared(size: int, count: int) -> None:
    clock = Clock()
    rate = 100_000
    allowance = Allowance(clock, rate)
    eaters = [Eater(allowance, size) for _ in range(count)]
    clock.run(200, lambda: eat(eaters))
    total = sum(each.moved for each in eaters)
    burst = rate + allowance.most_debt + count * size
    assert 200 * rate * 0.98 <= total <= 200 * rate + burst
    shares = [each.moved for each in eaters]
    assert max(shares) - min(shares) <= 2 * size + total / count / 20


def test_who_moves_little_waits_little_beside_downloads() -> None:
    clock = Clock()
    allowance = Allowance(clock, 100_000)
    downloads = [Eater(allowance, 50_000) for _ in range(10)]
    clock.run(60, lambda: eat(downloads))
    little = Eater(allowance, 64)
    assert not little.held
    for _ in range(100):
        little.step()
        waited = clock.now
        while little.held:
            clock.run(0.001, lambda: eat(downloads))
        assert clock.now - waited < 0.05


def test_many_new_streams_move_no_more_than_few() -> None:
    """Each new one could else move a whole read before it is held."""
    clock = Clock()
    rate = 100_000
    allowance = Allowance(clock, rate)
    moved = 0

    def come_and_go() -> None:
        nonlocal moved
        for _ in range(20):
            new = Eater(allowance, 256 * 1024)
            new.step()
            moved += new.moved
            allowance.leave(new.flow)

    for _ in range(200):
        clock.run(1.0, come_and_go)
    assert moved <= 200 * rate + rate + 2 * LEAST_DEBT


def test_nothing_is_polled_and_nobody_stays_held() -> None:
    clock = Clock()
    rng = random.Random(3)
    allowance = Allowance(clock, 5000)
    eaters = [Eater(allowance, rng.randrange(1, 300_000)) for _ in range(50)]
    for _ in range(500):
        rng.choice(eaters).step()
        if rng.random() < 0.1:
            gone = eaters.pop(rng.randrange(len(eaters)))
            allowance.leave(gone.flow)
            eaters.append(Eater(allowance, rng.randrange(1, 300_000)))
        assert len(clock.calls) <= 1
        clock.run(rng.random() * 20)
    clock.run(10_000_000)
    assert not clock.calls
    assert allowance.debt == 0
    assert not any(each.held for each in eaters)


def test_who_closes_lets_everybody_go() -> None:
    clock = Clock()
    allowance = Allowance(clock, 5000)
    eaters = [Eater(allowance, 3 << 20) for _ in range(3)]
    eaters[0].step()
    assert all(each.held for each in eaters)
    allowance.close()
    assert not any(each.held for each in eaters)
    assert not clock.calls


class Taker(asyncio.Protocol):
    """Whoever took a stream at the bridge."""

    def __init__(self) -> None:
        self.data = b""
        self.writing = True
        self.lost: list = []

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data) -> None:
        self.data += bytes(data)

    def pause_writing(self) -> None:
        assert self.writing
        self.writing = False

    def resume_writing(self) -> None:
        assert not self.writing
        self.writing = True

    def connection_lost(self, exc) -> None:
        self.lost.append(exc)


def test_a_stream_has_two_reasons_to_stand_still() -> None:
    """The rate, and whoever is behind: neither ends the other's."""

    async def main() -> None:
        clock = Clock()
        up, down = Allowance(clock, 10_000), Allowance(clock, 10_000)
        incoming = FakeIncoming(Target.service("x"))
        taker = Taker()
        stream = ThrottledIncoming(incoming, up, down).accept(taker)
        below = incoming.stream
        assert taker.transport is stream
        stream.write(b"x" * 30_000)
        assert bytes(below.written) == b"x" * 30_000
        assert not taker.writing  # over its rate
        below.protocol.pause_writing()
        clock.run(60)
        assert not taker.writing  # the client is behind all the same
        below.protocol.resume_writing()
        assert taker.writing
        below.protocol.data_received(b"y" * 30_000)
        assert taker.data == b"y" * 30_000
        assert below.paused
        stream.pause_reading()
        clock.run(60)
        assert below.paused  # the taker does not read all the same
        stream.resume_reading()
        assert not below.paused
        below.close()
        await asyncio.sleep(0)
        assert taker.lost == [None]
        assert not up._flows
        assert not down._flows

    asyncio.run(main())


def test_datagrams_beyond_the_rate_are_lost() -> None:
    clock = Clock()
    up, down = Allowance(clock, 10_000), Allowance(clock, 10_000)
    incoming = FakeIncoming(Target.service("x"))

    class Receiver:
        def __init__(self) -> None:
            self.got = 0

        def datagram_received(self, source, data) -> None:
            self.got += 1

    receiver = Receiver()
    association = ThrottledIncoming(incoming, up, down).accept_association(receiver)
    below = incoming.association
    source = Target.service("x")
    for _ in range(100):
        association.send_datagram(source, bytes(1000))
        below.receiver.datagram_received(source, bytes(1000))
    assert len(below.sent) == receiver.got == 10
    clock.run(1)
    association.send_datagram(source, bytes(1000))
    assert len(below.sent) == 11
