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
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from ptproxy.auth.binding import Binding
from ptproxy.auth.opening import Answer, ClientOpening, Hello, Verdict
from ptproxy.auth.seal import Opener, Sealer
from ptproxy.auth.verification import ClientVerification
from ptproxy.buffer import Buffer
from ptproxy.codec import codec_table
from ptproxy.codec.interface import ClientCodec, Event, SiteAnswered
from ptproxy.errors import (
    AuthenticationError,
    CodecError,
    DialError,
    PtproxyError,
    Reason,
    RemoteProtocolError,
)
from ptproxy.log import get_logger
from ptproxy.session import ClientSession, Limits, events
from ptproxy.tunnel.carrier import Carrier, Connection
from ptproxy.tunnel.connect import Route, connect_tls
from ptproxy.tunnel.tls import client_context
from ptproxy.tunnel.tunnel import Tunnel

OPENING_TIMEOUT: Final = 20.0
"""Seconds from the opening to its answer: a front under load, a poll that has to come round."""
JOIN_PAUSE: Final = 1.0
"""Seconds until a further connection is tried again."""
CLOCK_TOLERANCE: Final = 20.0
"""Seconds our clock may differ from the site's without a correction: a third of what a bridge accepts."""

log = get_logger(__name__)


class OpeningRefused(PtproxyError):  # noqa: N818  (an answer, not a fault)
    """The bridge was reached and did not take the opening: retrying the same will not help."""


class ClientCarrier(Carrier):
    """A carrier that the client dialled, with its own connections."""

    __slots__ = (
        "_joins", "_opened", "_route", "_tls", "answered", "client_codec", "on_answer", "opening", "rate",
        "sampled_at", "sampled_bytes", "site_date", "verification",
    )  # fmt: skip

    def __init__(
        self,
        codec: ClientCodec,
        codec_name: str,
        opening: ClientOpening,
        loop: asyncio.AbstractEventLoop,
        route: Route,
        tls: ssl.SSLContext,
    ) -> None:
        super().__init__(codec, codec_name, {}, loop)
        self.client_codec = codec
        self.site_date = ""
        self.opening = opening
        self.on_answer: Callable[[ClientCarrier, Answer], None] = _unanswered
        self.answered: asyncio.Future[Answer] = loop.create_future()
        self.verification: ClientVerification | None = None
        self.on_payload = ClientCarrier._opening_payload  # type: ignore[assignment]
        self.rate = 0.0
        self.sampled_at = loop.time()
        self.sampled_bytes = 0
        self._route = route
        self._tls = tls
        self._joins: set[asyncio.Task[None]] = set()
        self._opened: list[Connection] = []

    # ---- connections -----------------------------------------------------------------------------

    def adopt(self, connection: Connection) -> None:
        """Put a connected connection to use."""
        link = self.client_codec.open_link()
        connection.link = link
        connection.owner = self
        self._opened = [known for known in self._opened if not known.transport.is_closing()]
        self._opened.append(connection)
        self.connections[link] = connection
        connection.flush()
        self._join_more()

    def flush(self) -> None:
        """Write what the links have to say; open the connections that it needs."""
        super().flush()
        self._join_more()

    def block_on(self, connection: Connection) -> None:
        """Over several connections the codec's own messages in flight are the limit."""
        if len(self.connections) <= 1:
            super().block_on(connection)

    def happened(self, connection: Connection, happened: Sequence[Event]) -> None:
        """Events of one of the links."""
        del connection
        for event in happened:
            self.codec_event(event)
        if not self.ended:
            self.flush()

    def connection_failed(self, connection: Connection, error: CodecError) -> None:
        """Nonsense from the bridge's side."""
        if isinstance(error, SiteAnswered):
            self.site_date = error.date
        self.end(str(error) or "not this codec's bytes")
        connection.drop()

    def connection_ended(self, connection: Connection) -> None:
        """A connection is closed; the codec knew from its end of input."""
        for link, known in list(self.connections.items()):
            if known is connection:
                del self.connections[link]
        if not self.ended:
            self.flush()

    def _join_more(self) -> None:
        """Open the further connections that the codec wants."""
        if self.ended:
            return
        wanted = self.client_codec.links_wanted - len(self.connections) - len(self._joins)
        for _ in range(wanted):
            task = self.loop.create_task(self._join())
            self._joins.add(task)
            task.add_done_callback(self._joins.discard)

    async def _join(self) -> None:
        connection = Connection(self, self.loop)
        try:
            await connect_tls(self.loop, connection, self._route, self._tls)
        except (PtproxyError, OSError) as error:
            log.debug("a further connection failed", error=str(error))
            if not self.connections:
                self.end("the connections to the bridge failed")
            else:
                await asyncio.sleep(JOIN_PAUSE)  # holds its place meanwhile
                self.loop.call_soon(self._join_more)
            return
        if self.ended:
            connection.abort()
        else:
            self.adopt(connection)

    def drop_connections(self) -> None:
        """Close what is still open."""
        for task in self._joins:
            task.cancel()
        for connection in list(self.connections.values()):
            connection.drop()

    def abort_connections(self) -> None:
        """Drop what is still closing."""
        self.drop_connections()
        for connection in self._opened:
            connection.abort()

    # ---- the opening -----------------------------------------------------------------------------

    def _opening_payload(self, data: Buffer) -> None:
        """First payload down: message 2; whatever follows it belongs to the session."""
        try:
            done = self.opening.receive_data(data)
        except AuthenticationError as error:
            self.end(f"its answer does not verify ({error})")
            return
        if done is None:
            return
        answer, rest = done
        keys = self.opening.keys
        self.client_codec.authenticated(keys.token_key)
        self.send([self.opening.confirm()])
        if self._route.line.seal:
            self.sealer, self.opener = Sealer(keys.seal_send), Opener(keys.seal_receive)
        self.on_payload = _early
        if not self.answered.done():
            self.answered.set_result(answer)
            self.verification = ClientVerification(
                self._route.key, self._route.line.key, keys.handshake_hash, random.SystemRandom()
            )
        self.on_answer(self, answer)
        if rest:
            self.on_payload(self, rest)
        self._join_more()


