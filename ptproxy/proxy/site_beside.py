"""A real web server beside a standalone bridge: reached on its TLS port, and imitated in TLS.

``site: https://HOST:PORT`` names that port, and nothing else: what strangers say
inside TLS goes there through TLS again rather than to a plain port, because only
there is it seen whether a server ends with close_notify or without, and because
HTTP/2, redirects and error pages of a plain port are often others.
"""

from __future__ import annotations

import asyncio
import hmac
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ptproxy.codec.cookie import session_cookie_name
from ptproxy.codec.interface import CodecSettings
from ptproxy.config.model import BridgeConfig
from ptproxy.config.quantities import SiteUrl, is_ip
from ptproxy.errors import StartError, why
from ptproxy.log import get_logger
from ptproxy.tunnel.arrival import Arrival
from ptproxy.tunnel.beside.doorway import Doorway
from ptproxy.tunnel.beside.h2_couple import H2Requests
from ptproxy.tunnel.beside.openssl import load
from ptproxy.tunnel.beside.site_connection import SiteServer
from ptproxy.tunnel.beside.site_manners import Manners, adopt, learn, site_context
from ptproxy.tunnel.beside.terms import Terms

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SiteBeside:
    """Where the web server is."""

    url: SiteUrl
    server_name: str
    """What it is asked for by SNI: the name that strangers use."""

    async def connect(self) -> socket.socket:
        """A connection to it; raises OSError."""
        loop = asyncio.get_running_loop()
        failure: OSError = OSError("no address")
        for family, address in await self._addresses(loop):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure

    async def _addresses(self, loop: asyncio.AbstractEventLoop) -> list[tuple[int, Any]]:
        """Family and address of each place it may be at; one given as an address is not looked up."""
        host, port = self.url.host, self.url.port
        if is_ip(host):
            return [(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port))]
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]

    def learn(self) -> Manners:
        """How it does TLS; blocks for a second. Raises StartError."""
        try:
            return learn(load(), (self.url.host, self.url.port), self.server_name)
        except ssl.SSLError as error:
            told = (error.reason or "it broke off").lower().replace("_", " ")
            raise StartError(f"site: {self.url} does no TLS 1.3 for {self.server_name}: {told}") from None
        except OSError as error:
            raise StartError(f"site: {self.url} does not answer: {why(error)}; start it first") from None
        except ValueError as error:
            raise StartError(f"site: {self.url} cannot be stood beside: {error}") from None


def differences(context: ssl.SSLContext, manners: Manners, name: str, certificate: bytes) -> Iterator[str]:
    """Make ``context`` do as the web server does, and tell where it cannot.

    ``certificate`` is the SHA-256 of our own leaf.
    """
    if not hmac.compare_digest(certificate, manners.certificate):
        yield (
            "the site shows another certificate than tls.certificate; give both the same one, "
            "or whoever connects with another name or TLS 1.2 sees two"
        )
    yield from adopt(load(), context, manners, name)


def site_of(config: BridgeConfig) -> SiteUrl | None:
    """The web server that a bridge stands beside, if that is what it does."""
    site = config.site
    if not isinstance(site, SiteUrl) or site.scheme != "https" or config.mode != "standalone":
        return None
    # Where client certificates are demanded no stranger gets past the handshake anyway.
    return site if config.tls.client_certificates == "off" else None


async def make_doorway(
    config: BridgeConfig,
    loop: asyncio.AbstractEventLoop,
    context: ssl.SSLContext | None,
    arrival: Callable[[], Arrival],
    leaf: bytes,
) -> Doorway | None:
    """The way in beside a web server with TLS of its own; None where there is none. Raises StartError.

    ``leaf``: the SHA-256 of the certificate that ``context`` shows.
    """
    url = site_of(config)
    if context is None or url is None or not leaf:
        return None
    try:
        library = load()
    except StartError as error:
        log.warning("strangers may tell the bridge from its web site", why=str(error))
        return None
    site, name = SiteBeside(url, config.server_name), config.server_name
    manners = await loop.run_in_executor(None, site.learn)
    for difference in differences(context, manners, name, leaf):
        log.warning("strangers may tell the bridge from its web site", why=difference)
    protocols = tuple(protocol.encode("ascii") for protocol in manners.protocols)
    requests = None
    if "http" in config.codecs:
        settings = CodecSettings.of(name, config.address.port, config.path)
        requests = H2Requests(config.path, session_cookie_name(settings))
    return Doorway(
        loop,
        Terms(library, context, name, protocols, library.ticket_key_name(context), requests),
        SiteServer(loop, library, site_context(library), site.connect),
        arrival,
        most_waiting=config.limits.handshakes,
    )
