"""A bridge, put together from its configuration and run until it is told to stop.

listeners ─▶ tunnel (gate, sessions) ─▶ exit ─▶ egress ─▶ the world
                   │                      └──▶ services
                   └─▶ site, for whoever is no client
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ipaddress
import os
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final

from ptproxy.addresses import IP
from ptproxy.auth.access import Access
from ptproxy.auth.binding import Binding
from ptproxy.auth.replay import ReplayFilter
from ptproxy.codec.interface import CodecSettings
from ptproxy.config.model import BridgeConfig
from ptproxy.config.quantities import Endpoint, SiteUrl
from ptproxy.errors import DialError, StartError
from ptproxy.log import get_logger
from ptproxy.proxy.accounts import DOCUMENT, Accounts
from ptproxy.proxy.bridge_exit import BridgeExit, Service
from ptproxy.proxy.egress import EgressDialer
from ptproxy.proxy.openings import DOCUMENT as OPENINGS
from ptproxy.proxy.openings import put_down, take_up
from ptproxy.proxy.policy import EgressPolicy, OwnAddresses, local_test
from ptproxy.proxy.resolve import Resolver
from ptproxy.proxy.shape_files import built_in, load_shape
from ptproxy.proxy.shape_push import DOCUMENT as SHAPE
from ptproxy.proxy.shape_push import ShapePush
from ptproxy.proxy.site import BuiltinSite, ForwardSite, NothingHere
from ptproxy.proxy.site_beside import make_doorway
from ptproxy.proxy.startup import Ready, Signals, cannot_listen, load_key, within
from ptproxy.session import Limits, RetentionBudget
from ptproxy.state import StateFolder
from ptproxy.tunnel.beside.doorway import Doorway
from ptproxy.tunnel.bridge import Bridge, BridgeSettings
from ptproxy.tunnel.listen import Listener, listen_tcp, listen_unix
from ptproxy.tunnel.recognise import SHAPE_SERVICE
from ptproxy.tunnel.stream import BridgeService, Exit, Site
from ptproxy.tunnel.tls import bridge_context, leaf_digest, load_chain

OWN_NAME_TIMEOUT: Final = 3.0
"""Seconds for the look-up of the bridge's own name at the start; without an answer it goes on."""
UNIX_MODE: Final = 0o666
"""Mode of a listening Unix socket: the web server in front runs as another user; its folder guards it."""

log = get_logger(__name__)


async def run_bridge(
    config: BridgeConfig,
    *,
    services: Sequence[BridgeService] = (),
    ready: Ready | None = None,
    signals_of: Callable[[asyncio.AbstractEventLoop, Callable[[], None]], Signals] = Signals,
) -> None:
    """Run a bridge, with these ``services`` besides its own, until SIGTERM or SIGINT.

    ``signals_of`` makes what is waited for from the loop and what SIGHUP does: a
    bridge inside another program leaves that program's signals alone.
    Raises :class:`~ptproxy.errors.StartError` or
    :class:`~ptproxy.errors.ConfigError` where it cannot start; then, and after
    a cancel, nothing is left open.
    """
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        state = stack.enter_context(StateFolder(config.state))
        accounts = Accounts(state.document(DOCUMENT), Access(config.access))
        stack.push_async_callback(accounts.close)
        context = tls_context(config)
        dialer = await make_dialer(config, loop)
        stack.push_async_callback(dialer.close)
        push = ShapePush(load_key(config.key), state.document(SHAPE), load_shape(config.shape))
        for service in services:
            await service.start(state)
            stack.push_async_callback(service.close)
        offered: dict[str, Service] = {SHAPE_SERVICE: push}
        offered.update((service.name, service) for service in services)
        exit_ = BridgeExit(loop, dialer, services=offered)
        stack.push_async_callback(exit_.close)
        site = make_site(config, loop)
        stack.push_async_callback(site.close)
        openings = state.document(OPENINGS)
        replay = take_up(openings)
        bridge = start_tunnel(config, loop, accounts, exit_, site, replay, push.signing_key)
        listeners: list[Listener] = []
        stack.push_async_callback(end_listeners, listeners)
        stack.push_async_callback(bridge.stop, 0.0)
        doorway = await make_doorway(config, loop, context, bridge.arrival)
        if doorway is not None:
            stack.push_async_callback(doorway.close)
        listening = await listen(config, loop, bridge, context, listeners, doorway)
        accounts.watch(loop, bridge.access_changed)
        with signals_of(loop, lambda: reload(config, context, accounts, bridge, push)) as signals:
            for address in listening:
                log.info("listening", listen=address, mode=config.mode, codecs=",".join(config.codecs))
            if ready is not None:
                ready(listening)
            await signals.stop.wait()
            log.info("stopping", streams=bridge.streams, seconds=config.limits.drain)
            for listener in listeners:
                listener.close()
            push.close()
            for service in services:
                service.end_streams()
            await within(config.limits.drain, signals.at_once, bridge.stop)
            put_down(openings, replay)


