"""ss-server's side: clients come in through a tunnel of ours, and go on to ss-server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from ptproxy.proxy.startup import Signals
from ptproxy.pt.bridge_line import TRANSPORTS
from ptproxy.pt.datagrams import ParentDatagrams
from ptproxy.pt.doors import place_of
from ptproxy.pt.ending import end_with_parent
from ptproxy.pt.identity import Identity
from ptproxy.pt.parent import SERVICE, Parent, PlainPort
from ptproxy.pt.plugged import Plugged, check_identity, make_config
from ptproxy.pt.tor_environment import Place
from ptproxy.pt.wanted import Wanted
from ptproxy.state import StateFolder


async def serve_plugin_server(
    state: StateFolder,
    identity: Identity,
    wanted: Wanted,
    socks: Sequence[socket.socket],
    place: Place,
    process: int,
) -> None:
    """Serve clients for the ss-server at ``place``, a ``process``, until it ends us; raises StartError."""
    loop = asyncio.get_running_loop()
    config = make_config(identity, wanted, state.path, TRANSPORTS["ptproxy"], place_of(socks[0]))
    check_identity(identity, config)
    async with contextlib.AsyncExitStack() as stack:
        plugged = Plugged(loop, state)
        stack.push_async_callback(plugged.stop)
        parent = Parent(loop, PlainPort(place))
        stack.push_async_callback(parent.close)
        await plugged.start(config, socks, {SERVICE: parent}, dialer=ParentDatagrams(loop, place))
        with Signals(loop) as signals:
            end_with_parent(loop, signals, process)
            await signals.stop.wait()
