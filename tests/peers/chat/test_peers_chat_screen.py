"""The chat's screen under textual's pilot: what is shown, what keys do, what hostile text does not."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from chat_fake import NOON, FakeMessenger, fingerprint_of, leave_partial_files, link_at
from textual import events
from textual.widgets import Input, OptionList, Static

from ptproxy.e2e import Standing
from ptproxy.errors import LocalProtocolError, StartError
from ptproxy.peers.chat.commands import Refuse, Stop, Take
from ptproxy.peers.chat.files import MAX_FILES
from ptproxy.peers.chat.qr import qr_png, qr_rows
from ptproxy.peers.chat.screen import app as screen_app
from ptproxy.peers.chat.screen import conversation as conversation_module
from ptproxy.peers.chat.screen import pending as pending_module
from ptproxy.peers.chat.screen import room as room_module
from ptproxy.peers.chat.screen.app import ChatApp, run_screen
from ptproxy.peers.chat.screen.compose import Compose
from ptproxy.peers.chat.screen.contact_list import ContactList
from ptproxy.peers.chat.screen.conversation import MAX_ROWS, PAGE, Conversation, LineView
from ptproxy.peers.chat.screen.decision import Choice, Decision
from ptproxy.peers.chat.screen.dialogs import QrScreen
from ptproxy.peers.chat.screen.drawn import clock
from ptproxy.peers.chat.screen.file_view import FileView
from ptproxy.peers.chat.told import STATES
from ptproxy.peers.chat.told_files import FileState, FileTold
from ptproxy.peers.messenger_events import (
    ContactAdded,
    ContactChanged,
    ContactRemoved,
    InviteReady,
    LineReceived,
    LineState,
    MailboxChanged,
    PresenceChanged,
    Trouble,
    UnknownReceived,
)
from ptproxy.peers.payload import Presence

PATIENCE = 120.0
"""Seconds after which what should have happened counts as broken; a busy machine takes ten times its time."""
HOSTILE = "\x1b[2J\x1b]0;owned\x07[@click=app.quit]x[/] \u202egnp.exe \x9b31m[red]r[/red]"


class Rig:
    """An app under test, and what can be seen of it."""

    def __init__(self, messenger: FakeMessenger, pilot) -> None:
        self.messenger, self.pilot, self.app = messenger, pilot, pilot.app

    async def until(self, condition) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self.pilot.pause(0.02)

    async def click(self, selector: str) -> None:
        """Click a widget once it is laid out: before that another one is in its place, and gets the click."""

        def there() -> bool:
            widget = self.app.screen.query(selector).first()
            x, y = (int(place) for place in widget.region.center)
            return widget.region.area > 0 and self.app.screen.get_widget_at(x, y)[0] is widget

        await self.until(there)
        assert await self.pilot.click(selector)

    def text(self, selector: str) -> str:
        return str(self.app.screen.query_one(selector, Static).content)

    def views(self) -> list[LineView]:
        return list(self.app.screen.query(LineView))

    def texts(self) -> list[str]:
        return [str(view.content) for view in self.views()]

    def rows(self) -> list[str]:
        contacts = self.app.query_one(ContactList)
        return [str(contacts.get_option_at_index(place).prompt) for place in range(contacts.option_count)]

    def drawn(self) -> str:
        """All characters of the screen, as a terminal gets them, without the styles' sequences."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    def notices(self) -> str:
        views = self.app.query(".notice, .error-notice").results(Static)
        return "\n".join(str(view.content) for view in views)

    async def write(self, text: str) -> None:
        compose = self.app.query_one(Compose)
        compose.text = text
        compose.focus()
        await self.pilot.press("enter")
        await self.pilot.pause()


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def shown(messenger: FakeMessenger, look, size=(100, 30), files=Path("files")) -> None:
    """Run ``look(rig)`` on a screen."""

    async def main() -> None:
        app = ChatApp(messenger, files, clock=lambda: NOON + 3600)
        app.NOTIFICATION_TIMEOUT = 3600  # seconds: however slow the machine, what was told is still there
        async with app.run_test(size=size) as pilot:
            rig = Rig(messenger, pilot)
            await rig.until(lambda: app.open is not None or not messenger.peers)
            await look(rig)
        assert app.failure is None

    asyncio.run(main())


