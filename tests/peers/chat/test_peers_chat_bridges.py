"""Invites to bridges in the chat: passed on, shown with whom they are from, taken by a person."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path

import pytest
from chat_fake import FakeMessenger

from ptproxy.config.link import Link
from ptproxy.dht.invite import Invite
from ptproxy.dht.signing import SigningKey
from ptproxy.peers.chat.bridges import FILE
from ptproxy.peers.chat.chat import Chat
from ptproxy.peers.chat.commands import parse_text
from ptproxy.peers.chat.screen.app import ChatApp
from ptproxy.peers.chat.screen.decision import Choice, Decision
from ptproxy.peers.messenger_events import BridgesPassedOn

RNG = random.Random(5).randbytes
LATER = int(time.time()) + 86_400


def invite_to(host: str, expires: int = LATER) -> Invite:
    link = Link(RNG(32), host, 443, "/secret/path", host, ("http",), token=RNG(16))
    return Invite.issue(SigningKey(RNG(32)), (link,), expires, RNG)


class Rig:
    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.messenger = FakeMessenger(*names)
        self.chat = Chat(self.messenger, folder / "files", lambda _: None)

    def rows(self, line: str) -> list[str]:
        return [row for record in asyncio.run(self.chat.do(parse_text(line))) for row in record.rows()]

    @property
    def file(self) -> Path:
        return self.folder / FILE


def test_an_invite_is_passed_on(tmp_path):
    rig, invite = Rig(tmp_path, "Anna"), invite_to("a.example")
    anna = rig.messenger.contacts()[0]
    assert "meant for one person" in rig.rows(f"/share Anna {invite.serialize()}")[-1]
    (tmp_path / "client.invite").write_text(f"# mine\n{invite.serialize()}\n")
    rig.rows(f"/share Anna @{tmp_path / 'client.invite'}")
    assert anna.passed_on == [invite, invite]
    secret = invite.serialize()[20:60]
    for wrong in (invite.serialize()[:-3], "nonsense", "@/nothing/there", invite_to("b", 5).serialize()):
        [row] = rig.rows(f"/share Anna {wrong}")
        assert row.startswith("! ")
        assert secret not in row
    assert len(anna.passed_on) == 2
    assert secret not in repr(parse_text(f"/share Anna {invite.serialize()}"))


def test_what_was_passed_on_is_shown_and_nothing_is_done_with_it(tmp_path):
    rig, invite = Rig(tmp_path, "Anna", "Ben"), invite_to("a.example")
    anna, ben = rig.messenger.contacts()
    told = []
    rig.messenger.on_event = lambda event: told.extend(rig.chat.told(event))
    anna.passes_on(invite)
    name = invite.id.hex()[:10]
    assert f"* Anna passes on an invite to bridges {name} (a.example:443)" in told[0].rows()[0]
    said = json.loads(told[0].json())
    assert (said["who"], said["invite"], said["bridges"]) == ("Anna", name, ["a.example:443"])
    assert "secret" not in told[0].json()
    assert not rig.file.exists()
    ben.passes_on(invite)
    assert sum("a.example" in row for row in rig.rows("/bridges")) == 2, "both of whom it came from"


def test_what_is_taken_is_in_a_file_and_what_is_dropped_no_longer(tmp_path):
    rig, one, two = Rig(tmp_path, "Anna"), invite_to("a.example"), invite_to("b.example")
    anna = rig.messenger.contacts()[0]
    anna.passes_on(one)
    anna.passes_on(two)
    assert str(rig.file) in rig.rows(f"/use {one.id.hex()[:10]}")[-1]
    assert one.serialize() in rig.file.read_text()
    assert two.serialize() not in rig.file.read_text()
    assert "Anna" not in rig.file.read_text()
    assert rig.file.stat().st_mode & 0o077 == 0
    assert "taken" in rig.rows("/bridges")[0]
    rig.rows(f"/drop {two.id.hex()[:10]}")
    rig.rows(f"/drop {one.id.hex()[:10]}")
    assert one.serialize() not in rig.file.read_text()
    assert rig.rows("/bridges") == ["* no contact has passed on any"]


@pytest.mark.parametrize("line", ["/use abcdef", "/use x", "/drop 0000", "/use ''"])
def test_what_was_not_passed_on_cannot_be_taken(tmp_path, line):
    rig = Rig(tmp_path, "Anna")
    rig.messenger.contacts()[0].passes_on(invite_to("a.example"))
    try:
        assert rig.rows(line)[0].startswith("! ")
    except ValueError:
        pass
    assert not rig.file.exists()


@pytest.mark.parametrize("choice", [Choice.USE, Choice.DROP])
def test_the_screen_asks(tmp_path, choice):
    """The question stands above the conversation, whoever was shown meanwhile; a button decides."""
    messenger, invite = FakeMessenger("Anna"), invite_to("a.example")
    anna = messenger.contacts()[0]

    async def main() -> None:
        app = ChatApp(messenger, tmp_path / "files")
        async with app.run_test(size=(110, 34)) as pilot, asyncio.timeout(60):
            decision = app.query_one(Decision)
            assert not decision.display
            anna.passes_on(invite)
            while not decision.display:
                await pilot.pause(0.02)
            question = str(app.query_one("#question").render())
            assert "a.example:443" in question
            assert "From: Anna" in question
            await pilot.click(f"#{choice.value}")
            while decision.display:
                await pilot.pause(0.02)

    asyncio.run(main())
    taken = (tmp_path / FILE).exists() and invite.serialize() in (tmp_path / FILE).read_text()
    assert taken is (choice is Choice.USE)


def test_an_event_of_what_is_gone_already_tells_nothing(tmp_path):
    rig = Rig(tmp_path, "Anna")
    assert rig.chat.told(BridgesPassedOn(rig.messenger.contacts()[0].id, bytes(16))) == []
