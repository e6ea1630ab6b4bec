"""Streams outlive carriers: connections cut at random places, bridges that forget, carriers that grow."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest
from chaos_relay import ChaosRelay, Fate, Kind
from tunnel_live import ECHO, SOURCE, Collect, live

from ptproxy.errors import DialError, Reason
from ptproxy.tunnel.client import ClientTunnel, OpeningRefused

CODECS = ["websocket", "http", "random"]


@pytest.mark.parametrize("codec", CODECS)
def test_a_transfer_survives_cuts_at_random_bytes(run: Any, tmp_path: Any, codec: str) -> None:
    async def main() -> None:
        seed = int.from_bytes(os.urandom(4))
        print("seed", seed)
        async with live(tmp_path) as bridge:
            fates = random.Random(seed)
            relay = ChaosRelay(bridge.port, lambda: Fate(Kind.CUT, fates.randrange(4000, 800_000)))
            port = await relay.start()
            dialer = await bridge.client(codec, port=port, carriers=2)
            local = Collect()
            stream = await dialer.dial(ECHO, local)
            sent = bytearray()
            sizes = random.Random(seed)
            while len(sent) < 2_000_000 or (relay.strikes.total() < 3 and len(sent) < 64_000_000):
                block = os.urandom(sizes.randrange(1, 100_000))
                stream.write(block)
                sent += block
                await local.writable.wait()
            assert await local.until(len(sent)) == sent
            assert relay.strikes.total() >= 3
            relay.calm()
            stream.close()
            await local.lost
            await dialer.stop()
            await relay.stop()

    run(main())


def test_what_is_refused_beside_a_carrier_that_fell_silent_is_tried_again(
    run: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opening whose connection is lost counts as refused; the silent carrier is all there is then."""

    async def main() -> None:
        async with live(tmp_path) as bridge:
            fates = iter((Fate(Kind.STALL, 20_000),))
            relay = ChaosRelay(bridge.port, lambda: next(fates, Fate()))
            dialer = await bridge.client(port=await relay.start(), carriers=2)
            attempt, refused = ClientTunnel.attempt, []

            async def refuse_once(tunnel: ClientTunnel, *arguments: Any) -> Any:
                if not refused:
                    refused.append(arguments)
                    raise OpeningRefused("connection lost")
                return await attempt(tunnel, *arguments)

            monkeypatch.setattr(ClientTunnel, "attempt", refuse_once)
            local, said = Collect(), os.urandom(60_000)
            await dialer.dial(ECHO, local, said)
            assert await local.until(len(said)) == said
            assert refused
            await dialer.stop()
            await relay.stop()

    run(main())


def test_a_bridge_that_forgot_the_session_ends_its_streams(run: Any, tmp_path: Any) -> None:
    """R19: nothing is replayed into a new session; the next dial uses it."""

    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            local = Collect()
            await dialer.dial(ECHO, local, b"x")
            await local.until(1)
            for carrier in list(dialer.tunnel.carriers.values()):
                for connection in list(carrier.connections.values()):
                    connection.transport.abort()
            bridge.bridge.sessions.clear()
            error = await local.lost
            assert isinstance(error, DialError)
            assert error.reason is Reason.SESSION_LOST
            again = Collect()
            await dialer.dial(ECHO, again, b"again")
            assert await again.until(5) == b"again"
            assert len(bridge.exit.asked) == 2

    run(main())


def test_a_session_without_carriers_lingers_then_goes(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path, linger=0.05) as bridge:
            dialer = await bridge.client()
            await dialer.stop()
            while bridge.bridge.sessions:
                await asyncio.sleep(0.01)

    run(main())


def test_carriers_grow_beside_bulk(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client(carriers=4)
            bulk = Collect()
            stream = await dialer.dial(SOURCE, bulk)
            while len(dialer.tunnel.carriers) < 2:
                bulk.data.clear()
                local = Collect()
                small = await dialer.dial(ECHO, local, b"hi")
                await local.until(2)
                small.abort()
                await asyncio.sleep(0.1)
            stream.abort()

    run(main())


def test_another_key_cannot_take_a_session_over(run: Any, tmp_path: Any) -> None:
    async def main() -> None:
        async with live(tmp_path) as bridge:
            dialer = await bridge.client()
            local = Collect()
            await dialer.dial(ECHO, local, b"mine")
            await local.until(4)
            from ptproxy.auth.credentials import StaticKey

            bridge.client_key = StaticKey.generate(random.SystemRandom())
            thief = bridge.dialer()
            thief.tunnel.session_id = dialer.tunnel.session_id
            await thief.start()
            assert thief.tunnel.session_id != dialer.tunnel.session_id
            assert len(bridge.bridge.sessions) == 2

    run(main())
