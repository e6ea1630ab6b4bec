"""httpx through a tunnel: ``httpx.AsyncClient(transport=TunnelTransport(client))``.

Names go to the bridge as they are. TLS is httpx's own, with the target.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

from ptproxy.api.client import Client
from ptproxy.errors import StartError

try:
    import httpcore
    import httpx
except ImportError:
    raise StartError("httpx is not installed: pip install 'ptproxy[httpx]'") from None


class TunnelTransport(httpx.AsyncHTTPTransport):
    """httpx's transport, whose connections are streams of a :class:`~ptproxy.api.client.Client`.

    ``limits`` are httpx's. It does not own the client.
    """

    def __init__(
        self,
        client: Client,
        *,
        verify: ssl.SSLContext | bool = True,
        http1: bool = True,
        http2: bool = False,
        limits: httpx.Limits | None = None,
        retries: int = 0,
    ) -> None:
        super().__init__(verify=False, trust_env=False)  # its pool of direct connections is never used
        kept = limits if limits is not None else httpx.Limits(max_connections=100)
        # httpx has no other place for a network of one's own; its pool is httpcore's, which has.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(verify=verify),
            max_connections=kept.max_connections,
            max_keepalive_connections=kept.max_keepalive_connections,
            keepalive_expiry=kept.keepalive_expiry,
            http1=http1,
            http2=http2,
            retries=retries,
            network_backend=_Tunnel(client),
        )


class _Tunnel(httpcore.AsyncNetworkBackend):
    """The network as httpcore sees it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (httpcore's interface)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A stream; raises ``httpcore.ConnectError`` or ``ConnectTimeout``."""
        del local_address, socket_options
        try:
            async with asyncio.timeout(timeout):
                sock = await self._client.open_socket(host, port)
                return _Stream(*await asyncio.open_connection(sock=sock))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error

    async def sleep(self, seconds: float) -> None:
        """Between retries."""
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """What has come, b"" at the end."""
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send."""
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError as error:
            raise httpcore.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """End it."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass  # gone already

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """TLS with the target, on this connection."""
        try:
            async with asyncio.timeout(timeout):
                await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except TimeoutError as error:
            await self.aclose()
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:
            self._writer.transport.abort()
            raise httpcore.ConnectError(str(error)) from error
        return self

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks: the TLS object, addresses, whether something has come unasked."""
        if info == "is_readable":
            return self._reader.at_eof() or self._writer.is_closing()
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._writer.get_extra_info(names.get(info, info))
