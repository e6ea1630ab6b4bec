"""Services behind a client, offered at ports of its bridge: the client's side (``REVERSE.md``).

Each offer is held by a stream, which is opened again whenever it is lost. Whoever
connects at the bridge gets a stream of their own, which is coupled with a
connection to the service as a bridge couples streams with targets
(:class:`~ptproxy.proxy.bridge_exit.BridgeExit`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from ptproxy.buffer import Buffer
from ptproxy.config.reverses import Reverse
from ptproxy.errors import DialError, LocalProtocolError, Reason, StartError
from ptproxy.log import get_logger
from ptproxy.proxy.bridge_exit import BridgeExit
from ptproxy.proxy.reverse_frames import (
    FROM_BRIDGE,
    SERVICE,
    Alive,
    Arrived,
    FrameReader,
    Offer,
    Offered,
    Reach,
    Refused,
    ReverseError,
    Take,
    Why,
)
from ptproxy.target import Target, TargetError
from ptproxy.tunnel.direct import DirectDialer
from ptproxy.tunnel.relay import reset_stream
from ptproxy.tunnel.stream import Association, DatagramReceiver, Dialer, Stream

MAX_CONNECTIONS: Final = 4_096
"""Connections to all offered services; further ones are reset."""
MAX_TAKEN: Final = 512
"""Connections that are being taken at once: the bridge says of each that it waits."""
REACHED_WITHIN: Final = 10.0
"""Seconds for a connection to an offered service: it is near."""
ANSWER_WAIT: Final = 60.0
"""Seconds for the bridge's answer to an offer, after which it is made again."""
ALIVE: Final = (30.0, 90.0)
"""Seconds between two signs of life, drawn anew each time: NATs forget a silent connection after minutes."""
AGAIN: Final = 1.0
"""Seconds until a lost offer is made again; then twice as long, and so on ..."""
AGAIN_MOST: Final = 30.0
"""... at most."""
REFUSED_AGAIN: Final = 300.0
"""Seconds until an offer is made again that the bridge does not want."""
SPREAD: Final = (0.5, 1.5)
"""Each wait is multiplied by a number from here."""

WORDS: Final = {
    Why.NOT_PERMITTED: "its operator has not permitted this port: ptproxy invite permit",
    Why.TAKEN: "something else listens there",
    Why.LIMIT: "it takes no more offers",
    Why.REPLACED: "another client with the same key offers there now",
    Why.SHUTDOWN: "it is stopping",
}
"""What a refusal says to a person."""

log = get_logger(__name__)


class Offers:
    """The offers of one client."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dialer: Dialer, reverses: Sequence[Reverse]) -> None:
        """Raises :class:`~ptproxy.errors.StartError` for what cannot be a target."""
        self.loop = loop
        self.dialer = dialer
        self.exit = BridgeExit(loop, DirectDialer(loop, REACHED_WITHIN), most_streams=MAX_CONNECTIONS)
        self.tasks: set[asyncio.Task[None]] = set()
        """What holds offers, and what takes connections."""
        self._offers = [_Offering(self, each) for each in reverses]

    def start(self) -> None:
        """Offer from now on."""
        for offer in self._offers:
            self.spawn(offer.hold())

    async def answered(self) -> None:
        """Wait for the bridge's first answer to every offer; StartError where it refuses one."""
        for offer in self._offers:
            refused = await offer.first_answer
            if refused:
                raise StartError(refused)

    async def stop(self) -> None:
        """Offer no more, and break what goes through."""
        for task in self.tasks:
            task.cancel()
        while self.tasks:
            await asyncio.wait(self.tasks)
        await self.exit.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do this until :meth:`stop`."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


