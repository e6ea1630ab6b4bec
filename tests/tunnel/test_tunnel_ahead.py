"""Carriers opened ahead over another one, their WebSocket by a ticket: over real sockets, and what fails."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tunnel_live import ECHO, Collect, Live, live

from ptproxy.auth.opening import BridgeOpening
from ptproxy.codec import websocket as codec_module
from ptproxy.errors import AuthenticationError
from ptproxy.proxy.shape_files import built_in
from ptproxy.tunnel import tickets as tickets_module
from ptproxy.tunnel import traffic as traffic_module
from ptproxy.tunnel.arrival import Arrival
from ptproxy.tunnel.client_carrier import ClientCarrier
from ptproxy.tunnel.shaped_dial import ShapedDialer

SHAPE = built_in()
LINES = [bytes(random.Random(7).choices(b"abcdefgh ", k=70)) + b"\n" for _ in range(2)]


@asynccontextmanager
async def chatting(folder: Path, *, seal: bool = False) -> AsyncIterator[tuple[Live, ShapedDialer]]:
    async with live(folder, shape=SHAPE, seal=seal) as running:
        route = replace(running.route(), codecs=("websocket", "http"))
        dialer = ShapedDialer(running.loop, route, carriers=4, shape=SHAPE)
        running.dialers.append(dialer)
        await dialer.start()
        yield running, dialer


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What each WebSocket of a client was opened with."""
    seen: list[bytes] = []
    made = codec_module.ClientWebSocket.__init__

    def noted(self: Any, settings: Any, opening: bytes, rng: Any) -> None:
        seen.append(opening)
        made(self, settings, opening, rng)

    monkeypatch.setattr(codec_module.ClientWebSocket, "__init__", noted)
    monkeypatch.setattr(traffic_module, "SETTLES", 0.1)
    for limit in ("PATIENCE", "CONFIRM_WITHIN", "LIFE"):  # no verdict of a test depends on them
        monkeypatch.setattr(tickets_module, limit, 80.0)
    return seen


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(80):
        while not condition():
            await asyncio.sleep(0.02)


def web_sockets(dialer: ShapedDialer) -> list[ClientCarrier]:
    return [one for one in dialer.tunnel.carriers.values() if one.codec_name == "websocket"]


async def chat(dialer: ShapedDialer) -> tuple[Any, Collect]:
    """A chat stream that has moved to a WebSocket."""
    collect = Collect()
    stream = await dialer.dial(ECHO, collect, b"NICK bo\n")
    await until(
        lambda: web_sockets(dialer) and stream.state.carrier in [c.number for c in web_sockets(dialer)]
    )
    return stream, collect


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine, run by the fixture."""

    def wrapped(
        run: Callable[[Coroutine[Any, Any, None]], None],
        tmp_path: Path,
        openings: list[bytes],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run(test(tmp_path, openings, monkeypatch))

    wrapped.__name__ = test.__name__
    wrapped.__doc__ = test.__doc__
    return wrapped


@on_each_loop
async def test_a_chat_goes_on_on_a_websocket_that_a_ticket_opened(
    tmp_path: Path, openings: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first bytes went by http, every line comes back, and the upgrade held 16 bytes of ours."""
    async with chatting(tmp_path) as (running, dialer):
        stream, collect = await chat(dialer)
        assert [len(one) for one in openings] == [16]
        whole = b"NICK bo\n"
        for line in LINES[:2]:
            stream.write(line)
            whole += line
            assert await collect.until(len(whole)) == whole
        assert not running.bridge.gate.tickets._out
        assert running.site.received == []
        stream.abort()


