"""A directory node's datagrams: UDP sockets, messages cut and joined, requests bounded by address.

No task, future or transport object per datagram: the loop says that a socket is readable, and all
that waits there (:data:`AT_ONCE` at most) is read in one go. What cannot be sent at once is
lost, as it might be anywhere on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from ptproxy.dht import datagrams
from ptproxy.dht.contact import Address
from ptproxy.dht.identifier import Rng
from ptproxy.errors import DhtError, StartError, why

AT_ONCE: Final = 64
"""Datagrams read in one turn of the loop: 16 requests, a few milliseconds of answering."""
BUFFER: Final = 1 << 20
"""Bytes that the kernel is asked to keep for us, 200 requests; it may grant less."""
MAX_ADDRESSES: Final = 4_096
"""Addresses kept in the form that we use; all nodes of a process share them."""

Arrived: TypeAlias = Callable[[bytes, Address], None]
"""Takes a message and where it came from. May raise :class:`DhtError`: it is ignored then, and counted."""


class DirectorySocket:
    """The sockets of one node, one for each address it listens on (so one for each family)."""

    __slots__ = (
        "_arrived", "_clock", "_loop", "_read_all", "_reassembly", "_rng", "_sockets", "ignored", "unsent",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listen: Sequence[tuple[str, int] | socket.socket],
        arrived: Arrived,
        read_all: Callable[[], None],
        rng: Rng,
        clock: Callable[[], float],
    ) -> None:
        """``listen``: IP literals and ports, or sockets of :func:`bind_datagrams`, ours from now on;
        ``read_all`` is called after the last of some messages.

        Raises :class:`StartError` where one of them cannot be had.
        """
        self.ignored = 0
        """Datagrams and messages that were none."""
        self.unsent = 0
        """Datagrams that the system did not take."""
        self._loop = loop
        self._arrived = arrived
        self._read_all = read_all
        self._rng = rng
        self._clock = clock
        self._reassembly = datagrams.Reassembly()
        self._sockets: dict[int, socket.socket] = {}
        try:
            for place in listen:
                self._add(place if isinstance(place, socket.socket) else bind_datagrams(*place))
        except BaseException:
            self.close()
            raise

    @property
    def listening(self) -> list[Address]:
        """Where, with the ports that the system chose where 0 was asked for."""
        return [address_of(*one.getsockname()[:2]) for one in self._sockets.values()]

    def reaches(self, address: Address) -> bool:
        """Whether there is a socket of that address's family."""
        return len(address.host) in self._sockets

    def send(self, address: Address, message: bytes) -> None:
        """Send a message."""
        sender = self._sockets.get(len(address.host))
        if sender is None:
            self.unsent += 1
            return
        target = _sockaddr(address)
        for datagram in datagrams.cut(message, self._rng):
            try:
                sender.sendto(datagram, target)
            except OSError:  # a full buffer, no route, a firewall: lost, as on the way
                self.unsent += 1

    def close(self) -> None:
        """Close the sockets. May be called twice."""
        for one in self._sockets.values():
            with contextlib.suppress(NotImplementedError):
                self._loop.remove_reader(one)
            one.close()
        self._sockets.clear()

    def _add(self, one: socket.socket) -> None:
        size = 16 if one.family == socket.AF_INET6 else 4
        if size in self._sockets:
            one.close()
            raise StartError("listen: a directory node listens on one address of each family at most")
        self._sockets[size] = one
        try:
            self._loop.add_reader(one, self._readable, one)
        except NotImplementedError:
            raise StartError("loop: this event loop cannot wait for datagrams; set loop: uvloop") from None

    def _readable(self, one: socket.socket) -> None:
        now = self._clock()
        for _ in range(AT_ONCE):
            try:
                data, source = one.recvfrom(datagrams.DATAGRAM + 1)
            except OSError:  # nothing more; or an ICMP error that belongs to something sent
                break
            try:
                address = address_of(source[0], source[1])
                message = self._reassembly.receive_datagram(data, address, now)
                if message is not None:
                    self._arrived(message, address)
            except DhtError:
                self.ignored += 1
        self._read_all()


def bind_datagrams(host: str, port: int) -> socket.socket:
    """A UDP socket at an IP literal and port; raises :class:`StartError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    one = socket.socket(family, socket.SOCK_DGRAM)
    try:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((host, port))
    except OSError as error:
        one.close()
        raise StartError(f"listen: cannot listen on {host} port {port} (UDP): {why(error)}") from None
    return one


@lru_cache(MAX_ADDRESSES)
def address_of(host: str, port: int) -> Address:
    """An address as the system writes it; :class:`DhtError` for one that no node can have."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        packed = socket.inet_pton(family, host.partition("%")[0])
    except OSError:
        raise DhtError("an address of no known kind") from None
    return Address.parse(bytes((4 if len(packed) == 4 else 6,)) + packed + port.to_bytes(2, "big"))[0]


@lru_cache(MAX_ADDRESSES)
def _sockaddr(address: Address) -> tuple[str, int]:
    family = socket.AF_INET if len(address.host) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address.host), address.port
