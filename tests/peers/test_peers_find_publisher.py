"""An operator's folder, published and read: rotated, revoked, hurried, killed in between."""

from __future__ import annotations

import contextlib
import random

import pytest
from find_live import DAY, NOON, publish_all, scene
from peers_live import run

from ptproxy.config.link import Link
from ptproxy.dht.bridge_record import BridgeBucket
from ptproxy.dht.record_secret import RecordType
from ptproxy.errors import StartError
from ptproxy.peers import find_publisher
from ptproxy.peers.find_operator import OperatorFolder
from ptproxy.peers.find_publisher import Publisher

RNG = random.Random(5).randbytes
KIND = RecordType.BRIDGE_BUCKET


def bridge(number):
    rng = random.Random(number)
    host = f"bridge{number}.example.org"
    return Link(rng.randbytes(32), host, 443, "/way", host, ("http",), token=rng.randbytes(16))


OLD, NEW = (bridge(1), bridge(2)), (bridge(3),)


@contextlib.asynccontextmanager
async def published(folder):
    """A scene with an operator of one bucket and three invites, all published."""
    async with scene(folder) as cast:
        guards = [await cast.guard("one"), await cast.guard("two")]
        relay = await cast.bridge("bridge", *guards)
        operator = OperatorFolder.create(folder / "operator", (bridge(9),), RNG)
        invites = []

        def begin(operated):
            operated.listed.put("friends", OLD)
            invites.extend(operated.listed.issue("friends", int(NOON + 30 * DAY), RNG) for _ in range(3))

        operator.change(begin)
        directory = cast.client(relay)
        publisher = Publisher(OperatorFolder(operator.path), directory, RNG, cast.directory.clock)
        await publish_all(publisher)
        try:
            yield cast, directory, operator, publisher, invites
        finally:
            await directory.close()


async def bridges_of(directory, invite):
    found = await directory.read(invite.secret, KIND, invite.issuer)
    return None if found is None else BridgeBucket.parse(found.content).bridges


def test_invites_are_published_and_nothing_twice(tmp_path):
    async def main():
        async with published(tmp_path) as (cast, directory, _, publisher, invites):
            for invite in invites:
                assert await bridges_of(directory, invite) == OLD
            held = cast.directory.records()
            await publish_all(publisher)
            assert cast.directory.records() == held
            assert publisher.deadline() > cast.directory.clock()

    run(main)


def test_a_hurried_rotation_is_read_at_once_and_a_calm_one_in_its_slot(tmp_path):
    async def main():
        async with published(tmp_path) as (cast, directory, operator, publisher, invites):
            operator.change(lambda operated: operated.listed.put("friends", NEW))
            await publish_all(publisher)
            assert await bridges_of(directory, invites[0]) == OLD
            operator.change(lambda operated: operated.hurry.append("friends"))
            await publish_all(publisher)
            assert await bridges_of(directory, invites[0]) == NEW
            assert operator.load().hurry == []
            operator.change(lambda operated: operated.listed.put("friends", OLD))
            cast.directory.clock.offset += 6.2 * 3_600
            await publish_all(publisher)
            cast.directory.clock.offset += 5.8 * 3_600
            await publish_all(publisher)
            assert [await bridges_of(directory, each) for each in invites] == [OLD] * 3

    run(main)


def test_a_revoked_invite_says_no_bridge_and_then_nothing(tmp_path):
    async def main():
        async with published(tmp_path) as (cast, directory, operator, publisher, invites):
            gone = invites[0]

            def revoke(operated):
                operated.listed.revoke(gone.id, cast.directory.clock())
                operated.listed.put("friends", NEW)
                operated.hurry.append("friends")

            operator.change(revoke)
            await publish_all(publisher)
            assert await bridges_of(directory, gone) == ()
            assert await bridges_of(directory, invites[1]) == NEW
            for hour in (6, 6, 6, 6, 6):
                cast.directory.clock.offset += hour * 3_600
                await publish_all(publisher)
            assert await bridges_of(directory, gone) is None
            assert await bridges_of(directory, invites[1]) == NEW

    run(main)


