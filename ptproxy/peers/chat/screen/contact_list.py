"""Who there is: a sign for how they stand, whether they are there, what is unread, and the label last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from ptproxy.e2e import Standing
from ptproxy.peers.chat.screen.drawn import STANDING_SIGNS
from ptproxy.peers.messenger_events import ContactId

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

    def content(self) -> Content:
        """One row; the label stands last, so that it turns nothing around but itself."""
        sign = ("?", "bold $warning") if self.stranger else STANDING_SIGNS[self.standing]
        count = f"{MOST_UNREAD}+" if self.unread > MOST_UNREAD else str(self.unread) if self.unread else ""
        return Content.assemble(
            sign,
            ("●", "$success") if self.here else " ",
            (f"{count:>3}", "bold $accent"),
            ("…", "$warning") if self.waits else " ",
            (self.label, "bold" if self.open or self.unread else ""),
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
                    self.replace_option_prompt_at_index(place, row.content())
        else:
            was = self._rows[self.highlighted].contact if self.highlighted is not None else None
            self.clear_options()
            self.add_options(Option(row.content(), id=row.contact.hex()) for row in new)
            places = [place for place, row in enumerate(new) if row.contact == was]
            self.highlighted = places[0] if places else None
        self._rows = new

    def chosen(self, option: Option) -> ContactId:
        """The contact of a row."""
        return bytes.fromhex(option.id or "")

    def beside(self, contact: ContactId | None, step: int) -> ContactId | None:
        """The contact ``step`` rows below this one, around the ends; None where there is nobody."""
        ids = [row.contact for row in self._rows]
        if not ids:
            return None
        return ids[(ids.index(contact) + step) % len(ids)] if contact in ids else ids[0]
