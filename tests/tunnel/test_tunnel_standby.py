"""The connection that is ready before it is needed: streams go on there, and it is never in the way."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from chaos_relay import ChaosRelay
from tunnel_live import ECHO, Collect, live

from ptproxy.codec.http_exchange import Upload
from ptproxy.codec.http_posts import UploadQueue
from ptproxy.errors import DialError, Reason
from ptproxy.tunnel import client as client_module
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.client_carrier import ClientCarrier
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.standby import ACTIVE, LAPSE_FIRST, Ready, Standby
from ptproxy.ways import Degree, memory

CONFIRM_SIZE = 16
"""Bytes of message 3 of the opening: an empty payload's tag."""


@pytest.fixture(autouse=True)
def _first_front(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one that is taken, however busy the machine is."""
    for limit in ("STAGGER", "STAGGER_LEAST", "STAGGER_MOST"):
        monkeypatch.setattr(memory, limit, 3600.0)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_an_http_carrier_says_its_first_frames_in_its_first_post(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A POST of CONFIRM alone would cost a stream that moves a round trip: the next one waits for it."""
    first: list[int] = []
    take = UploadQueue.take

    def noting(queue: UploadQueue) -> Upload:
        upload = take(queue)
        if upload.number == 0:
            first.append(upload.size)
        return upload

    monkeypatch.setattr(UploadQueue, "take", noting)

    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port)
            dialer = await bridge.client("http", port=await relay.start(), carriers=1)
            program = Collect()
            stream = await dialer.dial(ECHO, program)
            stream.write(b"before")
            assert await program.until(6) == b"before"
            first.clear()
            for pair in list(relay.pairs):
                pair.cut()
            stream.write(b" after")
            assert await program.until(12) == b"before after"
            assert first
            assert first[0] > CONFIRM_SIZE + len(b" after")
            await dialer.stop()
            bridge.dialers.remove(dialer)
            await relay.stop()

    asyncio.run(main())


def test_a_stream_goes_on_over_the_connection_that_was_ready(tmp_path: Path) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port)
            dialer = await bridge.client("websocket", port=await relay.start(), carriers=1)
            program = Collect()
            stream = await dialer.dial(ECHO, program)
            stream.write(b"before")
            assert await program.until(6) == b"before"
            (used,) = relay.pairs
            dialer._keep_standby(dialer.tunnel)
            await until(lambda: dialer._standby._ready)
            assert relay.accepted == 2
            used.cut()
            stream.write(b" after")
            assert await program.until(12) == b"before after"
            assert relay.pairs != {used}
            (carrier,) = dialer.tunnel.carriers.values()
            assert carrier.number == 2
            await until(lambda: dialer._standby._ready)  # and one is ready again
            assert relay.accepted == 3
            await dialer.stop()
            bridge.dialers.clear()
            await relay.stop()

    uvloop.run(main())


def test_a_codec_of_two_connections_goes_on_over_two_that_were_ready(tmp_path: Path) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port)
            dialer = await bridge.client("http", port=await relay.start(), carriers=1)
            try:
                await goes_on(dialer, relay)
            finally:
                await dialer.stop()
                bridge.dialers.clear()
                await relay.stop()

    async def goes_on(dialer: TunnelDialer, relay: ChaosRelay) -> None:
        program = Collect()
        stream = await dialer.dial(ECHO, program)
        stream.write(b"before")
        assert await program.until(6) == b"before"
        (first,) = dialer.tunnel.carriers.values()
        await until(lambda: len(first.connections) >= first.client_codec.links_wanted)
        used = set(relay.pairs)
        dialer._keep_standby(dialer.tunnel)
        await until(lambda: dialer._standby._ready)
        ready = cast("Ready", dialer._standby._ready)
        assert ready.beside is not None
        both = (ready.connection, ready.beside)
        for pair in used:
            pair.cut()
        stream.write(b" after")
        assert await program.until(12) == b"before after"
        await until(lambda: all(isinstance(each.owner, ClientCarrier) for each in both))

    uvloop.run(main())


def test_one_that_died_unnoticed_costs_a_dial_and_no_stream(tmp_path: Path) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port)
            dialer = await bridge.client("websocket", port=await relay.start(), carriers=1)
            program = Collect()
            stream = await dialer.dial(ECHO, program)
            stream.write(b"before")
            await program.until(6)
            (used,) = relay.pairs
            dialer._keep_standby(dialer.tunnel)
            await until(lambda: dialer._standby._ready)
            (ready,) = relay.pairs - {used}
            ready.silent = True
            used.cut()
            stream.write(b" after")
            assert await program.until(12) == b"before after"
            await dialer.stop()
            bridge.dialers.clear()
            await relay.stop()

    uvloop.run(main())


