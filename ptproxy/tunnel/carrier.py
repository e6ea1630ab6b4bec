"""One carrier over its connections: codec, sealing and a session's frames, driven by the loop.

A :class:`Connection` is the asyncio protocol of one TLS (or, behind a web
server, plain) connection; it speaks through a codec's *link*. A
:class:`Carrier` is one byte stream each way over one connection or several;
it pulls frames from the session when there is room below.

How much is under way below: a connection is *blocked* from
:data:`HIGH_WATER` bytes unsent in its transport until :data:`LOW_WATER`; the
kernel's own share is bounded by TCP_NOTSENT_LOWAT. So an urgent frame waits
behind little, and frames are made only when they can leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from ptproxy.auth.seal import Opener, Sealer
from ptproxy.buffer import Buffer
from ptproxy.codec.interface import CarrierCodec, CarrierEnded, CarrierWritable, Event, Link, PayloadReceived
from ptproxy.errors import AuthenticationError, CodecError
from ptproxy.session import Session
from ptproxy.tunnel.tcp import BufferedReads, tune

HIGH_WATER: Final = 64 * 1024
"""Unsent bytes in a connection's transport above which nothing more is made for it."""
LOW_WATER: Final = 16 * 1024
"""Unsent bytes below which it is fed again."""
MOST_UNSENT: Final = 4 << 20
"""Unsent bytes above which a peer that still makes us answer is cut off: several times what is drawn
in one go; more can only be a codec's own answers (pongs, empty responses) to one that never reads."""
PUMP_BYTES: Final = 128 * 1024
"""Bytes of frames drawn from the session in one go: eight TLS records."""
MESSAGE_BYTES: Final = 960 * 1024
"""... where the codec's room is bounded by messages of its own: the largest request body that
web servers take by default, padding included."""
PUMP_ROUNDS: Final = 1
"""Goes in one turn of the loop, after which others get theirs."""
CODEC_SLACK: Final = 0.001
"""Seconds by which a codec's timer may be late rather than be set anew."""
CLOSE_TIMEOUT: Final = 5.0
"""Seconds a codec may take over its clean close before its connections are dropped."""


class ConnectionOwner(Protocol):
    """Whoever a connection belongs to: a client's carrier or a bridge's listener."""

    def happened(self, connection: Connection, events: Sequence[Event]) -> None:
        """The link made these of what arrived."""

    def connection_failed(self, connection: Connection, error: CodecError) -> None:
        """The link cannot make sense of what arrived."""

    def connection_ended(self, connection: Connection) -> None:
        """The connection is closed (told once, after the link's last events)."""


