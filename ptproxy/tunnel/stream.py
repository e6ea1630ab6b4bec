"""What everything above the tunnel sees: streams, associations, and who opens them.

A *stream* is an :class:`asyncio.Transport` with a protocol on it, exactly as a
TCP connection is, so the same relay drives both. Two things are added:

- ``data_received`` may get a view that is valid during the call only;
- ``connection_lost`` gets a :class:`~ptproxy.errors.DialError` whose reason
  says why the far side reset the stream, or None after a clean end both ways.

A stream that this side opens comes from a :class:`Dialer`; one that the far
side opens arrives at an :class:`Exit` as an :class:`Incoming`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, LocalProtocolError, Reason
from ptproxy.target import Target

if TYPE_CHECKING:
    from ptproxy.session import Stream as SessionStream
    from ptproxy.state import StateFolder
    from ptproxy.tunnel.tunnel import Tunnel

MAX_DATAGRAM: Final = 65_507
"""Bytes of a UDP payload over IPv4 (65,535 less the IP and UDP headers): the most an association carries."""

Stream = asyncio.Transport
"""What a dialer returns: a transport over TCP or through the tunnel."""


class DatagramReceiver(Protocol):
    """Who gets an association's datagrams."""

    def datagram_received(self, source: Target, data: bytes) -> None:
        """A datagram came from ``source``."""

    def association_lost(self, exc: DialError | None) -> None:
        """No more will come; told once."""


class Association(Protocol):
    """A UDP association at the far side."""

    def send_datagram(self, target: Target, data: bytes) -> None:
        """Send one datagram; it may be lost, as datagrams may, and one above :data:`MAX_DATAGRAM` is."""

    def close(self) -> None:
        """End the association."""


class Dialer(Protocol):
    """Opens streams: through the tunnel, directly, or through anything else."""

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """Open a stream to ``target`` and put ``protocol`` on it.

        ``connection_made`` has been called when this returns, and nothing has
        been delivered before; ``first_data`` travels with the request where
        that saves a round trip. Raises :class:`~ptproxy.errors.DialError`.
        Cancelling it gives the stream up.
        """

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """Open a UDP association; raises :class:`~ptproxy.errors.DialError`."""


class Incoming(Protocol):
    """A stream or association that the far side opened and nobody has taken yet."""

    target: Target
    """Where it is to go; its kind is ``address``, ``service`` or ``datagrams``."""
    first_data: bytes
    """What came with the request, for a look; it is delivered as data all the same."""
    peer: str
    """A label of the client's identity, for logs and limits."""

    @property
    def cancelled(self) -> bool:
        """Whether the far side has given it up."""

    @property
    def address(self) -> tuple[str, int] | None:
        """IP and port of the client's connection that brought the request; None where it has none."""

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the far side gives up before anything was decided."""

    def accept(self, protocol: asyncio.Protocol) -> Stream:
        """Take the stream: ``connection_made`` is called, data follows on the next turn."""

    def accept_association(self, receiver: DatagramReceiver) -> Association:
        """Take an association (``target.kind == "datagrams"``)."""

    def refuse(self, reason: Reason) -> None:
        """Do not take it; harmless after a cancel."""


class Exit(Protocol):
    """A bridge's far side: takes the streams that clients open."""

    def stream_opened(self, incoming: Incoming) -> None:
        """Called at once and never twice; must not block."""


class BridgeService(Protocol):
    """What a bridge offers on a stream besides the way out; handed to it when it starts."""

    name: str
    """Clients ask for it as ``Target.service(name)``."""

    async def start(self, state: StateFolder) -> None:
        """Before the first stream; raises :class:`~ptproxy.errors.StartError`."""

    def __call__(self, incoming: Incoming) -> None:
        """Accept or refuse the stream, now or later; must not block."""

    def end_streams(self) -> None:
        """The bridge is stopping: take no more, and end what would go on for ever."""

    async def close(self) -> None:
        """After the last stream; what was promised to clients is on disk when this returns."""


class Site(Protocol):
    """The web site in front: takes every connection that is not a client's."""

    def adopt(self, transport: asyncio.Transport, received: bytes) -> None:
        """Own ``transport`` from now on; ``received`` is everything it has said so far."""


