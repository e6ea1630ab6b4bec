"""Which of several bridges a client uses, and when it takes another one; tunnels are stood in for."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from proxy_live import run, until

from ptproxy.auth.credentials import StaticKey
from ptproxy.config.link import Front, Link
from ptproxy.config.model import ClientConfig
from ptproxy.errors import AuthenticationError, DialError, Reason, StartError
from ptproxy.proxy import bridge_choice
from ptproxy.proxy.bridge_choice import MAX_IN_USE, BridgeChoice
from ptproxy.proxy.bridge_order import BridgeOrder, whole
from ptproxy.proxy.client import prepared
from ptproxy.proxy.documents import DocumentsInMemory
from ptproxy.proxy.first_carrier import connect
from ptproxy.proxy.one_bridge import OneBridge
from ptproxy.proxy.startup import Signals
from ptproxy.target import Target
from ptproxy.tunnel.client import OpeningRefused
from ptproxy.ways import Degree, Ways, memory, way

TARGET = Target.address("example.org", 443)


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """One after the other, however busy the machine is: a race is for its own tests."""
    monkeypatch.setattr(memory, "STAGGER", 3600.0)
    monkeypatch.setattr(memory, "STAGGER_LEAST", 3600.0)
    monkeypatch.setattr(memory, "STAGGER_MOST", 3600.0)


def link(number):
    rng = random.Random(number)
    host = f"bridge{number}.example.org"
    return Link(rng.randbytes(32), host, 443, "/", host, ("http",))


class Tunnel:
    """A tunnel that is up or down as a test says."""

    def __init__(self, place) -> None:
        self.place = place
        self.tunnel = SimpleNamespace(carriers={})
        self.approaches = SimpleNamespace(progressed=None, rests=lambda: False, state=list)
        self.streams = 0
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
        self.places = {number: {"name": number, "up": True, "dials": 0} for number in range(8)}
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


def test_what_is_known_of_each_bridge_is_told(monkeypatch):
    async def main():
        town = Town(0, 1, 2)
        town.places[0]["up"] = False
        await town.choice.start()
        first, second, third = town.choice.state()
        assert (first.name, first.is_in_use, first.degree) == (
            "bridge0.example.org:443", False, Degree.FAILED
        )  # fmt: skip
        assert first.rests > 0
        assert (second.is_in_use, second.degree, second.rests) == (True, Degree.OPEN, 0.0)
        assert (third.is_in_use, third.rests) == (False, 0.0)
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


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
        with Signals(asyncio.get_running_loop()) as signals:
            await connect(SimpleNamespace(bridge=link(4)), town.choice, signals)
        assert town.choice.line == link(1)
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_where_no_bridge_is_reached_at_first_dials_wait_for_one(monkeypatch):
    monkeypatch.setattr(bridge_choice, "BACKOFF_FIRST", 0.001)

    async def main():
        town = Town(0, 1)
        for place in town.places.values():
            place["up"] = False
        with Signals(asyncio.get_running_loop()) as signals:
            await connect(SimpleNamespace(bridge=link(4)), town.choice, signals)
        dials = [asyncio.ensure_future(town.dial()) for _ in range(3)]
        await until(lambda: len(town.tunnels) > 4)  # it is tried again and again
        assert not any(dial.done() for dial in dials)
        town.places[1]["up"] = True
        assert await asyncio.gather(*dials) == [1] * 3
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_a_bridge_that_refuses_ends_the_client_unless_it_let_us_in_before(monkeypatch):
    """Nobody is to wait for a link that was never right; a censor in front of one that was is waited out."""

    async def main():
        town = Town(0)
        known = Ways(bytes(32))

        async def refused(self):
            raise OpeningRefused("a page")

        monkeypatch.setattr(Tunnel, "start", refused)
        with Signals(asyncio.get_running_loop()) as signals:
            with pytest.raises(StartError, match="did not let us in"):
                await connect(SimpleNamespace(bridge=link(0)), town.choice, signals, known)
            known.enter("elsewhere", time.time())
            known.opened(way.Way(link(0).key, link(0).host, 443, "http"), 0.1, time.time())
            known.enter("here", time.time())
            await connect(SimpleNamespace(bridge=link(0)), town.choice, signals, known)
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_streams_are_shared_by_weight(monkeypatch):
    places = {0: 3.0, 1: 1.0, 2: 0.0}
    weights = {f"bridge{number}.example.org:443": weight for number, weight in places.items()}

    async def main():
        town = Town(0, 1, 2)
        town.choice = BridgeChoice(town.make, town, None, "weighted", random.Random(5), weights)
        await town.choice.start()
        town.kill(2)
        for _ in range(400):
            await town.dial()
            await asyncio.sleep(0)
        await until(lambda: len(town.choice.through()) == 2)
        before = [town.places[number]["dials"] for number in places]
        for _ in range(400):
            await town.dial()
        first, second, third = (
            town.places[number]["dials"] - was for (number, was) in zip(places, before, strict=True)
        )
        assert third == before[2] == 0
        assert 2.2 < first / second < 4.0  # seed 5
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_bridges_are_tried_in_an_order_drawn_by_weight():
    weights = {"bridge0.example.org:443": 8.0, "bridge2.example.org:443": 0.0}
    order = BridgeOrder(Ways(bytes(32)), "weighted", random.Random(5), weights)
    lines = [link(2), link(1), link(0)]
    firsts = [order.ordered(lines) for _ in range(900)]
    assert 750 < sum(one[0] == link(0) for one in firsts) < 850  # 8 of 9 times
    assert {one[-1] for one in firsts} == {link(2)}


def test_the_quickest_front_says_how_quick_a_bridge_is():
    known, now = Ways(bytes(32)), time.time()
    slow, quick = link(0), replace(link(1), fronts=(Front("other.example.org", 443),))
    for where, took in (((slow.key, slow.host), 0.2), ((quick.key, quick.host), 0.4)):
        known.opened(way.Way(*where, 443), took, now)
    order = BridgeOrder(known, "measured", random.Random(5))
    assert order.ordered([quick, slow]) == [slow, quick]
    known.opened(way.Way(quick.key, "other.example.org", 443), 0.1, now)
    assert order.ordered([quick, slow]) == [quick, slow]


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


# ---- several in use -------------------------------------------------------------------------------


def chosen_by(town, choice):
    town.ways = Ways(bytes(32))
    town.choice = BridgeChoice(town.make, town, town.ways, choice, random.Random(1))
    return town


def names(town):
    return sorted(one.dialer.place["name"] for one in town.choice._tunnels.values())


def forget(town, monkeypatch):
    """Every pause is over."""
    monkeypatch.setattr(way, "PAUSE_FIRST", 0.0)


def test_one_that_is_late_is_passed_by_and_closed(monkeypatch):
    monkeypatch.setattr(memory, "STAGGER", 0.01)

    async def main():
        town = Town(0, 1)
        start = Tunnel.start

        async def late(tunnel):
            if tunnel.place["name"] == 0:
                await asyncio.get_running_loop().create_future()
            await start(tunnel)

        monkeypatch.setattr(Tunnel, "start", late)
        await town.choice.start()
        assert await town.dial() == 1
        await until(lambda: town.tunnels[0].stopped)
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_ordered_goes_back_to_the_first_once_it_works_and_somebody_dials(monkeypatch):
    async def main():
        town = chosen_by(Town(0, 1), "ordered")
        town.places[0]["up"] = False
        await town.choice.start()
        town.places[0]["up"] = True
        assert await town.dial() == 1  # it rests
        assert names(town) == [1]
        forget(town, monkeypatch)
        assert await town.dial() == 1  # carries this one, while the first is dialled
        await until(lambda: names(town) == [0, 1])
        assert await town.dial() == 0
        await until(lambda: names(town) == [0])  # the other carries nothing any more
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_one_beside_that_still_carries_streams_stays(monkeypatch):
    async def main():
        town = chosen_by(Town(0, 1), "ordered")
        town.places[0]["up"] = False
        await town.choice.start()
        town.tunnels[-1].streams = 1
        town.places[0]["up"] = True
        forget(town, monkeypatch)
        await town.dial()
        await until(lambda: names(town) == [0, 1])
        assert await town.dial() == 0
        assert names(town) == [0, 1]
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_weighted_uses_all_that_work(monkeypatch):
    async def main():
        town = chosen_by(Town(0, 1, 2), "weighted")
        await town.choice.start()
        for wanted in (2, 3):
            await town.dial()
            await until(lambda wanted=wanted: len(names(town)) == wanted and not town.choice._returning)
        assert {await town.dial() for _ in range(100)} == {0, 1, 2}
        town.kill(1)
        assert {await town.dial() for _ in range(100)} == {0, 2}
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_weighted_uses_others_than_the_first_few(monkeypatch):
    used = set()

    async def main():
        for seed in range(20):
            town = Town(*range(8))
            town.choice = BridgeChoice(town.make, town, None, "weighted", random.Random(seed))
            await town.choice.start()
            async with asyncio.timeout(60):
                while len(names(town)) < MAX_IN_USE:
                    await town.dial()
                    await asyncio.sleep(0)
            used.add(tuple(names(town)))
            await town.choice.stop()

    run("asyncio", monkeypatch, main)
    assert set().union(*used) == set(range(8))
    assert len(used) > 10  # seeds 0 to 19, of 70 quartets


def test_measured_takes_the_quickest_of_this_network(monkeypatch):
    async def main():
        town = chosen_by(Town(0, 1, 2), "measured")
        for number, took in ((0, 0.9), (1, 0.3), (2, 0.6)):
            town.ways.opened(whole(link(number)), took, time.time())
        await town.choice.start()
        assert await town.dial() == 1
        town.kill(1)
        assert await town.dial() == 2
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_a_bridge_whose_every_way_is_throttled_is_left_for_new_streams(monkeypatch):
    async def main():
        town = chosen_by(Town(0, 1), "ordered")
        await town.choice.start()
        town.tunnels[0].approaches.rests = lambda: True
        assert await town.dial() == 0
        await until(lambda: names(town) == [0, 1])
        assert await town.dial() == 1
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_without_streams_nothing_is_dialled(monkeypatch):
    async def main():
        town = chosen_by(Town(0, 1, 2), "weighted")
        town.places[0]["up"] = False
        await town.choice.start()
        forget(town, monkeypatch)
        tried = len(town.tunnels)
        await asyncio.sleep(0.2)
        assert len(town.tunnels) == tried
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_another_network_ends_the_pause_and_is_told_to_all_in_use(monkeypatch):
    async def main():
        town = chosen_by(Town(0), "ordered")
        await town.choice.start()
        told = []
        town.tunnels[0].network_changed = told.append
        town.choice._not_before = 1e12
        town.choice.network_changed(frozenset({"192.0.2.1"}))
        assert told == [{"192.0.2.1"}]
        assert town.choice._not_before < 0
        await town.choice.stop()

    run("asyncio", monkeypatch, main)


def test_each_bridge_has_a_browser_of_its_own_which_ends_with_it(tmp_path, monkeypatch):
    """Profiles apart, as two may run at once; one that is used again before it was given up is the same."""
    ended = []

    class Browser:
        def __init__(self, loop, line, trust, folder, program) -> None:
            self.line, self.folder = line, folder

        async def stop(self):
            ended.append(self.folder.name)

        def codecs(self, names):
            return tuple(names)

    monkeypatch.setattr("ptproxy.tunnel.chromium.Chromium", Browser)
    section = {"role": "client", "listen": "127.0.0.1:0", "bridge": link(0).serialize(), "key": "key",
               "state": "state", "shape": "none", "tls": {"fingerprint": "browser"}}  # fmt: skip
    config = ClientConfig.model_validate(section, context={"folder": tmp_path})

    async def main():
        loop, key = asyncio.get_running_loop(), StaticKey(bytes(32))
        async with prepared(config, loop, DocumentsInMemory(), key) as make:
            by_two = replace(link(1), fronts=(Front("other.example.org", 443),))
            first, second, again = make(link(0)), make(by_two), make(by_two)
            routes = [second.dialer._route, *second.dialer._route.fronts]
            assert [each.browser.line.host for each in routes] == ["bridge1.example.org", "other.example.org"]
            assert again.dialer._route.browser is routes[0].browser
            await first.stop()
            assert ended == ["chromium"]
            await second.stop()
            assert len(set(ended)) == 3
            assert all(name.startswith("chromium-") for name in ended[1:])
            await again.stop()
        assert len(set(ended)) == 3

    run("asyncio", monkeypatch, main)


def test_beside_a_bridge_that_works_a_replaced_certificate_is_no_login_page(monkeypatch):
    """Else every new stream would dial that bridge again for a quarter of an hour: it would never rest."""

    async def main():
        town = Town(0, 1)
        town.places[0]["up"] = False
        await town.choice.start()
        assert await town.dial() == 1
        choice, here = town.choice, whole(link(0))
        choice._ways._known(time.time()).records.clear()  # its pause is over

        async def replaced(self):
            del self
            raise AuthenticationError("another certificate")

        monkeypatch.setattr(Tunnel, "start", replaced)
        assert await town.dial() == 1
        await until(lambda: not choice._returning)
        assert town.tunnels[-1].approaches.others_open()
        assert not choice._ways.portal.stands(time.time())
        assert choice._ways.degree(here, time.time()) is Degree.CERTIFICATE
        assert choice._ways.rests_until(here, time.time())
        dialled = len(town.tunnels)
        for _ in range(5):
            assert await town.dial() == 1
        assert len(town.tunnels) == dialled
        await choice.stop()

    run("asyncio", monkeypatch, main)