class Connection(BufferedReads):
    """One connection, speaking through a link once it has one."""

    __slots__ = ("_eof", "apart", "blocked", "ended", "link", "loop", "owner", "transport", "waiting")

    def __init__(
        self, owner: ConnectionOwner, loop: asyncio.AbstractEventLoop, link: Link | None = None
    ) -> None:
        self.owner = owner
        self.loop = loop
        self.link = link
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.apart = False
        """Each buffer is a write, and so a TLS record, of its own; the link makes more when these are out."""
        self.blocked = False
        self.waiting: set[Carrier] = set()
        self.ended = False
        self._eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what waits below small."""
        self.transport = cast("asyncio.Transport", transport)  # aiofastnet's is one in all but name
        self.transport.set_write_buffer_limits(HIGH_WATER, LOW_WATER)
        tune(transport)

    def data_received(self, data: Buffer) -> None:
        """Feed the link and pass on what it says."""
        link = self.link
        if link is None:
            return
        try:
            happened = link.receive_data(data, self.loop.time())
        except CodecError as error:
            self.owner.connection_failed(self, error)
            return
        if happened:
            self.owner.happened(self, happened)
        if not self.ended:
            self.flush()
            if self.blocked and self.transport.get_write_buffer_size() > MOST_UNSENT:
                self.owner.connection_failed(self, CodecError("asks for answers and never reads them"))

    def eof_received(self) -> bool | None:
        """The peer sends no more: the link decides what that means; TLS closes either way."""
        self._feed_eof()
        if not self.ended:
            self.flush()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: for the link it is at least an end of input."""
        del exc
        if not self.ended:
            self._feed_eof()
        if not self.ended:
            self.ended = True
            self.link = None
            self.owner.connection_ended(self)
        for carrier in self.waiting:
            carrier.unblocked()
        self.waiting.clear()

    def pause_writing(self) -> None:
        """Enough waits below."""
        self.blocked = True

    def resume_writing(self) -> None:
        """There is room again: whoever waited goes on."""
        self.blocked = False
        if self.apart:
            self.flush()
        waiting, self.waiting = self.waiting, set()
        for carrier in waiting:
            carrier.unblocked()

    def flush(self) -> None:
        """Write what the link has to say; close when it is through."""
        link = self.link
        if link is None or self.transport is None or self.transport.is_closing():
            return
        chunks = link.data_to_send()
        if self.apart:
            self._write_apart(link, chunks)
        elif chunks:
            if len(chunks) == 1:
                self.transport.write(chunks[0])
            else:
                self.transport.writelines(chunks)
        if link.closing:
            self.transport.close()

    def _write_apart(self, link: Link, chunks: list[Buffer]) -> None:
        while chunks:
            for chunk in chunks:
                self.transport.write(chunk)
            chunks = [] if self.blocked else link.data_to_send()

    def drop(self) -> None:
        """Close without another word from the link."""
        if not self.ended:
            self.ended = True
            self.link = None
            if self.transport is not None:
                self.transport.close()
            self.owner.connection_ended(self)

    def abort(self) -> None:
        """Drop the connection at once."""
        self.drop()
        if self.transport is not None:
            self.transport.abort()

    def _feed_eof(self) -> None:
        link = self.link
        if link is None or self._eof:
            return
        self._eof = True
        try:
            happened = link.receive_eof(self.loop.time())
        except CodecError as error:
            self.owner.connection_failed(self, error)
            return
        if happened:
            self.owner.happened(self, happened)


