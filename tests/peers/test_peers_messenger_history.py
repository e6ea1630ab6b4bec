"""How much of a conversation is kept."""

from __future__ import annotations

import asyncio

import pytest
from messenger_live import world
from peers_live import run

from ptproxy.peers import messenger_history
from ptproxy.peers.messenger_contact import history_list
from ptproxy.peers.messenger_line import serialize_line


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(messenger_history, "MAX_LINES", 50)
    monkeypatch.setattr(messenger_history, "MAX_BYTES", 20_000)
    monkeypatch.setattr(messenger_history, "STRANGER_LINES", 20)
    monkeypatch.setattr(messenger_history, "AT_A_TIME", 10)


def at(tmp_path, story):
    async def main():
        async with world(tmp_path) as here:
            await story(here)

    run(main)


def agrees(person, peer, lines):
    """What is counted is what is on disk, and no line is there that nobody would find."""
    record = person.messenger.ledger.contacts[peer.id]
    rows = person.store.lists[history_list(peer.id)]
    assert record.kept == sum(map(len, rows.values())) == sum(len(serialize_line(line)) for line in lines)
    assert sorted(rows) == [line.number for line in reversed(lines)]
    assert min(rows) == record.oldest


def test_a_contact_that_writes_without_end_takes_nobody_elses_place(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        carol = await here.person("carol").start()
        await carol.messenger.add(await alice.invite())
        await alice.until(lambda: alice.peer(carol))
        await carol.until(lambda: carol.peer(alice).name)
        await carol.peer(alice).send("keep me")
        await alice.heard(1)
        for number in range(129):
            await bob.peer(alice).send(f"line {number}")
        await alice.heard(130)
        await bob.peer(alice).send("line 129")  # alone: what one message brings may be above the limit
        await alice.heard(131)
        peer = alice.peer(bob)
        lines = await peer.history(limit=1_000)
        assert 40 <= len(lines) <= 50
        assert [line.text for line in lines] == [
            f"line {number}" for number in range(129, 129 - len(lines), -1)
        ]
        assert peer.unread == len(lines)
        agrees(alice, peer, lines)
        assert [line.text for line in await alice.peer(carol).history()] == ["keep me"]
        await peer.mark_read(lines[0].number)
        assert peer.unread == 0
        await alice.kill()
        await alice.start()
        agrees(alice, alice.peer(bob), await alice.peer(bob).history(limit=1_000))
        # ours are kept in the same way at whoever writes them
        assert 40 <= len(await bob.peer(alice).history(limit=1_000)) <= 50

    at(tmp_path, story)


def test_long_lines_fill_it_sooner(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        for number in range(12):
            await bob.peer(alice).send(f"{number} " + "x" * 3_000)
            await alice.heard(number + 1)
        lines = await alice.peer(bob).history(limit=1_000)
        assert lines[0].text.startswith("11 ")
        assert sum(len(serialize_line(line)) for line in lines) <= 20_000
        agrees(alice, alice.peer(bob), lines)

    at(tmp_path, story)


def test_a_history_of_before_there_was_an_end_goes_little_by_little(tmp_path, monkeypatch):
    monkeypatch.setattr(messenger_history, "STEPS", 2)

    async def story(here):
        alice, bob = await here.met()
        monkeypatch.setattr(messenger_history, "MAX_LINES", 1_000)
        for number in range(100):
            await bob.peer(alice).send(f"line {number}")
        monkeypatch.setattr(messenger_history, "MAX_LINES", 50)
        bob.messenger.ledger.contacts[bob.peer(alice).id].kept = 0  # nobody had counted
        await bob.peer(alice).send("one more")
        lines = await bob.peer(alice).history(limit=1_000)
        assert [line.number for line in lines] == list(range(101, 20, -1))
        await asyncio.gather(*(bob.peer(alice).send("and more") for _ in range(9)))
        assert 40 <= len(await bob.peer(alice).history(limit=1_000)) <= 50

    at(tmp_path, story)


def test_a_receipt_brings_no_line_back_that_has_gone(tmp_path):
    async def story(here):
        alice, bob = await here.met()
        ledger, peer = bob.messenger.ledger, bob.peer(alice)
        for number in range(49):
            await peer.send(f"line {number}")
        record = ledger.contacts[peer.id]
        async with ledger.change() as change:  # as when mail brings lines, and a receipt behind them
            for _ in range(10):
                line = ledger.lines(peer.id, 49, 1)[0][0]
                line = type(line)(record.next_number(), line.direction, line.state, 0.0, 0.0, "new")
                messenger_history.add_line(ledger, change, record, line)
            assert record.oldest > 1
            assert ledger.lines(peer.id, 1, record.oldest - 1) == []
        agrees(bob, peer, await peer.history(limit=1_000))

    at(tmp_path, story)
