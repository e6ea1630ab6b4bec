"""Line mode: the chat for scripts, and for terminals without a screen.

A line in is a command (:mod:`~ptproxy.peers.chat.commands`), lines out are records
(:mod:`~ptproxy.peers.chat.told`): first ``ready``, then all that came and was not read yet, then what
comes and the answers to commands, in their order. A line of a contact counts as read once it is written.

When the input ends, what waits in our mailbox and what is still to leave gets ``wait`` seconds for it,
unless the program is to ``follow``: then it goes on telling until it is stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from ptproxy.peers.chat.beside import beside
from ptproxy.peers.chat.chat import HERE_SECONDS, Chat
from ptproxy.peers.chat.commands import (
    MAX_LINE,
    VERBS,
    AnsweredError,
    Asked,
    CommandError,
    Quit,
    Say,
    parse_json,
    parse_text,
    usage,
)
from ptproxy.peers.chat.told import Done, Record, Refused
from ptproxy.peers.chat.told_own import ReadyTold
from ptproxy.peers.messenger import Messenger
from ptproxy.peers.messenger_events import ContactId, Direction, Event, LineReceived, LineState, Trouble

PAGE: Final = 100
"""Lines that are read from the history at once."""
FLUSH: Final = 50
"""Records that are written at once: as JSON the longest have 96 KiB, and whoever reads may be slow."""


class Form(Enum):
    """How lines are written, in both directions."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Ending:
    """What happens when there are no more commands."""

    wait: float = 60.0
    """Seconds for what is still to come and to leave."""
    follow: bool = False
    """Go on telling instead, until the program is stopped."""


class Output(Protocol):
    """Where lines go."""

    def put(self, text: str) -> None:
        """One line or some."""

    async def flushed(self) -> None:
        """Whoever reads has all of them, as far as we can know."""


async def run_lines(
    messenger: Messenger,
    files: Path,
    lines: AsyncIterable[bytes],
    output: Output,
    form: Form,
    ending: Ending,
) -> int:
    """Line mode until its end; the exit status: 1 if something was refused, has not left, or
    our mailbox was not reached, else 0.

    Files that are taken are saved in ``files``.
    """
    mode = _LineMode(messenger, files, output, form, ending)
    await mode.begin()
    try:
        status = await beside(mode.take(lines), messenger.run(), mode.keep_marking(), mode.keep_present())
    finally:
        await mode.close()
    await output.flushed()
    return status


class _LineMode:
    """A chat that is written in lines."""

    def __init__(self, messenger: Messenger, files: Path, output: Output, form: Form, ending: Ending) -> None:
        self._messenger = messenger
        self._chat = Chat(messenger, files, self._tell)
        self._output = output
        self._form = form
        self._ending = ending
        self._failed = False
        self._shown: dict[ContactId, int] = {}
        """Lines that were written and are not marked as read: the highest number of each contact."""
        self._has_shown = asyncio.Event()
        self._marking = asyncio.Lock()
        messenger.on_event = self._happened

    async def begin(self) -> None:
        """Tidy up, tell who we are and what came when nobody looked; before the messenger runs."""
        await self._chat.files.tidy()
        self._tell(ReadyTold(self._messenger.name, self._messenger.fingerprint.qr_text()))
        await self._tell_unread()

    async def take(self, lines: AsyncIterable[bytes]) -> int:
        """Do what the lines ask."""
        async for line in lines:
            if line.strip() and not await self._do(line):
                break
        else:
            if self._ending.follow:
                await asyncio.Event().wait()
        await self._leave()
        return int(self._failed)

    async def close(self) -> None:
        """End what runs beside it."""
        await self._chat.files.close()

    async def keep_marking(self) -> None:
        """Whatever was written to whoever reads us counts as read."""
        while True:
            await self._has_shown.wait()
            self._has_shown.clear()
            await self._mark()

    async def _mark(self) -> None:
        async with self._marking:
            shown, self._shown = self._shown, {}
            await self._output.flushed()
            for contact, number in shown.items():
                with contextlib.suppress(KeyError):  # the contact was removed meanwhile
                    await self._messenger.contact(contact).mark_read(number)

    async def keep_present(self) -> None:
        """Whoever is told that we are there is told again before it lapses."""
        while True:
            await asyncio.sleep(HERE_SECONDS / 2)
            await self._chat.tell_presence_again()

    async def _do(self, line: bytes) -> bool:
        """One command; False when it was the last one."""
        try:
            asked = self._parse(line)
        except AnsweredError as error:
            self._tell(Refused(str(error)), error.id)
            return True
        except CommandError as error:
            self._tell(Refused(str(error)))
            return True
        if asked is None:
            return True
        if isinstance(asked.command, Quit):
            self._tell(Done(""), asked.id)
            return False
        for count, record in enumerate(await self._chat.do(asked.command), 1):
            self._tell(record, asked.id)
            if count % FLUSH == 0:
                await self._output.flushed()
        return True

    def _parse(self, line: bytes) -> Asked | None:
        if len(line) > MAX_LINE:
            raise CommandError(f"a line has at most {MAX_LINE} bytes; nothing of this one was done")
        if self._form is Form.JSON:
            return parse_json(line)
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise CommandError("that is not UTF-8") from None
        if text == "/help":
            self._output.put("\n".join(("* NAME: TEXT  A line to a contact.", *_HELP)))
            return None
        return Asked(parse_text(text))

    async def _tell_unread(self) -> None:
        """All lines that nobody has read, the oldest first."""
        found: list[LineReceived] = []
        for peer in self._chat.roster:
            left, before = peer.unread, None
            while left > 0 and (lines := await peer.history(before, PAGE)):
                before = lines[-1].number
                for line in lines:
                    if line.direction is Direction.THEIRS and line.state is LineState.DELIVERED:
                        left -= 1
                        found.append(LineReceived(peer.id, line, peer.standing))
        found.sort(key=lambda event: (event.line.arrived, event.line.number))
        for count, event in enumerate(found, 1):
            self._happened(event)
            if count % FLUSH == 0:
                await self._output.flushed()

    async def _leave(self) -> None:
        """Until what waited for us has come, and what is to leave has left: lines, receipts, files."""
        try:
            async with asyncio.timeout(self._ending.wait):
                await self._chat.files.finished()
                await self._messenger.settled()
                while self._shown or self._marking.locked():
                    await self._mark()
                    await self._messenger.settled()
        except TimeoutError:
            self._tell(Refused("something has not left yet; lines go on when this program runs again"))
        if self._messenger.trouble is not Trouble.NONE:
            self._tell(Refused("your mailbox was not reached: what waits there comes another time"))

    def _happened(self, event: Event) -> None:
        for record in self._chat.told(event):
            self._tell(record)
        if isinstance(event, LineReceived):
            self._shown[event.contact] = max(self._shown.get(event.contact, 0), event.line.number)
            self._has_shown.set()

    def _tell(self, record: Record, number: str = "") -> None:
        if isinstance(record, Refused):
            self._failed = True
        if self._form is Form.JSON:
            self._output.put(record.json(number))
        elif rows := record.rows():
            self._output.put("\n".join(rows))


_HELP: Final = tuple(
    f"* {usage(verb)}  {' '.join((kind.__doc__ or '').split())}"
    for verb, kind in VERBS.items()
    if kind is not Say  # in text it is NAME: TEXT
)
