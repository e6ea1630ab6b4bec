"""A bridge's front door: every accepted connection is either a client's or the web site's.

Each codec's link is fed what the connection says, in the table's order, until
one finds an opening whose MAC, time, key and binding verify. Until then nothing
is answered; whatever verifies as no codec's goes to the web site, with every
byte it said, and is the site's from then on.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final, Protocol

from ptproxy.auth.access import Admission
from ptproxy.auth.keys import TICKET_BYTES, Keys
from ptproxy.auth.opening import Answer, BridgeOpening, PeerHello
from ptproxy.auth.seal import Opener, Sealer
from ptproxy.buffer import Buffer
from ptproxy.codec.interface import (
    CarrierCodec,
    Event,
    Link,
    LinkMoved,
    NotMine,
    OpeningReceived,
    Reception,
)
from ptproxy.errors import AuthenticationError, CodecError
from ptproxy.log import get_logger
from ptproxy.tunnel.arrival import Arrival, Opened
from ptproxy.tunnel.carrier import Carrier, Connection, ignore_payload
from ptproxy.tunnel.farewells import Farewells
from ptproxy.tunnel.passage import Passage
from ptproxy.tunnel.stream import Site
from ptproxy.tunnel.tickets import BridgeTickets

MAX_UNDECIDED: Final = 64 * 1024
"""Bytes a connection may say before it is decided whose it is: above, it is the site's."""
UNDECIDED_TIMEOUT: Final = 60.0
"""Seconds an undecided connection may take: as long as the usual web server waits for a request."""

HOLD_TIMEOUT: Final = 3.0
"""Seconds that the rest of an opening is waited for while a web server waits beside the connection."""

KEEPALIVE_TIMEOUT: Final = 75.0
"""Seconds a connection of a codec with several may say nothing between requests, or in the middle of
one (nginx: keepalive_timeout)."""
FOREVER: Final = float("inf")

log = get_logger(__name__)


class Workers(Protocol):
    """Which of a bridge's workers a connection belongs to (:class:`~ptproxy.tunnel.elsewhere.Elsewhere`)."""

    def takes_opening(self, arrival: Arrival, opening: bytes, peer: PeerHello) -> bool:
        """Whether another one has the connection from now on, as its opening names a session there."""

    def takes_ticket(self, arrival: Arrival, ticket: bytes) -> bool:
        """Whether another one has the connection from now on, as it has given the ticket."""

    def takes_request(self, arrival: Arrival) -> bool:
        """Whether another one has the connection from now on, as a request there is for its carrier."""