def test_how_long_an_answer_is_waited_for_on_what_was_ready() -> None:
    """It may have died without a word: no longer than R20 lets a carrier be silent, where that is known."""

    async def main() -> None:
        patience = client_module._patience
        connection = Connection(cast("Any", None), asyncio.get_running_loop())
        waits = [patience(Ready(connection, b"", seconds)) for seconds in (0.0, 0.04, 0.5, 60.0)]
        assert waits == [1.0, 1.0, 2.0, client_module.OPENING_TIMEOUT]
        assert patience(cast("Any", Thing())) == client_module.WAITED_TIMEOUT
        connection.ended = True  # a new one is dialled
        assert patience(Ready(connection, b"", 0.0)) == patience(None) == client_module.OPENING_TIMEOUT

    asyncio.run(main())


def test_the_round_trip_of_what_is_ready_is_measured(tmp_path: Path) -> None:
    delay = 0.05

    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port, delay=delay)
            dialer = await bridge.client("websocket", port=await relay.start(), carriers=1)
            ready = await dialer.tunnel.ready_ahead("websocket")
            assert isinstance(ready, Ready)
            assert ready.round_trip >= delay  # TLS takes two ways through the relay, TCP ends before it
            ready.abort()
            await dialer.stop()
            bridge.dialers.clear()
            await relay.stop()

    uvloop.run(main())


def test_what_is_ready_goes_with_the_network_that_it_came_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client("websocket", carriers=1)
            program = Collect()
            stream = await dialer.dial(ECHO, program, b"before")
            await program.until(6)
            dialer._keep_standby(dialer.tunnel)
            await until(lambda: dialer._standby._ready)
            ready = dialer._standby._ready
            dialer.network_changed(())  # one more network takes nothing away
            assert dialer._standby._ready is ready
            dialer.network_changed({"127.0.0.1"})
            assert dialer._standby._ready is None
            stream.write(b" after")
            assert await program.until(12) == b"before after"

    uvloop.run(main())


def test_what_is_ready_at_one_front_is_not_for_carriers_by_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port)
            here, there = bridge.route(port=await relay.start()), bridge.route()
            dialer = TunnelDialer(bridge.loop, replace(here, fronts=(there,)), carriers=2)
            bridge.dialers.append(dialer)
            await dialer.start()
            program = Collect()
            await dialer.dial(ECHO, program, b"before")
            await program.until(6)
            dialer._keep_standby(dialer.tunnel)
            await until(lambda: dialer._standby._ready)
            first = dialer.approaches.fronts[0].way("")
            dialer.approaches.ways.failed(first, Degree.SILENT, time.time())
            await dialer.approaches.open(dialer.tunnel, ("websocket",))
            assert dialer.tunnel.route.line.port == bridge.port
            assert dialer._standby._ready is None
            await dialer.stop()
            bridge.dialers.clear()
            await relay.stop()

    uvloop.run(main())


def test_a_way_that_is_cut_again_and_again_is_left_though_one_is_ready_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            relay = ChaosRelay(bridge.port)
            here, there = bridge.route(port=await relay.start()), bridge.route()
            dialer = TunnelDialer(bridge.loop, replace(here, fronts=(there,)), carriers=1)
            bridge.dialers.append(dialer)
            await dialer.start()
            program = Collect()
            stream = await dialer.dial(ECHO, program, b"before")
            await program.until(6)
            (used,) = relay.pairs
            dialer._keep_standby(dialer.tunnel)
            await until(lambda: dialer._standby._ready)
            way = dialer.tunnel.approach.way("websocket")
            for _ in range(2):
                dialer.approaches.ways.cut(way, 100, 1.0, time.time())
            used.cut()  # the third of that kind
            stream.write(b" after")
            assert await program.until(12) == b"before after"
            await until(lambda: dialer.tunnel.route.line.port == bridge.port)
            await dialer.stop()
            bridge.dialers.clear()
            await relay.stop()

    uvloop.run(main())


