"""The client's end of the tunnel: carriers dialled to a bridge, and the session they carry.

Opening a carrier, in order: TCP, TLS 1.3 (the certificate is checked and
becomes the binding), the codec's opening with Noise message 1, the answer with
message 2, CONFIRM, and from then on session frames. One round trip beyond TLS
lies before the first frame; everything after rides on open carriers.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from ptproxy.auth.binding import Binding
from ptproxy.auth.opening import Answer, ClientOpening, Hello, Verdict
from ptproxy.codec import codec_table
from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.interface import CodecSettings, Event
from ptproxy.codec.shape import ClassShape
from ptproxy.codec.shape_parts import Opening
from ptproxy.errors import (
    CodecError,
    DialError,
    LocalProtocolError,
    PtproxyError,
    Reason,
    RemoteProtocolError,
)
from ptproxy.log import get_logger
from ptproxy.session import ClientSession, Limits, events
from ptproxy.tunnel.carrier import Carrier, Connection
from ptproxy.tunnel.client_carrier import ClientCarrier, greeting_of
from ptproxy.tunnel.connect import Route, connect_tls
from ptproxy.tunnel.placement import number_of
from ptproxy.tunnel.tunnel import Tunnel
from ptproxy.tunnel.visit import CARRIER_CONNECTIONS, Visited, Visitor
from ptproxy.tunnel.waiting import Ahead

if TYPE_CHECKING:
    from ptproxy.tunnel.chromium import BrowserVisit

OPENING_TIMEOUT: Final = 20.0
"""Seconds from the opening to its answer: a front under load, a poll that has to come round."""
WAITED_TIMEOUT: Final = 4.0
"""... on a connection that has waited: it may have died without a word, and a new one is quickly there."""
UNSHAPED: Final = ClassShape("browse", (), Opening("real", "all"))
"""What comes first where no shape says it."""
CLOCK_TOLERANCE: Final = 20.0
"""Seconds our clock may differ from the site's without a correction: a third of what a bridge accepts."""

ACKNOWLEDGE_WITHIN: Final = (2.5, 5.0)
"""Seconds, drawn for a session, after which little that came is acknowledged by itself. Each such word is a
message or a request that no chat or page has, and a bridge can wait: it only keeps what it sent."""

log = get_logger(__name__)


