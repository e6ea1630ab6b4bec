"""The dialer that follows a shape, over real sockets: carriers by class, streams that move, nothing lost."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tunnel_live import ECHO, PENDING, REFUSED, SOURCE, Collect, Live, Receiver, live

from ptproxy.codec.shape import Outgrown, Shape
from ptproxy.errors import DialError, Reason
from ptproxy.proxy.shape_files import built_in
from ptproxy.target import Target
from ptproxy.tunnel import client as client_module
from ptproxy.tunnel.beginning import _Nobody
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.client import ClientTunnel, OpeningRefused
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.shaped_dial import ShapedDialer

SHAPE = built_in()
NOISE = random.Random(3).randbytes(3 << 20)


def on_each_loop(test: Callable[[Path], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine, run by the fixture."""

    def wrapped(run: Callable[[Coroutine[Any, Any, None]], None], tmp_path: Path) -> None:
        run(test(tmp_path))

    wrapped.__name__ = test.__name__
    return wrapped


@asynccontextmanager
async def shaped(
    folder: Path,
    shape: Shape | None = SHAPE,
    codecs: tuple[str, ...] = ("websocket", "http"),
    **settings: Any,
) -> AsyncIterator[tuple[Live, ShapedDialer]]:
    """A bridge and a started dialer."""
    async with live(folder, shape=SHAPE) as running:
        route = replace(running.route(), codecs=codecs)
        dialer = ShapedDialer(running.loop, route, carriers=4, shape=shape)
        running.dialers.append(dialer)
        await dialer.start()
        yield running, dialer


def codecs(dialer: ShapedDialer) -> Counter[str]:
    return Counter(carrier.codec_name for carrier in dialer.tunnel.carriers.values())


def codec_of(dialer: ShapedDialer, stream: Any) -> str:
    return dialer.tunnel.carriers[stream.state.carrier].codec_name


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