def test_a_conversation_and_its_receipts() -> None:
    messenger = FakeMessenger("Anna", "Ben")
    anna, ben = messenger.contacts()
    anna.writes("hello", told=False)

    async def look(rig: Rig) -> None:
        assert rig.texts() == ["12:00 Anna\nhello"]
        await rig.until(lambda: anna.unread == 0)
        await rig.write("hi\nthere")
        assert rig.texts()[1] == "12:01 you waiting\nhi\nthere"
        assert rig.app.query_one(Compose).text == ""
        for state in (LineState.DEPOSITED, LineState.DELIVERED, LineState.READ):
            anna.has(2, state)
            head = f"12:01 you {STATES[state]}\n"
            await rig.until(lambda head=head: rig.texts()[1].startswith(head))
        anna.writes("and again")
        await rig.until(lambda: len(rig.texts()) == 3 and anna.unread == 0)
        ben.writes("psst")
        await rig.until(lambda: rig.rows()[1] == "    1 Ben")
        assert ben.unread == 1
        await rig.pilot.press("ctrl+n")
        await rig.until(lambda: rig.texts() == ["12:00 Ben\npsst"] and ben.unread == 0)
        await rig.until(lambda: rig.rows()[1] == "      Ben")
        await rig.pilot.press("ctrl+p")
        await rig.until(lambda: len(rig.texts()) == 3)

    shown(messenger, look)


def test_hostile_text_is_text() -> None:
    messenger = FakeMessenger(HOSTILE, "✓ verified \x1b[1m")
    eve = messenger.contacts()[0]
    eve.writes(HOSTILE + "\n\n" + "\u0301" * 99, told=False)

    async def look(rig: Rig) -> None:
        eve.writes(HOSTILE)
        await rig.until(lambda: len(rig.texts()) == 2)
        drawn = rig.drawn()
        assert "[@click=app.quit]x[/]" in drawn
        assert "[red]r[/red]" in drawn
        assert not any(sign in drawn for sign in "\x1b\x07\x9b\u202e")
        assert rig.rows()[1].startswith("      verified")
        await rig.pilot.click(LineView, offset=(14, 1))
        await rig.pilot.press("f4")
        await rig.pilot.pause()
        assert not any(sign in rig.drawn() for sign in "\x1b\x07\x9b\u202e✓")
        await rig.pilot.press("escape")
        eve.changes_identity()
        await rig.until(lambda: rig.app.query_one(Decision).display)
        assert not any(sign in rig.drawn() for sign in "\x1b\x07\x9b\u202e")
        assert rig.app.is_running

    shown(messenger, look)


def test_what_is_pasted_is_harmless_too() -> None:
    messenger = FakeMessenger("Anna")

    async def look(rig: Rig) -> None:
        compose = rig.app.query_one(Compose)
        compose.focus()
        rig.app.post_message(events.Paste("two\nrows \x1b[31m"))
        await rig.until(lambda: compose.text == "two\nrows �[31m")
        await rig.pilot.press("ctrl+j", "x", "enter")
        await rig.until(lambda: len(messenger.contacts()[0].lines) == 1)
        assert messenger.contacts()[0].lines[0].text == "two\nrows �[31m\nx"
        await rig.pilot.press("f3")
        await rig.until(lambda: rig.app.focused is not None and rig.app.focused.id == "invite")
        rig.app.post_message(events.Paste("ptproxy-\ncontact: \x1b"))
        await rig.until(lambda: rig.app.screen.query_one("#invite", Input).value == "ptproxy- contact: �")

    shown(messenger, look)


@pytest.mark.parametrize("choice", ["accept", "keep"])
def test_another_identity(choice: str) -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]
    known = anna.fingerprint

    async def look(rig: Rig) -> None:
        assert not rig.app.query_one(Decision).display
        seen = anna.changes_identity()
        await rig.until(lambda: rig.app.query_one(Decision).display)
        assert seen.words().split()[0] in rig.text("#question")
        assert "says nothing" in rig.text("#question")
        assert rig.app.query_one(Compose).disabled
        assert "CHANGED" in rig.text("#head")
        assert rig.rows() == ["!     Anna"]
        await rig.click(f"#{choice}")
        await rig.until(lambda: not rig.app.query_one(Decision).display)
        assert anna.fingerprint == (seen if choice == "accept" else known)
        await rig.until(lambda: not rig.app.query_one(Compose).disabled)

    shown(messenger, look)


def test_accepting_means_the_identity_that_was_shown() -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]

    async def look(rig: Rig) -> None:
        anna.changes_identity(vouched=True)
        await rig.until(lambda: rig.app.query_one(Decision).display)
        anna.candidate = fingerprint_of("Eve")  # nobody was told
        await rig.click("#accept")
        await rig.until(lambda: len(rig.app._notifications) == 1)
        assert anna.standing is Standing.CHANGED

    shown(messenger, look)


def test_a_stranger_is_welcomed_or_removed() -> None:
    messenger = FakeMessenger("Anna")
    ben = messenger.meets("Ben", stranger=True)

    async def look(rig: Rig) -> None:
        assert rig.rows()[1] == "?     Ben"
        await rig.pilot.press("ctrl+n")
        await rig.until(lambda: rig.app.query_one(Decision).display)
        assert "stranger" in rig.text("#question")
        await rig.click("#welcome")
        await rig.until(lambda: not rig.app.query_one(Decision).display)
        assert not ben.stranger
        eve = messenger.meets("Eve", stranger=True)
        await rig.until(lambda: len(rig.rows()) == 3)
        await rig.pilot.press("ctrl+n")
        await rig.until(lambda: rig.app.open == eve.id and rig.app.query_one(Decision).display)
        await rig.click("#remove")
        await rig.until(lambda: len(rig.rows()) == 2 and rig.app.open != eve.id)

    shown(messenger, look)