class OpeningRefused(PtproxyError):  # noqa: N818  (an answer, not a fault)
    """The bridge was reached and did not take the opening: retrying the same will not help."""


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
        self.route = route
        self.session_id = b""
        self.goaway = False
        self._visitor = visitor
        self.on_change: Callable[[int | None], None] | None = None
        """Told when a carrier came or went (None), or is suspected (its number)."""
        self.dialled: set[ClientCarrier] = set()
        """Carriers with connections of theirs, also such as failed or are ending."""
        self.clock_offset = 0.0
        """Seconds by which the bridge's site is ahead of our clock, once that was found out."""
        self.signing_key = b""
        """What the bridge told of the key that signs what it pushes."""
        self._download = "auto"
        self._first = asyncio.Lock()

    def goes_on(self, codec: str, shape: ClassShape) -> bool:
        """Whether carriers like this begin on the connection of a page, where the site's HTTP allows it."""
        if self.route.browser is not None:
            return True
        first = shape.open
        visits = self._visitor is not None and first.page == "real"
        return visits and greeting_of(codec) == "page" and first.then == "same_connection"

    async def visit_ahead(self, shape: ClassShape) -> Ahead:
        """Load the page on a connection of its own, for a carrier to come; raises as :meth:`connect`."""
        if self.route.browser is not None:
            return await self.route.browser.visit()
        assert self._visitor is not None
        return await self._visitor.visit(shape.open.assets, CARRIER_CONNECTIONS)

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
        believed = self.clock_offset
        try:
            return await self._connect_in_turn(codec, shape, visited)
        except OpeningRefused:
            if abs(self.clock_offset - believed) <= CLOCK_TOLERANCE:
                raise
            log.warning(
                "this machine's clock is off; taking the web site's", seconds=round(self.clock_offset)
            )
            return await self._connect_in_turn(codec, shape, None)

    async def _connect_in_turn(
        self, codec: str, shape: ClassShape | None, visited: Ahead | None
    ) -> ClientCarrier:
        """The first carrier alone, as it makes the session; further ones side by side."""
        if self.session_id:
            return await self._connect(codec, shape, visited)
        try:
            await self._first.acquire()
        except BaseException:
            if visited is not None:
                visited.drop()  # nobody else knows of it
                visited.abort()
            raise
        try:
            return await self._connect(codec, shape, visited)
        finally:
            self._first.release()

    def _learn_clock(self, date: str) -> None:
        """The site's own Date header says by how much our clock is off (its certificate was checked)."""
        try:
            offset = email.utils.parsedate_to_datetime(date).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return
        if abs(offset - self.clock_offset) > CLOCK_TOLERANCE:
            self.clock_offset = offset

    async def _connect(self, codec: str, shape: ClassShape | None, visited: Ahead | None) -> ClientCarrier:
        patience = WAITED_TIMEOUT if visited is not None and visited.usable else OPENING_TIMEOUT
        connection, digest, settings = await self._first_connection(codec, shape, visited)
        settings = replace(settings, shape=shape)
        try:
            carrier = self._make_carrier(codec, settings, digest)
        except BaseException:
            connection.abort()
            raise
        try:
            carrier.adopt(connection)
            carrier.flush()
            async with asyncio.timeout(patience):
                await asyncio.shield(carrier.answered)
        except TimeoutError:
            carrier.answered.cancel()
            carrier.end("no answer")
            raise DialError(Reason.TUNNEL_DOWN, "the bridge did not answer the opening in time") from None
        except BaseException:
            carrier.answered.cancel()
            carrier.end("given up")
            carrier.drop_connections()
            raise
        return carrier

    async def _first_connection(
        self, codec: str, shape: ClassShape | None, visited: Ahead | None
    ) -> tuple[Connection, bytes, CodecSettings]:
        """A carrier's first connection, its certificate's digest, and what the codec is to know of both.

        The page comes first, unless a shape says that none does: on this
        connection where the codec goes on with HTTP/2, otherwise on ones whose
        ticket this one resumes, or beside which it was opened.
        """
        settings = self.route.settings()
        if settings.appearance is not None:
            settings.appearance.memory.cookies.at(time.time())
        if self._download != "auto":
            settings = replace(settings, options={"download": self._download})
        if self.route.browser is not None:
            connection = Connection(_Nobody(), self.loop)
            shown = await self.route.browser.connect(connection, cast("BrowserVisit | None", visited))
            self._learn_clock(shown.date)
            return connection, shown.digest, settings
        shape = shape or UNSHAPED
        if visited is None and self.goes_on(codec, shape):
            visited = await self.visit_ahead(shape)
        if isinstance(visited, Visited) and self._visitor is not None:
            if visited.usable and visited.visit.http2 is not None:
                return visited.connection, visited.digest, _going_on(settings, visited.visit.http2)
            self._visitor.keep(visited)
            fresh = visited.take_fresh() if greeting_of(codec) == "page" else None
            if fresh is not None:
                return *fresh, settings
        elif self._visitor is not None and shape.open.page == "real":
            await self._visitor.prepare(shape.open.assets)
        connection = Connection(_Nobody(), self.loop)
        digest = await connect_tls(self.loop, connection, self.route, greeting_of(codec))
        look = settings.appearance
        if look is not None and connection.apart:
            settings = _going_on(settings, H2Client(look.browser.http2, self.loop.time()))
        return connection, digest, settings

    def _make_carrier(self, codec: str, settings: CodecSettings, digest: bytes) -> ClientCarrier:
        """A carrier with its opening, for a connection on which a certificate of ``digest`` was seen."""
        self.dispatch(self.client_session.make_room(self.now()))
        number, alive = self.client_session.next_carrier()
        try:
            carrier = self._open_carrier(codec, settings, digest, number, alive)
        except BaseException:
            self._opening_failed(number)
            raise
        self.dialled = {known for known in self.dialled if known.connections or not known.ended}
        self.dialled.add(carrier)
        carrier.on_answer = self._attach
        carrier.on_end = self._carrier_end  # type: ignore[assignment]  # as above
        return carrier

    def _open_carrier(
        self, codec: str, settings: CodecSettings, digest: bytes, number: int, alive: tuple[int, ...]
    ) -> ClientCarrier:
        line = self.route.line
        unix_time = int(time.time() + self.clock_offset)
        traffic = number_of(settings.shape.name) if settings.shape is not None else 0
        opening = ClientOpening(
            line.key,
            self.route.key,
            codec,
            line.seal,
            Binding.certificate(digest) if line.binding else Binding.none(),
            Hello(self.session_id, number, alive, unix_time, line.token, traffic),
            self._rng,
        )
        browser = self.route.browser
        kind = codec_table()[codec] if browser is None else browser.codec(codec)
        made = kind.client(settings, opening.message1, self._rng)
        carrier = ClientCarrier(made, codec, opening, self.loop, self.route)
        carrier.number = number
        return carrier

    def _attach(self, carrier: ClientCarrier, answer: Answer) -> None:
        """The bridge took the opening: the carrier is the session's."""
        if self.closed:
            carrier.end("session closed")
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
        log.info("carrier open", carrier=carrier.number, codec=carrier.codec_name)
        self.schedule()
        self._changed()

    def _carrier_end(self, carrier: ClientCarrier, reason: str) -> None:
        if not carrier.answered.done():
            carrier.answered.set_exception(OpeningRefused(reason))
            self._learn_clock(carrier.site_date)
            carrier.answered.exception()  # seen: the dialler may have gone
        if self.carriers.get(carrier.number) is carrier:
            self.carrier_lost(carrier, reason)
        else:
            self._opening_failed(carrier.number)

    def _opening_failed(self, number: int) -> None:
        """A carrier was not attached: its number is not waited for any more."""
        if not self.closed:
            self.dispatch(self.session.carrier_lost(number, self.now()))
            self.schedule()

    def carrier_ended(self, carrier: Carrier) -> None:
        """One fewer: whoever keeps carriers is told; what it learnt of the front is kept."""
        self._download = getattr(carrier.codec, "download", self._download)
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
            self._changed(suspected=event.carrier)
        elif kind is events.GoawayReceived and event.carrier is None:
            self.goaway = True
            self._changed()

    def broken(self, error: Any) -> None:
        """The bridge broke the rules: this session is over, a new one may be opened."""
        super().broken(error)
        self._changed()

    def _changed(self, suspected: int | None = None) -> None:
        if self.on_change is not None:
            self.on_change(suspected)


def _going_on(settings: CodecSettings, http2: H2Client) -> CodecSettings:
    """Settings for a carrier whose first connection has had this conversation."""
    assert settings.appearance is not None
    return replace(settings, appearance=replace(settings.appearance, http2=http2))


class _Nobody:
    """Owns a connection until its carrier exists."""

    def happened(self, connection: Connection, happened: Sequence[Event]) -> None:
        """Nothing can happen without a link."""

    def connection_failed(self, connection: Connection, error: CodecError) -> None:
        """Nothing can fail without a link."""

    def connection_ended(self, connection: Connection) -> None:
        """The dialler finds out by itself."""
