"""A carrier that the client dialled: its opening, and the connections that it makes for itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

from ptproxy.auth.opening import Answer, ClientOpening
from ptproxy.auth.seal import Opener, Sealer
from ptproxy.auth.verification import ClientVerification
from ptproxy.buffer import Buffer
from ptproxy.codec import codec_table
from ptproxy.codec.interface import CarrierWritable, ClientCodec, Event, Greeting, SiteAnswered
from ptproxy.errors import AuthenticationError, CodecError, PtproxyError
from ptproxy.log import get_logger
from ptproxy.tunnel.carrier import Carrier, Connection
from ptproxy.tunnel.connect import Route, connect_tls

JOIN_PAUSE: Final = 1.0
"""Seconds until a further connection is tried again."""

log = get_logger(__name__)


class ClientCarrier(Carrier):
    """A carrier that the client dialled, with its own connections."""

    __slots__ = (
        "_ahead",
        "_apart",
        "_joins",
        "_opened",
        "_route",
        "answered",
        "beside",
        "client_codec",
        "on_answer",
        "opening",
        "rate",
        "sampled_at",
        "sampled_bytes",
        "site_date",
        "verification",
        "was_ahead",
    )  # fmt: skip

    def __init__(
        self,
        codec: ClientCodec,
        codec_name: str,
        opening: ClientOpening,
        loop: asyncio.AbstractEventLoop,
        route: Route,
        ahead: Answer | None = None,
    ) -> None:
        """``ahead``: the answer to an opening made on another carrier, whose ticket ``codec`` shows."""
        super().__init__(codec, codec_name, {}, loop)
        self.client_codec = codec
        self.site_date = ""
        self.opening = opening
        self.on_answer: Callable[[ClientCarrier, Answer], None] = _unanswered
        self.answered: asyncio.Future[Answer] = loop.create_future()
        self.verification: ClientVerification | None = None
        self.on_payload = ClientCarrier._opening_payload  # type: ignore[assignment]  # called with a ClientCarrier
        self.rate = 0.0
        self.sampled_at = loop.time()
        self.sampled_bytes = 0
        self.beside: Connection | None = None
        """One that is ready, for the first further connection that the codec wants."""
        self._route = route
        self._ahead = ahead
        self.was_ahead = ahead is not None
        """Whether its handshake was made on another carrier."""
        self._apart: bool | None = None  # HTTP/2 or not, as the first connection
        self._joins: set[asyncio.Task[None]] = set()
        self._opened: list[Connection] = []

    # ---- connections -----------------------------------------------------------------------------

    @property
    def local_addresses(self) -> set[str]:
        """The addresses of this machine that its connections come from."""
        found = set()
        for connection in self.connections.values():
            transport = connection.transport
            name = None if transport is None else transport.get_extra_info("sockname")
            if isinstance(name, tuple):
                found.add(str(name[0]))
        return found

    def adopt(self, connection: Connection) -> None:
        """Put a connected connection to use."""
        if connection.ended:  # lost between its handshake and now: nobody else would notice
            self.end("the connection was closed")
            return
        if self._apart is None:
            self._apart = connection.apart
        elif self._apart is not connection.apart:
            self.end("the web server in front speaks another HTTP than before")
            connection.drop()
            return
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
        if self.client_codec.links_wanted > len(self.connections):
            self._join_more()

    def block_on(self, connection: Connection) -> None:
        """Over several connections the codec's own messages in flight are the limit."""
        if len(self.connections) <= 1:
            super().block_on(connection)

    def happened(self, connection: Connection, happened: Sequence[Event]) -> None:
        """Events of one of the links, which is flushed by its connection afterwards."""
        for event in happened:
            self.codec_event(event)
        if not self.ended:
            if connection.link is self.codec:  # type: ignore[comparison-overlap]  # some are their own link
                self.arm_codec()
            else:
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
        ready, self.beside = self.beside, None
        if ready is not None and not ready.ended:
            self.adopt(ready)
            return
        connection = Connection(self, self.loop)
        try:
            await connect_tls(self.loop, connection, self._route, greeting_of(self.codec_name))
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

    def end(self, reason: str, *, told_session: bool = False) -> None:
        """As :meth:`Carrier.end`; connections that are still being made are not needed any more."""
        super().end(reason, told_session=told_session)
        self._drop_beside()
        current = asyncio.current_task() if self._joins else None
        for task in self._joins:
            if task is not current:
                task.cancel()

    def drop_connections(self) -> None:
        """Close what is still open."""
        self._drop_beside()
        for task in self._joins:
            task.cancel()
        for connection in list(self.connections.values()):
            connection.drop()

    def _drop_beside(self) -> None:
        ready, self.beside = self.beside, None
        if ready is not None:
            ready.drop()

    def abort_connections(self) -> None:
        """Drop what is still closing."""
        self.drop_connections()
        for connection in self._opened:
            connection.abort()

    # ---- the opening -----------------------------------------------------------------------------

    @property
    def by_ticket(self) -> bool:
        """Whether it waits for its ticket to be taken."""
        return self._ahead is not None

    def codec_event(self, event: Event) -> None:
        """As :meth:`Carrier.codec_event`; a ticket that was taken shows by there being room."""
        if self._ahead is not None and type(event) is CarrierWritable and not self.ended:
            answer, self._ahead = self._ahead, None
            self._is_open(answer, b"", ())
        super().codec_event(event)

    def _opening_payload(self, data: Buffer) -> None:
        """First payload down: message 2; whatever follows it belongs to the session."""
        try:
            done = self.opening.receive_data(data)
        except AuthenticationError as error:
            self.end(f"its answer does not verify ({error})")
            return
        if done is not None:
            self._is_open(*done, [self.opening.confirm()])

    def _is_open(self, answer: Answer, rest: Buffer, confirm: Sequence[Buffer]) -> None:
        """The bridge has proved itself; ``confirm`` is still to be said, ``rest`` was, behind the answer."""
        keys = self.opening.keys
        self.client_codec.authenticated(keys.token_key)
        if confirm:  # together with the first frames: a POST of its own would cost them a round trip
            self.codec.send_data(confirm, self.loop.time())
        if self._route.line.seal:
            self.sealer, self.opener = Sealer(keys.seal_send), Opener(keys.seal_receive)
        self.on_payload = _early
        if not self.answered.done():
            self.answered.set_result(answer)
            self.verification = ClientVerification(
                self._route.key, self._route.line.key, keys.handshake_hash, random.SystemRandom()
            )
        self.on_answer(self, answer)
        self.pump()
        self.flush()
        if rest:
            self.on_payload(self, rest)
        self._join_more()


def greeting_of(codec: str) -> Greeting:
    """As which of a browser's connections those of a codec greet."""
    greeting: Greeting = getattr(codec_table()[codec], "greeting", "websocket")
    return greeting


def _early(carrier: Carrier, data: Buffer) -> None:
    """Frames before the session was attached cannot be: the bridge waits for CONFIRM."""
    del data
    carrier.end("frames before the session")


def _unanswered(carrier: ClientCarrier, answer: Answer) -> None:
    """Nobody waits for the answer."""
    del answer
    carrier.end("given up")
