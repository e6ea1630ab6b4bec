"""The dialog about ourselves: name, receipts, mailbox, our identity, and a new one that is to follow it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, Final, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Checkbox, Input, Static

from ptproxy.peers.chat.commands import Become, Command, Mailbox, MyName, Receipts, Successor
from ptproxy.peers.chat.own import Own
from ptproxy.peers.chat.safety import in_rows, word_rows
from ptproxy.peers.chat.screen.compose import OneRow
from ptproxy.peers.chat.told import Record, Refused

LOOK_AGAIN: Final = 2.0
"""Seconds after which it is looked again whom the announcement has reached."""

_ABOUT: Final = (
    "A new identity replaces one that others may have got hold of, or that is old. "
    "First announce it and wait until your contacts are told; then become it."
)
_SURE: Final = (
    "Your invites end, what is on its way to you is lost, and every contact has to accept the new identity "
    "and compare safety numbers again. There is no way back."
)


class OwnDialog(ModalScreen[None]):
    """What contacts are told of us."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close")]

    def __init__(self, own: Own, do: Callable[[Command], Awaitable[list[Record]]]) -> None:
        """``do`` does a command; the last of what it tells is Done or Refused."""
        super().__init__()
        self._own = own
        self._do = do

    def compose(self) -> ComposeResult:
        """From the top."""
        told = self._own.told()
        with VerticalScroll(classes="dialog", can_focus=False):
            yield Static("You", classes="title", markup=False)
            yield Static("Your name; Enter changes it, and contacts are told:", markup=False)
            yield OneRow(told.name, id="my-name")
            yield Checkbox("contacts are told what you have read", told.receipts, id="receipts", compact=True)
            yield Static(id="my-mailbox", markup=False)
            yield OneRow(placeholder="the link of another bridge; Enter moves it there", id="move")
            yield Static("Your identity, in words:", classes="heading", markup=False)
            yield Static(id="my-words", classes="number", markup=False)
            yield Static(_ABOUT, markup=False)
            yield Static(id="successor", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Announce a new identity", id="announce", compact=True)
                yield Button("Become it ...", id="become", compact=True)
                yield Button("Yes, become it", id="sure", variant="error", compact=True)
                yield Button("Close", id="close", compact=True)

    def on_mount(self) -> None:
        """Nothing is confirmed by an Enter too many."""
        self.query_one("#sure").display = False
        self.query_one("#close").focus()
        self._draw()
        self.set_interval(LOOK_AGAIN, self._draw)

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Another name, or another mailbox."""
        event.stop()
        moves = event.input.id == "move"
        told = await self._do(Mailbox(event.value) if moves else MyName(event.value))
        severity: Literal["error", "information"] = "error" if _refused(told) else "information"
        self.notify("\n".join(told[-1].rows()), severity=severity, markup=False)
        if not moves:
            event.input.value = self._own.told().name
        elif not _refused(told):
            event.input.value = ""
        self._draw()

    async def on_checkbox_changed(self, event: Checkbox.Changed) -> None:
        """Receipts are told, or not."""
        event.stop()
        await self._done(Receipts("on" if event.value else "off"))

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        """One step further, or none."""
        event.stop()
        if event.button.id == "announce":
            await self._done(Successor())
        elif event.button.id == "become":
            self.query_one("#sure").display = True
        elif event.button.id == "sure":
            await self._become()
        else:
            self.dismiss()
        self._draw()

    async def _become(self) -> None:
        self.query_one("#sure").display = False
        successor = self._own.successor()
        if successor is not None and await self._done(Become(successor.words)):
            self.notify("you are the new identity", markup=False)

    async def _done(self, command: Command) -> bool:
        told = await self._do(command)
        if _refused(told):
            self.notify("\n".join(told[-1].rows()), severity="error", markup=False)
        return not _refused(told)

    def _draw(self) -> None:
        """Who we are, where our mailbox is, and whom the announcement has reached."""
        self.query_one("#my-mailbox", Static).update(self._own.told().mailbox_row())
        self.query_one("#my-words", Static).update(Content("\n".join(word_rows(self._own.fingerprint))))
        successor = self._own.successor()
        sure = self.query_one("#sure")
        sure.display = bool(sure.display) and successor is not None
        self.query_one("#announce").display = successor is None
        self.query_one("#become").display = successor is not None and not sure.display
        text = self.query_one("#successor", Static)
        text.display = successor is not None
        if successor is not None:
            words = [Content.styled(row, "bold") for row in in_rows(successor.words)]
            rows = [Content("Announced, in words:"), *words, Content(successor.reached())]
            rows += [Content.styled(_SURE, "$text-error")] * bool(sure.display)
            text.update(Content("\n").join(rows))


def _refused(told: list[Record]) -> bool:
    return isinstance(told[-1], Refused)