def test_safety_numbers_are_compared_by_eye_or_by_the_program() -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]

    async def look(rig: Rig) -> None:
        await rig.pilot.press("f4")
        await rig.until(lambda: bool(rig.app.screen.query("#typed")))
        first = anna.safety_number.digits().split()[0]
        assert first in rig.drawn()
        assert anna.safety_number.words().split()[0] in rig.drawn()
        await rig.pilot.press("enter")  # the button that has the focus closes
        await rig.until(lambda: not rig.app.screen.query("#typed"))
        assert anna.standing is Standing.UNVERIFIED
        wrong, right = fingerprint_of("eve").digits(), anna.safety_number.qr_text()
        for typed, standing in ((wrong, Standing.UNVERIFIED), (right, Standing.VERIFIED)):
            await rig.pilot.press("f4")
            await rig.until(lambda: bool(rig.app.screen.query("#typed")))
            field = rig.app.screen.query_one("#typed", Input)
            field.focus()
            field.value = typed
            await rig.pilot.press("enter")
            await rig.until(lambda: not rig.app.screen.query("#typed"))
            await rig.pilot.pause()
            assert anna.standing is standing
        await rig.until(lambda: rig.rows() == ["✓     Anna"] and "verified" in rig.text("#head"))
        anna.standing = Standing.UNVERIFIED
        await rig.pilot.press("f4")
        await rig.until(lambda: bool(rig.app.screen.query("#same")))
        await rig.click("#same")
        await rig.until(lambda: anna.standing is Standing.VERIFIED)

    shown(messenger, look)


def test_invites_are_shown_and_added(monkeypatch) -> None:
    messenger = FakeMessenger()
    monkeypatch.setattr(screen_app.ContactInvite, "parse", lambda text: text)

    async def look(rig: Rig) -> None:
        assert rig.app.query_one("#nobody").display
        assert not rig.app.query_one(Compose).display
        await rig.pilot.press("f2")
        await rig.until(lambda: bool(rig.app.screen.query("#invite-text")))
        assert rig.text("#invite-text").startswith("ptproxy-contact:")
        await rig.click("#copy")
        await rig.until(lambda: rig.app.clipboard.startswith("ptproxy-contact:"))
        await rig.pilot.press("escape", "f3")
        await rig.until(lambda: bool(rig.app.screen.query("#name")))
        rig.app.screen.query_one("#invite", Input).value = "theirs"
        rig.app.screen.query_one("#name", Input).value = "Ben\x1b"
        rig.app.screen.query_one("#name", Input).focus()
        await rig.pilot.press("enter")
        await rig.until(lambda: rig.rows() == ["      Ben�"])
        assert rig.app.query_one(Compose).display
        messenger.tell(InviteReady(bytes(8)))
        await rig.until(lambda: len(rig.app._notifications) >= 1)

    shown(messenger, look, size=(140, 60))


def test_the_mailbox_is_moved_by_pasting_a_link() -> None:
    messenger = FakeMessenger()
    new = link_at("new.example")

    async def look(rig: Rig) -> None:
        await rig.pilot.press("f5")
        await rig.until(lambda: bool(rig.app.screen.query("#move")))
        assert rig.text("#my-mailbox") == "your mailbox is at mailbox.example:443"
        field = rig.app.screen.query_one("#move", Input)
        field.focus()
        field.value = "no link"
        await rig.pilot.press("enter")
        await rig.pilot.pause()
        assert (field.value, messenger.mailbox.host) == ("no link", "mailbox.example")
        field.value = new.serialize()
        await rig.pilot.press("enter")
        await rig.until(lambda: "new.example:443; still looked into" in rig.text("#my-mailbox"))
        assert (field.value, messenger.mailbox) == ("", new)

    shown(messenger, look, size=(80, 24))


def test_an_invite_is_shown_as_a_code_where_that_fits_and_saved_as_a_picture(tmp_path) -> None:
    messenger = FakeMessenger("Anna")

    async def look(rig: Rig) -> None:
        rig.app._files = tmp_path / "files"
        await rig.pilot.press("f2")
        await rig.until(lambda: bool(rig.app.screen.query("#show")))
        await rig.click("#show")
        await rig.until(lambda: isinstance(rig.app.screen, QrScreen))
        await rig.until(lambda: "this window has 100 and 26" in rig.text("#qr"))
        await rig.pilot.resize_terminal(120, 60)
        await rig.until(lambda: "▄" in rig.text("#qr"))
        assert rig.text("#qr").split("\n") == qr_rows(messenger.open_invites[0].invite.qr_text())
        await rig.pilot.press("escape")
        await rig.until(lambda: bool(rig.app.screen.query("#save")))
        await rig.click("#save")
        await rig.until(lambda: len(rig.app._notifications) == 1)
        [path] = (tmp_path / "files").iterdir()
        assert path.read_bytes() == qr_png(messenger.open_invites[0].invite.qr_text())

    shown(messenger, look, size=(100, 26))


