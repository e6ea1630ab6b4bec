"""A bridge's front door: every accepted connection is either a client's or the web site's.

Each codec's link is fed what the connection says, in the table's order, until
one finds an opening whose MAC, time, key and binding verify. Until then nothing
is answered; whatever verifies as no codec's goes to the web site, with every
byte it said, and is the site's from then on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol

from ptproxy.auth.access import Admission
from ptproxy.auth.opening import Answer, BridgeOpening, PeerHello
from ptproxy.auth.seal import Opener, Sealer
from ptproxy.buffer import Buffer
from ptproxy.codec.interface import Event, Link, LinkMoved, NotMine, OpeningReceived, Reception
from ptproxy.errors import AuthenticationError, CodecError
from ptproxy.log import get_logger
from ptproxy.tunnel.carrier import Carrier, Connection
from ptproxy.tunnel.stream import Site

MAX_UNDECIDED: Final = 64 * 1024
"""Bytes a connection may say before it is decided whose it is: above, it is the site's."""
UNDECIDED_TIMEOUT: Final = 60.0
"""Seconds an undecided connection may take: as long as the usual web server waits for a request."""

HOLD_TIMEOUT: Final = 3.0
"""Seconds that the rest of an opening is waited for while a web server waits beside the connection."""

KEEPALIVE_TIMEOUT: Final = 75.0
"""Seconds a connection of a codec with several may say nothing between requests, or in the middle of
one (nginx: keepalive_timeout)."""

log = get_logger(__name__)


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

    __slots__ = ("_gate", "candidates", "codec_name", "decided", "heard_at", "received", "timer", "visit")

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


