"""The open conversation: its head, what is to be decided, its lines and files, and where one writes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from ptproxy.e2e import Standing
from ptproxy.errors import PtproxyError
from ptproxy.peers.chat.chat import Chat
from ptproxy.peers.chat.commands import Command, CommandError, Quit, parse_slash
from ptproxy.peers.chat.files import MAX_FILES, OVER
from ptproxy.peers.chat.screen.compose import Compose
from ptproxy.peers.chat.screen.conversation import PAGE, Conversation
from ptproxy.peers.chat.screen.decision import Choice, Decision
from ptproxy.peers.chat.screen.drawn import STANDING_WORDS
from ptproxy.peers.chat.screen.file_view import FileView
from ptproxy.peers.chat.shown import shown_text
from ptproxy.peers.chat.told import TROUBLES, Record, Refused
from ptproxy.peers.chat.told_files import FileTold
from ptproxy.peers.messenger_events import (
    ContactId,
    Event,
    LineDelivered,
    LineDeposited,
    LineFailed,
    LineRead,
    LineReceived,
    LineState,
)
from ptproxy.peers.peer import Peer

GONE: Final = "that contact was removed meanwhile"
NOBODY_YET: Final = "Nobody is here yet.\n\nF2 makes an invite to give away, F3 adds somebody by theirs."

_STATES: Final = {
    LineDeposited: LineState.DEPOSITED,
    LineDelivered: LineState.DELIVERED,
    LineRead: LineState.READ,
    LineFailed: LineState.FAILED,
}


class Room(Vertical):
    """The right side of the screen."""

    @dataclass
    class Changed(Message):
        """Something has changed that is drawn elsewhere, too."""

    def __init__(self, chat: Chat, clock: Callable[[], float]) -> None:
        super().__init__(id="room")
        self.open: ContactId | None = None
        """Whose conversation is shown."""
        self._chat = chat
        self._clock = clock
        self._files: dict[str, FileTold] = {}
        """Files by their numbers, as they stand; those of all contacts."""

    def compose(self) -> ComposeResult:
        """From the top."""
        yield Static(id="head", markup=False)
        yield Decision()
        yield Static(NOBODY_YET, id="nobody", markup=False)
        yield Conversation()
        yield Static(id="trouble", markup=False)
        yield Compose()

    @property
    def peer(self) -> Peer | None:
        """The contact, None where there is none, or no longer."""
        if self.open is None:
            return None
        try:
            return self._chat.messenger.contact(self.open)
        except KeyError:
            return None

    # ---- what is shown

    async def show(self, contact: ContactId | None) -> None:
        """Open another conversation."""
        self.open = contact
        peer = self.peer
        lines = await peer.history(limit=PAGE) if peer is not None else []
        self.draw(there=False)
        conversation = self.query_one(Conversation)
        await conversation.show(lines, self._label(), self._clock())
        for told in self._files.values():
            if contact is not None and told.contact == contact.hex():
                await conversation.show_file(told)
        await self.mark_read()
        self.post_message(self.Changed())

    def draw(self, *, there: bool) -> None:
        """The head and what is to be decided; ``there``: whether the contact says that it is."""
        peer = self.peer
        self.query_one(Decision).show(peer, self._label())
        for name in ("#head", "#conversation", "#compose"):
            self.query_one(name).display = peer is not None
        self.query_one("#nobody").display = peer is None
        changed = peer is not None and peer.standing is Standing.CHANGED
        waits = TROUBLES[peer.trouble] if peer is not None and not changed else ""
        trouble = self.query_one("#trouble", Static)
        trouble.display = bool(waits)
        trouble.update(f"What you write waits: {waits}")
        writing = self.query_one(Compose)
        writing.disabled = changed
        writing.placeholder = "decide first, above" if changed else "write, Enter sends"
        if peer is not None:
            here = [(" here ", "$success")] if there else []
            self.query_one("#head", Static).update(
                Content.assemble(STANDING_WORDS[peer.standing], *here, (f" {self._label()}", "bold"))
            )

    async def happened(self, event: Event) -> None:
        """Something happened to a line of this conversation."""
        conversation = self.query_one(Conversation)
        if isinstance(event, LineReceived):
            await conversation.append(event.line, self._label(), self._clock())
            await self.mark_read()
        elif isinstance(event, LineDeposited | LineDelivered | LineRead | LineFailed):
            conversation.become(event.number, _STATES[type(event)])

    async def file_moved(self, told: FileTold) -> bool:
        """A file has come further; whether one sees it here."""
        self._files[told.file] = told
        if len(self._files) > MAX_FILES:
            over = (number for number, each in self._files.items() if each.state in OVER)
            self._files.pop(next(over, told.file))
        if self.open is None or told.contact != self.open.hex():
            return False
        await self.query_one(Conversation).show_file(told)
        return True

    async def mark_read(self) -> None:
        """What is on the screen counts as read, if the person looks at this window."""
        peer, newest = self.peer, self.query_one(Conversation).newest
        if self.app.app_focus and peer is not None and newest is not None and peer.unread:
            with contextlib.suppress(KeyError):  # the contact was removed meanwhile
                await peer.mark_read(newest.number)
            self.post_message(self.Changed())

    def notify_records(self, records: list[Record]) -> None:
        """Answers and events, beside what is shown."""
        for record in records:
            if rows := record.rows():
                severe = isinstance(record, Refused)
                self.notify("\n".join(rows), severity="error" if severe else "information", markup=False)

    def _label(self) -> str:
        return self._chat.roster.label(self.open) if self.open is not None else ""

    # ---- what the person does

    async def on_conversation_older(self, message: Conversation.Older) -> None:
        """Older lines, as one scrolls back."""
        peer = self.peer
        if peer is not None:
            lines = await peer.history(message.before, PAGE)
            await self.query_one(Conversation).show_older(lines, self._label(), self._clock())

    async def on_compose_submitted(self, message: Compose.Submitted) -> None:
        """A line, or a command."""
        text, peer = message.text.strip(), self.peer
        if not text or peer is None:
            return
        if text.startswith("/") and not text.startswith("//"):
            self.query_one(Compose).clear()
            await self._command(text)
            return
        try:
            number = await peer.send(text.removeprefix("/") if text.startswith("//") else text)
        except PtproxyError as error:
            self.notify_records([Refused(str(error))])
            return
        except KeyError:  # a Peer's word for it
            self.notify_records([Refused(GONE)])
            return
        self.query_one(Compose).clear()
        for line in await peer.history(number + 1, 1):
            await self.query_one(Conversation).append(line, "", self._clock())
        self.post_message(self.Changed())

    async def _command(self, text: str) -> None:
        conversation = self.query_one(Conversation)
        if text == "/help":
            await self.run_action("app.help")
            return
        try:
            command: Command = parse_slash(text, self._label())
        except CommandError as error:
            await conversation.notice([shown_text(str(error))], error=True)
            return
        if isinstance(command, Quit):
            self.app.exit()
            return
        for record in await self._chat.do(command):
            if rows := record.rows():
                await conversation.notice(rows, error=isinstance(record, Refused))
        self.post_message(self.Changed())

    async def on_decision_made(self, message: Decision.Made) -> None:
        """The person has decided about the contact."""
        peer = self.peer
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
            self.notify_records([Refused(str(error))])
        except KeyError:  # a Peer's word for it
            self.notify_records([Refused(GONE)])
        self.post_message(self.Changed())

    async def on_file_view_decided(self, message: FileView.Decided) -> None:
        """A file is taken, or not."""
        self.notify_records(await self._chat.do(message.command))