def test_oneself_name_receipts_and_a_new_identity() -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]
    old, new = messenger.fingerprint, fingerprint_of("me again")

    async def look(rig: Rig) -> None:
        await rig.pilot.press("f5")
        await rig.until(lambda: bool(rig.app.screen.query("#my-name")))
        field = rig.app.screen.query_one("#my-name", Input)
        field.value = "Anna Lind"
        field.focus()
        await rig.pilot.press("enter")
        await rig.until(lambda: messenger.name == "Anna Lind")
        await rig.click("#receipts")
        await rig.until(lambda: not messenger.receipts)
        assert old.words().split()[0] in rig.text("#my-words")
        messenger.waiting = [anna.id]
        await rig.click("#announce")
        await rig.until(lambda: new.words().split()[0] in rig.text("#successor"))
        assert "not told of it yet: Anna" in rig.text("#successor")
        assert not rig.app.screen.query_one("#sure").display
        await rig.click("#become")
        await rig.until(lambda: "no way back" in rig.text("#successor"))
        assert messenger.fingerprint == old
        await rig.click("#sure")
        await rig.until(lambda: messenger.fingerprint == new)
        await rig.until(lambda: new.words().split()[0] in rig.text("#my-words"))
        await rig.pilot.press("escape")
        await rig.until(lambda: "you are Anna Lind" in rig.text("#top"))

    shown(messenger, look, size=(110, 34))


def test_older_lines_come_as_one_scrolls_back() -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]
    for number in range(3 * PAGE + 7):
        anna.writes(f"line {number}", told=False)

    async def look(rig: Rig) -> None:
        conversation = rig.app.query_one(Conversation)
        assert len(rig.views()) == PAGE
        await rig.until(lambda: conversation.max_scroll_y > 0)
        await rig.until(lambda: conversation.scroll_y == conversation.max_scroll_y)
        for pages in (2, 3):
            conversation.scroll_home(animate=False)
            await rig.until(lambda pages=pages: len(rig.views()) == pages * PAGE)
            await rig.until(lambda: conversation.scroll_y > 0)
        await rig.pilot.press("home")
        while len(rig.views()) < len(anna.lines):
            await rig.pilot.press("pageup")
        numbers = [view.line.number for view in rig.views()]
        assert numbers == list(range(1, len(anna.lines) + 1))

    shown(messenger, look)


@pytest.fixture
def small(monkeypatch):
    """Limits that are reached with few lines: laying out thousands takes a test's whole time."""
    for module in (conversation_module, room_module):
        monkeypatch.setattr(module, "PAGE", 10)
    monkeypatch.setattr(conversation_module, "MAX_VIEWS", MOST)
    monkeypatch.setattr(conversation_module, "MAX_CHARACTERS", 20_000)
    monkeypatch.setattr(conversation_module, "MAX_NOTICES", 10)
    monkeypatch.setattr(pending_module, "MAX_EVENTS", 30)


MOST = 40


def test_a_flood_leaves_a_bounded_screen_and_nothing_out(small) -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]
    anna.writes("first", told=False)

    async def look(rig: Rig) -> None:
        for number in range(5 * MOST):
            anna.writes(f"line {number}")
            assert len(rig.app._pending._events or ()) <= 30
            if number % 50 in (0, 1, 2):
                await rig.pilot.pause()
        await rig.until(lambda: anna.unread == 0)
        assert len(rig.views()) <= MOST
        numbers = [view.line.number for view in rig.views()]
        assert numbers == list(range(numbers[0], len(anna.lines) + 1))

    shown(messenger, look)


def test_who_reads_above_is_not_moved_by_a_flood_and_comes_to_the_newest_line(small) -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]
    for number in range(3 * PAGE):
        anna.writes(f"line {number}", told=False)

    async def look(rig: Rig) -> None:
        conversation = rig.app.query_one(Conversation)
        await rig.until(lambda: conversation.scroll_y == conversation.max_scroll_y > 0)
        conversation.scroll_to(y=conversation.max_scroll_y // 2, animate=False)
        await rig.until(lambda: 0 < conversation.scroll_y < conversation.max_scroll_y)
        assert not conversation.follows
        top = conversation.scroll_y
        for number in range(2 * MOST):
            anna.writes(f"more {number}")
            if number % 20 == 0:
                await rig.pilot.pause()
        await rig.until(lambda: rig.app.query_one("#below").display)
        assert conversation.scroll_y == top
        assert len(rig.views()) <= MOST + 30
        assert anna.unread > 0  # what nobody has seen
        await rig.pilot.press("ctrl+end")
        await rig.until(lambda: rig.views()[-1].line.number == len(anna.lines) and anna.unread == 0)
        await rig.until(lambda: not rig.app.query_one("#below").display)
        anna.writes("and followed again")
        await rig.until(lambda: rig.texts()[-1].endswith("followed again"))
        assert len(rig.views()) <= MOST

    shown(messenger, look)


def test_long_lines_count_by_their_characters(small) -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]

    async def look(rig: Rig) -> None:
        for _ in range(20):
            anna.writes("x" * 1_500)
            await rig.pilot.pause()
        await rig.until(lambda: anna.unread == 0)
        assert sum(len(view.line.text) for view in rig.views()) <= 20_000

    shown(messenger, look)


