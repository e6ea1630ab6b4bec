"""The lines of one conversation: a window of its history that follows the newest line, or stays.

Lines are loaded a page at a time, older ones as one scrolls up and newer ones as one scrolls down, and
those far from what one sees are dropped: whatever a contact writes, and however long somebody scrolls,
no more than :data:`MAX_VIEWS` lines and :data:`MAX_CHARACTERS` characters are on the screen. What comes while
the window does not reach the newest line is not drawn; a row says that it is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
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
MAX_VIEWS: Final = 500
"""Lines that are kept on the screen: each is a widget, 500 of them are laid out in a moment."""
MAX_CHARACTERS: Final = 1 << 20
"""Characters of all lines on the screen: 64 of the longest."""
MAX_ROWS: Final = 400
"""Rows of one line: whoever writes more is cut, so that nothing is pushed away by blank rows."""
MAX_NOTICES: Final = 100
"""Answers to commands that are kept on the screen."""
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
        if state is not self.line.state:
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
    """The lines that are loaded, files and notices."""

    @dataclass
    class Older(Message):
        """One has scrolled to the first line that is loaded; there are older ones."""

        before: int

    @dataclass
    class Newer(Message):
        """One has scrolled to the last line that is loaded; there are newer ones."""

        after: int

    @dataclass
    class Below(Message):
        """Whether there is something new that one does not see has changed."""

        new: bool

    def __init__(self) -> None:
        super().__init__(id="conversation")
        self._views: dict[int, LineView] = {}
        """By their numbers, in rising order and without a gap."""
        self._files: dict[str, FileView] = {}
        self._notices: list[Static] = []
        self._complete = True
        """No line is older than those that are loaded."""
        self._last = 0
        """The number of the newest line that is known of."""
        self._asked = False
        self._below = False
        self._at_end = True
        """One has not scrolled up: the end is where one wants to be, even before it is laid out."""

    @property
    def newest(self) -> Line | None:
        """The last line of the contact's that is loaded."""
        theirs = (view.line for view in reversed(self._views.values()))
        return next((line for line in theirs if line.direction is Direction.THEIRS), None)

    @property
    def loaded(self) -> list[int]:
        """The numbers of the lines that are loaded."""
        return list(self._views)

    @property
    def last(self) -> int:
        """The number of the newest line that is known of, loaded or not."""
        return self._last

    @property
    def current(self) -> bool:
        """Whether the newest line is loaded."""
        return next(reversed(self._views), 0) >= self._last

    @property
    def follows(self) -> bool:
        """Whether one reads at the bottom, and what comes is to be seen."""
        return self.current and (self._at_end or self.max_scroll_y - self.scroll_y <= 1)

    async def show(self, lines: list[Line], who: str, now: float) -> None:
        """A conversation, with its newest lines, newest first."""
        self._files, self._notices = {}, []
        self._views = {line.number: LineView(line, who, now) for line in reversed(lines)}
        self._last = next(reversed(self._views), 0)
        self._complete = len(lines) < PAGE
        self._asked = False
        views = list(self._views.values())
        await self.remove_children()
        await self.mount(*views)
        self.to_end()
        self._tell_below(new=False)

    async def show_older(self, lines: list[Line], who: str, now: float) -> None:
        """Lines before those that are loaded, newest first; what one sees stays where it is."""
        self._asked = False
        self._complete = len(lines) < PAGE
        first = next(iter(self._views), 0)
        new = {line.number: LineView(line, who, now) for line in reversed(lines) if line.number < first}
        if not new:
            return
        anchor = self._views[first]
        self._views = new | self._views
        self._keep_in_place(anchor)
        await self.mount(*new.values(), before=0)
        await self._drop(reversed(list(self._views)))

    async def show_newer(self, lines: list[Line], who: str, now: float) -> None:
        """Lines behind those that are loaded, newest first; what one sees stays where it is."""
        self._asked = False
        last = next(reversed(self._views), 0)
        new = {line.number: LineView(line, who, now) for line in reversed(lines) if line.number > last}
        if not new:
            self._last = last
            return
        anchor = self._views[last]
        self._views |= new
        dropped = list(self._views)
        await self.mount(*new.values(), after=anchor)
        if self._full:
            self._keep_in_place(anchor)
        await self._drop(dropped)

    async def append(self, lines: list[Line], who: str, now: float) -> None:
        """The lines behind :attr:`last`, oldest first; one who reads at the bottom follows them.

        Where the window does not reach the newest line they are only known to be there.
        """
        follows, current = self.follows, self.current
        self._last = lines[-1].number
        if not current or (not follows and self._full):
            self._tell_below(new=True)
            return
        views = {line.number: LineView(line, who, now) for line in lines}
        self._views |= views
        await self.mount(*views.values())
        if follows:
            await self._drop(list(self._views))
            self.to_end()
        else:
            self._tell_below(new=True)

    def missed(self) -> None:
        """More came than was told; what is new is loaded as one scrolls down."""
        self._last = next(reversed(self._views), 0) + 1
        self._tell_below(new=True)

    async def notice(self, rows: list[str], *, error: bool = False) -> None:
        """Rows of the program's own, harmless, where they were asked for; they are not kept."""
        view = Static(Content("\n".join(rows)), classes="error-notice" if error else "notice")
        self._notices.append(view)
        old, self._notices = self._notices[:-MAX_NOTICES], self._notices[-MAX_NOTICES:]
        await self.mount(view)
        if old:
            await self.remove_children(old)
        self.to_end()

    async def show_file(self, told: FileTold) -> None:
        """A file, as it stands now; new ones at the bottom."""
        view = self._files.get(told.file)
        if view is not None:
            view.become(told)
            return
        follows = self.follows
        over = [number for number, each in self._files.items() if each.told.state in OVER]
        gone = self._files.pop(over[0]) if len(self._files) >= MAX_FILES and over else None
        self._files[told.file] = view = FileView(told)
        await self.mount(view)
        if gone is not None:
            await gone.remove()
        if follows:
            self.to_end()
        else:
            self._tell_below(new=True)

    def on_mount(self) -> None:
        """Textual keeps to the end what is anchored, until one scrolls."""
        self.anchor()

    def release_anchor(self) -> None:
        """One has scrolled."""
        super().release_anchor()
        self._at_end = False

    def to_end(self) -> None:
        """To what is last, now and when more comes."""
        self._at_end = True
        self.scroll_end(animate=False)

    def become(self, number: int, state: LineState) -> None:
        """A line has come further."""
        if number in self._views:
            self._views[number].become(state)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """At the top older lines are asked for, at the bottom newer ones."""
        super().watch_scroll_y(old_value, new_value)
        if new_value > old_value and new_value >= self.max_scroll_y:
            self._at_end = True
        if new_value == 0 and old_value > 0:
            self.ask_for_older()
        elif new_value > old_value and new_value >= self.max_scroll_y:
            self.ask_for_newer()

    def ask_for_older(self) -> None:
        """Once, until they are there."""
        if not self._complete and not self._asked and self._views:
            self._asked = True
            self.post_message(self.Older(next(iter(self._views))))

    def ask_for_newer(self) -> None:
        """Once, until they are there; one who sees the newest line is told of nothing more."""
        if self.current:
            self._tell_below(new=False)
        elif not self._asked:
            self._asked = True
            self.post_message(self.Newer(next(reversed(self._views), 0)))

    def ask_again(self) -> None:
        """What was asked for is beside what is loaded by now: asked anew where one is at an end.

        While older lines are put in one may come to the end and ask for newer ones, and the last are dropped.
        """
        self._asked = False
        if self.scroll_y == 0:
            self.ask_for_older()
        elif self.scroll_y >= self.max_scroll_y:
            self.ask_for_newer()

    @property
    def _full(self) -> bool:
        return len(self._views) > MAX_VIEWS or self._characters() > MAX_CHARACTERS

    def _characters(self) -> int:
        return sum(len(view.line.text) for view in self._views.values())

    async def _drop(self, numbers: Iterable[int]) -> None:
        """Lines in this order, until what is left is as much as may be on the screen; a page at a time."""
        if not self._full:
            return
        views, characters = [], self._characters()
        for number in list(numbers):
            left = len(self._views)
            if left <= PAGE + 1 or (left <= MAX_VIEWS - PAGE and characters <= MAX_CHARACTERS):
                break
            view = self._views.pop(number)
            characters -= len(view.line.text)
            views.append(view)
        if views and views[0].line.number < next(iter(self._views)):
            self._complete = False
        await self.remove_children(views)

    def _tell_below(self, *, new: bool) -> None:
        if new is not self._below:
            self._below = new
            self.post_message(self.Below(new))

    def _keep_in_place(self, anchor: Widget) -> None:
        """Whatever is put in or dropped: ``anchor`` stays where it is on the screen."""
        y = anchor.virtual_region.y
        self.call_after_refresh(self._stay, anchor, y, y - self.scroll_y, LAYOUT_TRIES)

    def _stay(self, anchor: Widget, before: int, offset: float, tries: int) -> None:
        """``before`` is where the anchor was; a busy screen is laid out later."""
        y = anchor.virtual_region.y
        if y == before and tries:
            self.call_after_refresh(self._stay, anchor, before, offset, tries - 1)
        elif y != before and anchor.is_attached:
            self.scroll_to(y=y - offset, animate=False)
