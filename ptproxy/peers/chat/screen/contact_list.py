"""Who there is: a sign for how they stand, whether they are there, what is unread, and the label last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from textual import events
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from ptproxy.e2e import Standing
from ptproxy.peers.chat.screen.drawn import STANDING_SIGNS
from ptproxy.peers.chat.shown import folded
from ptproxy.peers.messenger_events import ContactId

INDENT: Final = " " * 6
"""Cells before a label."""
MOST_UNREAD: Final = 99
"""Shown as it is; more are ``99+``."""


@dataclass(frozen=True, slots=True)
class ContactRow:
    """A contact as its row shows it."""

    contact: ContactId
    label: str
    standing: Standing
    here: bool
    unread: int
    waits: bool
    """What we wrote to it does not leave."""
    stranger: bool
    open: bool

    def content(self, cells: int) -> Content:
        """Rows of so many cells; the label stands last, so that it turns nothing around but itself.

        A long one goes on below its own beginning, never in the column of the signs, and is never cut:
        what tells two contacts apart stands at its end.
        """
        sign = ("?", "bold $warning") if self.stranger else STANDING_SIGNS[self.standing]
        count = f"{MOST_UNREAD}+" if self.unread > MOST_UNREAD else str(self.unread) if self.unread else ""
        style = "bold" if self.open or self.unread else ""
        return Content.assemble(
            sign,
            ("●", "$success") if self.here else " ",
            (f"{count:>3}", "bold $accent"),
            ("…", "$warning") if self.waits else " ",
            (f"\n{INDENT}".join(folded(self.label, cells - len(INDENT))), style),
        )


class ContactList(OptionList):
    """The contacts; choosing one opens its conversation."""

    def __init__(self) -> None:
        super().__init__(id="contacts", markup=False)
        self._rows: list[ContactRow] = []

    def show(self, rows: Iterable[ContactRow]) -> None:
        """Draw these; what was highlighted stays so."""
        new = list(rows)
        if new == self._rows:
            return
        if [row.contact for row in new] == [row.contact for row in self._rows]:
            for place, row in enumerate(new):
                if row != self._rows[place]:
                    self.replace_option_prompt_at_index(place, row.content(self._cells))
        else:
            was = self._rows[self.highlighted].contact if self.highlighted is not None else None
            self.clear_options()
            self.add_options(Option(row.content(self._cells), id=row.contact.hex()) for row in new)
            places = [place for place, row in enumerate(new) if row.contact == was]
            self.highlighted = places[0] if places else None
        self._rows = new

    def on_resize(self, _: events.Resize) -> None:
        """Labels are folded anew."""
        for place, row in enumerate(self._rows):
            self.replace_option_prompt_at_index(place, row.content(self._cells))

    @property
    def _cells(self) -> int:
        """Of a row, less one for the scroll bar's sake."""
        return max(self.scrollable_content_region.width - 1, 2 * len(INDENT))

    def chosen(self, option: Option) -> ContactId:
        """The contact of a row."""
        return bytes.fromhex(option.id or "")

    def beside(self, contact: ContactId | None, step: int) -> ContactId | None:
        """The contact ``step`` rows below this one, around the ends; None where there is nobody."""
        ids = [row.contact for row in self._rows]
        if not ids:
            return None
        return ids[(ids.index(contact) + step) % len(ids)] if contact in ids else ids[0]