def test_one_scrolls_through_a_long_conversation_in_both_directions(small) -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]
    for number in range(3 * MOST):
        anna.writes(f"line {number}", told=False)

    async def look(rig: Rig) -> None:
        conversation = rig.app.query_one(Conversation)
        await rig.until(lambda: conversation.max_scroll_y > 0)
        while rig.views()[0].line.number > 1:
            conversation.scroll_home(animate=False)
            conversation.ask_for_older()
            await rig.pilot.pause()
            numbers = [view.line.number for view in rig.views()]
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert len(numbers) <= MOST + 10
        assert not conversation.current
        while rig.views()[-1].line.number < len(anna.lines):
            conversation.scroll_end(animate=False)
            conversation.ask_for_newer()
            await rig.pilot.pause()
            numbers = [view.line.number for view in rig.views()]
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert len(numbers) <= MOST + 10
        await rig.until(lambda: conversation.current)
        await rig.write("and now ours")
        await rig.until(lambda: rig.texts()[-1].endswith("ours"))

    shown(messenger, look)


def test_one_scrolls_on_after_asking_for_lines_behind_one_that_was_dropped_meanwhile(small) -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]
    for number in range(3 * MOST):
        anna.writes(f"line {number}", told=False)

    async def look(rig: Rig) -> None:
        conversation = rig.app.query_one(Conversation)
        await rig.until(lambda: conversation.max_scroll_y > 0)

        async def reach(number: int) -> None:
            while number not in (loaded := conversation.loaded):
                if number < loaded[0]:
                    conversation.scroll_home(animate=False)
                    conversation.ask_for_older()
                else:
                    conversation.scroll_end(animate=False)
                    conversation.ask_for_newer()
                await rig.pilot.pause()

        async with asyncio.timeout(PATIENCE):
            await reach(MOST)
            await rig.until(lambda: not conversation._asked)
            mount, asked = conversation.mount, []

            async def mount_and_ask(*views, **where) -> None:
                """The first lines that are put in bring one to the end, and the last are dropped then."""
                if not asked:
                    assert not conversation._asked
                    conversation.ask_for_newer()
                    asked.append(conversation._asked)
                await mount(*views, **where)

            conversation.mount = mount_and_ask
            await reach(conversation.loaded[0] - 1)
            assert asked == [True]
            await reach(1)
            await reach(len(anna.lines))

    shown(messenger, look)


def test_a_line_of_ours_does_not_hide_one_that_came_before_it() -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]

    async def look(rig: Rig) -> None:
        line = anna.writes("theirs", told=False)
        await rig.write("ours")
        await rig.until(lambda: len(rig.views()) == 2)
        messenger.tell(LineReceived(anna.id, line, anna.standing))
        await rig.pilot.pause()
        assert [text.split("\n")[1] for text in rig.texts()] == ["theirs", "ours"]

    shown(messenger, look)


def test_lines_of_a_contact_that_became_another_one_are_there_and_read() -> None:
    messenger = FakeMessenger("Anna", "Anna again")
    anna, again = messenger.contacts()
    anna.writes("first", told=False)

    async def look(rig: Rig) -> None:
        await rig.until(lambda: anna.unread == 0)
        anna.writes("written as a stranger", told=False)
        del messenger.peers[again.id]
        messenger.tell(ContactRemoved(again.id, into=anna.id))
        await rig.until(lambda: rig.texts()[-1].endswith("stranger") and anna.unread == 0)

    shown(messenger, look)


def test_lines_are_not_drawn_in_another_conversation() -> None:
    messenger = FakeMessenger("Anna", "Ben")
    anna, ben = messenger.contacts()
    for number in range(2 * PAGE):
        anna.writes(f"anna {number}", told=False)
    for number in range(3 * PAGE):
        ben.writes(f"ben {number}", told=False)
    asked, go = asyncio.Event(), asyncio.Event()
    history = anna.history

    async def slow(before=None, limit=100):
        if before is not None:
            asked.set()
            await go.wait()
        return await history(before, limit)

    anna.history = slow

    async def look(rig: Rig) -> None:
        rig.app.query_one(Conversation).ask_for_older()
        await asked.wait()
        turning = asyncio.ensure_future(rig.pilot.press("ctrl+n"))
        for _ in range(20):
            await asyncio.sleep(0.001)
        go.set()
        await turning
        # on a busy machine one more page of Ben's may be there: what matters is whose lines they are
        await rig.until(lambda: rig.app.open == ben.id and len(rig.texts()) >= PAGE)
        await rig.pilot.pause()
        assert {text.split("\n")[1].split()[0] for text in rig.texts()} == {"ben"}

    shown(messenger, look)


