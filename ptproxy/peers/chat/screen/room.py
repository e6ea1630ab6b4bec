"""The open conversation: its head, what is to be decided, its lines and files, and where one writes."""

from __future__ import annotations

import asyncio
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
from ptproxy.peers.chat.commands_bridges import Drop, Use
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
    ContactRemoved,
    Event,
    Line,
    LineDelivered,
    LineDeposited,
    LineFailed,
    LineRead,
    LineReceived,
    LineState,
)
from ptproxy.peers.peer import Peer

GONE: Final = "that contact was removed meanwhile"
BELOW: Final = "▼ newer below: Ctrl+End"
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
        self._drawing = asyncio.Lock()
        """Held while lines of a conversation are read and drawn: meanwhile no other one is opened."""
        self._files: dict[str, FileTold] = {}
        """Files by their numbers, as they stand; those of all contacts."""

    def compose(self) -> ComposeResult:
        """From the top."""
        yield Static(id="head", markup=False)
        yield Decision()
        yield Static(NOBODY_YET, id="nobody", markup=False)
        yield Conversation()
        yield Static(BELOW, id="below", markup=False)
        yield Static(id="trouble", markup=False)
        yield Compose()

    @property
    def peer(self) -> Peer | None:
        """The contact, None where there is none, or no longer."""
        return self._peer(self.open) if self.open is not None else None

    def _peer(self, contact: ContactId) -> Peer | None:
        try:
            return self._chat.messenger.contact(contact)
        except KeyError:
            return None

    # ---- what is shown

    async def show(self, contact: ContactId | None) -> None:
        """Open another conversation."""
        async with self._drawing:
            self.open = contact
            self.query_one(Compose).turn_to(contact)
            self.draw(there=False)  # head and text change together
            await self._show()
        await self.mark_read()
        self.post_message(self.Changed())

    async def _show(self) -> None:
        """The open conversation with its newest lines."""
        peer = self.peer
        lines = await self._history(peer, None, PAGE) if peer is not None else []
        self.draw(there=False)
        conversation = self.query_one(Conversation)
        await conversation.show(lines, self._label(), self._clock())
        for told in self._files.values():
            if self.open is not None and told.contact == self.open.hex():
                await conversation.show_file(told)

    async def latest(self) -> None:
        """The newest lines, wherever one has scrolled to."""
        async with self._drawing:
            conversation = self.query_one(Conversation)
            if not conversation.current:
                await self._show()
            conversation.to_end()
        await self.mark_read()

    def draw(self, *, there: bool) -> None:
        """The head and what is to be decided; ``there``: whether the contact says that it is."""
        peer = self.peer
        waiting = self._chat.bridges.waiting(peer.id) if peer is not None else None
        offered = self._chat.bridges.told(waiting) if waiting is not None else None
        self.query_one(Decision).show(peer, self._label(), offered)
        for name in ("#head", "#conversation", "#compose"):
            self.query_one(name).display = peer is not None
        self.query_one("#nobody").display = peer is None
        changed = peer is not None and peer.standing is Standing.CHANGED
        waits = TROUBLES[peer.trouble] if peer is not None and not changed else ""
        trouble = self.query_one("#trouble", Static)
        trouble.display = bool(waits)
        trouble.update(f"What you write waits: {waits}")
        writing = self.query_one(Compose)
        decided = writing.disabled and not changed
        writing.disabled = changed
        if decided and self.app.focused is None:
            writing.focus()
        writing.placeholder = "decide first, above" if changed else "write, Enter sends"
        if peer is not None:
            here = [(" here ", "$success")] if there else []
            self.query_one("#head", Static).update(
                Content.assemble(STANDING_WORDS[peer.standing], *here, (f" {self._label()}", "bold"))
            )

    async def happened(self, events: list[Event]) -> None:
        """Something happened to lines, of this conversation or another one."""
        async with self._drawing:
            here = [event for event in events if getattr(event, "contact", None) == self.open is not None]
            conversation = self.query_one(Conversation)
            for event in here:
                if isinstance(event, LineDeposited | LineDelivered | LineRead | LineFailed):
                    conversation.become(event.number, _STATES[type(event)])
            merged = any(isinstance(event, ContactRemoved) and event.into == self.open for event in events)
            if merged and self.open is not None:
                await self._anew()  # another's lines are this one's from now on
            came = [event.line for event in here if isinstance(event, LineReceived)]
            await self._append(came)
        if came or merged:
            await self.mark_read()

    async def missed(self) -> None:
        """More happened than was told: what is shown is read anew."""
        async with self._drawing:
            await self._anew()
        await self.mark_read()

    async def _append(self, lines: list[Line]) -> None:
        """Lines that came or were written, oldest first; what is known is left out."""
        conversation = self.query_one(Conversation)
        new = [line for line in lines if line.number > conversation.last]
        if not new:
            return
        if new[0].number == conversation.last + 1 and new[-1].number - new[0].number == len(new) - 1:
            await conversation.append(new, self._label(), self._clock())
        else:  # something between was not told, or not yet
            await self._anew()

    async def _anew(self) -> None:
        """Read what is shown once more; one who has scrolled up stays there."""
        conversation, peer = self.query_one(Conversation), self.peer
        if peer is None:
            return
        if conversation.follows:
            await self._show()
        elif conversation.loaded:
            first, last = conversation.loaded[0], conversation.loaded[-1]
            for line in await self._history(peer, last + 1, last - first + 1):
                conversation.become(line.number, line.state)
            conversation.missed()

    async def file_moved(self, told: FileTold) -> bool:
        """A file has come further; whether one sees it here."""
        self._files[told.file] = told
        if len(self._files) > MAX_FILES:
            over = (number for number, each in self._files.items() if each.state in OVER)
            self._files.pop(next(over, told.file))
        async with self._drawing:
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

    async def _history(self, peer: Peer, before: int | None, limit: int) -> list[Line]:
        """Lines, newest first; none of a contact that was removed meanwhile."""
        try:
            return await peer.history(before, limit)
        except KeyError:  # a Peer's word for it
            return []

    def _label(self) -> str:
        return self._chat.roster.label(self.open) if self.open is not None else ""

    # ---- what the person does

    async def on_conversation_older(self, message: Conversation.Older) -> None:
        """Older lines, as one scrolls back."""
        async with self._drawing:
            conversation, peer = self.query_one(Conversation), self.peer
            if peer is None or conversation.loaded[:1] != [message.before]:
                conversation.ask_again()
                return
            lines = await self._history(peer, message.before, PAGE)
            await conversation.show_older(lines, self._label(), self._clock())

    async def on_conversation_newer(self, message: Conversation.Newer) -> None:
        """Newer lines, as one scrolls on."""
        async with self._drawing:
            conversation, peer = self.query_one(Conversation), self.peer
            if peer is None or conversation.loaded[-1:] != [message.after]:
                conversation.ask_again()
                return
            lines = await self._history(peer, message.after + PAGE + 1, PAGE)
            await conversation.show_newer(lines, self._label(), self._clock())
        await self.mark_read()

    def on_conversation_below(self, message: Conversation.Below) -> None:
        """A row says that there is something new."""
        self.query_one("#below").display = message.new

    async def on_compose_submitted(self, message: Compose.Submitted) -> None:
        """A line, or a command."""
        text, peer, compose = message.text, self._peer(message.contact), self.query_one(Compose)
        if peer is None:
            compose.give_back(text, message.contact)
            self.notify_records([Refused(GONE)])
            return
        if text.startswith("/") and not text.startswith("//"):
            await self._command(text, peer)
            return
        try:
            number = await peer.send(text.removeprefix("/") if text.startswith("//") else text)
        except (PtproxyError, KeyError) as error:  # a KeyError is a Peer's word for being gone
            compose.give_back(text, message.contact)
            self.notify_records([Refused(GONE if isinstance(error, KeyError) else str(error))])
            return
        async with self._drawing:
            if self.open == peer.id:  # and not another one meanwhile
                conversation = self.query_one(Conversation)
                if conversation.current:
                    await self._append(await self._history(peer, number + 1, 1))
                    conversation.to_end()
                else:
                    await self._show()
        self.post_message(self.Changed())

    async def _command(self, text: str, peer: Peer) -> None:
        conversation = self.query_one(Conversation)
        if text == "/help":
            await self.run_action("app.help")
            return
        try:
            command: Command = parse_slash(text, self._chat.roster.label(peer.id))
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
        peer = self._peer(message.contact)
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
            elif message.choice in (Choice.USE, Choice.DROP):
                kind = Use if message.choice is Choice.USE else Drop
                self.notify_records(await self._chat.do(kind(message.invite)))
        except PtproxyError as error:
            self.notify_records([Refused(str(error))])
        except KeyError:  # a Peer's word for it
            self.notify_records([Refused(GONE)])
        self.post_message(self.Changed())

    async def on_file_view_decided(self, message: FileView.Decided) -> None:
        """A file is taken, or not."""
        self.notify_records(await self._chat.do(message.command))
