"""One stream: how far each direction has come, where it is bound, and what it still owes.

A stream holds state; the rules that change it are the session's
(:mod:`ptproxy.session.credit` and the modules above it). Offsets count bytes
from the stream's start; EOF takes one unit after the last byte, so
``received == final + 1`` says that everything has come (R4).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from ptproxy.buffer import SendBuffer
from ptproxy.errors import Reason

if TYPE_CHECKING:
    from ptproxy.session.receiving import Receiving


class Stream:
    """One byte stream each way, or an association of datagrams.

    Made by ``Session.open_stream`` or by the peer's OPEN, never directly. Calls
    on a stream that is over do nothing.
    """

    __slots__ = (
        "accepted",
        "ack_step",
        "acknowledged",
        "ask_due",
        "binds",
        "blocked",
        "buffer",
        "burst",
        "burst_at",
        "carrier",
        "datagram_bytes",
        "datagrams",
        "debts",
        "draining",
        "final",
        "finished",
        "generation",
        "granted",
        "held",
        "high",
        "id",
        "is_association",
        "limit",
        "local",
        "nudges",
        "open_acknowledged",
        "open_left",
        "open_sent",
        "over",
        "owner",
        "patience",
        "peer_final",
        "queue",
        "read",
        "received",
        "said",
        "said_received",
        "sent",
        "session",
        "target",
        "window",
        "window_at",
        "window_mark",
    )

    def __init__(self, session: Receiving, number: int, target: bytes, local: bool, now: float) -> None:
        self.session = session
        self.id = number
        self.target = target
        """Where it goes, in the target's wire form; unread here."""
        self.owner: Any = None
        """Whatever the layer above keeps here."""
        self.is_association = False
        self.local = local
        """Whether this side opened it."""

        # ---- binding (R12, R15) ----------------------------------------------------------------
        self.carrier: int | None = None
        """Number of the carrier that this side's bytes go to."""
        self.generation = 0
        self.draining = 0
        """The carrier on which the rest must be acknowledged before sending goes on (R15); 0: none."""
        self.held = False
        """Sending waits for the bridge's WINDOW on the new carrier (R12)."""
        self.binds = 0
        """Carriers (bits) on which a BIND is owed."""
        self.nudges = 0
        """How often the safety net has spoken since the last progress (R20)."""
        self.patience = 1
        """By how much the wait for OPENED or credit has grown."""
        self.ask_due: float | None = None
        """Bridge: when to ask for a BIND; None: it need not (R14)."""

        # ---- opening ---------------------------------------------------------------------------
        self.open_acknowledged = not local
        self.open_sent = not local
        """Whether OPEN has been said on the present carrier."""
        self.open_left = not local
        """Whether OPEN was ever said (R19)."""
        self.accepted = False

        # ---- sending ---------------------------------------------------------------------------
        self.buffer = SendBuffer()
        self.acknowledged = 0
        self.sent = 0
        """Where sending goes on; falls back to ``acknowledged`` when the carrier dies (R11)."""
        self.high = 0
        """The most that was ever sent."""
        self.limit = 0
        """The peer's permission: no byte at or above it is sent."""
        self.final: int | None = None
        """Where our bytes end, once ``send_eof`` was called."""
        self.blocked = False
        """The application was told that there is no room."""
        self.datagrams: deque[tuple[bytes, bytes]] | None = None
        self.datagram_bytes = 0

        # ---- receiving -------------------------------------------------------------------------
        self.received = 0
        self.granted = 0
        """The highest limit ever said to the peer (R7)."""
        self.read = 0
        """What the application has consumed (R8)."""
        self.peer_final: int | None = None
        self.window = 0
        self.window_mark = 0
        """``read`` when the window last grew, and when that was (R22)."""
        self.window_at = now
        self.ack_step = 1
        """A WINDOW is due after this many bytes."""
        self.said_received = 0
        """``received`` as the peer was last told."""
        self.debts = 0
        """Carriers (bits) from which something came since the last WINDOW there (R9)."""
        self.said = 0
        """Live carriers (bits) on which a WINDOW was said that may yet be lost (R9)."""

        # ---- ending ----------------------------------------------------------------------------
        self.finished = False
        """Both EOFs are through; the application was told."""
        self.over = False
        """The session has forgotten it."""

        # ---- scheduling (R27) ------------------------------------------------------------------
        self.queue: OrderedDict[int, Stream] | None = None
        """The carrier's queue it waits in."""
        self.burst = 0
        """Bytes sent since ``burst_at``."""
        self.burst_at = now

    def __repr__(self) -> str:
        return f"<Stream {self.id} on {self.carrier} sent {self.sent} received {self.received}>"

    @property
    def retained(self) -> int:
        """Bytes kept until they are acknowledged."""
        return self.buffer.end - self.buffer.start

    def accept(self, now: float) -> None:
        """Acceptor: the dial succeeded; the opener is told (OPENED)."""
        if not (self.over or self.local or self.accepted):
            self.session.accept_stream(self, now)

    def send_data(self, data: bytes, now: float) -> None:
        """Send ``data`` (immutable, kept until acknowledged); accepted whatever :meth:`send_room` says.

        Raises :class:`~ptproxy.errors.LocalProtocolError` after :meth:`send_eof` and on an association.
        """
        if data and not self.over:
            self.session.send_stream_data(self, data, now)

    def send_eof(self, now: float) -> None:
        """Nothing more will be sent; the other direction goes on. A second call does nothing."""
        if self.final is None and not self.over:
            self.session.send_stream_eof(self, now)

    def reset(self, reason: Reason, now: float) -> None:
        """Break the stream off, both ways, at once: no event about it follows."""
        self.session.reset_stream(self, reason, now)

    def send_room(self) -> int:
        """How many bytes may be sent now; with 0 or less, stop reading the source (R21).

        After that a StreamWritable event says when there is room again.
        """
        return 0 if self.over else self.session.stream_room(self)

    def consume(self, size: int, now: float) -> None:
        """The application has taken ``size`` delivered bytes: credit may be renewed (R8, R22)."""
        self.session.consume_stream(self, size, now)

    def send_datagram(self, address: bytes, data: bytes, now: float) -> None:
        """Send one datagram of an association; unreliable, the oldest waiting one is dropped when full (R23).

        Raises :class:`~ptproxy.errors.LocalProtocolError` on a stream of bytes and for sizes that no
        datagram has.
        """
        if not self.over:
            self.session.send_stream_datagram(self, address, data, now)


class Tombstone:
    """A stream that this side has reset and whose GONE has not come (R16)."""

    __slots__ = ("code", "id", "nudged", "said", "said_at")

    def __init__(self, number: int, code: int, now: float) -> None:
        self.id = number
        self.code = code
        self.nudged = False
        """The safety net has spoken (R20)."""
        self.said = 0
        """Live carriers (bits) on which RESET was said."""
        self.said_at = now
