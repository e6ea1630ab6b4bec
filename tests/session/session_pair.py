"""A client's and a bridge's session joined by carriers of plain bytes, for the tests beside this file."""

from __future__ import annotations

from typing import Any

from ptproxy.session import BridgeSession, ClientSession, Limits, RetentionBudget, Session, Stream, events
from ptproxy.session.frames import FrameParser

TARGET = b"\x03\x0bexample.org\x01\xbb"


def frames_of(data: bytes) -> list[tuple[Any, ...]]:
    """The frames in ``data``, payloads as bytes."""
    parser = FrameParser()
    frames = parser.receive_data(data)
    if parser.error is not None:
        raise parser.error
    return [tuple(bytes(f) if isinstance(f, memoryview) else f for f in frame) for frame in frames]


class Pair:
    """Two sessions, their carriers, and everything each side was told."""

    def __init__(self, limits: Limits | None = None, carriers: int = 1, **budgets: RetentionBudget) -> None:
        self.now = 100.0
        self.limits = limits or Limits()
        self.client = ClientSession(self.limits, budgets.get("client"), self.now)
        self.bridge = BridgeSession(self.limits, budgets.get("bridge"), self.now)
        self.told: dict[Session, list[events.Event]] = {self.client: [], self.bridge: []}
        self.received: dict[tuple[Session, int], bytes] = {}
        self.consume = True
        for _ in range(carriers):
            self.attach()

    def other(self, side: Session) -> Session:
        return self.bridge if side is self.client else self.client

    def attach(self) -> int:
        number, alive = self.client.next_carrier()
        self.tell(self.client, self.client.attach_carrier(number, self.now))
        self.tell(self.bridge, self.bridge.attach_carrier(number, alive, self.now))
        return number

    def tell(self, side: Session, told: list[Any]) -> None:
        """What a tunnel does with events: reads at once, unless :attr:`consume` is off."""
        for event in told:
            data = b""
            if isinstance(event, events.DataReceived):
                data = event.data = bytes(event.data)
            elif isinstance(event, events.StreamOpened):
                data = event.first_data
            self.told[side].append(event)
            if data:
                key = (side, event.stream.id)
                self.received[key] = self.received.get(key, b"") + data
                if self.consume:
                    event.stream.consume(len(data), self.now)

    def said(self, side: Session, kind: type | None = None) -> list[Any]:
        """Events told to a side since last asked, of one kind."""
        told, self.told[side] = self.told[side], []
        return [event for event in told if kind is None or type(event) is kind]

    def drain(self, side: Session, carrier: int, budget: int = 1 << 17) -> bytes:
        return b"".join(side.data_to_send(carrier, budget, self.now))

    def give(self, side: Session, carrier: int, data: bytes) -> None:
        self.tell(side, side.receive_data(carrier, data, self.now))

    def pump(self) -> None:
        """Carry everything both ways until nobody has anything to say."""
        for _ in range(10_000):
            if not (self.client.ready or self.bridge.ready):
                return
            for side in (self.client, self.bridge):
                for carrier in sorted(side.ready):
                    self.give(self.other(side), carrier, self.drain(side, carrier))
        raise AssertionError("the sessions never fall silent")

    def wait(self, seconds: float) -> None:
        """Let time pass, deadline by deadline."""
        end = self.now + seconds
        for _ in range(10_000):
            deadlines = [d for s in self.told if (d := s.deadline()) is not None and d <= end]
            if not deadlines:
                break
            self.now = max(self.now, min(deadlines))
            for side in self.told:
                self.tell(side, side.on_deadline(self.now))
            self.pump()
        self.now = end

    def open(self, first_data: bytes = b"", carrier: int | None = None) -> tuple[Stream, Stream]:
        """A stream that the client opened and the bridge accepted."""
        near = self.client.open_stream(TARGET, first_data, self.now, carrier)
        self.pump()
        far = self.bridge.streams[near.id]
        far.accept(self.now)
        self.pump()
        return near, far

    def lose(self, carrier: int) -> None:
        """Both sides notice the carrier's end."""
        for side in self.told:
            self.tell(side, side.carrier_lost(carrier, self.now))
