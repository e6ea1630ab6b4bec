"""A network with a beacon: guards ask for its value and say it, clients and publishers follow it."""

from __future__ import annotations

import contextlib
import dataclasses
import random

import pytest
from directory_live import CHEAP, LAB, Lab
from find_live import DAY, NOON, Cast, kept
from hypothesis import given
from hypothesis import strategies as st
from peers_live import run, until

from ptproxy.dht.beacon import (
    BeaconConflictError,
    BeaconError,
    BeaconSigners,
    BeaconStatement,
    sign_value,
    value_of,
)
from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.epoch import epoch_of
from ptproxy.dht.first_nodes import FirstNodes
from ptproxy.dht.record_secret import RecordSecret, RecordType
from ptproxy.dht.signing import SigningKey
from ptproxy.errors import DhtError, StateError
from ptproxy.peers import find_guard_beacon
from ptproxy.peers.directory_network import read_beacon, write_beacon, write_first_nodes
from ptproxy.peers.find_directory import DirectoryUnreachable
from ptproxy.peers.find_frames import BeaconFrame, FindFrameError, FrameReader, Letter, NetworkFrame
from ptproxy.peers.find_network import KnownNetwork

RNG = random.Random(31).randbytes
SIGNERS = [SigningKey(RNG(32)) for _ in range(3)]
TWO_OF_THREE = BeaconSigners(tuple(signer.public for signer in SIGNERS), 2)
LISTS = SigningKey(bytes(range(32)))
TODAY = epoch_of(NOON)
ISSUER = SigningKey(RNG(32))


def statement(epoch=TODAY, public=b"a round", places=(0, 2)):
    value = value_of(epoch, public)
    return BeaconStatement(
        epoch, value, {place: sign_value(SIGNERS[place], epoch, value) for place in places}
    )


def listed(sequence=1, signers=TWO_OF_THREE, contacts=None, now=NOON):
    """A signed list; without ``contacts`` of a node that nobody asks."""
    if contacts is None:
        key = SigningKey(bytes(32))
        contacts = (Contact.make(key, 5, RNG(32), bytes(16), 1, Address(b"\x0b\0\0\1", 4_646)),)
    now = int(now)
    first = FirstNodes(sequence, now, now + 30 * DAY, now, CHEAP, CHEAP, signers, contacts)
    return write_first_nodes(first.sign(LISTS))


# ---- parts ------------------------------------------------------------------------------------------


@given(st.binary(max_size=2_118), st.lists(st.integers(1, 4_000)))
def test_beacons_stand_between_other_frames_however_they_are_cut(said, cuts):
    frames = [BeaconFrame(said), NetworkFrame(bytes(32), "x"), BeaconFrame(said)]
    data, reader, found = b"".join(frame.serialize() for frame in frames), FrameReader(), []
    for cut in cuts:
        found += reader.receive_data(data[:cut])
        data = data[cut:]
    assert found + reader.receive_data(data) == frames


def test_a_beacon_that_is_longer_than_any_can_be_is_refused():
    FrameReader().receive_data(b"\x03" + (2_118).to_bytes(2, "big"))
    with pytest.raises(FindFrameError):
        FrameReader().receive_data(b"\x03" + (2_119).to_bytes(2, "big"))


@given(st.binary(max_size=200))
def test_texts_of_beacons(data):
    made = statement()
    assert read_beacon(f"  {write_beacon(made)}\n") == made
    with pytest.raises(DhtError):
        read_beacon("ptproxy-beacon:" + data.hex())


def known_network():
    network = KnownNetwork()
    network.offer(LISTS.public, listed(), NOON)
    return network


def test_a_network_takes_what_enough_signers_say():
    network = known_network()
    assert network.beacon(TODAY, NOON) is None
    with pytest.raises(BeaconError, match="too few"):
        network.learn(statement(places=(1,)).serialize(), NOON)
    network.learn(statement().serialize(), NOON)
    assert network.beacon(TODAY, NOON) == value_of(TODAY, b"a round")
    assert network.beacon(TODAY + 1, NOON) is None
    with pytest.raises(BeaconConflictError):
        network.learn(statement(public=b"another").serialize(), NOON)
    with pytest.raises(BeaconError, match="over"):
        network.learn(statement(TODAY + 2).serialize(), NOON)


