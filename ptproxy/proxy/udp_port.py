"""A UDP port of this machine for programs that know no proxy: forwarded ports and DNS stand on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

MAX_UNSENT: Final = 256 * 1024
"""Bytes for local programs that the socket did not take at once; above, datagrams are dropped."""


class UdpPort:
    """A local UDP port; ``receive(data, address)`` is called for each datagram."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[bytes, Any], None]) -> None:
        self._loop = loop
        self._receive = receive
        self._socket: Any = None  # a DatagramTransport; typeshed lacks get_write_buffer_size()

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Listen there; returns the address. Raises ``OSError``."""
        self._socket, _ = await self._loop.create_datagram_endpoint(
            lambda: _Port(self._receive), local_addr=(host, port)
        )
        bound: tuple[str, int] = self._socket.get_extra_info("sockname")[:2]
        return bound

    def send(self, data: bytes, address: Any) -> None:
        """Send one datagram; it may be lost, as datagrams may, and is while the socket is behind."""
        socket = self._socket
        if socket is not None and not socket.is_closing() and socket.get_write_buffer_size() < MAX_UNSENT:
            socket.sendto(data, address)

    async def close(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            self._socket.close()
        await asyncio.sleep(0)  # the loop's turn to let go of it


class _Port(asyncio.DatagramProtocol):
    """Errors of single datagrams are as good as their loss."""

    def __init__(self, receive: Callable[[bytes, Any], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._receive(data, addr)
