"""The lines of one conversation: the newest at the bottom, older ones as one scrolls back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from ptproxy.peers.chat.files import MAX_FILES, OVER
from ptproxy.peers.chat.screen.drawn import clock
from ptproxy.peers.chat.screen.file_view import FileView
from ptproxy.peers.chat.shown import shown_text
from ptproxy.peers.chat.told import STATES
from ptproxy.peers.chat.told_files import FileTold
from ptproxy.peers.messenger_events import Direction, Line, LineState

PAGE: Final = 50
"""Lines that are loaded at once: more than most screens have rows."""
MAX_VIEWS: Final = 1_000
"""Lines that are kept on the screen: then the oldest go, and come back when one scrolls to them."""
MAX_ROWS: Final = 400
"""Rows of one line: whoever writes more is cut, so that nothing is pushed away by blank rows."""
LAYOUT_TRIES: Final = 100
"""Refreshes after which lines that were put in have their place, or never will."""

_STATE_STYLES: Final = {LineState.FAILED: "bold $error", LineState.WAITING: "$warning"}


class LineView(Static):
    """One line: who and when above it, the text indented below."""

    def __init__(self, line: Line, who: str, now: float) -> None:
        """``who`` is a label, harmless."""
        self.line = line
        self._who = who
        self._now = now
        super().__init__(self._content(), classes="ours" if line.direction is Direction.OURS else "theirs")

    def become(self, state: LineState) -> None:
        """The line has come further."""
        self.line = replace(self.line, state=state)
        self.update(self._content())

    def _content(self) -> Content:
        line = self.line
        when = (f"{clock(line.arrived, self._now)} ", "$text-muted")
        if line.direction is Direction.OURS:
            state = (f" {STATES[line.state]}", _STATE_STYLES.get(line.state, "$text-muted"))
            head = Content.assemble(when, ("you", "bold"), state)
        else:
            head = Content.assemble(when, (self._who, "bold"))
        rows = shown_text(line.text).split("\n")
        body = [Content(row) for row in rows[:MAX_ROWS]]
        if len(rows) > MAX_ROWS:
            body.append(Content.styled("… the rest is cut here", "italic $text-muted"))
        return Content("\n").join([head, *body])


class Conversation(VerticalScroll):
    """The lines that are loaded."""

    @dataclass
    class Older(Message):
        """One has scrolled to the first line that is loaded; there are older ones."""

        before: int

    def __init__(self) -> None:
        super().__init__(id="conversation")
        self._views: dict[int, LineView] = {}
        self._files: dict[str, FileView] = {}
        self._complete = True
        """No line is older than those that are loaded."""
        self._asked = False

    @property
    def newest(self) -> Line | None:
        """The last line of the contact's that is shown."""
        theirs = [view.line for view in self._views.values() if view.line.direction is Direction.THEIRS]
        return max(theirs, key=lambda line: line.number, default=None)

    async def show(self, lines: list[Line], who: str, now: float) -> None:
        """A conversation, with its newest lines, newest first."""
        await self.remove_children()
        self._files = {}
        self._views = {line.number: LineView(line, who, now) for line in reversed(lines)}
        self._complete = len(lines) < PAGE
        await self.mount(*self._views.values())
        self.scroll_end(animate=False)

    async def show_older(self, lines: list[Line], who: str, now: float) -> None:
        """Lines before those that are loaded, newest first; what one sees stays where it is."""
        self._complete = len(lines) < PAGE
        older = [line for line in reversed(lines) if line.number not in self._views]
        new = {line.number: LineView(line, who, now) for line in older}
        self._asked = False
        height, below = self.max_scroll_y, self.max_scroll_y - self.scroll_y
        self._views = new | self._views
        await self.mount(*new.values(), before=0)
        if new:
            self.call_after_refresh(self._stay, height, below, LAYOUT_TRIES)

    async def append(self, line: Line, who: str, now: float) -> None:
        """A line that came or was written; one who reads at the bottom follows it."""
        if line.number in self._views:
            return
        follows = self.max_scroll_y - self.scroll_y <= 1 or line.direction is Direction.OURS
        self._views[line.number] = view = LineView(line, who, now)
        await self.mount(view)
        if len(self._views) > MAX_VIEWS and follows:
            await self._prune()
        if follows:
            self.scroll_end(animate=False)

    async def notice(self, rows: list[str], *, error: bool = False) -> None:
        """Rows of the program's own, harmless, where they were asked for; they are not kept."""
        await self.mount(Static(Content("\n".join(rows)), classes="error-notice" if error else "notice"))
        self.scroll_end(animate=False)

    async def show_file(self, told: FileTold) -> None:
        """A file, as it stands now; new ones at the bottom."""
        view = self._files.get(told.file)
        if view is None:
            over = [number for number, each in self._files.items() if each.told.state in OVER]
            if len(self._files) >= MAX_FILES and over:
                await self._files.pop(over[0]).remove()
            self._files[told.file] = view = FileView(told)
            await self.mount(view)
            self.scroll_end(animate=False)
        else:
            view.become(told)

    def become(self, number: int, state: LineState) -> None:
        """A line has come further."""
        if number in self._views:
            self._views[number].become(state)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """At the top older lines are asked for."""
        super().watch_scroll_y(old_value, new_value)
        if new_value == 0 and old_value > 0:
            self.ask_for_older()

    def ask_for_older(self) -> None:
        """Once, until they are there."""
        if not self._complete and not self._asked and self._views:
            self._asked = True
            self.post_message(self.Older(min(self._views)))

    async def _prune(self) -> None:
        oldest = sorted(self._views)[: len(self._views) - MAX_VIEWS + PAGE]
        views = [self._views.pop(number) for number in oldest]
        self._complete = False
        await self.remove_children(views)

    def _stay(self, height: float, below: float, tries: int) -> None:
        """Show what was shown; ``height`` was the whole one's before, and a busy screen is laid out later."""
        if self.max_scroll_y == height and tries:
            self.call_after_refresh(self._stay, height, below, tries - 1)
            return
        self.scroll_to(y=self.max_scroll_y - below, animate=False)