class Gate:
    """Decides whose each connection is, and answers openings; owns the codecs' connections."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        receptions: Sequence[tuple[str, Reception]],
        site: Site,
        make_opening: Callable[[str], BridgeOpening],
        admit: Callable[[PeerHello], Admission],
        find_session: Callable[[PeerHello], Answer],
        confirmed: Callable[[Opened, Sequence[Buffer]], None],
        *,
        seal: bool,
        most_undecided: int,
        opening_timeout: float,
        rng: Random,
    ) -> None:
        self.loop = loop
        self.receptions = receptions
        self.connections: dict[Link, Connection] = {}
        self.carriers: dict[Any, Carrier] = {}
        self._site = site
        self._make_opening = make_opening
        self._admit = admit
        self._find_session = find_session
        self._confirmed = confirmed
        self._seal = seal
        self._most_undecided = most_undecided
        self._opening_timeout = opening_timeout
        self._rng = rng
        self._undecided: dict[Arrival, None] = {}  # oldest first
        self._open: set[Connection] = set()

    def arrival(self) -> Arrival:
        """The protocol of a newly accepted connection (the listener's factory)."""
        return Arrival(self)

    def close(self) -> None:
        """Drop every connection that is still here."""
        for carrier in list(self.carriers.values()):
            carrier.end("bridge stopping")
        for connection in list(self._open):
            connection.abort()

    def closed(self, connection: Connection) -> None:
        """The connection's transport is gone."""
        self._open.discard(connection)

    def sweep(self, now: float) -> None:
        """Close what clients keep open without asking anything, as web servers do."""
        for link, connection in list(self.connections.items()):
            if (
                isinstance(connection, Arrival)
                and getattr(link, "resting", False)
                and now - connection.heard_at > KEEPALIVE_TIMEOUT
            ):
                self.happened(connection, link.receive_eof(now))
                connection.drop()

    # ---- undecided ---------------------------------------------------------------------------------

    def arrived(self, arrival: Arrival) -> None:
        """A connection is there; where too many are undecided, the longest silent is the site's.

        A client speaks at once, so whoever only waits keeps none out.
        """
        self._open.add(arrival)
        if len(self._undecided) >= self._most_undecided:
            # Not from within connection_made: aiofastnet goes on watching what is closed there.
            longest = next(iter(self._undecided))
            del self._undecided[longest]
            self.loop.call_soon(self.give_up, longest)
        self._undecided[arrival] = None
        if arrival.visit is None:
            arrival.timer = self.loop.call_later(UNDECIDED_TIMEOUT, arrival.drop)
        self._next_candidate(arrival)

    def undecided(self, arrival: Arrival, data: Buffer) -> None:
        """More of what an undecided connection says."""
        received = arrival.received
        assert received is not None
        received += data
        if arrival.timer is None:
            arrival.timer = self.loop.call_later(HOLD_TIMEOUT, self.give_up, arrival)
        feed: Buffer = data
        while arrival.link is not None:
            outcome = self._try(arrival, feed)
            if outcome is True:
                return
            if outcome is None and len(received) <= MAX_UNDECIDED and self._may_wait(arrival):
                return
            if not self._next_candidate(arrival):
                break
            feed = bytes(received)
        self.give_up(arrival)

    def _may_wait(self, arrival: Arrival) -> bool:
        """Whether the rest of what may be an opening is waited for.

        Beside a web server that is there already, only where half of one shows as such: openings
        come whole, in one record, and what a server does about half a request is the server's affair.
        """
        return arrival.visit is None or getattr(arrival.link, "expecting", False)

    def _next_candidate(self, arrival: Arrival) -> bool:
        """Put the next codec's link on the connection; False where none is left."""
        for name, reception in arrival.candidates:
            arrival.codec_name = name
            arrival.link = reception.open_link()
            return True
        arrival.link = None
        return False

    def _try(self, arrival: Arrival, feed: Buffer) -> bool | None:
        """Feed one candidate: True it is a client's, False not this codec's, None undecided."""
        link = arrival.link
        assert link is not None
        happened: Sequence[Event]
        try:
            happened = link.receive_data(feed, self.loop.time())
        except CodecError:
            return False
        for event in happened:
            if type(event) is NotMine:
                return False
            if type(event) is OpeningReceived:
                if not self._answer(arrival, event):
                    return False
                happened = self._more(arrival)
                break
        else:
            if not happened and not getattr(link, "joined", False):
                return None
            self._decided(arrival)
        self.happened(arrival, happened)
        arrival.flush()
        return True

    def _decided(self, arrival: Arrival) -> None:
        """The connection is a client's."""
        arrival.received = None
        self._undecided.pop(arrival, None)
        if arrival.timer is not None:
            arrival.timer.cancel()
            arrival.timer = None
        assert arrival.link is not None
        arrival.decided = arrival.link
        self.connections[arrival.link] = arrival
        if arrival.visit is not None:
            arrival.visit.is_clients()

    def give_up(self, arrival: Arrival) -> None:
        """A connection that is undecided is the web site's."""
        if arrival.ended or arrival.received is None:
            return  # gone, or decided since
        received = bytes(arrival.received)
        arrival.received = None
        arrival.link = None
        arrival.ended = True
        self._undecided.pop(arrival, None)
        self._open.discard(arrival)
        if arrival.timer is not None:
            arrival.timer.cancel()
        if arrival.visit is not None:
            arrival.visit.is_strangers(received)
        else:
            self._site.adopt(arrival.transport, received)

    # ---- openings ----------------------------------------------------------------------------------

    def _answer(self, connection: Connection, event: OpeningReceived) -> bool:
        """Verify an opening and answer it; False leaves no trace."""
        name = connection.codec_name if isinstance(connection, Arrival) else ""
        opening = self._make_opening(name)
        try:
            peer = opening.examine(event.opening, time.time())
            admission = self._admit(peer)
        except AuthenticationError as error:
            log.debug("no opening of ours", codec=name, why=str(error))
            event.refuse()
            return False
        answer = self._find_session(peer)
        message2 = opening.answer(answer, self._rng)
        codec = event.accept(opening.keys.token_key, self.loop.time())
        if isinstance(connection, Arrival) and connection.received is not None:
            self._decided(connection)
        carrier = Carrier(codec, name, self.connections, self.loop)
        carrier.number = peer.hello.carrier
        carrier.origin = _origin(connection)
        self.carriers[codec] = carrier
        opened = Opened(carrier, opening, peer, admission, answer)
        timer = self.loop.call_later(self._opening_timeout, carrier.end, "not confirmed in time")

        def confirming(carrier: Carrier, data: Buffer) -> None:
            try:
                rest = opening.receive_confirm(data)
            except AuthenticationError:
                carrier.end("its confirmation does not verify")
                return
            if rest is None:
                return
            timer.cancel()
            frames: Sequence[Buffer] = (rest,) if rest else ()
            if self._seal:
                keys = opening.keys
                carrier.sealer, carrier.opener = Sealer(keys.seal_send), Opener(keys.seal_receive)
                try:
                    frames = carrier.opener.receive_data(rest) if rest else ()
                except AuthenticationError as error:
                    carrier.end(str(error))
                    return
            self._confirmed(opened, frames)

        carrier.on_payload = confirming
        carrier.on_end = self._carrier_end
        carrier.send([message2])
        return True

    def _more(self, connection: Connection) -> list[Event]:
        """What came in the same read as an opening that was accepted."""
        link = connection.link
        if link is None:
            return []
        try:
            return link.receive_data(b"", self.loop.time())
        except CodecError as error:
            self.connection_failed(connection, error)
            return []

    def _carrier_end(self, carrier: Carrier, reason: str) -> None:
        """A carrier ended before it was a session's."""
        del reason
        self.forget(carrier)

    def forget(self, carrier: Carrier) -> None:
        """The carrier's codec events concern nobody any more."""
        self.carriers.pop(carrier.codec, None)

    # ---- what connections say (ConnectionOwner) --------------------------------------------------------

    def happened(self, connection: Connection, happened: Sequence[Event]) -> None:
        """Pass each event to its carrier; a further opening on a kept connection is answered, too."""
        for event in happened:
            if isinstance(event, OpeningReceived):
                if self._answer(connection, event):
                    self.happened(connection, self._more(connection))
            elif not isinstance(event, NotMine | OpeningReceived | LinkMoved):
                carrier = self.carriers.get(event.carrier)
                if carrier is not None:
                    carrier.codec_event(event)
                    if carrier.codec is connection.link:  # type: ignore[comparison-overlap]  # some are
                        carrier.arm_codec()  # the connection flushes it
                    elif not carrier.ended:
                        carrier.flush()

    def connection_failed(self, connection: Connection, error: CodecError) -> None:
        """Nonsense on a client's connection: its carriers are over, the connection too."""
        link = connection.link
        carrier = self.carriers.get(link)
        if carrier is not None:
            carrier.end(str(error) or "not this codec's bytes")
        elif link is not None:
            self.happened(connection, link.receive_eof(self.loop.time()))
        connection.drop()

    def connection_ended(self, connection: Connection) -> None:
        """A connection is at its end (its transport may still be closing)."""
        if isinstance(connection, Arrival):
            self._undecided.pop(connection, None)
            if connection.timer is not None:
                connection.timer.cancel()
            if connection.visit is not None and connection.received is not None:
                connection.visit.is_over()
            if connection.decided is not None:
                self.connections.pop(connection.decided, None)


def _origin(connection: Connection) -> tuple[str, int] | None:
    """Where a connection comes from; None for a Unix socket."""
    name = connection.transport.get_extra_info("peername")
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