class Carrier:
    """One carrier of a session: its number, its codec and (when sealed) its record keys.

    ``connections`` maps the codec's links to connections: the carrier's own on a
    client, the listener's on a bridge, where a web server in front may mix the
    requests of several carriers on one connection.
    """

    __slots__ = (
        "__weakref__",
        "_blocked",
        "_close_timer",
        "_codec_timer",
        "_codec_timer_at",
        "_goes_on",
        "codec",
        "codec_name",
        "connections",
        "ended",
        "live",
        "loop",
        "number",
        "on_end",
        "on_payload",
        "opener",
        "origin",
        "received_bytes",
        "sealer",
        "sent_bytes",
        "session",
    )  # fmt: skip

    def __init__(
        self,
        codec: CarrierCodec,
        codec_name: str,
        connections: dict[Link, Connection],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.codec = codec
        self.codec_name = codec_name
        self.connections = connections
        self.loop = loop
        self.number = 0
        self.origin: tuple[str, int] | None = None
        """At a bridge: IP and port that the opening came from, None for a Unix socket."""
        self.session: Session | None = None
        self.sealer: Sealer | None = None
        self.opener: Opener | None = None
        self.live = False
        self.ended = False
        self.sent_bytes = 0
        self.received_bytes = 0
        self.on_payload: Callable[[Carrier, Buffer], None] = ignore_payload
        self.on_end: Callable[[Carrier, str], None] = _ignore_end
        self._blocked = False
        self._goes_on = False
        """A turn of the loop is asked for, to go on."""
        self._codec_timer: asyncio.TimerHandle | None = None
        self._codec_timer_at = 0.0
        self._close_timer: asyncio.TimerHandle | None = None

    # ---- up ------------------------------------------------------------------------------------

    def codec_event(self, event: Event) -> None:
        """One event of the codec that concerns this carrier."""
        if self.ended:
            return
        if type(event) is PayloadReceived:
            data = event.data
            self.received_bytes += len(data)
            if self.opener is None:
                self.on_payload(self, data)
                return
            try:
                opened = self.opener.receive_data(data)
            except AuthenticationError as error:
                self.end(str(error))
                return
            for plain in opened:
                self.on_payload(self, plain)
        elif type(event) is CarrierWritable:
            self.unblocked()
        elif type(event) is CarrierEnded:
            self.end(event.reason)

    # ---- down ----------------------------------------------------------------------------------

    def send(self, chunks: Sequence[Buffer]) -> None:
        """Send bytes of the carrier's stream as they are (the opening's, before sealing starts)."""
        self.codec.send_data(chunks, self.loop.time())
        self.flush()

    def pump(self) -> None:
        """Draw frames from the session and write them, while there is room below."""
        session = self.session
        if session is None or self._blocked or self.ended:
            return
        codec, number, now = self.codec, self.number, self.loop.time()
        for _ in range(PUMP_ROUNDS):
            room = codec.room()
            if room <= 0:
                self.arm_codec()
                return
            chunks = session.data_to_send(number, _draw(room), now)
            if not chunks:
                return
            self.sent_bytes += sum(map(len, chunks))
            codec.send_data(chunks if self.sealer is None else self.sealer.seal(chunks), now)
            self.flush()
            if number not in session.ready or self._blocked or self.ended:
                return
        if not self._goes_on:  # whoever calls it meanwhile would else add one more, each turn
            self._goes_on = True
            self.loop.call_soon(self._pump_on)

    def _pump_on(self) -> None:
        self._goes_on = False
        self.pump()

    def flush(self) -> None:
        """Write what the codec's links have to say; note when a connection is full."""
        connections = self.connections
        for link in self.codec.links_to_flush():
            connection = connections.get(link)
            if connection is not None:
                connection.flush()
                if connection.blocked:
                    self.block_on(connection)
        self.arm_codec()

    def block_on(self, connection: Connection) -> None:
        """A connection is full: nothing more is made until it has room."""
        connection.waiting.add(self)
        self._blocked = True

    def unblocked(self) -> None:
        """There is room below again."""
        self._blocked = False
        self.pump()

    def arm_codec(self) -> None:
        """Keep the codec's clock: one timer, set only when it is due earlier than the one running."""
        deadline = self.codec.deadline()
        if deadline is None:
            return
        timer = self._codec_timer
        if timer is not None:
            if self._codec_timer_at <= deadline + CODEC_SLACK:
                return
            timer.cancel()
        self._codec_timer_at = deadline
        self._codec_timer = self.loop.call_at(deadline, self._codec_due)

    def _codec_due(self) -> None:
        self._codec_timer = None
        for event in self.codec.on_deadline(self.loop.time()):
            self.codec_event(event)
        self.flush()
        if not self.ended:
            self.pump()

    # ---- the end -------------------------------------------------------------------------------

    def end(self, reason: str, *, told_session: bool = False) -> None:
        """The carrier carries no more; ``on_end`` is told unless the session knows already.

        The codec says goodbye in its manner, within :data:`CLOSE_TIMEOUT`.
        """
        if self.ended:
            return
        self.ended = True
        was_live, self.live = self.live, False
        self.codec.close(self.loop.time())
        self.flush()
        self._close_timer = self.loop.call_later(CLOSE_TIMEOUT, self._close_overdue)
        if not (told_session and was_live):
            self.on_end(self, reason)

    def _close_overdue(self) -> None:
        if self._codec_timer is not None:
            self._codec_timer.cancel()
        self.drop_connections()

    def cut_off(self) -> None:
        """Wait no longer for the other side's goodbye."""
        connection = self.connections.get(cast("Link", self.codec))
        if connection is not None:
            connection.abort()
        if self._close_timer is not None:
            self._close_timer.cancel()  # it would keep all of the carrier in memory
        self._close_overdue()

    def drop_connections(self) -> None:
        """Drop the connections that are this carrier's own: here that of a codec that is its own link.

        Others of a bridge may carry requests of other carriers.
        """
        connection = self.connections.get(cast("Link", self.codec))
        if connection is not None:
            connection.drop()


def _draw(room: int) -> int:
    """How much to draw for a codec that has ``room``: little where it has no limit of its own."""
    return min(room, MESSAGE_BYTES) if room <= 64 * MESSAGE_BYTES else PUMP_BYTES


def ignore_payload(carrier: Carrier, data: Buffer) -> None:
    """Nobody listens (any more)."""


def _ignore_end(carrier: Carrier, reason: str) -> None:
    """Nobody listens (any more)."""
