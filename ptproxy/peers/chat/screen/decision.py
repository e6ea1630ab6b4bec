"""What only the person can decide: another identity in a contact's place, a stranger, bridges."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Static

from ptproxy.e2e import Fingerprint
from ptproxy.peers.chat.bridges import BridgesTold
from ptproxy.peers.chat.safety import word_rows
from ptproxy.peers.messenger_events import ContactId
from ptproxy.peers.peer import Peer


class Choice(Enum):
    """What the person has decided."""

    ACCEPT = "accept"
    KEEP = "keep"
    WELCOME = "welcome"
    REMOVE = "remove"
    USE = "use"
    DROP = "drop"


class Decision(Vertical):
    """A bar above the conversation, there only while something is to be decided."""

    @dataclass
    class Made(Message):
        """A button was pressed; ``contact``, identity ``seen`` and ``invite`` were shown beside it."""

        choice: Choice
        contact: ContactId
        seen: Fingerprint | None
        invite: str = ""
        """The start of the id of an invite to bridges."""

    def __init__(self) -> None:
        super().__init__(id="decision")
        self.display = False
        self._contact: ContactId | None = None
        self._seen: Fingerprint | None = None
        self._offered: BridgesTold | None = None

    def compose(self) -> ComposeResult:
        """Text, and the three pairs of buttons of which one is there."""
        yield Static(id="question", markup=False)
        with Horizontal(id="identity-buttons"):
            yield Button("Stay with the known identity", id=Choice.KEEP.value, variant="primary")
            yield Button("Accept the new one", id=Choice.ACCEPT.value, variant="error")
        with Horizontal(id="stranger-buttons"):
            yield Button("Answer as a contact", id=Choice.WELCOME.value, variant="primary")
            yield Button("Remove", id=Choice.REMOVE.value, variant="error")
        with Horizontal(id="bridges-buttons"):
            yield Button("No", id=Choice.DROP.value, variant="primary")
            yield Button("Take them", id=Choice.USE.value)

    def show(self, peer: Peer | None, label: str, offered: BridgesTold | None = None) -> None:
        """What is to be decided about this contact, if anything; bridges that it ``offered`` come last."""
        self._contact = peer.id if peer is not None else None
        self._seen = peer.candidate if peer is not None else None
        stranger = peer is not None and peer.stranger
        self._offered = offered if self._seen is None and not stranger else None
        self.display = self._seen is not None or stranger or self._offered is not None
        self.query_one("#identity-buttons").display = self._seen is not None
        self.query_one("#stranger-buttons").display = self._seen is None and stranger
        self.query_one("#bridges-buttons").display = self._offered is not None
        if peer is not None and self._seen is not None:
            self.query_one("#question", Static).update(_changed(self._seen, label, vouched=peer.vouched))
        elif stranger:
            self.query_one("#question", Static).update(_stranger(label))
        elif self._offered is not None:
            self.query_one("#question", Static).update(_bridges(self._offered))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Decided."""
        event.stop()
        if self._contact is not None:
            invite = self._offered.invite if self._offered is not None else ""
            self.post_message(self.Made(Choice(event.button.id), self._contact, self._seen, invite))


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


def _bridges(offered: BridgesTold) -> Content:
    return Content("\n").join(
        [
            Content.styled("An invite to bridges was passed on to you. Nothing is done with it yet.", "bold"),
            Content("Whoever runs them sees that you come. Take them if you trust whom they are from."),
            Content(f"Bridges: {', '.join(offered.bridges)}"),
            Content(f"From: {offered.who}"),
        ]
    )
