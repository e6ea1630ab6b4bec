"""Measure a client and a bridge on loopback; what ``scripts/bench`` runs.

One process each side (``--workers``: several on the bridge's), authentication on, no
shaping unless told. ``--peers`` measures other programs on the same load, those that are
installed (Debian: trojan, stunnel4 and microsocks, shadowsocks-libev, v2ray, obfs4proxy).
``--json FILE`` keeps every round; ``--compare BEFORE AFTER`` says what differs between two
such files by more than their rounds differ among themselves. The load generator and
the target share the two cores with them, so compare figures of one run with
figures of the same run: CPU seconds per GiB (user + system of client and
bridge, from the process table) is steadier than throughput. ``direct`` is the
same load without any proxy: what the generator itself can do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_compare import compare
from bench_peers import PEERS, Peer, start_peer
from demo import HOST, edit, free_port, ptproxy, start_bridge, start_client, wait_for

from ptproxy.tunnel.runtime import run

TICK = os.sysconf("SC_CLK_TCK")
BLOCK = bytes(1 << 18)
MESSAGE = bytes(64)


# ---- the target ----------------------------------------------------------------------------------------


class Target(asyncio.Protocol):
    """First byte: D sends for good, U takes and counts (a total every MiB), E echoes."""

    def __init__(self) -> None:
        self.kind = 0
        self.paused = False
        self.taken = 0
        self.said = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(1 << 20)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if not self.kind:
            self.kind, data = data[0], data[1:]
            if self.kind == ord("D"):
                self.send()
        if self.kind == ord("E"):
            if data:
                self.transport.write(data)
        elif self.kind == ord("U"):
            self.taken += len(data)
            if self.taken - self.said >= 1 << 20:
                self.said = self.taken
                self.transport.write(struct.pack(">Q", self.taken))

    def send(self) -> None:
        while not self.paused and not self.transport.is_closing():
            self.transport.write(BLOCK)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        asyncio.get_running_loop().call_soon(self.send)


async def target(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Target, HOST, port, backlog=4096)
    await server.serve_forever()


# ---- the local program ------------------------------------------------------------------------------------


class Local(asyncio.Protocol):
    """One connection through SOCKS5 (or straight to the target), then ``on_data``."""

    def __init__(self, request: bytes, first: bytes, login: bytes = b"") -> None:
        loop = asyncio.get_running_loop()
        self.login = login
        self.opened: asyncio.Future[None] = loop.create_future()
        self.answered: asyncio.Future[None] = loop.create_future()
        self.request = request
        self.first = first
        self.stage = 0
        self.head = b""
        self.count = 0
        self.on_data: Callable[[int], None] | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.request:
            transport.write(b"\x05\x01\x02" if self.login else b"\x05\x01\x00")
        else:
            self.open()

    def open(self) -> None:
        self.stage = 2
        self.transport.write(self.first)
        self.opened.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.stage < 2:
            self.head += data
            if self.stage == 0 and len(self.head) >= 2:
                self.head = self.head[2:]
                if self.login:
                    self.transport.write(self.login)
                    self.login = b""
                    return
                self.stage = 1
                self.transport.write(self.request)
            if self.stage == 1 and len(self.head) >= 10:
                if self.head[1]:
                    self.opened.set_exception(ConnectionError(f"SOCKS reply {self.head[1]}"))
                    return
                data = self.head[10:]
                self.open()
            else:
                return
        if data:
            self.count += len(data)
            if not self.answered.done():
                self.answered.set_result(None)
            if self.on_data is not None:
                self.on_data(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.opened, self.answered):
            if not future.done():
                future.set_exception(exc or ConnectionError("closed"))
                future.exception()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()


def family(pids: list[int]) -> list[int]:
    """These processes and all that they have started."""
    found = list(pids)
    for pid in found:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread may end meanwhile
                found += map(int, (task / "children").read_text().split())
    return found


@dataclass
class Bench:
    """The load, against one SOCKS port (0: straight to the target)."""

    socks: int
    port: int
    seconds: float
    pids: list[int] = field(default_factory=list)
    login: bytes = b""
    """SOCKS5 user name and password (RFC 1929), for a transport that takes its arguments there."""

    async def connect(self, first: bytes) -> Local:
        request = b""
        if self.socks:
            request = b"\x05\x01\x00\x01" + socket.inet_aton(HOST) + struct.pack(">H", self.port)
        _, local = await asyncio.get_running_loop().create_connection(
            lambda: Local(request, first, self.login), HOST, self.socks or self.port
        )
        await local.opened
        return local

    def cpu(self) -> float:
        total = 0
        for pid in family(self.pids):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICK

    def memory(self) -> int:
        """KiB resident in client and bridge."""
        total = 0
        for pid in family(self.pids):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        return total

    async def bulk(self, kind: bytes, streams: int) -> tuple[float, float]:
        """(MiB/s, CPU s/GiB): D by what arrived, U by what the target has counted."""
        locals_ = [await self.connect(kind) for _ in range(streams)]
        senders = []
        if kind == b"U":
            senders = [asyncio.create_task(self._send(local)) for local in locals_]
        await asyncio.sleep(0.5)

        def moved() -> int:
            return sum(local.count for local in locals_) * ((1 << 17) if kind == b"U" else 1)

        start, cpu, before = time.perf_counter(), self.cpu(), moved()
        await asyncio.sleep(self.seconds)
        elapsed, cpu, size = time.perf_counter() - start, self.cpu() - cpu, moved() - before
        for task in senders:
            task.cancel()
        for local in locals_:
            local.transport.abort()
        await asyncio.sleep(0.3)
        return size / elapsed / 2**20, cpu / (size / 2**30) if size else 0.0

    async def _send(self, local: Local) -> None:
        while True:
            await local.writable.wait()
            local.transport.write(BLOCK)
            await asyncio.sleep(0)

    async def ping(self, streams: int) -> tuple[float, float, float]:
        """(messages/s, p50 µs, p99 µs) of 64 B there and back on each of ``streams`` at once."""
        locals_ = [await self.connect(b"E") for _ in range(streams)]
        times: list[float] = []
        clock = time.perf_counter

        def play(local: Local) -> None:
            state = [clock(), 0]

            def on_data(size: int) -> None:
                state[1] += size
                if state[1] >= len(MESSAGE):
                    state[1] = 0
                    now = clock()
                    times.append(now - state[0])
                    state[0] = now
                    local.transport.write(MESSAGE)

            local.on_data = on_data
            local.transport.write(MESSAGE)

        start = clock()
        for local in locals_:
            play(local)
        await asyncio.sleep(self.seconds)
        elapsed, done = clock() - start, sorted(times)
        for local in locals_:
            local.on_data = None
            local.transport.abort()
        await asyncio.sleep(0.1)
        if not done:
            return 0.0, 0.0, 0.0
        return len(done) / elapsed, done[len(done) // 2] * 1e6, done[len(done) * 99 // 100] * 1e6

    async def ping_beside_download(self) -> tuple[float, float, float]:
        """The ping while a download runs at full speed."""
        bulk = await self.connect(b"D")
        await asyncio.sleep(0.5)
        result = await self.ping(1)
        bulk.transport.abort()
        await asyncio.sleep(0.3)
        return result

    async def first_byte(self, rounds: int = 200) -> tuple[float, float]:
        """(p50, p99) µs from TCP connect to the first echoed byte, one after another."""
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            local = await self.connect(b"E" + MESSAGE)
            await local.answered
            times.append(time.perf_counter() - start)
            local.transport.abort()
        times.sort()
        return times[len(times) // 2] * 1e6, times[len(times) * 99 // 100] * 1e6

    async def connections(self, at_once: int = 50) -> tuple[float, float]:
        """(connections/s, CPU ms each) with ``at_once`` at a time, each echoing once."""
        done = 0
        until = time.perf_counter() + self.seconds

        async def one() -> None:
            nonlocal done
            while time.perf_counter() < until:
                local = await self.connect(b"E" + MESSAGE)
                await local.answered
                local.transport.abort()
                done += 1

        start, cpu = time.perf_counter(), self.cpu()
        await asyncio.gather(*(one() for _ in range(at_once)))
        return done / (time.perf_counter() - start), (self.cpu() - cpu) * 1000 / max(done, 1)

    async def idle(self, streams: int) -> float:
        """KiB a stream, client and bridge together, of streams that have echoed once."""
        before = self.memory()
        locals_ = []
        for _ in range(0, streams, 50):
            locals_ += await asyncio.gather(*(self.connect(b"E" + MESSAGE[:32]) for _ in range(50)))
        await asyncio.gather(*(local.answered for local in locals_))
        await asyncio.sleep(0.5)
        each = (self.memory() - before) / streams
        for local in locals_:
            local.transport.abort()
        await asyncio.sleep(0.5)
        return each


async def measure(bench: Bench, idle: int) -> dict[str, float]:
    """All figures, by name."""
    figures: dict[str, float] = {}
    figures["down MiB/s"], figures["CPU s/GiB down"] = await bench.bulk(b"D", 1)
    figures["up MiB/s"], figures["CPU s/GiB up"] = await bench.bulk(b"U", 1)
    figures["8 x down MiB/s"], figures["CPU s/GiB 8 x"] = await bench.bulk(b"D", 8)
    _, figures["64 B p50 us"], figures["64 B p99 us"] = await bench.ping(1)
    figures["50 x 64 B msg/s"], _, _ = await bench.ping(50)
    (
        _,
        figures["beside download p50 us"],
        figures["beside download p99 us"],
    ) = await bench.ping_beside_download()
    figures["first byte p50 us"], figures["first byte p99 us"] = await bench.first_byte()
    figures["conn/s at 50"], figures["CPU ms/conn"] = await bench.connections()
    if bench.socks:
        figures["KiB/idle stream"] = await bench.idle(idle)
    return figures


def median(figure: str, rounds: list[dict[str, float]]) -> float | None:
    """The figure's median over the rounds, None where it was not measured."""
    return statistics.median(one[figure] for one in rounds) if figure in rounds[0] else None


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--codecs",
        default="websocket,random,http",
        help="which, in this order (default: all three); websocket:python sets tls.fingerprint",
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each figure (default: 3)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds; medians are shown (default: 1)")
    parser.add_argument(
        "--idle", type=int, default=500, help="idle streams for the memory figure (default: 500)"
    )
    parser.add_argument("--shape", default="none", help="the clients' shape (default: none)")
    parser.add_argument("--workers", type=int, default=1, help="the bridge's processes (default: 1)")
    parser.add_argument(
        "--peers", nargs="?", const=",".join(PEERS), default="",
        help=f"other programs beside it (without names: {', '.join(PEERS)})",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write all figures here, too")
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"), help="compare two such files, and end"
    )
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        run(target(arguments.serve))
        return 0
    if arguments.compare:
        before, after = (json.loads(path.read_text()) for path in arguments.compare)
        print(compare(before, after))
        return 0
    results = measure_all(arguments)
    show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    return 0


