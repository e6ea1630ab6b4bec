"""The bridge's streams, handed to the parent: each becomes a connection to the port that it named.

With tor's extended port the parent is told first who is calling and by which
transport; a stream is accepted when the parent has agreed. Whatever else a
client asks for (addresses, datagrams of the world) is refused: this bridge is
no way out.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, cast

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, FrontError, Reason, why
from ptproxy.log import get_logger
from ptproxy.proxy.bridge_exit import DialledEnd
from ptproxy.pt.extorport import NONCE, ExtOrPort, parse_cookie
from ptproxy.pt.tor_environment import Place, format_place
from ptproxy.target import Target
from ptproxy.tunnel.stream import Association, DatagramReceiver, Incoming, Stream
from ptproxy.tunnel.tcp import connect_tcp

SERVICE: Final = "parent"
"""What clients ask for; which program that is, only the bridge knows."""
CONNECT_TIMEOUT: Final = 10.0
"""Seconds for the parent to take a connection, its introduction included; it is on this machine."""
MAX_STREAMS: Final = 16384
"""Connections to the parent at once: each holds a descriptor."""

log = get_logger(__name__)


class ParentPort(Protocol):
    """Where the parent takes connections."""

    async def connect(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, client: Place | None
    ) -> None:
        """Put ``protocol`` on a new connection; raises :class:`~ptproxy.errors.DialError` or FrontError.

        ``client``: whose connection it was, None where that is not known.
        """


class PlainPort:
    """A port that takes bytes as they are: tor's ORPort, ss-server's."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def connect(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, client: Place | None
    ) -> None:
        """See :class:`ParentPort`; nobody is told who calls."""
        del client
        await connect_tcp(loop, protocol, *self._place, CONNECT_TIMEOUT)


class ExtendedPort:
    """tor's extended ORPort; the cookie is read for each connection, as tor makes a new one at its start."""

    def __init__(self, place: Place, cookie_file: Path, transport: str) -> None:
        self._place = place
        self._cookie_file = cookie_file
        self._transport = transport

    async def connect(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, client: Place | None
    ) -> None:
        """See :class:`ParentPort`."""
        try:
            with self._cookie_file.open("rb") as file:  # 64 bytes of a local disk
                cookie = parse_cookie(file.read(1024))
        except OSError as error:
            raise FrontError(f"cannot read tor's cookie file: {why(error)}") from None
        address = "" if client is None else format_place(client)
        talk = ExtOrPort(cookie, secrets.token_bytes(NONCE), self._transport, address)
        introduction = _Introduction(loop, talk)
        transport = await connect_tcp(loop, introduction, *self._place, CONNECT_TIMEOUT)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await introduction.agreed
        except TimeoutError:
            transport.abort()
            raise DialError(Reason.TIMED_OUT, "tor's extended ORPort does not answer") from None
        except BaseException:
            transport.abort()
            raise
        if transport.is_closing():  # it was lost in the very moment in which tor agreed
            raise DialError(Reason.CONNECTION_LOST)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if introduction.paused:
            transport.resume_reading()  # first: a client that is behind with the rest pauses it again
        if talk.rest:
            protocol.data_received(talk.rest)


class _Introduction(asyncio.Protocol):
    """The connection while tor is told who is calling."""

    def __init__(self, loop: asyncio.AbstractEventLoop, talk: ExtOrPort) -> None:
        self.agreed: asyncio.Future[None] = loop.create_future()
        self.paused = False
        self._talk = talk
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: Buffer) -> None:
        self._feed(functools.partial(self._talk.receive_data, data))

    def eof_received(self) -> None:
        self._feed(self._talk.receive_eof)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.agreed.done():
            self.agreed.set_exception(exc or FrontError("tor closed its extended ORPort"))

    def _feed(self, step: Callable[[], None]) -> None:
        transport = self._transport
        if self.agreed.done() or transport is None:
            return
        try:
            step()
        except FrontError as error:
            self.agreed.set_exception(error)
            return
        answer = self._talk.data_to_send()
        if answer:
            transport.write(answer)
        if self._talk.done:
            transport.pause_reading()  # what comes now is the stream's
            self.paused = True
            self.agreed.set_result(None)


class Parent:
    """The service :data:`SERVICE` of a plugged-in bridge (see :mod:`ptproxy.proxy.bridge_exit`)."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, port: ParentPort, *, tell_client: bool = True
    ) -> None:
        """``tell_client``: whether the address that a connection comes from is the client's own."""
        self.streams = 0
        """Connections to the parent that are open or being made."""
        self._loop = loop
        self._port = port
        self._tell_client = tell_client
        self._tasks: set[asyncio.Task[None]] = set()
        self._down = False

    def __call__(self, incoming: Incoming) -> None:
        """A client opened a stream."""
        if self.streams >= MAX_STREAMS:
            incoming.refuse(Reason.LIMIT)
            return
        self.connect(DialledEnd(incoming, self._over), incoming)

    def connect(self, end: DialledEnd, incoming: Incoming) -> None:
        """Connect ``end`` to the parent; it accepts or refuses the stream."""
        self.streams += 1
        client = incoming.address if self._tell_client else None
        task = self._loop.create_task(self._connect(end, client))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._decided, end))

        def give_up() -> None:
            task.cancel()

        incoming.on_cancel(give_up)

    async def _connect(self, end: DialledEnd, client: Place | None) -> None:
        await self._port.connect(self._loop, cast("asyncio.Protocol", end), client)

    def _decided(self, end: DialledEnd, task: asyncio.Task[None]) -> None:
        """The parent has the connection, or it was not to be; also one that was given up before it began."""
        self._tasks.discard(task)
        if task.cancelled():
            end.fail(Reason.CANCELLED)
            return
        error = task.exception()
        if error is None:
            self._down = False
        elif isinstance(error, DialError):
            self._failed(end, str(error), error.reason)
        elif isinstance(error, FrontError | OSError):
            self._failed(end, str(error) or type(error).__name__, Reason.GENERAL)
        else:
            end.fail(Reason.GENERAL)
            self._loop.call_exception_handler(
                {"message": "a connection to the parent failed in an unforeseen way", "exception": error}
            )

    def _failed(self, end: DialledEnd, text: str, reason: Reason) -> None:
        if not self._down:  # once, not for every client that comes meanwhile
            log.error("the program that started us does not take connections", why=text)
        self._down = True
        end.fail(reason)

    def _over(self) -> None:
        self.streams -= 1

    async def close(self) -> None:
        """Give up every connection that is being made; open ones end with their sessions."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class NoWayOut:
    """The dialer of a bridge that serves its parent alone."""

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """Refuse."""
        del target, protocol, first_data
        raise DialError(Reason.NOT_PERMITTED)

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """Refuse."""
        del receiver
        raise DialError(Reason.NOT_PERMITTED)
