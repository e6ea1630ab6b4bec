"""Records through bridges and guards: sealed letters, real nodes on loopback, streams in memory."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
from collections import Counter

import pytest
from find_live import CHEAP, DAY, NOON, SIGNER, kept, scene
from peers_live import PipeDialer, run, until

from ptproxy.dht import epoch as epochs
from ptproxy.dht.datagrams import cut
from ptproxy.dht.record_secret import RecordSecret, RecordType
from ptproxy.dht.sealing import SEALED
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.work import WorkTarget
from ptproxy.errors import DialError, Reason
from ptproxy.peers import find_guard
from ptproxy.peers.find_directory import DirectoryUnreachable
from ptproxy.peers.find_frames import Letter, NetworkFrame
from ptproxy.peers.find_guard import GuardService
from ptproxy.peers.find_network import KnownNetwork
from ptproxy.peers.find_relay import STREAMS_OF_ONE
from ptproxy.peers.find_way import SERVICE
from ptproxy.target import Target

SECRET = RecordSecret(random.Random(1).randbytes(32))
ISSUER = SigningKey(random.Random(2).randbytes(32))
KIND = RecordType.BRIDGE_BUCKET


def record(clock, content=b"said", sequence=0, secret=SECRET, issuer=ISSUER):
    keys = secret.keys(KIND, epochs.epoch_of(clock()))
    nonce = keys.find_work(CHEAP, 0, 10_000)
    return keys.seal(content, sequence, issuer, nonce, random.Random(sequence).randbytes)


@contextlib.asynccontextmanager
async def one_bridge(folder, count=24):
    async with scene(folder, count) as cast:
        guards = [await cast.guard("one"), await cast.guard("two")]
        bridge = await cast.bridge("bridge", *guards)
        yield cast, bridge


def test_what_is_written_is_read(tmp_path):
    async def main():
        async with one_bridge(tmp_path) as (cast, bridge):
            directory = cast.client(bridge)
            assert await directory.read(SECRET, KIND, ISSUER.public) is None
            written = await kept(directory, record(cast.directory.clock))
            assert not written.is_stale
            other = cast.client(bridge, name="other")
            found = await other.read(SECRET, KIND, ISSUER.public)
            assert found.content == b"said"
            await directory.close()
            await other.close()

    run(main)


def test_nodes_see_guards_and_nobody_else(tmp_path):
    """What arrives at nodes comes from two sockets, and is sealed: also what is asked is for them alone."""

    async def main():
        async with one_bridge(tmp_path) as (cast, bridge):
            directory = cast.client(bridge)
            await kept(directory, record(cast.directory.clock))
            sources = {source for node in cast.directory.nodes for source in node.sources}
            nodes = {("127.0.0.1", node.contact.address.port) for node in cast.directory.nodes}
            assert len(sources - nodes) == 2
            assert [len(guard._streams) for guard, _ in cast.running[:2]] == [1, 1]
            for node in cast.directory.nodes:
                assert all(message[0] == SEALED for message in node.received)
            await directory.close()

    run(main)


def test_paths_are_spread_over_all_bridges(tmp_path):
    async def main():
        async with scene(tmp_path) as cast:
            guards = [await cast.guard(str(number)) for number in range(4)]
            bridges = [await cast.bridge("a", *guards[:2]), await cast.bridge("b", *guards[2:])]
            directory = cast.client(*bridges)
            await kept(directory, record(cast.directory.clock))
            nodes = {("127.0.0.1", node.contact.address.port) for node in cast.directory.nodes}
            sources = Counter(
                source for node in cast.directory.nodes for source in node.sources if source not in nodes
            )
            assert len(sources) == 4
            assert min(sources.values()) > sum(sources.values()) / 10
            await directory.close()

    run(main)


def test_a_dead_guard_is_left_out(tmp_path):
    async def main():
        async with scene(tmp_path) as cast:
            guard, dead = await cast.guard("one"), await cast.guard("two")
            bridge = await cast.bridge("bridge", dead, guard)
            directory = cast.client(bridge)
            dead.end_streams()
            await kept(directory, record(cast.directory.clock))
            guard.end_streams()
            with pytest.raises(DirectoryUnreachable):
                await directory.read(SECRET, KIND, ISSUER.public)
            await directory.close()

    run(main)


def test_a_guard_that_dies_in_between_is_replaced(tmp_path):
    async def main():
        async with scene(tmp_path) as cast:
            first, second = await cast.guard("one"), await cast.guard("two")
            bridge = await cast.bridge("bridge", first, second)
            directory = cast.client(bridge)
            await kept(directory, record(cast.directory.clock))
            first.end_streams()
            assert (await directory.read(SECRET, KIND, ISSUER.public)).content == b"said"
            await kept(directory, record(cast.directory.clock, sequence=1))
            await directory.close()

    run(main)


def test_half_of_the_nodes_are_silent(tmp_path):
    async def main():
        async with one_bridge(tmp_path) as (cast, bridge):
            directory = cast.client(bridge)
            await directory.reach()
            for node in cast.directory.nodes[::2]:
                node.alive = False
            written = await directory.write(record(cast.directory.clock))
            assert sum(written.kept.values()) > 20
            assert (await directory.read(SECRET, KIND, ISSUER.public)).content == b"said"
            await directory.close()

    run(main)


def test_a_second_writer_hears_that_it_is_late(tmp_path):
    async def main():
        async with one_bridge(tmp_path) as (cast, bridge):
            directory = cast.client(bridge)
            clock = cast.directory.clock
            await kept(directory, record(clock, sequence=5))
            late = record(clock, b"older", sequence=4)
            written = await directory.write(late)
            assert written.is_stale
            assert not written.is_published
            assert await directory.held(late) == 5
            await directory.close()

    run(main)


def test_a_network_of_another_key_is_not_used(tmp_path):
    """The first key that was seen stays: another guard cannot lead to nodes of its own."""

    async def main():
        async with scene(tmp_path) as cast:
            stranger = SigningKey(bytes(32))
            good = await cast.guard("good")
            text = cast.directory.signed_list(signer=stranger)
            bad = await cast.guard("bad", text, signer=stranger)
            bridge, false = await cast.bridge("bridge", good), await cast.bridge("false", bad)
            network = KnownNetwork()
            directory = cast.client(bridge, network=network)
            await directory.reach()
            assert network.key == SIGNER.public
            await directory.close()
            again = cast.client(false, network=KnownNetwork.from_dict(network.to_dict()))
            with pytest.raises(DirectoryUnreachable):
                await again.reach()
            await again.close()
            both = cast.client(false, bridge, network=KnownNetwork.from_dict(network.to_dict()))
            await kept(both, record(cast.directory.clock))
            await both.close()

    run(main)


def test_a_network_that_was_begun_anew_is_taken_when_the_old_list_is_over(tmp_path):
    """Who signed the lists has lost the key: clients are not stuck for ever, unless a person gave them it."""

    async def main():
        async with scene(tmp_path, 8) as cast:
            clock, new = cast.directory.clock, SigningKey(bytes(32))
            old_text = cast.directory.signed_list()
            text = cast.directory.signed_list(signer=new, expires=int(clock()) + 90 * DAY)
            bridge = await cast.bridge("bridge", await cast.guard("guard", text, signer=new))
            for pinned in (b"", SIGNER.public):
                network = KnownNetwork(pinned=pinned)
                network.offer(SIGNER.public, old_text, clock())
                directory = cast.client(bridge, network=network)
                with pytest.raises(DirectoryUnreachable):
                    await directory.reach()
                assert network.key == SIGNER.public
                await directory.close()
                late = clock() + 31 * DAY
                directory = cast.client(bridge, network=network, name="late", clock=lambda late=late: late)
                with pytest.raises(DirectoryUnreachable):
                    await directory.reach()
                if not pinned:
                    await directory.reach()
                assert network.key == (SIGNER.public if pinned else new.public)
                await directory.close()

    run(main)


def test_who_gives_up_while_ways_open_leaves_no_stream(tmp_path):
    """The first way is there, the second guard is slow, and the caller is gone before anything was asked."""

    async def main():
        async with one_bridge(tmp_path, 4) as (cast, bridge):
            directory = cast.client(bridge)
            guards = [service for service, _ in cast.running if isinstance(service, GuardService)]
            open_some, there = directory._open_some, asyncio.Event()

            async def slow(opening):
                await asyncio.wait(opening)
                there.set()
                await asyncio.Event().wait()
                return await open_some(opening)

            directory._open_some = slow
            asking = asyncio.ensure_future(directory.reach())
            await there.wait()
            assert sum(len(list(guard._streams)) for guard in guards) == 2
            asking.cancel()
            await asyncio.wait({asking})
            await until(lambda: not any(list(guard._streams) for guard in guards))
            await directory.close()

    run(main)


@pytest.mark.parametrize(("number", "ends"), [(errno.EMFILE, True), (errno.EAFNOSUPPORT, False)])
def test_a_guard_without_a_socket_ends_the_stream(tmp_path, monkeypatch, number, ends):
    """So that its client asks by another way; an address family that the machine has not is only lost."""

    async def main():
        async with one_bridge(tmp_path, 4) as (cast, bridge):
            loop, tried = asyncio.get_running_loop(), []

            async def refused(*_):
                tried.append(number)
                raise OSError(number, "no socket")

            monkeypatch.setattr(loop, "create_datagram_endpoint", refused)
            letter = Letter(cast.directory.nodes[0].contact.address, b"\x02" + bytes(300))
            stream = await PipeDialer("c", bridge).dial(
                Target.service(SERVICE), asyncio.Protocol(), letter.serialize()
            )
            await until(lambda: tried)
            for _ in range(20):
                await asyncio.sleep(0)
            if ends:
                await until(lambda: stream.lost)
            assert stream.lost is ends
            stream.abort()

    run(main)


def test_a_newer_list_is_taken_and_an_older_one_is_not(tmp_path):
    async def main():
        async with scene(tmp_path) as cast:
            newer = await cast.guard("newer", cast.directory.signed_list(sequence=9, nodes=5))
            older = await cast.guard("older", cast.directory.signed_list(sequence=8, nodes=2))
            network = KnownNetwork()
            directory = cast.client(await cast.bridge("bridge", newer, older), network=network)
            await directory.reach()
            assert network.first.sequence == 9
            await directory.close()

    run(main)


def test_a_guard_sends_to_public_addresses_only(tmp_path):
    async def main():
        async with scene(tmp_path) as cast:
            bridge = await cast.bridge("bridge", await cast.guard("guard", allow=()))
            now = asyncio.get_running_loop().time
            directory = cast.client(bridge, clock=lambda: NOON + now())
            with pytest.raises(DirectoryUnreachable):
                await directory.reach()
            assert not any(node.sources for node in cast.directory.nodes)
            await directory.close()

    run(main)


def test_nobody_else_can_speak_as_a_node(tmp_path):
    """Datagrams to a guard's socket from addresses that were not asked do not pass."""

    async def main():
        async with one_bridge(tmp_path) as (cast, bridge):
            directory = cast.client(bridge)
            await directory.reach()
            node = cast.directory.nodes[0]
            guard = next(source for source in node.sources)
            received = []
            directory._received = lambda way, letter: received.append(letter)
            for way in directory._ways:
                way._receive = directory._received
            stranger, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                asyncio.DatagramProtocol, ("127.0.0.1", 0)
            )
            said = bytes((SEALED,)) + bytes(200)
            for datagram in cut(said, bytes):
                stranger.sendto(datagram, guard)
            for datagram in cut(said, bytes):
                node.transport.sendto(datagram, guard)
            await until(lambda: received)
            assert {letter.address for letter in received} == {node.contact.address}
            stranger.close()
            await directory.close()

    run(main)


