"""Whoever has a link with several fronts uses them all: the first is blocked, all works by the second."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent.parent / "tunnel"))

from chaos_relay import ChaosRelay, Fate, Kind
from tunnel_live import ECHO, RNG, Collect, Live, live

import ptproxy
from ptproxy.config.link import Front, Link
from ptproxy.peers.dialers import Errand, Purpose, TunnelDialers, tunnel_to
from ptproxy.pt.bridge_line import TRANSPORTS, line_arguments, parse_line
from ptproxy.pt.lines import Lines
from ptproxy.tunnel.runtime import loop_factory


def blocked_first(bridge: Live, port: int) -> Link:
    """A link whose own address is the relay's, and whose further front is the bridge's."""
    line = bridge.route(port=port, codecs=("websocket", "http", "random")).line
    return replace(line, fronts=(Front(line.host, bridge.port),))


def go(main: Callable[[Live, ChaosRelay, Link], Any], folder: Path) -> None:
    """Run ``main`` beside a bridge and a relay that resets every hello."""

    async def guarded() -> None:
        async with asyncio.timeout(120), live(folder) as bridge:
            relay = ChaosRelay(bridge.port, lambda: Fate(Kind.HELLO))
            try:
                await main(bridge, relay, blocked_first(bridge, await relay.start()))
                assert relay.strikes[Kind.HELLO] >= 1  # it was tried
            finally:
                await relay.stop()

    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(guarded())


async def echoed(dial: Callable[[asyncio.Protocol], Any]) -> None:
    local = Collect()
    stream = await dial(local)
    stream.write(b"around")
    assert await local.until(6) == b"around"
    stream.close()
    await local.lost


def test_a_bridge_line_of_tors(tmp_path: Path) -> None:
    async def main(bridge: Live, relay: ChaosRelay, link: Link) -> None:
        del relay
        codecs = TRANSPORTS["ptproxy"]
        arguments = line_arguments(link, codecs) | {"fingerprint": "python", "shape": "none"}
        line = parse_line(arguments, codecs, link.host, link.port)
        lines = Lines(bridge.loop)
        await echoed(lambda local: lines.dial(line, ECHO, local))
        await lines.stop()

    go(main, tmp_path)


def test_peers(tmp_path: Path) -> None:
    async def main(bridge: Live, relay: ChaosRelay, link: Link) -> None:
        del bridge, relay
        dialers = TunnelDialers(lambda link, key: tunnel_to(link, key, "python"))
        dialer = dialers.dialer(link, Purpose(Errand.DEPOSIT, key=RNG.randbytes(32)))
        await echoed(lambda local: dialer.dial(ECHO, local))
        await dialers.close()

    go(main, tmp_path)


@pytest.mark.parametrize("shape", ["none", "browse"])
def test_the_python_api(tmp_path: Path, shape: str) -> None:
    async def main(bridge: Live, relay: ChaosRelay, link: Link) -> None:
        del bridge, relay
        async with ptproxy.connect(link, shape=shape, tls={"fingerprint": "python"}) as client:
            await echoed(lambda local: client.dial(ECHO, local))

    go(main, tmp_path)
