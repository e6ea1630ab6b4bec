"""The price of ``tls.fingerprint: browser``: time until ready, memory, latency, speed, CPU.

A client and a bridge in one process, an nginx between them (TLS 1.3, HTTP/2),
sealed frames, an installed Chromium. Each round starts a browser with an empty
profile of its own. CPU is that of everything: browser, client, bridge and nginx.
The medians of the rounds are shown, with the least and the most.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in (".", "tests", "tests/tunnel", "tests/tunnel/chromium")]

from chromium_rig import NAME, PATH, Site, processes, site  # noqa: E402
from tunnel_live import ECHO, SOURCE, Collect, Source  # noqa: E402

from ptproxy.target import Target  # noqa: E402
from ptproxy.tunnel.dial import TunnelDialer  # noqa: E402
from ptproxy.tunnel.runtime import loop_factory  # noqa: E402

SINK = Target.address("192.0.2.1", 10)
"""Takes everything."""
TICK = os.sysconf("SC_CLK_TCK")
ROUND_TRIPS = 200
FURTHER = 3
"""Carriers beside the first, for what each takes of memory (MiB)."""


class Sink(asyncio.Protocol):
    """Counts what comes."""

    def __init__(self) -> None:
        self.received = 0
        self.changed = asyncio.Event()

    def data_received(self, data: Any) -> None:
        self.received += len(data)
        self.changed.set()

    async def until(self, size: int) -> None:
        while self.received < size:
            self.changed.clear()
            await self.changed.wait()


class Exit:
    """Echo, source and sink."""

    def __init__(self) -> None:
        self.sink = Sink()

    def stream_opened(self, incoming: Any) -> None:
        if incoming.target == ECHO:
            incoming.accept(Echo())
        else:
            incoming.accept(Source() if incoming.target == SOURCE else self.sink)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: Any) -> None:
        self.transport.write(bytes(data))


def cpu(there: Site) -> float:
    """Seconds used so far by everything that takes part."""
    total = time.process_time()
    for pid in (*processes(there.folder), there.nginx.pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / TICK
    return total


def pss(there: Site) -> float:
    """MiB of memory of the browser, what processes share counted once."""
    total = 0
    for pid in processes(there.folder):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def client(there: Site, kind: str, codec: str) -> TunnelDialer:
    if kind == "browser":
        return there.browsing(codec, there.chromium())
    return there.dialer(codec, server_name=NAME, path=PATH)


async def one_round(there: Site, kind: str, codec: str, size: int) -> dict[str, float]:
    exit_ = there.bridge._exit = Exit()
    found: dict[str, float] = {}
    dialer = client(there, kind, codec)
    began = time.monotonic()
    await dialer.start()
    found["ready s"] = time.monotonic() - began
    await asyncio.sleep(2)
    found["PSS MiB"] = pss(there)
    for _ in range(FURTHER):
        await dialer.tunnel.connect(codec)
    await asyncio.sleep(1)
    found["a further carrier"] = (pss(there) - found["PSS MiB"]) / FURTHER
    for carrier in list(dialer.tunnel.carriers.values())[1:]:
        carrier.end("measured")
    await asyncio.sleep(1)
    program = Collect()
    stream = await dialer.dial(ECHO, program)
    times = []
    for _ in range(ROUND_TRIPS):
        program.data.clear()
        began = time.monotonic()
        stream.write(bytes(64))
        await program.until(64)
        times.append(time.monotonic() - began)
        await asyncio.sleep(0.002)
    found["64 B p50 ms"] = statistics.median(times) * 1000
    taker = Sink()
    used, began = cpu(there), time.monotonic()
    down = await dialer.dial(SOURCE, taker)
    await taker.until(size)
    found["down MiB/s"] = size / (1 << 20) / (time.monotonic() - began)
    found["down CPU s/GiB"] = (cpu(there) - used) * (1 << 30) / size
    down.abort()
    await asyncio.sleep(0.5)
    giver = Collect()
    used, began = cpu(there), time.monotonic()
    up = await dialer.dial(SINK, giver)
    piece = bytes(1 << 16)
    for _ in range(size >> 16):
        await giver.writable.wait()
        up.write(piece)
        await asyncio.sleep(0)
    await exit_.sink.until(size)
    found["up MiB/s"] = size / (1 << 20) / (time.monotonic() - began)
    found["up CPU s/GiB"] = (cpu(there) - used) * (1 << 30) / size
    found["PSS after MiB"] = pss(there)
    return found


async def measure(kind: str, codec: str, size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        async with site(Path(folder)) as there:
            return await one_round(there, kind, codec, size)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=256, help="MiB each way")
    parser.add_argument("--codec", action="append", choices=("websocket", "http"))
    arguments = parser.parse_args()
    for codec in arguments.codec or ("websocket", "http"):
        for kind in ("python", "browser"):
            rounds = []
            for _ in range(arguments.rounds):
                with asyncio.Runner(loop_factory=loop_factory("uvloop")) as runner:
                    rounds.append(runner.run(measure(kind, codec, arguments.size << 20)))
            print(f"{codec} by {kind}, n={arguments.rounds}, {arguments.size} MiB each way", flush=True)
            for name in rounds[0]:
                values = sorted(one[name] for one in rounds)
                print(f"  {name:16} {statistics.median(values):8.2f}   {values[0]:.2f} to {values[-1]:.2f}")


if __name__ == "__main__":
    main()
