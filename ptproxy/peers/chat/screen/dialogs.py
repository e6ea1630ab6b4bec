"""Dialogs over the conversation: safety numbers, an invite to give away, one to add, help."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.geometry import Size
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from ptproxy.e2e import Fingerprint, Standing
from ptproxy.errors import StartError
from ptproxy.peers.chat.commands import VERBS, usage
from ptproxy.peers.chat.qr import qr_rows, too_small
from ptproxy.peers.chat.safety import digit_rows, word_rows
from ptproxy.peers.chat.screen.compose import OneRow
from ptproxy.peers.chat.screen.drawn import STANDING_WORDS, qr_code
from ptproxy.peers.chat.shown import shown_text

MARGIN: Final = 10
"""Rows and columns of a dialog besides a QR code that it shows."""

SAVED_SECONDS: Final = 15.0
"""Seconds for which one can read where a picture was saved."""
TEXT_COLUMNS: Final = 44
"""Columns of a safety number's text beside its QR code."""

_CLOSE: Final[list[BindingType]] = [Binding("escape", "dismiss", "Close")]


def _fits(window: Size, rows: list[str], beside: int) -> bool:
    """Whether a QR code can be shown whole; one that is cut is of no use."""
    return len(rows) + MARGIN <= window.height and len(rows[0]) + MARGIN + beside <= window.width


class VerifyDialog(ModalScreen[str | None]):
    """The safety number; gives what the person typed or saw to be the same, None for nothing."""

    BINDINGS: ClassVar[list[BindingType]] = _CLOSE

    def __init__(self, number: Fingerprint, label: str, standing: Standing) -> None:
        super().__init__()
        self._number = number
        self._label = label
        self._standing = standing

    def compose(self) -> ComposeResult:
        """Digits, words and the QR code side by side."""
        with VerticalScroll(classes="dialog", can_focus=False):
            yield Static("Safety number", classes="title", markup=False)
            yield Static(
                Content("\n").join(
                    [
                        Content(
                            "Meet, or call, and compare: the same stands on the other screen. "
                            "Not through this chat: whoever stands between you would answer there."
                        ),
                        Content.assemble(STANDING_WORDS[self._standing], f" {self._label}"),
                    ]
                )
            )
            with Horizontal(id="number"):
                with Vertical(id="number-text"):
                    yield Static(Content("\n".join(digit_rows(self._number))), classes="number")
                    yield Static(Content("\n".join(word_rows(self._number))), classes="number")
                    yield OneRow(placeholder="type or paste the other's here", id="typed")
                    with Horizontal(classes="buttons"):
                        yield Button("They are the same", id="same", variant="success", compact=True)
                        yield Button("Close", id="close", compact=True)
                if _fits(self.app.size, qr_rows(self._number.qr_text()), TEXT_COLUMNS):
                    yield Static(qr_code(self._number.qr_text()), id="qr")

    def on_mount(self) -> None:
        """Nothing is confirmed by an Enter too many."""
        self.query_one("#close").focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """What was typed is compared by the program."""
        event.stop()
        if event.value.strip():
            self.dismiss(event.value)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """What the person has compared counts."""
        event.stop()
        self.dismiss(self._number.digits() if event.button.id == "same" else None)


class InviteDialog(ModalScreen[None]):
    """An invite to give away."""

    BINDINGS: ClassVar[list[BindingType]] = _CLOSE

    def __init__(self, text: str, qr_text: str, day: str, save: Callable[[], Awaitable[Path]]) -> None:
        """``save`` writes the QR code as a picture and says where; it may raise StartError."""
        super().__init__()
        self._text = text
        self._qr_text = qr_text
        self._day = day
        self._save = save

    def compose(self) -> ComposeResult:
        """The line, and what can be done with it."""
        with VerticalScroll(classes="dialog", can_focus=False):
            yield Static("An invite for one person", classes="title", markup=False)
            yield Static(
                f"Whoever has it first can write to you, until {self._day}. "
                "Give it to one person, where nobody else reads it.",
                markup=False,
            )
            yield Static(Content(self._text), id="invite-text")
            with Horizontal(classes="buttons"):
                yield Button("Copy", id="copy", variant="primary", compact=True)
                yield Button("QR code", id="show", compact=True)
                yield Button("QR code as a picture", id="save", compact=True)
                yield Button("Close", id="close", compact=True)

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        """Copy, show, save, or close."""
        event.stop()
        if event.button.id == "copy":
            self.app.copy_to_clipboard(self._text)
            self.notify("in the clipboard, where your terminal allows it", markup=False)
        elif event.button.id == "show":
            self.app.push_screen(QrScreen(self._qr_text))
        elif event.button.id == "save":
            try:
                path = await self._save()
            except StartError as error:
                self.notify(shown_text(str(error)), severity="error", markup=False)
            else:
                said = f"{shown_text(str(path))}\nis as secret as the invite: delete it when it was scanned"
                self.notify(said, title="saved", timeout=SAVED_SECONDS, markup=False)
        else:
            self.dismiss()


