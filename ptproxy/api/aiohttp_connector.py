"""aiohttp through a tunnel: ``aiohttp.ClientSession(connector=TunnelConnector(client))``.

Names go to the bridge as they are. TLS is aiohttp's own, with the target.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from ptproxy.api.client import Client
from ptproxy.errors import StartError

try:
    import aiohttp
    from aiohttp.abc import AbstractResolver, ResolveResult
except ImportError:
    raise StartError("aiohttp is not installed: pip install 'ptproxy[aiohttp]'") from None

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ClientRequest


class TunnelConnector(aiohttp.TCPConnector):
    """aiohttp's connector, whose connections are streams of a :class:`~ptproxy.api.client.Client`.

    The options are aiohttp's, apart from those about addresses and look-ups. It
    does not own the client.
    """

    def __init__(self, client: Client, **options: Any) -> None:
        super().__init__(resolver=_Unresolved(), use_dns_cache=False, happy_eyeballs_delay=None, **options)
        self._client = client

    async def _wrap_create_connection(  # where aiohttp's connectors make their connection
        self,
        *args: Any,
        addr_infos: Any,
        req: ClientRequest,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  (aiohttp's interface)
        client_error: type[Exception] = aiohttp.ClientConnectorError,
        **kwargs: Any,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        del addr_infos  # nobody has looked the name up
        url = req.proxy if req.proxy is not None else req.url
        assert url.raw_host is not None
        assert url.port is not None
        try:
            async with asyncio.timeout(timeout.sock_connect):
                sock = await self._client.open_socket(url.raw_host, url.port)
                try:
                    made = await self._loop.create_connection(*args, sock=sock, **kwargs)
                except BaseException:
                    sock.close()
                    raise
        except aiohttp.client_exceptions.cert_errors as error:
            raise aiohttp.ClientConnectorCertificateError(req.connection_key, error) from error
        except aiohttp.client_exceptions.ssl_errors as error:
            raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
        except TimeoutError:
            raise
        except OSError as error:
            raise client_error(req.connection_key, error) from error
        return made


class _Unresolved(AbstractResolver):
    """Looks nothing up: an answer of the right form, which nobody uses."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """``host`` itself."""
        del family
        return [
            ResolveResult(hostname=host, host="0.0.0.0", port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        """Nothing is open."""
