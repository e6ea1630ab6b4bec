"""Streams outlive carriers: connections cut at random places, bridges that forget, carriers that grow."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest
from tunnel_live import ECHO, SOURCE, Collect, live

from ptproxy.errors import DialError, Reason

CODECS = ["websocket", "http", "random"]


class Half(asyncio.Protocol):
    """One side of a forwarded connection."""

    def __init__(self, forwarder: Forwarder, budget: list[int]) -> None:
        self.forwarder, self.budget = forwarder, budget
        self.other: Half | None = None
        self.transport: Any = None
        self.waiting = bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.forwarder.transports.add(transport)

    def data_received(self, data: bytes) -> None:
        cut = self.forwarder.cutting and len(data) > self.budget[0]
        data = data[: self.budget[0]] if cut else data
        self.budget[0] -= len(data)
        if self.other is None:
            self.waiting += data
        else:
            self.other.transport.write(data)
        if cut:
            self.forwarder.cuts += 1
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.forwarder.transports.discard(self.transport)
        if self.other is not None:
            self.other.transport.abort()


class Forwarder:
    """Passes connections on and cuts each after a random number of bytes, while ``cutting``."""

    def __init__(self, port: int, rng: random.Random, mean: int) -> None:
        self.port, self.rng, self.mean = port, rng, mean
        self.cutting = True
        self.cuts = 0
        self.transports: set[Any] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self.server = await asyncio.get_running_loop().create_server(self.connected, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    def connected(self) -> Half:
        near = Half(self, [self.rng.randrange(4000, 2 * self.mean)])
        task = asyncio.get_running_loop().create_task(self.join(near))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return near

    async def join(self, near: Half) -> None:
        far = Half(self, near.budget)
        await asyncio.get_running_loop().create_connection(lambda: far, "127.0.0.1", self.port)
        near.other, far.other = far, near
        far.transport.write(bytes(near.waiting))
        if near.transport.is_closing():
            far.transport.abort()

    async def stop(self) -> None:
        self.server.close()
        await asyncio.gather(*self.tasks)
        for transport in list(self.transports):
            transport.abort()


@pytest.mark.parametrize("codec", CODECS)
def test_a_transfer_survives_cuts_at_random_bytes(run: Any, tmp_path: Any, codec: str) -> None:
    async def main() -> None:
        seed = int.from_bytes(os.urandom(4))
        print("seed", seed)
        async with live(tmp_path) as bridge:
            forwarder = Forwarder(bridge.port, random.Random(seed), 400_000)
            port = await forwarder.start()
            dialer = await bridge.client(codec, port=port, carriers=2)
            local = Collect()
            stream = await dialer.dial(ECHO, local)
            sent = bytearray()
            sizes = random.Random(seed)
            while len(sent) < 2_000_000 or (forwarder.cuts < 3 and len(sent) < 64_000_000):
                block = os.urandom(sizes.randrange(1, 100_000))
                stream.write(block)
                sent += block
                await local.writable.wait()
            assert await local.until(len(sent)) == sent
            assert forwarder.cuts >= 3
            forwarder.cutting = False
            stream.close()
            await local.lost
            await dialer.stop()
            await forwarder.stop()

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
