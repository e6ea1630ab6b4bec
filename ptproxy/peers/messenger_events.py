"""What a messenger tells the program above it, and what it keeps of each line.

Every event is told after what it says is on disk; none of them is the only place where it stands. A
program that was killed between the two finds lines and their states in the history, contacts and
their standing in :meth:`~ptproxy.peers.messenger.Messenger.contacts`. Signals and presence are for the
moment: nobody misses them later.

``contact`` is always the contact's id, 16 bytes of our own making that stay the same whatever name,
identity or mailbox the contact has. Times are seconds since the epoch. Texts and names come from a
peer, whatever it wrote: a program that shows them on a terminal makes them harmless first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum

from ptproxy.e2e import Fingerprint, Standing
from ptproxy.peers.payload import Presence

ContactId = bytes
"""16 bytes; see the module."""


class Direction(IntEnum):
    """Who wrote a line. The number is part of the stored form."""

    OURS = 0
    THEIRS = 1


class LineState(IntEnum):
    """How far a line has come. The number is part of the stored form; a state only grows, but for FAILED."""

    WAITING = 0
    """Ours: it is safe here and has not left."""
    DEPOSITED = 1
    """Ours: the contact's mailbox has it on disk."""
    DELIVERED = 2
    """Ours: the contact's program has it. Theirs: we have it, and nobody has read it."""
    READ = 3
    """Ours: the contact says that it was read. Theirs: :meth:`~ptproxy.peers.peer.Peer.mark_read`."""
    FAILED = 4
    """Ours: it was never deposited and never will be, as the identity that it was written to is gone."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a conversation, as the history has it."""

    number: int
    """Its place in the conversation's history, from 1; receipts name our lines by it."""
    direction: Direction
    state: LineState
    written: float
    """When, by the clock of who wrote it."""
    arrived: float
    """When we had it, by our clock; of ours: when it was written."""
    text: str = field(repr=False)

    def come_to(self, state: LineState) -> Line:
        """The same line, further on its way."""
        return replace(self, state=state)


@dataclass(frozen=True, slots=True)
class LineReceived:
    """A line came; it never comes again. ``standing`` is to be shown with it."""

    contact: ContactId
    line: Line
    standing: Standing


@dataclass(frozen=True, slots=True)
class LineDeposited:
    """A line of ours is on the disk of the contact's mailbox."""

    contact: ContactId
    number: int


@dataclass(frozen=True, slots=True)
class LineDelivered:
    """The contact's program has a line of ours."""

    contact: ContactId
    number: int


@dataclass(frozen=True, slots=True)
class LineRead:
    """The contact says that a line of ours was read."""

    contact: ContactId
    number: int


@dataclass(frozen=True, slots=True)
class LineFailed:
    """A line of ours was never sent, and will not be: the identity that it was written to is gone."""

    contact: ContactId
    number: int


@dataclass(frozen=True, slots=True)
class ContactAdded:
    """A contact is there: we added it, or somebody used an invite of ours.

    ``invite`` is the invite's id in the second case and b"" in the first; ``stranger`` says that
    somebody wrote who has no invite of ours (but a pass of another contact's): nothing is answered
    until :meth:`~ptproxy.peers.peer.Peer.welcome`.
    """

    contact: ContactId
    invite: bytes = b""
    stranger: bool = False


@dataclass(frozen=True, slots=True)
class ContactChanged:
    """A contact has told its name, or another mailbox."""

    contact: ContactId


@dataclass(frozen=True, slots=True)
class ContactRemoved:
    """A contact is gone: removed, or one with ``into``, whose new identity it turned out to be."""

    contact: ContactId
    into: ContactId | None = None


@dataclass(frozen=True, slots=True)
class StandingChanged:
    """What is known of a contact's identity has changed.

    With ``Standing.CHANGED`` nothing is sent until the person accepts ``candidate`` or keeps the known
    identity; ``vouched``: the old key has signed that ``candidate`` follows it.
    """

    contact: ContactId
    standing: Standing
    candidate: Fingerprint | None = None
    vouched: bool = False


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """A contact says whether it is there; after ``until`` it is not known any more."""

    contact: ContactId
    presence: Presence
    until: float


@dataclass(frozen=True, slots=True)
class SignalReceived:
    """Bytes of another part of the contact's program (streams), sent at ``sent`` by its clock."""

    contact: ContactId
    body: bytes = field(repr=False)
    sent: float


@dataclass(frozen=True, slots=True)
class BridgesPassedOn:
    """A contact has passed on an invite to bridges: ``Messenger.bridges`` keeps it for the person."""

    contact: ContactId
    invite: bytes
    """Its id, 16 bytes."""


@dataclass(frozen=True, slots=True)
class UnknownReceived:
    """A contact has sent something that this program does not know: a newer one means something by it."""

    contact: ContactId


@dataclass(frozen=True, slots=True)
class TransferProgressed:
    """A file on its way, told by ``file_transfer``; ``done`` of ``size`` bytes."""

    contact: ContactId
    transfer: bytes
    done: int
    size: int


class Trouble(IntEnum):
    """Why something waits: shown to a person, who may be able to help."""

    NONE = 0
    """It goes on."""
    MAILBOX_UNREACHABLE = 1
    """The mailbox is not reached; it is tried again."""
    MAILBOX_FULL = 2
    """The box of the contact, or the mailbox, takes no more at present; it is tried again."""
    NO_PASS = 3
    """The contact's mailbox takes nothing from us (any more): a new invite of the contact's helps."""
    BAD_BUNDLE = 4
    """The mailbox hands out no bundle that we may use; it is tried again."""
    IDENTITY_CHANGED = 5
    """The person has to decide about the contact's identity."""


@dataclass(frozen=True, slots=True)
class DeliveryTroubled:
    """What we write to a contact waits, and why; ``Trouble.NONE``: no longer."""

    contact: ContactId
    trouble: Trouble


@dataclass(frozen=True, slots=True)
class MailboxChanged:
    """Our own mailbox is reached (``Trouble.NONE``), or not."""

    trouble: Trouble


@dataclass(frozen=True, slots=True)
class InviteReady:
    """Our mailbox knows an invite: it works from now on."""

    invite: bytes


@dataclass(frozen=True, slots=True)
class InviteUsed:
    """Somebody new has come by an invite; ``left`` more may."""

    invite: bytes
    left: int


Event = (
    LineReceived
    | LineDeposited
    | LineDelivered
    | LineRead
    | LineFailed
    | ContactAdded
    | ContactChanged
    | ContactRemoved
    | StandingChanged
    | PresenceChanged
    | SignalReceived
    | BridgesPassedOn
    | UnknownReceived
    | TransferProgressed
    | DeliveryTroubled
    | MailboxChanged
    | InviteReady
    | InviteUsed
)
