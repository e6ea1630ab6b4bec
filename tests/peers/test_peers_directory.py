"""Directory nodes over real sockets: join, publish, find, restart; and what strangers send them."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from directory_live import LAB, LOCAL, RULES, Lab, Stranger, identity_of, run, until

sys.path.append(str(Path(__file__).parent.parent / "dht"))

from dht_records import DAY, EPOCH, NOW, sealed

from ptproxy.dht.beacon import Beacons, BeaconSigners, BeaconStatement, sign_value, value_of
from ptproxy.dht.contact import Address, Contact
from ptproxy.dht.datagrams import DATAGRAM, cut
from ptproxy.dht.messages import Find, Holding, Nodes, Ping, Pong, Seek, Store, serialize_request, tag_of
from ptproxy.dht.record import judge
from ptproxy.dht.rpc import Calls
from ptproxy.dht.sealing import SealedCall
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.storage import HAND_ON, Refusal
from ptproxy.errors import DhtError, StartError
from ptproxy.peers import directory, directory_driver
from ptproxy.peers.directory import DirectoryNode, DirectorySettings
from ptproxy.peers.directory_driver import NodeBusyError, Written
from ptproxy.peers.directory_network import DirectoryNetwork

RECORD = sealed()
DATA = RECORD.serialize()
PLACE = RECORD.header.locations()[0]


def verdict(data):
    return judge(data, PLACE, EPOCH)


def test_a_record_is_published_at_one_node_and_found_by_all() -> None:
    async def main():
        async with Lab(now=NOW) as lab:
            await lab.grow(30)
            written = await lab.nodes[7].driver.publish(PLACE, DATA)
            assert len(written.kept) == 20
            assert (written.refused, written.silent) == ({}, 0)
            for node in lab.nodes:
                lookup = await node.driver.look_up(PLACE, node.driver.private, verdict)
                assert lookup.record is not None
                assert lookup.record.record == DATA
            assert sum(len(node.storage) for node in lab.nodes) == 20
            assert len(lab.vetting) == 30  # each contact was looked at once for all
            again = await lab.nodes[9].driver.publish(PLACE, sealed(b"other").serialize())
            assert sum(again.refused.values()) >= 19
            assert set(again.refused) == {Refusal.STALE}

    run(main)


def test_nodes_that_are_gone_cost_time_and_no_record() -> None:
    async def main():
        async with Lab(now=NOW) as lab:
            await lab.grow(24)
            await lab.nodes[0].driver.publish(PLACE, DATA)
            for node in lab.nodes[12:]:
                await node.close()
            lookups = [node.driver.look_up(PLACE, RULES, verdict) for node in lab.nodes[:12]]
            for lookup in await asyncio.gather(*lookups):
                assert lookup.record is not None

    run(main)


def test_two_nodes_find_each_other_over_ipv6() -> None:
    async def main():
        async with Lab() as lab:
            both = DirectorySettings(listen=(("::1", 0),))
            first = await lab.add(settings=both)
            await lab.add(settings=both)
            await until(lambda: len(first.driver.node.table) == 1)
            only_v4 = await lab.add(settings=LOCAL, join=False)
            assert await only_v4.join([first.contact]) == 0

    run(main)


def test_a_node_that_was_alone_joins_as_soon_as_somebody_is_there() -> None:
    async def main():
        async with Lab() as lab:
            late = await lab.add()
            where = DirectorySettings(listen=(("127.0.0.1", late.contact.address.port),))
            contact = late.contact
            await late.close()
            other = await lab.add(join=False)
            assert await other.join([contact]) == 0
            await lab.add(number=0, settings=where, join=False)
            await other.upkeep()
            await until(lambda: len(other.driver.node.table) == 1)

    run(main)


def test_a_record_that_nobody_brings_again_is_handed_on() -> None:
    async def main():
        async with Lab(now=NOW) as lab:
            await lab.grow(3)
            await lab.nodes[0].driver.publish(PLACE, DATA)
            late = await lab.add()
            assert not len(late.storage)
            lab.ahead += 1.3 * HAND_ON
            await lab.nodes[1].upkeep()
            await until(lambda: len(late.storage))
            lab.ahead += DAY
            await late.upkeep()
            assert not len(late.storage)

    run(main)


# ---- what strangers send ----------------------------------------------------------------------------


async def still_answers(node: DirectoryNode, stranger: Stranger) -> None:
    """The node answers a good request, after whatever came before, and nothing came back for that."""
    calls = Calls(random.Random(9).randbytes)
    assert stranger.silent()
    stranger.send(calls.ask(node.contact, Find(None, 1), 0.0), node)
    answered = calls.receive_answer(await stranger.receive(), 0.0)
    assert isinstance(answered.answer, Nodes)


def garbage(node: DirectoryNode) -> list[bytes]:
    """Datagrams that are none, and messages in datagrams that are none."""
    rng = random.Random(1)
    good = serialize_request(bytes(16), Find(None, 5), 1_000)
    messages = [
        b"\0",
        good[:17],
        good[:30],
        good + b"\1",
        b"\1\x09" + good[2:],
        b"\3" + good[1:],
        b"\2" + rng.randbytes(900),
        b"\4" + bytes(1_000),
        b"\1\x82" + rng.randbytes(900),
        *(bytes((1, kind)) + rng.randbytes(1_000) for kind in range(6)),
        good.replace(bytes(16), bytes(15) + b"\1", 1)[:18] + b"\7" + bytes(900),
    ]
    datagrams = [b"", b"x", bytes(8), bytes(9), rng.randbytes(300), bytes(8) + b"\xff" * 20]
    datagrams += [bytes(DATAGRAM + 1), rng.randbytes(1_199), bytes(8) + b"\x31" + bytes(20)]
    return [*datagrams, *(datagram for message in messages for datagram in cut(message, rng.randbytes))]


def test_garbage_is_counted_and_not_answered() -> None:
    async def main():
        async with Lab() as lab:
            node = await lab.add()
            with Stranger() as stranger:
                sent = garbage(node)
                for datagram in sent:
                    stranger.send_datagram(datagram, node)
                await still_answers(node, stranger)
                assert node.status().ignored >= len(sent) - 3
                assert len(node.driver.node.table) == 0

    run(main)


def test_a_request_that_is_replayed_by_another_is_answered_to_it_and_worth_nothing() -> None:
    """Answers go where requests come from; a token that was given elsewhere opens nothing here."""

    async def main():
        async with Lab(now=NOW) as lab:
            node = await lab.add()
            with Stranger() as reader, Stranger() as thief:
                calls = Calls(reader.rng)
                request = calls.ask(node.contact, Seek(None, PLACE), 0.0)
                reader.send(request, node)
                first = await reader.receive()
                thief.send(request, node)
                await thief.receive()
                assert reader.silent()
                answer = calls.receive_answer(first, 0.0).answer
                assert isinstance(answer, Nodes)
                with pytest.raises(DhtError):  # the same answer once more belongs to nothing
                    calls.receive_answer(first, 0.0)
                for _ in range(2):  # a write that is replayed is the same record, once
                    reader.send(calls.ask(node.contact, Store(None, PLACE, answer.token, DATA), 0.0), node)
                    assert calls.receive_answer(await reader.receive(), 0.0).answer.refusal is None
                assert len(node.storage) == 1

    run(main)


def test_an_answer_that_is_not_signed_does_not_count() -> None:
    async def main():
        async with Lab() as lab:
            node = await lab.add()
            with Stranger() as liar:
                true = identity_of(99).contact(liar.address, 1)
                joining = asyncio.create_task(node.join([true]))
                request = await liar.receive()
                answer = unsigned(request)
                liar.send(answer, node)
                assert await joining == 0
                assert node.status().ignored >= 1

    run(main)


def unsigned(request: bytes) -> bytes:
    """NODES without a valid signature."""
    return bytes((1, 130)) + tag_of(request) + b"\0\0" + bytes(64)


def test_too_many_requests_of_one_address_are_not_answered() -> None:
    async def main():
        now = float(NOW)  # it stands still: a slow machine must not forgive anything
        async with Lab() as lab:
            settings = DirectorySettings(LOCAL.listen, requests=1.0)
            node = await lab.add(settings=settings, clock=lambda: now)
            with Stranger() as stranger:
                calls = Calls(stranger.rng)
                for _ in range(directory.REQUESTS_AT_ONCE):
                    stranger.send(calls.ask(node.contact, Ping(None), 0.0), node)
                    assert isinstance(calls.receive_answer(await stranger.receive(), 0.0).answer, Pong)
                stranger.send(calls.ask(node.contact, Ping(None), 0.0), node)
                await until(lambda: node.status().refused)
                assert stranger.silent()
                now += 10.0
                await still_answers(node, stranger)

    run(main)


def test_a_clock_that_is_a_day_off_keeps_no_record_and_says_why() -> None:
    async def main():
        async with Lab(now=NOW) as lab:
            await lab.grow(3)
            wrong = await lab.add(clock=lambda: lab.clock() + 2 * DAY)
            assert len(wrong.driver.node.table) == 3  # it still is one of them
            written = await lab.nodes[0].driver.publish(PLACE, DATA)
            assert (len(written.kept), written.refused) == (2, {Refusal.NOT_OPEN: 1})

    run(main)


def test_a_sealed_request_is_answered_sealed() -> None:
    async def main():
        async with Lab(now=NOW) as lab:
            await lab.grow(2)
            node = lab.nodes[0]
            await lab.nodes[1].driver.publish(PLACE, DATA)
            with Stranger() as guard:
                calls = Calls(guard.rng)
                request = calls.ask(node.contact, Seek(None, PLACE), 0.0)
                call = SealedCall(request, node.contact.seal_key, guard.rng)
                guard.send(call.sealed, node)
                answer = calls.receive_answer(call.open_answer(await guard.receive()), 0.0).answer
                assert isinstance(answer, Holding)
                assert answer.record == DATA

    run(main)


def test_nodes_at_addresses_of_somebodys_own_network_are_never_asked() -> None:
    async def main():
        network = DirectoryNetwork(LAB.id_work, LAB.record_work, probation=LAB.probation)
        async with Lab(network) as lab:
            node = await lab.add(join=False)
            with Stranger() as inside:
                contact = identity_of(50).contact(inside.address, 1)
                assert await node.join([contact]) == 0
                assert inside.silent()

    run(main)


def test_a_lookup_more_than_a_node_may_have_says_so() -> None:
    async def main():
        async with Lab() as lab:
            await lab.grow(2)
            with Stranger() as silent:
                driver = lab.nodes[0].driver
                driver.node.table.answered(identity_of(60).contact(silent.address, 1), lab.clock())
                lookups = [asyncio.create_task(driver.look_up(number)) for number in range(64)]
                await until(lambda: len(driver._searches) == 64)
                with pytest.raises(NodeBusyError):
                    await driver.look_up(1)
                await asyncio.gather(*lookups)

    run(main)


def test_who_waits_when_a_node_stops_is_given_what_there_is() -> None:
    async def main():
        async with Lab(now=NOW) as lab:
            await lab.grow(4)
            node = lab.nodes[0]
            for other in lab.nodes[1:]:
                await other.close()
            search = asyncio.create_task(node.driver.look_up(5))
            write = asyncio.create_task(node.driver.publish(PLACE, DATA))
            await until(lambda: len(node.driver._searches) == 2)
            await node.close()
            assert (await search).closest() == []
            assert (await write).kept == []
            with pytest.raises(NodeBusyError):
                await node.driver.look_up(5)
            with pytest.raises(NodeBusyError):
                await node.join([])

    run(main)


def test_a_port_that_is_taken_is_told() -> None:
    async def main():
        with Stranger() as taken:
            settings = DirectorySettings(listen=(("127.0.0.1", taken.address.port),))
            with pytest.raises(StartError, match="listen: cannot listen on "):
                await DirectoryNode.start(identity_of(1), LAB, settings)

    run(main)


# ---- the beacon -------------------------------------------------------------------------------------

SIGNERS = [SigningKey(bytes([number]) * 32) for number in range(1, 4)]
BEACON = DirectoryNetwork(
    LAB.id_work, LAB.record_work, LAB.probation,
    BeaconSigners(tuple(signer.public for signer in SIGNERS), 2), LAB.diversity, private_addresses=True,
)  # fmt: skip


def statement(epoch: int, public: bytes = b"public") -> bytes:
    value = value_of(epoch, public)
    said = {place: sign_value(signer, epoch, value) for place, signer in enumerate(SIGNERS[:2])}
    return BeaconStatement(epoch, value, said).serialize()


def test_a_beacon_passes_from_node_to_node_and_records_lie_where_it_says() -> None:
    async def main():
        async with Lab(BEACON, now=NOW) as lab:
            await lab.grow(4)
            place = RECORD.header.locations(value_of(EPOCH, b"public"))[0]
            early = await lab.nodes[0].driver.publish(place, DATA)
            assert early.refused == {Refusal.ELSEWHERE: 3}
            source = lab.nodes[2]
            assert isinstance(source.beacons, Beacons)
            source.beacons.learn(statement(EPOCH), NOW)
            for node in lab.nodes:
                await node.upkeep()
            await until(lambda: all(node.beacons.value(EPOCH) for node in lab.nodes))
            written = await lab.nodes[0].driver.publish(place, DATA)
            assert len(written.kept) == 3
            with Stranger() as stranger:
                assert lab.nodes[0].beacons.value(EPOCH + 1) is None
                stranger.send(b"\5" + statement(EPOCH + 1), lab.nodes[0])
                await still_answers(lab.nodes[0], stranger)
                assert lab.nodes[0].beacons.value(EPOCH + 1) is None

    run(main)


def test_two_values_of_the_beacon_are_something_for_a_person_to_look_at(monkeypatch) -> None:
    log = Mock()
    monkeypatch.setattr(directory, "log", log)

    async def main():
        async with Lab(BEACON, now=(EPOCH + 1) * DAY - 3_600) as lab:
            node = await lab.add()
            assert node.beacons is not None
            node.beacons.learn(statement(EPOCH), lab.clock())
            with Stranger() as stranger:
                asked = stranger.address
                monkeypatch.setattr(node._gossip, "_asked", {asked})
                for _ in range(2):
                    stranger.send(b"\5" + statement(EPOCH, b"other"), node)
                await until(lambda: node.status().ignored == 2)
            assert node.beacons.value(EPOCH) == value_of(EPOCH, b"public")
            log.error.assert_called_once()

    run(main)


def test_what_a_node_is_reached_by_is_what_it_was_told() -> None:
    async def main():
        address = Address(bytes((192, 0, 2, 1)), 4_646)
        settings = DirectorySettings(LOCAL.listen, address)
        node = await DirectoryNode.start(identity_of(1), LAB, settings)
        try:
            assert node.contact.address == address
            assert isinstance(node.contact, Contact)
            node.contact.verify()
        finally:
            await node.close()
            await node.close()

    run(main)


def test_one_record_written_twice_at_a_time_ends_twice() -> None:
    async def main():
        async with Lab(now=NOW) as lab:
            await lab.grow(4)
            driver = lab.nodes[0].driver
            both = await asyncio.gather(driver.publish(PLACE, DATA), driver.publish(PLACE, DATA))
            assert all(len(written.kept) + written.silent + sum(written.refused.values()) for written in both)
            assert not driver._writes

    run(main)


def test_two_writes_to_silent_nodes_both_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main():
        async with Lab(now=NOW) as lab:
            await lab.grow(4)
            driver = lab.nodes[0].driver
            monkeypatch.setattr(directory_driver, "WRITE_WAIT", 0.05)
            found = await driver.look_up(PLACE, driver.private)
            for other in lab.nodes[1:]:
                await other.close()
            done: list[Written] = []
            driver.write(found, DATA, done.append)
            driver.write(found, DATA, done.append)
            await until(lambda: len(done) == 2)
            assert [written.silent for written in done] == [len(found.closest())] * 2
            assert not driver._writes

    run(main)


def test_upkeep_that_fails_is_told_at_once_and_tried_again(monkeypatch) -> None:
    log = Mock()
    monkeypatch.setattr(directory, "log", log)
    monkeypatch.setattr(directory, "LOOK", 0.01)

    async def main():
        async with Lab(now=NOW) as lab:
            node = await lab.add()
            looks = []

            def expire(now):
                looks.append(now)
                if len(looks) == 1:
                    raise RuntimeError("a fault")

            monkeypatch.setattr(type(node.storage), "expire", lambda _, now: expire(now))
            await until(lambda: len(looks) >= 3)
            log.error.assert_called_once()

    run(main)
