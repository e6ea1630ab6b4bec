"""Every degree of blocking, done to a client by what does it: what it says of it, and what it does about it.

Each row blocks the first of two fronts; the client must come through by the second one, name what was done
to the first, in ``state()`` and in the log, and say what it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from chaos_relay import ChaosRelay, Fate, Kind
from tunnel_live import ECHO, Collect, live

from ptproxy.errors import PtproxyError
from ptproxy.tunnel import approach, client, connect, dial, racing
from ptproxy.tunnel.approach import WayState
from ptproxy.tunnel.client_tls import PythonTls
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.outward import Outward
from ptproxy.tunnel.tls import ClientTrust
from ptproxy.ways import Degree, cuts, memory

SHORT = 0.3
"""Seconds after which silence is silence here."""
ANOTHER = "the next way is tried"


class Told:
    """What an object's log was told, as text."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def info(self, event: str, **words: Any) -> None:
        self.lines.append({"event": event, **words})

    warning = debug = info


@dataclass(slots=True)
class Blocked:
    """The first front of a client, and what is done to it."""

    route: Route
    relay: ChaosRelay | None = None


Blocks = Callable[[Any, Any], contextlib.AbstractAsyncContextManager[Blocked]]


def by_relay(fate: Callable[[], Fate]) -> Blocks:
    """A front behind a relay that does this to connections."""

    @contextlib.asynccontextmanager
    async def block(bridge: Any, folder: Any) -> AsyncIterator[Blocked]:
        del folder
        relay = ChaosRelay(bridge.port, fate)
        try:
            yield Blocked(bridge.route(port=await relay.start()), relay)
        finally:
            await relay.stop()

    return block


@contextlib.asynccontextmanager
async def no_name(bridge: Any, folder: Any) -> AsyncIterator[Blocked]:
    """A name under a domain that has none (RFC 6761 section 6.4)."""
    del folder
    yield Blocked(bridge.route(host="bridge.invalid"))


@contextlib.asynccontextmanager
async def no_address(bridge: Any, folder: Any) -> AsyncIterator[Blocked]:
    """A machine that has no address to connect from."""
    del folder
    route = bridge.route()
    yield Blocked(replace(route, tls=PythonTls(ClientTrust(pin=route.line.pin), Outward(ipv4="192.0.2.77"))))


@contextlib.asynccontextmanager
async def refused(bridge: Any, folder: Any) -> AsyncIterator[Blocked]:
    """A port that is bound, so that nobody else gets it, and does not listen."""
    del folder
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield Blocked(bridge.route(port=taken.getsockname()[1]))


@contextlib.asynccontextmanager
async def silent(bridge: Any, folder: Any) -> AsyncIterator[Blocked]:
    """A port whose queue is full: the kernel drops what comes."""
    del folder
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(full.getsockname())
        yield Blocked(bridge.route(port=full.getsockname()[1]))


@contextlib.asynccontextmanager
async def replaced(bridge: Any, folder: Any) -> AsyncIterator[Blocked]:
    """Somebody else's TLS, with a certificate of its own."""
    (folder / "stranger").mkdir()
    async with live(folder / "stranger") as stranger:
        relay = ChaosRelay(stranger.port)
        yield Blocked(bridge.route(port=await relay.start()), relay)
        await relay.stop()


@contextlib.asynccontextmanager
async def page(bridge: Any, folder: Any) -> AsyncIterator[Blocked]:
    """The right certificate, and an answer as the site gives it to anybody."""
    async with by_relay(Fate)(bridge, folder) as blocked:
        route = blocked.route
        yield Blocked(replace(route, line=replace(route.line, path="/elsewhere")))


OPENED = 2
"""The turn in which a client says its opening: after the hello."""


