"""Measure what a shape costs in bytes and delay; what ``scripts/shape_cost`` runs.

A bridge and a client of their own, on loopback, for each shape. Between them
stands a relay that counts TCP payload (TLS and all) and can add a round trip
time. The loads are drawn once and are the same for every shape:

    visit   pages one after another: 2 to 14 answers of cover sizes each, 6 at a time
    chat    two people: a line of 40 to 130 bytes, its echo back
    bulk    one download, one upload

First byte: from the TCP connect to the local proxy to the first byte echoed.
``cold`` is the first stream of a client, its carrier's opening and TLS included
(and what a page load before it costs, where the client loads one); ``warm`` any later one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from demo import HOST, edit, free_port, ptproxy, stop, wait_for

from ptproxy.tunnel.runtime import run

MIB = 1 << 20


class Relay:
    """Between client and bridge: counts what passes each way, and delays it by half a round trip."""

    def __init__(self, target: int, rtt: float) -> None:
        self.target = target
        self.delay = rtt / 2
        self.up = self.down = self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accepted, HOST, 0, limit=1 << 20)
        return int(self._server.sockets[0].getsockname()[1])

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self.target, limit=1 << 20)
        except OSError:
            writer.close()
            return
        for end in (writer, far_writer):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for way, source, sink in (("up", reader, far_writer), ("down", far_reader, writer)):
            task = asyncio.create_task(self._pass(way, source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, way: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(4096)
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            while True:
                due, data = await late.get()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                if not data:
                    sink.close()
                    return
                sink.write(data)
                await sink.drain()

        delivering = asyncio.create_task(deliver())
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 18):
                setattr(self, way, getattr(self, way) + len(data))
                await late.put((loop.time() + self.delay, data))
        await late.put((loop.time() + self.delay, b""))
        with contextlib.suppress(OSError):
            await delivering

    def counts(self) -> tuple[int, int, int]:
        return self.up, self.down, self.connections


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The target: G, two sizes and so many bytes ask for so many; lines after E or S come back."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            kind = await reader.readexactly(1)
            if kind in b"ES":
                line = await reader.readline()
                writer.write(line)
            else:
                ask = int.from_bytes(await reader.readexactly(4), "big")
                give = int.from_bytes(await reader.readexactly(4), "big")
                while ask:
                    ask -= len(await reader.read(min(ask, MIB)))
                while give:
                    writer.write(bytes(min(give, MIB)))
                    give -= min(give, MIB)
                    await writer.drain()
            await writer.drain()
    writer.close()


class Load:
    """Useful bytes through one client."""

    def __init__(self, socks: int, target: int) -> None:
        self.socks, self.target = socks, target
        self.up = self.down = 0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(HOST, self.socks, limit=1 << 22)
        port = self.target.to_bytes(2, "big")
        writer.write(b"\x05\x01\x00\x05\x01\x00\x01" + socket.inet_aton(HOST) + port)
        head = await reader.readexactly(12)
        if head[3]:
            raise ConnectionError(f"SOCKS reply {head[3]}")
        return reader, writer

    async def fetch(self, ask: int, give: int) -> None:
        reader, writer = await self.connect()
        writer.write(b"G" + ask.to_bytes(4, "big") + give.to_bytes(4, "big"))
        left = ask
        while left:
            writer.write(bytes(min(left, MIB)))
            left -= min(left, MIB)
            await writer.drain()
        left = give
        while left:
            data = await reader.read(min(left, MIB))
            if not data:
                raise ConnectionError("cut short")
            left -= len(data)
        self.up, self.down = self.up + ask + 9, self.down + give
        writer.close()

    async def visit(self, answers: list[tuple[int, int]]) -> float:
        """Seconds for a page: the document, then the rest six at a time."""
        begun = time.perf_counter()
        await self.fetch(*answers[0])
        gate = asyncio.Semaphore(6)

        async def one(ask: int, give: int) -> None:
            async with gate:
                await self.fetch(ask, give)

        await asyncio.gather(*(one(*sizes) for sizes in answers[1:]))
        return time.perf_counter() - begun

    async def first_byte(self) -> float:
        begun = time.perf_counter()
        reader, writer = await self.connect()
        writer.write(b"E\n")
        await reader.readline()
        writer.close()
        self.up, self.down = self.up + 2, self.down + 1
        return time.perf_counter() - begun

    async def chat(self, lines: list[int], pause: float) -> list[float]:
        """Seconds for each line to come back; the first words are an SSH client's."""
        reader, writer = await self.connect()
        times = []
        for number, size in enumerate(lines):
            words = b"SSH-2.0-chat\n" if number == 0 else b"E" + b"x" * size + b"\n"
            begun = time.perf_counter()
            writer.write(words)
            echo = await reader.readline()
            times.append(time.perf_counter() - begun)
            self.up, self.down = self.up + len(words), self.down + len(echo)
            await asyncio.sleep(pause)
        writer.close()
        return times


