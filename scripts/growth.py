"""How the work for one event grows with what there is besides it; what ``scripts/growth`` runs.

Each row is one kind of event, each column how much there is besides: 10 to 100,000 streams
of a session, sessions of a bridge, timers, openings seen, identities. The cells are µs of CPU
an event, the least of several rounds (others on the machine only add). The last column is
the cost at the right end as a multiple of that at the left: flat is O(1), a factor of
log2(100,000) / log2(10) = 5 would be O(log n), 10,000 O(n).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ptproxy.auth.access import Access, AccessList  # noqa: E402
from ptproxy.auth.access_record import Identity  # noqa: E402
from ptproxy.auth.replay import ReplayFilter  # noqa: E402
from ptproxy.proxy.shared_openings import SharedOpenings  # noqa: E402
from ptproxy.session import BridgeSession, ClientSession, Limits, RetentionBudget  # noqa: E402
from ptproxy.tunnel.runtime import loop_factory  # noqa: E402
from ptproxy.tunnel.shared_tables import TokenIndex  # noqa: E402

SIZES = (10, 100, 1_000, 10_000, 100_000)
EVENTS = 500
ROUNDS = 5
NOW = 1_800_000_000
SPREAD = 50
"""Seconds over which the times of openings are spread: what is seen is within a minute."""

Event = Callable[[int], object]


def cost(event: Event) -> float:
    """µs of CPU for one event."""
    best = float("inf")
    gc.collect()
    gc.freeze()  # what is there besides is old by now: a collection would walk it, whatever the event
    for round_ in range(ROUNDS):
        start = time.process_time()
        for number in range(round_ * EVENTS, (round_ + 1) * EVENTS):
            event(number)
        best = min(best, time.process_time() - start)
    return best / EVENTS * 1e6


def key(number: int) -> bytes:
    return random.Random(number).randbytes(32)


# ---- events ------------------------------------------------------------------------------------------


def opening(replay: ReplayFilter | SharedOpenings, size: int) -> Event:
    for number in range(size):
        replay.check_and_add(key(number), NOW - number % SPREAD, NOW)
    new = iter([key(size + number) for number in range(ROUNDS * EVENTS)])
    return lambda number: replay.check_and_add(next(new), NOW - number % SPREAD, NOW)


def replayed(replay: ReplayFilter | SharedOpenings, size: int) -> Event:
    known = [key(number) for number in range(min(size, EVENTS))]
    for number in range(size):
        replay.check_and_add(key(number), NOW - number % SPREAD, NOW)
    return lambda number: known[number % len(known)] in replay


def admission(size: int) -> Event:
    access = AccessList(Access.ENROLLED)
    for number in range(size):
        access.enrol(Identity(key(number), f"name {number}", NOW))
    known = [key(number) for number in range(min(size, EVENTS))]
    return lambda number: access.decide(known[number % len(known)], b"", NOW)


def token(size: int) -> Event:
    """A request's token, looked up in another worker's part."""
    index = TokenIndex(2, max(1, size // 112))
    known = [f"{key(number).hex()[:22]}" for number in range(size)]
    for text in known:
        index.publish(text)
    index.index = 1
    return lambda number: index.owner(known[number % len(known)])


class Pair:
    """A session's two ends, with ``size`` streams that have said something once."""

    def __init__(self, size: int) -> None:
        limits = Limits(max_streams=size + 10)
        self.now = 0.0
        self.client = ClientSession(limits, RetentionBudget(1 << 30), self.now)
        self.bridge = BridgeSession(limits, RetentionBudget(1 << 30), self.now)
        number, alive = self.client.next_carrier()
        self.carrier = number
        self.client.attach_carrier(number, self.now)
        self.bridge.attach_carrier(number, alive, self.now)
        self.streams = []
        for _ in range(size):
            self.streams.append(self.client.open_stream(b"\x00" * 8, b"hello", self.now))
            if len(self.streams) % 500 == 0:
                self.pass_on()
        self.pass_on()
        for stream in list(self.bridge.streams.values()):
            stream.accept(self.now)
        for _ in range(3):  # until nothing is owed any more
            self.pass_on()
            self.now += 1.0
            self.look()

    def pass_on(self) -> None:
        """Until both have said everything."""
        silent = 0
        while silent < 2:
            silent = 0
            for one, other in ((self.client, self.bridge), (self.bridge, self.client)):
                chunks = one.data_to_send(self.carrier, 1 << 20, self.now)
                silent += not chunks
                if chunks:
                    other.receive_data(self.carrier, b"".join(chunks), self.now)

    def talk(self, number: int) -> None:
        """64 bytes on one of ten streams, passed on, and both clocks looked at."""
        self.streams[number % 10].send_data(bytes(64), self.now)
        self.pass_on()
        self.now += 0.001
        self.look()

    def look(self) -> None:
        """Let each do what is due."""
        for one in (self.client, self.bridge):
            due = one.deadline()
            if due is not None and due <= self.now:
                one.on_deadline(self.now)


def timer(size: int) -> Event:
    """A timer set and cancelled on the loop that roles run on."""
    loop = loop_factory("auto")()
    for number in range(size):
        loop.call_later(1000 + number, print)

    def event(number: int) -> None:
        loop.call_later(500 + number % 100, print).cancel()

    event.loop = loop  # type: ignore[attr-defined]  # closed after the row
    return event


ROWS: dict[str, Callable[[int], Event]] = {
    "64 B on ten of n streams, session": lambda size: Pair(size).talk,
    "timer set and cancelled beside n": timer,
    "opening entered beside n seen": lambda size: opening(ReplayFilter(NOW - 100), size),
    "replay recognised among n": lambda size: replayed(ReplayFilter(NOW - 100), size),
    "... entered, shared by workers": lambda size: opening(SharedOpenings(NOW - 100), size),
    "... recognised, shared by workers": lambda size: replayed(SharedOpenings(NOW - 100), size),
    "client admitted among n identities": admission,
    "token found among n of a worker": token,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/growth", description=__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="the largest number (default: 100000)")
    arguments = parser.parse_args()
    sizes = [size for size in SIZES if size <= arguments.most]
    print("| µs of CPU an event | " + " | ".join(f"{size:,}" for size in sizes) + " | right / left |")
    print("|---|" + "---:|" * (len(sizes) + 1))
    for name, make in ROWS.items():
        cells = []
        for size in sizes:
            event = make(size)
            cells.append(cost(event))
            loop: asyncio.AbstractEventLoop | None = getattr(event, "loop", None)
            if loop is not None:
                loop.close()
        shown = " | ".join(f"{cell:.2f}" for cell in cells)
        print(f"| {name} | {shown} | {cells[-1] / cells[0]:.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
