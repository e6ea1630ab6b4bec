"""A stream as a real socket, for libraries that take nothing else.

The socket is one end of a connection within this machine, over loopback; the
other end is coupled with the stream, rules and all (:mod:`ptproxy.tunnel.relay`):
half-closes pass, and a broken stream resets the socket, so that a cut transfer
never looks complete. (A pair of Unix sockets could not say that.)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

from ptproxy.target import Target
from ptproxy.tunnel.relay import StreamEnd, TcpEnd, couple
from ptproxy.tunnel.stream import Dialer
from ptproxy.tunnel.tcp import adopt, send_reset

PAIR_TIMEOUT: Final = 10.0
"""Seconds for the two ends to find each other; only a machine that is stuck needs any of them."""
STRANGERS: Final = 16
"""Backlog while they do: another program of this machine that connects in between is turned away."""


class Sockets:
    """The sockets of one client: they are gone when it is."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dialer: Dialer) -> None:
        self._loop = loop
        self._dialer = dialer
        self._open: set[TcpEnd] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    async def open(self, target: Target) -> socket.socket:
        """A connected, non-blocking socket to ``target``; its owner closes it.

        Raises :class:`~ptproxy.errors.DialError`, and ``OSError`` for a machine without sockets.
        """
        near, far = await socket_pair(self._loop)
        try:
            await self._couple(far, target)
        except BaseException:
            near.close()
            raise
        return near

    async def close(self, patience: float) -> None:
        """Break off what is still open."""
        for end in list(self._open):
            send_reset(end.transport)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._empty.wait()

    async def _couple(self, far: socket.socket, target: Target) -> None:
        """Put ``far`` and a new stream together."""
        local, remote = TcpEnd(), StreamEnd()
        transport = await adopt(self._loop, _Quiet, far, timeout=PAIR_TIMEOUT)
        try:
            couple(local, remote, self._forget(local))
            local.connection_made(transport)
            remote.data_received = transport.write
            stream = await self._dialer.dial(target, remote)
        except BaseException:
            transport.abort()
            await asyncio.sleep(0)
            raise
        self._open.add(local)
        self._empty.clear()
        local.data_received = stream.write
        transport.set_protocol(local)

    def _forget(self, end: TcpEnd) -> Callable[[], None]:
        def forget() -> None:
            self._open.discard(end)
            if not self._open:
                self._empty.set()

        return forget


class _Quiet(asyncio.Protocol):
    """On the far end until its stream is there: nobody has the near one yet, so nothing comes."""


async def socket_pair(loop: asyncio.AbstractEventLoop) -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets of this process, both non-blocking; raises ``OSError``."""
    with socket.create_server(("127.0.0.1", 0), backlog=STRANGERS) as listener:
        listener.setblocking(False)
        near = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            near.setblocking(False)
            async with asyncio.timeout(PAIR_TIMEOUT):
                await loop.sock_connect(near, listener.getsockname())
                ours = near.getsockname()
                while True:
                    far, peer = await loop.sock_accept(listener)
                    if peer == ours:
                        break
                    far.close()
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            near.close()
            raise
        return near, far