def test_a_publisher_that_starts_again_goes_on(tmp_path):
    """Its progress was on disk before a record left; nodes are not asked to take the same again."""

    async def main():
        async with published(tmp_path) as (cast, directory, operator, _, invites):
            held = cast.directory.records()
            again = Publisher(operator, directory, RNG, cast.directory.clock)
            await publish_all(again)
            assert cast.directory.records() == held
            operator.change(lambda operated: operated.notes.update({invites[0].id.hex(): "anna"}))
            assert operator.load().note(invites[0].id) == "anna"

    run(main)


def test_a_publisher_without_its_memory_goes_above_what_nodes_hold(tmp_path):
    """An old backup of the folder: nodes say that they hold as much, and the next turn goes above."""

    async def main():
        async with published(tmp_path) as (cast, directory, operator, _, invites):
            path = operator.path / "invites.json"
            backup = path.read_bytes()
            operator.change(lambda operated: operated.hurry.append("friends"))
            await publish_all(Publisher(operator, directory, RNG, cast.directory.clock))
            path.write_bytes(backup)
            operator.change(lambda operated: operated.listed.put("friends", NEW))
            operator.change(lambda operated: operated.hurry.append("friends"))
            await publish_all(Publisher(operator, directory, RNG, cast.directory.clock))
            assert await bridges_of(directory, invites[2]) == NEW

    run(main)


def test_a_command_between_two_saves_is_not_undone(tmp_path):
    async def main():
        async with published(tmp_path) as (_, directory, operator, publisher, _):
            made = []
            write = directory.write

            async def meanwhile(record):
                if not made:
                    OperatorFolder(operator.path).change(
                        lambda operated: made.append(
                            operated.listed.issue("friends", int(NOON + 9 * DAY), RNG)
                        )
                    )
                return await write(record)

            directory.write = meanwhile
            operator.change(lambda operated: operated.hurry.append("friends"))
            await publish_all(publisher)
            await publish_all(publisher)
            assert len(list(operator.load().listed.invites())) == 4
            assert await bridges_of(directory, made[0]) == OLD

    run(main)


def test_a_list_that_changes_within_a_round_is_followed_at_once(tmp_path, monkeypatch):
    """A round of many records takes minutes: what is revoked then must not go out with its bridges.

    And what has just gone out is on disk as such: else it goes out a second time in its slot.
    """
    monkeypatch.setattr(find_publisher, "BATCH", 1)

    async def main():
        async with published(tmp_path) as (cast, directory, operator, publisher, invites):
            cast.directory.clock.offset += 6 * 3_600
            cast.directory.clock.offset -= cast.directory.clock() % (6 * 3_600)
            cast.directory.clock.offset += 5.9 * 3_600  # every record of the slot is due
            written = []
            write = directory.write

            async def meanwhile(record):
                if not written:
                    revoked = [invite.id for invite in invites]
                    OperatorFolder(operator.path).change(
                        lambda operated: [operated.listed.revoke(each, NOON) for each in revoked]
                    )
                written.append(record)
                return await write(record)

            directory.write = meanwhile
            await publish_all(publisher)
            assert [await bridges_of(directory, each) for each in invites] == [()] * 3
            assert len(written) == 4  # the first was on its way

    run(main)


def test_on_a_full_disk_nothing_leaves(tmp_path, monkeypatch):
    """What is not on disk before it leaves would be said twice with one sequence after a restart."""

    async def main():
        async with published(tmp_path) as (cast, _, operator, publisher, _):
            held = cast.directory.records()
            operator.change(lambda operated: operated.hurry.append("friends"))
            with monkeypatch.context() as patched:
                patched.setattr(OperatorFolder, "progress", full)
                with pytest.raises(StartError):
                    await publisher.round()
            assert cast.directory.records() == held
            await publish_all(publisher)
            assert cast.directory.records() != held

    run(main)


def full(*_):
    raise StartError("cannot write: no space left on device")
