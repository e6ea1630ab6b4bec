"""A client's ports beside its proxy: forwards, DNS, the PAC file; each where the configuration wants it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from typing import Final

from ptproxy.config.forwards import Forward
from ptproxy.config.model import ClientConfig
from ptproxy.config.quantities import Endpoint, parse_address
from ptproxy.errors import StartError
from ptproxy.log import get_logger
from ptproxy.proxy.dns import DnsPort
from ptproxy.proxy.forward import UdpForward
from ptproxy.proxy.local import LocalProxy
from ptproxy.proxy.pac import PATH, PacServer
from ptproxy.proxy.startup import cannot_listen
from ptproxy.target import Target, TargetError

ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a proxy that listens everywhere is reached from this machine."""

log = get_logger(__name__)


async def open_ports(
    config: ClientConfig,
    loop: asyncio.AbstractEventLoop,
    proxy: LocalProxy,
    listening: Sequence[str],
    stack: contextlib.AsyncExitStack,
) -> list[str]:
    """Open them all, to be closed with ``stack``; returns what to tell of each.

    ``listening``: where the proxy itself does. Raises :class:`~ptproxy.errors.StartError`.
    """
    told = [await _forward(forward, loop, proxy, stack) for forward in config.forward]
    if config.dns.listen is not None:
        told.append(await _dns(config.dns.listen, config.dns.resolver, loop, proxy, stack))
    if config.pac is not None:
        if not listening:
            raise StartError("pac: there is no proxy that the file could name: set listen")
        here = parse_address(listening[0])
        server = PacServer(loop, Endpoint(ANYWHERE.get(here.host, here.host), here.port))
        stack.push_async_callback(server.stop)
        bound = await _bound(config.pac, server.listen(config.pac.literal, config.pac.port))
        told.append(f"http://{bound}{PATH}")
    return told


async def _forward(
    forward: Forward, loop: asyncio.AbstractEventLoop, proxy: LocalProxy, stack: contextlib.AsyncExitStack
) -> str:
    target, listen = target_of(forward.target), forward.listen
    if forward.kind == "udp":
        udp = UdpForward(loop, proxy.dialer, target)
        stack.push_async_callback(udp.stop)
        bound = await _bound(listen, udp.listen(listen.literal, listen.port))
    else:
        bound = await _bound(listen, proxy.forward(listen.literal, listen.port, target))
    if not bound.is_local:
        log.warning("whoever reaches this port gets to its target", listen=str(bound))
    return str(Forward(forward.kind, bound, forward.target))


async def _dns(
    listen: Endpoint,
    resolver: Endpoint,
    loop: asyncio.AbstractEventLoop,
    proxy: LocalProxy,
    stack: contextlib.AsyncExitStack,
) -> str:
    """The same port for UDP and TCP."""
    target = target_of(resolver)
    port = DnsPort(loop, proxy.dialer, target)
    stack.push_async_callback(port.stop)
    bound = await _bound(listen, port.listen(listen.literal, listen.port))
    await _bound(bound, proxy.forward(bound.host, bound.port, target))
    return f"dns {bound}"


def target_of(endpoint: Endpoint) -> Target:
    """Where a stream is to go; StartError for what cannot be a target."""
    try:
        return Target.address(endpoint.host, endpoint.port)
    except TargetError as error:
        raise StartError(f"{endpoint} cannot be a target: {error}") from None


async def _bound(wanted: Endpoint, listening: Awaitable[tuple[str, int]]) -> Endpoint:
    try:
        return Endpoint(*await listening)
    except OSError as error:
        raise cannot_listen(wanted, error) from None
