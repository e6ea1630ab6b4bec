"""A guard's UDP socket: messages as datagrams to directory nodes, and what comes back from those asked."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
from collections.abc import Callable
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any, Final

from ptproxy.dht.contact import Address
from ptproxy.dht.datagrams import Reassembly, cut
from ptproxy.dht.identifier import Rng
from ptproxy.errors import DhtError, why
from ptproxy.log import get_logger
from ptproxy.peers.find_frames import Letter

RECEIVE_BUFFER: Final = 1 << 20
"""Bytes of a socket's buffer: answers of a hundred questions come in one burst."""
MAX_WAITING: Final = 64
"""Letters that wait for a socket to be opened."""

_NO_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)

log = get_logger(__name__)


class GuardSocket(asyncio.DatagramProtocol):
    """A UDP socket of one family for one stream; what is sent before it is there waits."""

    def __init__(
        self,
        expects: Callable[[Address], bool],
        answered: Callable[[Letter], None],
        failed: Callable[[], None],
        rng: Rng,
        family: int,
    ) -> None:
        """``family``: bytes of its addresses, 4 or 16; ``expects``: whether something may come from there.

        ``failed`` is called once if the machine has no socket for us. One that does not know the family at
        all is no failure: letters to it are lost, as where there is no route.
        """
        self._expects = expects
        self._answered = answered
        self._failed = failed
        self._rng = rng
        self._pieces = Reassembly()
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: list[Letter] = []
        self._closed = False
        local = ("0.0.0.0", 0) if family == 4 else ("::", 0)  # nodes answer from anywhere
        loop = asyncio.get_running_loop()
        self._opening = loop.create_task(self._open(loop, local))

    async def _open(self, loop: asyncio.AbstractEventLoop, local: tuple[str, int]) -> None:
        try:
            await loop.create_datagram_endpoint(lambda: self, local)
        except OSError as error:
            self._waiting.clear()
            if error.errno in _NO_FAMILY:
                log.debug("a guard does not reach a family of addresses", why=why(error))
                return
            log.error("a guard has no socket", why=why(error))
            if not self._closed:
                self._failed()

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """It is there."""
        self._transport = transport
        with contextlib.suppress(OSError, AttributeError):  # as much as the system gives
            transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER)
        if self._closed:
            transport.close()
            return
        waiting, self._waiting = self._waiting, []
        for letter in waiting:
            self.send(letter)

    def send(self, letter: Letter) -> None:
        """Send a letter."""
        if self._transport is None:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append(letter)
            return
        where = str(ipaddress.ip_address(letter.address.host)), letter.address.port
        for datagram in cut(letter.message, self._rng):
            with contextlib.suppress(OSError):  # no route: lost
                self._transport.sendto(datagram, where)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """A piece of an answer; what comes from elsewhere is not even kept until it is whole."""
        loop = asyncio.get_running_loop()
        source = Address(ipaddress.ip_address(addr[0].partition("%")[0]).packed, addr[1])
        if not self._expects(source):
            return
        try:
            message = self._pieces.receive_datagram(data, source, loop.time())
        except DhtError:
            return
        if message is not None:
            self._answered(Letter(source, message))

    def error_received(self, exc: Exception) -> None:
        """Nobody is there: the lookup will notice."""

    def close(self) -> None:
        """Close it, also if it is only being opened."""
        self._closed = True
        self._waiting.clear()
        if self._transport is not None:
            self._transport.close()
