"""The client's end of the tunnel: carriers dialled to a bridge, and the session they carry.

Opening a carrier, in order: TCP, TLS 1.3 (the certificate is checked and
becomes the binding), the codec's opening with Noise message 1, the answer with
message 2, CONFIRM, and from then on session frames. One round trip beyond TLS
lies before the first frame; everything after rides on open carriers.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Final, cast

from ptproxy.auth.binding import Binding
from ptproxy.auth.opening import Answer, ClientOpening, Hello, Verdict
from ptproxy.codec import codec_table
from ptproxy.codec.interface import CodecSettings, Greeting
from ptproxy.codec.shape import ClassShape
from ptproxy.errors import (
    LocalProtocolError,
    PtproxyError,
    Reason,
    RemoteProtocolError,
)
from ptproxy.log import get_logger
from ptproxy.session import ClientSession, Limits, events
from ptproxy.tunnel.approach import Approach
from ptproxy.tunnel.beginning import Beginning
from ptproxy.tunnel.carrier import Carrier
from ptproxy.tunnel.client_carrier import ClientCarrier
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.placement import number_of
from ptproxy.tunnel.standby import Ready
from ptproxy.tunnel.tickets import CODEC as TICKET_CODEC
from ptproxy.tunnel.tickets import Ahead as OpenedAhead
from ptproxy.tunnel.tickets import ClientTickets
from ptproxy.tunnel.tunnel import Tunnel
from ptproxy.tunnel.visit import Visitor
from ptproxy.tunnel.waiting import Ahead
from ptproxy.ways import Degree, Obstructed

OPENING_TIMEOUT: Final = 20.0
"""Seconds from the opening to its answer: a front under load, a poll that has to come round."""
WAITED_TIMEOUT: Final = 4.0
"""... on a connection that has waited: it may have died without a word, and a new one is quickly there."""
WAITED_LEAST: Final = 1.0
WAITED_ROUND_TRIPS: Final = 4
"""... or the longer of a second and so many round trips, where one is known: as in R20."""
CLOCK_TOLERANCE: Final = 20.0
"""Seconds our clock may differ from the site's without a correction: a third of what a bridge accepts."""

ACKNOWLEDGE_WITHIN: Final = (2.5, 5.0)
"""Seconds, drawn for a session, after which little that came is acknowledged by itself. Each such word is a
message or a request that no chat or page has, and a bridge can wait: it only keeps what it sent."""

OURS: Final = frozenset({"spare", "its address is gone", "session closed", "given up"})
"""Ends of carriers that say nothing of the way they took."""

log = get_logger(__name__)


class OpeningRefused(PtproxyError):  # noqa: N818  (an answer, not a fault)
    """The bridge was reached and did not take the opening: retrying the same will not help."""

    degree = Degree.OPENING_RESET
    """... or a page answered in its place."""


class TicketRefused(OpeningRefused):
    """A ticket was not taken: an opening of its own may be."""


