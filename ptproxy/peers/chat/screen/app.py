"""The screen as a whole: which conversation is open, and what events and keys do to it.

Events of the messenger come as messages of textual's own queue (:class:`ChatApp.Happened`), so that they
and the person's keys are done one after another. What changes often (the list of contacts, the head
of the conversation) is drawn again a moment after the first change, once for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Footer, OptionList, Static

from ptproxy.e2e import Standing
from ptproxy.errors import PtproxyError
from ptproxy.peers.chat.chat import HERE_SECONDS, Chat
from ptproxy.peers.chat.commands import Command, CommandError, Quit, parse_slash
from ptproxy.peers.chat.screen.compose import Compose
from ptproxy.peers.chat.screen.contact_list import ContactList, ContactRow
from ptproxy.peers.chat.screen.conversation import PAGE, Conversation
from ptproxy.peers.chat.screen.decision import Choice, Decision
from ptproxy.peers.chat.screen.dialogs import AddDialog, HelpDialog, InviteDialog, ToAdd, VerifyDialog
from ptproxy.peers.chat.screen.drawn import STANDING_WORDS
from ptproxy.peers.chat.screen.file_view import FileView
from ptproxy.peers.chat.shown import shown_name, shown_text
from ptproxy.peers.chat.told import TROUBLES, FileState, FileTold, Record, Refused
from ptproxy.peers.contact_invite import ContactInvite
from ptproxy.peers.messenger import Messenger
from ptproxy.peers.messenger_events import (
    ContactId,
    Event,
    InviteReady,
    InviteUsed,
    LineDelivered,
    LineDeposited,
    LineFailed,
    LineRead,
    LineReceived,
    LineState,
    PresenceChanged,
    Trouble,
    UnknownReceived,
)
from ptproxy.peers.payload import Presence
from ptproxy.peers.peer import Peer

REDRAW: Final = 0.05
"""Seconds after a change until the list and the head are drawn again, with all that changed meanwhile."""
FADE: Final = 20.0
"""Seconds after which presence that has lapsed is looked for."""

NOBODY_YET: Final = "Nobody is here yet.\n\nF2 makes an invite to give away, F3 adds somebody by theirs."

_STATES: Final[dict[type, LineState]] = {
    LineDeposited: LineState.DEPOSITED,
    LineDelivered: LineState.DELIVERED,
    LineRead: LineState.READ,
    LineFailed: LineState.FAILED,
}


class ChatApp(App[None]):
    """The chat, for a person in front of a terminal."""

    CSS_PATH = "chat.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Help"),
        Binding("f2", "invite", "Invite"),
        Binding("f3", "add", "Add"),
        Binding("f4", "verify", "Safety number"),
        Binding("escape", "elsewhere", "Contacts/writing"),
        Binding("ctrl+n", "turn(1)", "Next", priority=True),
        Binding("ctrl+p", "turn(-1)", "Previous", priority=True, show=False),
        Binding("pageup", "older", "Older", priority=True, show=False),
        Binding("pagedown", "newer", "Newer", priority=True, show=False),
        Binding("ctrl+q", "quit", "Leave", priority=True),
    ]

    @dataclass
    class Happened(Message):
        """The messenger tells something."""

        event: Event

    @dataclass
    class FileMoved(Message):
        """A file was offered, or has come further."""

        told: FileTold

    def __init__(self, messenger: Messenger, files: Path, clock: Callable[[], float] = time.time) -> None:
        """Files that are taken are saved in ``files``."""
        super().__init__()
        self.chat = Chat(messenger, files, self._tell_file)
        self.open: ContactId | None = None
        """Whose conversation is shown."""
        self.failure: BaseException | None = None
        """Why the messenger ended, to be raised when the screen is gone."""
        self._messenger = messenger
        self._clock = clock
        self._files: dict[str, FileTold] = {}
        """Files by their numbers, as they stand."""
        self._here_until: dict[ContactId, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stale = False

    def compose(self) -> ComposeResult:
        """Contacts on the left, the open conversation on the right."""
        yield Static(id="top", markup=False)
        with Horizontal(id="rooms"):
            yield ContactList()
            with Vertical(id="room"):
                yield Static(id="head", markup=False)
                yield Decision()
                yield Static(id="nobody", markup=False)
                yield Conversation()
                yield Static(id="trouble", markup=False)
                yield Compose()
        yield Footer()

    # ---- beginning and end

    async def on_mount(self) -> None:
        """Listen, run the messenger, open the first conversation."""
        self._messenger.on_event = self._tell
        self._tasks = [
            asyncio.ensure_future(self._run_messenger()),
            asyncio.ensure_future(self._keep_present()),
        ]
        self.set_interval(FADE, self._changed)
        first = next(iter(self.chat.roster), None)
        self._draw()
        await self._show(first.id if first is not None else None)
        self.query_one(Compose).focus()

    async def on_unmount(self) -> None:
        """End what runs beside the screen."""
        self._messenger.on_event = _nobody
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.chat.files.close()

    def _tell_file(self, record: Record) -> None:
        if isinstance(record, FileTold):
            self.post_message(self.FileMoved(record))

    def _tell(self, event: Event) -> None:
        self.post_message(self.Happened(event))

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

    async def on_chat_app_happened(self, message: Happened) -> None:
        """What it means for the screen."""
        event = message.event
        if not self.query(ContactList):  # the screen is being taken down
            return
        contact: ContactId | None = getattr(event, "contact", None)
        records = self.chat.told(event)
        state = _STATES.get(type(event))
        if isinstance(event, LineReceived):
            if contact == self.open:
                label = self.chat.roster.label(event.contact)
                await self.query_one(Conversation).append(event.line, label, self._clock())
                await self._mark_read()
        elif state is not None and contact == self.open:
            self.query_one(Conversation).become(event.number, state)  # type: ignore[union-attr]
        elif isinstance(event, PresenceChanged):
            here = event.presence is Presence.HERE
            self._here_until[event.contact] = event.until if here else 0.0
        elif isinstance(event, InviteReady | InviteUsed | UnknownReceived):
            self._notify(records)
        if self._peer() is None:
            first = next(iter(self.chat.roster), None)
            if self.open is not None or first is not None:
                await self._show(first.id if first is not None else None)
        self._changed()

    async def on_chat_app_file_moved(self, message: FileMoved) -> None:
        """Its row in the conversation, and a notice for who looks at another one."""
        told = message.told
        self._files[told.file] = told
        if not self.query(ContactList):  # the screen is being taken down
            return
        if self.open is not None and told.contact == self.open.hex():
            await self.query_one(Conversation).show_file(told)
        elif told.state is FileState.OFFERED:
            self.notify(f"a file is offered by {told.who}", markup=False)

    async def on_file_view_decided(self, message: FileView.Decided) -> None:
        """A file is taken, or not."""
        self._notify(await self.chat.do(message.command))

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
        mailbox = TROUBLES[self._messenger.trouble]
        self.query_one("#top", Static).update(
            Content.assemble(
                ("ptproxy chat ", "bold"),
                (f" your mailbox: {mailbox} " if mailbox else "", "bold $warning reverse"),
                f"  you are {shown_name(self._messenger.name)}",
            )
        )
        self._draw_head(now)

    def _draw_head(self, now: float) -> None:
        peer = self._peer()
        label = self.chat.roster.label(peer.id) if peer is not None else ""
        self.query_one(Decision).show(peer, label)
        for name in ("#head", "#conversation", "#compose"):
            self.query_one(name).display = peer is not None
        nobody = self.query_one("#nobody", Static)
        nobody.display = peer is None
        trouble = self.query_one("#trouble", Static)
        waits = TROUBLES[peer.trouble] if peer is not None and peer.standing is not Standing.CHANGED else ""
        trouble.display = bool(waits)
        if peer is None:
            nobody.update(NOBODY_YET)
            return
        trouble.update(f"What you write waits: {waits}")
        here = [(" here ", "$success")] if self._here_until.get(peer.id, 0.0) > now else []
        self.query_one("#head", Static).update(
            Content.assemble(STANDING_WORDS[peer.standing], *here, (f" {label}", "bold"))
        )
        blocked = peer.standing is Standing.CHANGED
        writing = self.query_one(Compose)
        writing.disabled = blocked
        writing.placeholder = "decide first, above" if blocked else "write, Enter sends"

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

    def _notify(self, records: list[Record]) -> None:
        for record in records:
            if rows := record.rows():
                severe = isinstance(record, Refused)
                self.notify("\n".join(rows), severity="error" if severe else "information", markup=False)

    # ---- the open conversation

    def _peer(self) -> Peer | None:
        if self.open is None:
            return None
        try:
            return self._messenger.contact(self.open)
        except KeyError:
            return None

    async def _show(self, contact: ContactId | None) -> None:
        self.open = contact
        peer = self._peer()
        lines = await peer.history(limit=PAGE) if peer is not None else []
        label = self.chat.roster.label(contact) if contact is not None else ""
        self._draw_head(self._clock())
        conversation = self.query_one(Conversation)
        await conversation.show(lines, label, self._clock())
        for told in self._files.values():
            if contact is not None and told.contact == contact.hex():
                await conversation.show_file(told)
        await self._mark_read()
        self._changed()

    async def _mark_read(self) -> None:
        """What is on the screen counts as read, if the person looks at this window."""
        peer, newest = self._peer(), self.query_one(Conversation).newest
        if self.app_focus and peer is not None and newest is not None and peer.unread:
            with contextlib.suppress(KeyError):  # the contact was removed meanwhile
                await peer.mark_read(newest.number)
            self._changed()

    async def watch_app_focus(self, focused: bool) -> None:
        """The person looks here again, or away."""
        if focused and self.open is not None:
            await self._mark_read()

    async def on_conversation_older(self, message: Conversation.Older) -> None:
        """Older lines, as one scrolls back."""
        peer = self._peer()
        if peer is not None:
            lines = await peer.history(message.before, PAGE)
            label = self.chat.roster.label(peer.id)
            await self.query_one(Conversation).show_older(lines, label, self._clock())

    async def on_compose_submitted(self, message: Compose.Submitted) -> None:
        """A line, or a command."""
        text = message.text.strip()
        peer = self._peer()
        if not text or peer is None:
            return
        if text.startswith("/") and not text.startswith("//"):
            self.query_one(Compose).clear()
            await self._command(text, peer)
            return
        try:
            number = await peer.send(text.removeprefix("/") if text.startswith("//") else text)
        except PtproxyError as error:
            self._notify([Refused(str(error))])
            return
        self.query_one(Compose).clear()
        for line in await peer.history(number + 1, 1):
            await self.query_one(Conversation).append(line, "", self._clock())
        self._changed()

    async def _command(self, text: str, peer: Peer) -> None:
        if text == "/help":
            self.action_help()
            return
        try:
            command: Command = parse_slash(text, self.chat.roster.label(peer.id))
        except CommandError as error:
            await self.query_one(Conversation).notice([shown_text(str(error))], error=True)
            return
        if isinstance(command, Quit):
            self.exit()
            return
        for record in await self.chat.do(command):
            if rows := record.rows():
                await self.query_one(Conversation).notice(rows, error=isinstance(record, Refused))
        self._changed()

    async def on_decision_made(self, message: Decision.Made) -> None:
        """The person has decided about the open contact."""
        peer = self._peer()
        if peer is None:
            return
        try:
            if message.choice is Choice.ACCEPT and message.seen is not None:
                await peer.accept(message.seen)
            elif message.choice is Choice.KEEP:
                await peer.keep()
            elif message.choice is Choice.WELCOME:
                await peer.welcome()
            elif message.choice is Choice.REMOVE:
                await peer.remove()
        except PtproxyError as error:
            self._notify([Refused(str(error))])
        self._changed()

    # ---- keys

    async def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        """A contact was chosen."""
        await self._show(self.query_one(ContactList).chosen(message.option))
        self.query_one(Compose).focus()

    async def action_turn(self, step: int) -> None:
        """The next or the previous conversation."""
        await self._show(self.query_one(ContactList).beside(self.open, step))

    def action_older(self) -> None:
        """Scroll back; at the top, for older lines."""
        conversation = self.query_one(Conversation)
        if conversation.scroll_y == 0:
            conversation.ask_for_older()
        conversation.scroll_page_up(animate=False)

    def action_newer(self) -> None:
        """Scroll on."""
        self.query_one(Conversation).scroll_page_down(animate=False)

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
            self._notify([Refused(str(error))])
            return
        day = time.strftime("%Y-%m-%d", time.gmtime(made.expires * 86_400))
        self.push_screen(InviteDialog(made.invite.serialize(), made.invite.qr_text(), day))

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
            self._notify([Refused(str(error))])
            return
        self.chat.roster.refresh()
        await self._show(peer.id)

    def action_verify(self) -> None:
        """Compare safety numbers with the open contact."""
        peer = self._peer()
        if peer is None:
            return

        async def compare(typed: str | None) -> None:
            if typed is None:
                return
            if await peer.compare(typed):
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
