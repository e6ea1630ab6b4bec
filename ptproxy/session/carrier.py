"""One live carrier: what is owed there, who wants to send there, and whether it lives.

Nothing here is a queue of frames: what is owed are marks, and the frames are
made from the streams' state when the carrier is drained (R10).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import KW_ONLY, InitVar, dataclass, field

from ptproxy.session.frames import FrameParser
from ptproxy.session.stream import Stream


@dataclass(slots=True, eq=False, repr=False)
class Carrier:
    """One live carrier. ``number`` is its number in the session (R2)."""

    number: int
    bit: int
    """This carrier's bit in the masks of streams: ``debts``, ``said``, ``binds``."""
    now: InitVar[float]
    _: KW_ONLY
    parser: FrameParser = field(default_factory=FrameParser)
    leaving: bool = False
    """GOAWAY was said of it, by either side: nothing new is bound here (R25)."""
    streams: int = 0
    """How many streams are bound here."""

    # ---- owed here (R10); keyed by stream id unless said otherwise -------------------------------
    dirty: bool = False
    """Whether any of these marks may be set."""
    windows: dict[int, None] = field(default_factory=dict)
    openeds: dict[int, None] = field(default_factory=dict)
    binds: dict[int, int] = field(default_factory=dict)
    """The value is BIND or MOVE."""
    asks: dict[int, None] = field(default_factory=dict)
    gones: dict[int, None] = field(default_factory=dict)
    resets: dict[int, None] = field(default_factory=dict)
    closed: dict[int, None] = field(default_factory=dict)
    """Carrier numbers."""
    goaways: dict[int, None] = field(default_factory=dict)
    """Carrier numbers, 0 for the session."""
    pong: int | None = None
    ping_due: bool = False
    opaque: deque[tuple[int, bytes]] = field(default_factory=deque)
    """(CHALLENGE or PROOF, bytes): the one thing that waits as it was given."""

    # ---- who wants to send (R27) -----------------------------------------------------------------
    interactive: OrderedDict[int, Stream] = field(default_factory=OrderedDict)
    bulk: OrderedDict[int, Stream] = field(default_factory=OrderedDict)
    interactive_run: int = 0
    """Interactive bytes since bulk last had its turn."""
    last_stream: int = 0
    shared_until: float = 0.0

    # ---- liveness (R20) --------------------------------------------------------------------------
    outstanding: dict[int, float] = field(default_factory=dict)
    """Streams with something unacknowledged here, and since when without progress; oldest first."""
    ping_value: int = 0
    ping_at: float | None = None
    """When the unanswered PING left."""
    probe_at: float | None = None
    """Since when something is to be shown to arrive that nothing acknowledges."""
    pinged_at: float = -1e9
    """When the last PING left."""
    rtt: float | None = None
    proved_at: float = field(init=False)
    """When anything last showed that our bytes arrive."""
    heard_at: float = field(init=False)
    """When anything last came; kept only once the carrier is being left."""
    suspect: bool = False
    replaces: dict[int, None] = field(default_factory=dict)
    """Suspect carriers to close once this one has carried an answer."""

    def __post_init__(self, now: float) -> None:
        """A carrier that has just come lives."""
        self.proved_at = self.heard_at = now

    @property
    def backlog(self) -> int:
        """How many answers are owed that a peer can provoke without bound of its own."""
        return len(self.gones) + len(self.resets) + len(self.closed)

    @property
    def owes(self) -> bool:
        """Whether any mark is set."""
        return bool(
            self.windows
            or self.openeds
            or self.binds
            or self.asks
            or self.gones
            or self.resets
            or self.closed
            or self.goaways
            or self.ping_due
            or self.pong is not None
            or self.opaque
        )
