"""Streams through a network that cuts, stalls, corrupts: every byte is checked on its way out and back.

Used by ``test_tunnel_chaos.py`` with little, and by ``scripts/chaos`` with much.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from chaos_relay import ChaosRelay, Kind, Weather
from tunnel_live import ECHO, live

BLOCK: Final = 64 << 10
"""Bytes of the checked pattern that are made at a time."""
PATIENCE: Final = 0.002
"""Seconds between two writes of a stream that is given time, not only bytes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is carried and through what."""

    seed: int
    codecs: Sequence[str] = ("websocket",)
    streams: int = 8
    size: int = 256 << 10
    """Bytes of each stream, each way."""
    kinds: tuple[Kind, ...] = (Kind.CUT,)
    bytes: tuple[int, int] | None = (64 << 10, 4 << 20)
    seconds: tuple[float, float] | None = (0.2, 10.0)
    carriers: int = 2
    strikes: int = 0
    """Connections that must have met their fate at least; streams go on until then."""


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    streams: int = 0
    intact: int = 0
    moved: int = 0
    """Bytes that were checked, of both directions."""
    faults: list[str] = field(default_factory=list)
    strikes: Counter[Kind] = field(default_factory=Counter)
    connections: int = 0
    took: float = 0.0
    waits: list[float] = field(default_factory=list)
    """Seconds that a stream stood still, of each longest wait of a stream."""


class Pattern:
    """An endless row of bytes that nobody repeats by chance, from a seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._rest = b""

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        while len(self._rest) < size:
            self._rest += self._rng.randbytes(BLOCK)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


class Checked(asyncio.Protocol):
    """A local program whose echo is compared byte by byte with what it said."""

    def __init__(self, seed: int) -> None:
        self._said = Pattern(seed)
        self.position = 0
        self.wrong: int | None = None
        self.longest = 0.0
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.writable = asyncio.Event()
        self.writable.set()
        self._changed = asyncio.Event()
        self._heard = time.monotonic()

    def data_received(self, data: Any) -> None:
        now = time.monotonic()
        self.longest = max(self.longest, now - self._heard)
        self._heard = now
        if self.wrong is None and bytes(data) != self._said.take(len(data)):
            self.wrong = self.position
        self.position += len(data)
        self._changed.set()

    def eof_received(self) -> bool:
        return True

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)
        self.writable.set()
        self._changed.set()

    async def until(self, size: int) -> None:
        """Until so many bytes have come back, or nothing will."""
        while self.position < size and not self.lost.done():
            self._changed.clear()
            await self._changed.wait()


async def one_stream(dialer: Any, seed: int, plan: Plan, relay: ChaosRelay, outcome: Outcome) -> None:
    """Echo ``plan.size`` bytes and more until the weather has struck often enough; then end it orderly."""
    sizes = random.Random(seed)
    pattern, program = Pattern(seed), Checked(seed)
    sent = 0
    try:
        stream = await dialer.dial(ECHO, program)
        while sent < plan.size or relay.strikes.total() < plan.strikes:
            block = pattern.take(int(BLOCK ** sizes.random()))
            stream.write(block)
            sent += len(block)
            await program.writable.wait()
            if sent >= plan.size:
                await asyncio.sleep(PATIENCE)
            if program.lost.done():
                break
        await program.until(sent)
        if not program.lost.done():
            stream.close()
        error = await program.lost
    except Exception as caught:  # (whatever ends a stream is what is looked for)
        error = caught
    outcome.moved += 2 * program.position
    outcome.waits.append(program.longest)
    if error is not None or program.wrong is not None or program.position != sent:
        place = "" if program.wrong is None else f", wrong at {program.wrong}"
        outcome.faults.append(f"seed {seed}: {program.position} of {sent} came back{place}: {error!r}")
    else:
        outcome.intact += 1


async def weathered(folder: Path, plan: Plan) -> Outcome:
    """Carry the plan's streams, shared out over one client for each codec, each behind a relay of its own."""
    outcome, began = Outcome(streams=plan.streams), time.monotonic()
    rng = random.Random(plan.seed)
    async with live(folder) as bridge:
        relays, work = [], []
        share = -(-plan.streams // len(plan.codecs))
        for codec in plan.codecs:
            weather = Weather(random.Random(rng.getrandbits(64)), plan.kinds, plan.bytes, plan.seconds)
            relay = ChaosRelay(bridge.port)
            relays.append(relay)
            dialer = await bridge.client(codec, port=await relay.start(), carriers=plan.carriers)
            relay.fate = weather.fate
            relay.cut_all()  # the first carrier had no fate
            seeds = [rng.getrandbits(64) for _ in range(share)]
            work += [one_stream(dialer, seed, plan, relay, outcome) for seed in seeds]
        outcome.streams = len(work)
        await asyncio.gather(*work)
        for relay in relays:
            relay.calm()
            outcome.strikes += relay.strikes
            outcome.connections += relay.accepted
        for dialer in bridge.dialers:
            await dialer.stop()
        bridge.dialers.clear()
        for relay in relays:
            await relay.stop()
    outcome.took = time.monotonic() - began
    return outcome
