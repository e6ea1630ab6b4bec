"""One stream: how far each direction has come, where it is bound, and what it still owes.

A stream holds state; the rules that change it are the session's
(:mod:`ptproxy.session.credit` and the modules above it). Offsets count bytes
from the stream's start; EOF takes one unit after the last byte, so
``received == final + 1`` says that everything has come (R4).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import TYPE_CHECKING, Any

from ptproxy.buffer import SendBuffer
from ptproxy.errors import Reason

if TYPE_CHECKING:
    from ptproxy.session.receiving import Receiving


@dataclass(slots=True, eq=False, repr=False)
class Stream:
    """One byte stream each way, or an association of datagrams.

    Made by ``Session.open_stream`` or by the peer's OPEN, never directly. Calls
    on a stream that is over do nothing.
    """

    session: Receiving
    id: int
    target: bytes
    """Where it goes, in the target's wire form; unread here."""
    local: bool
    """Whether this side opened it."""
    now: InitVar[float]
    _: KW_ONLY
    owner: Any = None
    """Whatever the layer above keeps here."""
    is_association: bool = False

    # ---- binding (R12, R15) --------------------------------------------------------------------
    carrier: int | None = None
    """Number of the carrier that this side's bytes go to."""
    generation: int = 0
    """How often the stream was bound: of two BINDs the higher one holds (R12)."""
    moved_before: int = 0
    """Bytes of both ways that were through when it was bound last (R12)."""
    draining: int = 0
    """The carrier on which the rest must be acknowledged before sending goes on (R15); 0: none."""
    held: bool = False
    """Sending waits for the bridge's WINDOW on the new carrier (R12)."""
    binds: int = 0
    """Carriers (bits) on which a BIND is owed."""
    nudges: int = 0
    """How often the safety net has spoken since the last progress (R20)."""
    patience: int = 1
    """By how much the wait for OPENED or credit has grown."""
    ask_due: float | None = None
    """Bridge: when to ask for a BIND; None: it need not (R14)."""

    # ---- opening -------------------------------------------------------------------------------
    open_acknowledged: bool = field(init=False)
    """Whether the peer has shown that it knows of the stream."""
    open_sent: bool = field(init=False)
    """Whether OPEN has been said on the present carrier."""
    open_left: bool = field(init=False)
    """Whether OPEN was ever said (R19)."""
    accepted: bool = False
    """Whether the acceptor's dial has succeeded."""

    # ---- sending -------------------------------------------------------------------------------
    buffer: SendBuffer = field(default_factory=SendBuffer)
    """What was sent and not yet acknowledged, and what waits to be sent."""
    acknowledged: int = 0
    """The peer has everything below it."""
    sent: int = 0
    """Where sending goes on; falls back to ``acknowledged`` when the carrier dies (R11)."""
    high: int = 0
    """The most that was ever sent."""
    limit: int = 0
    """The peer's permission: no byte at or above it is sent."""
    final: int | None = None
    """Where our bytes end, once ``send_eof`` was called."""
    blocked: bool = False
    """The application was told that there is no room."""
    datagrams: deque[tuple[bytes, bytes]] | None = None
    """An association's that wait, each with its address."""
    datagram_bytes: int = 0
    """How much they hold together."""

    # ---- receiving -----------------------------------------------------------------------------
    received: int = 0
    """Everything below it has come."""
    granted: int = 0
    """The highest limit ever said to the peer (R7)."""
    read: int = 0
    """What the application has consumed (R8)."""
    peer_final: int | None = None
    """Where the peer's bytes end, once its EOF has come."""
    window: int = 0
    """How far beyond ``read`` the peer may send."""
    window_mark: int = 0
    """``read`` when the window last grew, and when that was (R22)."""
    window_at: float = field(init=False)
    ack_step: int = 1
    """A WINDOW is due after this many bytes."""
    said_received: int = 0
    """``received`` as the peer was last told."""
    debts: int = 0
    """Carriers (bits) from which something came since the last WINDOW there (R9)."""
    said: int = 0
    """Live carriers (bits) on which a WINDOW was said that may yet be lost (R9)."""

    # ---- ending --------------------------------------------------------------------------------
    finished: bool = False
    """Both EOFs are through; the application was told."""
    over: bool = False
    """The session has forgotten it."""

    # ---- scheduling (R27) ----------------------------------------------------------------------
    queue: OrderedDict[int, Stream] | None = None
    """The carrier's queue it waits in."""
    burst: int = 0
    """Bytes sent since ``burst_at``."""
    burst_at: float = field(init=False)

    def __post_init__(self, now: float) -> None:
        """The peer that opened a stream needs no OPEN for it."""
        self.open_acknowledged = self.open_sent = self.open_left = not self.local
        self.window_at = self.burst_at = now

    def __repr__(self) -> str:
        return f"<Stream {self.id} on {self.carrier} sent {self.sent} received {self.received}>"

    @property
    def retained(self) -> int:
        """Bytes that are not acknowledged; the buffer keeps at most a part of a chunk more."""
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


@dataclass(slots=True, eq=False)
class Tombstone:
    """A stream that this side has reset and whose GONE has not come (R16)."""

    id: int
    code: int
    """The reset's reason, as the wire has it."""
    said_at: float
    """When RESET was last said, or is first to be."""
    nudged: bool = False
    """The safety net has spoken (R20)."""
    said: int = 0
    """Live carriers (bits) on which RESET was said."""
