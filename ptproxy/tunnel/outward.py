"""How a client's connections leave this machine: straight, from a chosen address, or through a proxy.

The proxy is one that the user's own network demands (``TOR_PT_PROXY``). Names
are then looked up by it, never here; what it refuses is a
:class:`~ptproxy.errors.DialError` as any other failed connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import Final, Protocol

from ptproxy.config.upstream import UpstreamProxy
from ptproxy.errors import DialError, Reason, StartError
from ptproxy.tunnel import connecting

_KINDS: Final = {"socks5": "SOCKS5", "socks4a": "SOCKS4", "http": "HTTP"}


class Connects(Protocol):
    """Makes connected sockets."""

    async def connect(self, loop: asyncio.AbstractEventLoop, address: tuple[str, int]) -> socket.socket:
        """See :meth:`Outward.connect`."""


@dataclass(frozen=True, slots=True)
class Outward:
    """The way out; without any setting, straight."""

    proxy: UpstreamProxy | None = None
    ipv4: str = ""
    """The local address of IPv4 connections; ``""``: the system's choice."""
    ipv6: str = ""
    """The same for IPv6."""

    @property
    def names_go_along(self) -> bool:
        """Whether names are the proxy's to look up."""
        return self.proxy is not None

    async def connect(self, loop: asyncio.AbstractEventLoop, address: tuple[str, int]) -> socket.socket:
        """A connected, non-blocking TCP socket; closed again by whoever is cancelled meanwhile.

        Raises ``OSError`` or :class:`~ptproxy.errors.DialError`; without a
        proxy ``address`` must hold an IP literal.
        """
        if self.proxy is not None:
            return await self._through(self.proxy, loop, address)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            local = self.ipv6 if family == socket.AF_INET6 else self.ipv4
            if local:
                sock.bind((local, 0))
            await connecting.connect(loop, sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _through(
        self, proxy: UpstreamProxy, loop: asyncio.AbstractEventLoop, address: tuple[str, int]
    ) -> socket.socket:
        try:
            from python_socks import ProxyError, ProxyType  # noqa: PLC0415  (only where it is wanted)
            from python_socks.async_.asyncio import Proxy  # noqa: PLC0415
        except ImportError:
            raise StartError("the upstream proxy needs: pip install 'ptproxy[upstream]'") from None

        via = Proxy(
            proxy_type=ProxyType[_KINDS[proxy.scheme]],
            host=proxy.host,
            port=proxy.port,
            username=proxy.user or None,
            password=proxy.password or None,
            rdns=True,
            loop=loop,
        )
        local = self.ipv6 if ":" in proxy.host else self.ipv4
        try:
            sock = await via.connect(*address, local_addr=(local, 0) if local else None)
        except ProxyError as error:
            raise DialError(Reason.GENERAL, f"the upstream proxy refuses: {type(error).__name__}") from None
        except ValueError:  # its answer is no text where one belongs
            raise DialError(Reason.GENERAL, "the upstream proxy answers nonsense") from None
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


STRAIGHT: Final = Outward()
"""As every client without such settings."""
