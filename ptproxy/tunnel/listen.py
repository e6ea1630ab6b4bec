"""Listening sockets: connections accepted, taken through TLS in bounded number, and ended together."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import weakref
from functools import partial
from typing import TYPE_CHECKING, Final

from ptproxy.errors import why
from ptproxy.log import get_logger
from ptproxy.tunnel import tcp

if TYPE_CHECKING:
    from ptproxy.tunnel.beside.doorway import Doorway  # a bridge's; clients listen as well

BACKLOG: Final = 4096
"""Connections the kernel may hold before they are accepted; it caps this by its own limit."""
ACCEPTS: Final = 64
"""Connections accepted in one turn of the loop, after which others get theirs."""
ACCEPT_PAUSE: Final = 0.2
"""Seconds without accepting once the process has no descriptor or memory for another connection."""
YIELDED: Final = 8
"""One in so many of the TLS handshakes under way, the oldest, is then ended to make room."""
MOST_HANDSHAKES: Final = 1024
"""Connections in their TLS handshake at once, unless told otherwise; one more ends the oldest, as
clients need a round trip or two and whoever holds a handshake open needs nothing."""
FAREWELL_TURNS: Final = 2
"""Turns of the loop that a transport takes to be gone once it was dropped."""
HANDSHAKE_TIMEOUT: Final = 60.0
"""Seconds for a TLS handshake unless told otherwise."""

_NETWORK: Final = frozenset({
    errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.ETIMEDOUT, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EPERM,
})  # fmt: skip
"""What accept(2) says of a connection that failed before it was accepted: the next one may be whole."""

log = get_logger(__name__)


class Listener:
    """One listening socket; each connection gets a protocol of the factory's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: tcp.Factory,
        sock: socket.socket,
        *,
        tls: ssl.SSLContext | None = None,
        handshake_timeout: float | None = None,
        most_handshakes: int = MOST_HANDSHAKES,
        backlog: int = BACKLOG,
        doorway: Doorway | None = None,
        accepts: int = ACCEPTS,
    ) -> None:
        """Listen on a bound socket; seconds and number of TLS handshakes under way.

        A ``doorway`` takes every connection instead, TLS and all. ``accepts`` are taken in one turn of
        the loop: one where several processes have the same socket, so that whoever is idle gets the next.
        """
        self.loop = loop
        self._factory = factory
        self._sock = sock
        self._tls = tls
        self._doorway = doorway
        self._timeout = handshake_timeout or HANDSHAKE_TIMEOUT
        self._most_handshakes = most_handshakes
        self._opening: dict[asyncio.Task[None], None] = {}  # oldest first
        self._transports: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()
        self._pause: asyncio.TimerHandle | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._crowded = False
        self._closed = False
        self._accepts = accepts
        sock.setblocking(False)
        sock.listen(backlog)
        try:
            loop.add_reader(sock.fileno(), self._accept)
        except NotImplementedError:  # the completion loop of Windows
            self._accepting = loop.create_task(self._accept_one_by_one())

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening socket, while it is open."""
        return () if self._closed else (self._sock,)

    @property
    def handshakes(self) -> int:
        """How many connections are between their acceptance and their protocol's ``connection_made``."""
        return len(self._opening)

    def close(self) -> None:
        """Stop listening and end the handshakes under way; connections made go on."""
        if self._closed:
            return
        self._closed = True
        if self._accepting is not None:
            self._accepting.cancel()
        elif self._pause is not None:
            self._pause.cancel()
        else:
            self.loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for task in self._opening:
            task.cancel()

    def stop_accepting(self) -> None:
        """Leave new connections to the kernel, or to whoever else has the socket; for POSIX loops."""
        if not self._closed:
            if self._pause is not None:
                self._pause.cancel()
                self._pause = None
            self.loop.remove_reader(self._sock.fileno())

    def go_on_accepting(self) -> None:
        """Accept again after :meth:`stop_accepting`."""
        if not self._closed:
            self._go_on()

    async def wait_closed(self) -> None:
        """After :meth:`close` and the last farewells: drop whatever connection is still closing.

        Transports that cannot be referred to weakly (uvloop's own over TLS) end with their loop.
        """
        left = [*self._opening, *([self._accepting] if self._accepting is not None else [])]
        if left:
            await asyncio.wait(left)
        for transport in list(self._transports):
            with contextlib.suppress(RuntimeError):  # uvloop's own, closed by now
                transport.abort()  # type: ignore[attr-defined]  # stream transports only
        for _ in range(FAREWELL_TURNS):
            await asyncio.sleep(0)

    # ---- accepting -----------------------------------------------------------------------------------

    def _accept(self) -> None:
        """Take what the kernel has, at most as much as one turn is to take."""
        for _ in range(self._accepts):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _NETWORK:
                    continue
                self._make_room(error)
                self.loop.remove_reader(self._sock.fileno())
                self._pause = self.loop.call_later(ACCEPT_PAUSE, self._go_on)
                return
            self._opened(sock)

    def _make_room(self, error: OSError) -> None:
        """No descriptor or memory for another connection: the oldest handshakes go."""
        if not self._crowded:
            log.warning("no room for another connection", why=why(error), handshakes=len(self._opening))
        self._crowded = True
        if self._doorway is not None:
            self._doorway.make_room()
        if self._tls is not None:
            for _ in range(len(self._opening) // YIELDED):
                self._end_oldest()

    def _end_oldest(self) -> None:
        oldest = next(iter(self._opening))
        del self._opening[oldest]
        oldest.cancel()

    def _go_on(self) -> None:
        """Some of those that were there may have ended."""
        self._pause = None
        self.loop.add_reader(self._sock.fileno(), self._accept)

    async def _accept_one_by_one(self) -> None:
        """As :meth:`_accept`, where the loop cannot tell of a socket that is ready."""
        while True:
            try:
                sock, _ = await self.loop.sock_accept(self._sock)
            except OSError as error:
                self._make_room(error)
                await asyncio.sleep(ACCEPT_PAUSE)
            else:
                self._opened(sock)

    def _opened(self, sock: socket.socket) -> None:
        if self._doorway is not None:
            self._crowded = False
            self._doorway.enter(sock)
            return
        if self._tls is not None and len(self._opening) >= self._most_handshakes:
            self._end_oldest()
        self._crowded = False
        if self._tls is None and self._adopted(sock):
            return
        task = self.loop.create_task(self._open(sock))
        self._opening[task] = None
        task.add_done_callback(partial(self._through, sock))

    def _adopted(self, sock: socket.socket) -> bool:
        """Take a connection that has no handshake at once; whether that can be done here."""
        try:
            made = tcp.adopt_plain(self.loop, self._factory, sock)
        except OSError as error:
            sock.close()
            log.debug("a connection ended as it was accepted", why=type(error).__name__)
            return True
        if made is not None:
            self._transports.add(made)
        return made is not None

    def _through(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._opening.pop(task, None)
        if task.cancelled():  # before it began
            sock.close()

    async def _open(self, sock: socket.socket) -> None:
        """Take one connection through its handshake; what strangers do wrong there is their affair."""
        try:
            made = await tcp.adopt(self.loop, self._factory, sock, tls=self._tls, timeout=self._timeout)
        except OSError as error:  # ssl.SSLError is one
            log.debug("a connection ended in its handshake", why=type(error).__name__)
            return
        except asyncio.CancelledError:
            return  # the listener's own doing; nobody awaits the result
        if self._closed:
            made.abort()
        else:
            with contextlib.suppress(TypeError):
                self._transports.add(made)


async def listen_tcp(
    loop: asyncio.AbstractEventLoop,
    factory: tcp.Factory,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    handshake_timeout: float | None = None,
    most_handshakes: int = MOST_HANDSHAKES,
    backlog: int = BACKLOG,
    doorway: Doorway | None = None,
) -> Listener:
    """Listen on an IP literal; port 0 lets the system choose. Raises ``OSError`` for a taken port.

    ``[::]`` listens on IPv6 only, so that ``0.0.0.0`` beside it is not taken.
    """
    sock = bind_tcp(host, port)
    try:
        return Listener(
            loop, factory, sock,
            tls=tls, handshake_timeout=handshake_timeout, most_handshakes=most_handshakes, backlog=backlog,
            doorway=doorway,
        )  # fmt: skip
    except BaseException:
        sock.close()
        raise


def bind_tcp(host: str, port: int) -> socket.socket:
    """A socket bound to an IP literal, not yet listening; as :func:`listen_tcp`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def bind_tcp_shares(host: str, port: int, shares: int) -> list[socket.socket]:
    """So many sockets at one address, between which the kernel divides connections (SO_REUSEPORT).

    Each listens from now on. Raises ``OSError`` where anybody else listens there, another bridge included.
    """
    made: list[socket.socket] = []
    try:
        with bind_tcp(host, port) as alone:
            alone.listen(1)  # two that share would not notice each other; one that does not share does
            place = alone.getsockname()
        for _ in range(shares):
            sock = socket.socket(alone.family, socket.SOCK_STREAM)
            made.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(place)
        for sock in made:
            sock.listen(BACKLOG)
    except BaseException:
        for sock in made:
            sock.close()
        raise
    return made


async def listen_unix(
    loop: asyncio.AbstractEventLoop, factory: tcp.Factory, path: str, *, backlog: int = BACKLOG
) -> Listener:
    """Listen on a Unix socket (a stale one of the same path is replaced); ``OSError`` where that fails."""
    sock = bind_unix(path)
    try:
        return Listener(loop, factory, sock, backlog=backlog)
    except BaseException:
        sock.close()
        raise


def bind_unix(path: str) -> socket.socket:
    """A Unix socket of this name, not yet listening; as :func:`listen_unix`."""
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            probe.connect(path)
        raise OSError(errno.EADDRINUSE, "another process listens there", path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
    except BaseException:
        sock.close()
        raise
    return sock