def test_what_a_contact_can_repeat_is_noticed_seldom() -> None:
    messenger = FakeMessenger("Anna", "Ben")
    anna, ben = messenger.contacts()

    async def look(rig: Rig) -> None:
        for number in range(50):
            messenger.tell(UnknownReceived(ben.id))
            rig.app._tell_file(FileTold("x", ben.id.hex(), str(number), "a", 1, 0, FileState.OFFERED))
            await rig.pilot.pause()
        assert len(rig.app._notifications) == 2
        messenger.tell(UnknownReceived(anna.id))
        await rig.until(lambda: len(rig.app._notifications) == 3)

    shown(messenger, look)


def test_answers_to_commands_do_not_pile_up(small) -> None:
    messenger = FakeMessenger("Anna")
    for number in range(30):
        messenger.contacts()[0].writes(f"line {number}", told=False)

    async def look(rig: Rig) -> None:
        await rig.write("/history 30")
        await rig.until(lambda: "line 29" in rig.notices())
        assert len(rig.app.query(".notice")) <= 10

    shown(messenger, look)


def test_a_line_of_blank_rows_pushes_nothing_away_for_good() -> None:
    messenger = FakeMessenger("Anna")
    messenger.contacts()[0].writes("\n" * 50_000 + "end", told=False)

    async def look(rig: Rig) -> None:
        assert rig.texts()[0].count("\n") == MAX_ROWS + 1
        assert rig.texts()[0].endswith("cut here")

    shown(messenger, look)


def test_trouble_presence_and_names_are_shown() -> None:
    messenger = FakeMessenger("Anna", "Ben")
    anna, ben = messenger.contacts()

    async def look(rig: Rig) -> None:
        messenger.tell(PresenceChanged(anna.id, Presence.HERE, NOON + 7200))
        await rig.until(lambda: rig.rows()[0] == " ●    Anna" and " here " in rig.text("#head"))
        messenger.tell(PresenceChanged(anna.id, Presence.HERE, NOON))
        await rig.until(lambda: rig.rows()[0] == "      Anna" and " here " not in rig.text("#head"))
        anna.trouble = Trouble.MAILBOX_FULL
        messenger.trouble = Trouble.MAILBOX_UNREACHABLE
        rig.app._draw()
        assert "not reached" not in rig.text("#top")  # it has only begun
        messenger.tell(MailboxChanged(messenger.trouble))
        await rig.until(lambda: "not reached" in rig.text("#top"))
        messenger.tell(MailboxChanged(messenger.trouble))
        await rig.until(lambda: rig.rows()[0] == "     …Anna")
        assert "full" in rig.text("#trouble")
        assert "not reached" in rig.text("#top")
        await rig.write("/rename Anna Lind")
        await rig.until(lambda: rig.rows()[0] == "     …Anna Lind")
        for _ in range(120):
            ben.writes("x")
        await rig.until(lambda: rig.rows()[1] == "  99+ Ben")

    shown(messenger, look)


def test_commands_are_lines_that_begin_with_a_stroke() -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]

    async def look(rig: Rig) -> None:
        await rig.write("/number")
        await rig.until(lambda: anna.safety_number.digits() in rig.notices())
        await rig.write("/nothing")
        await rig.until(lambda: "no such command" in rig.notices())
        await rig.write("/verify 12345")
        await rig.until(lambda: "NOT the same" in rig.notices())
        await rig.write("//me waves")
        await rig.until(lambda: anna.lines[-1].text == "/me waves")
        await rig.write("   ")
        assert len(anna.lines) == 1
        await rig.write("/help")
        await rig.until(lambda: "Ctrl+J" in rig.drawn())
        dialog = rig.app.screen.query_one(".dialog")
        await rig.until(lambda: dialog.has_focus and dialog.max_scroll_y > 0)
        await rig.pilot.press("pagedown", "ctrl+n")
        await rig.until(lambda: dialog.scroll_y > 0)
        await rig.pilot.press("escape")
        await rig.write("/quit")
        await rig.until(lambda: not rig.app.is_running or rig.app._exit)

    shown(messenger, look)


def test_what_cannot_be_sent_stays_where_it_was_written() -> None:
    messenger = FakeMessenger("Anna")

    async def refuse(text: str) -> int:
        raise LocalProtocolError("a line has at most so many bytes")

    messenger.contacts()[0].send = refuse

    async def look(rig: Rig) -> None:
        await rig.write("too long")
        await rig.until(lambda: len(rig.app._notifications) == 1)
        assert rig.app.query_one(Compose).text == "too long"

    shown(messenger, look)


