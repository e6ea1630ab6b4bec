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


class Forwarder:
    """Passes connections on and cuts each after a random number of bytes, while ``cutting``."""

    def __init__(self, port: int, rng: random.Random, mean: int) -> None:
        self.port, self.rng, self.mean = port, rng, mean
        self.cutting = True
        self.cuts = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self.server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        budget = self.rng.randrange(4000, 2 * self.mean)
        left = [budget]

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(1 << 14):
                    if self.cutting and len(data) > left[0]:
                        sink.write(data[: left[0]])
                        self.cuts += 1
                        break
                    left[0] -= len(data)
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            for end in (writer, far_writer):
                end.transport.abort()

        for pair in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.get_running_loop().create_task(pump(*pair))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def stop(self) -> None:
        self.server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


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
            for _ in range(40):
                block = os.urandom(random.Random(seed).randrange(1, 100_000))
                stream.write(block)
                sent += block
                await local.writable.wait()
            assert await local.until(len(sent)) == sent
            assert forwarder.cuts >= 2
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
                carrier.connections and next(iter(carrier.connections.values())).abort()
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
