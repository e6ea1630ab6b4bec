"""A SOCKS5 program's UDP association: a local socket coupled with an association at the far side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from ptproxy.errors import DialError, FrontError
from ptproxy.front import parse_datagram, serialize_datagram
from ptproxy.target import Target
from ptproxy.tunnel.stream import Association

MAX_UNSENT: Final = 256 * 1024
"""Bytes of datagrams for a local program that its socket did not take at once; above, they are dropped."""


class LocalDatagrams:
    """Receives the far side's datagrams, and passes on those of one local program.

    Only datagrams from ``host``, the address of the program that asked, are
    taken, and only from one port: the one it named, else the first it sends
    from. Everything else is dropped silently, as RFC 1928 section 7 wants.
    ``on_end`` is called when the far side ends it.
    """

    __slots__ = ("_association", "_host", "_on_end", "_port", "_socket", "closed")

    def __init__(self, host: str, port: int, on_end: Callable[[], None]) -> None:
        self.closed = False
        self._host = host
        self._port = port
        self._on_end = on_end
        self._association: Association | None = None
        self._socket: Any = None  # a DatagramTransport; typeshed lacks get_write_buffer_size()

    async def open(
        self, loop: asyncio.AbstractEventLoop, local_host: str, association: Association
    ) -> tuple[str, int]:
        """Bind a socket on ``local_host`` for ``association``; returns its address. Raises ``OSError``."""
        self._association = association
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _LocalSocket(self), local_addr=(local_host, 0)
        )
        self._socket = transport
        if self.closed:
            transport.close()
        host, port = transport.get_extra_info("sockname")[:2]
        return host, port

    def close(self) -> None:
        """End both sides."""
        self.closed = True
        association, self._association = self._association, None
        if association is not None:
            association.close()
        if self._socket is not None:
            self._socket.close()

    def socket_made(self, transport: asyncio.DatagramTransport) -> None:
        """The socket is open."""
        self._socket = transport
        if self.closed:
            transport.close()

    def local_datagram_received(self, data: bytes, host: str, port: int) -> None:
        """Something came to the local socket."""
        association = self._association
        if association is None or host != self._host or (self._port and port != self._port):
            return
        try:
            target, payload = parse_datagram(data)
        except FrontError:
            return
        self._port = port
        association.send_datagram(target, payload)

    # ---- the far side's receiver -------------------------------------------------------------------

    def datagram_received(self, source: Target, data: bytes) -> None:
        """A datagram came from ``source``, for the program if it has sent anything yet."""
        transport = self._socket
        if transport is None or not self._port or self.closed:
            return
        if transport.get_write_buffer_size() < MAX_UNSENT:
            transport.sendto(serialize_datagram(source, data), (self._host, self._port))

    def association_lost(self, exc: DialError | None) -> None:  # noqa: ARG002  (SOCKS5 cannot say why)
        """The far side ended it."""
        self._association = None
        if not self.closed:
            self.close()
            self._on_end()


class _LocalSocket(asyncio.DatagramProtocol):
    """The socket that the local program sends to. Errors of single datagrams are as good as their loss."""

    __slots__ = ("_datagrams",)

    def __init__(self, datagrams: LocalDatagrams) -> None:
        self._datagrams = datagrams

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # narrower
        """The socket is there."""
        self._datagrams.socket_made(transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """The local program has sent one."""
        self._datagrams.local_datagram_received(data, addr[0], addr[1])