@pytest.mark.parametrize(
    ("degree", "block", "done"),
    [
        (Degree.OFFLINE, no_address, ""),
        (Degree.NAME, no_name, ANOTHER),
        (Degree.REFUSED, refused, ANOTHER),
        (Degree.SILENT, silent, ANOTHER),
        (Degree.HELLO_RESET, by_relay(lambda: Fate(Kind.HELLO)), ANOTHER),
        (Degree.HELLO_SILENT, by_relay(lambda: Fate(Kind.BLACKHOLE)), ANOTHER),
        (Degree.CERTIFICATE, replaced, ANOTHER),
        (Degree.PAGE, page, ANOTHER),
        (Degree.OPENING_RESET, by_relay(lambda: Fate(Kind.CUT, turns=OPENED)), ANOTHER),
        (Degree.OPENING_SILENT, by_relay(lambda: Fate(Kind.STALL, turns=OPENED)), ANOTHER),
    ],
    ids=lambda value: value.name.lower() if isinstance(value, Degree) else "",
)
def test_what_is_done_to_a_dial(
    run: Any, tmp_path: Any, monkeypatch: Any, degree: Degree, block: Blocks, done: str
) -> None:
    told = Told()
    monkeypatch.setattr(approach, "log", told)
    # One front after the other, however slow the machine is: silence ends by its time-out, not by a race.
    for limit in ("STAGGER", "STAGGER_LEAST", "STAGGER_MOST"):
        monkeypatch.setattr(memory, limit, 3600.0)
    monkeypatch.setattr("ptproxy.ways.race.OPENING_STAGGER", 3600.0)
    if degree in (Degree.SILENT, Degree.HELLO_SILENT):
        monkeypatch.setattr(connect, "CONNECT_TIMEOUT", SHORT)
    if degree is Degree.OPENING_SILENT:
        monkeypatch.setattr(client, "OPENING_TIMEOUT", SHORT)

    async def main() -> None:
        async with live(tmp_path) as bridge, block(bridge, tmp_path) as blocked:
            dialer = await two_fronts(bridge, blocked.route, monkeypatch)
            said = told.lines[0]
            assert said["event"] == "a way to the bridge is blocked"
            if degree is not Degree.CERTIFICATE:  # perhaps a login page's, until the other front opens
                assert said["degree"] == str(degree)
            assert said["done"]
            first, second = by_front(dialer)
            assert (first.degree, first.done) == (degree if done else Degree.OPEN, done)
            assert bool(first.rests) == bool(done)
            assert (second.degree, second.rests, second.done) == (Degree.OPEN, 0.0, "")
            await dialer.stop()

    run(main())


async def two_fronts(bridge: Any, first: Route, monkeypatch: Any) -> TunnelDialer:
    """A client that has come through, by the second front."""
    dialer = TunnelDialer(bridge.loop, replace(first, fronts=(bridge.route(),)), carriers=1)
    bridge.dialers.append(dialer)
    while True:
        try:
            await dialer.start()
            break
        except PtproxyError:  # the short patience was too short for this machine, just now
            continue
    monkeypatch.undo()
    local = Collect()
    await dialer.dial(ECHO, local, b"through")
    assert await local.until(7) == b"through"
    return dialer


def by_front(dialer: TunnelDialer) -> list[WayState]:
    return sorted(dialer.approaches.state(), key=lambda each: each.front)


def test_a_way_that_is_slower_than_another_one(run: Any, tmp_path: Any, monkeypatch: Any) -> None:
    """It rests; that this is no longer each time is test_ways_memory's."""
    monkeypatch.setattr(racing, "LATE", 0.0)
    told = Told()
    monkeypatch.setattr(approach, "log", told)

    async def main() -> None:
        async with live(tmp_path) as bridge, by_relay(lambda: Fate(Kind.BLACKHOLE))(bridge, 0) as blocked:
            dialer = await two_fronts(bridge, blocked.route, pytest.MonkeyPatch())
            first = by_front(dialer)[0]
            assert (first.degree, first.done) == (Degree.LATE, "the quicker way is used")
            assert first.rests > 0
            assert told.lines[0]["degree"] == str(Degree.LATE)
            await dialer.stop()

    run(main())


