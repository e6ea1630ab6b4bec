"""What a node takes when a thousand of them share a process."""

from __future__ import annotations

import gc
import random
import tracemalloc

from dht_nodes import plain_contact

from ptproxy.dht.admission import Admissions
from ptproxy.dht.contact import Contact, shared
from ptproxy.dht.diversity import Diversity
from ptproxy.dht.node import Node
from ptproxy.dht.probation import NO_PROBATION
from ptproxy.dht.responder import NodeKeys, Responder
from ptproxy.dht.storage import RecordStorage
from ptproxy.dht.table import RoutingTable
from ptproxy.dht.vetting import Vetting

NODES = 1_000
MEASURED = 20
MOST = 14 * 1_024
"""Bytes: 26 KiB are what a node may take, and its keys and its socket are not here."""


def test_a_node_among_a_thousand_takes_fourteen_kibibytes() -> None:
    """Its table full, its spares too, and every contact read from bytes of its own."""
    rng = random.Random(1)
    keys = NodeKeys.generate(rng.randbytes)
    plain = [plain_contact(rng.getrandbits(256)) for _ in range(NODES)]
    # Those of the other nodes, which hold them: a share of each counts for its own node.
    others = [shared(Contact.parse(one.serialize()[:-64] + rng.randbytes(64))[0]) for one in plain]
    vetting = Vetting(Admissions())
    gc.collect()
    tracemalloc.start()
    try:
        nodes = []
        for own in others[:MEASURED]:
            table = RoutingTable(own.id, Diversity(), NO_PROBATION)
            for number in rng.sample(range(NODES), NODES):
                table.answered(Contact.parse(others[number].serialize())[0], 1e9 + number)
            responder = Responder(keys, own, table, RecordStorage(rng.randbytes), rng.randbytes)
            nodes.append(Node(table, vetting.admit, rng.randbytes, responder))
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(node.table) for node in nodes) > 110 * MEASURED
    assert taken / MEASURED < MOST, taken / MEASURED