class ClientTunnel(Tunnel):
    """A session with one bridge and the carriers that the client keeps for it."""

    def __init__(
        self,
        route: Route,
        loop: asyncio.AbstractEventLoop,
        limits: Limits | None = None,
        visitor: Visitor | None = None,
    ) -> None:
        """Without a ``visitor`` carriers do not begin with a page."""
        self._rng = random.SystemRandom()
        within = self._rng.uniform(*ACKNOWLEDGE_WITHIN)
        limits = replace(limits or Limits(), acknowledge_within=within)
        self.client_session = ClientSession(limits, None, loop.time())
        super().__init__(self.client_session, loop)
        self.approach = Approach(route, visitor)
        """Where pages are loaded ahead, and carriers go unless another front is named."""
        self.session_id = b""
        self.goaway = False
        self.on_change: Callable[[int | None], None] | None = None
        """Told when a carrier came or went (None), or is suspected (its number)."""
        self.on_lost: Callable[[ClientCarrier], None] | None = None
        """Told when a carrier that was open ended by itself, before its streams move."""
        self.on_leaving: Callable[[], None] | None = None
        """Told when the bridge says that it goes, or that a carrier is to."""
        self.dialled: set[ClientCarrier] = set()
        """Carriers with connections of theirs, also such as failed or are ending."""
        self.clock_offset = 0.0
        """Seconds by which the bridge's site is ahead of our clock, once that was found out."""
        self.signing_key = b""
        """What the bridge told of the key that signs what it pushes."""
        self._beginning = Beginning(loop, self._learn_clock)
        self._first = asyncio.Lock()
        self._tickets = ClientTickets()
        self._suspected: set[int] = set()

    @property
    def route(self) -> Route:
        """How the bridge is reached just now."""
        return self.approach.route

    def goes_on(self, codec: str, shape: ClassShape) -> bool:
        """Whether carriers like this begin on the connection of a page, where the site's HTTP allows it."""
        return self._beginning.goes_on(self.approach, codec, shape)

    async def visit_ahead(self, shape: ClassShape) -> Ahead:
        """Load the page on a connection of its own, for a carrier to come; raises as :meth:`connect`."""
        return await self._beginning.visit_ahead(self.approach, shape)

    async def ready_ahead(self, greeting: Greeting) -> Ahead:
        """What a carrier without a shape may begin on: a page's connections where the site is visited first,
        else one after its TLS handshake; raises as :meth:`connect`."""
        return await self._beginning.ready_ahead(self.approach, greeting)

    async def connect(
        self, codec: str, shape: ClassShape | None = None, visited: Ahead | None = None
    ) -> ClientCarrier:
        """Dial one more carrier and attach it; ``shape`` is that of what it is going to carry.

        It begins on ``visited``, or beside it where that cannot be used for more.

        Raises :class:`~ptproxy.errors.DialError` where the bridge cannot be
        reached, :class:`OpeningRefused` or
        :class:`~ptproxy.errors.AuthenticationError` where it is not the bridge
        of the line or does not take us.
        """
        if self.session_id:
            return await self.attempt(self.approach, codec, shape, visited)
        try:
            await self._first.acquire()
        except BaseException:
            if visited is not None:
                visited.drop()  # nobody else knows of it
                visited.abort()
            raise
        try:
            return await self.attempt(self.approach, codec, shape, visited)
        finally:
            self._first.release()

    async def attempt(
        self, approach: Approach, codec: str, shape: ClassShape | None, visited: Ahead | None = None
    ) -> ClientCarrier:
        """As :meth:`connect`, by that front, and not in turn: of several tries within one
        :meth:`turn` the first that is answered makes the session.
        """
        believed = self.clock_offset
        try:
            return await self._connect(approach, codec, shape, visited)
        except TicketRefused:
            self._tickets.rest(self.now())
            return await self._connect(approach, codec, shape, None)
        except OpeningRefused:
            if abs(self.clock_offset - believed) <= CLOCK_TOLERANCE:
                raise
            log.warning(
                "this machine's clock is off; taking the web site's", seconds=round(self.clock_offset)
            )
            return await self._connect(approach, codec, shape, None)

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Until there is a session one dial at a time, as it makes the session; afterwards any."""
        if self.session_id:
            yield
            return
        async with self._first:
            yield

    def _learn_clock(self, date: str) -> None:
        """The site's own Date header says by how much our clock is off (its certificate was checked)."""
        try:
            offset = email.utils.parsedate_to_datetime(date).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return
        if abs(offset - self.clock_offset) > CLOCK_TOLERANCE:
            self.clock_offset = offset

    async def _connect(
        self, approach: Approach, codec: str, shape: ClassShape | None, visited: Ahead | None
    ) -> ClientCarrier:
        patience = _patience(visited)
        ahead = await self._open_ahead(approach, codec, shape)
        try:
            connection, digest, settings = await self._beginning.first_connection(
                approach, codec, shape, visited
            )
        except BaseException:
            self._give_up(ahead)
            raise
        approach.digest = digest
        if ahead is not None and ahead.digest != digest:
            self._give_up(ahead)  # its opening is bound to the certificate that was there before
            ahead = None
        settings = replace(settings, shape=shape)
        try:
            carrier = self._make_carrier(approach.route, codec, settings, digest, ahead)
        except BaseException:
            connection.abort()
            raise
        if isinstance(visited, Ready):
            carrier.beside = visited.beside
        try:
            carrier.adopt(connection)
            carrier.flush()
            async with asyncio.timeout(patience):
                await asyncio.shield(carrier.answered)
        except TimeoutError:
            carrier.answered.cancel()
            carrier.end("no answer")
            raise Obstructed(
                Degree.OPENING_SILENT, Reason.TUNNEL_DOWN, "the bridge did not answer the opening in time"
            ) from None
        except BaseException:
            carrier.answered.cancel()
            carrier.end("given up")
            carrier.drop_connections()
            raise
        return carrier

    async def _open_ahead(
        self, approach: Approach, codec: str, shape: ClassShape | None
    ) -> OpenedAhead | None:
        """A carrier opened over one that is there, but for its connection; None where that cannot be."""
        wanted = codec == TICKET_CODEC and shape is not None and shape.up.talk is not None
        over = self._carrier_for_tickets()
        if not wanted or over is None or approach.route.browser is not None or not approach.digest:
            return None
        if not self._tickets.may_ask(self.now()):
            return None
        self.dispatch(self.client_session.make_room(self.now()))
        number, alive = self.client_session.next_carrier()
        try:
            opening = self._make_opening(
                approach.route, codec, number_of(shape.name) if shape else 0, approach.digest, number, alive
            )
            return await self._tickets.ask(self, over, number, opening, approach.digest)
        except PtproxyError as error:
            self._opening_failed(number)
            log.debug("no carrier opened ahead", error=str(error))
            return None
        except BaseException:
            self._opening_failed(number)
            raise

    def _carrier_for_tickets(self) -> int | None:
        """The youngest carrier that is no WebSocket, which would say it in lines, and not suspected."""
        fit = [
            number
            for number, carrier in self.carriers.items()
            if carrier.codec_name != TICKET_CODEC and not self.session.carriers[number].suspect
        ]
        return max(fit, default=None)

    def _give_up(self, ahead: OpenedAhead | None) -> None:
        if ahead is not None:
            self._opening_failed(ahead.number)

    def _make_carrier(
        self, route: Route, codec: str, settings: CodecSettings, digest: bytes, ahead: OpenedAhead | None
    ) -> ClientCarrier:
        """A carrier with its opening, for a connection on which a certificate of ``digest`` was seen."""
        if ahead is not None:
            number, opening = ahead.number, ahead.opening
            first, answer = ahead.ticket, ahead.answer
        else:
            self.dispatch(self.client_session.make_room(self.now()))
            number, alive = self.client_session.next_carrier()
            answer = None
        try:
            if ahead is None:
                traffic = number_of(settings.shape.name) if settings.shape is not None else 0
                opening = self._make_opening(route, codec, traffic, digest, number, alive)
                first = opening.message1
            kind = codec_table()[codec] if route.browser is None else route.browser.codec(codec)
            made = kind.client(settings, first, self._rng)
        except BaseException:
            self._opening_failed(number)
            raise
        carrier = ClientCarrier(made, codec, opening, self.loop, route, answer)
        carrier.number = number
        self.dialled = {known for known in self.dialled if known.connections or not known.ended}
        self.dialled.add(carrier)
        carrier.on_answer = self._attach
        carrier.on_end = self._carrier_end  # type: ignore[assignment]  # as above
        return carrier

    def _make_opening(
        self, route: Route, codec: str, traffic: int, digest: bytes, number: int, alive: tuple[int, ...]
    ) -> ClientOpening:
        line = route.line
        unix_time = int(time.time() + self.clock_offset)
        return ClientOpening(
            line.key,
            route.key,
            codec,
            line.seal,
            Binding.certificate(digest) if line.binding else Binding.none(),
            Hello(self.session_id, number, alive, unix_time, line.token, traffic),
            self._rng,
        )

    def _attach(self, carrier: ClientCarrier, answer: Answer) -> None:
        """The bridge took the opening: the carrier is the session's."""
        if self.closed:
            carrier.end("session closed")
            return
        if answer.verdict is Verdict.NEW and self.session_id:
            carrier.end("another try was answered before")  # of several at once: its session has no streams
            return
        if answer.verdict is Verdict.UNKNOWN:
            log.info("the bridge no longer knows the session; its streams are over")
            self.dispatch(self.client_session.session_lost(self.now()))
        self.session_id = answer.session_id
        self.signing_key = answer.signing_key
        try:
            happened = self.client_session.attach_carrier(carrier.number, self.now())
        except LocalProtocolError:
            carrier.end("given up by the bridge before it was open")
            return
        carrier.session = self.session
        carrier.live = True
        carrier.on_payload = self.received
        self.carriers[carrier.number] = carrier
        self.dispatch(happened)
        how = {"opened": "ahead"} if carrier.was_ahead else {}
        log.info("carrier open", carrier=carrier.number, codec=carrier.codec_name, **how)
        self.schedule()
        self._changed()

    def _carrier_end(self, carrier: ClientCarrier, reason: str) -> None:
        if not carrier.answered.done():
            refused = TicketRefused(reason) if carrier.by_ticket else OpeningRefused(reason)
            if carrier.site_date:
                refused.degree = Degree.PAGE
            carrier.answered.set_exception(refused)
            self._learn_clock(carrier.site_date)
            carrier.answered.exception()  # seen: the dialler may have gone
        if self.carriers.get(carrier.number) is carrier:
            if self._announced(carrier):
                self._suspected.discard(carrier.number)
            elif self.on_lost is not None and reason not in OURS:
                self.on_lost(carrier)
            self.carrier_lost(carrier, reason)
        else:
            self._opening_failed(carrier.number)

    def _announced(self, carrier: ClientCarrier) -> bool:
        """Whether one of both ends had said GOAWAY: its end says nothing of the way, either."""
        known = self.session.carriers.get(carrier.number)
        return self.goaway or (known is not None and known.leaving)

    def _opening_failed(self, number: int) -> None:
        """A carrier was not attached: its number is not waited for any more."""
        if not self.closed:
            self.dispatch(self.session.carrier_lost(number, self.now()))
            self.schedule()

    def carrier_ended(self, carrier: Carrier) -> None:
        """One fewer: whoever keeps carriers is told; what it learnt of the front is kept."""
        self._beginning.download = getattr(carrier.codec, "download", self._beginning.download)
        if carrier.number in self._suspected and self.on_lost is not None:
            self.on_lost(cast("ClientCarrier", carrier))  # silently, and given up for that
        self._suspected.discard(carrier.number)
        self._changed()

    def carrier_event(self, event: Any) -> None:
        """Suspicions, challenges and farewells."""
        kind = type(event)
        if kind is events.ChallengeReceived:
            carrier = self.carriers.get(event.carrier)
            if isinstance(carrier, ClientCarrier) and carrier.verification is not None:
                try:
                    self.session.send_proof(carrier.number, carrier.verification.prove(bytes(event.data)))
                except RemoteProtocolError as error:
                    carrier.end(f"the bridge's challenge does not verify ({error})")
                    return
                except LocalProtocolError:
                    carrier.end("the bridge sends more challenges than can be answered")
                    return
                self.schedule()
        elif kind is events.CarrierSuspected:
            self._suspected.add(event.carrier)
            self._changed(suspected=event.carrier)
        elif kind is events.GoawayReceived:
            if self.on_leaving is not None:
                self.on_leaving()
            if event.carrier is None:
                self.goaway = True
                self._changed()

    def broken(self, error: Any) -> None:
        """The bridge broke the rules: this session is over, a new one may be opened."""
        super().broken(error)
        self._changed()

    def _changed(self, suspected: int | None = None) -> None:
        if self.on_change is not None:
            self.on_change(suspected)


def _patience(ahead: Ahead | None) -> float:
    """Seconds for an answer on what a carrier begins on."""
    if ahead is None or not ahead.usable:
        return OPENING_TIMEOUT
    if isinstance(ahead, Ready):
        return min(OPENING_TIMEOUT, max(WAITED_LEAST, WAITED_ROUND_TRIPS * ahead.round_trip))
    return WAITED_TIMEOUT