def pages(rng: random.Random, count: int) -> list[list[tuple[int, int]]]:
    """(bytes asked, bytes given) of each request: cover's sizes, see configs/shapes/browse.yaml."""
    found = []
    for _ in range(count):
        rest = rng.randint(4, 16)
        document = (rng.randint(400, 600), int(min(max(rng.lognormvariate(8.5, 0.5), 2600), 16400)))
        sizes = [int(min(max(rng.lognormvariate(9.5, 1.1), 900), 160_000)) for _ in range(rest)]
        found.append([document, *((rng.randint(350, 600), size) for size in sizes)])
    return found


class Figures:
    """One shape's row."""

    def __init__(self, relay: Relay, load: Load) -> None:
        self.relay, self.load = relay, load
        self.row: dict[str, float] = {}

    async def of(self, name: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run ``work`` and note the bytes it took beyond the useful ones, in percent of those."""
        before, useful = self.relay.counts(), (self.load.up, self.load.down)
        result = await work()
        await asyncio.sleep(0.3)
        after = self.relay.counts()
        for index, way in enumerate(("up", "down")):
            moved = (self.load.up, self.load.down)[index] - useful[index]
            self.row[f"{name} {way} useful KiB"] = moved / 1024
            self.row[f"{name} {way} wire KiB"] = (after[index] - before[index]) / 1024
        return result


async def measure(figures: Figures, options: argparse.Namespace) -> dict[str, float]:
    row, load = figures.row, figures.load
    row["first byte cold ms"] = await load.first_byte() * 1000
    await asyncio.sleep(1.0)
    warm = sorted([await load.first_byte() for _ in range(50)])
    row["first byte warm p50 ms"], row["first byte warm p95 ms"] = warm[25] * 1000, warm[47] * 1000
    visits = pages(random.Random(options.seed), options.pages)

    async def browse() -> list[float]:
        return [await load.visit(answers) for answers in visits]

    times = sorted(await figures.of("visit", browse))
    row["visit p50 s"], row["visit p90 s"] = times[len(times) // 2], times[len(times) * 9 // 10]
    rng = random.Random(options.seed)
    lines = [rng.randint(40, 130) for _ in range(options.lines)]
    talk = sorted((await figures.of("chat", lambda: load.chat(lines, options.pause)))[5:])
    row["chat p50 ms"], row["chat p95 ms"] = talk[len(talk) // 2] * 1000, talk[len(talk) * 19 // 20] * 1000
    for way, sizes in (("down", (100, options.mib * MIB)), ("up", (options.mib * MIB, 1))):
        begun = time.perf_counter()
        await figures.of(f"bulk {way}", lambda sizes=sizes: load.fetch(*sizes))
        row[f"bulk {way} MiB/s"] = options.mib / (time.perf_counter() - begun - 0.3)
    idle = figures.relay.counts()
    await asyncio.sleep(options.idle)
    row["idle B/s"] = (sum(figures.relay.counts()[:2]) - sum(idle[:2])) / options.idle
    row["connections"] = figures.relay.connections
    return row


def start(
    folder: Path, shape: str, codecs: list[str], ports: tuple[int, int, int]
) -> list[subprocess.Popen[bytes]]:
    """A bridge, and a client that reaches it through the relay; the ports of bridge, relay and client."""
    bridge_port, entrance, socks = ports
    made = subprocess.run(
        ptproxy("init", "bridge", str(folder / "bridge"), "--address", f"{HOST}:{entrance}",
                "--listen", f"{HOST}:{bridge_port}", "--server-name", "localhost", "--site", "builtin",
                "--access", "open"),
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    link = next(word for word in made.stdout.split() if word.startswith("ptproxy://"))
    subprocess.run(
        ptproxy("init", "client", str(folder / "client"), "-", "--listen", f"{HOST}:{socks}"),
        check=True, capture_output=True, input=link, text=True,
    )  # fmt: skip
    known = "browse" if shape == "none" else shape
    edit(folder / "bridge" / "bridge.yaml", egress__allow=[f"{HOST}/32"], log__level="warning", shape=known)
    edit(folder / "client" / "client.yaml", codec=codecs, log__level="warning", shape=shape)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for role, port in (("bridge", bridge_port), ("client", socks)):
            command = ptproxy(role, "-c", str(folder / role / f"{role}.yaml"))
            processes.append(subprocess.Popen(command))
            wait_for(port, processes[-1], role)
    except BaseException:
        stop(processes)
        raise
    return processes


async def one_shape(shape: str, options: argparse.Namespace) -> dict[str, float]:
    """A bridge, a relay and a client with ``shape``, and everything measured once."""
    target = await asyncio.start_server(answer, HOST, 0, limit=MIB)
    bridge_port, socks = free_port(), free_port()
    relay = Relay(bridge_port, options.rtt / 1000)
    ports = bridge_port, await relay.start(), socks
    with tempfile.TemporaryDirectory(prefix="ptproxy-cost-") as name:
        processes = await asyncio.to_thread(start, Path(name), shape, options.codecs.split(","), ports)
        try:
            load = Load(socks, target.sockets[0].getsockname()[1])
            return await measure(Figures(relay, load), options)
        finally:
            await asyncio.to_thread(stop, processes)
            target.close()


def show(results: dict[str, list[dict[str, float]]]) -> None:
    """The medians, one column a shape."""
    names = list(results)
    print("| figure | " + " | ".join(names) + " |")
    print("|---|" + "---:|" * len(names))
    for figure in results[names[0]][0]:
        cells = []
        for name in names:
            value = statistics.median(row[figure] for row in results[name])
            cells.append(f"{value:.0f}" if value >= 100 else f"{value:.2f}")
        print(f"| {figure} | " + " | ".join(cells) + " |")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/shape_cost", description=__doc__.partition("\n")[0])
    parser.add_argument("--shapes", default="none,browse,chat", help="which (default: none,browse,chat)")
    parser.add_argument("--codecs", default="http,websocket", help="of the client (default: http,websocket)")
    parser.add_argument("--rtt", type=float, default=0.0, help="round trip time to add, ms (default: 0)")
    parser.add_argument("--pages", type=int, default=30, help="page visits (default: 30)")
    parser.add_argument("--lines", type=int, default=100, help="lines of chat (default: 100)")
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between lines (default: 0.05)")
    parser.add_argument("--mib", type=int, default=64, help="MiB of each bulk transfer (default: 64)")
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of silence (default: 20)")
    parser.add_argument("--rounds", type=int, default=1, help="medians of so many (default: 1)")
    parser.add_argument("--seed", type=int, default=1, help="of the loads (default: 1)")
    parser.add_argument("--json", type=Path, help="write all figures here, too")
    options = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {shape: [] for shape in options.shapes.split(",")}
    for _ in range(options.rounds):
        for shape, rows in results.items():
            rows.append(run(one_shape(shape, options)))
            print(f"{shape} done", file=sys.stderr)
    show(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
