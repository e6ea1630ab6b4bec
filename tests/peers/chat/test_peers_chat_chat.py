"""Commands done on a messenger, events told, as records for scripts and rows for people."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import pytest
from chat_fake import FakeMessenger, fingerprint_of
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.e2e import Standing
from ptproxy.peers.chat import commands as asked
from ptproxy.peers.chat.chat import HERE_SECONDS, Chat
from ptproxy.peers.chat.commands import parse_text
from ptproxy.peers.chat.files import MAX_FILES
from ptproxy.peers.chat.told import Done, LineTold, NumberTold, Record, Refused, StandingTold
from ptproxy.peers.messenger_events import (
    DeliveryTroubled,
    Event,
    InviteReady,
    InviteUsed,
    LineState,
    MailboxChanged,
    PresenceChanged,
    SignalReceived,
    Trouble,
    UnknownReceived,
)
from ptproxy.peers.payload import Presence


class Rig:
    def __init__(self, *names: str) -> None:
        self.told: list[Record] = []
        self.messenger = FakeMessenger(*names)
        self.chat = Chat(self.messenger, Path("files"), self.told.append)
        self.messenger.on_event = lambda event: self.told.extend(self.chat.told(event))

    def do(self, line: str) -> list[Record]:
        return asyncio.run(self.chat.do(parse_text(line)))

    def rows(self, line: str) -> list[str]:
        return [row for record in self.do(line) for row in record.rows()]

    def take(self) -> list[str]:
        rows = [row for record in self.told for row in record.rows()]
        self.told.clear()
        return rows


def test_lines_and_how_far_they_come() -> None:
    rig = Rig("anna")
    anna = rig.messenger.contacts()[0]
    assert rig.rows("anna: hello") == ["* to anna: line 1 is waiting"]
    for state in (LineState.DEPOSITED, LineState.DELIVERED, LineState.READ):
        anna.has(1, state)
    anna.writes("two\nrows")
    assert rig.take() == [
        "* to anna: line 1 is sent",
        "* to anna: line 1 is delivered",
        "* to anna: line 1 is read",
        "anna: two",
        "    rows",
    ]
    assert rig.rows("/history anna") == ["> anna: hello", "anna: two", "    rows"]
    assert rig.rows("ben: hello") == ["! there is no contact of that name; /contacts lists them"]


def test_verifying() -> None:
    rig = Rig("anna")
    anna = rig.messenger.contacts()[0]
    number = rig.do("/number anna")[0]
    assert isinstance(number, NumberTold)
    assert number.digits == anna.safety_number.digits()
    wrong = fingerprint_of("eve").digits()
    (refused,) = rig.do(f"/verify anna {wrong}")
    assert isinstance(refused, Refused)
    assert "NOT the same" in refused.text
    assert anna.standing is Standing.UNVERIFIED
    assert rig.rows(f"/verify anna {number.words}") == ["* the numbers are the same: anna is verified"]
    assert anna.standing is Standing.VERIFIED


def test_another_identity_is_accepted_by_its_words_only() -> None:
    rig = Rig("anna")
    anna = rig.messenger.contacts()[0]
    assert rig.rows("/accept anna a b c d") == ["! no other identity was seen"]
    candidate = anna.changes_identity()
    (standing,) = rig.told
    assert isinstance(standing, StandingTold)
    assert candidate.words() in "\n".join(standing.rows())
    assert "says nothing" in standing.rows()[0]
    assert rig.rows("anna: secret")[0].startswith("! conversation: the peer's identity has changed")
    words = candidate.words().split()
    for wrong in (" ".join(words[:3]), anna.fingerprint.words(), "a b c d"):
        assert rig.rows(f"/accept anna {wrong}")[0].startswith("! write the new identity's first 4 words")
    assert anna.fingerprint != candidate
    rig.do(f"/accept anna {' '.join(words[:4])}")
    assert anna.fingerprint == candidate
    anna.changes_identity(vouched=True)
    assert "says that it follows" in rig.take()[-3]
    rig.do("/keep anna")
    assert anna.fingerprint == candidate
    assert anna.standing is Standing.UNVERIFIED


def test_invites() -> None:
    rig = Rig()
    rows = rig.rows("/invite for Ben\x1b[2J")
    assert rows[0].startswith("* invite 00010203 (for Ben�[2J): good for 1 until 2026-11-29")
    assert rows[1].startswith("ptproxy-contact:")
    (listed, _) = rig.do("/invites")
    assert listed.rows()[1:] == []
    assert rig.rows("/revoke ff") == ["! there is no such invite"]
    assert rig.rows("/revoke 0001") == ["* nobody can use that invite any more"]
    assert rig.messenger.invites() == []


def test_contacts_come_go_and_are_called_otherwise() -> None:
    rig = Rig()
    assert rig.rows("/contacts") == ["* no contacts yet"]
    rig.messenger.meets("Eve\x1b]0;x\x07", stranger=True)
    assert rig.take() == ["* Eve�]0;x�: unverified, a stranger who wrote; /welcome answers"]
    rig.do('/welcome "Eve�]0;x�"')
    rig.do('/rename "Eve�]0;x�" Ben')
    assert rig.rows("/contacts") == ["* Ben: unverified"]
    rig.take()
    rig.do("/remove Ben")
    assert rig.take() == ["* Ben is removed"]


def test_presence_is_told_to_those_it_was_switched_on_for() -> None:
    rig = Rig("anna", "ben")
    anna, ben = rig.messenger.contacts()
    rig.do("anna: hello")
    asyncio.run(rig.chat.tell_presence_again())
    assert anna.presence == ben.presence == []
    rig.do("/presence anna on")
    asyncio.run(rig.chat.tell_presence_again())
    assert anna.presence == [(Presence.HERE, HERE_SECONDS)] * 2
    rig.do("/presence anna off")
    asyncio.run(rig.chat.tell_presence_again())
    assert anna.presence[2:] == [(Presence.AWAY, 0.0)]
    rig.do("/presence anna on")
    anna.changes_identity()
    asyncio.run(rig.chat.tell_presence_again())
    anna.standing = Standing.UNVERIFIED
    asyncio.run(rig.chat.tell_presence_again())
    assert len(anna.presence) == 4
    assert ben.presence == []


@pytest.mark.parametrize(
    ("event", "rows"),
    [
        (InviteReady(bytes(16)), ["* invite 00000000 can be used now"]),
        (InviteUsed(bytes(16), 2), ["* invite 00000000 was used; good for 2 more"]),
        (MailboxChanged(Trouble.NONE), ["* your mailbox: it is reached"]),
        (
            MailboxChanged(Trouble.MAILBOX_UNREACHABLE),
            ["* your mailbox: the mailbox is not reached; it is tried again"],
        ),
        (DeliveryTroubled(b"?", Trouble.NONE), ["* what you write to anna: all is well again"]),
        (PresenceChanged(b"?", Presence.HERE, 1.0), ["* anna is here"]),
        (
            UnknownReceived(b"?"),
            ["* anna sent something that this version does not know: is there a newer ptproxy?"],
        ),
        (SignalReceived(b"?", b"x", 1.0), []),
    ],
)  # fmt: skip
def test_what_else_is_told(event: Event, rows: list[str]) -> None:
    rig = Rig("anna")
    if hasattr(event, "contact"):
        event = dataclasses.replace(event, contact=rig.messenger.contacts()[0].id)
    assert [row for record in rig.chat.told(event) for row in record.rows()] == rows


@given(st.text(max_size=60), st.text(max_size=20))
def test_whatever_a_contact_writes_its_rows_are_not_ours(text: str, name: str) -> None:
    rig = Rig(name)
    anna = rig.messenger.contacts()[0]
    anna.writes(text)
    (line,) = rig.told
    assert isinstance(line, LineTold)
    first, *more = line.rows()
    label = rig.chat.roster.label(anna.id)
    assert first.startswith(f"{label}: ")
    assert not first.startswith(("* ", "! ", "> "))
    assert all(row.startswith("    ") for row in more)
    for row in (first, *more):
        assert row.isprintable() or "\u200c" in row or "\u200d" in row or "\ufffd" in row
    found = json.loads(line.json("7"))
    assert line.json().isascii()
    assert (found["event"], found["id"], found["text"]) == ("line", "7", text)
    assert found["contact"] == anna.id.hex()


def test_a_file_to_who_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    rig = Rig("anna")
    assert rig.rows(f"/send anna {tmp_path / 'nothing'}") == ["! there is no such file"]

    async def main() -> None:
        assert await rig.chat.do(asked.Send("anna", str(path))) == [Done("")]
        while len(rig.told) < 2:
            await asyncio.sleep(0.002)

    asyncio.run(main())
    assert rig.take() == [
        "* file 1 (a.txt, 5 bytes) is offered to anna",
        "! file 1 (a.txt, 5 bytes) was broken off: the contact is not there",
    ]
    assert rig.rows("/take 1") == rig.rows("/refuse 7") == ["! no file of that number is offered"]


def test_a_contact_that_is_removed_meanwhile_ends_nothing() -> None:
    rig = Rig("anna")
    anna = rig.messenger.contacts()[0]
    rig.do("/presence anna on")

    async def gone(*_: object) -> None:
        raise KeyError(anna.id)

    anna.send = anna.tell_presence = gone
    assert rig.rows("anna: hello") == ["! that contact was removed meanwhile"]
    asyncio.run(rig.chat.tell_presence_again())
    assert rig.rows("/send anna ~nobody-of-that-name/x") == ["! there is no such file"]


def test_a_path_that_cannot_be_looked_at_ends_nothing() -> None:
    [row] = Rig("anna").rows(f"/send anna /{'x' * 5000}")
    assert row.startswith("! cannot read that file")


class Offered:
    """A file of a contact."""

    contact = fingerprint_of("anna").data[:16]
    name = "a.txt"
    size = 5
    withdrawn = lapsed = refused = False

    def refuse(self) -> None:
        self.refused = True


def test_a_contact_that_offers_and_withdraws_does_not_pile_up() -> None:
    rig = Rig("anna")
    for _ in range(3 * MAX_FILES):
        rig.chat.files._offered(offer := Offered())
        offer.withdrawn = True
        rig.chat.files._gone(offer)
    assert len(rig.chat.files._files) == MAX_FILES
    *_, offered, gone = rig.take()
    assert f"/take {3 * MAX_FILES} " in offered
    assert "was broken off: the contact is gone" in gone


def test_who_let_an_offer_lapse_is_told() -> None:
    rig = Rig("anna")
    rig.chat.files._offered(offer := Offered())
    rig.take()
    offer.withdrawn = offer.lapsed = True
    rig.chat.files._gone(offer)
    assert rig.take() == [
        "! file 1 (a.txt, 5 bytes) was broken off: nobody took it for an hour; the contact can offer it again"
    ]
    assert rig.rows("/take 1") == ["! no file of that number is offered"]


def test_files_on_their_way_are_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("hello")
    rig = Rig("anna")
    ended = []

    async def never(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    rig.messenger.streams.open_stream = never

    async def main() -> None:
        await rig.chat.do(asked.Send("anna", str(path)))
        rig.chat.files._offered(offer := Offered())
        await asyncio.sleep(0)
        for number in ("1", "2"):
            assert await rig.chat.do(asked.Stop(number)) == [Done("")]
            assert "on its way" in (await rig.chat.do(asked.Stop(number)))[0].text
        await rig.chat.files.close()
        assert offer.refused

    asyncio.run(main())
    assert rig.take() == [
        "* file 1 (a.txt, 5 bytes) is offered to anna",
        "* anna offers file 2 (a.txt, 5 bytes): /take 2 or /refuse 2",
        "! file 1 (a.txt, 5 bytes) was broken off: you stopped it",
        "* file 2 (a.txt, 5 bytes) is not wanted",
    ]


def test_a_file_that_is_taken_and_stopped_at_once_keeps_nobody_waiting() -> None:
    rig = Rig("anna")

    class Taken(Offered):
        async def accept(self) -> Path:
            raise AssertionError("it has begun all the same")

    async def main() -> None:
        rig.chat.files._offered(offer := Taken())
        assert await rig.chat.do(asked.Take("1")) == [Done("")]  # as a script's two lines are done
        assert await rig.chat.do(asked.Stop("1")) == [Done("")]
        assert offer.refused
        await rig.chat.files.close()

    asyncio.run(main())
