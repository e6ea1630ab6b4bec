"""One port of the bridge that stands for a client's service, and who waits there (``REVERSE.md``)."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from typing import TYPE_CHECKING, Final

from ptproxy.config.model import ReverseConfig
from ptproxy.errors import DialError, Reason, why
from ptproxy.log import get_logger
from ptproxy.proxy.local import LocalLimits, LocalProxy
from ptproxy.proxy.reverse_frames import SERVICE, TICKET, Arrived, Offered, Reach, Why
from ptproxy.target import Target
from ptproxy.tunnel.stream import Association, DatagramReceiver, Stream

if TYPE_CHECKING:
    from ptproxy.proxy.reverse_service import Owner, ReverseService

KEPT: Final = 60.0
"""Seconds that a port is held for a client that is gone: it may be starting again."""
TAKEN_WITHIN: Final = 15.0
"""Seconds that a connection waits to be taken, also while the client is gone."""

log = get_logger(__name__)


class OfferedPort:
    """A port of the bridge that stands for a client's service; the dialer of what connects to it."""

    def __init__(self, service: ReverseService, account: str, port: int, config: ReverseConfig) -> None:
        self.account = account
        self.port = port
        self.owner: Owner | None = None
        """The stream that holds it; None while its client is gone."""
        self.waiting: dict[bytes, Arrival] = {}
        """Connections that wait to be taken, by ticket."""
        self._service = service
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._proxy = LocalProxy(self._loop, self, limits=LocalLimits(connections=config.connections))
        self._listening = False
        self._timer: asyncio.TimerHandle | None = None

    async def listen(self) -> None:
        """Listen, and tell the client whether."""
        host = self._config.listen
        try:
            await self._proxy.forward(host, self.port, Target.service(f"{SERVICE}-{self.port}"))
        except OSError as error:
            log.warning("no port for an offer", port=self.port, identity=self.account, why=why(error))
            self._service.end(self, Why.TAKEN)
            return
        if self._service.offers.get(self.port) is not self:
            await self._proxy.stop()  # withdrawn meanwhile
            return
        self._listening = True
        log.info("a client offers a service", port=self.port, identity=self.account)
        if self.owner is not None:
            self.owner.say(self._said())

    async def stop(self) -> None:
        """Listen no more, and break what goes through."""
        await self._proxy.stop()

    def change_owner(self, owner: Owner) -> None:
        """The client is there again, by another stream; it is told who waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        before, self.owner = self.owner, owner
        owner.offered = self
        if before is not None:
            before.offered = None
            before.refuse(Why.REPLACED)
        if self._listening:
            owner.say(self._said())
            for arrival in self.waiting.values():
                arrival.told = False
            self.tell()

    def tell(self) -> None:
        """Tell the client who waits and was not named yet.

        While it does not read nothing is said: of who comes and goes meanwhile it never hears.
        """
        owner = self.owner
        if owner is None or owner.behind:
            return
        for ticket, arrival in self.waiting.items():
            if not arrival.told and not owner.behind:
                arrival.told = True
                owner.say(Arrived(ticket))

    def owner_lost(self) -> None:
        """The client is gone: keep the port for a while."""
        self.owner = None
        if self._service.offers.get(self.port) is self:
            self._timer = self._loop.call_later(KEPT, self._service.end, self, Why.SHUTDOWN)

    def leave(self, reason: Why) -> None:
        """Nobody is let in any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._proxy.end_listening()
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.offered = None
            owner.refuse(reason)
        for arrival in list(self.waiting.values()):
            arrival.fail(Reason.SHUTDOWN)

    def _said(self) -> Offered:
        local = ipaddress.ip_address(self._config.listen).is_loopback
        return Offered(Reach.OWN_MACHINE if local else Reach.OTHERS)

    # ---- the dialer of those who connect ---------------------------------------------------------

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """Have the client take a connection; see :class:`~ptproxy.tunnel.stream.Dialer`."""
        del target
        ticket = secrets.token_bytes(TICKET)
        arrival = self.waiting[ticket] = Arrival(protocol, first_data, self._loop)
        self.tell()
        try:
            async with asyncio.timeout(TAKEN_WITHIN):
                return await arrival.taken
        except TimeoutError:
            raise DialError(Reason.TIMED_OUT) from None
        finally:
            self.waiting.pop(ticket, None)

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """There are no datagrams here."""
        del receiver
        raise DialError(Reason.UNSUPPORTED)


class Arrival:
    """A connection that waits for its client to take it."""

    __slots__ = ("_first_data", "_loop", "_protocol", "taken", "told")

    def __init__(
        self, protocol: asyncio.Protocol, first_data: bytes, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.taken: asyncio.Future[Stream] = loop.create_future()
        self.told = False
        """Whether the client knows of it."""
        self._protocol = protocol
        self._first_data = first_data
        self._loop = loop

    def fail(self, reason: Reason) -> None:
        """It will not be taken."""
        if not self.taken.done():
            self.taken.set_exception(DialError(reason))

    def take(self, stream: Stream, rest: bytes) -> bool:
        """Here is the stream for it, whose reading is paused; ``rest`` came on it already.

        False if whoever connected has left.
        """
        if self.taken.done():
            return False
        stream.set_protocol(self._protocol)
        self._protocol.connection_made(stream)
        if stream.is_closing():
            self.fail(Reason.CANCELLED)  # whoever connected has just left
            return True
        if self._first_data:
            stream.write(self._first_data)
        self.taken.set_result(stream)
        self._loop.call_soon(self._go_on, stream, rest)  # behind the turn in which whoever waits goes on
        return True

    def _go_on(self, stream: Stream, rest: bytes) -> None:
        if stream.is_closing():
            return
        stream.resume_reading()  # before anything is passed on: that may pause it again
        if rest:
            self._protocol.data_received(rest)