class Gate:
    """Decides whose each connection is, and answers openings; owns the codecs' connections."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        receptions: Sequence[tuple[str, Reception]],
        site: Site,
        make_opening: Callable[[str, bool], BridgeOpening],
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
        self.tickets = BridgeTickets(loop, make_opening, admit, find_session, rng)
        """Openings made on other carriers, whose connections come here."""
        self.workers: Workers | None = None
        """Set where the bridge has several."""
        self._undecided: dict[Arrival, None] = {}  # oldest first
        self._unconfirmed: dict[Carrier, asyncio.TimerHandle] = {}  # oldest first
        self._farewells = Farewells(most_undecided)
        self._open: set[Connection] = set()

    @property
    def waiting(self) -> int:
        """Connections of which it is not known yet whose they are."""
        return len(self._undecided)

    @property
    def passing(self) -> bool:
        """Whether what a connection says still goes to another worker through here."""
        return any(isinstance(connection.link, Passage) for connection in self._open)

    def arrival(self) -> Arrival:
        """The protocol of a newly accepted connection (the listener's factory)."""
        return Arrival(self)

    def close(self) -> None:
        """Drop every connection that is still here."""
        self.tickets.clear()
        for carrier in list(self.carriers.values()):
            carrier.end("bridge stopping")
        for connection in list(self._open):
            connection.abort()

    def stand_still(self) -> None:
        """Every carrier ends, and every connection that has said nothing (more); strangers' go on."""
        self.tickets.clear()
        for carrier in list(self.carriers.values()):
            carrier.end("the bridge goes on in another process")
        self.sweep(FOREVER)
        for arrival in [arrival for arrival in self._undecided if not arrival.received]:
            arrival.drop()

    def closed(self, connection: Connection) -> None:
        """The connection's transport is gone."""
        self._open.discard(connection)

    def sweep(self, now: float) -> None:
        """Close what clients keep open without asking anything, as web servers do."""
        self._farewells.sweep(now)
        for link, connection in list(self.connections.items()):
            if (
                isinstance(connection, Arrival)
                and getattr(link, "resting", False)
                and now - connection.heard_at > KEEPALIVE_TIMEOUT
            ):
                self.happened(connection, link.receive_eof(self.loop.time()))
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
            if not outcome and self.workers is not None and self.workers.takes_request(arrival):
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
        received = self.release(arrival)
        if arrival.visit is not None:
            arrival.visit.is_strangers(received)
        else:
            self._site.adopt(arrival.transport, received)

    def release(self, arrival: Arrival) -> bytes:
        """An undecided connection is somebody else's from now on; what it has said."""
        received = bytes(arrival.received or b"")
        arrival.received = None
        arrival.link = None
        arrival.ended = True
        self._undecided.pop(arrival, None)
        self._open.discard(arrival)
        if arrival.timer is not None:
            arrival.timer.cancel()
        return received

    def pass_on(self, arrival: Arrival, passage: Passage) -> bytes:
        """An undecided connection's bytes go to another worker from now on; what it has said."""
        received = bytes(arrival.received or b"")
        arrival.received = None
        arrival.link = passage  # type: ignore[assignment]  # it makes no events
        self._undecided.pop(arrival, None)
        if arrival.timer is not None:
            arrival.timer.cancel()
            arrival.timer = None
        if arrival.visit is not None:
            arrival.visit.is_clients()
        return received

    # ---- openings ----------------------------------------------------------------------------------

    def _answer(self, connection: Connection, event: OpeningReceived) -> bool:
        """Verify an opening and answer it; False leaves no trace."""
        name, judged, arrival = "", False, connection if isinstance(connection, Arrival) else None
        if arrival is not None:
            name, handed = arrival.codec_name, arrival.handed
            if handed is not None and handed.judged == hashlib.sha256(event.opening).digest():
                judged = True
                arrival.handed = replace(handed, judged=b"")  # that holds once
        if len(event.opening) == TICKET_BYTES:
            return self._answer_ticket(connection, event, name)
        opening = self._make_opening(name, judged)
        try:
            peer = opening.examine(event.opening, time.time())
            admission = self._admit(peer)
            if (
                self.workers is not None
                and arrival is not None
                and self.workers.takes_opening(arrival, event.opening, peer)
            ):
                return True
        except AuthenticationError as error:
            log.debug("no opening of ours", codec=name, why=str(error))
            event.refuse()
            return False
        answer = self._find_session(peer)
        message2 = opening.answer(answer, self._rng)
        carrier = self._carrier(
            connection, name, event.accept(opening.keys.token_key, self.loop.time()), peer
        )
        self._await_confirm(carrier)
        opened = Opened(carrier, opening, peer, admission, answer)

        def confirming(carrier: Carrier, data: Buffer) -> None:
            try:
                rest = opening.receive_confirm(data)
            except AuthenticationError:
                carrier.end("its confirmation does not verify")
                return
            if rest is None:
                return
            self._decided_on(carrier)
            frames: Sequence[Buffer] = (rest,) if rest else ()
            if self._seal:
                opener = _seal(carrier, opening.keys)
                try:
                    frames = opener.receive_data(rest) if rest else ()
                except AuthenticationError as error:
                    carrier.end(str(error))
                    return
            self._confirmed(opened, frames)

        carrier.on_payload = confirming
        carrier.send([message2])
        return True

    def _await_confirm(self, carrier: Carrier) -> None:
        """One more that was answered; where too many have not confirmed, the one that has had longest goes.

        Whoever has the link of an open bridge can make openings: else they would take every carrier there is.
        """
        if len(self._unconfirmed) >= self._most_undecided:
            longest = next(iter(self._unconfirmed))
            self._decided_on(longest)
            longest.end("too many that do not confirm")
        overdue = self.loop.call_later(self._opening_timeout, carrier.end, "not confirmed in time")
        self._unconfirmed[carrier] = overdue

    def _decided_on(self, carrier: Carrier) -> None:
        """It is confirmed, or at its end; its timer would keep all of it in memory."""
        overdue = self._unconfirmed.pop(carrier, None)
        if overdue is not None:
            overdue.cancel()

    def _answer_ticket(self, connection: Connection, event: OpeningReceived, name: str) -> bool:
        """An opening that was made and confirmed on another carrier has its connection here."""
        prepared = self.tickets.take(event.opening)
        if (
            prepared is None
            and self.workers is not None
            and isinstance(connection, Arrival)
            and self.workers.takes_ticket(connection, event.opening)
        ):
            return True
        try:
            if prepared is None:
                raise AuthenticationError("a ticket that nobody has")
            admission = self._admit(prepared.peer)
        except AuthenticationError as error:
            log.debug("no opening of ours", codec=name, why=str(error))
            event.refuse()
            return False
        keys, peer = prepared.opening.keys, prepared.peer
        carrier = self._carrier(connection, name, event.accept(keys.token_key, self.loop.time()), peer)
        if self._seal:
            _seal(carrier, keys)
        self._confirmed(Opened(carrier, prepared.opening, peer, admission, prepared.answer), ())
        carrier.flush()
        return True

    def _carrier(self, connection: Connection, name: str, codec: CarrierCodec, peer: PeerHello) -> Carrier:
        """The carrier of an opening that was accepted."""
        if isinstance(connection, Arrival) and connection.received is not None:
            self._decided(connection)
        carrier = Carrier(codec, name, self.connections, self.loop)
        carrier.number = peer.hello.carrier
        carrier.origin = _origin(connection)
        carrier.on_end = self._carrier_end
        self.carriers[codec] = carrier
        return carrier

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
        carrier.on_payload = ignore_payload  # else it and its opening hold each other in memory
        self._farewells.add(carrier, self.loop.time())

    def forget(self, carrier: Carrier) -> None:
        """The carrier's codec events concern nobody any more."""
        self.carriers.pop(carrier.codec, None)
        self._decided_on(carrier)

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
    return connection.comes_from() if isinstance(connection, Arrival) else None


def _seal(carrier: Carrier, keys: Keys) -> Opener:
    """From here on both ways are sealed; what opens the way up."""
    carrier.sealer, carrier.opener = Sealer(keys.seal_send), Opener(keys.seal_receive)
    return carrier.opener
