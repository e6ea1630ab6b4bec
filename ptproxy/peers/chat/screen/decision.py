"""What only the person can decide: another identity in a contact's place, a stranger who wrote."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Static

from ptproxy.e2e import Fingerprint
from ptproxy.peers.chat.safety import word_rows
from ptproxy.peers.messenger_events import ContactId
from ptproxy.peers.peer import Peer


class Choice(Enum):
    """What the person has decided."""

    ACCEPT = "accept"
    KEEP = "keep"
    WELCOME = "welcome"
    REMOVE = "remove"


class Decision(Vertical):
    """A bar above the conversation, there only while something is to be decided."""

    @dataclass
    class Made(Message):
        """A button was pressed; ``contact`` and the identity ``seen`` are those that were shown beside it."""

        choice: Choice
        contact: ContactId
        seen: Fingerprint | None

    def __init__(self) -> None:
        super().__init__(id="decision")
        self.display = False
        self._contact: ContactId | None = None
        self._seen: Fingerprint | None = None

    def compose(self) -> ComposeResult:
        """Text, and the two pairs of buttons of which one is there."""
        yield Static(id="question", markup=False)
        with Horizontal(id="identity-buttons"):
            yield Button("Stay with the known identity", id=Choice.KEEP.value, variant="primary")
            yield Button("Accept the new one", id=Choice.ACCEPT.value, variant="error")
        with Horizontal(id="stranger-buttons"):
            yield Button("Answer as a contact", id=Choice.WELCOME.value, variant="primary")
            yield Button("Remove", id=Choice.REMOVE.value, variant="error")

    def show(self, peer: Peer | None, label: str) -> None:
        """What is to be decided about this contact, if anything."""
        self._contact = peer.id if peer is not None else None
        self._seen = peer.candidate if peer is not None else None
        stranger = peer is not None and peer.stranger
        self.display = self._seen is not None or stranger
        self.query_one("#identity-buttons").display = self._seen is not None
        self.query_one("#stranger-buttons").display = self._seen is None
        if peer is not None and self._seen is not None:
            self.query_one("#question", Static).update(_changed(self._seen, label, vouched=peer.vouched))
        elif stranger:
            self.query_one("#question", Static).update(_stranger(label))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Decided."""
        event.stop()
        if self._contact is not None:
            self.post_message(self.Made(Choice(event.button.id), self._contact, self._seen))


def _changed(seen: Fingerprint, label: str, *, vouched: bool) -> Content:
    says = (
        "The old key has signed that this one follows it: a new device, or a thief of the old one."
        if vouched
        else "The old key says nothing of it: a new device without the old one, or somebody in between."
    )
    return Content("\n").join(
        [
            Content.styled("ANOTHER IDENTITY was seen here. Nothing is sent until you decide.", "bold"),
            Content(says),
            Content("Ask on another way whether these are the new one's words:"),
            *(Content.styled(f"    {row}", "bold") for row in word_rows(seen)),
            Content(f"Whom this is about: {label}"),
        ]
    )


def _stranger(label: str) -> Content:
    return Content("\n").join(
        [
            Content.styled("A stranger wrote, without an invite of yours. Nothing is answered yet.", "bold"),
            Content(f"Calls itself: {label}"),
        ]
    )
