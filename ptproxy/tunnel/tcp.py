"""TCP and Unix sockets as asyncio transports, the fast ones where they exist.

``aiofastnet`` makes transports in C on any event loop; where it is missing (or
``PTPROXY_TRANSPORTS=asyncio`` says so) the loop's own are used. Two promises
hold either way, and everything above relies on them:

- ``write()`` accepts any buffer and never keeps a reference to one that may
  change: with aiofastnet because it copies what it cannot send at once, with
  plain asyncio because :class:`BufferedReads` hands out ``bytes`` there.
- ``data_received(data)`` of a :class:`BufferedReads` gets a view that is valid
  during the call only.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, Reason

READ_SIZE: Final = 256 * 1024
"""Bytes of the one buffer that all carrier reads go through: a window's worth, sixteen TLS records."""

BACKLOG: Final = 4096
"""Connections the kernel may hold before they are accepted; it caps this by its own limit."""

UNSENT_LOW_WATER: Final = 128 * 1024
"""Bytes the kernel may hold unsent on a carrier (TCP_NOTSENT_LOWAT), so that what is urgent
waits behind little."""

SHUTDOWN_TIMEOUT: Final = 5.0
"""Seconds a TLS connection may take over its close_notify exchange."""

_fast: Any = None
if os.environ.get("PTPROXY_TRANSPORTS") != "asyncio":
    with contextlib.suppress(ImportError):
        import aiofastnet as _fast

FAST: bool = _fast is not None
"""Whether aiofastnet carries the connections."""

_SHARED = memoryview(bytearray(READ_SIZE))

_TCP_NOTSENT_LOWAT = getattr(
    socket, "TCP_NOTSENT_LOWAT", 25 if os.name == "posix" and hasattr(os, "sched_getaffinity") else None
)


class BufferedReads(asyncio.BufferedProtocol):
    """A protocol whose reads all go through one shared buffer: no allocation a read.

    Subclasses define ``data_received(data)``; ``data`` is valid during the call only.
    """

    __slots__ = ()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (the buffer is what it is)
        """The shared buffer; whatever is read is dealt with before the next read."""
        return _SHARED

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over what was read: a view, or a copy where transports keep references."""
        self.data_received(_SHARED[:nbytes] if FAST else bytes(_SHARED[:nbytes]))

    def data_received(self, data: Buffer) -> None:
        """What arrived."""
        raise NotImplementedError


class Server(Protocol):
    """What the listen functions return: asyncio's server."""

    @property
    def sockets(self) -> tuple[Any, ...]:
        """The listening sockets."""

    def close(self) -> None:
        """Stop accepting."""

    async def wait_closed(self) -> None:
        """Wait until closed."""


Factory = Callable[[], asyncio.BaseProtocol]


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
) -> asyncio.Transport:
    """Connect to an IP literal within ``timeout`` seconds (name look-ups are the caller's).

    Raises :class:`~ptproxy.errors.DialError` with the reason for a connect that
    failed; ``ssl.SSLError`` passes through.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(timeout):
            await loop.sock_connect(sock, (host, port))
            kwargs: dict[str, Any] = {}
            if tls is not None:
                kwargs = {
                    "ssl": tls,
                    "server_hostname": server_hostname,
                    "ssl_shutdown_timeout": SHUTDOWN_TIMEOUT,
                }
            if _fast is not None:
                transport, _ = await _fast.create_connection(loop, lambda: protocol, sock=sock, **kwargs)
            else:
                transport, _ = await loop.create_connection(lambda: protocol, sock=sock, **kwargs)
    except ssl.SSLError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise DialError(reason_of(error)) from error
    except BaseException:
        sock.close()
        raise
    return cast("asyncio.Transport", transport)


async def connect_unix(
    loop: asyncio.AbstractEventLoop,
    protocol: asyncio.BaseProtocol,
    path: str,
    timeout: float,  # noqa: ASYNC109  (a limit of the connect itself, reported as a DialError)
) -> asyncio.Transport:
    """Connect to a Unix socket within ``timeout`` seconds; raises :class:`~ptproxy.errors.DialError`."""
    create = _fast.create_unix_connection if _fast is not None else type(loop).create_unix_connection
    try:
        async with asyncio.timeout(timeout):
            transport, _ = await create(loop, lambda: protocol, path)
    except OSError as error:
        raise DialError(reason_of(error)) from error
    return cast("asyncio.Transport", transport)


async def listen_tcp(
    loop: asyncio.AbstractEventLoop,
    factory: Factory,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    handshake_timeout: float | None = None,
    backlog: int = BACKLOG,
) -> Server:
    """Listen on an IP literal; port 0 lets the system choose. Raises ``OSError`` for a taken port.

    ``[::]`` listens on IPv6 only, so that ``0.0.0.0`` beside it is not taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind((host, port))
        kwargs: dict[str, Any] = {"sock": sock, "backlog": backlog}
        if tls is not None:
            kwargs |= {
                "ssl": tls,
                "ssl_shutdown_timeout": SHUTDOWN_TIMEOUT,
                "ssl_handshake_timeout": handshake_timeout,
            }
        if _fast is not None:
            return await _fast.create_server(loop, factory, **kwargs)  # type: ignore[no-any-return]  # untyped
        return await loop.create_server(factory, **kwargs)
    except BaseException:
        sock.close()
        raise


async def listen_unix(
    loop: asyncio.AbstractEventLoop, factory: Factory, path: str, *, backlog: int = BACKLOG
) -> Server:
    """Listen on a Unix socket (a stale one of the same path is replaced); ``OSError`` where that fails."""
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            probe.connect(path)
        raise OSError(errno.EADDRINUSE, "another process listens there", path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    create = _fast.create_unix_server if _fast is not None else type(loop).create_unix_server
    return await create(loop, factory, path, backlog=backlog)


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
