"""A client, put together from its configuration and run until it is told to stop.

local programs ─▶ local proxy (SOCKS, HTTP) ─▶ tunnel dialer ─▶ the bridge
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ptproxy.auth.credentials import StaticKey
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.config.link import Link
from ptproxy.config.model import ClientConfig
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import StartError
from ptproxy.log import get_logger
from ptproxy.proxy.account_follow import AccountFollower
from ptproxy.proxy.bridge_choice import BridgeChoice
from ptproxy.proxy.browsers import Browsers, make_trust
from ptproxy.proxy.control_client import ClientParts, attend_client
from ptproxy.proxy.control_reload import ConfigSource
from ptproxy.proxy.documents import Documents
from ptproxy.proxy.first_carrier import connect, unless_stopped
from ptproxy.proxy.local import LocalLimits, LocalProxy
from ptproxy.proxy.local_ports import open_ports
from ptproxy.proxy.one_bridge import BridgeSource, OneBridge
from ptproxy.proxy.remembered import RememberedSite, RememberedWays
from ptproxy.proxy.shape_files import load_shape
from ptproxy.proxy.shape_follow import KeptShape, ShapeFollower
from ptproxy.proxy.shape_push import DOCUMENT
from ptproxy.proxy.startup import Ready, Signals, cannot_listen, load_key, within
from ptproxy.proxy.users import make_users
from ptproxy.session import Limits
from ptproxy.state import StateFolder
from ptproxy.tunnel.appearance import appearance_of
from ptproxy.tunnel.client_tls import BrowserLikeTls, ClientTls, PythonTls
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.shaped_dial import ShapedDialer
from ptproxy.tunnel.surroundings import watch_network
from ptproxy.tunnel.totals import Totals
from ptproxy.ways import Ways

if TYPE_CHECKING:
    from ptproxy.tunnel.chromium import Chromium

BrowserOf = Callable[[ClientConfig], "Chromium | None"]

log = get_logger(__name__)


async def run_client(
    config: ClientConfig,
    *,
    ready: Ready | None = None,
    source: BridgeSource | None = None,
    doors: dict[Endpoint, socket.socket] | None = None,
    config_source: ConfigSource | None = None,
) -> None:
    """Run a client until SIGTERM or SIGINT; with a ``source``, over whichever of its bridges works.

    ``doors`` are sockets that listen already, by the endpoint that they stand for; those that are
    wanted are taken out, the others closed. ``config_source``: where ``config`` came from and is read again
    (:mod:`ptproxy.proxy.control_client`). A bridge that is not reached is tried on. Raises
    :class:`~ptproxy.errors.StartError` where it cannot start: a taken port, an unusable file, a
    bridge that is not the right one or has never let us in.
    """
    loop, began_at, totals = asyncio.get_running_loop(), time.time(), Totals()
    async with contextlib.AsyncExitStack() as stack:
        state = stack.enter_context(StateFolder(config.state))
        users = make_users(config)
        remembered = RememberedWays(state.document("ways"))
        stack.push_async_callback(remembered.save)
        make = await stack.enter_async_context(
            prepared(config, loop, state, load_key(config.key), remembered.ways, totals)
        )
        tunnel: OneBridge | BridgeChoice
        if source is None:
            tunnel = make(config.bridge)
        else:
            source.open(state)
            find = config.find
            tunnel = BridgeChoice(make, source, remembered.ways, find.choice, weights=find.weights)
        dialer = tunnel.dialer if isinstance(tunnel, OneBridge) else tunnel
        stack.push_async_callback(tunnel.stop)
        stack.callback(watch_network(loop, dialer, remembered.ways).close)
        keeping = loop.create_task(remembered.keep())
        stack.callback(keeping.cancel)
        limits = LocalLimits(connections=config.limits.connections)
        proxy = LocalProxy(loop, dialer, users=users, limits=limits)
        stack.push_async_callback(proxy.stop)
        listening = await listen_all(config, proxy, {} if doors is None else doors)
        places = dict(zip(map(str, config.listen), listening, strict=True))
        ports = await open_ports(config, loop, proxy, listening, stack)
        listening += ports
        attended = await attend_client(
            ClientParts(config, state, tunnel, proxy, totals, places, ports, began_at),
            loop,
            stack,
            config_source,
        )
        offers = None
        if config.reverse:
            from ptproxy.proxy.reverse_client import Offers  # noqa: PLC0415  (only where it is wanted)

            offers = Offers(loop, dialer, config.reverse)
            stack.push_async_callback(offers.stop)
        with Signals(loop, attended.reloads.soon) as signals:
            await connect(config, tunnel, signals, remembered.ways)
            if offers is not None and not signals.stop.is_set():
                offers.start()
                if not listening:  # nothing else is wanted of it
                    await unless_stopped(offers.answered(), signals)
                listening += [f"the bridge's port {each}" for each in config.reverse]
            if source is not None and isinstance(tunnel, BridgeChoice) and not signals.stop.is_set():
                source.start(tunnel.through, _bridges_changed)
                stack.push_async_callback(source.stop)
            for address in listening if not signals.stop.is_set() else ():
                log.info("listening", listen=address)
            if ready is not None and not signals.stop.is_set():
                ready(listening)
            await signals.stop.wait()
            attended.stopping = True
            await attended.reloads.stop()
            log.info("stopping", connections=proxy.connections, seconds=config.limits.drain)
            await within(config.limits.drain, signals.at_once, proxy.stop)


def _bridges_changed() -> None:
    """Nothing: the bridge in use stays while it works, and the next one is chosen from what is known then."""


# ---- tunnels ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def prepared(
    config: ClientConfig,
    loop: asyncio.AbstractEventLoop,
    state: Documents,
    key: StaticKey,
    known: Ways | None = None,
    totals: Totals | None = None,
) -> AsyncIterator[Callable[[Link], OneBridge]]:
    """What makes a tunnel to the bridge of a line; what tunnels share is closed at the end.

    ``key`` is the client's; ``known`` is what is remembered of ways, None: nothing; all tunnels are
    counted together in ``totals``. The tunnels
    are not started, and whoever has them made
    stops them before the end. Making one raises :class:`~ptproxy.errors.StartError`
    for unusable files.
    """
    async with contextlib.AsyncExitStack() as stack:
        browsers = Browsers(config, loop)
        stack.push_async_callback(browsers.stop)
        site = RememberedSite(state.document("site"), config.bridge.server_name)
        stack.push_async_callback(site.close)
        if known is None:
            known = Ways(secrets.token_bytes(32))

        def make(line: Link) -> OneBridge:
            wanted = config
            if line != config.bridge:
                codec = tuple(name for name in config.codecs if name in line.codecs) or None
                wanted = config.model_copy(update={"bridge": line, "codec": codec})
            memory = site.memory if site.host == line.server_name else SiteMemory()
            dialer = make_dialer(wanted, loop, memory, browsers.of, key=key, ways=known)
            if totals is not None:
                dialer.count_in(totals)
            if dialer.visitor is not None and memory is site.memory:
                dialer.visitor.on_visited = site.save
            release = functools.partial(browsers.stop, line)
            follower = make_follower(wanted, dialer, state)
            return OneBridge(line, dialer, follower, release, AccountFollower(dialer))

        yield make


def no_browser(config: ClientConfig) -> Chromium | None:
    """Everything is done here."""
    del config
    return None


def make_tls(config: ClientConfig) -> ClientTls:
    """How connections greet; a browser that carries everything does so by itself."""
    fingerprint, trust = config.tls.fingerprint, make_trust(config)
    return PythonTls(trust) if fingerprint in ("python", "browser") else BrowserLikeTls(fingerprint, trust)


def make_dialer(
    config: ClientConfig,
    loop: asyncio.AbstractEventLoop,
    memory: SiteMemory,
    browser_of: BrowserOf = no_browser,
    *,
    key: StaticKey | None = None,
    ways: Ways | None = None,
) -> TunnelDialer:
    """The dialer to the configured bridge; raises StartError for unusable files.

    ``browser_of`` gives what carries the connections to a configuration's first front, None: nothing does.
    ``memory``: what the imitated browser remembers of the site. ``key``: the client's, None: its file's.
    ``ways``: what is remembered of ways, None: nothing.
    """
    key = load_key(config.key) if key is None else key
    route = make_route(config, key, memory, browser_of)
    route = replace(route, fronts=make_fronts(config, key, memory, browser_of))
    shape = None if config.shape == "auto" else load_shape(config.shape)
    kind = TunnelDialer if config.shape == "none" else functools.partial(ShapedDialer, shape=shape)
    return kind(
        loop,
        route,
        carriers=config.carriers,
        limits=Limits(max_streams=config.limits.streams, retention=config.limits.memory),
        idle=config.limits.idle,
        half_open=config.limits.half_open,
        linger=config.limits.linger,
        ways=ways,
    )


def make_route(config: ClientConfig, key: StaticKey, memory: SiteMemory, browser_of: BrowserOf) -> Route:
    """How the configured bridge is reached by its first front."""
    browser = browser_of(config)
    return Route(
        line=config.bridge,
        key=key,
        tls=make_tls(config),
        codecs=config.codecs if browser is None else browser.codecs(config.codecs),
        appearance=appearance_of(config.tls.fingerprint, memory, config.tls.profile),
        browser=browser,
    )


def make_fronts(
    config: ClientConfig, key: StaticKey, memory: SiteMemory, browser_of: BrowserOf
) -> tuple[Route, ...]:
    """... and by the further ones; another site's memory is forgotten with the process."""
    routes = []
    for line in config.bridge.by_front()[1:]:
        codec = tuple(name for name in config.codecs if name in line.codecs)
        if codec:  # else the client was told to use others
            there = config.model_copy(update={"bridge": line, "codec": codec})
            known = memory if line.server_name == config.bridge.server_name else SiteMemory()
            routes.append(make_route(there, key, known, browser_of))
    return tuple(routes)


