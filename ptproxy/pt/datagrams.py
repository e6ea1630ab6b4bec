"""UDP for Shadowsocks (SIP003u), both sides: one association for each address that sends to us.

The plugin listens for datagrams where it listens for connections. What a sender
gives us goes through the tunnel to a socket of the bridge's own that is
connected to ss-server; answers come back the same way. Which target a datagram
names in the tunnel means nothing: there is only one.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ptproxy.errors import DialError, Reason
from ptproxy.log import get_logger
from ptproxy.pt.tor_environment import Place
from ptproxy.target import Target
from ptproxy.tunnel.stream import MAX_DATAGRAM, Association, DatagramReceiver, Stream
from ptproxy.tunnel.tcp import reason_of

MOST_SENDERS: Final = 256
"""Addresses that are served at once; one more ends the one that has been silent longest."""
IDLE: Final = 120.0
"""Seconds of silence after which a sender is forgotten, as Shadowsocks forgets its own."""
LOOK_EVERY: Final = 10.0
"""Seconds between looks who has been silent."""
MOST_WAITING: Final = 16
"""Datagrams of a sender kept until its association is there; what is above is lost, as datagrams may be."""

MOST_UNSENT: Final = 256 * 1024
"""Bytes that a socket did not take at once; above, datagrams are lost, as datagrams may be."""

ANYWHERE: Final = Target("192.0.2.1", 1)
"""The target that datagrams name: none (RFC 5737)."""

Associate = Callable[[DatagramReceiver], Awaitable[Association]]

log = get_logger(__name__)


class DatagramDoor(asyncio.DatagramProtocol):
    """The client's side: takes datagrams of local programs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, associate: Associate) -> None:
        self._loop = loop
        self._associate = associate
        self._senders: OrderedDict[Any, _Sender] = OrderedDict()  # longest silent first
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: Any = None  # a DatagramTransport; typeshed lacks get_write_buffer_size()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._senders)

    async def open(self, sock: socket.socket) -> None:
        """Take what comes to a bound socket; it is ours from now on."""
        await self._loop.create_datagram_endpoint(lambda: self, sock=sock)
        self._timer = self._loop.call_later(LOOK_EVERY, self._look)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Listening."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """A local program sent something."""
        sender = self._senders.get(addr)
        if sender is None:
            if len(self._senders) >= MOST_SENDERS:
                self._senders.popitem(last=False)[1].end()
            sender = self._senders[addr] = _Sender(self, addr)
            task = sender.opening = self._loop.create_task(self._begin(sender))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._senders.move_to_end(addr)
        sender.heard_at = self._loop.time()
        sender.send(bytes(data))

    def error_received(self, exc: Exception) -> None:
        """A program that we answered is gone; it will be forgotten."""

    def answer(self, sender: _Sender, data: bytes) -> None:
        """Give a sender what came for it."""
        if self._transport is not None and not self._transport.is_closing():
            sender.heard_at = self._loop.time()
            if self._transport.get_write_buffer_size() < MOST_UNSENT:
                self._transport.sendto(data, sender.address)

    def forget(self, sender: _Sender) -> None:
        """Its association is over."""
        if self._senders.get(sender.address) is sender:
            del self._senders[sender.address]

    async def close(self) -> None:
        """Stop listening and end every association."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sender in list(self._senders.values()):
            sender.end()
        self._senders.clear()
        await asyncio.sleep(0)

    async def _begin(self, sender: _Sender) -> None:
        try:
            sender.begin(await self._associate(sender))
        except DialError as error:
            log.debug("no UDP association", reason=error.reason.name.lower())
            sender.opening = None
            sender.end()
            self.forget(sender)

    def _look(self) -> None:
        now = self._loop.time()
        for sender in list(self._senders.values()):
            if now - sender.heard_at > IDLE:
                sender.end()
                self.forget(sender)
        self._timer = self._loop.call_later(LOOK_EVERY, self._look)


class _Sender:
    """One local address and its association."""

    __slots__ = ("_association", "_door", "_ended", "_waiting", "address", "heard_at", "opening")

    def __init__(self, door: DatagramDoor, address: Any) -> None:
        self.address = address
        self.heard_at = 0.0
        self.opening: asyncio.Task[None] | None = None
        """Opens the association; None once it is decided."""
        self._door = door
        self._association: Association | None = None
        self._waiting: list[bytes] = []
        self._ended = False

    def send(self, data: bytes) -> None:
        """Send into the tunnel, now or as soon as there is an association."""
        if self._association is not None:
            self._association.send_datagram(ANYWHERE, data)
        elif len(self._waiting) < MOST_WAITING:
            self._waiting.append(data)

    def begin(self, association: Association) -> None:
        """The association is there."""
        self.opening = None
        self._association = association
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            association.send_datagram(ANYWHERE, data)

    def end(self) -> None:
        """Nobody wants it any more, nor what is still being opened for it."""
        self._ended = True
        opening, self.opening = self.opening, None
        if opening is not None:
            opening.cancel()
        association, self._association = self._association, None
        if association is not None:
            association.close()

    def datagram_received(self, source: Target, data: bytes) -> None:
        """An answer."""
        del source
        if not self._ended:
            self._door.answer(self, data)

    def association_lost(self, exc: DialError | None) -> None:
        """It is over: the next datagram begins another."""
        del exc
        self._association = None
        self._door.forget(self)


class ParentDatagrams:
    """The bridge's side: a dialer whose associations all end at the parent's port; streams are refused."""

    def __init__(self, loop: asyncio.AbstractEventLoop, place: Place) -> None:
        self._loop = loop
        self._place = place

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """Refuse: this bridge is no way out."""
        del target, protocol, first_data
        raise DialError(Reason.NOT_PERMITTED)

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """A socket of its own, connected to the parent; raises :class:`~ptproxy.errors.DialError`."""
        try:
            _, flow = await self._loop.create_datagram_endpoint(
                lambda: _Flow(receiver), remote_addr=self._place
            )
        except OSError as error:
            raise DialError(reason_of(error)) from error
        return flow


class _Flow(asyncio.DatagramProtocol):
    """One association's socket at the bridge."""

    def __init__(self, receiver: DatagramReceiver) -> None:
        self._receiver = receiver
        self._transport: Any = None  # a DatagramTransport; typeshed lacks get_write_buffer_size()
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """The parent answers."""
        del addr
        self._receiver.datagram_received(ANYWHERE, bytes(data))

    def error_received(self, exc: Exception) -> None:
        """The parent takes none now; it may later."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        del exc
        if not self._ended:
            self._ended = True
            self._receiver.association_lost(None)

    def send_datagram(self, target: Target, data: bytes) -> None:
        """Give it to the parent."""
        del target
        transport = self._transport
        if transport is None or self._ended or len(data) > MAX_DATAGRAM:
            return
        if transport.get_write_buffer_size() < MOST_UNSENT:
            transport.sendto(data)

    def close(self) -> None:
        """End the association."""
        self._ended = True
        if self._transport is not None:
            self._transport.close()