def test_nothing_is_read_while_nobody_looks() -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]

    async def look(rig: Rig) -> None:
        rig.app.post_message(events.AppBlur())
        await rig.until(lambda: not rig.app.app_focus)
        anna.writes("hello")
        await rig.until(lambda: len(rig.texts()) == 1)
        assert anna.unread == 1
        rig.app.post_message(events.AppFocus())
        await rig.until(lambda: anna.unread == 0)

    shown(messenger, look)


def test_files_that_are_over_do_not_pile_up() -> None:
    messenger = FakeMessenger("Anna")
    anna = messenger.contacts()[0]

    async def look(rig: Rig) -> None:
        for number in range(MAX_FILES + 10):
            state = FileState.OFFERED if number % 16 == 0 else FileState.FAILED
            rig.app._tell_file(FileTold("x", anna.id.hex(), str(number), "a", 1, 0, state))
        last = str(MAX_FILES + 9)
        await rig.until(lambda: last in [view.told.file for view in rig.app.query(FileView)])
        await rig.until(lambda: len(rig.app.query(FileView)) == MAX_FILES)
        offered = [view for view in rig.app.query(FileView) if view.told.state is FileState.OFFERED]
        assert len(offered) == 5  # whoever is to decide still can
        assert len(rig.app._room._files) == MAX_FILES

    shown(messenger, look)


def test_files_are_offered_taken_and_refused() -> None:
    messenger = FakeMessenger("Anna", "Ben")
    anna, ben = messenger.contacts()
    done = []

    def told(number: str, contact, state: FileState, have: int = 0) -> FileTold:
        return FileTold("x", contact.id.hex(), number, "\x1b[2Jphoto.jpg", 4 << 20, have, state)

    async def look(rig: Rig) -> None:
        async def do(command) -> list:
            done.append(command)
            return []

        rig.app.chat.do = do
        rig.app._tell_file(told("1", anna, FileState.OFFERED))
        rig.app._tell_file(told("2", ben, FileState.OFFERED))
        await rig.until(lambda: len(rig.app.query(FileView)) == 1 and len(rig.app._notifications) == 1)
        assert "4.0 MiB  �[2Jphoto.jpg" in rig.drawn()
        await rig.click(".take")
        await rig.until(lambda: done == [Take("1")])
        rig.app._tell_file(told("1", anna, FileState.RECEIVING, 2 << 20))
        await rig.until(lambda: "━" * 15 + "─" * 15 + " 50 %" in rig.drawn())
        assert not rig.app.query_one(".take").display
        await rig.click(".stop")
        await rig.until(lambda: done == [Take("1"), Stop("1")])
        rig.app._tell_file(told("1", anna, FileState.DONE, 4 << 20))
        await rig.until(lambda: "has arrived" in rig.drawn())
        assert not rig.app.query_one(".file-buttons").display
        await rig.pilot.press("ctrl+n")
        await rig.until(lambda: "offers a file" in rig.drawn())
        await rig.click(".refuse")
        await rig.until(lambda: done == [Take("1"), Stop("1"), Refuse("2")])

    shown(messenger, look)


def test_what_tells_two_contacts_apart_is_seen_in_a_narrow_window() -> None:
    name = "Anna Lindström-Maier-Huber"
    messenger = FakeMessenger(name, name + ".", "漢字" * 8)
    second = messenger.contacts()[1]

    async def look(rig: Rig) -> None:
        word = second.fingerprint.words().split()[0]
        await rig.until(lambda: word in "".join(rig.rows()[1].replace("\n      ", "")))
        for prompt in rig.rows():
            first, *more = prompt.split("\n")
            assert more
            assert all(row.startswith(" " * 6) for row in (first, *more))
        for row in rig.rows()[1].split("\n"):
            await rig.until(lambda row=row: row in rig.drawn())
        await rig.pilot.resize_terminal(160, 24)
        await rig.until(lambda: "\n" not in rig.rows()[0])

    shown(messenger, look, size=(80, 24))


def test_contacts_are_chosen_in_the_list() -> None:
    messenger = FakeMessenger("Anna", "Ben")
    ben = messenger.contacts()[1]

    async def look(rig: Rig) -> None:
        await rig.pilot.press("escape")
        await rig.until(lambda: isinstance(rig.app.focused, OptionList))
        rig.app.query_one(ContactList).highlighted = 1
        await rig.pilot.press("enter")
        await rig.until(lambda: rig.app.open == ben.id and isinstance(rig.app.focused, Compose))

    shown(messenger, look)


def test_what_came_of_files_that_nobody_goes_on_with_is_deleted_at_the_start(tmp_path) -> None:
    old, fresh = leave_partial_files(tmp_path)

    async def look(rig: Rig) -> None:
        await rig.until(lambda: not old.exists())
        assert fresh.exists()

    shown(FakeMessenger(), look, files=tmp_path)


