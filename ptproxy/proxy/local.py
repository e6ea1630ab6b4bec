"""The local proxy: programs on one side, a :class:`~ptproxy.tunnel.stream.Dialer` on the other.

:class:`LocalProxy` listens, counts and stops; what happens on one connection is
in :mod:`~ptproxy.proxy.local_connection`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from ptproxy.config.quantities import Endpoint
from ptproxy.front import Users
from ptproxy.proxy.deadlines import Deadlines
from ptproxy.proxy.forward import ForwardedConnection
from ptproxy.proxy.local_connection import LocalConnection
from ptproxy.target import Target
from ptproxy.tunnel.listen import Listener, listen_tcp
from ptproxy.tunnel.stream import Dialer

PATIENCE: Final = 5.0
"""Seconds that :meth:`LocalProxy.stop` waits for what it has broken off; the loop needs a few turns."""


@dataclass(frozen=True, slots=True)
class LocalLimits:
    """What local programs may use up."""

    connections: int = 4096
    """Connections at once; further ones are reset. Each costs two descriptors at most."""
    associations: int = 256
    """UDP associations at once; further ones are refused."""
    head_timeout: float = 60.0
    """Seconds for a whole request to arrive, and that a kept HTTP connection may idle."""
    linger: float = 2.0
    """Seconds for a program to read an answer that ends the connection, and to close its side."""


class LocalProxy:
    """Listens for local programs and takes them to a dialer."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dialer: Dialer,
        *,
        users: Users | None = None,
        limits: LocalLimits | None = None,
    ) -> None:
        self.loop = loop
        self.dialer = dialer
        self.users = users
        self.limits = limits if limits is not None else LocalLimits()
        self.associations = 0
        self.heads: Deadlines[LocalConnection] = Deadlines(
            loop, self.limits.head_timeout, LocalConnection.overdue
        )
        self.farewells: Deadlines[LocalConnection] = Deadlines(
            loop, self.limits.linger, LocalConnection.overdue
        )
        self.tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[Listener] = []
        self._open: dict[object, Callable[[], None]] = {}  # connection or relay → how to break it
        self._empty: asyncio.Future[None] | None = None
        self.stopping = False

    @property
    def connections(self) -> int:
        """How many local connections there are."""
        return len(self._open)

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Listen there too; ``host`` is an IP literal, port 0 lets the system choose.

        Returns the address; raises ``OSError``.
        """
        return await self._listen(self.connection, host, port)

    async def forward(self, host: str, port: int, target: Target) -> tuple[str, int]:
        """Listen there for programs that all want ``target``; as :meth:`listen`."""
        return await self._listen(lambda: ForwardedConnection(self, target), host, port)

    async def _listen(self, factory: Callable[[], LocalConnection], host: str, port: int) -> tuple[str, int]:
        listener = await listen_tcp(self.loop, factory, host, port)
        self._listeners.append(listener)
        bound_host, bound_port = listener.sockets[0].getsockname()[:2]
        return bound_host, bound_port

    def take(self, sock: socket.socket) -> None:
        """Listen on a socket that is bound, and maybe listens, already; it is the proxy's from now on."""
        self._listeners.append(Listener(self.loop, self.connection, sock))

    def leave(self, address: str) -> None:
        """Listen at this ``HOST:PORT`` no more; connections that came there go on."""
        for listener in self._listeners:
            for sock in listener.sockets:
                if str(Endpoint(*sock.getsockname()[:2])) == address:
                    listener.close()

    def connection(self) -> LocalConnection:
        """What a connection that was accepted begins with."""
        return LocalConnection(self)

    def end_listening(self) -> None:
        """Let nobody in any more; what is open goes on."""
        self.stopping = True
        for listener in self._listeners:
            listener.close()

    async def stop(self, drain: float = 0.0) -> None:
        """Stop listening; what is open may end within ``drain`` seconds, then it is broken off."""
        self.end_listening()
        for connection in list(self._open):
            if isinstance(connection, LocalConnection) and connection.idle:
                connection.leave()
        if drain > 0:
            await self._until_empty(drain)
        for break_off in list(self._open.values()):
            break_off()
        await self._until_empty(PATIENCE)
        while self.tasks:
            await asyncio.wait(self.tasks)
        for listener in self._listeners:
            await listener.wait_closed()
        self.heads.close()
        self.farewells.close()

    async def _until_empty(self, seconds: float) -> None:
        """Wait until nothing is open, at most ``seconds``."""
        if self._open:
            self._empty = self.loop.create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._empty
            self._empty = None

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A connection's task, awaited by :meth:`stop`."""
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def admit(self, connection: object, break_off: Callable[[], None]) -> bool:
        """Count a connection in, if there is room."""
        if self.stopping or len(self._open) >= self.limits.connections:
            return False
        self._open[connection] = break_off
        return True

    def hand_over(self, connection: object, relay: object, break_off: Callable[[], None]) -> None:
        """What ``connection`` was is now ``relay``."""
        del self._open[connection]
        self._open[relay] = break_off

    def forget(self, connection: object) -> None:
        """Count a connection or relay out."""
        self._open.pop(connection, None)
        if not self._open and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)
