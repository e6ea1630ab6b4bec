"""A chosen bridge gets room beside those in use, and no bridge has two tunnels."""

from __future__ import annotations

import asyncio

from proxy_live import run, until
from test_proxy_bridge_choice import Town, Tunnel, chosen_by, names

from ptproxy.proxy.bridge_choice import MAX_IN_USE


def name(number):
    return f"bridge{number}.example.org:443"


async def filled(town):
    """As many bridges in use as may be; the numbers of the others."""
    await town.choice.start()
    while len(names(town)) < MAX_IN_USE:
        await town.dial()
        await asyncio.sleep(0)
    await until(lambda: not town.choice._returning)
    return [number for number in range(8) if number not in names(town)]


def held(monkeypatch, number):
    """The first tunnel to a bridge waits for this event; it is in the list once it does."""
    gate, start, seen = asyncio.Event(), Tunnel.start, []

    async def slow(tunnel):
        if tunnel.place["name"] == number:
            seen.append(tunnel)
            if len(seen) == 1:
                await gate.wait()
        await start(tunnel)

    monkeypatch.setattr(Tunnel, "start", slow)
    return gate, seen


def test_a_chosen_bridge_gets_the_place_of_one_that_carries_nothing(monkeypatch):
    async def main():
        town = chosen_by(Town(*range(8)), "weighted")
        chosen = (await filled(town))[0]
        for one in town.choice.in_use[1:]:
            one.dialer.streams = 1
        idle = town.choice.in_use[0].dialer.place["name"]
        town.choice.prefer(name(chosen))
        await until(lambda: chosen in names(town))
        assert len(names(town)) == MAX_IN_USE
        assert idle not in names(town)
        assert {await town.dial() for _ in range(10)} == {chosen}
        await town.choice.stop()
        assert all(tunnel.stopped for tunnel in town.tunnels)

    run("asyncio", monkeypatch, main)


def test_no_stream_is_ended_for_it_and_it_comes_once_there_is_room(monkeypatch):
    async def main():
        town = chosen_by(Town(*range(8)), "weighted")
        chosen = (await filled(town))[0]
        for one in town.choice.in_use:
            one.dialer.streams = 1
        before = names(town)
        town.choice.prefer(name(chosen))
        assert await town.dial() in before
        assert names(town) == before
        town.choice.in_use[2].dialer.streams = 0
        await town.dial()
        await until(lambda: chosen in names(town))
        assert len(names(town)) == MAX_IN_USE
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_one_choice_after_the_other_brings_no_more_than_may_be_in_use(monkeypatch):
    async def main():
        town = chosen_by(Town(*range(8)), "ordered")
        await town.choice.start()
        for number in range(1, 8):
            town.choice.prefer(name(number))
        await until(lambda: not town.choice._returning)
        assert len(names(town)) <= MAX_IN_USE
        await town.dial()
        await until(lambda: names(town) == [7] or (7 in names(town) and not town.choice._returning))
        assert await town.dial() == 7
        await town.choice.stop()
        assert all(tunnel.stopped for tunnel in town.tunnels)

    run("asyncio", monkeypatch, main)


def test_a_bridge_that_is_reached_twice_at_once_has_one_tunnel(monkeypatch):
    """Chosen by a person, and in the search for the next one when the one in use is lost meanwhile."""

    async def main():
        town = chosen_by(Town(0, 1), "ordered")
        await town.choice.start()
        gate, seen = held(monkeypatch, 1)
        town.choice.prefer(name(1))
        await until(lambda: len(seen) == 1)
        town.kill(0)
        assert await town.dial() == 1
        gate.set()
        await until(lambda: not town.choice._returning)
        await until(lambda: [tunnel.stopped for tunnel in town.tunnels].count(False) == 1)
        assert await town.dial() == 1
        await town.choice.stop()
        assert all(tunnel.stopped for tunnel in town.tunnels)

    run("asyncio", monkeypatch, main)


def test_whichever_of_the_two_comes_first(monkeypatch):
    async def main():
        town = chosen_by(Town(0, 1), "ordered")
        await town.choice.start()
        start, gates = Tunnel.start, [asyncio.Event(), asyncio.Event()]
        began = []

        async def slow(tunnel):
            began.append(tunnel)
            await gates[len(began) - 1].wait()
            await start(tunnel)

        monkeypatch.setattr(Tunnel, "start", slow)
        town.choice.prefer(name(1))
        await until(lambda: len(began) == 1)
        town.kill(0)
        dialling = asyncio.create_task(town.dial())
        await until(lambda: len(began) == 2)
        gates[0].set()
        await until(lambda: 1 in names(town))
        gates[1].set()
        assert await dialling == 1
        await until(lambda: [tunnel.stopped for tunnel in town.tunnels].count(False) == 1)
        await town.choice.stop()
        assert all(tunnel.stopped for tunnel in town.tunnels)

    run("asyncio", monkeypatch, main)