def test_what_is_known_of_the_beacon_survives_a_restart_and_a_newer_list():
    network = known_network()
    network.learn(statement().serialize(), NOON)
    again = KnownNetwork.from_dict(network.to_dict())
    assert again.beacon(TODAY, NOON) == value_of(TODAY, b"a round")
    assert again.offer(LISTS.public, listed(2), NOON)
    assert again.beacon(TODAY, NOON) == value_of(TODAY, b"a round")
    others = BeaconSigners(TWO_OF_THREE.keys, 3)
    assert again.offer(LISTS.public, listed(3, others), NOON)
    assert again.beacon(TODAY, NOON) is None, "two signers are not enough for the new list"


def test_a_network_without_a_beacon_takes_none():
    network = KnownNetwork()
    network.offer(LISTS.public, listed(signers=None), NOON)
    with pytest.raises(BeaconError):
        network.learn(statement().serialize(), NOON)
    assert network.beacon(TODAY, NOON) == bytes(32)


@pytest.mark.parametrize("beacons", [5, "zz", ["zz"], [5], None, {"a": 1}])
def test_damaged_memory_of_beacons(beacons):
    data = known_network().to_dict() | {"beacons": beacons}
    with contextlib.suppress(StateError):
        assert KnownNetwork.from_dict(data).beacon(TODAY, NOON) is None


# ---- on sockets -------------------------------------------------------------------------------------


class LabDirectory:
    """A lab's nodes as a :class:`Cast` knows them."""

    def __init__(self, lab) -> None:
        self.lab = lab
        self.clock = lab.clock

    def signed_list(self):
        return listed(contacts=tuple(node.contact for node in self.lab.nodes[:3]), now=self.clock())


@contextlib.asynccontextmanager
async def scene(folder, monkeypatch, count=6):
    """Nodes that agree on a beacon, of which only the first few know it, if any."""
    monkeypatch.setattr(find_guard_beacon, "AGAIN", (0.05, 0.05))
    monkeypatch.setattr(find_guard_beacon, "AHEAD", 0.05)
    monkeypatch.setattr(find_guard_beacon, "LOOK", 0.05)
    async with Lab(dataclasses.replace(LAB, signers=TWO_OF_THREE), now=NOON) as lab:
        await lab.grow(count)
        cast = Cast(folder, LabDirectory(lab))
        try:
            yield lab, cast
        finally:
            await cast.stop()


def tell(lab, said, nodes=None):
    for node in lab.nodes[:nodes]:
        node.beacons.learn(said.serialize(), lab.clock())


def record_of(secret, epoch, beaten=b"bridges"):
    keys = secret.keys(RecordType.BRIDGE_BUCKET, epoch)
    return keys.seal(beaten, 1, ISSUER, keys.find_work(CHEAP, 0, 10_000), RNG)


async def read_until_found(directory, secret):
    """Once more, where a busy machine has left nodes too late; None only if it stays so."""
    for _ in range(8):
        found = await directory.read(secret, RecordType.BRIDGE_BUCKET, ISSUER.public)
        if found is not None:
            return found.content
    return None


def test_a_record_lies_where_the_beacon_says(tmp_path, monkeypatch):
    async def main():
        async with scene(tmp_path, monkeypatch) as (lab, cast):
            today = epoch_of(lab.clock())
            tell(lab, statement(today))
            guard = await cast.guard("guard")
            client = cast.client(await cast.bridge("bridge", guard))
            secret = RecordSecret(RNG(32))
            record = record_of(secret, today)
            await until(lambda: guard._beacon.statements())
            await kept(client, record)
            assert await read_until_found(client, secret) == b"bridges"
            beacon, now = value_of(today, b"a round"), lab.clock()

            def holders(places):
                return [node for node in lab.nodes for place in places if node.storage.read(place, now)]

            assert holders(record.header.locations(beacon))
            assert not holders(record.header.locations())
            reader = cast.client(await cast.bridge("other", guard), name="reader")
            assert await read_until_found(reader, secret) == b"bridges"
            await client.close()
            await reader.close()

    run(main)


