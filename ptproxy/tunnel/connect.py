"""The way to a bridge: its addresses, TCP, and TLS 1.3 with the certificate checked."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ptproxy.auth.credentials import StaticKey
from ptproxy.codec.interface import Appearance, CodecSettings, Greeting
from ptproxy.config.link import Link as BridgeLine
from ptproxy.errors import DialError, LocalProtocolError, Reason
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.client_tls import ClientTls, speaks_http2

if TYPE_CHECKING:
    from ptproxy.tunnel.chromium import Chromium

CONNECT_TIMEOUT: Final = 15.0
"""Seconds for TCP and TLS to one address of the bridge."""
MAX_ADDRESSES: Final = 8
"""Addresses of one bridge name that are tried."""


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach one bridge: its line, which key is ours, how TLS is done and what it looks like."""

    line: BridgeLine
    key: StaticKey
    tls: ClientTls
    codecs: tuple[str, ...]
    appearance: Appearance | None = None
    """The browser that is imitated; None: none is, and no page is visited."""
    browser: Chromium | None = None
    """What carries the connections where they are to be a real browser's."""

    def settings(self) -> CodecSettings:
        """What the codecs say of themselves."""
        line = self.line
        return CodecSettings.of(line.server_name, line.port, line.path, self.appearance)


async def connect_tls(
    loop: asyncio.AbstractEventLoop, connection: Connection, route: Route, greeting: Greeting
) -> bytes:
    """Connect to the bridge over TLS 1.3 and check who it says it is; the leaf's SHA-256.

    Every address of the bridge's name is tried in turn. Raises
    :class:`~ptproxy.errors.DialError` or :class:`~ptproxy.errors.AuthenticationError`.
    """
    line = route.line
    if route.browser is not None:
        raise LocalProtocolError("nobody but the browser connects to the bridge")
    failure: DialError | None = None
    if route.tls.outward.names_go_along:
        hosts = [line.host]
    else:
        hosts = await bridge_addresses(loop, line.host, line.port)
    for host in hosts:
        try:
            digest = await route.tls.connect(
                loop, connection, (host, line.port), CONNECT_TIMEOUT, greeting, line.server_name
            )
        except DialError as error:
            failure = error
            continue
        if connection.ended:  # closed before we were told that it was open
            raise DialError(Reason.TUNNEL_DOWN, "the bridge closed the connection at once")
        connection.apart = speaks_http2(connection.transport)
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
