"""Three bridges, one of them in a hole: run in a network namespace of its own, prints JSON of what it saw.

Each bridge stands behind a relay that passes everything on half a round trip later, and the client's
connects take a round trip more. The hole is a listening socket whose queue is full: Linux drops further
SYNs without a word, as a firewall does. It ends when the socket begins to accept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tunnel_live import ECHO, Collect, live

from ptproxy.proxy.bridge_choice import BridgeChoice
from ptproxy.proxy.one_bridge import OneBridge
from ptproxy.tunnel.client_tls import PythonTls
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.outward import Outward
from ptproxy.tunnel.runtime import loop_factory
from ptproxy.tunnel.tls import ClientTrust
from ptproxy.ways import Ways, way

QUIET = 2.0
"""Seconds for which nobody needs anything."""


class FarOutward(Outward):
    """Connects over loopback as if it were far."""

    rtt = 0.0

    async def connect(self, loop: Any, address: Any) -> socket.socket:
        await asyncio.sleep(FarOutward.rtt)
        return await super().connect(loop, address)


class Delay:
    """Relays to a port, half a round trip later each way."""

    def __init__(self, port: int, rtt: float) -> None:
        self.port = port
        self.half = rtt / 2
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self, sock: socket.socket) -> None:
        self.server = await asyncio.start_server(self.serve, sock=sock)

    async def serve(self, reader: Any, writer: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        far = None
        with contextlib.suppress(OSError):
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.port)
            await asyncio.gather(self.flow(reader, far), self.flow(far_reader, writer))
        for one in (writer, far):
            if one is not None:
                one.transport.abort()

    async def flow(self, reader: Any, writer: Any) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(65536):
            loop.call_later(self.half, self.give, writer, data)
        raise ConnectionResetError

    @staticmethod
    def give(writer: Any, data: bytes) -> None:
        if not writer.is_closing():
            writer.write(data)

    async def stop(self) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Hole:
    """A port of which SYNs are dropped."""

    def __init__(self) -> None:
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(0)
        self.port = self.sock.getsockname()[1]
        self.fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", self.port))
            self.fillers.append(filler)

    def ports(self) -> set[int]:
        """Where those come from that fill the queue: they repeat their SYNs by themselves."""
        return {filler.getsockname()[1] for filler in self.fillers}

    def end(self) -> socket.socket:
        """The socket, which answers from now on."""
        for filler in self.fillers:
            filler.close()
        self.sock.listen(100)
        return self.sock


class Capture:
    """Counts the packets to a port on loopback, by the kernel's own word."""

    def __init__(self, port: int, besides: set[int]) -> None:
        """``besides``: ports from which nothing counts."""
        self.port = port
        self.besides = besides
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
        self.sock.bind(("lo", 0))
        self.sock.setblocking(False)

    def seen(self) -> int:
        """Packets since the last look."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = self.sock.recv(65535)
                header = (packet[0] & 15) * 4
                source, to = struct.unpack_from("!HH", packet, header)
                count += packet[9] == 6 and to == self.port and source not in self.besides
        return count


class Town:
    """Three bridges, and a client's choice of them."""

    def __init__(self, bridges: list[Any], ports: list[int], pick: Any) -> None:
        self.lines = tuple(one.route(port=port).line for one, port in zip(bridges, ports, strict=True))
        self.keys = {line: one.client_key for line, one in zip(self.lines, bridges, strict=True)}
        self.ways = Ways(bytes(32))
        self.choice = BridgeChoice(self.make, self, self.ways, pick, random.Random(7))

    def make(self, line: Any) -> OneBridge:
        tls = PythonTls(ClientTrust(pin=line.pin), FarOutward())
        route = Route(line, self.keys[line], tls, line.codecs)
        return OneBridge(line, TunnelDialer(asyncio.get_running_loop(), route, carriers=1, ways=self.ways))

    def hurry(self) -> None:
        """Nobody looks for more."""

    async def echo(self) -> None:
        local = Collect()
        stream = await self.choice.dial(ECHO, local, b"?")
        await local.until(1)
        stream.close()
        await local.lost


async def scene(folder: Path, rtt: float) -> dict[str, Any]:
    """From a cold start until all three are in use."""
    FarOutward.rtt = rtt
    async with contextlib.AsyncExitStack() as stack:
        bridges = []
        for number in range(3):
            place = folder / str(number)
            place.mkdir()
            bridges.append(await stack.enter_async_context(live(place)))
        hole = Hole()
        relays = [Delay(one.port, rtt) for one in bridges]
        ports = [hole.port]
        for relay in relays[1:]:
            sock = socket.create_server(("127.0.0.1", 0))
            ports.append(sock.getsockname()[1])
            await relay.start(sock)
        capture = Capture(hole.port, hole.ports())
        town = Town(bridges, ports, "ordered")
        began = time.monotonic()
        await town.choice.start()
        await town.echo()
        first_byte = time.monotonic() - began
        tried = capture.seen()
        await asyncio.sleep(QUIET)
        quiet = capture.seen()
        for _ in range(20):  # it rests: nobody dials it, though streams are opened
            await town.echo()
        resting = capture.seen()
        town.choice._order.choice = "weighted"
        way.PAUSE_FIRST = 0.0  # the pauses are over, and the bridge is back
        await relays[0].start(hole.end())
        async with asyncio.timeout(60):
            while len(town.choice.through()) < 3 or not all(one.exit.asked for one in bridges):
                await town.echo()
        await town.choice.stop()
        for relay in relays:
            await relay.stop()
        capture.sock.close()
        return {
            "first_byte": first_byte, "tried": tried, "quiet": quiet, "resting": resting,
            "in_use": [len(one.exit.asked) for one in bridges],
        }  # fmt: skip


def main() -> None:
    """``ways_scenario.py RUNS RTT_MS``."""
    runs, rtt = int(sys.argv[1]), float(sys.argv[2]) / 1000
    results = []
    for _ in range(runs):
        way.PAUSE_FIRST = 30.0
        with (
            tempfile.TemporaryDirectory() as folder,
            asyncio.Runner(loop_factory=loop_factory("auto")) as runner,
        ):
            results.append(runner.run(scene(Path(folder), rtt)))
    times = sorted(one["first_byte"] * 1000 for one in results)
    print(json.dumps({"runs": results, "median_ms": statistics.median(times), "most_ms": times[-1]}))


if __name__ == "__main__":
    main()