class QrScreen(ModalScreen[None]):
    """A QR code in the whole window, or how to make the window large enough for it."""

    BINDINGS: ClassVar[list[BindingType]] = [*_CLOSE, Binding("enter", "dismiss", "Close", show=False)]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """One thing."""
        yield Static(id="qr", markup=False)

    def on_resize(self, event: events.Resize) -> None:
        """Letters have become smaller, perhaps."""
        small = too_small(qr_rows(self._text), event.size.width, event.size.height)
        small += ", or close this (Esc) and save it as a picture." if small else ""
        self.query_one("#qr", Static).update(small or qr_code(self._text))

    def on_click(self) -> None:
        """Seen."""
        self.dismiss()


@dataclass(frozen=True, slots=True)
class ToAdd:
    """An invite that was pasted, and what its giver is to be called here."""

    invite: str = field(repr=False)
    name: str


class AddDialog(ModalScreen[ToAdd | None]):
    """Somebody's invite."""

    BINDINGS: ClassVar[list[BindingType]] = _CLOSE

    def compose(self) -> ComposeResult:
        """Two inputs."""
        with VerticalScroll(classes="dialog", can_focus=False):
            yield Static("Add a contact", classes="title", markup=False)
            yield Static("Paste the invite that you were given, or what its QR code says.", markup=False)
            yield OneRow(placeholder="invite", id="invite")
            yield OneRow(placeholder="what you call this person (or as they call themselves)", id="name")
            with Horizontal(classes="buttons"):
                yield Button("Add", id="add", variant="primary", compact=True)
                yield Button("Cancel", id="close", compact=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter goes on."""
        event.stop()
        if event.input.id == "invite":
            self.query_one("#name").focus()
        else:
            self._add()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Add, or not."""
        event.stop()
        if event.button.id == "add":
            self._add()
        else:
            self.dismiss(None)

    def _add(self) -> None:
        invite = self.query_one("#invite", Input).value.strip()
        if invite:
            self.dismiss(ToAdd(invite, self.query_one("#name", Input).value.strip()))
        else:
            self.query_one("#invite").focus()


class HelpDialog(ModalScreen[None]):
    """Keys and commands."""

    BINDINGS: ClassVar[list[BindingType]] = [*_CLOSE, Binding("f1", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """A list."""
        keys = [
            ("Enter", "send what is written"),
            ("Ctrl+J", "a new row"),
            ("Esc", "between contacts and writing"),
            ("Ctrl+N, Ctrl+P", "the next and the previous conversation"),
            ("PageUp, Ctrl+End", "older lines; the newest"),
            ("F2, F3", "invite somebody, add a contact"),
            ("F4", "compare safety numbers"),
            ("F5", "yourself: name, receipts, a new identity"),
            ("Ctrl+Q", "leave"),
        ]
        rows = [Content.assemble((f"{key:<18}", "bold"), text) for key, text in keys]
        verbs = [verb for verb in VERBS if verb != "say"]
        rows += [
            Content(""),
            Content.styled("Commands, written as a line; WHO is left out:", "bold"),
        ]
        rows += [
            Content(f"{usage(verb):<24}{' '.join((VERBS[verb].__doc__ or '').split())}") for verb in verbs
        ]
        with VerticalScroll(classes="dialog"):
            yield Static("Help", classes="title", markup=False)
            yield Static(Content("\n").join(rows))
            with Horizontal(classes="buttons"):
                yield Button("Close", id="close", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Close."""
        event.stop()
        self.dismiss()
