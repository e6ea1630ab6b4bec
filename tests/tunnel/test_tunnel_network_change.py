"""A machine that sleeps, moves, or waits for a login: its streams go on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chaos_relay import ChaosRelay, Fate, Kind
from tunnel_live import ECHO, Collect, live

from ptproxy.tunnel import approach, connect, surroundings
from ptproxy.tunnel.surroundings import watch_network
from ptproxy.tunnel.traffic import TunnelTraffic
from ptproxy.ways import Degree, Gateway, Surroundings, Ways

HERE = Surroundings(frozenset({"127.0.0.1"}), (Gateway("eth0", "192.0.2.1"),))
TESTS = Path(__file__).parent.parent
STUCK = 180
"""Seconds after which it counts as broken; a run takes four."""


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
@pytest.mark.program("unshare", "ip")
def test_another_address_another_family_and_the_link_again() -> None:
    """Real interfaces, and the kernel's own word: one stream goes on through all of it."""
    alone = ["unshare", "--map-root-user", "--net"]
    probe = ["sh", "-c", "ip link add name d0 type veth peer name d1 && unshare --net true"]
    if subprocess.run([*alone, *probe], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no network namespace")
    done = subprocess.run(
        [*alone, sys.executable, TESTS / "tunnel" / "network_scenario.py"],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(map(str, (TESTS / "tunnel", TESTS / "proxy", TESTS, TESTS.parent)))},
        capture_output=True, text=True, timeout=STUCK, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["streams"] == 1
    seen = told["seen"]
    assert seen["begins"] == ["198.51.100.2"]
    assert seen["to_ipv6"] == ["2001:db8:1::2"]
    assert seen["new_address"] == ["203.0.113.7"]


def test_after_a_sleep_the_stream_goes_on_at_once(run: Any, tmp_path: Any, monkeypatch: Any) -> None:
    """What was open is forgotten by every box on the way, and nobody says so: only the clocks tell."""
    drift = [0.0]
    monkeypatch.setattr(surroundings, "TICK", 0.01)
    monkeypatch.setattr(surroundings, "look_around", lambda: HERE)
    monkeypatch.setattr(surroundings, "_drift", lambda: drift[0])

    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port)
            dialer = await bridge.client(port=await relay.start())
            ways = Ways(bytes(32))
            watch = watch_network(bridge.loop, dialer, ways)
            local = Collect()
            stream = await dialer.dial(ECHO, local, b"before ")
            assert await local.until(7) == b"before "
            for pair in tuple(relay.pairs):
                pair.silent = True
            before = set(dialer.tunnel.carriers)
            drift[0] = 3600.0
            while before & set(dialer.tunnel.carriers):
                await asyncio.sleep(0.001)
            stream.write(b"after")
            assert await local.until(12) == b"before after"
            watch.close()
            await dialer.stop()
            await relay.stop()

    run(main())


def test_a_dial_under_way_begins_anew_in_another_network(run: Any, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(connect, "CONNECT_TIMEOUT", 3600.0)
    monkeypatch.setattr("ptproxy.ways.race.AGAIN", 3600.0)

    async def main() -> None:
        async with live(tmp_path) as bridge:
            fates = [Fate(Kind.BLACKHOLE)]
            relay = ChaosRelay(bridge.port, lambda: fates.pop() if fates else Fate())
            dialer = bridge.dialer(port=await relay.start())
            starting = asyncio.ensure_future(dialer.start())
            while not relay.accepted:
                await asyncio.sleep(0.001)
            dialer.network_grew()  # one way out more is no reason
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert (relay.accepted, starting.done()) == (1, False)
            dialer.network_changed(())
            await starting
            assert relay.accepted == 2
            await dialer.stop()
            await relay.stop()

    run(main())


def test_who_gives_up_a_dial_that_begins_anew_is_let_go(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port, lambda: Fate(Kind.BLACKHOLE))
            dialer = bridge.dialer(port=await relay.start())
            starting = asyncio.ensure_future(dialer.start())
            while not relay.accepted:
                await asyncio.sleep(0.001)
            dialer.network_changed(())
            starting.cancel()
            await asyncio.wait({starting})
            assert starting.cancelled()
            await dialer.stop()
            await relay.stop()

    run(main())


def test_a_login_page_is_waited_out(run: Any, tmp_path: Any, monkeypatch: Any) -> None:
    """It answers in place of the bridge with a certificate of its own; once it is gone the stream goes on."""
    told: list[dict[str, Any]] = []

    class Log:
        def info(self, event: str, **words: Any) -> None:
            told.append({"event": event, **words})

        warning = info

    async def main() -> None:
        (tmp_path / "page").mkdir()
        async with live(tmp_path) as bridge, live(tmp_path / "page") as page:
            relay = ChaosRelay(bridge.port)
            dialer = await bridge.client(port=await relay.start())
            local = Collect()
            stream = await dialer.dial(ECHO, local, b"before ")
            assert await local.until(7) == b"before "
            monkeypatch.setattr(approach, "log", Log())
            relay.port = page.port
            relay.cut_all()
            stream.write(b"after")
            while not any(line.get("degree") == str(Degree.PORTAL) for line in told):
                await asyncio.sleep(0.001)
            [way] = dialer.approaches.state()
            assert (way.degree, way.rests) == (Degree.PORTAL, 0.0)
            assert "login" in way.done
            asked = asyncio.ensure_future(dialer.ready())
            for _ in range(20):  # a dial waits, it is not refused
                await asyncio.sleep(0.01)
            assert not asked.done()
            assert page.site.received == []  # nothing was said to whoever answers
            relay.port = bridge.port
            assert await local.until(12) == b"before after"
            await asked
            [way] = dialer.approaches.state()
            assert (way.degree, way.rests, way.done) == (Degree.OPEN, 0.0, "")
            await dialer.stop()
            await relay.stop()

    run(main())


def test_while_nobody_needs_a_carrier_nothing_is_dialled(run: Any, tmp_path: Any, monkeypatch: Any) -> None:
    """... once it has failed often enough; the next dial is somebody's, or follows the network."""
    for module in ("rest", "dial"):
        monkeypatch.setattr(f"ptproxy.tunnel.{module}.BACKOFF_LAST", 0.02)
        monkeypatch.setattr(f"ptproxy.tunnel.{module}.BACKOFF_FIRST", 0.02)

    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port)
            dialer = await bridge.client(port=await relay.start())
            asking = TunnelTraffic(dialer.tunnel, Collect(), "", None)  # what the client looks like, say
            await dialer._open(asking, ECHO, b"", None)
            relay.fate = lambda: Fate(Kind.HELLO)
            relay.cut_all()
            while not dialer.rest.is_resting:
                await asyncio.sleep(0.01)
            dialled = relay.accepted
            await asyncio.sleep(0.3)
            assert relay.accepted == dialled
            dialer.network_grew()
            while relay.accepted == dialled:
                await asyncio.sleep(0.001)
            relay.fate = Fate
            local = Collect()
            await dialer.dial(ECHO, local, b"needed")
            assert await local.until(6) == b"needed"
            await dialer.stop()
            await relay.stop()

    run(main())
