"""Measure what records, invites and admission cost; what ``scripts/dht_record_cost`` runs.

CPU time of this process, median and lowest of the samples:

    admission   one check of a node's id (Argon2id over 512 KiB)
    keys        the keys of one secret, type and epoch
    seal, open  a bridge bucket's record, its work done before; what a reader does with it
    strange     refuse a record of another secret; of the right key with a body that does not open
    write       a node takes a record that it has not seen (signature and work)
    again       the same bytes once more
    refused     a write without a token
    invite      read an invite with three bridges
    read        hand a record out

    memory      of one record that a node keeps
    mint        computations for an id, from the mean of searches for fewer bits
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from ptproxy.config.link import Link  # noqa: E402
from ptproxy.dht import admission  # noqa: E402
from ptproxy.dht.bridge_record import BridgeBucket  # noqa: E402
from ptproxy.dht.invite import Invite  # noqa: E402
from ptproxy.dht.record import RECORD_WORK, Record  # noqa: E402
from ptproxy.dht.record_secret import RecordKeys, RecordSecret, RecordType  # noqa: E402
from ptproxy.dht.signing import SigningKey  # noqa: E402
from ptproxy.dht.storage import RecordStorage, Write, WriteRefusedError  # noqa: E402
from ptproxy.dht.work import WorkTarget  # noqa: E402

NOW = 1_800_000_000.0
EPOCH = int(NOW // 86_400)
FREE = WorkTarget(bits=0)
"""Checked at full price, found at once."""
GUARD = 1


def bridge() -> Link:
    host = f"{os.urandom(4).hex()}.example.com"
    return Link(os.urandom(32), host, 443, "/assets/live", host, ("http", "websocket"), token=os.urandom(16))


def sealed(keys: RecordKeys, issuer: SigningKey, content: bytes) -> Record:
    nonce = keys.find_work(FREE, 0, 1)
    assert nonce is not None
    return keys.seal(content, 1, issuer, nonce, os.urandom)


def write_of(storage: RecordStorage, record: Record) -> Write:
    location = record.header.locations()[0]
    return Write(location, storage.token(location, GUARD, NOW), record.serialize())


def measure(what: Callable[[], object], samples: int) -> list[float]:
    times = []
    for _ in range(samples):
        start = time.process_time_ns()
        what()
        times.append((time.process_time_ns() - start) / 1_000)
    return times


def costs(samples: int) -> dict[str, list[float]]:
    issuer, secret = SigningKey.generate(os.urandom), RecordSecret.generate(os.urandom)
    content = BridgeBucket((bridge(), bridge(), bridge())).serialize()
    keys = secret.keys(RecordType.BRIDGE_BUCKET, EPOCH)
    other = RecordSecret.generate(os.urandom).keys(RecordType.BRIDGE_BUCKET, EPOCH)
    data = sealed(keys, issuer, content).serialize()
    damaged = data[:500] + bytes((data[500] ^ 1,)) + data[501:]
    minted = admission.mint(issuer.public, FREE, 0, 1)
    assert minted is not None
    text = Invite.issue(issuer, (bridge(), bridge(), bridge()), 2**40, os.urandom).serialize()
    found = {
        "admission": measure(lambda: admission.check(minted.id, issuer.public, minted.nonce, FREE), samples),
        "keys": measure(lambda: secret.keys(RecordType.BRIDGE_BUCKET, EPOCH), samples),
        "seal": measure(lambda: sealed(keys, issuer, content), samples),
        "open": measure(lambda: keys.open(data, issuer.public), samples),
        "strange, key": measure(lambda: other.judge(data, issuer.public), samples),
        "strange, body": measure(lambda: keys.judge(damaged, issuer.public), samples),
        "invite": measure(lambda: Invite.parse(text), samples),
    }
    return found | node_costs(samples, issuer, content)


def node_costs(samples: int, issuer: SigningKey, content: bytes) -> dict[str, list[float]]:
    storage = RecordStorage(os.urandom, FREE)
    samples = min(samples, 500)  # what one guard may write at once
    fresh = []
    for _ in range(samples):
        keys = RecordSecret.generate(os.urandom).keys(RecordType.BRIDGE_BUCKET, EPOCH)
        fresh.append(write_of(storage, sealed(keys, issuer, content)))
    left = iter(fresh)
    found = {"write": measure(lambda: storage.write(next(left), GUARD, NOW), samples)}
    one = fresh[0]
    found["again"] = measure(lambda: storage.write(one, GUARD, NOW), 90)

    def refused() -> None:
        try:
            storage.write(Write(one.location, bytes(16), one.record), GUARD, NOW)
        except WriteRefusedError:
            return

    found["refused"] = measure(refused, samples)
    found["read"] = measure(lambda: storage.read(one.location, NOW), samples)
    return found


def memory(count: int) -> float:
    """Bytes that a node needs for one record more."""
    issuer = SigningKey.generate(os.urandom)
    storage = RecordStorage(os.urandom, FREE)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(count):
        keys = RecordSecret.generate(os.urandom).keys(RecordType.BRIDGE_BUCKET, EPOCH)
        storage.write(write_of(storage, sealed(keys, issuer, bytes((number % 256,)))), GUARD, NOW)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used / count


def tries(bits: int, searches: int) -> float:
    """How many computations a search takes on average."""
    total = 0
    for _ in range(searches):
        minted = admission.mint(os.urandom(32), WorkTarget(bits, 8), 0, 1 << 30)
        assert minted is not None
        total += int.from_bytes(minted.nonce, "big") + 1
    return total / searches


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=500)
    chosen = parser.parse_args()
    table = costs(chosen.samples)
    print(f"{'µs of CPU':15} {'median':>9} {'lowest':>9} {'n':>6}")
    for name, times in table.items():
        print(f"{name:15} {statistics.median(times):9.1f} {min(times):9.1f} {len(times):6}")
    print(f"\nmemory of a record kept: {memory(300):.0f} bytes (n = 300)")
    mean, price = tries(6, 200), statistics.median(table["admission"]) / 1e6
    print(f"a search for 6 bits took {mean:.1f} computations (n = 200, 64 expected)")
    print(f"an id of {admission.NODE_WORK.bits} bits: {2**admission.NODE_WORK.bits * price:.1f} s on average")
    print(f"a record's work of {RECORD_WORK.bits} bits: {2**RECORD_WORK.bits * price:.2f} s on average")


if __name__ == "__main__":
    main()
