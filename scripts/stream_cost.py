"""What a stream between peers costs: figures for comparing changes.

scripts/stream_cost               sealing and opening without I/O; two transports in one loop
scripts/stream_cost --bridge      also a file over a real bridge on loopback, two clients in one process
scripts/stream_cost --mib 64      how much is sent each time; --rounds 5: how often, the median is told
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)] + [str(ROOT / "tests" / part) for part in (".", "peers", "e2e", "end_to_end")]

from live import Bridge  # noqa: E402
from stream_pair import Pair  # noqa: E402
from streams_live import Party, Talker, acquainted, at_home  # noqa: E402
from test_e2e_streams import CONTACT, config_of, dialling, introduced  # noqa: E402

from ptproxy.e2e.stream import DataReceived  # noqa: E402
from ptproxy.peers.file_transfer import FileTransfers  # noqa: E402

MIB = 1 << 20


def cpu() -> float:
    """Seconds of CPU of this process and its ended children."""
    both = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def told(what: str, rates: list[float], costs: list[float]) -> None:
    rate, cost = statistics.median(rates), statistics.median(costs)
    print(f"{what:46} {rate:8.1f} MiB/s {cost:7.2f} CPU ms/MiB   n = {len(rates)}", flush=True)


def without_io(mib: int) -> tuple[float, float]:
    """Seconds and CPU for ``mib`` MiB from one stream to the other."""
    pair = Pair()
    pair.meet()
    pair.pass_on()
    piece = random.Random(1).randbytes(65_536)
    left = mib * MIB
    began, used = time.perf_counter(), cpu()
    while left or pair.opener.outgoing.outstanding:
        while left and pair.opener.send_room() > 0:
            pair.opener.send_data(piece)
            left -= len(piece)
        for one in (pair.opener, pair.acceptor):
            for record in one.data_to_send(pair.now):
                for event in pair.other(one).receive_data(record, pair.now):
                    if isinstance(event, DataReceived):
                        pair.acceptor.consume(len(event.data))
        pair.now += 0.2  # whatever acknowledgement waits is due
    return time.perf_counter() - began, cpu() - used


def small_messages(count: int) -> float:
    """µs for a message of 64 bytes, sealed and opened."""
    pair = Pair()
    pair.meet()
    pair.pass_on()
    began = time.perf_counter()
    for _ in range(count):
        pair.opener.send_data(bytes(64))
        for record in pair.opener.data_to_send(pair.now):
            for event in pair.acceptor.receive_data(record, pair.now):
                if isinstance(event, DataReceived):
                    pair.acceptor.consume(len(event.data))
        for record in pair.acceptor.data_to_send(pair.now):
            pair.opener.receive_data(record, pair.now)
    return 1e6 * (time.perf_counter() - began) / count


def meetings(count: int) -> float:
    """µs for a meeting's beginning, both sides together."""
    pair = Pair()
    began = time.perf_counter()
    for _ in range(count):
        pair.meet()
        pair.pass_on()
        pair.part()
    return 1e6 * (time.perf_counter() - began) / count


async def in_one_loop(mib: int) -> tuple[float, float]:
    """Two PeerStreams over a rendezvous in memory."""
    alice, bob = acquainted()
    at_home(alice, bob)
    for party in (alice, bob):
        for dialer in party.homes.values():
            dialer.rng.choice = max  # streams in memory cut nothing
    here, there = Talker(os.urandom(MIB) * mib), Talker()
    bob.streams.offer(b"x", lambda incoming: incoming.accept(there))
    began, used = time.perf_counter(), cpu()
    await alice.streams.open_stream(Party.CONTACT, b"x", here)
    await there.lost
    figures = time.perf_counter() - began, cpu() - used
    assert len(there.received) == mib * MIB
    await alice.streams.close()
    await bob.streams.close()
    return figures


def over_a_bridge(mib: int, rounds: int) -> None:
    """A file by way of a real bridge; the CPU is the two clients', which are this process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "file"
        path.write_bytes(os.urandom(mib * MIB))
        with Bridge(folder / "bridge", rendezvous__offer=True) as bridge:
            configs = [config_of(folder / side, bridge.link, "websocket") for side in ("a", "b")]

            async def main() -> None:
                rates, costs = [], []
                async with dialling(configs[0]) as one, dialling(configs[1]) as other:
                    alice, bob = introduced(one, other)
                    offers: asyncio.Queue = asyncio.Queue()
                    saves, ask = folder / "files", offers.put_nowait
                    sends, _ = (
                        FileTransfers(party.streams, saves, on_offer=ask, on_progress=_ignored)
                        for party in (alice, bob)
                    )
                    for _ in range(rounds):
                        began, used = time.perf_counter(), cpu()
                        sending = asyncio.ensure_future(sends.send(CONTACT, path))
                        saved = await (await offers.get()).accept()
                        await sending
                        rates.append(mib / (time.perf_counter() - began))
                        costs.append(1000 * (cpu() - used) / mib)
                        saved.unlink()
                    await alice.streams.close()
                    await bob.streams.close()
                told("a file over a bridge (both clients)", rates, costs)

            asyncio.run(main())


def _ignored(event: object) -> None:
    pass


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mib", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bridge", action="store_true")
    options = parser.parse_args()
    mib = options.mib
    for what, run in (
        ("sealed and opened, without I/O", lambda: without_io(mib)),
        ("two transports in one loop", lambda: asyncio.run(in_one_loop(mib))),
    ):
        figures = [run() for _ in range(options.rounds)]
        told(what, [mib / seconds for seconds, _ in figures], [1000 * used / mib for _, used in figures])
    for what, value, count in (
        (
            "a message of 64 bytes, both sides",
            statistics.median(small_messages(2000) for _ in range(5)),
            2000,
        ),
        ("a meeting's beginning, both sides", statistics.median(meetings(200) for _ in range(5)), 200),
    ):
        print(f"{what:46} {value:8.1f} µs   n = 5 x {count}", flush=True)
    if options.bridge:
        over_a_bridge(mib, options.rounds)


if __name__ == "__main__":
    main()
