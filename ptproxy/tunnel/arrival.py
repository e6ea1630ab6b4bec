"""A connection that a bridge accepted, before and after it is known whose it is; an opening that verified."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ptproxy.auth.access import Admission
from ptproxy.auth.opening import Answer, BridgeOpening, PeerHello
from ptproxy.buffer import Buffer
from ptproxy.codec.interface import Link, Reception
from ptproxy.tunnel.carrier import Carrier, Connection
from ptproxy.tunnel.neighbours import Handed

if TYPE_CHECKING:
    from ptproxy.tunnel.gate import Gate


@dataclass(slots=True)
class Opened:
    """A carrier whose opening verified and was answered; it acts on nothing before CONFIRM."""

    carrier: Carrier
    opening: BridgeOpening
    peer: PeerHello
    admission: Admission
    answer: Answer


class Visit(Protocol):
    """A connection beside which one to the web server stands already; exactly one of these is called."""

    def is_clients(self) -> None:
        """An opening has verified."""

    def is_strangers(self, received: bytes) -> None:
        """The web server's from now on, transport included; ``received`` is everything it has said so far."""

    def is_over(self) -> None:
        """It is gone before it was anybody's."""


class Arrival(Connection):
    """An accepted connection: undecided first, then a client's (the base class's work) or the site's."""

    __slots__ = (
        "_gate", "candidates", "codec_name", "decided", "handed", "heard_at", "received", "timer", "visit",
    )  # fmt: skip

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate, gate.loop)
        self._gate = gate
        self.received: bytearray | None = bytearray()
        self.candidates: Iterator[tuple[str, Reception]] = iter(gate.receptions)
        self.codec_name = ""
        self.heard_at = gate.loop.time()
        self.decided: Link | None = None  # the link of a connection that is a client's
        self.timer: asyncio.TimerHandle | None = None
        self.visit: Visit | None = None
        self.handed: Handed | None = None  # by another worker, which has accepted it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Undecided, for a bounded time."""
        super().connection_made(transport)
        self._gate.arrived(self)

    def data_received(self, data: Buffer) -> None:
        """Decide whose the connection is, or feed its link."""
        if self.received is None:
            self.heard_at = self.loop.time()
            super().data_received(data)
        else:
            self._gate.undecided(self, data)

    def comes_from(self) -> tuple[str, int] | None:
        """Where the connection comes from; None for a Unix socket."""
        if self.handed is not None:
            return self.handed.origin
        name = self.transport.get_extra_info("peername")
        return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None

    def give_up(self) -> None:
        """Still undecided, it is the web site's."""
        self._gate.give_up(self)

    def input_over(self) -> bool:
        """The peer sends no more: whether the web server has the connection now, to end it."""
        undecided = self.received is not None and self.visit is not None
        if undecided:
            self.give_up()
        return undecided

    def eof_received(self) -> bool | None:
        """An undecided connection that ends was nobody's."""
        return None if self.received is not None else super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed for good."""
        super().connection_lost(exc)
        self._gate.closed(self)
