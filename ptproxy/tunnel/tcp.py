"""TCP and Unix sockets as asyncio transports, the fast ones where they exist.

``aiofastnet`` makes transports in C on any event loop; where it is missing (or
``PTPROXY_TRANSPORTS=asyncio`` says so) the loop's own are used. Two promises
hold either way, and everything above relies on them:

- ``write()`` accepts any buffer and never keeps a reference to one that may
  change: with aiofastnet because it copies what it cannot send at once, with
  plain asyncio because :class:`BufferedReads` hands out ``bytes`` there.
- ``data_received(data)`` of a :class:`BufferedReads` gets a view that is valid
  during the call only.

Whoever gives up on a connection that is being made (a time-out, a cancel) leaves
nothing of it behind: from the moment that a transport has its socket, only the
transport closes that.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, cast

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, Reason
from ptproxy.tunnel.outward import STRAIGHT, Connects
from ptproxy.tunnel.polling import PolledLoop, polled

READ_SIZE: Final = 256 * 1024
"""Bytes of the one buffer that a thread's carriers read into: a window's worth, sixteen TLS records."""

LEAST_READ: Final = 4 * 1024
"""Bytes of a read at least, for whoever may keep less: reads and frames of a few bytes would cost more."""

TLS_BUFFER: Final = 4 * (16 * 1024 + 64)
"""Bytes of the two buffers that a TLS connection has for itself at a listener: four records with their heads.
aiofastnet's own size is four times that, 514 KiB a connection, which a thousand clients fill."""

UNSENT_LOW_WATER: Final = 128 * 1024
"""Bytes the kernel may hold unsent on a carrier (TCP_NOTSENT_LOWAT), so that what is urgent
waits behind little."""

SHUTDOWN_TIMEOUT: Final = 5.0
"""Seconds a TLS connection may take over its close_notify exchange."""

Factory = Callable[[], asyncio.BaseProtocol]
"""Makes the protocol of a connection."""

_fast: Any = None
if os.environ.get("PTPROXY_TRANSPORTS") != "asyncio":
    with contextlib.suppress(ImportError):
        import aiofastnet as _fast

_PlainTransport: Any = None
"""aiofastnet's transport itself, which its coroutines make and then wait for: for connections without TLS
there is nothing to wait for. Only of the version that is known to make it so; else its coroutines do it."""
if _fast is not None and getattr(_fast, "__version__", "").startswith("1.2."):
    with contextlib.suppress(ImportError):
        from aiofastnet.selector_transport import SelectorSocketTransport

        _PlainTransport = SelectorSocketTransport

FAST: bool = _fast is not None
"""Whether aiofastnet carries the connections."""


class _Shared(threading.local):
    """The buffer that all connections of a thread's event loop read into.

    Never one for several threads: a read lets other threads run between the bytes' arrival and their use,
    and a program may have a bridge and clients, or two blocking clients, each with a loop of its own.
    """

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(READ_SIZE))


_shared = _Shared()

_TCP_NOTSENT_LOWAT = getattr(
    socket, "TCP_NOTSENT_LOWAT", 25 if os.name == "posix" and hasattr(os, "sched_getaffinity") else None
)


def read_buffer(room: int) -> memoryview:
    """The shared buffer for the next read of somebody who may keep ``room`` bytes."""
    if room >= READ_SIZE:
        return _shared.buffer
    return _shared.buffer[: room if room > LEAST_READ else LEAST_READ]