def _early(carrier: Carrier, data: Buffer) -> None:
    """Frames before the session was attached cannot be: the bridge waits for CONFIRM."""
    del data
    carrier.end("frames before the session")


def _unanswered(carrier: ClientCarrier, answer: Answer) -> None:
    """Nobody waits for the answer."""
    del answer
    carrier.end("given up")


class ClientTunnel(Tunnel):
    """A session with one bridge and the carriers that the client keeps for it."""

    def __init__(self, route: Route, loop: asyncio.AbstractEventLoop, limits: Limits | None = None) -> None:
        self.client_session = ClientSession(limits or Limits(), None, loop.time())
        super().__init__(self.client_session, loop)
        self.route = route
        self.session_id = b""
        self.goaway = False
        self.tls = client_context(route.trust)
        self.on_change: Any = None
        self.dialled: set[ClientCarrier] = set()
        """Carriers with connections of theirs, also such as failed or are ending."""
        self.clock_offset = 0.0
        """Seconds by which the bridge's site is ahead of our clock, once that was found out."""
        self._download = "auto"
        self._first = asyncio.Lock()
        self._rng = random.SystemRandom()

    async def connect(self, codec: str) -> ClientCarrier:
        """Dial one more carrier and attach it.

        Raises :class:`~ptproxy.errors.DialError` where the bridge cannot be
        reached, :class:`OpeningRefused` or
        :class:`~ptproxy.errors.AuthenticationError` where it is not the bridge
        of the line or does not take us.
        """
        believed = self.clock_offset
        try:
            return await self._connect_in_turn(codec)
        except OpeningRefused:
            if abs(self.clock_offset - believed) <= CLOCK_TOLERANCE:
                raise
            log.warning(
                "this machine's clock is off; taking the web site's", seconds=round(self.clock_offset)
            )
            return await self._connect_in_turn(codec)

    async def _connect_in_turn(self, codec: str) -> ClientCarrier:
        """The first carrier alone, as it makes the session; further ones side by side."""
        if self.session_id:
            return await self._connect(codec)
        async with self._first:
            return await self._connect(codec)

    def _learn_clock(self, date: str) -> None:
        """The site's own Date header says by how much our clock is off (its certificate was checked)."""
        try:
            offset = email.utils.parsedate_to_datetime(date).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return
        if abs(offset - self.clock_offset) > CLOCK_TOLERANCE:
            self.clock_offset = offset

    async def _connect(self, codec: str) -> ClientCarrier:
        connection = Connection(_Nobody(), self.loop)
        digest = await connect_tls(self.loop, connection, self.route, self.tls)
        try:
            carrier = self._make_carrier(codec, digest)
        except BaseException:
            connection.abort()
            raise
        try:
            carrier.adopt(connection)
            carrier.flush()
            async with asyncio.timeout(OPENING_TIMEOUT):
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

    def _make_carrier(self, codec: str, digest: bytes) -> ClientCarrier:
        """A carrier with its opening, for a connection on which a certificate of ``digest`` was seen."""
        line = self.route.line
        number, alive = self.client_session.next_carrier()
        opening = ClientOpening(
            line.key,
            self.route.key,
            codec,
            line.seal,
            Binding.certificate(digest) if line.binding else Binding.none(),
            Hello(self.session_id, number, alive, int(time.time() + self.clock_offset), line.token),
            self._rng,
        )
        settings = self.route.settings()
        if self._download != "auto":
            settings = replace(settings, options={"download": self._download})
        made = codec_table()[codec].client(settings, opening.message1, self._rng)
        carrier = ClientCarrier(made, codec, opening, self.loop, self.route, self.tls)
        carrier.number = number
        self.dialled = {known for known in self.dialled if known.connections or not known.ended}
        self.dialled.add(carrier)
        carrier.on_answer = self._attach
        carrier.on_end = self._carrier_end  # type: ignore[assignment]
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
        carrier.session = self.session
        carrier.live = True
        carrier.on_payload = self.received
        self.carriers[carrier.number] = carrier
        self.dispatch(self.client_session.attach_carrier(carrier.number, self.now()))
        log.info("carrier open", carrier=carrier.number, codec=carrier.codec_name)
        self.schedule()
        self._changed()

    def _carrier_end(self, carrier: ClientCarrier, reason: str) -> None:
        if not carrier.answered.done():
            carrier.answered.set_exception(OpeningRefused(reason))
            self._learn_clock(carrier.site_date)
            carrier.answered.exception()  # seen: the dialler may have gone
            if not self.closed:
                self.dispatch(self.session.carrier_lost(carrier.number, self.now()))
        self.carrier_lost(carrier, reason)

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
                    proof = carrier.verification.prove(bytes(event.data))
                except RemoteProtocolError as error:
                    carrier.end(f"the bridge's challenge does not verify ({error})")
                    return
                self.session.send_proof(carrier.number, proof)
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


class _Nobody:
    """Owns a connection until its carrier exists."""

    def happened(self, connection: Connection, happened: Sequence[Event]) -> None:
        """Nothing can happen without a link."""

    def connection_failed(self, connection: Connection, error: CodecError) -> None:
        """Nothing can fail without a link."""

    def connection_ended(self, connection: Connection) -> None:
        """The dialler finds out by itself."""
