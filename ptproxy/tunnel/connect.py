"""The way to a bridge: its addresses, TCP, and TLS 1.3 with the certificate checked."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ptproxy.auth.credentials import StaticKey
from ptproxy.codec.interface import CodecSettings
from ptproxy.config.link import Link as BridgeLine
from ptproxy.errors import AuthenticationError, DialError, Reason
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.tcp import connect_tcp
from ptproxy.tunnel.tls import ClientTrust, check_leaf

if TYPE_CHECKING:
    from ptproxy.tunnel.chromium import Chromium

CONNECT_TIMEOUT: Final = 15.0
"""Seconds for TCP and TLS to one address of the bridge."""
MAX_ADDRESSES: Final = 8
"""Addresses of one bridge name that are tried."""


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach one bridge: its line, what to trust, which key is ours."""

    line: BridgeLine
    key: StaticKey
    trust: ClientTrust
    codecs: tuple[str, ...]
    browser: Chromium | None = None
    """What carries the connections where they are to be a real browser's."""

    def settings(self) -> CodecSettings:
        """What the codecs say of themselves."""
        return CodecSettings.of(self.line.server_name, self.line.port, self.line.path)


async def connect_tls(
    loop: asyncio.AbstractEventLoop, connection: Connection, route: Route, tls: ssl.SSLContext
) -> bytes:
    """Connect to the bridge over TLS 1.3 and check who it says it is; the leaf's SHA-256.

    Every address of the bridge's name is tried in turn. Raises
    :class:`~ptproxy.errors.DialError` or :class:`~ptproxy.errors.AuthenticationError`.
    """
    line = route.line
    failure: DialError | None = None
    for host in await bridge_addresses(loop, line.host, line.port):
        try:
            transport = await connect_tcp(
                loop, connection, host, line.port, CONNECT_TIMEOUT, tls=tls, server_hostname=line.server_name
            )
        except DialError as error:
            failure = error
            continue
        except ssl.SSLCertVerificationError as error:
            raise AuthenticationError(
                f"the bridge's certificate is not trusted: {error.verify_message}"
            ) from None
        except ssl.SSLError as error:
            why = (error.reason or "handshake failed").lower().replace("_", " ")
            raise AuthenticationError(f"no TLS 1.3 with the bridge: {why}") from None
        try:
            digest = check_leaf(transport.get_extra_info("ssl_object"), route.trust.pin)
        except AuthenticationError:
            transport.abort()
            raise
        if connection.ended:  # closed before we were told that it was open
            raise DialError(Reason.TUNNEL_DOWN, "the bridge closed the connection at once")
        return digest
    raise failure or DialError(Reason.NAME_NOT_FOUND)


async def bridge_addresses(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[str]:
    """The addresses of the bridge itself; its name, unlike a target's, is looked up here."""
    if ":" in host or host.replace(".", "").isdigit():
        return [host]
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise DialError(Reason.NAME_NOT_FOUND, "the bridge's name is not found") from None
    return list(dict.fromkeys(str(address[4][0]) for address in found))[:MAX_ADDRESSES]
