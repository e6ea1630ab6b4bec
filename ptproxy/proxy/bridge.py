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
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ptproxy.addresses import IP
from ptproxy.auth.access import Access
from ptproxy.codec.interface import CodecSettings
from ptproxy.config.model import BridgeConfig
from ptproxy.config.quantities import Endpoint, SiteUrl
from ptproxy.errors import DialError, StartError, StateError
from ptproxy.log import get_logger
from ptproxy.proxy.account_exit import AccountDialers, AccountExit
from ptproxy.proxy.account_meter import AccountMeter
from ptproxy.proxy.account_store import SqliteStore
from ptproxy.proxy.accounts import Accounts
from ptproxy.proxy.bridge_exit import BridgeExit
from ptproxy.proxy.bridge_files import BridgeFiles
from ptproxy.proxy.egress import EgressDialer
from ptproxy.proxy.handover import Former, Inheritance
from ptproxy.proxy.openings import DOCUMENT as OPENINGS
from ptproxy.proxy.openings import KeptOpenings, go_on, keep, put_down, take_up
from ptproxy.proxy.policy import EgressPolicy, OwnAddresses, local_test
from ptproxy.proxy.post import Post
from ptproxy.proxy.resolve import Resolver
from ptproxy.proxy.shape_files import built_in, load_shape
from ptproxy.proxy.shape_push import DOCUMENT as SHAPE
from ptproxy.proxy.shape_push import ShapePush
from ptproxy.proxy.site import BuiltinSite, ForwardSite, NothingHere
from ptproxy.proxy.site_beside import make_doorway
from ptproxy.proxy.startup import Ready, Signals, cannot_listen, first_of, within
from ptproxy.proxy.succession import Parts, Succession, hand_over
from ptproxy.proxy.supervisor import tell_supervisor
from ptproxy.session import Limits, RetentionBudget
from ptproxy.state import StateFolder
from ptproxy.tunnel.arrival import Arrival
from ptproxy.tunnel.bridge import Bridge, BridgeSettings
from ptproxy.tunnel.bridge_tunnel import BridgeTunnel
from ptproxy.tunnel.handover import Following
from ptproxy.tunnel.listen import ACCEPTS, Listener, listen_tcp, listen_unix
from ptproxy.tunnel.recognise import SHAPE_SERVICE
from ptproxy.tunnel.stream import BridgeService, Exit, Site

if TYPE_CHECKING:
    from ptproxy.proxy.control_reload import ConfigSource
    from ptproxy.proxy.unprivileged import Kept

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
    succession: Succession | None = None,
    post: Post | None = None,
    source: ConfigSource | None = None,
    kept: Kept | None = None,
) -> None:
    """Run a bridge, with these ``services`` besides its own, until SIGTERM or SIGINT.

    ``signals_of`` makes what is waited for from the loop and what SIGHUP does: a
    bridge inside another program leaves that program's signals alone. With a
    ``succession`` it may follow another process, and be followed by one. With a ``post`` it is
    one of several workers. ``source``: where ``config`` came from and is read again
    (:mod:`ptproxy.proxy.control_reload`). ``kept``: what it got ready while it was root, if it was.
    Raises :class:`~ptproxy.errors.StartError` or
    :class:`~ptproxy.errors.ConfigError` where it cannot start; then, and after
    a cancel, nothing is left open.
    """
    from ptproxy.proxy.control_bridge import attend, files_read  # noqa: PLC0415  (it imports this module)

    loop = asyncio.get_running_loop()
    read = files_read(config, source)
    async with contextlib.AsyncExitStack() as stack:
        files = kept.files if kept is not None else BridgeFiles.read(config, post)
        sockets = kept.sockets[0] if kept is not None else {}
        parts = await put_together(config, loop, stack, files, services, succession, post, sockets)
        following = succession is not None and succession.former is not None
        worker = post.place.index if post is not None else 0
        attended = await attend(
            parts, loop, stack, files.context, source, read=read, following=following, worker=worker
        )
        with signals_of(loop, attended.reloads.soon) as signals:
            for address in parts.listening:
                log.info("listening", listen=address, mode=config.mode, codecs=",".join(config.codecs))
            tell_supervisor("READY=1")
            if ready is not None:
                ready(parts.listening)
            if await replaced(parts, succession, signals):
                return
            tell_supervisor("STOPPING=1")
            attended.stopping = True
            await attended.reloads.stop()
            log.info("stopping", streams=parts.bridge.streams, seconds=parts.config.limits.drain)
            for listener in parts.listeners.values():
                listener.close()
            parts.push.close()
            for service in parts.services:
                service.end_streams()
            await within(parts.config.limits.drain, signals.at_once, parts.bridge.stop)
            if post is None:  # else whoever watches over all workers does it, after the last one
                put_down(parts.state.document(OPENINGS), parts.replay)