@on_each_loop
async def test_a_sealed_carrier_by_a_ticket_has_the_keys_of_its_own_handshake(
    tmp_path: Path, openings: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines go both ways, each record sealed; whoever took the ticket of another one cannot say a word."""
    async with chatting(tmp_path, seal=True) as (running, dialer):
        stream, collect = await chat(dialer)
        assert len(openings[0]) == 16
        stream.write(LINES[0])
        assert await collect.until(8 + len(LINES[0])) == b"NICK bo\n" + LINES[0]
        (tunnel,) = running.bridge.sessions.values()
        for end in (*dialer.tunnel.carriers.values(), *tunnel.carriers.values()):
            assert end.sealer is not None
            assert end.opener is not None
        ahead = None
        async with asyncio.timeout(80):
            while ahead is None:  # its http carrier may just be suspected, on a machine with much to do
                await asyncio.sleep(0.02)
                dialer.tunnel._tickets._not_before = 0.0
                ahead = await dialer.tunnel._open_ahead(dialer.tunnel.approach, "websocket", SHAPE.chat)
        thief = codec_module.ClientWebSocket(
            dialer.tunnel.route.settings(), ahead.ticket, random.SystemRandom()
        )
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", running.port, ssl=_unverified(), server_hostname="localhost"
        )
        writer.writelines(bytes(one) for one in thief.data_to_send())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101")
        stolen = tunnel.carriers[ahead.number]
        said: list[object] = []
        monkeypatch.setattr(stolen, "on_payload", lambda carrier, data: said.append(bytes(data)))
        thief.receive_data(answer, 0.0)
        thief.send_data([bytes(80_000)], 0.0)  # more than a sealed record has, whatever its length reads as
        writer.writelines(bytes(one) for one in thief.data_to_send())
        await until(lambda: stolen.ended)
        assert said == []
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        stream.abort()


@on_each_loop
async def test_a_ticket_is_good_once(
    tmp_path: Path, openings: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever recorded the upgrade, or the one that was never answered, gets the site's answer."""
    async with chatting(tmp_path) as (running, dialer):
        stream, _ = await chat(dialer)
        tunnel = dialer.tunnel
        before = dict(tunnel.carriers)
        tickets = running.bridge.gate.tickets
        assert tickets.take(openings[0]) is None
        replayed = codec_module.ClientWebSocket(
            dialer.tunnel.route.settings(), openings[0], random.SystemRandom()
        )
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", running.port, ssl=_unverified(), server_hostname="localhost"
        )
        writer.writelines(bytes(one) for one in replayed.data_to_send())
        answer = await reader.read(12)
        writer.close()
        with_errors = await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        del with_errors
        assert answer == b"HTTP/1.1 404"
        assert dict(tunnel.carriers) == before
        stream.abort()


