"""Ourselves: name, receipts, and the identity that is to follow the one we have."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from chat_fake import FakeInvite, FakeMessenger, fingerprint_of, link_at

from ptproxy.errors import StartError
from ptproxy.peers.chat.chat import Chat
from ptproxy.peers.chat.commands import parse_text
from ptproxy.peers.chat.told import Record, Refused


class Rig:
    def __init__(self, *names: str) -> None:
        self.messenger = FakeMessenger(*names)
        self.chat = Chat(self.messenger, Path("files"), lambda _: None)

    def do(self, line: str) -> list[Record]:
        return asyncio.run(self.chat.do(parse_text(line)))

    def rows(self, line: str) -> list[str]:
        return [row for record in self.do(line) for row in record.rows()]


def test_who_one_is() -> None:
    rig = Rig()
    words = rig.messenger.fingerprint.words()
    assert rig.rows("/whoami") == [
        "* you are Me; contacts are told what you have read",
        f"    {words}",
        "* your mailbox is at mailbox.example:443",
    ]
    told = json.loads(rig.do("/whoami")[0].json("1"))
    assert (told["event"], told["name"], told["receipts"], told["words"]) == ("self", "Me", True, words)


def test_one_is_called_otherwise_and_names_have_something_to_see() -> None:
    rig = Rig()
    assert rig.rows("/myname Anna  Lind\x1b[2J")[0].startswith("* you are Anna Lind�[2J;")
    assert rig.messenger.name == "Anna Lind�[2J"
    rig.messenger.rename = None  # nobody is told again
    assert rig.rows("/myname Anna Lind\x1b[2J")[-1] == "* that is your name already"
    for nothing in ("\u200b", "***"):
        assert rig.rows(f"/myname {nothing}")[0].startswith("! ")
    assert rig.messenger.name == "Anna Lind�[2J"


def test_receipts_are_switched() -> None:
    rig = Rig()
    assert "are NOT told what you have read" in rig.rows("/receipts off")[0]
    assert not rig.messenger.receipts
    assert "are told what you have read" in rig.rows("/receipts on")[0]
    assert rig.messenger.receipts


def test_the_mailbox_moves_and_nothing_of_a_link_but_its_place_is_told() -> None:
    rig = Rig()
    new = link_at("new.example")
    assert "* your mailbox is at new.example:443; still looked into: mailbox.example:443" in rig.rows(
        f"/mailbox {new.serialize()}"
    )
    assert rig.messenger.mailbox == new
    told = rig.do("/whoami")[0].json("1")
    assert json.loads(told)["mailbox"] == "new.example:443"
    rig.messenger.move = None
    assert rig.rows(f"/mailbox {new.serialize()}")[-1] == "* your mailbox is there already"
    secret = new.serialize().partition("token=")[2]
    assert len(secret) == 22
    for wrong in (
        new.serialize()[:-1],
        new.serialize() + "&codecs=raw",
        f"x{new.serialize()}",
        "https://a.b/",
    ):
        (refused,) = rig.do(f"/mailbox {wrong}")
        assert isinstance(refused, Refused)
        assert secret[:20] not in refused.json("")
    assert secret[:20] not in told + repr(parse_text(f"/mailbox {new.serialize()}"))


@pytest.mark.parametrize("line", ["/receipts", "/receipts maybe", "/receipts on off", "/presence anna maybe"])
def test_a_switch_is_on_or_off(line: str) -> None:
    from ptproxy.peers.chat.commands import CommandError

    with pytest.raises(CommandError):
        parse_text(line)


def test_an_identity_is_announced_and_then_taken_by_its_words_only() -> None:
    rig = Rig("anna", "ben")
    anna, ben = rig.messenger.contacts()
    old, new = rig.messenger.fingerprint, fingerprint_of("me again")
    first = " ".join(new.words().split()[:4])
    assert rig.rows(f"/become {first}") == ["! no new identity was announced; /successor makes one"]
    rig.messenger.waiting = [anna.id, ben.id]
    rows = rig.rows("/successor")
    assert rows[1].strip() == new.words()
    assert rows[2] == "* not told of it yet: anna, ben"
    rig.messenger.waiting = []
    assert "* all contacts that can be told are told" in rig.rows("/successor")
    assert new.words() in "\n".join(rig.rows("/whoami"))
    for wrong in (" ".join(new.words().split()[:3]), old.words(), "a b c d"):
        assert rig.rows(f"/become {wrong}")[0].startswith("! write the new identity's first 4 words")
        assert rig.messenger.fingerprint == old
    assert rig.rows(f"/become {first}")[1].strip() == new.words()
    assert (rig.messenger.fingerprint, rig.messenger.successor) == (new, None)


def test_many_who_wait_are_one_row() -> None:
    rig = Rig(*(f"contact {number}" for number in range(40)))
    rig.messenger.waiting = [peer.id for peer in rig.messenger.contacts()]
    row = rig.rows("/successor")[2]
    assert row.endswith("contact 7, ...")


def test_a_picture_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "full").write_text("in the way of a folder")
    with pytest.raises(StartError, match="cannot write"):
        asyncio.run(Rig().chat.own.save_qr(FakeInvite(), tmp_path / "full" / "files"))
