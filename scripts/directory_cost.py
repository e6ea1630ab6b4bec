"""What directory nodes cost on real sockets: memory, gets, and gets when nodes are gone.

All in one process, on loopback.

scripts/directory_cost                     200 nodes: gets, with 0, 20 and 50 % of them gone
scripts/directory_cost --nodes 1000 --gone 0    memory too, with 1,000 nodes
scripts/directory_cost --kademlia          the same work with the PyPI package kademlia, if it is installed
scripts/directory_cost --own-contacts      memory without one object for a contact in all tables

A get is a lookup of a record that ends with the first answer that verifies, by a node drawn at random,
with a pause after it (--pause) so that answers of one do not disturb the next. In it the caches of a busy
machine forget the node: without one (--pause 0) a get takes half as long. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "peers"), str(ROOT / "tests" / "dht")]

from dht_records import EPOCH, NOW, draw, sealed  # noqa: E402
from directory_live import Lab  # noqa: E402

from ptproxy.dht import bucket  # noqa: E402
from ptproxy.dht.diversity import ANY_NETWORK  # noqa: E402
from ptproxy.dht.lookup_rules import LookupRules  # noqa: E402
from ptproxy.dht.record import judge  # noqa: E402
from ptproxy.dht.record_secret import RecordSecret  # noqa: E402
from ptproxy.tunnel import runtime  # noqa: E402

RECORDS = 40
RULES = LookupRules(diversity=ANY_NETWORK, enough=1)


def resident() -> float:
    """KiB of memory that this process has now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024


def told(what: str, seconds: list[float], found: int) -> None:
    ordered = sorted(seconds)
    half, most = ordered[len(ordered) // 2], ordered[len(ordered) * 95 // 100]
    print(
        f"{what:34} p50 {1e3 * half:8.2f} ms   p95 {1e3 * most:8.2f} ms   found {found} of {len(ordered)}",
        flush=True,
    )


async def own(count: int, gone: list[int], gets: int, settle: int, pause: float) -> None:
    rng = random.Random(1)
    async with Lab(now=NOW) as lab:
        before, began = resident(), time.perf_counter()
        await lab.grow(count)
        joined = time.perf_counter() - began
        for node in lab.nodes:
            for _ in range(settle):
                await node.driver.look_up(rng.getrandbits(256))
        known = sum(len(node.driver.node.table) for node in lab.nodes) / count
        print(
            f"{count} nodes: {(resident() - before) / count:.1f} KiB each, {known:.0f} nodes in a table, "
            f"{1e3 * joined / count:.1f} ms to join",
            flush=True,
        )
        records = [sealed(secret=RecordSecret(draw(("cost", number))(32))) for number in range(RECORDS)]
        began, kept = time.perf_counter(), 0
        for record in records:
            node = rng.choice(lab.nodes)
            kept += len((await node.driver.publish(record.header.locations()[0], record.serialize())).kept)
        spent = (time.perf_counter() - began) / RECORDS
        print(f"publish, eight paths: {1e3 * spent:.1f} ms, {kept / RECORDS:.1f} nodes keep it")
        gc.freeze()
        alive = list(lab.nodes)
        for share in gone:
            rng.shuffle(alive)
            while len(alive) > count * (100 - share) // 100:
                await alive.pop().close()
            times, found = [], 0
            for _ in range(gets):
                node, place = rng.choice(alive), rng.choice(records).header.locations()[0]
                began = time.perf_counter()
                lookup = await node.driver.look_up(
                    place, RULES, lambda data, at=place: judge(data, at, EPOCH)
                )
                times.append(time.perf_counter() - began)
                found += lookup.record is not None
                await asyncio.sleep(pause)
            told(f"get, {share} % gone", times, found)


async def theirs(count: int, gone: list[int], gets: int, pause: float) -> None:
    """The same with ``kademlia``: no signatures, no work, whoever asks first."""
    try:
        from kademlia.network import Server  # noqa: PLC0415  (only for comparing)
    except ImportError:
        sys.exit("kademlia is not installed: pip install kademlia")
    rng = random.Random(1)
    nodes, first = [], 41_000
    before, began = resident(), time.perf_counter()
    for number in range(count):
        server = Server()
        await server.listen(first + number, interface="127.0.0.1")
        if nodes:
            await server.bootstrap([("127.0.0.1", first)])
        nodes.append(server)
    joined = time.perf_counter() - began
    print(
        f"{count} nodes: {(resident() - before) / count:.1f} KiB each, {1e3 * joined / count:.1f} ms to join"
    )
    began = time.perf_counter()
    for number in range(RECORDS):
        await rng.choice(nodes).set(f"record {number}", bytes(2_048))
    print(f"publish: {1e3 * (time.perf_counter() - began) / RECORDS:.1f} ms")
    gc.freeze()
    alive = list(nodes)
    for share in gone:
        rng.shuffle(alive)
        while len(alive) > count * (100 - share) // 100:
            alive.pop().stop()
        times, found = [], 0
        for _ in range(gets):
            node, name = rng.choice(alive), f"record {rng.randrange(RECORDS)}"
            while node.storage.get(name) is not None:
                node = rng.choice(alive)
            began = time.perf_counter()
            found += await node.get(name) is not None
            times.append(time.perf_counter() - began)
            await asyncio.sleep(pause)
        told(f"kademlia: get, {share} % gone", times, found)
    for server in alive:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--gets", type=int, default=100, help="for each share of nodes that are gone")
    parser.add_argument("--gone", type=int, nargs="*", default=[0, 20, 50], help="per cent, rising")
    parser.add_argument(
        "--settle", type=int, default=2, help="random places that each node looks up first, as upkeep does"
    )
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between gets")
    parser.add_argument("--kademlia", action="store_true")
    parser.add_argument("--own-contacts", action="store_true")
    chosen = parser.parse_args()
    if chosen.own_contacts:
        bucket.shared = lambda contact: contact
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if chosen.kademlia:
        runtime.run(theirs(chosen.nodes, chosen.gone, chosen.gets, chosen.pause))
    else:
        runtime.run(own(chosen.nodes, chosen.gone, chosen.gets, chosen.settle, chosen.pause))


main()