class TunnelStream(asyncio.Transport):
    """One stream of a session as a transport.

    Written bytes are copied unless they are ``bytes``, and kept until the far
    side has them. Reading starts paused, until :meth:`start`.
    """

    __slots__ = (
        "_close_wanted", "_end", "_eof_sent", "_eof_waiting", "_finished", "_lost", "_paused", "_protocol",
        "_receive", "_started", "_unread", "_writing_paused", "abandoned", "held_back", "opened", "state",
        "tunnel",
    )  # fmt: skip

    def __init__(self, tunnel: Tunnel, protocol: asyncio.Protocol | None) -> None:
        # Not super().__init__(): it would allocate a dict for each stream.
        self.tunnel = tunnel
        self.state: SessionStream = None  # type: ignore[assignment]  # set by whoever opens, before anything else
        self.opened: asyncio.Future[None] | None = None
        self.abandoned: Callable[[], None] | None = None
        self.held_back = False
        """Whether nothing is handed over, whatever the protocol says, until :meth:`let_go`."""
        self._protocol = protocol
        self._receive: Any = None
        self._unread: list[bytes] = []
        self._paused = True
        self._started = False
        self._writing_paused = False
        self._eof_sent = False
        self._eof_waiting = False
        self._close_wanted = False
        self._lost = False
        self._finished = False
        self._end: DialError | None = None

    # ---- the transport's interface ----------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``"target"`` is the :class:`~ptproxy.target.Target`'s wire form; nothing else is known here."""
        return self.state.target if name == "target" else default

    def is_closing(self) -> bool:
        """Whether the stream was closed or lost."""
        return self._lost or self._close_wanted

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand the stream to another protocol."""
        self._protocol = cast("asyncio.Protocol", protocol)
        self._receive = self._protocol.data_received

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that is told."""
        if self._protocol is None:
            raise LocalProtocolError("the stream has no protocol yet")
        return self._protocol

    def is_reading(self) -> bool:
        """Whether data is handed over as it arrives."""
        return not self._paused

    def pause_reading(self) -> None:
        """Keep what arrives; the far side stops when its window is used up."""
        self._paused = True

    def resume_reading(self) -> None:
        """Hand over what was kept, then what arrives."""
        if self._paused and self._started and not (self._lost or self.held_back):
            self._paused = False
            if self._unread or self._eof_waiting:
                self.tunnel.loop.call_soon(self._deliver_unread)

    def write(self, data: Buffer) -> None:
        """Send ``data``; the protocol's ``pause_writing`` is called while the far side is behind."""
        if self._eof_sent or self._lost or not data:
            return
        tunnel = self.tunnel
        state = self.state
        state.send_data(data if type(data) is bytes else bytes(data), tunnel.now())
        if not self._writing_paused and state.send_room() <= 0:
            self._writing_paused = True
            assert self._protocol is not None
            self._protocol.pause_writing()
        if not tunnel.scheduled:
            tunnel.schedule()

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Send several buffers."""
        for data in list_of_data:
            self.write(data)

    def write_eof(self) -> None:
        """Say that nothing more will be written; reading goes on."""
        if not self._eof_sent and not self._lost:
            self._eof_sent = True
            self.state.send_eof(self.tunnel.now())
            self.tunnel.schedule()

    def can_write_eof(self) -> bool:
        """Streams can be half-closed."""
        return True

    def get_write_buffer_size(self) -> int:
        """0: what was written is the session's; see ``pause_writing``."""
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Credit decides, not a size: (0, 0)."""
        return 0, 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Credit decides; accepted and ignored."""

    def close(self) -> None:
        """End both ways: what was written arrives, what still comes is thrown away."""
        if self._close_wanted or self._lost:
            return
        self._close_wanted = True
        self.write_eof()
        self._discard_unread()

    def abort(self) -> None:
        """Break the stream: the far side sees a reset (:attr:`Reason.CANCELLED`)."""
        self.reset(Reason.CANCELLED)

    def reset(self, reason: Reason) -> None:
        """Break the stream for ``reason``."""
        if not self._lost:
            tunnel = self.tunnel
            self.state.reset(reason, tunnel.now())
            tunnel.schedule()
            self._lose(None)

    # ---- another process goes on (tunnel.handover) --------------------------------------------

    @property
    def writing_paused(self) -> bool:
        """Whether the protocol was told to write no more for now."""
        return self._writing_paused

    @property
    def unread(self) -> tuple[bytes, bool]:
        """What has come and was not handed over, and whether the far side's end comes after it."""
        return b"".join(self._unread), self._eof_waiting

    def follow(self, state: SessionStream, unread: bytes, *, eof_waiting: bool) -> None:
        """Be what a former process's stream was, before :meth:`start`."""
        self.state = state
        state.owner = self
        self._unread = [unread] if unread else []
        self._eof_waiting = eof_waiting
        self._eof_sent = state.final is not None
        self._writing_paused = state.blocked

    def forsake(self) -> None:
        """Another process has the stream: nothing happens here any more, and nobody is told."""
        self._lost = self._close_wanted = True
        self._unread = []

    def let_go(self) -> None:
        """Hand over what was held back."""
        self.held_back = False
        self.resume_reading()

    # ---- what the tunnel tells ---------------------------------------------------------------

    def start(self) -> None:
        """The protocol is in place: ``connection_made``, then what has arrived, on the next turn."""
        protocol = self._protocol
        assert protocol is not None
        self._receive = protocol.data_received
        self._started = True
        self._paused = self.held_back
        protocol.connection_made(self)
        if self._writing_paused:
            protocol.pause_writing()
        if self._lost:
            self.tunnel.loop.call_soon(protocol.connection_lost, self._end)
        elif self._unread or self._eof_waiting:
            self.tunnel.loop.call_soon(self._deliver_unread)

    def deliver(self, data: Buffer) -> None:
        """Bytes arrived; ``data`` is valid during the call only."""
        if self._paused or self._unread:
            if self._close_wanted:
                self.state.consume(len(data), self.tunnel.now())
            else:
                self._unread.append(bytes(data))
            return
        size = len(data)
        if not self._close_wanted:
            self._receive(data)
        tunnel = self.tunnel
        tunnel.session.consume_stream(self.state, size, tunnel.now())

    def deliver_eof(self) -> None:
        """The far side will send no more."""
        if self._close_wanted:
            return
        if self._paused or self._unread:
            self._eof_waiting = True
            return
        assert self._protocol is not None
        if not self._protocol.eof_received():
            self.close()

    def writable(self) -> None:
        """Credit came back."""
        if self._writing_paused and self.state.send_room() > 0:
            self._writing_paused = False
            assert self._protocol is not None
            self._protocol.resume_writing()

    def lost(self, reason: Reason | None) -> None:
        """The stream is over: reset for ``reason``, or (None) ended cleanly both ways."""
        if self._lost or self._finished:
            return
        if self.opened is not None and not self.opened.done():
            self._lost = True
            self.opened.set_exception(DialError(reason if reason is not None else Reason.GENERAL))
        elif reason is None and (self._unread or self._eof_waiting):
            self._finished = True
        else:
            self._lose(DialError(reason) if reason is not None else None)

    def _deliver_unread(self) -> None:
        """Hand over what was kept while the protocol did not read."""
        while self._unread and not self._paused and not self._lost:
            kept, self._unread = self._unread, []
            for index, data in enumerate(kept):
                if self._paused or self._lost or self._close_wanted:
                    self._unread[:0] = kept[index:]
                    break
                self._receive(data)
                self._consume(len(data))
            if self._close_wanted:
                self._discard_unread()
        if self._eof_waiting and not self._paused and not self._unread and not self._lost:
            self._eof_waiting = False
            self.deliver_eof()
        if self._finished and not self._unread and not self._eof_waiting:
            self._lose(None)
        self.tunnel.schedule()

    def _discard_unread(self) -> None:
        """Nobody will read it: give its credit back."""
        if self._unread:
            self._consume(sum(map(len, self._unread)))
            self._unread = []
        self._eof_waiting = False
        if self._finished:
            self._lose(None)

    def _consume(self, size: int) -> None:
        """The application has taken ``size`` bytes."""
        self.state.consume(size, self.tunnel.now())

    def _lose(self, exc: DialError | None) -> None:
        """Tell the protocol, once, on the next turn (as transports do)."""
        if self._lost:
            return
        self._lost = self._close_wanted = True  # what may still come is thrown away
        self._end = exc
        self._unread = []
        if self._started and self._protocol is not None:
            self.tunnel.loop.call_soon(self._protocol.connection_lost, exc)
        elif self.abandoned is not None:
            self.abandoned()
