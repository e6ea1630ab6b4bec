"""A client, put together from its configuration and run until it is told to stop.

local programs ─▶ local proxy (SOCKS, HTTP) ─▶ tunnel dialer ─▶ the bridge
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from typing import TYPE_CHECKING

from ptproxy.config.keyfile import read_password
from ptproxy.config.model import ClientConfig
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import AuthenticationError, DialError, PtproxyError, StartError
from ptproxy.front import Users
from ptproxy.log import get_logger
from ptproxy.proxy.local import LocalLimits, LocalProxy
from ptproxy.proxy.startup import Ready, Signals, cannot_listen, load_key, within
from ptproxy.session import Limits
from ptproxy.state import StateFolder
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.tls import ClientTrust

if TYPE_CHECKING:
    from ptproxy.tunnel.chromium import Chromium

log = get_logger(__name__)


async def run_client(config: ClientConfig, *, ready: Ready | None = None) -> None:
    """Run a client until SIGTERM or SIGINT.

    Raises :class:`~ptproxy.errors.StartError` where it cannot start: a taken
    port, an unusable file, a bridge that is not reached or not the right one.
    """
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(StateFolder(config.state))
        users = make_users(config)
        browser = make_browser(config, loop)
        if browser is not None:
            stack.push_async_callback(browser.stop)
        dialer = make_dialer(config, loop, browser)
        stack.push_async_callback(dialer.stop)
        limits = LocalLimits(connections=config.limits.connections)
        proxy = LocalProxy(loop, dialer, users=users, limits=limits)
        stack.push_async_callback(proxy.stop)
        listening = [await listen(proxy, endpoint) for endpoint in config.listen]
        with Signals(loop) as signals:
            await connect(config, dialer, signals)
            for address in listening if not signals.stop.is_set() else ():
                log.info("listening", listen=address)
            if ready is not None and not signals.stop.is_set():
                ready(listening)
            await signals.stop.wait()
            log.info("stopping", connections=proxy.connections, seconds=config.limits.drain)
            await within(config.limits.drain, signals.at_once, proxy.stop)


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


def make_dialer(
    config: ClientConfig, loop: asyncio.AbstractEventLoop, browser: Chromium | None = None
) -> TunnelDialer:
    """The dialer to the configured bridge; raises StartError for unusable files."""
    trust = make_trust(config)
    codecs = config.codecs if browser is None else browser.codecs(config.codecs)
    route = Route(config.bridge, load_key(config.key), trust, codecs, browser)
    return TunnelDialer(
        loop,
        route,
        carriers=config.carriers,
        limits=Limits(max_streams=config.limits.streams, retention=config.limits.memory),
        idle=config.limits.idle,
        half_open=config.limits.half_open,
        linger=config.limits.linger,
    )


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


async def connect(config: ClientConfig, dialer: TunnelDialer, signals: Signals) -> None:
    """Open the first carrier; gives up when told to stop. Raises StartError."""
    starting = asyncio.ensure_future(dialer.start())
    stopping = asyncio.ensure_future(signals.stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
    except PtproxyError as error:
        raise not_connected(config, error) from None
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)


def not_connected(config: ClientConfig, error: PtproxyError) -> StartError:
    """What keeps the first carrier from opening, for a person."""
    if isinstance(error, StartError):
        return error
    where = Endpoint(config.bridge.host, config.bridge.port)
    if isinstance(error, DialError):
        return StartError(f"the bridge at {where} is not reached: {error}")
    if isinstance(error, AuthenticationError):
        return StartError(f"what answers at {where} is not the bridge of the link: {error}")
    return StartError(
        f"the bridge at {where} did not let us in: a wrong or revoked key, a used-up invite, "
        f"or a clock off by more than a minute ({error})"
    )
