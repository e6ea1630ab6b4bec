"""A TCP relay on loopback that does to connections what a bad network or a censor does.

Each connection gets a :class:`Fate` when it is accepted. What a fate counts, it
counts over both directions. Everything is drawn from a seed by :class:`Weather`;
where bytes fall in time is the machine's affair, so a seed repeats the fates and
not the run.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

HIGH_WATER: Final = 256 << 10
"""Bytes that wait for one end before the other is read no more."""
NEVER: Final = float("inf")
TICK: Final = 0.0005
"""Seconds by which something may arrive early: timers have no finer hand."""
AT_ONCE: Final = 0.01
"""Seconds of throttled flow that are let through at once."""


class Kind(StrEnum):
    """What becomes of a connection."""

    FINE = "fine"
    CUT = "cut"
    """Reset on both sides."""
    END = "end"
    """Ended with FIN on both sides, as if each peer had closed."""
    STALL = "stall"
    """Silence: nothing passes any more and nothing is closed."""
    CORRUPT = "corrupt"
    """One bit is changed."""
    THROTTLE = "throttle"
    """Passed on slowly."""
    HELLO = "hello"
    """Reset as soon as the client has said something."""
    BLACKHOLE = "blackhole"
    """Accepted, and silence from the start."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one connection, and when: after that many bytes or seconds, whichever is first."""

    kind: Kind = Kind.FINE
    after: float = NEVER
    """Bytes, of both directions together."""
    seconds: float = NEVER
    rate: float = NEVER
    """Bytes a second of each direction, for THROTTLE."""
    turns: float = NEVER
    """... or when the client speaks for the so many-th time, having heard something in between."""


@dataclass(slots=True)
class Weather:
    """Draws fates: ``kinds`` with equal chance, bytes and seconds from ranges (logarithmically)."""

    rng: random.Random
    kinds: tuple[Kind, ...] = (Kind.CUT,)
    bytes: tuple[int, int] | None = (64 << 10, 4 << 20)
    seconds: tuple[float, float] | None = (0.2, 10.0)
    rate: float = 512 << 10

    def fate(self) -> Fate:
        """The next connection's."""
        kind = self.rng.choice(self.kinds)
        after = self._between(self.bytes)
        seconds = self._between(self.seconds)
        return Fate(kind, after, seconds, self.rate if kind is Kind.THROTTLE else NEVER)

    def _between(self, ends: tuple[float, float] | None) -> float:
        if ends is None:
            return NEVER
        low, high = ends
        return float(low * (high / low) ** self.rng.random())


