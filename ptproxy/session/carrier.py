"""One live carrier: what is owed there, who wants to send there, and whether it lives.

Nothing here is a queue of frames: what is owed are marks, and the frames are
made from the streams' state when the carrier is drained (R10).
"""

from __future__ import annotations

from collections import OrderedDict, deque

from ptproxy.session.frames import FrameParser
from ptproxy.session.stream import Stream


class Carrier:
    """One live carrier. ``number`` is its number in the session (R2)."""

    __slots__ = (
        "asks",
        "binds",
        "bit",
        "bulk",
        "closed",
        "dirty",
        "goaways",
        "gones",
        "heard_at",
        "interactive",
        "interactive_run",
        "last_stream",
        "leaving",
        "number",
        "opaque",
        "openeds",
        "outstanding",
        "parser",
        "ping_at",
        "ping_due",
        "ping_value",
        "pinged_at",
        "pong",
        "probe_at",
        "proved_at",
        "replaces",
        "resets",
        "rtt",
        "shared_until",
        "streams",
        "suspect",
        "windows",
    )

    def __init__(self, number: int, bit: int, now: float) -> None:
        self.number = number
        self.bit = bit
        """This carrier's bit in the masks of streams: ``debts``, ``said``, ``binds``."""
        self.parser = FrameParser()
        self.leaving = False
        """GOAWAY was said of it, by either side: nothing new is bound here (R25)."""
        self.streams = 0
        """How many streams are bound here."""

        # ---- owed here (R10); keyed by stream id unless said otherwise -------------------------
        self.dirty = False
        """Whether any of these marks may be set."""
        self.windows: dict[int, None] = {}
        self.openeds: dict[int, None] = {}
        self.binds: dict[int, int] = {}
        """The value is BIND or MOVE."""
        self.asks: dict[int, None] = {}
        self.gones: dict[int, None] = {}
        self.resets: dict[int, None] = {}
        self.closed: dict[int, None] = {}
        """Carrier numbers."""
        self.goaways: dict[int, None] = {}
        """Carrier numbers, 0 for the session."""
        self.pong: int | None = None
        self.ping_due = False
        self.opaque: deque[tuple[int, bytes]] = deque()
        """(CHALLENGE or PROOF, bytes): the one thing that waits as it was given."""

        # ---- who wants to send (R27) -----------------------------------------------------------
        self.interactive: OrderedDict[int, Stream] = OrderedDict()
        self.bulk: OrderedDict[int, Stream] = OrderedDict()
        self.interactive_run = 0
        """Interactive bytes since bulk last had its turn."""
        self.last_stream = 0
        self.shared_until = 0.0

        # ---- liveness (R20) --------------------------------------------------------------------
        self.outstanding: dict[int, float] = {}
        """Streams with something unacknowledged here, and since when without progress; oldest first."""
        self.ping_value = 0
        self.ping_at: float | None = None
        """When the unanswered PING left."""
        self.probe_at: float | None = None
        """Since when something is to be shown to arrive that nothing acknowledges."""
        self.pinged_at = -1e9
        """When the last PING left."""
        self.rtt: float | None = None
        self.proved_at = now
        """When anything last showed that our bytes arrive."""
        self.heard_at = now
        """When anything last came; kept only once the carrier is being left."""
        self.suspect = False
        self.replaces: dict[int, None] = {}
        """Suspect carriers to close once this one has carried an answer."""

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