@pytest.mark.parametrize("work", [{"id_work": WorkTarget(1, 4_096)}, {"record_work": WorkTarget(19, 8)}])
def test_a_list_that_asks_for_endless_work_is_not_used(tmp_path, work):
    """Whoever hands out the first list would else say how long our event loop stands still."""

    async def main():
        async with scene(tmp_path, 4) as cast:
            guard = await cast.guard("greedy", cast.directory.signed_list(**work))
            directory = cast.client(await cast.bridge("bridge", guard))
            with pytest.raises(DirectoryUnreachable):
                await directory.reach()
            await directory.close()

    run(main)


def test_a_stream_without_letters_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(find_guard, "IDLE", 0.2)

    async def main():
        async with one_bridge(tmp_path, 4) as (cast, bridge):
            directory = cast.client(bridge)
            await directory.reach()
            await until(lambda: not any(way.is_open for way in directory._ways))
            await kept(directory, record(cast.directory.clock))
            await directory.close()

    run(main)


def test_one_client_does_not_take_all_places(tmp_path):
    async def main():
        async with one_bridge(tmp_path, 4) as (cast, bridge):
            greedy = [PipeDialer("greedy", bridge) for _ in range(STREAMS_OF_ONE + 2)]
            told = []
            for dialer in greedy:
                try:
                    await dialer.dial(Target.service(SERVICE), asyncio.Protocol())
                except DialError as error:
                    told.append(error.reason)
            assert told == [Reason.LIMIT] * 2
            directory = cast.client(bridge)
            await directory.reach()
            await directory.close()
            for dialer in greedy:
                dialer.sever()

    run(main)


