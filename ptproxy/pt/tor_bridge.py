"""tor's bridge side: clients come in through a tunnel of ours, and go on to tor's own port."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from ptproxy.proxy.startup import Signals
from ptproxy.pt.bridge_line import TRANSPORTS
from ptproxy.pt.doors import place_of
from ptproxy.pt.ending import end_with_input, end_with_parent
from ptproxy.pt.identity import Identity
from ptproxy.pt.parent import SERVICE, ExtendedPort, Parent, ParentPort, PlainPort
from ptproxy.pt.plugged import Plugged, check_identity, make_config
from ptproxy.pt.tor_environment import BridgeSide
from ptproxy.pt.wanted import Wanted
from ptproxy.pt.webtunnel_bridge import UpgradeFront
from ptproxy.pt.webtunnel_line import TRANSPORT as WEBTUNNEL
from ptproxy.state import StateFolder


@dataclass(frozen=True, slots=True)
class Offer:
    """One transport that tor was told of."""

    transport: str
    sock: socket.socket
    state: StateFolder
    identity: Identity
    wanted: Wanted


async def serve_bridge(side: BridgeSide, offers: Sequence[Offer], parent: int) -> None:
    """Serve tor's clients until tor, the process ``parent``, ends us or is gone.

    Raises :class:`~ptproxy.errors.StartError`.
    """
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        for offer in offers:
            web = offer.transport == WEBTUNNEL
            codecs, place = TRANSPORTS.get(offer.transport, ("websocket",)), place_of(offer.sock)
            config = make_config(offer.identity, offer.wanted, offer.state.path, codecs, place)
            check_identity(offer.identity, config)
            plugged = Plugged(loop, offer.state)
            stack.push_async_callback(plugged.stop)
            direct = config.mode == "standalone"  # else all come from the web server in front
            tor = Parent(loop, port_of(side, offer.transport), tell_client=direct)
            stack.push_async_callback(tor.close)
            front = functools.partial(UpgradeFront, path=offer.identity.path, parent=tor) if web else None
            await plugged.start(config, [offer.sock], {SERVICE: tor}, front=front)
        with Signals(loop) as signals:
            end_with_parent(loop, signals, parent)
            if side.common.ends_with_stdin:
                end_with_input(loop, signals)
            await signals.stop.wait()


def port_of(side: BridgeSide, transport: str) -> ParentPort:
    """Where tor takes the streams of a transport: the extended port where it has one."""
    if side.extended_port is not None and side.cookie_file is not None:
        return ExtendedPort(side.extended_port, side.cookie_file, transport)
    assert side.or_port is not None  # tor_environment sees to that
    return PlainPort(side.or_port)
