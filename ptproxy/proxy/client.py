"""A client, put together from its configuration and run until it is told to stop.

local programs ─▶ local proxy (SOCKS, HTTP) ─▶ tunnel dialer ─▶ the bridge
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from ptproxy.auth.credentials import StaticKey
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.config.keyfile import read_password
from ptproxy.config.link import Link
from ptproxy.config.model import ClientConfig
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import AuthenticationError, DialError, PtproxyError, StartError
from ptproxy.front import Users
from ptproxy.log import get_logger
from ptproxy.proxy.bridge_choice import BridgeChoice, BridgeSource, OneBridge
from ptproxy.proxy.documents import Documents
from ptproxy.proxy.local import LocalLimits, LocalProxy
from ptproxy.proxy.local_ports import open_ports
from ptproxy.proxy.remembered import RememberedSite
from ptproxy.proxy.shape_files import load_shape
from ptproxy.proxy.shape_follow import KeptShape, ShapeFollower
from ptproxy.proxy.shape_push import DOCUMENT
from ptproxy.proxy.startup import Ready, Signals, cannot_listen, load_key, within
from ptproxy.session import Limits
from ptproxy.state import StateFolder
from ptproxy.tunnel.appearance import appearance_of
from ptproxy.tunnel.client_tls import BrowserLikeTls, ClientTls, PythonTls
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.shaped_dial import ShapedDialer
from ptproxy.tunnel.tls import ClientTrust

if TYPE_CHECKING:
    from ptproxy.tunnel.chromium import Chromium

log = get_logger(__name__)


async def run_client(
    config: ClientConfig, *, ready: Ready | None = None, source: BridgeSource | None = None
) -> None:
    """Run a client until SIGTERM or SIGINT; with a ``source``, over whichever of its bridges works.

    Raises :class:`~ptproxy.errors.StartError` where it cannot start: a taken
    port, an unusable file, a bridge that is not reached or not the right one.
    """
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        state = stack.enter_context(StateFolder(config.state))
        users = make_users(config)
        make = await stack.enter_async_context(prepared(config, loop, state, load_key(config.key)))
        tunnel: OneBridge | BridgeChoice
        if source is None:
            tunnel = make(config.bridge)
        else:
            source.open(state)
            tunnel = BridgeChoice(make, source)
        stack.push_async_callback(tunnel.stop)
        limits = LocalLimits(connections=config.limits.connections)
        dialer = tunnel.dialer if isinstance(tunnel, OneBridge) else tunnel
        proxy = LocalProxy(loop, dialer, users=users, limits=limits)
        stack.push_async_callback(proxy.stop)
        listening = [await listen(proxy, endpoint) for endpoint in config.listen]
        listening += await open_ports(config, loop, proxy, listening, stack)
        with Signals(loop) as signals:
            await connect(config, tunnel, signals)
            if source is not None and isinstance(tunnel, BridgeChoice) and not signals.stop.is_set():
                source.start(tunnel.through, _bridges_changed)
                stack.push_async_callback(source.stop)
            for address in listening if not signals.stop.is_set() else ():
                log.info("listening", listen=address)
            if ready is not None and not signals.stop.is_set():
                ready(listening)
            await signals.stop.wait()
            log.info("stopping", connections=proxy.connections, seconds=config.limits.drain)
            await within(config.limits.drain, signals.at_once, proxy.stop)


def _bridges_changed() -> None:
    """Nothing: the bridge in use stays while it works, and the next one is chosen from what is known then."""


# ---- tunnels ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def prepared(
    config: ClientConfig, loop: asyncio.AbstractEventLoop, state: Documents, key: StaticKey
) -> AsyncIterator[Callable[[Link], OneBridge]]:
    """What makes a tunnel to the bridge of a line; what tunnels share is closed at the end.

    ``key`` is the client's. The tunnels are not started, and whoever has them made
    stops them before the end. Making one raises :class:`~ptproxy.errors.StartError`
    for unusable files.
    """
    async with contextlib.AsyncExitStack() as stack:
        browser = make_browser(config, loop)
        if browser is not None:
            stack.push_async_callback(browser.stop)
        site = RememberedSite(state.document("site"), config.bridge.server_name)
        stack.push_async_callback(site.close)

        def make(line: Link) -> OneBridge:
            wanted = config
            if line != config.bridge:
                codec = tuple(name for name in config.codecs if name in line.codecs) or None
                wanted = config.model_copy(update={"bridge": line, "codec": codec})
            memory = site.memory if site.host == line.server_name else SiteMemory()
            dialer = make_dialer(wanted, loop, memory, browser, key=key)
            if dialer.visitor is not None and memory is site.memory:
                dialer.visitor.on_visited = site.save
            return OneBridge(line, dialer, make_follower(wanted, dialer, state))

        yield make


def make_browser(config: ClientConfig, loop: asyncio.AbstractEventLoop) -> Chromium | None:
    """The browser that is to carry everything, if one is; StartError where it could not."""
    if config.tls.fingerprint != "browser":
        return None
    from ptproxy.tunnel.chromium import Chromium  # noqa: PLC0415  (only where it is wanted)

    folder = config.state / "chromium"
    return Chromium(loop, config.bridge, make_trust(config), folder, config.tls.browser)


def make_trust(config: ClientConfig) -> ClientTrust:
    """Which certificates are accepted."""
    return ClientTrust(
        pin=config.pin,
        authorities=config.authorities,
        certificate=config.tls.client_certificate,
        private_key=config.tls.client_key,
    )


def make_tls(config: ClientConfig) -> ClientTls:
    """How connections greet; a browser that carries everything does so by itself."""
    fingerprint, trust = config.tls.fingerprint, make_trust(config)
    return PythonTls(trust) if fingerprint in ("python", "browser") else BrowserLikeTls(fingerprint, trust)


def make_dialer(
    config: ClientConfig,
    loop: asyncio.AbstractEventLoop,
    memory: SiteMemory,
    browser: Chromium | None = None,
    *,
    key: StaticKey | None = None,
) -> TunnelDialer:
    """The dialer to the configured bridge; raises StartError for unusable files.

    ``memory``: what the imitated browser remembers of the site. ``key``: the client's, None: its file's.
    """
    route = Route(
        line=config.bridge,
        key=load_key(config.key) if key is None else key,
        tls=make_tls(config),
        codecs=config.codecs if browser is None else browser.codecs(config.codecs),
        appearance=appearance_of(config.tls.fingerprint, memory, config.tls.profile),
        browser=browser,
    )
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
    )


def make_follower(config: ClientConfig, dialer: TunnelDialer, state: Documents) -> ShapeFollower | None:
    """Who follows the bridge's shape where that was chosen; the dialer begins with what was kept of it."""
    if config.shape != "auto" or not isinstance(dialer, ShapedDialer):
        return None
    kept = KeptShape(state.document(DOCUMENT), config.bridge.key)
    dialer.set_shape(kept.load(time.time()))
    return ShapeFollower(dialer, kept)


