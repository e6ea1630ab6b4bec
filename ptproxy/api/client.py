"""``ptproxy.connect``: a tunnel to a bridge, for as long as a program wants it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl as tls
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from ptproxy.api.datagrams import Datagrams
from ptproxy.api.failures import ConnectError
from ptproxy.api.sockets import Sockets
from ptproxy.api.source import ClientSource, client_settings
from ptproxy.api.streams import LIMIT, Streams, open_streams
from ptproxy.config.link import Link
from ptproxy.errors import DialError, PtproxyError, Reason
from ptproxy.proxy.client import prepared
from ptproxy.proxy.documents import DocumentsInMemory
from ptproxy.proxy.first_carrier import not_connected
from ptproxy.proxy.remembered import RememberedWays
from ptproxy.state import StateFolder
from ptproxy.target import Target, TargetError
from ptproxy.tunnel.stream import Association, DatagramReceiver, Dialer, Stream
from ptproxy.tunnel.surroundings import watch_network

PATIENCE: Final = 5.0
"""Seconds that the end of a client waits for sockets that it has broken off."""


class Client:
    """A client of one bridge; :func:`connect` makes it. Not to be used from another thread.

    ``host`` is a name, resolved at the bridge, or an IP address. What fails is a
    :class:`~ptproxy.api.failures.ConnectError`, which is an ``OSError``.
    """

    def __init__(self, dialer: Dialer, bridge: Link) -> None:
        self.dialer = dialer
        """What everything goes through: a :class:`~ptproxy.tunnel.stream.Dialer`."""
        self.bridge = bridge
        """The link of the bridge."""
        self._loop = asyncio.get_running_loop()
        self._sockets = Sockets(self._loop, dialer)

    async def open_connection(
        self,
        host: str,
        port: int,
        *,
        limit: int = LIMIT,
        ssl: tls.SSLContext | bool | None = None,
        server_hostname: str | None = None,
        first_data: bytes = b"",
    ) -> Streams:
        """A stream to ``host`` and ``port``, as :func:`asyncio.open_connection` gives it.

        ``ssl``: a context, or True for the system's authorities: TLS with the
        target, whose certificate is for ``server_hostname`` (``host`` without
        one). It stands on a socket (:meth:`open_socket`), as asyncio's TLS needs
        one. ``first_data`` travels with the request and saves a round trip; not
        with ``ssl``. ``limit`` is the reader's buffer, in bytes.
        """
        if not ssl:
            target = _target(host, port)
            with _failures():
                return await open_streams(self.dialer, target, limit=limit, first_data=first_data)
        if first_data:
            raise ValueError("first_data would be sent in the clear: not together with ssl")
        sock = await self.open_socket(host, port)
        try:
            return await asyncio.open_connection(
                sock=sock,
                ssl=tls.create_default_context() if ssl is True else ssl,
                server_hostname=host if server_hostname is None else server_hostname,
                limit=limit,
            )
        except BaseException:
            sock.close()
            raise

    async def open_service(self, name: str, *, limit: int = LIMIT) -> Streams:
        """A stream to a service of the bridge itself, as :func:`ptproxy.serve` offers them."""
        try:
            target = Target.service(name)
        except TargetError as error:
            raise ValueError(str(error)) from None
        with _failures():
            return await open_streams(self.dialer, target, limit=limit)

    async def open_socket(self, host: str, port: int) -> socket.socket:
        """A stream as a connected, non-blocking socket of this machine; its owner closes it.

        For libraries that take a socket. It costs a copy through the kernel each way.
        """
        target = _target(host, port)
        with _failures():
            return await self._sockets.open(target)

    async def open_datagrams(self) -> Datagrams:
        """A UDP socket at the bridge."""
        with _failures():
            return await Datagrams.open(self.dialer)

    async def dial(self, target: Target, protocol: asyncio.Protocol, first_data: bytes = b"") -> Stream:
        """The stream itself: an asyncio transport with ``protocol`` on it.

        As :meth:`ptproxy.tunnel.stream.Dialer.dial`: data may be a view that is
        valid during the call only. Raises :class:`~ptproxy.errors.DialError`.
        """
        return await self.dialer.dial(target, protocol, first_data)

    async def associate(self, receiver: DatagramReceiver) -> Association:
        """A UDP association itself; raises :class:`~ptproxy.errors.DialError`."""
        return await self.dialer.associate(receiver)

    async def close_sockets(self) -> None:
        """Break off the sockets that are still open; :func:`connect` does it at its end."""
        await self._sockets.close(PATIENCE)


@contextlib.asynccontextmanager
async def connect(
    source: ClientSource, *, state: str | os.PathLike[str] | None = None, **options: Any
) -> AsyncIterator[Client]:
    """A tunnel to a bridge: ``async with ptproxy.connect(link) as client``.

    ``source`` is a ``ptproxy://`` link, a client's configuration file, or either
    of them read already. With a link, ``state`` is the folder for the client's
    key and memory (without one they are gone with the tunnel), and ``options``
    are a configuration's keys: ``shape="none"``, ``codec=["http"]``,
    ``tls={"fingerprint": "firefox"}``.

    The tunnel stands when the block begins, mends itself while it runs, and is
    closed with all its streams at its end. Raises
    :class:`~ptproxy.errors.ConfigError` or :class:`~ptproxy.errors.StartError`
    (a bridge that is not reached, or does not let us in).
    """
    settings = client_settings(source, Path(state) if state is not None else None, options)
    config, loop = settings.config, asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        documents: StateFolder | DocumentsInMemory = DocumentsInMemory()
        if settings.folder is not None:
            documents = stack.enter_context(StateFolder(settings.folder))
        remembered = RememberedWays(documents.document("ways"))
        stack.push_async_callback(remembered.save)
        make = await stack.enter_async_context(
            prepared(config, loop, documents, settings.key, remembered.ways)
        )
        tunnel = make(config.bridge)
        stack.push_async_callback(tunnel.stop)
        stack.callback(watch_network(loop, tunnel.dialer, remembered.ways).close)
        try:
            await tunnel.start()
        except PtproxyError as error:
            raise not_connected(config.bridge, error) from None
        client = Client(tunnel.dialer, config.bridge)
        stack.push_async_callback(client.close_sockets)
        yield client


def _target(host: str, port: int) -> Target:
    """A checked target; what cannot be one is the caller's mistake, and no stranger's."""
    try:
        return Target.address(host, port)
    except TargetError as error:
        raise ConnectError(Reason.NAME_NOT_FOUND, f"{host[:60]!r} port {port}: {error}") from None


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """What a dialer says, as an ``OSError``."""
    try:
        yield
    except ConnectError:
        raise
    except DialError as error:
        raise ConnectError.of(error) from None