@on_each_loop
async def test_a_ticket_that_is_refused_costs_one_connection(
    tmp_path: Path, openings: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bridge that lost it is opened as before, and asked for none for a while."""
    async with chatting(tmp_path) as (running, dialer):
        monkeypatch.setattr(running.bridge.gate.tickets, "take", lambda name: None)
        stream, collect = await chat(dialer)
        assert [len(one) == 16 for one in openings] == [True, False]
        assert not dialer.tunnel._tickets.may_ask(dialer.tunnel.now())
        stream.write(LINES[0])
        assert await collect.until(8 + len(LINES[0])) == b"NICK bo\n" + LINES[0]
        stream.abort()


@on_each_loop
async def test_a_bridge_that_gives_none_is_opened_as_before(
    tmp_path: Path, openings: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older bridge has no such service."""
    monkeypatch.setattr(tickets_module.BridgeTickets, "room_for", lambda self, tunnel: False)
    async with chatting(tmp_path) as (_, dialer):
        stream, _ = await chat(dialer)
        assert [len(one) == 16 for one in openings] == [False]
        stream.abort()


@on_each_loop
async def test_a_ticket_is_for_the_certificate_that_was_seen(
    tmp_path: Path, openings: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another certificate on the WebSocket's connection: the ticket is not shown there."""
    async with chatting(tmp_path) as (_, dialer):
        made = dialer.tunnel._tickets.ask
        asked = []

        async def other(*args: Any) -> Any:
            ahead = await made(*args)
            asked.append(ahead)
            return replace(ahead, digest=bytes(32))

        monkeypatch.setattr(tickets_module.ClientTickets, "ask", lambda self, *args: other(*args))
        stream, _ = await chat(dialer)
        assert asked
        assert [len(one) == 16 for one in openings] == [False]
        stream.abort()


@on_each_loop
async def test_tickets_end_with_their_time_and_are_few(
    tmp_path: Path, openings: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks and never comes holds four openings, for a bounded time."""
    monkeypatch.setattr(tickets_module, "MOST_OUT", 2)
    async with chatting(tmp_path) as (running, dialer):
        tunnel, tickets = dialer.tunnel, running.bridge.gate.tickets
        for _ in range(4):
            tunnel._tickets._not_before = 0.0
            await tunnel._open_ahead(tunnel.approach, "websocket", SHAPE.chat)
        assert len(tickets._out) == 2
        tickets.clear()
        assert not tickets._of
        monkeypatch.setattr(tickets_module, "LIFE", 0.01)
        tunnel._tickets._not_before = 0.0
        await tunnel._open_ahead(tunnel.approach, "websocket", SHAPE.chat)
        await until(lambda: not tickets._out and not tickets._of)


@on_each_loop
async def test_openings_without_their_confirm_are_as_few_as_tickets(
    tmp_path: Path, openings: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who begins many and confirms none holds no more of the bridge's memory than who never comes."""
    monkeypatch.setattr(tickets_module._Asking, "data_received", lambda self, data: None)
    async with chatting(tmp_path) as (running, dialer):
        tunnel, tickets = dialer.tunnel, running.bridge.gate.tickets
        await until(lambda: dialer.tunnel._carrier_for_tickets() is not None)
        made = []
        answer = BridgeOpening.answer

        def noted(self: BridgeOpening, *args: Any) -> bytes:
            made.append(self)
            return answer(self, *args)

        monkeypatch.setattr(BridgeOpening, "answer", noted)
        asking = [
            asyncio.ensure_future(tunnel._open_ahead(tunnel.approach, "websocket", SHAPE.chat))
            for _ in range(3 * tickets_module.MOST_OUT)
        ]
        await until(lambda: sum(one.done() for one in asking) == 2 * tickets_module.MOST_OUT)
        assert [one.result() for one in asking if one.done()] == [None] * (2 * tickets_module.MOST_OUT)
        assert len(made) == tickets_module.MOST_OUT
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await until(lambda: not tickets._of)


@on_each_loop
async def test_a_ticket_is_of_its_own_session_alone(
    tmp_path: Path, openings: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Message 1 for another session, or of another key, gets none on this session's stream."""
    async with chatting(tmp_path) as (_, dialer):
        tunnel = dialer.tunnel
        monkeypatch.setattr(tunnel, "session_id", bytes(16))
        assert await tunnel._open_ahead(tunnel.approach, "websocket", SHAPE.chat) is None


@on_each_loop
async def test_a_revoked_client_has_no_use_for_its_ticket(
    tmp_path: Path, openings: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admission is asked again when the ticket is shown."""
    async with chatting(tmp_path) as (running, dialer):
        tunnel, gate = dialer.tunnel, running.bridge.gate
        ahead = await tunnel._open_ahead(tunnel.approach, "websocket", SHAPE.chat)
        assert ahead is not None

        def refuse(peer: Any) -> Any:
            raise AuthenticationError("revoked")

        monkeypatch.setattr(gate, "_admit", refuse)
        link = gate.receptions[0][1].open_link()
        made = codec_module.ClientWebSocket(
            dialer.tunnel.route.settings(), ahead.ticket, random.SystemRandom()
        )
        (event,) = link.receive_data(b"".join(map(bytes, made.data_to_send())), 0.0)
        assert gate._answer(Arrival(gate), event) is False
        assert not gate.tickets._out


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