def make_users(config: ClientConfig) -> Users | None:
    """Who may use the local port, None for anybody; raises StartError."""
    front = config.front
    if front.user is None:
        return None
    if front.password_file is None:
        raise StartError("front: a user needs front.password_file")
    try:
        return Users({front.user: read_password(front.password_file)})
    except ValueError as error:
        raise StartError(f"front: {error}") from None


async def listen(proxy: LocalProxy, endpoint: Endpoint) -> str:
    """Listen for local programs; returns the address. Raises StartError."""
    if endpoint.unix is not None:
        raise StartError(f"listen: a client listens on an address, not on {endpoint}")
    try:
        host, port = await proxy.listen(endpoint.literal, endpoint.port)
    except OSError as error:
        raise cannot_listen(endpoint, error) from None
    if not ipaddress.ip_address(host).is_loopback and proxy.users is None:
        log.warning("whoever reaches this port can use the tunnel: set front.user", listen=f"{host}:{port}")
    return str(Endpoint(host, port))


async def connect(config: ClientConfig, tunnel: OneBridge | BridgeChoice, signals: Signals) -> None:
    """Open the first carrier; gives up when told to stop. Raises StartError."""
    starting = asyncio.ensure_future(tunnel.start())
    stopping = asyncio.ensure_future(signals.stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
    except PtproxyError as error:
        raise not_connected(tunnel.line or config.bridge, error) from None
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)


def not_connected(line: Link, error: PtproxyError) -> StartError:
    """What keeps the first carrier to the bridge of ``line`` from opening, for a person."""
    if isinstance(error, StartError):
        return error
    where = Endpoint(line.host, line.port)
    if isinstance(error, DialError):
        return StartError(f"the bridge at {where} is not reached: {error}")
    if isinstance(error, AuthenticationError):
        return StartError(f"what answers at {where} is not the bridge of the link: {error}")
    return StartError(
        f"the bridge at {where} did not let us in: a wrong or revoked key, a used-up invite, "
        f"or a clock off by more than a minute ({error})"
    )
