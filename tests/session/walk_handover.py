"""The random walk of a bridge whose session is handed over, again and again, to a new process.

At any point the bridge gives up its carriers, its session becomes bytes, and a new one
made of them goes on; the client knows nothing of it but that its carriers end. All that is
judged stays as in :mod:`walk`: no byte lost or doubled, nothing told twice, nothing left behind.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from walk import Walk
from walk_oracle import Fault

from ptproxy.session import BridgeSession
from ptproxy.session.handover import SessionRecord

OFTEN = 0.15
"""How likely the session is handed over where a carrier would exchange all it has."""

CHECKED = True
"""Whether a session that was handed over is compared with what it was."""


class Changed(Fault):
    """A session that was handed over is not the one it was."""


class HandoverWalk(Walk):
    """One walk; the handovers draw from a generator of their own."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        super().__init__(seed, trace)
        self.chance = random.Random(seed * 7919 + 1)
        self.handovers = 0

    def exchange(self) -> None:
        """One carrier works for a moment; now and then the bridge is another process before."""
        if self.chance.random() < OFTEN:
            self.replace()
        super().exchange()

    def rest(self) -> None:
        """Everything is connected and heard, by a bridge that has just taken over."""
        if self.chance.random() < 0.5:
            self.replace()
        super().rest()

    def replace(self) -> None:
        """The bridge's carriers end, and its session goes on in another object."""
        bridge = self.bridge
        for pipe in list(self.pipes.values()):
            self.lose(pipe, bridge)
        before = bridge.session
        assert isinstance(before, BridgeSession)
        data = before.to_record().serialize()
        self.log(f"bridge hands over {len(data)} bytes")
        session = BridgeSession.from_record(SessionRecord.parse(data), self.limits, self.budget(), self.now)
        if CHECKED and session.to_record().serialize() != data:
            raise Changed(f"{data.hex()} becomes {session.to_record().serialize().hex()}")
        bridge.session = bridge.watch.session = session
        for end in bridge.ends.values():
            end.stream = session.streams[end.stream.id]
            end.stream.owner = end
            end.datagrams.clear()  # R23: those that waited are lost
        for end in bridge.leftover:  # the former process gives its applications what is left
            bridge.unread -= end.delivered - end.consumed
            end.consumed = end.delivered
        bridge.leftover.clear()
        self.handovers += 1