# ---- the pieces ---------------------------------------------------------------------------------


def start_tunnel(
    config: BridgeConfig,
    loop: asyncio.AbstractEventLoop,
    accounts: Accounts,
    exit_: Exit,
    site: Site,
    replay: ReplayFilter,
    signing_key: bytes,
) -> Bridge:
    """The tunnel's end of the bridge; its listeners are :func:`listen`'s."""
    limits = config.limits
    settings = BridgeSettings(
        key=load_key(config.key),
        codecs=config.codecs,
        codec_settings=codec_settings(config, loop),
        bindings=bindings(config),
        seal=config.seal,
        access=accounts,
        retention=RetentionBudget(limits.memory),
        limits=Limits(max_streams=limits.streams),
        linger=limits.linger,
        most_sessions=limits.sessions,
        most_carriers=limits.carriers,
        most_undecided=limits.handshakes,
        opening_timeout=limits.opening_timeout,
        idle=limits.idle,
        half_open=limits.half_open,
        replay=replay,
        shape=load_shape(config.shape) or built_in(),  # for clients that follow one all the same
        signing_key=signing_key,
    )
    return Bridge(loop, settings, exit_, site)


def codec_settings(config: BridgeConfig, loop: asyncio.AbstractEventLoop) -> CodecSettings:
    """What the codecs are told: the link's host and path, and what only a bridge needs to know."""
    settings = CodecSettings.of(config.server_name, config.address.port, config.path)
    if config.mode != "behind":
        return settings
    # caddy passes a 101 on as it is, and all that it answers itself has a Date.
    options = {"clock_offset": str(time.time() - loop.time())}
    if config.keepalive:
        options["keepalive"] = str(config.keepalive)
    return dataclasses.replace(settings, options=options)


def tls_context(config: BridgeConfig) -> ssl.SSLContext | None:
    """The context of a bridge that terminates TLS itself; raises StartError."""
    if config.mode != "standalone":
        return None
    tls = config.tls
    if tls.certificate is None or tls.private_key is None:
        raise StartError("tls: a standalone bridge needs tls.certificate and tls.private_key")
    authorities = tls.client_ca if tls.client_certificates == "required" else None
    return bridge_context(tls.certificate, tls.private_key, client_authorities=authorities)


def bindings(config: BridgeConfig) -> list[Binding]:
    """The certificates that a client may have seen; raises StartError."""
    tls = config.tls
    if tls.binding == "none":
        return [Binding.none()]
    if config.mode == "standalone":
        seen = [tls.certificate]
    else:
        seen = [tls.front_certificate, tls.front_certificate_previous]
    found = [Binding.certificate(leaf_digest(path)) for path in seen if path is not None]
    if not found:
        raise StartError(
            "tls: set tls.front_certificate to the web server's certificate, or tls.binding: none"
        )
    return found