def make_follower(config: ClientConfig, dialer: TunnelDialer, state: Documents) -> ShapeFollower | None:
    """Who follows the bridge's shape where that was chosen; the dialer begins with what was kept of it."""
    if config.shape != "auto" or not isinstance(dialer, ShapedDialer):
        return None
    kept = KeptShape(state.document(DOCUMENT), config.bridge.key)
    dialer.set_shape(kept.load(time.time()))
    return ShapeFollower(dialer, kept)


async def listen_all(
    config: ClientConfig, proxy: LocalProxy, doors: dict[Endpoint, socket.socket]
) -> list[str]:
    """Listen where the configuration says, on the ``doors`` that stand there; raises StartError.

    No other door is left open: whoever connected to it would wait for ever.
    """
    for unwanted in [each for each in doors if each not in config.listen]:
        doors.pop(unwanted).close()
    return [await listen(proxy, endpoint, doors.pop(endpoint, None)) for endpoint in config.listen]


async def listen(proxy: LocalProxy, endpoint: Endpoint, door: socket.socket | None = None) -> str:
    """Listen for local programs, on the ``door`` if there is one; returns the address. Raises StartError."""
    if door is not None:
        host, port = door.getsockname()[:2]
        proxy.take(door)
        return str(Endpoint(host, port))
    if endpoint.unix is not None:
        raise StartError(f"listen: a client listens on an address, not on {endpoint}")
    try:
        host, port = await proxy.listen(endpoint.literal, endpoint.port)
    except OSError as error:
        raise cannot_listen(endpoint, error) from None
    if not ipaddress.ip_address(host).is_loopback and proxy.users is None:
        log.warning("whoever reaches this port can use the tunnel: set front.user", listen=f"{host}:{port}")
    return str(Endpoint(host, port))
