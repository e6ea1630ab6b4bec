"""A local port that stands for one target: programs without a proxy setting connect to it as to the target.

TCP is a :class:`~ptproxy.proxy.local_connection.LocalConnection` that has
nothing to ask: the target is dialled when a program connects, what it sends
meanwhile is kept, and a target that is not reached resets the program's
connection. UDP gives each local sender an association of its own, until it is
silent for :data:`IDLE`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, Reason
from ptproxy.front import Conversation, Event, PayloadReceived
from ptproxy.front.users import Users
from ptproxy.log import get_logger
from ptproxy.proxy.far_end import TunnelEnd
from ptproxy.proxy.local_connection import LocalConnection
from ptproxy.proxy.udp_port import UdpPort
from ptproxy.target import Target
from ptproxy.tunnel.stream import Association, Dialer
from ptproxy.tunnel.tcp import send_reset

if TYPE_CHECKING:
    from ptproxy.proxy.local import LocalProxy

IDLE: Final = 120.0
"""Seconds of silence both ways after which a sender's association ends: RFC 4787 REQ-5 wants two minutes."""
MAX_SENDERS: Final = 256
"""Local senders of one forward at a time; the one that was silent longest goes first."""
MAX_EARLY: Final = 16
"""Datagrams kept for an association that is being opened."""

log = get_logger(__name__)


class Wordless:
    """The conversation of a forwarded connection: everything is for the target."""

    def __init__(self, users: Users | None = None) -> None:
        del users
        self.closing = False

    def receive_data(self, data: Buffer) -> list[Event]:
        """All of it."""
        return [PayloadReceived(data)]

    def receive_eof(self) -> list[Event]:
        """The program has left before its target answered."""
        self.closing = True
        return []

    def send_accepted(self, host: str = "0.0.0.0", port: int = 0) -> None:
        """The program is not told: it believes to be connected."""

    def send_refused(self, reason: Reason) -> None:
        """Nor of this: its connection is reset."""

    def data_to_send(self) -> bytes:
        """Nothing."""
        return b""


class ForwardedConnection(LocalConnection):
    """A program's connection to a port that stands for ``target``."""

    __slots__ = ("_target",)

    def __init__(self, proxy: LocalProxy, target: Target) -> None:
        super().__init__(proxy)
        self._target = target
        self._conversation: Conversation | None = Wordless()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A program connected: dial for it."""
        super().connection_made(transport)
        if not self._leaving:
            self._start(TunnelEnd(self), self._target, b"")

    def eof_received(self) -> bool:
        """The program will send no more; what its target has to say it may still want."""
        self._ended = True
        return not self._leaving

    def _refuse(self, reason: Reason) -> None:
        """The target is not reached: neither is the program's connection."""
        del reason
        self._task = None
        if not self._leaving:
            self._leaving = True
            send_reset(self.transport)


class UdpForward:
    """A local UDP port that stands for ``target``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dialer: Dialer, target: Target) -> None:
        self.loop = loop
        self.dialer = dialer
        self.target = target
        self.senders: OrderedDict[Any, _Sender] = OrderedDict()
        """By local address, the one that spoke last at the end."""
        self._port = UdpPort(loop, self.local_datagram)
        self._timer: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Listen there; returns the address. Raises ``OSError``."""
        return await self._port.listen(host, port)

    async def stop(self) -> None:
        """End every association."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = [sender.task for sender in self.senders.values() if sender.task is not None]
        while self.senders:
            self.senders.popitem()[1].close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._port.close()

    def local_datagram(self, data: bytes, address: Any) -> None:
        """A local program sent something."""
        sender = self.senders.get(address)
        if sender is None:
            if len(self.senders) >= MAX_SENDERS:
                self.senders.popitem(last=False)[1].close()
            sender = self.senders[address] = _Sender(self, address)
        self.senders.move_to_end(address)
        sender.send(data)
        if self._timer is None:
            self._timer = self.loop.call_later(IDLE, self._look)

    def answer(self, data: bytes, address: Any) -> None:
        """The target sent something for a local program."""
        self._port.send(data, address)

    def _look(self) -> None:
        """End the associations that are silent."""
        self._timer = None
        now = self.loop.time()
        for address, sender in list(self.senders.items()):
            if now - sender.heard >= IDLE:
                del self.senders[address]
                sender.close()
        if self.senders:
            self._timer = self.loop.call_later(IDLE / 4, self._look)


class _Sender:
    """One local program's association; the receiver of its datagrams."""

    def __init__(self, forward: UdpForward, address: Any) -> None:
        self.heard = forward.loop.time()
        """When something was last sent or came."""
        self._forward = forward
        self._address = address
        self._early: list[bytes] = []
        self._association: Association | None = None
        self._closed = False
        self.task: asyncio.Task[None] | None = forward.loop.create_task(self._open())

    def send(self, data: bytes) -> None:
        """To the target, now or as soon as there is an association."""
        self.heard = self._forward.loop.time()
        if self._association is not None:
            self._association.send_datagram(self._forward.target, data)
        elif len(self._early) < MAX_EARLY:
            self._early.append(data)

    def close(self) -> None:
        """End it."""
        self._closed = True
        if self.task is not None:
            self.task.cancel()
        if self._association is not None:
            self._association.close()

    async def _open(self) -> None:
        try:
            self._association = await self._forward.dialer.associate(self)
        except DialError as error:
            log.info("no UDP association", reason=error.reason.name.lower())
            self.association_lost(error)
            return
        finally:
            self.task = None
        early, self._early = self._early, []
        for data in early:
            self.send(data)

    def datagram_received(self, source: Target, data: bytes) -> None:
        """The target answered. Its name may stand for any address, so that whoever was asked may answer."""
        del source
        self.heard = self._forward.loop.time()
        if not self._closed:
            self._forward.answer(data, self._address)

    def association_lost(self, exc: DialError | None) -> None:
        """The next datagram opens another one."""
        del exc
        if self._forward.senders.get(self._address) is self:
            del self._forward.senders[self._address]