@on_each_loop
async def test_the_first_carrier_is_of_the_class_that_streams_start_with(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (_, dialer):
        assert codecs(dialer) == {"http": 1}


@on_each_loop
async def test_carriers_are_warm_once_somebody_is_there(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (_, dialer):
        stream = await dialer.dial(ECHO, Collect())
        await until(lambda: codecs(dialer)["http"] == 1 + SHAPE.browse.warm_carriers)
        stream.abort()


@on_each_loop
async def test_chat_is_seen_by_its_first_bytes_and_moves_to_a_websocket(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (_, dialer):
        echo = Collect()
        stream = await dialer.dial(ECHO, echo)
        assert codec_of(dialer, stream) == "http"
        stream.write(b"NICK boo1\r\n")
        await until(lambda: codec_of(dialer, stream) == "websocket")
        stream.write(b"a line\r\n")
        assert await echo.until(19) == b"NICK boo1\r\na line\r\n"
        stream.abort()


@on_each_loop
async def test_chat_by_its_port_and_pages_never_beside_it(tmp_path: Path) -> None:
    async with shaped(tmp_path, built_in("chat")) as (_, dialer):
        assert codecs(dialer) == {"websocket": 1}
        echo = Collect()
        chat = await dialer.dial(ECHO, echo)
        assert codec_of(dialer, chat) == "websocket"
        page = await dialer.dial(ECHO, Collect(), b"GET / HTTP/1.1\r\n")
        assert codec_of(dialer, page) == "http"
        chat.abort()
        page.abort()


@on_each_loop
async def test_what_outgrows_its_class_moves_twice_and_nothing_is_lost(tmp_path: Path) -> None:
    small = replace(
        SHAPE,
        chat=replace(SHAPE.chat, outgrown=Outgrown(20_000, 10.0, "browse")),
        browse=replace(SHAPE.browse, outgrown=Outgrown(400_000, 10.0, "bulk")),
    )
    async with shaped(tmp_path, small) as (_, dialer):
        echo = Collect()
        stream: Any = await dialer.dial(ECHO, echo)
        stream.write(b"NICK boo1\r\n")
        await until(lambda: codec_of(dialer, stream) == "websocket")
        seen = [stream.traffic]
        sent = bytearray(b"NICK boo1\r\n")
        for at in range(0, len(NOISE), 30_000):
            await echo.writable.wait()
            stream.write(NOISE[at : at + 30_000])
            sent += NOISE[at : at + 30_000]
            if at < 900_000:
                await asyncio.sleep(0.03)
            if stream.traffic != seen[-1]:
                seen.append(stream.traffic)
        assert hashlib.sha256(await echo.until(len(sent))).digest() == hashlib.sha256(sent).digest()
        await until(lambda: codec_of(dialer, stream) == "http")
        assert seen[0] == "chat"
        await until(lambda: stream.traffic == "bulk")
        stream.abort()


@on_each_loop
async def test_a_worn_carrier_takes_no_new_streams_and_is_closed(tmp_path: Path) -> None:
    rotate = replace(SHAPE.browse.rotate, size=(3000, 3000))
    async with shaped(tmp_path, replace(SHAPE, browse=replace(SHAPE.browse, rotate=rotate))) as (_, dialer):
        first = min(dialer.tunnel.carriers)
        echo = Collect()
        stream: Any = await dialer.dial(ECHO, echo)
        assert stream.state.carrier == first
        stream.write(NOISE[:5000])
        assert await echo.until(5000) == NOISE[:5000]
        placement = dialer._placement
        assert placement is not None
        await until(lambda: placement.carriers[first].retired_at is not None)
        await until(lambda: len(placement.carriers) > 1)  # opened ahead
        second: Any = await dialer.dial(ECHO, Collect())
        assert second.state.carrier != first
        stream.close()
        await until(lambda: first not in dialer.tunnel.carriers)
        assert second.state.carrier in dialer.tunnel.carriers
        second.abort()


@on_each_loop
async def test_downloads_arrive_whole_at_each_class(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (_, dialer):
        source = Collect()
        stream: Any = await dialer.dial(SOURCE, source)
        got = await source.until(6 << 20)
        assert got == (bytes(range(251)) * (len(got) // 251 + 1))[: len(got)]
        await until(lambda: stream.traffic == "bulk")
        stream.abort()


@on_each_loop
async def test_associations_and_refusals_and_dials_given_up(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (_, dialer):
        got: asyncio.Queue[bytes] = asyncio.Queue()
        receiver = Receiver()
        receiver.datagram_received = lambda source, data: got.put_nowait(data)  # type: ignore[method-assign]
        association = await dialer.associate(receiver)
        association.send_datagram(ECHO, b"datagram")
        assert await got.get() == b"datagram"
        association.close()
        with pytest.raises(DialError) as refused:
            await dialer.dial(REFUSED, Collect())
        assert refused.value.reason is Reason.REFUSED
        given_up = asyncio.ensure_future(dialer.dial(PENDING, Collect()))
        await asyncio.sleep(0.1)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        await until(lambda: not dialer.tunnel.session.streams)


@on_each_loop
async def test_streams_survive_the_loss_of_all_carriers(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (_, dialer):
        echo = Collect()
        stream = await dialer.dial(ECHO, echo)
        stream.write(NOISE[:10_000])
        await echo.until(10_000)
        for carrier in list(dialer.tunnel.dialled):
            carrier.abort_connections()
        stream.write(NOISE[10_000:20_000])
        assert await echo.until(20_000) == NOISE[:20_000]
        stream.abort()


@on_each_loop
async def test_a_new_bridge_is_a_new_session(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (running, dialer):
        stream = await dialer.dial(ECHO, Collect())
        await running.stop()
        await running.start(shape=SHAPE)
        del stream
        echo = Collect()
        async with asyncio.timeout(20):
            while True:
                try:
                    again = await dialer.dial(ECHO, echo)
                    break
                except DialError:
                    await asyncio.sleep(0.1)
        again.write(b"hello")
        assert await echo.until(5) == b"hello"
        again.abort()


@on_each_loop
async def test_without_a_shape_it_is_the_plain_dialer(tmp_path: Path) -> None:
    async with shaped(tmp_path, None, ("websocket",)) as (running, dialer):
        echo = Collect()
        stream: Any = await dialer.dial(ECHO, echo)
        stream.write(NOISE[:70_000])
        assert await echo.until(70_000) == NOISE[:70_000]
        assert type(stream).__name__ == "TunnelStream"
        assert codecs(dialer) == {"websocket": 1}
        plain = TunnelDialer(running.loop, running.route(), carriers=4)
        running.dialers.append(plain)
        await plain.start()
        assert len(plain.tunnel.carriers) == 1
        stream.abort()


@on_each_loop
async def test_a_shape_may_come_go_and_change_while_streams_are_open(tmp_path: Path) -> None:
    async with shaped(tmp_path, None) as (_, dialer):
        echo = Collect()
        stream = await dialer.dial(ECHO, echo)
        sent = b""
        for turn, shape in enumerate((SHAPE, built_in("bulk"), None, built_in("chat"), None, SHAPE)):
            dialer.set_shape(shape)
            assert dialer.shape == shape
            stream.write(NOISE[turn * 9000 : turn * 9000 + 9000])
            sent += NOISE[turn * 9000 : turn * 9000 + 9000]
            assert await echo.until(len(sent)) == sent
            further = await dialer.dial(ECHO, Collect())
            further.abort()
        await until(lambda: codecs(dialer)["http"] >= 2)
        stream.abort()


@on_each_loop
async def test_a_bridge_that_speaks_one_codec_carries_every_class_over_it(tmp_path: Path) -> None:
    async with shaped(tmp_path, codecs=("random",)) as (_, dialer):
        echo = Collect()
        stream: Any = await dialer.dial(ECHO, echo)
        stream.write(b"NICK boo1\r\n")
        assert await echo.until(11) == b"NICK boo1\r\n"
        await until(lambda: len(dialer.tunnel.carriers) >= 2)
        assert set(codecs(dialer)) == {"random"}
        stream.abort()


@on_each_loop
async def test_no_websocket_is_opened_ahead(tmp_path: Path) -> None:
    """One that says nothing is nobody's, whatever the class has warm."""
    async with shaped(tmp_path, codecs=("websocket",)) as (_, dialer):
        echo = Collect()
        stream: Any = await dialer.dial(ECHO, echo)
        stream.write(b"GET / HTTP/1.1\r\n")
        assert await echo.until(16) == b"GET / HTTP/1.1\r\n"
        looks = []
        dialer._open_ahead = looks_at(dialer._open_ahead, looks)  # type: ignore[method-assign]
        await until(lambda: len(looks) >= 3)
        assert codecs(dialer) == {"websocket": 1}
        assert dialer._placement is not None
        assert not dialer._placement._dialling
        stream.abort()


def looks_at(method: Callable[..., None], looks: list[float]) -> Callable[..., None]:
    def looked(placement: Any, dials: Any, now: float) -> None:
        method(placement, dials, now)
        looks.append(now)

    return looked


@on_each_loop
async def test_the_service_that_pushes_shapes_wears_no_carrier_out(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (running, dialer):
        running.exit.stream_opened = lambda incoming: incoming.accept(Collect())  # type: ignore[method-assign]
        stream: Any = await dialer.dial(Target.service("shape"), Collect())
        await asyncio.sleep(0.3)
        assert codecs(dialer) == {"http": 1}
        assert stream.traffic == ""
        stream.abort()


@on_each_loop
async def test_a_second_carrier_waits_until_the_bridge_has_the_session(tmp_path: Path) -> None:
    """The session is made when CONFIRM arrives, which a second opening could overtake."""
    async with shaped(tmp_path) as (_, dialer):
        assert not dialer._is_confirmed(dialer.tunnel)
        stream = await dialer.dial(ECHO, Collect())
        assert dialer._is_confirmed(dialer.tunnel)
        stream.abort()


@on_each_loop
async def test_a_dial_right_after_all_carriers_were_lost_gets_a_new_one(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (_, dialer):
        first = await dialer.dial(ECHO, Collect())
        await until(lambda: len(dialer.tunnel.carriers) == 3)
        for carrier in list(dialer.tunnel.carriers.values()):
            carrier.end("lost")
        echo = Collect()
        async with asyncio.timeout(5):
            stream = await dialer.dial(ECHO, echo)
            stream.write(b"there")
            assert await echo.until(5) == b"there"
        first.abort()
        stream.abort()


class Waiting:
    """What waits on a connection that its site closes after a while."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.connection = self
        self.connections = [self]
        self.dropped = self.aborted = False

    @property
    def usable(self) -> bool:
        return time.monotonic() < self.until

    def drop(self) -> None:
        self.dropped = True

    def abort(self) -> None:
        self.aborted = True


def wait_on(dialer: ShapedDialer, seconds: float) -> list[Waiting]:
    """Have pages loaded ahead on connections that the site closes after ``seconds``."""
    loaded: list[Waiting] = []

    async def visit_ahead(shape: Any) -> Waiting:
        await asyncio.sleep(0.01)
        loaded.append(Waiting(time.monotonic() + seconds))
        return loaded[-1]

    tunnel: Any = dialer.tunnel
    tunnel.goes_on = lambda codec, shape: True
    tunnel.visit_ahead = visit_ahead
    return loaded


@on_each_loop
async def test_a_site_that_closes_idle_connections_soon_is_not_visited_all_the_time(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (_, dialer):
        loaded = wait_on(dialer, 0.2)
        stream = await dialer.dial(ECHO, Collect())
        await asyncio.sleep(3)
        assert SHAPE.browse.warm_carriers <= len(loaded) <= SHAPE.browse.warm_carriers + 1
        assert all(one.dropped for one in loaded)
        stream.abort()


@on_each_loop
async def test_without_a_shape_nothing_waits(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (_, dialer):
        loaded = wait_on(dialer, 60.0)
        stream = await dialer.dial(ECHO, Collect())
        await until(lambda: len(dialer._waiting) == SHAPE.browse.warm_carriers)
        dialer.set_shape(None)
        assert all(one.dropped for one in loaded)
        assert not dialer._waiting
        stream.abort()


@on_each_loop
async def test_what_was_kept_without_a_shape_ends_when_there_is_one(tmp_path: Path) -> None:
    async with shaped(tmp_path, None) as (_, dialer):
        echo = Collect()
        stream = await dialer.dial(ECHO, echo, b"hi")
        await echo.until(2)
        dialer._keep_standby(dialer.tunnel)
        await until(lambda: dialer._standby._ready)
        assert dialer._parting._look is not None
        dialer.set_shape(SHAPE)
        assert dialer._standby._ready is None
        assert dialer._parting._look is None
        stream.abort()


@on_each_loop
async def test_pages_that_wait_go_with_the_network_that_they_came_over(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (_, dialer):
        loaded = wait_on(dialer, 60.0)
        stream = await dialer.dial(ECHO, Collect())
        await until(lambda: len(dialer._waiting) == SHAPE.browse.warm_carriers)
        before = list(loaded)
        dialer.network_changed({"127.0.0.1"})
        assert all(one.dropped for one in before)
        stream.abort()


@on_each_loop
async def test_who_is_stopped_while_waiting_for_the_first_carrier_leaves_no_connection(
    tmp_path: Path,
) -> None:
    async with shaped(tmp_path) as (_, dialer):
        tunnel: Any = ClientTunnel(dialer._route, dialer._loop)
        visited: Any = Waiting(time.monotonic() + 60)
        async with tunnel._first:
            task = asyncio.create_task(tunnel.connect("http", SHAPE.browse, visited))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
        assert visited.aborted


@pytest.mark.parametrize("kind", ["silent", "closed"])
def test_what_died_while_it_waited_costs_no_codec_and_no_stream(run: Any, tmp_path: Path, kind: str) -> None:
    async def main() -> None:
        async with shaped(tmp_path) as (_, dialer):
            tunnel: Any = dialer.tunnel
            connect = tunnel.connect
            on: list[Any] = []

            async def connect_on(codec: str, shape: Any, visited: Any = None) -> Any:
                on.append(visited)
                if visited is None:
                    return await connect(codec, shape)
                raise DialError(Reason.TUNNEL_DOWN) if kind == "silent" else OpeningRefused("closed")

            tunnel.connect = connect_on
            loaded = [Waiting(time.monotonic() + 60) for _ in range(2)]
            for one in loaded:
                dialer._waiting.add("browse", one)  # type: ignore[arg-type]
            carrier = await dialer._connect_as(dialer._placement, "browse")  # type: ignore[arg-type]
            assert carrier.codec_name == "http"
            assert on == [loaded[0]]  # what follows is a race of ways
            assert loaded[1].dropped
            assert not dialer._waiting

    run(main())


def test_an_opening_on_what_has_waited_is_given_up_soon(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "WAITED_TIMEOUT", 0.2)

    async def main() -> None:
        async with shaped(tmp_path) as (_, dialer):
            loop = dialer._loop
            peers: list[asyncio.StreamWriter] = []
            server = await asyncio.start_server(lambda _, peer: peers.append(peer), "127.0.0.1", 0)
            connection = Connection(_Nobody(), loop)
            await loop.create_connection(lambda: connection, *server.sockets[0].getsockname())
            tunnel: Any = dialer.tunnel

            async def first(*_: Any) -> Any:
                return connection, bytes(32), dialer._route.settings()

            tunnel._beginning.first_connection = first
            visited: Any = Waiting(time.monotonic() + 60)
            async with asyncio.timeout(5):
                with pytest.raises(DialError):
                    await tunnel.connect("http", SHAPE.browse, visited)
            connection.abort()
            for peer in peers:
                peer.transport.abort()
            server.close()
            await server.wait_closed()

    run(main())


@on_each_loop
async def test_the_session_says_which_carriers_are_suspect_still(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (_, dialer):
        number = next(iter(dialer.tunnel.carriers))
        assert dialer._placement is not None
        place = dialer._placement.carriers[number]
        dialer._placement.suspect(number, dialer.tunnel.now())
        assert dialer._placement.is_bare
        await until(lambda: place.suspect_at is None)


@on_each_loop
async def test_a_suspect_carrier_makes_what_waits_suspect(tmp_path: Path) -> None:
    async with shaped(tmp_path) as (_, dialer):
        waiting: Any = Waiting(time.monotonic() + 60)
        dialer._waiting.add("browse", waiting)
        dialer._changed(next(iter(dialer.tunnel.carriers)))
        assert waiting.dropped
