"""One contact, as a program uses it: lines, receipts, identity, signals, streams.

A :class:`Peer` is a view: it holds nothing but the contact's id, and may be made and thrown away at
will. Every method that changes something returns when that is on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ptproxy.e2e import Fingerprint, Standing
from ptproxy.peers.messenger_events import ContactId, Line, Trouble
from ptproxy.peers.payload import Presence

if TYPE_CHECKING:
    from ptproxy.peers.messenger import Messenger


class Peer:
    """A contact of a messenger."""

    __slots__ = ("_messenger", "id")

    def __init__(self, messenger: Messenger, contact: ContactId) -> None:
        self._messenger = messenger
        self.id = contact

    # ---- who it is

    @property
    def name(self) -> str:
        """What we call it (:meth:`rename`), else what it calls itself, else ""; as it came: hostile text."""
        raise NotImplementedError

    @property
    def said_name(self) -> str:
        """What it calls itself; hostile text."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the identity that we write to and read from."""
        raise NotImplementedError

    @property
    def safety_number(self) -> Fingerprint:
        """One for both sides of the conversation: what two people compare."""
        raise NotImplementedError

    @property
    def standing(self) -> Standing:
        """Unverified, verified or changed."""
        raise NotImplementedError

    @property
    def candidate(self) -> Fingerprint | None:
        """The identity that was seen in place of the known one, while ``standing`` is changed."""
        raise NotImplementedError

    @property
    def vouched(self) -> bool:
        """Whether the old key has signed that ``candidate`` follows it."""
        raise NotImplementedError

    @property
    def stranger(self) -> bool:
        """Whether it wrote to us without an invite and was not :meth:`welcome`\\ d."""
        raise NotImplementedError

    @property
    def trouble(self) -> Trouble:
        """Why what we write waits."""
        raise NotImplementedError

    @property
    def unread(self) -> int:
        """Lines that came and were not :meth:`mark_read`."""
        raise NotImplementedError

    async def rename(self, name: str) -> None:
        """Call it ``name`` here; "": as it calls itself."""
        raise NotImplementedError

    async def compare(self, text: str) -> bool:
        """The person typed or scanned the other's fingerprint, or the safety number, in any form.

        Whether it is the right one; then the contact is verified.
        """
        raise NotImplementedError

    async def accept(self, fingerprint: Fingerprint) -> None:
        """The person accepts the identity seen in place of the known one: the conversation goes on with it.

        Lines that have not left are not sent to it: they become FAILED.
        :class:`~ptproxy.errors.E2EError` where ``fingerprint`` is not the candidate's.
        """
        raise NotImplementedError

    async def keep(self) -> None:
        """The person stays with the known identity."""
        raise NotImplementedError

    async def welcome(self) -> None:
        """The person wants this stranger as a contact: it gets an answer, and passes to go on writing."""
        raise NotImplementedError

    async def remove(self) -> None:
        """Forget the contact, its history and what it may deposit with us."""
        raise NotImplementedError

    # ---- lines

    async def send(self, text: str) -> int:
        """Write a line; its number. It leaves in the background, in order, as soon as that is possible.

        ``text`` has at most :data:`~ptproxy.peers.payload.MAX_TEXT` bytes in UTF-8.
        :class:`~ptproxy.e2e.IdentityChangedError` while the person has to decide;
        :class:`~ptproxy.errors.LocalProtocolError` for a longer or empty text;
        :class:`~ptproxy.peers.messenger.OutboxFullError` while too much waits.
        """
        raise NotImplementedError

    async def history(self, before: int | None = None, limit: int = 100) -> list[Line]:
        """Lines numbered below ``before`` (None: the newest), newest first, at most ``limit``."""
        raise NotImplementedError

    async def mark_read(self, number: int) -> None:
        """The person has seen the lines up to ``number``; the contact is told so, if receipts are on."""
        raise NotImplementedError

    async def tell_presence(self, presence: Presence, seconds: float) -> None:
        """Say that we are here (for ``seconds``) or away. Nothing is ever said without this call."""
        raise NotImplementedError

    # ---- for other parts of the program

    async def signal(self, body: bytes) -> None:
        """Bytes for another part of the contact's program; worth nothing after some minutes.

        At most :data:`~ptproxy.peers.payload.MAX_SIGNAL` bytes. Raises as :meth:`send` does.
        """
        raise NotImplementedError

    @property
    def turn(self) -> int | None:
        """The newest turn of the ratchet that is sent in, None without a session."""
        raise NotImplementedError

    def export(self, label: bytes, length: int, turn: int | None = None) -> bytes:
        """Key material that both sides can make, of a turn (None: :attr:`turn`): see ``Ratchet.export``.

        :class:`~ptproxy.errors.LocalProtocolError` without a session or where the turn's secret is gone.
        """
        raise NotImplementedError