def test_a_guard_ends_a_stream_that_breaks_its_protocol(tmp_path):
    async def main():
        async with one_bridge(tmp_path, 4) as (cast, bridge):
            for said in (b"\x09\x00\x00", NetworkFrame(bytes(32), "x").serialize()):
                dialer = PipeDialer("hostile", bridge)
                stream = await dialer.dial(Target.service(SERVICE), asyncio.Protocol(), said)
                await until(lambda stream=stream: stream.lost)
            unsealed = Letter(cast.directory.nodes[0].contact.address, b"\x01" + bytes(200))
            stream = await dialer.dial(Target.service(SERVICE), asyncio.Protocol(), unsealed.serialize())
            await until(lambda: stream.lost)
            assert not cast.directory.nodes[0].received

    run(main)


def test_letters_are_counted_for_each_bridge(tmp_path, monkeypatch):
    monkeypatch.setattr(find_guard, "LETTERS_AT_ONCE", 3)
    monkeypatch.setattr(find_guard, "LETTERS_PER_SECOND", 0.0)

    async def main():
        async with scene(tmp_path, 1) as cast:
            guard = await cast.guard("guard")
            node = cast.directory.nodes[0]
            letter = Letter(node.contact.address, bytes((SEALED,)) + bytes(200)).serialize()
            for number in range(2):
                bridge = await cast.bridge(f"bridge{number}", guard)
                dialer = PipeDialer("client", bridge)
                await dialer.dial(Target.service(SERVICE), asyncio.Protocol(), letter * 10)
            await until(lambda: len(node.received) == 6)
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(node.received) == 6
            for service, _ in cast.running:
                service.end_streams()

    run(main)
