"""What a directory node keeps: over a restart, a kill, a full disk, damage."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from directory_live import LAB, LOCAL, Lab, identity_of, run, until

sys.path.append(str(Path(__file__).parent.parent / "dht"))

from dht_records import DAY, EPOCH, NOW, draw, sealed

from ptproxy.dht.bucket import Acquaintance
from ptproxy.dht.contact import Address
from ptproxy.dht.record_secret import RecordSecret
from ptproxy.dht.storage import RecordStorage, StoredRecord
from ptproxy.errors import StartError, StateError
from ptproxy.peers.directory import DirectorySettings
from ptproxy.peers.directory_store import DirectoryStore, Surroundings
from ptproxy.state import StateFolder

RECORD = sealed()
DATA = RECORD.serialize()
PLACE = RECORD.header.locations()[0]


def another(number: int) -> StoredRecord:
    record = sealed(secret=RecordSecret(draw(("stored", number))(32)))
    return StoredRecord(record.header.locations()[0], number, NOW, record.serialize())


def test_a_node_that_starts_again_knows_what_it_knew(tmp_path: Path) -> None:
    async def main():
        async with Lab(now=NOW) as lab:
            with StateFolder(tmp_path) as state:
                await lab.add(state=state)
                await lab.grow(5)
                await lab.nodes[1].driver.publish(PLACE, DATA)
                first = lab.nodes[0]
                before = {known.contact.id for known in first.driver.node.table}
                await first.close()
                port = first.contact.address.port
                again = await lab.add(
                    number=0, state=state, settings=DirectorySettings((("127.0.0.1", port),)), join=False
                )
                assert again.contact == first.contact
                assert {known.contact.id for known in again.driver.node.table} == before
                assert again.storage.read(PLACE, NOW) == DATA
                assert await again.join([]) == 5

    run(main)


def test_a_node_that_moves_says_so_with_a_higher_sequence(tmp_path: Path) -> None:
    async def main():
        async with Lab(now=NOW) as lab:
            with StateFolder(tmp_path) as state:
                first = await lab.add(state=state)
                await lab.add()
                await first.close()
                lab.ahead -= DAY  # and a clock that is put back does not lower it
                again = await lab.add(number=0, state=state, join=False)
                assert again.contact.address != first.contact.address
                assert again.contact.supersedes(first.contact)
                await again.join([lab.nodes[1].contact])
                known = lab.nodes[1].driver.node.table
                await until(lambda: known.get(again.contact.id).contact == again.contact)

    run(main)


def test_what_is_over_or_damaged_is_left_out_and_deleted(tmp_path: Path) -> None:
    async def main():
        with StateFolder(tmp_path) as state:
            store = DirectoryStore(state)
            records = [another(number) for number in range(4)]
            forged = StoredRecord(PLACE, 1, NOW, DATA[:-1] + bytes((DATA[-1] ^ 1,)))
            contact = identity_of(1).contact(Address(b"\x7f\0\0\1", 1), 1)
            known = Acquaintance(identity_of(2).contact(Address(b"\x7f\0\0\1", 2), 1), 5.0, 6.0)
            await store.save([*records, forged], Surroundings(contact, [known], []))
            store.close()
        database = sqlite3.connect(tmp_path / "directory.sqlite3", isolation_level=None)
        database.execute(
            "UPDATE records SET record = x'00' WHERE location = ?", (records[0].location.to_bytes(32),)
        )
        database.execute("INSERT INTO nodes VALUES (x'00', x'0102')")
        database.execute("INSERT INTO nodes VALUES (x'01', 'text')")
        database.execute("INSERT INTO records VALUES ('text', x'00')")
        database.execute("INSERT INTO records VALUES (?, 5)", (bytes(32),))
        database.execute("INSERT INTO records VALUES (?, x'00')", (bytes((255,)) * 40,))
        database.close()
        with StateFolder(tmp_path) as state:
            async with Lab(now=NOW) as lab:
                node = await lab.add(number=1, state=state)
                assert len(node.storage) == 3
                assert len(node.driver.node.table) == 1
                await node.upkeep(everything=True)
            store = DirectoryStore(state)
            kept = store.load(100)
            assert (len(kept.records), len(kept.nodes), kept.damaged) == (3, 1, 0)
            store.close()

    run(main)


def test_only_what_has_changed_is_written(tmp_path: Path) -> None:
    async def main():
        with StateFolder(tmp_path) as state, contextlib.closing(DirectoryStore(state)) as store:
            records = [another(number) for number in range(3)]
            await store.save(records)
            changes = store._database.total_changes
            await store.save(records)
            assert store._database.total_changes == changes
            records[1].stored += 1
            await store.save(records[1:])
            assert store._database.total_changes == changes + 2  # one gone, one replaced
            assert {one.location for one in store.load(10).records} == {one.location for one in records[1:]}

    run(main)


def test_a_full_disk_loses_nothing_that_is_in_memory(tmp_path: Path) -> None:
    async def main():
        with StateFolder(tmp_path) as state:
            async with Lab(now=NOW) as lab:
                await lab.grow(1)
                node = await lab.add(number=7, state=state)
                await lab.nodes[0].driver.publish(PLACE, DATA)
                assert len(node.storage) == 1
                database = node._store._database
                (pages,) = database.execute("PRAGMA page_count").fetchone()
                database.execute(f"PRAGMA max_page_count = {pages}")
                for number in range(50):  # more than free pages hold
                    stored = another(number)
                    node.storage.restore(stored, NOW)
                await node.upkeep(everything=True)
                assert not node.status().saved
                assert len(node.storage) == 51
                with pytest.raises(StateError, match="cannot be written: database or disk is full"):
                    await node._store.save(node.storage.stored())
                database.execute("PRAGMA max_page_count = 100000")
                await node.upkeep(everything=True)
                assert node.status().saved
                await node.close()
            with contextlib.closing(DirectoryStore(state)) as store:
                assert len(store.load(100).records) == 51

    run(main)


def test_a_start_that_fails_half_way_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def fails(_self, stored, _now):
        taken.append(stored)
        if len(taken) == 2:
            raise MemoryError

    async def main():
        with StateFolder(tmp_path) as state:
            with contextlib.closing(DirectoryStore(state)) as store:
                await store.save([another(number) for number in range(4)])
            with monkeypatch.context() as patch:
                patch.setattr(RecordStorage, "restore", fails)
                async with Lab(now=NOW) as lab:
                    with pytest.raises(MemoryError):
                        await lab.add(state=state)
            with contextlib.closing(DirectoryStore(state)) as store:
                assert len(store.load(10).records) == 4

    run(main)


def test_a_database_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "directory.sqlite3").write_bytes(b"nothing of the kind" * 1_000)

    async def main():
        with StateFolder(tmp_path) as state:
            async with Lab() as lab:
                with pytest.raises(StartError, match=r"directory\.sqlite3"):
                    await lab.add(state=state)

    run(main)


def test_what_was_saved_survives_a_kill(tmp_path: Path) -> None:
    program = Path(__file__).parent / "directory_kill.py"
    with subprocess.Popen([sys.executable, program, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        saved = 0
        while saved < 25:
            saved = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split()
        process.wait()
    saved = int(lines[-1]) if lines else saved

    async def main():
        with StateFolder(tmp_path) as state:
            async with Lab(now=NOW) as lab:
                node = await lab.add(state=state, settings=LOCAL, join=False)
                assert len(node.storage) >= saved
                assert all(stored.header.epoch == EPOCH for stored in node.storage.stored())
                assert len(node.driver.node.table) == 1

    run(main)


def test_a_store_is_saved_by_one_at_a_time(tmp_path: Path) -> None:
    async def main():
        with StateFolder(tmp_path) as state, contextlib.closing(DirectoryStore(state)) as store:
            records = [another(number) for number in range(8)]
            await asyncio.gather(*(store.save(records[:count]) for count in (8, 2, 5)))
            assert len(store.load(10).records) == 5
            cancelled = asyncio.create_task(store.save(records))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.wait({cancelled})
            await store.save(records[:3])
            assert len(store.load(10).records) == 3

    run(main)


assert LAB.signers is None