def make_site(config: BridgeConfig, loop: asyncio.AbstractEventLoop) -> BuiltinSite | ForwardSite:
    """What strangers meet; behind a web server that is only a 404 for it to replace."""
    site = config.site
    if isinstance(site, SiteUrl):
        tls = None
        if site.scheme == "https":
            tls = ssl.create_default_context()
            # The operator's own server, often under another name: what passes is public anyway.
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        return ForwardSite(loop, site.host, site.port, tls=tls)
    if site is None:
        return BuiltinSite(loop, NothingHere())
    return BuiltinSite(loop)


async def make_dialer(config: BridgeConfig, loop: asyncio.AbstractEventLoop) -> EgressDialer:
    """The egress under the configuration's rules; raises ConfigError."""
    egress = config.egress
    resolver = Resolver(loop, timeout=egress.connect_timeout)
    own = OwnAddresses(await own_addresses(config, resolver), local_test())
    policy = EgressPolicy.parse(allow=egress.allow, deny=egress.deny, ports=egress.ports, own=own)
    return EgressDialer(
        loop,
        policy,
        resolver,
        ipv6=egress.ipv6,
        timeout=egress.connect_timeout,
        own_name=config.address.host,
    )


async def own_addresses(config: BridgeConfig, resolver: Resolver) -> list[IP]:
    """The addresses at which the bridge itself is known to be, besides its interfaces'.

    A name is looked up only where the bridge terminates TLS itself: behind a
    web server it may be a CDN's, whose addresses belong to many other sites.
    """
    found: list[IP] = []
    for host in (
        config.address.host,
        *(endpoint.host for endpoint in config.listen if endpoint.unix is None),
    ):
        try:
            found.append(ipaddress.ip_address(host))
        except ValueError:
            if host == config.address.host and config.mode == "standalone":
                with contextlib.suppress(DialError, TimeoutError):
                    async with asyncio.timeout(OWN_NAME_TIMEOUT):
                        found += await resolver.resolve(host)
    return found


async def listen(
    config: BridgeConfig,
    loop: asyncio.AbstractEventLoop,
    bridge: Bridge,
    context: ssl.SSLContext | None,
    listeners: list[Listener],
    doorway: Doorway | None,
) -> list[str]:
    """Listen everywhere, adding to ``listeners``; returns the addresses. Raises StartError."""
    listening = []
    for endpoint in config.listen:
        try:
            if endpoint.unix is not None:
                listener = await listen_unix(loop, bridge.arrival, str(endpoint.unix))
                os.chmod(endpoint.unix, UNIX_MODE)
                shown = str(endpoint)
            else:
                host = endpoint.literal
                listener = await listen_tcp(
                    loop, bridge.arrival, host, endpoint.port, tls=context,
                    handshake_timeout=config.limits.opening_timeout, most_handshakes=config.limits.handshakes,
                    doorway=doorway,
                )  # fmt: skip
                shown = str(Endpoint(host, listener.sockets[0].getsockname()[1]))
        except OSError as error:
            raise cannot_listen(endpoint, error) from None
        listeners.append(listener)
        listening.append(shown)
    return listening


async def end_listeners(listeners: Sequence[Listener]) -> None:
    """Stop listening, and drop what is left of the connections that were accepted."""
    for listener in listeners:
        listener.close()
    for listener in listeners:
        await listener.wait_closed()


def reload(
    config: BridgeConfig, context: ssl.SSLContext | None, accounts: Accounts, bridge: Bridge, push: ShapePush
) -> None:
    """SIGHUP: read the access list, the shape and the certificates again, without touching open streams."""
    if accounts.reload():
        bridge.access_changed()
    try:
        if context is not None and config.tls.certificate is not None and config.tls.private_key is not None:
            load_chain(context, config.tls.certificate, config.tls.private_key)
        bridge.settings.bindings = bindings(config)
    except StartError as error:
        log.error("the certificate stays as it was", why=str(error))
    try:
        shape = load_shape(config.shape)
        bridge.settings.shape = shape or built_in()
        push.change(shape)
    except StartError as error:
        log.error("the shape stays as it was", why=str(error))
