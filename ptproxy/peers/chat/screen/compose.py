"""Where one writes: Enter sends, Ctrl+J makes a new row, and what is pasted is made harmless, too.

Whom a text is for is settled when Enter is pressed, and what was begun for one contact never stands where
one writes to another: whatever the screen does meanwhile, nothing is sent to somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from textual import events
from textual.message import Message
from textual.widgets import Input, TextArea

from ptproxy.peers.chat.shown import shown_text
from ptproxy.peers.messenger_events import ContactId


class Compose(TextArea):
    """The text that is being written."""

    @dataclass
    class Submitted(Message):
        """Enter was pressed; the text stands here no longer."""

        text: str = field(repr=False)
        contact: ContactId

    def __init__(self) -> None:
        super().__init__(id="compose", soft_wrap=True, show_line_numbers=False, highlight_cursor_line=False)
        self._contact: ContactId | None = None
        self._drafts: dict[ContactId, str] = {}
        """What was begun for others."""

    def turn_to(self, contact: ContactId | None) -> None:
        """Write to another contact; what was begun for this one is there again when one comes back."""
        if contact == self._contact:
            return
        if self._contact is not None:
            self._drafts[self._contact] = self.text
        self._contact = contact
        self._put(self._drafts.pop(contact, "") if contact is not None else "")

    def give_back(self, text: str, contact: ContactId) -> None:
        """What could not be sent, before what was written since."""
        since = self.text if contact == self._contact else self._drafts.get(contact, "")
        both = f"{text}\n{since}" if since else text
        if contact == self._contact:
            self._put(both)
        else:
            self._drafts[contact] = both

    def _put(self, text: str) -> None:
        self.text = text
        self.move_cursor(self.document.end)

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            text = self.text.strip()
            if text and self._contact is not None:
                self.post_message(self.Submitted(text, self._contact))
                self.clear()
        elif event.key in ("ctrl+j", "shift+enter", "alt+enter"):
            event.stop()
            event.prevent_default()
            self.insert("\n")
        else:
            await super()._on_key(event)

    async def _on_paste(self, event: events.Paste) -> None:
        event.text = shown_text(event.text)
        event.prevent_default()
        await super()._on_paste(event)


class OneRow(Input):
    """An input of one row; what is pasted is made one, and harmless."""

    def _on_paste(self, event: events.Paste) -> None:
        event.text = " ".join(shown_text(event.text).split())
        event.prevent_default()
        super()._on_paste(event)
