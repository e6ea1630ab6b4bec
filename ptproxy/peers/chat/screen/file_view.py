"""A file in a conversation: offered, with two buttons; on its way, with a bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Static

from ptproxy.peers.chat.commands import Refuse, Stop, Take
from ptproxy.peers.chat.files import OVER
from ptproxy.peers.chat.shown import shown_name, shown_text
from ptproxy.peers.chat.told_files import FileState, FileTold, amount

BAR: Final = 30
"""Cells of the bar."""


class FileView(Vertical):
    """One file."""

    @dataclass
    class Decided(Message):
        """The person takes it, or does not, or no longer."""

        command: Take | Refuse | Stop

    def __init__(self, told: FileTold) -> None:
        super().__init__(classes="file")
        self.told = told

    def compose(self) -> ComposeResult:
        """A row, a bar, two buttons."""
        yield Static(self._content(), classes="file-text")
        with Horizontal(classes="file-buttons"):
            yield Button("Take it", classes="take", variant="primary", compact=True)
            yield Button("Refuse", classes="refuse", compact=True)
            yield Button("Stop it", classes="stop", compact=True)

    def on_mount(self) -> None:
        """Buttons only while there is something to decide."""
        self._show_buttons()

    def become(self, told: FileTold) -> None:
        """It has come further."""
        self.told = told
        if self.is_mounted:
            self.query_one(".file-text", Static).update(self._content())
            self._show_buttons()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Decided."""
        event.stop()
        kinds: dict[str, type[Take | Refuse | Stop]] = {"take": Take, "refuse": Refuse, "stop": Stop}
        kind = next(kind for name, kind in kinds.items() if event.button.has_class(name))
        self.post_message(self.Decided(kind(self.told.file)))

    def _show_buttons(self) -> None:
        offered = self.told.state is FileState.OFFERED
        self.query_one(".file-buttons").display = self.told.state not in OVER
        for name in (".take", ".refuse"):
            self.query_one(name).display = offered
        self.query_one(".stop").display = not offered

    def _content(self) -> Content:
        told = self.told
        says = {
            FileState.OFFERED: ("offers a file", "bold"),
            FileState.OFFERING: ("you offer a file", "bold"),
            FileState.SENDING: ("you send a file", "bold"),
            FileState.RECEIVING: ("a file is coming", "bold"),
            FileState.DONE: ("a file has arrived", "bold $success"),
            FileState.REFUSED: ("a file was refused", "$text-muted"),
            FileState.FAILED: ("a file was broken off", "bold $error"),
        }[told.state]
        rows = [Content.styled(*says), Content(f"{amount(told.size)}  {shown_name(told.name)}")]
        if told.state in (FileState.SENDING, FileState.RECEIVING):
            full = told.percent() * BAR // 100
            rows.append(
                Content.assemble(
                    ("━" * full, "$success"), ("─" * (BAR - full), "$text-muted"), f" {told.percent()} %"
                )
            )
        rows += [Content(shown_text(each)) for each in (told.path, told.why) if each]
        return Content("\n").join(rows)