class BufferedReads(asyncio.BufferedProtocol):
    """A protocol whose reads all go through its thread's one buffer: no allocation a read.

    Subclasses define ``data_received(data)``; ``data`` is valid during the call only.
    """

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (the buffer is what it is)
        """The shared buffer; whatever is read is dealt with before the next read."""
        return _shared.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over what was read: a view, or a copy where transports keep references."""
        data = _shared.buffer[:nbytes]
        self.data_received(data if FAST else bytes(data))

    def data_received(self, data: Buffer) -> None:
        """What arrived."""
        raise NotImplementedError


def reason_of(error: BaseException) -> Reason:
    """The reason that an operating system error of a connect stands for."""
    if isinstance(error, DialError):
        return error.reason
    if isinstance(error, ConnectionRefusedError):
        return Reason.REFUSED
    if isinstance(error, TimeoutError):
        return Reason.TIMED_OUT
    if isinstance(error, ConnectionError):
        return Reason.CONNECTION_LOST
    if isinstance(error, socket.gaierror):
        return Reason.NAME_NOT_FOUND
    if isinstance(error, OSError):
        return {
            errno.ENETUNREACH: Reason.NETWORK_UNREACHABLE,
            errno.ENETDOWN: Reason.NETWORK_UNREACHABLE,
            errno.EAFNOSUPPORT: Reason.NETWORK_UNREACHABLE,
            errno.EADDRNOTAVAIL: Reason.NETWORK_UNREACHABLE,
            errno.EHOSTUNREACH: Reason.HOST_UNREACHABLE,
            errno.EHOSTDOWN: Reason.HOST_UNREACHABLE,
            errno.ETIMEDOUT: Reason.TIMED_OUT,
            errno.EACCES: Reason.NOT_PERMITTED,
            errno.EPERM: Reason.NOT_PERMITTED,
        }.get(error.errno or 0, Reason.GENERAL)
    return Reason.GENERAL


async def connect_tcp(
    loop: asyncio.AbstractEventLoop,
    protocol: asyncio.BaseProtocol,
    host: str,
    port: int,
    timeout: float,  # noqa: ASYNC109  (a limit of the connect itself, reported as a DialError)
    *,
    tls: ssl.SSLContext | None = None,
    server_hostname: str | None = None,
    outward: Connects = STRAIGHT,
) -> asyncio.Transport:
    """Connect to an IP literal within ``timeout`` seconds (name look-ups are the caller's).

    Raises :class:`~ptproxy.errors.DialError` with the reason for a connect that
    failed; ``ssl.SSLError`` passes through.
    """
    connecting = outward.connect(loop, (host, port))
    return await _connect(loop, protocol, connecting, timeout, tls, server_hostname)


async def connect_unix(
    loop: asyncio.AbstractEventLoop,
    protocol: asyncio.BaseProtocol,
    path: str,
    timeout: float,  # noqa: ASYNC109  (a limit of the connect itself, reported as a DialError)
) -> asyncio.Transport:
    """Connect to a Unix socket within ``timeout`` seconds; raises :class:`~ptproxy.errors.DialError`."""
    return await _connect(loop, protocol, _connected_unix(loop, path), timeout, None, None)


async def _connected_unix(loop: asyncio.AbstractEventLoop, path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, path)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect(
    loop: asyncio.AbstractEventLoop,
    protocol: asyncio.BaseProtocol,
    connecting: Coroutine[Any, Any, socket.socket],
    timeout: float,  # noqa: ASYNC109  (as above)
    tls: ssl.SSLContext | None,
    server_hostname: str | None,
) -> asyncio.Transport:
    try:
        async with asyncio.timeout(timeout):
            sock = await connecting
            options: dict[str, Any] = {}
            if tls is not None:
                options = {
                    "ssl": tls,
                    "server_hostname": server_hostname,
                    "ssl_shutdown_timeout": SHUTDOWN_TIMEOUT,
                }
            birth = _Birth(lambda: protocol)
            if tls is None and makes_plain(loop):
                making = _plain(loop, birth, sock)
            elif _fast is not None:
                making = _fast.create_connection(_seen(loop), birth.factory, sock=sock, **options)
            else:
                making = loop.create_connection(birth.factory, sock=sock, **options)
            return await _made(loop, making, birth, sock)
    except ssl.SSLError:
        raise
    except OSError as error:
        raise DialError(reason_of(error)) from error


async def adopt(
    loop: asyncio.AbstractEventLoop,
    factory: Factory,
    sock: socket.socket,
    *,
    tls: ssl.SSLContext | None = None,
    timeout: float,  # noqa: ASYNC109  (a limit of the handshake itself)
) -> asyncio.Transport:
    """Put a protocol of the factory's on an accepted socket, after a TLS handshake of ``timeout`` seconds.

    Raises ``OSError`` (``ssl.SSLError`` is one) where that fails.
    """
    options: dict[str, Any] = {}
    if tls is not None:
        options = {
            "ssl": tls,
            "ssl_handshake_timeout": timeout,
            "ssl_shutdown_timeout": SHUTDOWN_TIMEOUT,
        }
        if _fast is not None:
            options |= {"ssl_incoming_bio_size": TLS_BUFFER, "ssl_outgoing_bio_size": TLS_BUFFER}
    sock.setblocking(False)
    _send_at_once(sock)
    birth = _Birth(factory)
    if _fast is not None:
        making = _fast.connect_accepted_socket(_seen(loop), birth.factory, sock, **options)
    else:
        making = loop.connect_accepted_socket(birth.factory, sock, **options)
    return await _made(loop, making, birth, sock)


def adopt_plain(
    loop: asyncio.AbstractEventLoop, factory: Factory, sock: socket.socket
) -> asyncio.Transport | None:
    """Put a protocol of the factory's on an accepted socket, without a task: nothing is to be waited for.

    Its ``connection_made`` is called on the next turn. None where only :func:`adopt` can do it; then
    nothing has been done. Raises ``OSError``.
    """
    if not makes_plain(loop):
        return None
    sock.setblocking(False)
    _send_at_once(sock)
    return make_plain(loop, factory(), sock)


def makes_plain(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether :func:`make_plain` can be used: not on Windows' completion loop, nor without aiofastnet."""
    return _fast is not None and _PlainTransport is not None and isinstance(_seen(loop), PolledLoop)


def make_plain(
    loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, sock: socket.socket
) -> asyncio.Transport:
    """A transport without TLS on a non-blocking socket that is connected.

    ``connection_made`` is called on the next turn, also of one that is aborted before. Only where
    :func:`makes_plain` says so.
    """
    return cast("asyncio.Transport", _PlainTransport(polled(loop), sock, protocol))


def _send_at_once(sock: socket.socket) -> None:
    """Else what a stream brings in pieces waits 40 ms for an ACK."""
    with contextlib.suppress(OSError):  # a Unix socket has no such thing
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _plain(
    loop: asyncio.AbstractEventLoop, birth: _Birth, sock: socket.socket
) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
    """What aiofastnet's ``create_connection`` does with a socket that is connected, and no more."""
    waiter = loop.create_future()
    transport = _PlainTransport(polled(loop), sock, birth, waiter=waiter)
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
    return transport, birth


class _Birth(asyncio.Protocol):
    """Stands on a connection until it is made, so that one given up meanwhile is known and dropped."""

    __slots__ = ("_factory", "_given_up", "_transport")

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self._transport: asyncio.Transport | None = None
        self._given_up = False

    def factory(self) -> asyncio.BaseProtocol:
        """The first protocol of the transport."""
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is its protocol's from now on."""
        made = cast("asyncio.Transport", transport)
        if self._given_up:
            made.abort()
            return
        self._transport = made
        protocol = self._factory()
        made.set_protocol(protocol)
        protocol.connection_made(transport)

    def give_up(self) -> None:
        """Nobody waits for the connection: it ends at once, with what was written and not sent."""
        self._given_up = True
        if self._transport is not None:
            self._transport.abort()


async def _made(
    loop: asyncio.AbstractEventLoop,
    making: Awaitable[tuple[asyncio.BaseTransport, asyncio.BaseProtocol]],
    birth: _Birth,
    sock: socket.socket,
) -> asyncio.Transport:
    """The transport that is being made."""
    try:
        transport, _ = await making
    except asyncio.CancelledError:
        birth.give_up()  # one that is not yet made closes its socket by itself
        raise
    except BaseException:
        birth.give_up()
        sock.close()  # where there is a transport, it failed and watches the socket no more
        raise
    finally:
        seen = _seen(loop)
        if isinstance(seen, PolledLoop):
            seen.handshake_over(sock)
    return cast("asyncio.Transport", transport)


def _seen(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop | PolledLoop:
    """The loop as aiofastnet is to see it (the completion loop of Windows it must recognise)."""
    proactor = getattr(asyncio, "ProactorEventLoop", None)
    return loop if proactor is not None and isinstance(loop, proactor) else polled(loop)


def tune(transport: asyncio.BaseTransport) -> None:
    """No waiting for more to send, and at most :data:`UNSENT_LOW_WATER` unsent bytes in the kernel."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family == getattr(socket, "AF_UNIX", None):
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if _TCP_NOTSENT_LOWAT is not None:
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_LOW_WATER)


def send_reset(transport: asyncio.Transport) -> None:
    """Break the connection so that the peer sees a reset, not an end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    transport.abort()