class _Offering:
    """One offer: its stream, opened again and again."""

    def __init__(self, offers: Offers, reverse: Reverse) -> None:
        self.first_answer: asyncio.Future[str] = offers.loop.create_future()
        """What keeps it from being offered, ``""``: nothing."""
        self._offers = offers
        self._reverse = reverse
        self._rng = random.SystemRandom()
        try:
            self._target = Target.address(reverse.target.host, reverse.target.port)
        except TargetError as error:
            raise StartError(f"reverse: {reverse.target} cannot be reached: {error}") from None

    async def hold(self) -> None:
        """Offer, for ever."""
        again = AGAIN
        while True:
            control = _Control(self)
            first = Offer(self._reverse.port).serialize()
            try:
                transport = await self._offers.dialer.dial(Target.service(SERVICE), control, first)
            except DialError as error:
                refused = error.reason in (Reason.UNSUPPORTED, Reason.NOT_PERMITTED)
                if refused:
                    self._not_offered("it lets this client offer nothing")
            else:
                refused = await self._held(control, transport)
                if control.offered.done():
                    again = AGAIN
            wait = REFUSED_AGAIN if refused else again
            again = min(2 * again, AGAIN_MOST)
            await asyncio.sleep(wait * self._rng.uniform(*SPREAD))

    async def _held(self, control: _Control, transport: Stream) -> bool:
        """Hold the offer while its stream lasts; whether the bridge does not want it."""
        try:
            either: set[asyncio.Future[Any]] = {control.over, control.offered}
            await asyncio.wait(either, timeout=ANSWER_WAIT, return_when=asyncio.FIRST_COMPLETED)
            while not control.over.done():
                if not control.offered.done():
                    return False  # no answer
                await asyncio.wait({control.over}, timeout=self._rng.uniform(*ALIVE))
                transport.write(Alive().serialize())
            return control.over.result()
        finally:
            transport.abort()

    # ---- what the bridge says --------------------------------------------------------------------

    def said(self, frame: object) -> bool | None:
        """The bridge's word; None if the stream goes on, else whether to ask again much later only."""
        if isinstance(frame, Offered):
            whom = "programs of its own machine" if frame.reach is Reach.OWN_MACHINE else "everybody"
            log.info("offered at the bridge", port=self._reverse.port, service=str(self._target), to=whom)
            self._answer("")
        elif isinstance(frame, Arrived):
            if len(self._offers.tasks) < MAX_TAKEN:  # else the bridge gives up waiting
                self._offers.spawn(self._take(frame.ticket))
        elif isinstance(frame, Refused):
            if frame.why is Why.SHUTDOWN:
                return False
            self._not_offered(WORDS[frame.why])
            return frame.why is not Why.TAKEN  # that may be a bridge which is just being replaced
        return None

    def _not_offered(self, reason: str) -> None:
        log.error("not offered at the bridge", port=self._reverse.port, why=reason)
        self._answer(f"the bridge does not offer port {self._reverse.port}: {reason}")

    def _answer(self, text: str) -> None:
        if not self.first_answer.done():
            self.first_answer.set_result(text)

    async def _take(self, ticket: bytes) -> None:
        """Somebody connected: a stream for them, then the service."""
        arrived, first = _ArrivedStream(self._target), Take(ticket).serialize()
        try:
            stream = await self._offers.dialer.dial(Target.service(SERVICE), arrived, first)
        except DialError as error:
            log.info("a connection is not taken", port=self._reverse.port, reason=error.reason.name.lower())
            return
        stream.pause_reading()  # nothing was delivered yet
        self._offers.exit.stream_opened(arrived)


class _Control(asyncio.Protocol):
    """The stream that holds an offer."""

    def __init__(self, offering: _Offering) -> None:
        loop = asyncio.get_running_loop()
        self.offered: asyncio.Future[None] = loop.create_future()
        """Done when the bridge has said that it listens."""
        self.over: asyncio.Future[bool] = loop.create_future()
        """Done at its end: whether the bridge does not want the offer."""
        self._offering = offering
        self._reader = FrameReader(FROM_BRIDGE)
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = transport

    def data_received(self, data: Buffer) -> None:
        """The bridge's words."""
        self._reader.receive_data(data)
        try:
            while not self.over.done() and (frame := self._reader.next_frame()) is not None:
                if isinstance(frame, Offered):
                    if self.offered.done():
                        raise ReverseError("offered twice")
                    self.offered.set_result(None)
                end = self._offering.said(frame)
                if end is not None:
                    self._end(refused=end)
        except ReverseError as error:
            log.warning("the bridge breaks the protocol", why=str(error))
            self._transport.abort()
            self._end(refused=False)

    def eof_received(self) -> bool:
        """The offer is over."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, for whatever reason."""
        self._end(refused=isinstance(exc, DialError) and exc.reason is Reason.NOT_PERMITTED)

    def _end(self, *, refused: bool) -> None:
        if not self.over.done():
            self.over.set_result(refused)


class _ArrivedStream(asyncio.Protocol):
    """A stream for somebody who connected at the bridge: for the exit, one that was opened from there."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.first_data = b""
        self.peer = ""
        self.cancelled = False
        self._stream: Any = None
        self._on_cancel: Callable[[], None] | None = None

    # ---- as a protocol, until the service is reached -----------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._stream = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever connected has left."""
        del exc
        self.cancelled = True
        if self._on_cancel is not None:
            self._on_cancel()

    # ---- as an Incoming ------------------------------------------------------------------------------

    @property
    def address(self) -> tuple[str, int] | None:
        """Not known here."""
        return None

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when whoever connected leaves before the service is reached."""
        self._on_cancel = callback
        if self.cancelled:
            callback()

    def accept(self, protocol: asyncio.Protocol) -> Stream:
        """The service is reached."""
        stream: Stream = self._stream
        self._on_cancel = None
        stream.set_protocol(protocol)
        protocol.connection_made(stream)
        stream.resume_reading()
        return stream

    def accept_association(self, receiver: DatagramReceiver) -> Association:
        """It is a stream."""
        del receiver
        raise LocalProtocolError("a stream is taken with accept")

    def refuse(self, reason: Reason) -> None:
        """The service is not reached."""
        if not self.cancelled:
            log.info(
                "an offered service is not reached", service=str(self.target), reason=reason.name.lower()
            )
            reset_stream(self._stream, reason)