def measure_all(arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Every round of everything that is to be measured; in each round one after another."""
    codecs = arguments.codecs.split(",") if arguments.codecs else []
    peers = [name for name in arguments.peers.split(",") if name]
    missing = [name for name in peers if name not in PEERS or not PEERS[name].installed]
    for name in missing:
        print(f"left out: {name}, which is not known or not installed", file=sys.stderr)
    names = ["direct", *codecs, *(name for name in peers if name not in missing)]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    port = free_port()
    processes = [subprocess.Popen([sys.executable, __file__, "--serve", str(port)])]
    with tempfile.TemporaryDirectory(prefix="ptproxy-bench-") as place:
        folder = Path(place)
        try:
            wait_for(port, processes[0], "target")
            bridge, link = start_bridge(folder / "bridge", free_port())
            processes.append(bridge)
            if arguments.workers > 1:
                bridge.terminate()
                bridge.wait(15)
                edit(folder / "bridge" / "bridge.yaml", workers=arguments.workers)
                processes[-1] = bridge = subprocess.Popen(
                    ptproxy("bridge", "-c", str(folder / "bridge" / "bridge.yaml")), stdout=subprocess.PIPE
                )
                assert bridge.stdout is not None
                bridge.stdout.readline()  # all workers are up
            for round_ in range(arguments.rounds):
                for name in names:
                    own = folder / f"{name.replace(':', '-')}-{round_}"
                    with contextlib.ExitStack() as stack:
                        bench = Bench(0, port, arguments.seconds)
                        if name in PEERS:
                            peer = stack.enter_context(start_peer(name, own, port))
                            use(bench, peer)
                        elif name != "direct":
                            codec, _, fingerprint = name.partition(":")
                            client, bench.socks = start_client(
                                own, link, codec, fingerprint=fingerprint or "chrome", shape=arguments.shape
                            )
                            stack.callback(client.wait, 15)
                            stack.callback(client.terminate)
                            bench.pids = [client.pid, bridge.pid]
                        if bench.socks:
                            warm = dataclasses.replace(bench, seconds=0.2)
                            run(warm.first_byte(5))
                        results[name].append(run(measure(bench, arguments.idle)))
                    print(f"round {round_ + 1}: {name} done", file=sys.stderr)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(15)
                if process.stdout is not None:
                    process.stdout.close()
    return results


def use(bench: Bench, peer: Peer) -> None:
    """Aim the load at a peer."""
    bench.socks, bench.port, bench.pids = peer.socks, peer.target or bench.port, peer.pids
    if peer.user:
        user = peer.user.encode()
        bench.login = b"\x01" + bytes((len(user),)) + user + b"\x01\x00"


def show(results: dict[str, list[dict[str, float]]]) -> None:
    """The table of medians."""
    names = [name for name in results if results[name]]
    figures = list(dict.fromkeys(figure for name in names for figure in results[name][0]))
    print("| figure | " + " | ".join(names) + " |")
    print("|---|" + "---:|" * len(names))
    for figure in figures:
        values = [median(figure, results[name]) for name in names]
        cells = [
            "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.2f}" for value in values
        ]
        print(f"| {figure} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    sys.exit(main())