async def replaced(parts: Parts, succession: Succession | None, signals: Signals) -> bool:
    """Wait until the bridge is to stop (False), or another process has taken over from this one (True)."""
    while not await first_of(signals.stop, signals.replace):
        signals.replace.clear()
        if succession is None or parts.config.session_state != "keep":
            log.warning("not replaced: that needs session_state: keep")
            parts.state.note_holder()
        elif await hand_over(parts, succession, signals):
            return True
    return False


async def put_together(
    config: BridgeConfig,
    loop: asyncio.AbstractEventLoop,
    stack: contextlib.AsyncExitStack,
    files: BridgeFiles,
    services: Sequence[BridgeService],
    succession: Succession | None,
    post: Post | None,
    sockets: dict[str, socket.socket],
) -> Parts:
    """A bridge that listens; what it opens is closed by ``stack``.

    One that follows another process does what may fail or take long before it asks for that one's
    state, and touches nothing that both would notice before it is in charge. ``sockets``: those that are
    bound already, by address.
    """
    for sock in sockets.values():
        stack.callback(sock.close)
    dialer = await make_dialer(config, loop)
    stack.push_async_callback(dialer.close)
    site = make_site(config, loop)
    stack.push_async_callback(site.close)
    shape, context = load_shape(config.shape), files.context

    def arrival() -> Arrival:
        return parts.bridge.arrival()  # made below; nothing arrives before

    doorway = await make_doorway(config, loop, context, arrival, files.leaf)
    if doorway is not None:
        stack.push_async_callback(doorway.close)
    former = succession.former if succession is not None else None
    inherited = None
    if former is not None:
        stack.callback(former.close, loop)
        inherited = await former.ask()
        stack.callback(inherited.close)
    lock = inherited.take_lock() if inherited else post.lock if post else None
    state = stack.enter_context(StateFolder(config.state, lock))
    accounts = Accounts(SqliteStore(state.path, Access(config.access)))
    stack.push_async_callback(accounts.close)

    def sessions() -> Iterable[BridgeTunnel]:
        return parts.bridge.sessions.values()

    push = ShapePush(files.key, state.document(SHAPE), shape)
    exit_ = BridgeExit(
        loop, dialer, services={SHAPE_SERVICE: push}, dialer_of=AccountDialers(dialer, accounts)
    )
    narrowing = AccountExit(loop, exit_, accounts, sessions)

    def looked() -> None:
        parts.look()

    meter = AccountMeter(accounts, sessions, looked)
    stack.callback(narrowing.close)
    stack.push_async_callback(meter.close)
    openings = state.document(OPENINGS)
    if post is not None:
        replay = keep(post.openings, openings, post.place.index)
    else:
        replay = take_up(openings) if inherited is None else go_on(inherited.replay(), openings)
    stack.callback(replay.close)
    bridge = start_tunnel(config, loop, accounts, narrowing, site, replay, push.signing_key, files, post)
    bridge.on_session_over = meter.session_over
    parts = Parts(
        config, state, accounts, narrowing, meter, push, dialer, exit_, site, replay, bridge, doorway
    )
    stack.push_async_callback(parts.close_services)
    stack.push_async_callback(exit_.close)
    stack.push_async_callback(end_listeners, parts.former_listeners)
    stack.push_async_callback(end_listeners, parts.listeners)
    stack.push_async_callback(bridge.stop, 0.0)
    await parts.start_services([*services, *parts.own_services()])
    if post is not None:
        await listen(parts, loop, context, post.listeners, accepts=post.accepts)
    else:
        await listen(
            parts, loop, context, inherited.listeners if inherited else sockets, following=bool(inherited)
        )
    if former is not None and inherited is not None:
        await take_charge(parts, loop, stack, former, inherited)
    accounts.watch(loop, parts.access_changed)
    meter.start(loop)
    return parts


async def take_charge(
    parts: Parts,
    loop: asyncio.AbstractEventLoop,
    stack: contextlib.AsyncExitStack,
    former: Former,
    inherited: Inheritance,
) -> None:
    """Go on with a former process's sessions, once it has let go; raises StartError where it does not."""
    try:
        following = Following(parts.bridge, inherited.record.tunnels, inherited.take_targets())
    except StateError as error:
        raise StartError(f"handover: {error}") from None
    stack.callback(following.close)
    await former.wait_for_go()
    inherited.close()  # sockets at addresses where nobody is to listen any more
    following.go_on(parts.narrowing.take_over)
    former.follow(loop, following)
    parts.state.note_holder()
    for listener in parts.listeners.values():
        listener.go_on_accepting()
    log.info(
        "goes on for a former process", sessions=len(parts.bridge.sessions), streams=parts.bridge.streams
    )


# ---- the pieces ---------------------------------------------------------------------------------