def test_it_ends_with_the_streams_and_what_carriers_say_by_themselves_does_not_keep_it(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client("http", carriers=1)
            tunnel, now = dialer.tunnel, [dialer.tunnel.now()]
            tunnel.now = lambda: now[0]  # type: ignore[method-assign]
            program = Collect()
            stream = await dialer.dial(ECHO, program, b"hi")
            await program.until(2)
            dialer._keep_standby(tunnel)
            await until(lambda: dialer._standby._ready)
            now[0] += ACTIVE + 1
            (carrier,) = tunnel.carriers.values()
            carrier.received_bytes += 500  # an empty poll
            dialer._keep_standby(tunnel)
            assert dialer._standby._ready is None
            stream.write(b"!")
            await program.until(3)
            dialer._keep_standby(tunnel)
            await until(lambda: dialer._standby._ready)
            stream.abort()
            await until(lambda: not tunnel.session.streams)
            now[0] += ACTIVE + 1
            dialer._keep_standby(tunnel)
            assert dialer._standby._ready is None

    uvloop.run(main())


class Thing:
    """What is ready, without a network."""

    def __init__(self) -> None:
        self.usable = True
        self.dropped = 0

    def drop(self) -> None:
        self.usable = False
        self.dropped += 1

    abort = drop


class Dials:
    """Opens things, or says why not."""

    def __init__(self) -> None:
        self.made: list[Thing] = []
        self.failure: Exception | None = None

    async def __call__(self, greeting: Any) -> Any:
        del greeting
        if self.failure is not None:
            raise self.failure
        self.made.append(Thing())
        return self.made[-1]


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def standby() -> tuple[Standby, Dials]:
    dials = Dials()
    return Standby(asyncio.get_running_loop(), dials, random.Random(1)), dials


def test_it_is_kept_while_something_moves_and_no_longer() -> None:
    async def main() -> None:
        kept, dials = standby()
        kept.keep("websocket", 10, 0.0)
        await turn()
        kept.keep("websocket", 10, ACTIVE - 1)
        assert len(dials.made) == 1
        assert dials.made[0].usable
        kept.keep("websocket", 10, ACTIVE + 1)
        assert not dials.made[0].usable
        await turn()
        assert len(dials.made) == 1
        kept.keep("websocket", 11, ACTIVE + 2)
        await turn()
        assert len(dials.made) == 2
        await kept.stop()
        assert dials.made[1].dropped

    asyncio.run(main())


def test_what_is_closed_unused_again_and_again_is_replaced_more_and_more_seldom() -> None:
    async def main() -> None:
        kept, dials = standby()
        made, now = [], 0.0
        for moved in range(200):
            now += 1.0
            kept.keep("websocket", moved, now)
            await turn()
            if len(dials.made) > len(made):
                made.append(now)
                dials.made[-1].usable = False
        gaps = [after - before for before, after in itertools.pairwise(made)]
        assert gaps[0] >= LAPSE_FIRST
        assert gaps == sorted(gaps)
        assert len(made) < 7
        await kept.stop()

    asyncio.run(main())


def test_a_failure_is_not_repeated_at_once_and_stopping_waits_for_nothing() -> None:
    async def main() -> None:
        kept, dials = standby()
        dials.failure = DialError(Reason.TUNNEL_DOWN)
        kept.keep("page", 1, 0.0)
        await turn()
        dials.failure = None
        kept.keep("page", 2, 0.5)
        await turn()
        assert not dials.made
        assert kept.take("page") is None
        await kept.stop()

    asyncio.run(main())


def test_what_was_on_its_way_when_it_was_dropped_is_closed_when_it_comes() -> None:
    async def main() -> None:
        kept, dials = standby()
        kept.keep("page", 1, 0.0)
        kept.drop()
        await turn()
        assert dials.made[0].dropped
        assert kept.take("page") is None
        kept.keep("page", 2, 1.0)
        await turn()
        assert kept.take("page") is dials.made[1]
        await kept.stop()

    asyncio.run(main())


def test_it_is_another_one_where_carriers_begin_otherwise() -> None:
    async def main() -> None:
        kept, dials = standby()
        kept.keep("page", 1, 0.0)
        await turn()
        kept.keep("websocket", 2, 1.0)
        await turn()
        assert dials.made[0].dropped
        assert kept.take("websocket") is dials.made[1]
        await kept.stop()

    asyncio.run(main())


def test_only_what_greets_alike_is_taken() -> None:
    async def main() -> None:
        kept, dials = standby()
        kept.keep("page", 1, 0.0)
        await turn()
        assert kept.take("websocket") is None
        assert kept.take("page") is dials.made[0]
        assert kept.take("page") is None
        await kept.stop()
        assert not dials.made[0].dropped  # it is the caller's

    asyncio.run(main())