@pytest.mark.parametrize(
    ("degree", "fate"),
    [
        (Degree.CUT_BYTES, Fate(Kind.CUT, 192 << 10)),
        (Degree.CUT_SECONDS, Fate(Kind.CUT, seconds=0.4)),
    ],
    ids=["bytes", "seconds"],
)
def test_what_is_done_to_carriers(
    run: Any, tmp_path: Any, monkeypatch: Any, degree: Degree, fate: Fate
) -> None:
    """The way is left for the other one, and the stream goes on there."""
    told = Told()
    monkeypatch.setattr(approach, "log", told)
    monkeypatch.setattr(cuts, "ALIKE", 1000.0)  # whatever lay in buffers, or a loaded machine makes of 0.4 s
    monkeypatch.setattr(cuts, "LEAST_SECONDS", 3600.0)  # nor is three times as late a rule of time
    if degree is Degree.CUT_SECONDS:  # however little was sent
        monkeypatch.setattr(cuts, "LEAST_SECONDS", 0.1)
        monkeypatch.setattr(cuts, "USELESS", 0)
        monkeypatch.setattr(cuts.Cuts, "add", only_seconds)

    async def main() -> None:
        async with live(tmp_path) as bridge, by_relay(lambda: fate)(bridge, 0) as blocked:
            other = ChaosRelay(bridge.port)
            second = bridge.route(port=await other.start())
            dialer = TunnelDialer(bridge.loop, replace(blocked.route, fronts=(second,)), carriers=1)
            bridge.dialers.append(dialer)
            await dialer.start()
            local, sent = Collect(), bytearray()
            stream = await dialer.dial(ECHO, local)
            while by_front(dialer)[0].degree is not degree:
                await local.writable.wait()
                sent += (block := os.urandom(16 << 10))
                stream.write(block)
                await asyncio.sleep(0.001)
            stream.write(b"on")
            assert await local.until(len(sent) + 2) == sent + b"on"
            first = by_front(dialer)[0]
            assert first.rests > 0
            assert first.done == "its streams move to another way"
            [said] = [line for line in told.lines if line["event"].startswith("carriers of this way")]
            assert (said["degree"], said["done"]) == (str(degree), first.done)
            assert len(bridge.exit.asked) == 1
            await dialer.stop()
            await other.stop()

    run(main())


def only_seconds(self: cuts.Cuts, size: int, seconds: float) -> Degree | None:
    """As if every cut had come after another number of bytes: how many there are is the machine's affair."""
    del size
    self.ends = [*self.ends[1 - cuts.IN_A_ROW :], (1 << (20 + len(self.ends)), seconds)]
    if len(self.ends) == cuts.IN_A_ROW and min(each[1] for each in self.ends) >= cuts.LEAST_SECONDS:
        return Degree.CUT_SECONDS
    return None


def test_a_way_that_is_throttled(run: Any, tmp_path: Any, monkeypatch: Any) -> None:
    """Fast at first, then a trickle while more waits to be sent."""
    told = Told()
    monkeypatch.setattr(approach, "log", told)
    monkeypatch.setattr(dial, "SWEEP_EVERY", 0.2)  # more than a record takes when it is slow
    monkeypatch.setattr(cuts, "SAMPLES", 1)  # how many looks in a row it takes is test_ways_degrees's
    for limit in ("STAGGER", "STAGGER_LEAST", "STAGGER_MOST"):
        monkeypatch.setattr(memory, limit, 3600.0)

    async def main() -> None:
        async with live(tmp_path) as bridge, by_relay(Fate)(bridge, 0) as blocked:
            assert blocked.relay is not None
            other = ChaosRelay(bridge.port)
            second = bridge.route(port=await other.start())
            dialer = TunnelDialer(bridge.loop, replace(blocked.route, fronts=(second,)), carriers=1)
            bridge.dialers.append(dialer)
            await dialer.start()
            local, sent = Collect(), bytearray()
            stream = await dialer.dial(ECHO, local)
            ways = dialer.approaches.ways
            while max(ways._best.values(), default=0.0) < 8 * cuts.WORTH:
                await local.writable.wait()
                sent += (block := os.urandom(256 << 10))
                stream.write(block)
                await asyncio.sleep(0)
            blocked.relay.throttle(100 << 10)
            sent += (block := os.urandom(2 << 20))
            stream.write(block)
            while not any(line["event"] == "a way to the bridge is throttled" for line in told.lines):
                await asyncio.sleep(0.01)
            first = by_front(dialer)[0]
            assert (first.degree, first.done) == (Degree.THROTTLED, "its streams move to another way")
            while not other.accepted:
                await asyncio.sleep(0.01)
            blocked.relay.calm()  # what is in its buffers need not take minutes
            assert await local.until(len(sent)) == sent
            await dialer.stop()
            await other.stop()

    run(main())