def test_without_the_beacon_nothing_is_looked_for_and_it_may_come_later(tmp_path, monkeypatch):
    async def main():
        async with scene(tmp_path, monkeypatch) as (lab, cast):
            guard = await cast.guard("guard")
            client = cast.client(await cast.bridge("bridge", guard))
            secret, today = RecordSecret(RNG(32)), epoch_of(lab.clock())
            with pytest.raises(DirectoryUnreachable, match="beacon"):
                await client.read(secret, RecordType.BRIDGE_BUCKET, ISSUER.public)
            with pytest.raises(DirectoryUnreachable, match="beacon"):
                await client.write(record_of(secret, today))
            ways = list(client._ways)
            assert all(way.is_open for way in ways)
            tell(lab, statement(today))
            await until(lambda: all(way.beacons for way in ways))  # on the streams that there are
            await kept(client, record_of(secret, today))
            assert await read_until_found(client, secret) == b"bridges"
            await client.close()

    run(main)


def test_a_guard_keeps_what_it_knows(tmp_path, monkeypatch):
    async def main():
        async with scene(tmp_path, monkeypatch, 2) as (lab, cast):
            today = epoch_of(lab.clock())
            tell(lab, statement(today))
            guard = await cast.guard("guard")
            await until(lambda: guard._beacon.statements())
            await cast.stop()
            cast.running.clear()
            for node in lab.nodes:
                await node.close()
            lab.nodes.clear()
            text = (tmp_path / "guard.nodes").read_text()
            again = await cast.guard("guard", text)
            assert again._beacon.statements() == [statement(today).serialize()]

    run(main)


def test_a_client_believes_signers_and_no_guard(tmp_path):
    """Statements of others, of too few, of another day, and far too many of them."""

    async def main():
        async with Lab(dataclasses.replace(LAB, signers=TWO_OF_THREE), now=NOON) as lab:
            await lab.grow(1)
            cast = Cast(tmp_path, LabDirectory(lab))
            guard = await cast.guard("guard")
            today = epoch_of(lab.clock())
            good = statement(today)
            wrong = dataclasses.replace(good, value=bytes(32))
            early = statement(today + 9)
            few = statement(today, places=(1,))
            hostile = [each.serialize() for each in (wrong, early, few)] + [b"", b"\xff" * 90] * 10
            monkey = b"".join(BeaconFrame(each).serialize() for each in hostile)
            guard._greeting = monkey + guard._greeting
            client = cast.client(await cast.bridge("bridge", guard))
            with pytest.raises(DirectoryUnreachable, match="beacon"):
                await client.read(RecordSecret(RNG(32)), RecordType.BRIDGE_BUCKET, ISSUER.public)
            assert client.network.statements == ()
            await client.close()
            await cast.stop()

    run(main)


def test_a_guard_takes_beacons_from_nodes_that_it_asked(tmp_path):
    async def main():
        async with Lab(dataclasses.replace(LAB, signers=TWO_OF_THREE), now=NOON) as lab:
            await lab.grow(2)
            cast = Cast(tmp_path, LabDirectory(lab))
            guard = await cast.guard("guard")
            watch, said = guard._beacon, b"\x05" + statement(epoch_of(lab.clock())).serialize()
            stranger = dataclasses.replace(lab.nodes[0].contact.address, port=9)
            watch._answered(Letter(stranger, said))
            assert watch.statements() == []
            await until(lambda: watch._gossip._asked)
            watch._answered(Letter(lab.nodes[0].contact.address, said))
            assert len(watch.statements()) == 1
            await cast.stop()

    run(main)
