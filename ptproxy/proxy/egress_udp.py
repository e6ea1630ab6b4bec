"""UDP from the bridge: one association is a socket of each family.

Every datagram's address is judged like a dial's. A datagram to a name waits in
a short queue while the name is looked up. What comes back is handed on only if
its address is one that the client has sent to (address-dependent filtering,
RFC 4787 section 5): nobody else can send through the bridge into the tunnel.
An association that is silent both ways for five minutes ends (section 4.3).
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from ptproxy.addresses import IP
from ptproxy.errors import DialError, Reason
from ptproxy.target import Target
from ptproxy.tunnel.stream import MAX_DATAGRAM, DatagramReceiver

IDLE: Final = 300.0
"""Seconds of silence after which an association ends (RFC 4787 REQ-5 recommends this)."""
MAX_PEERS: Final = 1024
"""Addresses an association remembers, the least recently used goes first: a busy DHT uses hundreds."""
MAX_LOOKUPS: Final = 16
"""Names an association looks up at once."""
MAX_WAITING: Final = 16
"""Datagrams that wait for one name: enough for a handshake's retries."""
MAX_UNSENT: Final = 256 * 1024
"""Bytes a socket may hold unsent; a datagram above that is dropped, as a full router would."""

Judge = Callable[[IP, int], IP]
"""The address as it will be dialled, or DialError where it must not be."""
Addresses = Callable[[str, int], Awaitable[list[IP]]]
"""The permitted addresses of a host, or DialError: :meth:`EgressDialer.addresses`."""
Route = tuple[Any, tuple[str, int]]
"""A socket's transport and the address to send to."""


class EgressAssociation:
    """A UDP association; see :class:`~ptproxy.tunnel.stream.Association`."""

    __slots__ = (
        "_addresses", "_closed", "_heard", "_idle", "_judge", "_lookups", "_loop", "_on_end", "_peers",
        "_receiver", "_routes", "_sockets", "_sources", "_timer", "_waiting",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        receiver: DatagramReceiver,
        judge: Judge,
        addresses: Addresses,
        on_end: Callable[[EgressAssociation], None],
        *,
        idle: float = IDLE,
    ) -> None:
        self._loop = loop
        self._receiver = receiver
        self._judge = judge
        self._addresses = addresses
        self._on_end = on_end
        self._idle = idle
        self._sockets: dict[int, Any] = {}  # DatagramTransports; typeshed knows no buffer size of theirs
        self._routes: OrderedDict[Target, Route] = OrderedDict()
        self._peers: OrderedDict[str, None] = OrderedDict()
        self._sources: OrderedDict[tuple[str, int], Target] = OrderedDict()
        self._waiting: dict[Target, list[bytes]] = {}
        self._lookups: set[asyncio.Task[None]] = set()
        self._heard = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def open(self, *, ipv6: bool) -> None:
        """Make the sockets: IPv4, and IPv6 where wanted; one of them is enough. Raises ``OSError``."""
        failure = OSError("no address family")
        for version, family, wildcard in ((4, socket.AF_INET, "0.0.0.0"), (6, socket.AF_INET6, "::")):
            if version == 6 and not ipv6:
                continue
            try:
                transport, _ = await self._loop.create_datagram_endpoint(
                    lambda: _Socket(self), local_addr=(wildcard, 0), family=family
                )
            except OSError as error:
                failure = error
                continue
            self._sockets[version] = transport
            if self._closed:
                transport.close()
                raise OSError("closed while opening")
        if not self._sockets:
            raise failure
        self._timer = self._loop.call_later(self._idle, self._look_for_silence)

    def send_datagram(self, target: Target, data: bytes) -> None:
        """Send one datagram, or drop it: not permitted, unknown name, too long, full socket."""
        if self._closed or len(data) > MAX_DATAGRAM or target.kind != "address":
            return
        self._heard = self._loop.time()
        route = self._routes.get(target)
        if route is not None:
            self._routes.move_to_end(target)
            self._send(route, data)
            return
        ip = target.ip
        if ip is not None:
            try:
                self._reach(target, self._judge(ip, target.port), (data,))
            except DialError:
                pass
            return
        waiting = self._waiting.get(target)
        if waiting is not None:
            if len(waiting) < MAX_WAITING:
                waiting.append(data)
        elif len(self._waiting) < MAX_LOOKUPS:
            self._waiting[target] = [data]
            task = self._loop.create_task(self._look_up(target))
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)

    def close(self) -> None:
        """End the association; nothing is told."""
        if self._closed:
            return
        self._closed = True
        for task in self._lookups:
            task.cancel()
        for transport in self._sockets.values():
            transport.close()
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        self._routes.clear()
        self._on_end(self)

    def lose(self, exc: DialError | None) -> None:
        """End the association and say so."""
        if not self._closed:
            self.close()
            self._receiver.association_lost(exc)

    def received(self, data: bytes, address: Any) -> None:
        """A socket got a datagram."""
        host, port = str(address[0]).partition("%")[0], int(address[1])
        if self._closed or host not in self._peers:
            return
        self._heard = self._loop.time()
        source = self._sources.get((host, port))
        if source is None:
            source = Target(host, port)
            _remember(self._sources, (host, port), source)
        self._receiver.datagram_received(source, data)

    async def _look_up(self, target: Target) -> None:
        """Find the way to a name, judge it, and send what waits for it."""
        try:
            found = await self._addresses(target.host, target.port)
        except DialError:
            found = []
        waiting = self._waiting.pop(target, [])
        for ip in found:
            if ip.version in self._sockets:
                self._reach(target, ip, waiting)
                return

    def _reach(self, target: Target, ip: IP, waiting: Sequence[bytes]) -> None:
        """Remember that ``target`` is at ``ip``, which has been judged, and send."""
        transport = self._sockets.get(ip.version)
        if transport is not None:
            route = transport, (str(ip), target.port)
            _remember(self._routes, target, route)
            for data in waiting:
                self._send(route, data)

    def _send(self, route: Route, data: bytes) -> None:
        transport, address = route
        if transport.get_write_buffer_size() < MAX_UNSENT and not transport.is_closing():
            _remember(self._peers, address[0], None)
            transport.sendto(data, address)

    def _look_for_silence(self) -> None:
        """End the association after a long silence, else look again when it would be one."""
        left = self._heard + self._idle - self._loop.time()
        if left <= 0:
            self.lose(DialError(Reason.TIMED_OUT))
        else:
            self._timer = self._loop.call_later(left, self._look_for_silence)


class _Socket(asyncio.DatagramProtocol):
    """One family's socket."""

    __slots__ = ("_association",)

    def __init__(self, association: EgressAssociation) -> None:
        self._association = association

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Pass it on."""
        self._association.received(data, addr)

    def error_received(self, exc: Exception) -> None:
        """An ICMP error (a closed port): for the client the datagram was lost, as datagrams may be."""


def _remember(known: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    """Keep ``key``, and at most :data:`MAX_PEERS` of them."""
    known[key] = value
    known.move_to_end(key)
    if len(known) > MAX_PEERS:
        known.popitem(last=False)
