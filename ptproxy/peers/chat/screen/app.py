"""The screen as a whole: which conversation is open, and what events and keys do to it.

Events of the messenger wait (``pending``) for a message in textual's own queue
(:class:`ChatApp.Happened`), so that they and the person's keys are done one after another. What changes
often (the list of contacts, the head of the conversation) is drawn again a moment after the first change,
once for all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Footer, OptionList, Static

from ptproxy.errors import PtproxyError
from ptproxy.peers.chat.chat import HERE_SECONDS, Chat
from ptproxy.peers.chat.screen.compose import Compose
from ptproxy.peers.chat.screen.contact_list import ContactList, ContactRow
from ptproxy.peers.chat.screen.conversation import Conversation
from ptproxy.peers.chat.screen.dialogs import AddDialog, HelpDialog, InviteDialog, ToAdd, VerifyDialog
from ptproxy.peers.chat.screen.own_dialog import OwnDialog
from ptproxy.peers.chat.screen.pending import Pending, Seldom
from ptproxy.peers.chat.screen.room import Room
from ptproxy.peers.chat.shown import shown_name
from ptproxy.peers.chat.told import TROUBLES, Record, Refused
from ptproxy.peers.chat.told_files import FileState, FileTold
from ptproxy.peers.contact_invite import ContactInvite
from ptproxy.peers.messenger import Messenger
from ptproxy.peers.messenger_events import (
    BridgesPassedOn,
    ContactId,
    ContactRemoved,
    Event,
    InviteReady,
    InviteUsed,
    MailboxChanged,
    PresenceChanged,
    Trouble,
    UnknownReceived,
)
from ptproxy.peers.payload import Presence
from ptproxy.peers.peer import Peer

REDRAW: Final = 0.05
"""Seconds after a change until the list and the head are drawn again, with all that changed meanwhile."""
GRACE: Final = 10.0
"""Seconds after the start in which a mailbox that is not reached yet is nothing to worry about."""
FADE: Final = 20.0
"""Seconds after which presence that has lapsed is looked for."""


class ChatApp(App[None]):
    """The chat, for a person in front of a terminal."""

    CSS_PATH = "chat.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help"),
        Binding("f2", "invite", "Invite"),
        Binding("f3", "add", "Add"),
        Binding("f4", "verify", "Safety number"),
        Binding("f5", "own", "You"),
        Binding("escape", "elsewhere", "Contacts"),
        Binding("ctrl+n", "turn(1)", "Next", priority=True),
        Binding("ctrl+p", "turn(-1)", "Previous", priority=True, show=False),
        Binding("pageup", "older", "Older", priority=True, show=False),
        Binding("pagedown", "newer", "Newer", priority=True, show=False),
        Binding("ctrl+end", "latest", "Newest", priority=True, show=False),
        Binding("ctrl+q", "quit", "Leave", priority=True),
    ]

    @dataclass
    class Happened(Message):
        """The messenger or a file has something to tell: it waits in :mod:`.pending`."""

    def __init__(self, messenger: Messenger, files: Path, clock: Callable[[], float] = time.time) -> None:
        """Files that are taken are saved in ``files``."""
        super().__init__()
        self.chat = Chat(messenger, files, self._tell_file)
        self.failure: BaseException | None = None
        """Why the messenger ended, to be raised when the screen is gone."""
        self._messenger = messenger
        self._files = files
        self._clock = clock
        self._room = Room(self.chat, clock)
        self._pending = Pending()
        self._seldom = Seldom()
        self._here_until: dict[ContactId, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stale = False
        self._mailbox_known = False
        """Whether our mailbox was reached, or had its time."""

    @property
    def open(self) -> ContactId | None:
        """Whose conversation is shown."""
        return self._room.open

    def compose(self) -> ComposeResult:
        """Contacts on the left, the open conversation on the right."""
        yield Static(id="top", markup=False)
        with Horizontal(id="rooms"):
            yield ContactList()
            yield self._room
        yield Footer()

    # ---- beginning and end

    async def on_mount(self) -> None:
        """Listen, run the messenger, open the first conversation."""
        self._messenger.on_event = self._tell
        self._tasks = [
            asyncio.ensure_future(self._run_messenger()),
            asyncio.ensure_future(self._keep_present()),
            asyncio.ensure_future(self.chat.files.tidy()),
        ]
        self.set_interval(FADE, self._changed)
        self.set_timer(GRACE, self._know_mailbox)
        first = next(iter(self.chat.roster), None)
        self._draw()
        await self._room.show(first.id if first is not None else None)
        self.query_one(Compose).focus()

    async def on_unmount(self) -> None:
        """End what runs beside the screen."""
        self._messenger.on_event = _nobody
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.chat.files.close()

    def _tell_file(self, record: Record) -> None:
        if isinstance(record, FileTold) and self._pending.put_file(record):
            self.post_message(self.Happened())

    def _tell(self, event: Event) -> None:
        if self._pending.put(event):
            self.post_message(self.Happened())

    async def _run_messenger(self) -> None:
        try:
            await self._messenger.run()
        except Exception as error:
            self.failure = error
            self.exit()

    async def _keep_present(self) -> None:
        while True:
            await asyncio.sleep(HERE_SECONDS / 2)
            await self.chat.tell_presence_again()

    def _fatal_error(self) -> None:
        """Textual would print a traceback with the values of all variables, keys and texts among them."""
        self._close_messages_no_wait()

    # ---- events of the messenger

    async def on_chat_app_happened(self, _: Happened) -> None:
        """What all that happened means for the screen."""
        events, files = self._pending.take()
        if not self.query(ContactList):  # the screen is being taken down
            return
        if events is None:
            self.chat.roster.refresh()
            await self._room.missed()
        else:
            for event in events:
                self._note(event, self.chat.told(event))
            await self._room.happened(events)
        if self._room.peer is None:
            first = next(iter(self.chat.roster), None)
            if self.open is not None or first is not None:
                await self._room.show(first.id if first is not None else None)
        for told in files:
            shown = await self._room.file_moved(told)
            if not shown and told.state is FileState.OFFERED and self._may("offer", told.contact):
                self.notify(f"a file is offered by {told.who}", markup=False)
        self._changed()

    def _note(self, event: Event, records: list[Record]) -> None:
        """What an event says besides that of lines."""
        if isinstance(event, MailboxChanged):
            self._mailbox_known = True
        elif isinstance(event, PresenceChanged):
            here = event.presence is Presence.HERE
            self._here_until[event.contact] = event.until if here else 0.0
        elif isinstance(event, ContactRemoved):
            self._here_until.pop(event.contact, None)
        elif isinstance(event, InviteReady | InviteUsed) or (
            isinstance(event, UnknownReceived | BridgesPassedOn)
            and self._may(type(event).__name__, event.contact)
        ):
            self._room.notify_records(records)

    def _may(self, what: str, contact: Hashable) -> bool:
        """Whether a notice that contacts can cause is shown again."""
        return self._seldom.may((what, contact), self._clock())

    def on_room_changed(self, _: Room.Changed) -> None:
        """Draw it all again."""
        self._changed()

    async def watch_app_focus(self, focused: bool) -> None:
        """The person looks here again, or away."""
        if focused and self.open is not None:
            await self._room.mark_read()

    # ---- drawing

    def _changed(self) -> None:
        """The list and the head are to be drawn again, soon."""
        if not self._stale:
            self._stale = True
            self.set_timer(REDRAW, self._draw)

    def _draw(self) -> None:
        self._stale = False
        if not self.query(ContactList):  # the screen is being taken down
            return
        now = self._clock()
        self.query_one(ContactList).show(self._row(peer, now) for peer in self.chat.roster)
        mailbox = TROUBLES[self._messenger.trouble] if self._mailbox_known else ""
        self.query_one("#top", Static).update(
            Content.assemble(
                ("ptproxy chat ", "bold"),
                (f" your mailbox: {mailbox} " if mailbox else "", "bold $warning reverse"),
                f"  you are {shown_name(self._messenger.name)}",
            )
        )
        there = self.open is not None and self._here_until.get(self.open, 0.0) > now
        self._room.draw(there=there)

    def _know_mailbox(self) -> None:
        self._mailbox_known = True
        self._changed()

    def _row(self, peer: Peer, now: float) -> ContactRow:
        return ContactRow(
            peer.id,
            self.chat.roster.label(peer.id),
            peer.standing,
            self._here_until.get(peer.id, 0.0) > now,
            peer.unread,
            peer.trouble is not Trouble.NONE,
            peer.stranger,
            peer.id == self.open,
        )

    # ---- keys

    async def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """A contact was chosen."""
        await self._room.show(self.query_one(ContactList).chosen(message.option))
        self.query_one(Compose).focus()

    async def action_turn(self, step: int) -> None:
        """The next or the previous conversation."""
        await self._room.show(self.query_one(ContactList).beside(self.open, step))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """In a dialog its own keys scroll, and nothing behind it changes."""
        if action in ("turn", "older", "newer", "latest") and len(self.screen_stack) > 1:
            return False
        return super().check_action(action, parameters)

    def action_older(self) -> None:
        """Scroll back; at the top, for older lines."""
        conversation = self.query_one(Conversation)
        if conversation.scroll_y == 0:
            conversation.ask_for_older()
        conversation.scroll_page_up(animate=False)

    def action_newer(self) -> None:
        """Scroll on; at the bottom, for newer lines."""
        conversation = self.query_one(Conversation)
        if conversation.scroll_y >= conversation.max_scroll_y:
            conversation.ask_for_newer()
        conversation.scroll_page_down(animate=False)

    async def action_latest(self) -> None:
        """To the newest line."""
        await self._room.latest()

    def action_elsewhere(self) -> None:
        """Between the contacts and writing."""
        contacts = self.query_one(ContactList)
        if contacts.has_focus:
            self.query_one(Compose).focus()
        else:
            contacts.focus()

    def action_help(self) -> None:
        """Keys and commands."""
        self.push_screen(HelpDialog())

    async def action_invite(self) -> None:
        """An invite to give away."""
        try:
            made = await self._messenger.invite()
        except PtproxyError as error:
            self._room.notify_records([Refused(str(error))])
            return
        day = time.strftime("%Y-%m-%d", time.gmtime(made.expires * 86_400))
        save = partial(self.chat.own.save_qr, made, self._files)
        self.push_screen(InviteDialog(made.invite.serialize(), made.invite.qr_text(), day, save))

    def action_own(self) -> None:
        """Ourselves."""
        self.push_screen(OwnDialog(self.chat.own, self.chat.do), lambda _: self._changed())

    def action_add(self) -> None:
        """Somebody's invite."""
        self.push_screen(AddDialog(), self._add)

    async def _add(self, to_add: ToAdd | None) -> None:
        if to_add is None:
            return
        try:
            peer = await self._messenger.add(ContactInvite.parse(to_add.invite))
            if to_add.name:
                await peer.rename(shown_name(to_add.name))
        except PtproxyError as error:
            self._room.notify_records([Refused(str(error))])
            return
        self.chat.roster.refresh()
        await self._room.show(peer.id)

    def action_verify(self) -> None:
        """Compare safety numbers with the open contact."""
        peer = self._room.peer
        if peer is None:
            return

        async def compare(typed: str | None) -> None:
            if typed is None:
                return
            try:
                same = await peer.compare(typed)
            except KeyError:  # the contact was removed meanwhile
                return
            if same:
                self.notify("verified", markup=False)
            else:
                self.notify(
                    "NOT the same. Compare once more; if it stays different, somebody stands between you.",
                    severity="error",
                    markup=False,
                )
            self._changed()

        label = self.chat.roster.label(peer.id)
        self.push_screen(VerifyDialog(peer.safety_number, label, peer.standing), compare)


def _nobody(_: Event) -> None:
    """Whom events are told when there is no screen any more."""


async def run_screen(messenger: Messenger, files: Path) -> None:
    """The screen until the person leaves; raises what ended the messenger, or the screen, before that."""
    app = ChatApp(messenger, files)
    await app.run_async()
    failure = app.failure or app._exception
    if failure is not None:
        raise failure
