"""Chats and bulk on one carrier: whether what leaves is in R27's order.

A random walk's windows hold a few bytes, so its streams hardly compete. Here two
sessions have room enough and one good carrier; every draw is the walk's own. At one
instant a stream that has sent its whole budget is bulk and one that has sent less is
interactive, whatever is measured in between.
"""

from __future__ import annotations

import random
from typing import Any

from walk_oracle import SaidOutOfOrder
from walk_wire import check_order, split

from ptproxy.session import BridgeSession, ClientSession, Limits
from ptproxy.session.frames import DATA

SHARE = 8
"""Bulk gets at least one byte in so many."""

NOW = 10.0
"""The instant of it all: long after the OPENs, which count as sent too."""

OVERHEAD = 16
"""A DATA's header."""


class Contention:
    """One carrier of one side, with streams that wait for it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.shared = shared = rng.choice((32, 64, 200))
        self.budget = shared * rng.choice((4, 20))
        limits = Limits(shared_frame=shared, lone_frame=4 * shared, interactive_bytes=self.budget)
        client, bridge = ClientSession(limits), BridgeSession(limits)
        number, alive = client.next_carrier()
        client.attach_carrier(number, 0.0)
        bridge.attach_carrier(number, alive, 0.0)
        first, second = (client, bridge) if rng.random() < 0.5 else (bridge, client)
        self.session: Any = first
        self.peer: Any = second
        self.left: dict[int, int] = {}  # bytes of each stream that wait
        self.size: dict[int, int] = {}  # bytes of each stream that left, headers included
        self.most: dict[int, int] = {}  # the same with those that wait, at most
        self.since = 0  # bytes of chats since bulk had its turn

    def run(self) -> None:
        """Bulk streams fill the carrier; chats come and go; everything leaves in order."""
        rng = self.rng
        bulk = self.open(rng.randrange(1, 4))
        chats = self.open(rng.randrange(1, 9))
        for stream in bulk:
            self.write(stream, 20 * self.budget)
        while any(self.size[stream.id] <= 2 * self.budget for stream in bulk):
            self.drain()
        begun = {stream.id: self.size[stream.id] for stream in bulk}
        if max(begun.values()) > min(begun.values()) + self.budget:
            raise SaidOutOfOrder(f"streams that all write got {sorted(begun.values())} bytes")
        self.since = 0
        for _ in range(rng.randrange(5, 25)):
            stream = rng.choice(chats)
            count = rng.randrange(1, self.budget // 8 + 1)
            if self.most[stream.id] + self.cost(count) < self.budget:
                self.write(stream, count)
            if rng.random() < 0.2:
                self.session.send_challenge(1, b"c")
            if rng.random() < 0.6:
                self.drain(begun)

    def open(self, count: int) -> list[Any]:
        """Streams that this side opened, and the other knows."""
        streams = [self.session.open_stream(b"t", b"", 0.0) for _ in range(count)]
        self.peer.receive_data(1, b"".join(self.session.data_to_send(1, 1 << 16, 0.0)), 0.0)
        for stream in streams:
            self.left[stream.id] = self.size[stream.id] = self.most[stream.id] = 0
            self.peer.streams[stream.id].accept(0.0)
        self.session.receive_data(1, b"".join(self.peer.data_to_send(1, 1 << 16, 0.0)), 0.0)
        return streams

    def cost(self, count: int) -> int:
        """The most that ``count`` written bytes become as frames."""
        return count + OVERHEAD * (count // self.shared + 2)

    def write(self, stream: Any, count: int) -> None:
        """An application writes."""
        self.left[stream.id] += count
        self.most[stream.id] += self.cost(count)
        stream.limit = 1 << 40
        stream.send_data(bytes(count), NOW)

    def drain(self, bulk: dict[int, int] | None = None) -> None:
        """What leaves for one random budget, judged if the bulk streams are known."""
        budget = self.rng.choice((1, self.shared, 5 * self.shared, 30 * self.shared))
        words, _ = split(b"".join(self.session.data_to_send(1, budget, NOW)), 0)
        check_order("contention", words, self.shared)
        for _, kind, number, _, offset, end in words:
            if kind == DATA:
                if bulk is not None:
                    self.judge(number, end - offset, bulk)
                self.left[number] -= end - offset
                self.size[number] += end - offset + OVERHEAD

    def judge(self, number: int, size: int, bulk: dict[int, int]) -> None:
        """R27: chats first; bulk has its share, and no stream of it more than another."""
        if number in bulk:
            waiting = any(left for other, left in self.left.items() if other not in bulk)
            if waiting and size * (SHARE - 1) > self.since:
                raise SaidOutOfOrder(f"{size} bytes of bulk after {self.since} of chats, with more waiting")
            self.since = 0
            had = self.size[number] - bulk[number]
            least = min(self.size[other] - before for other, before in bulk.items() if self.left[other])
            if had > least + self.shared + OVERHEAD:
                raise SaidOutOfOrder(f"bulk of {had} bytes goes on before one of {least}")
        else:
            waiting = any(self.left[other] for other in bulk)
            if waiting and self.since >= (SHARE - 1) * (self.shared + OVERHEAD):
                raise SaidOutOfOrder(f"no bulk after {self.since} bytes of chats")
            self.since += size + OVERHEAD