class End(asyncio.Protocol):
    """One side of a relayed connection."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.transport: Any = None
        self.waiting = bytearray()
        self.eof = False
        self.due = 0.0
        """When what was sent to this end last arrives."""
        self.coming: deque[tuple[float, Callable[[], object]]] = deque()

    @property
    def other(self) -> End:
        return self.pair.far if self is self.pair.near else self.pair.near

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        self.pair.made(self)

    def data_received(self, data: bytes) -> None:
        self.pair.passes(self, data)

    def eof_received(self) -> bool:
        self.pair.ends(self)
        return True

    def pause_writing(self) -> None:
        self.other.pause("full")

    def resume_writing(self) -> None:
        self.other.resume("full")

    def connection_lost(self, exc: Exception | None) -> None:
        self.pair.lost(self, exc)

    # ---- reading may stop for more than one reason -----------------------------------------------

    def pause(self, why: str) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.pair.paused.setdefault(self, set()).add(why)
            self.transport.pause_reading()

    def resume(self, why: str) -> None:
        reasons = self.pair.paused.get(self, set())
        reasons.discard(why)
        if not reasons and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def abort(self) -> None:
        """Reset, as a middlebox does it."""
        if self.transport is None:
            return
        sock = self.transport.get_extra_info("socket")
        if sock is not None and not self.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Pair:
    """A relayed connection and its fate."""

    def __init__(self, relay: ChaosRelay, fate: Fate) -> None:
        self.relay = relay
        self.fate = fate
        self.near = End(self)
        self.far = End(self)
        self.passed = 0
        self.turns = 0
        self.spoke: End | None = None
        self.silent = fate.kind is Kind.BLACKHOLE
        self.over = False
        self.paused: dict[End, set[str]] = {}
        self.timers: set[asyncio.TimerHandle] = set()

    def made(self, end: End) -> None:
        if self.over:
            end.abort()
            return
        if end is self.near:
            self.relay.pairs.add(self)
            if self.fate.seconds < NEVER and self.fate.kind not in (Kind.FINE, Kind.THROTTLE, Kind.HELLO):
                self._later(self.fate.seconds, self._time_is_up)
            if not self.silent and self.fate.kind is not Kind.HELLO:
                # A SYN takes its round trip too, though the kernel here has answered at once.
                self.far.due = asyncio.get_running_loop().time() + 2 * self.relay.delay
                self._arrives(self.far, lambda: self.relay.spawn(self._join()))
        elif self.near.waiting:
            data, self.near.waiting = bytes(self.near.waiting), bytearray()
            end.transport.write(data)
        if end is self.far and self.near.eof:
            end.transport.write_eof()

    async def _join(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.far, "127.0.0.1", self.relay.port)
        except OSError:
            self.near.abort()

    def passes(self, end: End, data: bytes) -> None:
        """Bytes from one end to the other, as far as the fate lets them."""
        if self.fate.kind is Kind.HELLO:
            self.relay.struck(self.fate.kind)
            self.cut()
            return
        if self.silent or self.over:
            return
        if self.spoke is not end:
            self.spoke = end
            self.turns += end is self.near
            if end is self.near and self.turns >= self.fate.turns:
                self._strike()
                return
        left = self.fate.after - self.passed
        kind = self.fate.kind
        if len(data) <= left or kind in (Kind.FINE, Kind.THROTTLE):
            self._give(end, data)
            return
        self._give(end, data[: int(left)])
        rest = data[int(left) :]
        self._strike()
        if kind is Kind.CORRUPT:
            self._give(end, bytes([rest[0] ^ 1]) + rest[1:])

    def _give(self, end: End, data: bytes) -> None:
        self.passed += len(data)
        self.relay.passed += len(data)
        if len(data) <= self.fate.rate * AT_ONCE:
            self._arrives(end.other, lambda: self._deliver(end, data))
        else:
            end.pause("slow")
            self._drip(end, data)

    def _drip(self, end: End, data: bytes) -> None:
        """As much as the rate lets through, and the rest later."""
        if self.over:
            return
        size = len(data) if self.fate.rate == NEVER else max(int(self.fate.rate * AT_ONCE), 1)
        now, later = data[:size], data[size:]
        self._arrives(end.other, lambda: self._deliver(end, now))
        if later:
            self._later(AT_ONCE, lambda: self._drip(end, later))
        else:
            self._later(AT_ONCE, lambda: end.resume("slow"))

    def _deliver(self, end: End, data: bytes) -> None:
        to = end.other.transport
        if to is None:
            end.waiting += data
        elif not to.is_closing():
            to.write(data)

    def _arrives(self, end: End, call: Callable[[], object]) -> None:
        """Call when what is sent to ``end`` now has come through, in the order of sending."""
        if not self.relay.delay:
            call()
            return
        now = asyncio.get_running_loop().time()
        end.due = max(end.due, now + self.relay.delay)
        end.coming.append((end.due, call))
        if len(end.coming) == 1:
            self._later(end.due - now, lambda: self._arrived(end))

    def _arrived(self, end: End) -> None:
        """Everything whose time has come, in order; one timer waits for the rest."""
        now = asyncio.get_running_loop().time()
        while end.coming and end.coming[0][0] <= now + TICK:
            end.coming[0][1]()
            if end.coming:
                end.coming.popleft()
        if end.coming:
            self._later(end.coming[0][0] - now, lambda: self._arrived(end))

    def _strike(self) -> None:
        """The fate comes true, once."""
        kind = self.fate.kind
        if self.over or self.silent or kind is Kind.FINE:
            return
        self.relay.struck(kind)
        if kind is Kind.STALL:
            self.silent = True
        elif kind is Kind.CORRUPT:
            self.fate = Fate()
        elif kind is Kind.CUT:
            self.cut()
        elif kind is Kind.END:
            self.over = True
            for end in (self.near, self.far):
                if end.transport is not None:
                    end.transport.close()

    def _time_is_up(self) -> None:
        if self.fate.kind is Kind.CORRUPT:  # at the next byte
            self.fate = Fate(Kind.CORRUPT, self.passed)
        else:
            self._strike()

    def cut(self) -> None:
        """Reset both sides."""
        self.over = True
        self.near.abort()
        self.far.abort()

    def ends(self, end: End) -> None:
        """One peer sends no more."""
        if not self.silent:
            self._arrives(end.other, lambda: self._end_of_input(end))

    def _end_of_input(self, end: End) -> None:
        end.eof = True
        to = end.other.transport
        if to is not None and not to.is_closing():
            to.write_eof()

    def lost(self, end: End, exc: Exception | None) -> None:
        """One side is gone: so is the other, unless silence keeps that from being known."""
        if not self.silent and self in self.relay.pairs:
            self._arrives(end.other, lambda: self._gone(end, exc))

    def _gone(self, end: End, exc: Exception | None) -> None:
        self.over = True
        to = end.other.transport
        if to is not None and not to.is_closing():
            end.other.abort() if exc is not None else to.close()
        self.release()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        def go() -> None:
            self.timers.discard(timer)
            call()

        timer = asyncio.get_running_loop().call_later(seconds, go)
        self.timers.add(timer)

    def release(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
        self.near.coming.clear()
        self.far.coming.clear()
        self.relay.pairs.discard(self)


@dataclass(eq=False)
class ChaosRelay:
    """Listens on a port of its own and relays to ``port``; ``fate`` is asked for every connection."""

    port: int
    fate: Callable[[], Fate] = Fate
    delay: float = 0.0
    """Seconds from one end to the other, of bytes and of ends; resets by fate come at once."""
    strikes: Counter[Kind] = field(default_factory=Counter)
    passed: int = 0
    accepted: int = 0
    pairs: set[Pair] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> int:
        """Listen; the port."""
        self._server = await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def _accept(self) -> End:
        self.accepted += 1
        return Pair(self, self.fate()).near

    def calm(self) -> None:
        """From now on nothing happens to anybody; what is silent stays so."""
        self.fate = Fate
        for pair in self.pairs:
            if not pair.silent:
                pair.fate = Fate()

    def throttle(self, rate: float) -> None:
        """From now on everything is slow, what is open too."""
        slow = Fate(Kind.THROTTLE, rate=rate)
        self.fate = lambda: slow
        for pair in self.pairs:
            pair.fate = slow

    def cut_all(self) -> None:
        """Reset every connection."""
        for pair in tuple(self.pairs):
            pair.silent = False
            pair.cut()

    async def stop(self) -> None:
        """Stop listening and drop everything."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pair in tuple(self.pairs):
            pair.silent = False
            pair.cut()
            pair.release()
        await asyncio.sleep(0)

    def spawn(self, work: Any) -> None:
        """Run a coroutine that ends with the relay."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def struck(self, kind: Kind) -> None:
        """One more connection has met its fate."""
        self.strikes[kind] += 1