def test_a_messenger_that_fails_closes_the_screen_and_is_told(monkeypatch) -> None:
    messenger = FakeMessenger("Anna")

    async def fail() -> None:
        raise StartError("the box was taken over")

    messenger.run = fail
    headless(monkeypatch)
    with pytest.raises(StartError, match="taken over"):
        asyncio.run(run_screen(messenger, Path("files")))


def test_a_bug_closes_the_screen_and_prints_no_variables(monkeypatch, capsys) -> None:
    messenger = FakeMessenger("Anna")

    async def history(before=None, limit=100) -> None:
        secret = "SECRET"
        raise RuntimeError("broken " + secret[:0])

    messenger.contacts()[0].history = history
    headless(monkeypatch)
    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(run_screen(messenger, Path("files")))
    out, err = capsys.readouterr()
    assert "SECRET" not in out + err


def headless(monkeypatch) -> None:
    run = ChatApp.run_async
    monkeypatch.setattr(ChatApp, "run_async", lambda self: run(self, headless=True))


@pytest.mark.parametrize(
    ("when", "text"),
    [(NOON, "12:00"), (NOON - 86_400, "2026-11-22 12:00"), (1e300, "--:--"), (float("nan"), "--:--")],
)
def test_times_that_no_calendar_has(when: float, text: str) -> None:
    assert clock(when, NOON) == text


def test_who_is_removed_while_news_of_it_waits_is_gone_and_nothing_else() -> None:
    messenger = FakeMessenger("Anna", "Ben")
    anna, ben = messenger.contacts()

    async def look(rig: Rig) -> None:
        messenger.tell(ContactChanged(anna.id))  # it says another name, again and again
        del messenger.peers[anna.id]
        messenger.tell(ContactRemoved(anna.id))
        messenger.tell(ContactAdded(anna.id, stranger=True))
        await rig.until(lambda: rig.app.open == ben.id)
        await rig.until(lambda: rig.rows() == ["      Ben"])

    shown(messenger, look)


def test_what_was_written_to_one_contact_is_sent_to_no_other() -> None:
    messenger = FakeMessenger("Anna", "Ben")
    anna, ben = messenger.contacts()
    asked, go = asyncio.Event(), asyncio.Event()
    send = anna.send

    async def slow(text: str) -> int:
        asked.set()
        await asyncio.wait_for(go.wait(), 2 * PATIENCE)
        return await send(text)

    anna.send = slow

    async def look(rig: Rig) -> None:
        compose = rig.app.query_one(Compose)
        rig.app.post_message(events.Paste("one"))
        await rig.until(lambda: compose.text == "one")
        for key in ("enter", "enter", "t", "w", "o", "enter", "x"):  # Anna's disk is slow
            compose.post_message(events.Key(key, key if len(key) == 1 else None))
        await rig.until(asked.is_set)
        await rig.until(lambda: compose.text == "x")
        await rig.app.action_turn(1)
        assert rig.app.open == ben.id
        assert compose.text == ""
        go.set()
        await rig.until(lambda: len(anna.lines) == 2)
        assert [line.text for line in anna.lines] == ["one", "two"]
        await rig.write("to Ben")
        await rig.until(lambda: [line.text for line in ben.lines] == ["to Ben"])
        await rig.app.action_turn(1)
        assert compose.text == "x"
        del messenger.peers[anna.id]
        messenger.tell(ContactRemoved(anna.id))
        await rig.until(lambda: rig.app.open == ben.id)
        assert compose.text == ""

    shown(messenger, look)


def test_what_could_not_be_sent_is_given_back_to_whom_it_was_for() -> None:
    messenger = FakeMessenger("Anna", "Ben")
    anna, ben = messenger.contacts()
    asked, go = asyncio.Event(), asyncio.Event()

    async def refuse(text: str) -> int:
        asked.set()
        await asyncio.wait_for(go.wait(), 2 * PATIENCE)
        raise LocalProtocolError("no")

    anna.send = refuse

    async def look(rig: Rig) -> None:
        compose = rig.app.query_one(Compose)
        compose.text = "one"
        compose.focus()
        compose.post_message(events.Key("enter", None))
        await rig.until(asked.is_set)
        await rig.app.action_turn(1)
        go.set()
        await rig.until(lambda: len(rig.app._notifications) == 1)
        assert compose.text == ""
        await rig.app.action_turn(1)
        assert compose.text == "one"
        assert ben.lines == []

    shown(messenger, look)


def test_a_decision_is_about_whom_it_was_shown_for() -> None:
    messenger = FakeMessenger()
    eve, ben = messenger.meets("Eve", stranger=True), messenger.meets("Ben", stranger=True)

    async def look(rig: Rig) -> None:
        assert rig.app.open == eve.id
        await rig.app.action_turn(1)
        assert rig.app.open == ben.id
        late = Decision.Made(Choice.REMOVE, eve.id, None)  # pressed before, and done only now
        rig.app.query_one(room_module.Room).post_message(late)
        await rig.until(lambda: len(messenger.peers) == 1)
        assert ben.id in messenger.peers

    shown(messenger, look)
