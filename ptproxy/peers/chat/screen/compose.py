"""Where one writes: Enter sends, Ctrl+J makes a new row, and what is pasted is made harmless, too."""

from __future__ import annotations

from dataclasses import dataclass, field

from textual import events
from textual.message import Message
from textual.widgets import Input, TextArea

from ptproxy.peers.chat.shown import shown_text


class Compose(TextArea):
    """The text that is being written."""

    @dataclass
    class Submitted(Message):
        """Enter was pressed."""

        text: str = field(repr=False)

    def __init__(self) -> None:
        super().__init__(id="compose", soft_wrap=True, show_line_numbers=False, highlight_cursor_line=False)

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Submitted(self.text))
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
