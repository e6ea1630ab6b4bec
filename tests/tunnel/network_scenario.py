"""A client whose network changes under a stream, in two namespaces: prints JSON of what it saw.

The bridge's side makes a veth pair, gives one end to the client's namespace and listens at an IPv4 and an
IPv6 address. The client has a front for each. It loses its IPv4 address and gets an IPv6 one, comes
into another network, and loses its link for a while. Each time it writes into the stream while it
is away; what counts are the seconds from the end of the last ``ip`` command to the echo.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunnel_live import ECHO, RNG, Collect, live
from ways_scenario import Delay

from ptproxy.auth.credentials import StaticKey
from ptproxy.config.link import Front, Link
from ptproxy.tunnel.client_tls import PythonTls
from ptproxy.tunnel.connect import Route, by_fronts
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.runtime import loop_factory
from ptproxy.tunnel.surroundings import watch_network
from ptproxy.tunnel.tls import ClientTrust
from ptproxy.ways import Ways

HERE, THERE = "198.51.100", "203.0.113"
SIX = "2001:db8:1::"
AWAY = 0.5
"""Seconds without a network: dials fail meanwhile, and pauses grow."""


def ip(*words: str) -> None:
    """``ip(8)``; IPv6 addresses are there at once, not after a second."""
    subprocess.run(["ip", *words], check=True)


# ---- the bridge's side ----------------------------------------------------------------------------


async def bridge_side(folder: Path) -> dict[str, Any]:
    """The bridge, and the client as a process in a namespace of its own; what that printed."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "name", "d0", "type", "veth", "peer", "name", "d1")
    for address in (f"{HERE}.1/24", f"{THERE}.1/24"):
        ip("addr", "add", address, "dev", "d0")
    ip("-6", "addr", "add", f"{SIX}1/64", "dev", "d0", "nodad")
    ip("link", "set", "d0", "up")
    async with contextlib.AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(live(folder))
        relay, port = Delay(bridge.port, 0.0), 0
        for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            sock = socket.create_server((host, port), family=family)
            port = sock.getsockname()[1]
            await relay.start(sock)
        line = bridge.route().line
        link = replace(line, host=f"{HERE}.1", port=port, fronts=(Front(f"{SIX}1", port),))
        client = await asyncio.create_subprocess_exec(
            "unshare", "--net", sys.executable, __file__, link.serialize(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert client.stdout is not None
        ready = await client.stdout.readline()  # it is in its namespace
        assert ready, "the client has ended"
        ip("link", "set", "d1", "netns", ready.decode().strip())
        said, _ = await client.communicate(b"go\n")
        await relay.stop()
        assert client.returncode == 0
        return {**json.loads(said), "streams": len(bridge.exit.asked)}


# ---- the client's side ----------------------------------------------------------------------------


class Machine:
    """The client's."""

    def __init__(self, dialer: TunnelDialer) -> None:
        self.dialer = dialer
        self.local = Collect()
        self.stream: Any = None
        self.sent = b""

    async def say(self, data: bytes) -> None:
        self.sent += data
        self.stream.write(data)

    async def hears(self) -> None:
        async with asyncio.timeout(90):
            assert await self.local.until(len(self.sent)) == self.sent

    async def moves(self, leave: list[str], come: list[str]) -> float:
        """Leave one network and come into another; the seconds until the stream goes on."""
        for command in leave:
            ip(*command.split())
        await self.say(b"away ")
        await asyncio.sleep(AWAY)
        for command in come:
            ip(*command.split())
        began = time.monotonic()
        await self.hears()
        return time.monotonic() - began

    def carriers(self) -> list[str]:
        """By which addresses they are there: on a slow machine there may be two."""
        open_ones = [one for one in self.dialer.tunnel.dialled if not one.ended]
        return sorted({address for one in open_ones for address in one.local_addresses})


async def client_side(link: Link) -> dict[str, Any]:
    """Move, and tell how long it took."""
    loop, key = asyncio.get_running_loop(), StaticKey.generate(RNG)
    first = [f"addr add {HERE}.2/24 dev d1", "link set d1 up", f"route add default via {HERE}.1"]
    for command in first:
        ip(*command.split())

    def route_of(line: Link) -> Route:
        return Route(line, key, PythonTls(ClientTrust(pin=line.pin)), line.codecs)

    ways = Ways(bytes(32))
    dialer = TunnelDialer(loop, by_fronts(link, route_of), carriers=1, ways=ways)
    watch = watch_network(loop, dialer, ways)
    machine = Machine(dialer)
    await dialer.start()
    machine.stream = await dialer.dial(ECHO, machine.local, b"")
    await machine.say(b"here ")
    await machine.hears()
    seen = {"begins": machine.carriers()}
    took = {
        "to_ipv6": await machine.moves(
            [f"addr del {HERE}.2/24 dev d1"],
            [f"-6 addr add {SIX}2/64 dev d1 nodad", f"-6 route add default via {SIX}1"],
        )
    }
    seen["to_ipv6"] = machine.carriers()
    took["new_address"] = await machine.moves(
        [f"-6 route del default via {SIX}1", f"-6 addr del {SIX}2/64 dev d1"],
        [f"addr add {THERE}.7/24 dev d1", f"route add default via {THERE}.1"],
    )
    seen["new_address"] = machine.carriers()
    took["link_again"] = await machine.moves(
        ["link set d1 down"], ["link set d1 up", f"route add default via {THERE}.1"]
    )
    watch.close()
    await dialer.stop()
    return {"took": took, "seen": seen}


def main() -> None:
    """``network_scenario.py``: both sides; with a link the client's."""
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        if len(sys.argv) > 1:
            print(os.getpid(), flush=True)
            sys.stdin.readline()  # the link is there
            ip("link", "set", "lo", "up")
            print(json.dumps(runner.run(client_side(Link.parse(sys.argv[1])))))
        else:
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps(runner.run(bridge_side(Path(folder)))))


if __name__ == "__main__":
    main()
