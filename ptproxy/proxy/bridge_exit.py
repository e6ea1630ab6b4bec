"""What becomes of the streams that clients open at a bridge: dialled, served, or refused.

An address is dialled by the egress and coupled with the stream, a service (by
kind, or by its reserved host name) is handed to whoever offers it, a UDP
association gets sockets of its own. A stream that the client gives up takes its dial along.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Mapping
from typing import Final, cast

from ptproxy.errors import DialError, Reason
from ptproxy.log import get_logger
from ptproxy.proxy.fair_places import FairPlaces, Place
from ptproxy.target import Target
from ptproxy.tunnel.relay import Ended, StreamEnd, TcpEnd, couple
from ptproxy.tunnel.stream import Association, Dialer, Incoming
from ptproxy.tunnel.tcp import adopt, reason_of

MAX_STREAMS: Final = 32768
"""Streams of all clients together: each holds a descriptor and about 10 KiB."""
MAX_DIALS: Final = 1024
"""Dials at once, fairly divided among clients: a silent target takes a place for ten seconds."""
MAX_ASSOCIATIONS: Final = 1024
"""UDP associations at once, fairly divided among clients: two descriptors each."""
ADOPT_TIMEOUT: Final = 10.0
"""Seconds until a socket that was handed over has a transport: a turn of the loop or two."""

Service = Callable[[Incoming], None]
"""A service of the bridge: accepts or refuses the stream, now or later, and does not block."""

log = get_logger(__name__)


class BridgeExit:
    """A bridge's :class:`~ptproxy.tunnel.stream.Exit`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dialer: Dialer,
        *,
        services: Mapping[str, Service] | None = None,
        most_streams: int = MAX_STREAMS,
        most_dials: int = MAX_DIALS,
        most_associations: int = MAX_ASSOCIATIONS,
        dialer_of: Callable[[str], Dialer] | None = None,
    ) -> None:
        """``dialer_of`` finds the dialer for a client's targets by its label; None: always ``dialer``."""
        self.streams = 0
        """Streams and associations that are open or being dialled."""
        self._loop = loop
        self._dialer = dialer
        self._dialer_of = dialer_of
        self._services = dict(services or {})
        self._most_streams = most_streams
        self._dials = FairPlaces(most_dials)
        self._associations = FairPlaces(most_associations)
        self._tasks: set[asyncio.Task[object]] = set()
        self._closed = False

    def stream_opened(self, incoming: Incoming) -> None:
        """A client opened a stream; see :class:`~ptproxy.tunnel.stream.Exit`."""
        kind, name = incoming.target.kind, incoming.target.service_name
        if self._closed:
            incoming.refuse(Reason.SHUTDOWN)
        elif name is not None:
            service = self._services.get(name)
            if service is None:
                incoming.refuse(Reason.UNSUPPORTED)
            else:
                service(incoming)
        elif self.streams >= self._most_streams:
            incoming.refuse(Reason.LIMIT)
        elif kind == "address":
            self._dial(incoming)
        else:
            self._associate(incoming)

    def _dial(self, incoming: Incoming) -> None:
        place = self._dials.take(incoming.peer)
        if place is None:
            incoming.refuse(Reason.LIMIT)
            return
        end = DialledEnd(incoming, self._over)
        dial = self._dialer_for(incoming).dial(incoming.target, cast("asyncio.Protocol", end))
        task = self._loop.create_task(dial)
        place.vacate = task.cancel
        task.add_done_callback(lambda _: place.give_back())
        self._watch(incoming, task, end.fail, place)

    def _associate(self, incoming: Incoming) -> None:
        place = self._associations.take(incoming.peer)
        if place is None:
            incoming.refuse(Reason.LIMIT)
            return

        def over() -> None:
            place.give_back()
            self._over()

        pair = DatagramPair(incoming, over)
        task = self._loop.create_task(pair.open(self._dialer_for(incoming)))

        def vacate() -> None:
            if not task.cancel():
                pair.end()

        place.vacate = vacate
        self._watch(incoming, task, pair.fail, place)

    def offer(self, name: str, service: Service) -> None:
        """Clients that ask for ``name`` get this service from now on."""
        self._services[name] = service

    def take_over(self, incoming: Incoming, sock: socket.socket, ended: Ended) -> None:
        """A stream that a former process of this bridge had accepted goes on with its target's socket."""
        end = TakenEnd(incoming, self._over, ended)
        self._watch(incoming, self._loop.create_task(_adopted(self._loop, end, sock)), end.fail)

    async def close(self) -> None:
        """Give up every dial; streams that are open end with their sessions."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _dialer_for(self, incoming: Incoming) -> Dialer:
        return self._dialer if self._dialer_of is None else self._dialer_of(incoming.peer)

    def _over(self) -> None:
        """A stream or association has ended, or was never opened."""
        self.streams -= 1

    def _watch(
        self,
        incoming: Incoming,
        task: asyncio.Task[object],
        fail: Callable[[Reason], None],
        place: Place | None = None,
    ) -> None:
        """Own a dial until it is decided; ``fail`` is called if it fails or is given up."""
        self.streams += 1
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._decided, incoming, fail, place))

        def give_up() -> None:
            task.cancel()

        incoming.on_cancel(give_up)

    def _decided(
        self,
        incoming: Incoming,
        fail: Callable[[Reason], None],
        place: Place | None,
        task: asyncio.Task[object],
    ) -> None:
        """A dial is over."""
        self._tasks.discard(task)
        if task.cancelled():
            lost = place is not None and place.taken_away
            fail(Reason.SHUTDOWN if self._closed else Reason.LIMIT if lost else Reason.CANCELLED)
            return
        error = task.exception()
        if isinstance(error, DialError):
            log.debug("not dialled", target=str(incoming.target), identity=incoming.peer, why=str(error))
            fail(error.reason)
        elif error is not None:
            fail(Reason.GENERAL)
            self._loop.call_exception_handler(
                {"message": "a dial failed in an unforeseen way", "exception": error, "task": task}
            )


class DialledEnd(TcpEnd):
    """The target's end. The stream is accepted the moment the target is there, before it can speak."""

    __slots__ = ("_accepted", "_incoming", "_over")

    def __init__(self, incoming: Incoming, over: Callable[[], None]) -> None:
        super().__init__()
        self._incoming = incoming
        self._over = over
        self._accepted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the stream, unless it was given up in the meantime."""
        super().connection_made(transport)
        if self._incoming.cancelled:
            asyncio.get_running_loop().call_soon(self.transport.abort)  # not at once: see egress.py's _Runner
            return
        self._accepted = True
        stream = StreamEnd()
        stream.data_received = self.transport.write
        couple(self, stream, self._over)
        self.data_received = self._incoming.accept(stream).write

    def connection_lost(self, exc: Exception | None) -> None:
        """The target is gone."""
        if self._accepted:
            super().connection_lost(exc)

    def fail(self, reason: Reason) -> None:
        """The dial failed, or was given up."""
        if self._accepted:
            self.transport.abort()
        else:
            self._over()
            self._incoming.refuse(reason)


class TakenEnd(DialledEnd):
    """A target's end that another process had before."""

    __slots__ = ("_ended",)

    def __init__(self, incoming: Incoming, over: Callable[[], None], ended: Ended) -> None:
        super().__init__(incoming, over)
        self._ended = ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the stream; what has ended before does not end again."""
        super().connection_made(transport)
        if self._accepted:
            self.other.ended, self.ended = self._ended.client, self._ended.target


async def _adopted(loop: asyncio.AbstractEventLoop, end: TakenEnd, sock: socket.socket) -> None:
    """Put ``end`` on a socket; raises DialError."""
    try:
        await adopt(loop, lambda: end, sock, timeout=ADOPT_TIMEOUT)
    except OSError as error:
        raise DialError(reason_of(error)) from error


class DatagramPair:
    """Two associations coupled: what one receives, the other sends; the end of one ends the other."""

    __slots__ = ("_ended", "_incoming", "_over", "inside", "outside")

    def __init__(self, incoming: Incoming, over: Callable[[], None]) -> None:
        self.inside = _Side(self)
        """Receives what comes through the tunnel."""
        self.outside = _Side(self)
        """Receives what comes from the world."""
        self._incoming = incoming
        self._over = over
        self._ended = False

    async def open(self, dialer: Dialer) -> None:
        """Open the association outside and take the one inside; raises DialError."""
        outside = await dialer.associate(self.outside)
        if self._incoming.cancelled or self._ended:
            outside.close()
            raise DialError(Reason.CANCELLED)
        self.inside.peer = outside
        self.outside.peer = self._incoming.accept_association(self.inside)

    def fail(self, reason: Reason) -> None:
        """It was not opened."""
        self._incoming.refuse(reason)
        self.end()

    def end(self) -> None:
        """One of the two is over."""
        if not self._ended:
            self._ended = True
            for side in (self.inside, self.outside):
                if side.peer is not None:
                    side.peer.close()
            self._over()


class _Side:
    """One association's receiver; ``peer`` is the other association."""

    __slots__ = ("_pair", "peer")

    def __init__(self, pair: DatagramPair) -> None:
        self._pair = pair
        self.peer: Association | None = None

    def datagram_received(self, source: Target, data: bytes) -> None:
        """Pass it on to the other association."""
        if self.peer is not None:
            self.peer.send_datagram(source, data)

    def association_lost(self, exc: DialError | None) -> None:
        """This one is over: the other, too."""
        del exc
        self._pair.end()