def start_tunnel(
    config: BridgeConfig,
    loop: asyncio.AbstractEventLoop,
    accounts: Accounts,
    exit_: Exit,
    site: Site,
    replay: KeptOpenings,
    signing_key: bytes,
    files: BridgeFiles,
    post: Post | None = None,
) -> Bridge:
    """The tunnel's end of the bridge; its listeners are :func:`listen`'s."""
    limits = config.limits
    workers = post.count if post is not None else 1
    settings = BridgeSettings(
        key=files.key,
        codecs=config.codecs,
        codec_settings=codec_settings(config, loop, post),
        bindings=files.bindings,
        seal=config.seal,
        access=accounts,
        retention=RetentionBudget(limits.memory // workers),
        limits=Limits(max_streams=limits.streams),
        linger=limits.linger,
        most_sessions=limits.sessions,
        most_carriers=limits.carriers,
        most_undecided=-(-limits.handshakes // workers),
        opening_timeout=limits.opening_timeout,
        idle=limits.idle,
        half_open=limits.half_open,
        replay=replay,
        shape=load_shape(config.shape) or built_in(),  # for clients that follow one all the same
        signing_key=signing_key,
        place=post.place if post is not None else None,
    )
    return Bridge(loop, settings, exit_, site)


def codec_settings(
    config: BridgeConfig, loop: asyncio.AbstractEventLoop, post: Post | None = None
) -> CodecSettings:
    """What the codecs are told: the link's host and path, and what only a bridge needs to know."""
    settings = CodecSettings.of(config.server_name, config.address.port, config.path)
    if config.mode != "behind":
        return settings
    # caddy passes a 101 on as it is, and all that it answers itself has a Date.
    options = {"clock_offset": str(time.time() - loop.time())}
    if config.keepalive:
        options["keepalive"] = str(config.keepalive)
    if post is not None:
        options["keep"] = "no"  # the web server mixes clients' requests, whose sessions are at any worker
    return dataclasses.replace(settings, options=options)


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
    return EgressDialer(
        loop,
        await make_policy(config, resolver),
        resolver,
        ipv6=egress.ipv6,
        timeout=egress.connect_timeout,
        own_name=config.address.host,
    )


async def make_policy(config: BridgeConfig, resolver: Resolver) -> EgressPolicy:
    """The configuration's rules; raises ConfigError."""
    egress = config.egress
    own = OwnAddresses(await own_addresses(config, resolver), local_test())
    return EgressPolicy.parse(allow=egress.allow, deny=egress.deny, ports=egress.ports, own=own)


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
    parts: Parts,
    loop: asyncio.AbstractEventLoop,
    context: ssl.SSLContext | None,
    given: dict[str, socket.socket],
    *,
    following: bool = False,
    accepts: Mapping[str, int] | None = None,
) -> None:
    """Listen everywhere; raises StartError.

    Where a former process listened, or whoever watches over this one has bound a socket, that is
    taken over. One that follows a former process accepts nothing yet. ``accepts``: see
    :class:`~ptproxy.tunnel.listen.Listener`.
    """
    for endpoint in parts.config.listen:
        place = str(endpoint)
        taken = (accepts or {}).get(place, ACCEPTS)
        listener = await open_listener(parts, loop, context, endpoint, given.pop(place, None), accepts=taken)
        if following:
            listener.stop_accepting()
        parts.listeners[place] = listener
        parts.listening.append(parts.shown(place))


async def open_listener(
    parts: Parts,
    loop: asyncio.AbstractEventLoop,
    context: ssl.SSLContext | None,
    endpoint: Endpoint,
    sock: socket.socket | None = None,
    *,
    accepts: int = ACCEPTS,
) -> Listener:
    """Listen there, on ``sock`` where another process has bound it; raises StartError."""
    config, arrival = parts.config, parts.bridge.arrival
    options: dict[str, Any] = {
        "tls": context,
        "handshake_timeout": config.limits.opening_timeout,
        "most_handshakes": config.limits.handshakes,
        "doorway": parts.doorway,
    }
    try:
        if endpoint.unix is not None:
            if sock is not None:
                listener = Listener(loop, arrival, sock, accepts=accepts)
            else:
                listener = await listen_unix(loop, arrival, str(endpoint.unix))
            os.chmod(endpoint.unix, UNIX_MODE)
            return listener
        if sock is not None:
            return Listener(loop, arrival, sock, accepts=accepts, **options)
        return await listen_tcp(loop, arrival, endpoint.literal, endpoint.port, **options)
    except OSError as error:
        raise cannot_listen(endpoint, error) from None


async def end_listeners(listeners: Sequence[Listener] | Mapping[str, Listener]) -> None:
    """Stop listening, and drop what is left of the connections that were accepted."""
    listening = listeners.values() if isinstance(listeners, Mapping) else listeners
    for listener in listening:
        listener.close()
    for listener in listening:
        await listener.wait_closed()
