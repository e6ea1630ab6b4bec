"""What a whole crawl together with a fifth of the nodes learns: over sockets, through bridges and guards.

The nodes are real, and so are the lookups and the publishing; a fifth of the nodes is hostile: they
keep every byte that reaches them, open what is sealed for them, and know where it came from. A crawler
adds every contact and every record of the directory.
"""

from __future__ import annotations

import random

import peers_live
import pytest
from find_live import DAY, NOON, publish_all, scene
from peers_live import run

from ptproxy.config.link import Link
from ptproxy.dht import epoch as epochs
from ptproxy.dht.bridge_record import BridgeBucket
from ptproxy.dht.record import RecordError
from ptproxy.dht.record_secret import RecordType
from ptproxy.dht.sealing import SEALED, SealedRequest
from ptproxy.errors import DhtError
from ptproxy.peers.find_operator import OperatorFolder
from ptproxy.peers.find_publisher import Publisher

KIND = RecordType.BRIDGE_BUCKET
NODES, BUCKETS, EACH = 15, 3, 2


def bridge(number):
    rng = random.Random(f"bridge {number}")
    host = f"11.0.{number // 250}.{number % 250 + 1}"
    return Link(rng.randbytes(32), host, 443, f"/secret/{number}", host, ("http",), token=rng.randbytes(16))


def bucket(number, generation=0):
    return tuple(bridge(100 * generation + 10 * number + place) for place in range(3))


class Adversary:
    """Everything that hostile nodes got, opened, and what a crawler finds besides."""

    def __init__(self, directory) -> None:
        self.hostile = directory.nodes[::5]
        self.directory = directory
        self.records: set[bytes] = set()

    def crawl(self) -> None:
        self.records |= self.directory.records()

    def bytes(self) -> bytes:
        known = [node.contact.serialize() for node in self.directory.nodes]
        for node in self.hostile:
            for message in node.received:
                known.append(message)
                if message[0] == SEALED:
                    try:
                        known.append(SealedRequest(message, node.keys.sealing).request)
                    except DhtError:
                        continue
        return b"".join((*known, *self.records))

    def bridges(self, invites, days=3):
        """The bridges that these invites show, now and in every record that was seen."""
        found = {link for invite in invites for link in invite.bridges}
        today = epochs.epoch_of(NOON)
        for invite in invites:
            for epoch in range(today - 1, today + days):
                keys = invite.secret.keys(KIND, epoch)
                for data in self.records:
                    try:
                        found |= set(BridgeBucket.parse(keys.open(data, invite.issuer).content).bridges)
                    except RecordError:
                        continue
        return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A day: published, looked up, three invites leaked, two of them revoked and their buckets rotated."""
    folder = tmp_path_factory.mktemp("enumeration")
    found = {}

    async def main():
        async with scene(folder, NODES) as cast:
            guards = [await cast.guard("one"), await cast.guard("two")]
            relay = await cast.bridge("bridge", *guards)
            operator = OperatorFolder.create(folder / "operator", (bridge(0),), random.Random(1).randbytes)
            invites = {}

            def begin(operated):
                rng = random.Random(2).randbytes
                for number in range(BUCKETS):
                    operated.listed.put(str(number), bucket(number))
                    invites[number] = [
                        operated.listed.issue(str(number), int(NOON + 30 * DAY), rng) for _ in range(EACH)
                    ]

            operator.change(begin)
            directory = cast.client(relay)
            adversary = Adversary(cast.directory)
            publisher = Publisher(
                OperatorFolder(operator.path), directory, random.Random(3).randbytes, cast.directory.clock
            )
            await publish_all(publisher)
            for each in invites.values():
                assert (await directory.read(each[0].secret, KIND, each[0].issuer)) is not None
            adversary.crawl()

            def punish(operated):
                for number in (0, 1):
                    operated.listed.revoke(invites[number][0].id, cast.directory.clock())
                    operated.listed.put(str(number), bucket(number, 1))
                    operated.hurry.append(str(number))

            operator.change(punish)
            await publish_all(publisher)
            adversary.crawl()
            for _ in range(2):
                cast.directory.clock.offset += 6.1 * 3_600
                await publish_all(publisher)
                adversary.crawl()
            content = await directory.read(invites[0][1].secret, KIND, ISSUER := invites[0][1].issuer)
            found.update(
                adversary=adversary, invites=invites, said=adversary.bytes(), issuer=ISSUER,
                others=BridgeBucket.parse(content.content).bridges,
            )  # fmt: skip
            await directory.close()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(peers_live, "PATIENCE", 120.0)  # a whole day is a lot of records
        run(main)
    return found


def test_there_was_something_to_see(seen):
    adversary = seen["adversary"]
    assert len(adversary.hostile) == NODES / 5
    assert sum(len(node.received) for node in adversary.hostile) > 100
    assert len(adversary.records) >= BUCKETS * EACH * 2
    opened = [message for node in adversary.hostile for message in node.received if message[0] == SEALED]
    assert opened


def test_a_crawl_and_a_fifth_of_the_nodes_learn_no_bridge(seen):
    for generation in (0, 1):
        for number in range(BUCKETS):
            for link in bucket(number, generation):
                for part in (link.key, link.token, link.host.encode(), link.path.encode()):
                    assert part not in seen["said"]
    assert seen["issuer"] not in seen["said"]
    assert seen["adversary"].bridges([]) == set()


def test_leaked_invites_show_their_bucket_and_no_other(seen):
    leaked = [seen["invites"][number][1] for number in range(2)]
    for count in (1, 2):
        exposed = seen["adversary"].bridges(leaked[:count])
        now = {link for number in range(count) for link in bucket(number, 1)}
        before = {link for number in range(count) for link in bucket(number)}
        assert exposed == now | before
        assert len(exposed - before) <= 3 * count


def test_after_revocation_and_rotation_they_show_nothing_new(seen):
    revoked = [seen["invites"][number][0] for number in (0, 1)]
    exposed = seen["adversary"].bridges(revoked)
    assert exposed == {link for number in (0, 1) for link in bucket(number)}
    assert seen["others"] == bucket(0, 1)


def test_who_asks_is_a_guard_and_nobody_else(seen):
    nodes = {("127.0.0.1", node.contact.address.port) for node in seen["adversary"].directory.nodes}
    sources = {source for node in seen["adversary"].hostile for source in node.sources} - nodes
    assert len(sources) == 2
