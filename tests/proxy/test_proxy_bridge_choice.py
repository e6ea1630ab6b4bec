"""Which of several bridges a client uses, and when it takes another one; tunnels are stood in for."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace

import pytest
from proxy_live import run, until

from ptproxy.config.link import Link
from ptproxy.errors import DialError, Reason, StartError
from ptproxy.proxy import bridge_choice
from ptproxy.proxy.bridge_choice import BridgeChoice, OneBridge
from ptproxy.proxy.client import connect
from ptproxy.proxy.startup import Signals
from ptproxy.target import Target

TARGET = Target.address("example.org", 443)


def link(number):
    rng = random.Random(number)
    host = f"bridge{number}.example.org"
    return Link(rng.randbytes(32), host, 443, "/", host, ("http",))


class Tunnel:
    """A tunnel that is up or down as a test says."""

    def __init__(self, place) -> None:
        self.place = place
        self.tunnel = SimpleNamespace(carriers={})
        self.stopped = False

    async def start(self):
        await asyncio.sleep(0.01)
        if not self.place["up"]:
            raise DialError(Reason.REFUSED)
        self.tunnel.carriers = {1: object()}

    async def ready(self):
        if not self.tunnel.carriers:
            raise DialError(Reason.TUNNEL_DOWN)

    async def dial(self, target, protocol, first_data=b""):
        del target, protocol, first_data
        self.place["dials"] += 1
        return self.place["name"]

    async def stop(self):
        self.stopped = True


class Town:
    """Bridges by number, and a source that knows some of them."""

    def __init__(self, *known) -> None:
        self.places = {number: {"name": number, "up": True, "dials": 0} for number in range(5)}
        self.lines = tuple(link(number) for number in known)
        self.hurried = 0
        self.tunnels = []
        self.choice = BridgeChoice(self.make, self)

    def make(self, line):
        number = next(number for number in self.places if link(number) == line)
        self.tunnels.append(Tunnel(self.places[number]))
        return OneBridge(line, self.tunnels[-1])

    def hurry(self):
        self.hurried += 1

    def kill(self, number):
        self.places[number]["up"] = False
        for tunnel in self.tunnels:
            if tunnel.place["name"] == number:
                tunnel.tunnel.carriers = {}

    async def dial(self):
        return await self.choice.dial(TARGET, asyncio.Protocol())


def test_the_first_that_is_reached_is_used(monkeypatch):
    async def main():
        town = Town(0, 1, 2)
        town.places[0]["up"] = False
        await town.choice.start()
        assert await town.dial() == 1
        assert list(town.choice.through()) == ["bridge1.example.org:443"]
        assert [tunnel.stopped for tunnel in town.tunnels] == [True, False]
        await town.choice.stop()
        assert all(tunnel.stopped for tunnel in town.tunnels)

    run("asyncio", monkeypatch, main)


def test_what_is_not_reached_is_told_by_its_own_name(monkeypatch):
    """The configured bridge is often not even among those that were tried."""

    async def main():
        town = Town(0, 1)
        for place in town.places.values():
            place["up"] = False
        told = pytest.raises(StartError, match=r"bridge1\.example\.org:443 is not reached")
        with Signals(asyncio.get_running_loop()) as signals, told:
            await connect(SimpleNamespace(bridge=link(4)), town.choice, signals)
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_a_lost_bridge_is_replaced_once_for_all_who_dial(monkeypatch):
    async def main():
        town = Town(0, 1, 2)
        await town.choice.start()
        town.kill(0)
        assert await asyncio.gather(*(town.dial() for _ in range(5))) == [1] * 5
        assert len(town.tunnels) == 2
        assert town.hurried == 1
        await until(lambda: town.tunnels[0].stopped)
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_bridges_learned_later_are_tried(monkeypatch):
    async def main():
        town = Town(0)
        await town.choice.start()
        town.kill(0)
        town.lines = (link(3), link(0))
        assert await town.dial() == 3
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_without_another_bridge_the_one_there_is_waits_as_ever(monkeypatch):
    async def main():
        town = Town(0)
        await town.choice.start()
        town.kill(0)
        assert await town.dial() == 0  # its own dialer waits, or says that the tunnel is down
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_when_none_is_reached_nobody_is_asked_again_at_once(monkeypatch):
    async def main():
        town = Town(0, 1)
        await town.choice.start()
        for number in (0, 1):
            town.kill(number)
        for _ in range(4):
            with pytest.raises(DialError) as caught:
                await town.dial()
            assert caught.value.reason is Reason.TUNNEL_DOWN
        assert len(town.tunnels) == 2
        monkeypatch.setattr(bridge_choice, "PAUSE", 0.0)
        town.choice._not_before = 0.0
        town.places[1]["up"] = True
        assert await town.dial() == 1
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_after_the_end_nothing_is_dialled(monkeypatch):
    async def main():
        town = Town(0, 1)
        await town.choice.start()
        await town.choice.stop()
        with pytest.raises(DialError) as caught:
            await town.dial()
        assert caught.value.reason is Reason.SHUTDOWN
        assert town.choice.through() == {}

    run("asyncio", monkeypatch, main)


def test_who_gives_up_does_not_stop_the_search_for_the_next_bridge(monkeypatch):
    """Programs wait a few seconds each; bridges that swallow packets take longer than that to be left."""

    async def main():
        town = Town(0, 1, 2)
        await town.choice.start()
        town.kill(0)
        swallowing = asyncio.Event()
        start = Tunnel.start

        async def slow(tunnel):
            if tunnel.place["name"] == 1:
                tunnel.place["up"] = False
                await swallowing.wait()
            await start(tunnel)

        monkeypatch.setattr(Tunnel, "start", slow)
        first = asyncio.create_task(town.dial())
        await until(lambda: len(town.tunnels) == 2)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = asyncio.create_task(town.dial())
        await asyncio.sleep(0)
        swallowing.set()
        assert await second == 2
        assert len(town.tunnels) == 3
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_the_end_gives_up_the_search_for_the_next_bridge(monkeypatch):
    async def main():
        town = Town(0, 1)
        await town.choice.start()
        town.kill(0)

        async def silent(_):
            await asyncio.get_running_loop().create_future()

        monkeypatch.setattr(Tunnel, "start", silent)
        dialling = asyncio.create_task(town.dial())
        await until(lambda: len(town.tunnels) == 2)
        await town.choice.stop()
        with pytest.raises(DialError) as caught:
            await dialling
        assert caught.value.reason is Reason.SHUTDOWN
        assert all(tunnel.stopped for tunnel in town.tunnels)

    run("asyncio", monkeypatch, main)
