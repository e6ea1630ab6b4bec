"""Every number of a session in one place, so that tests and walks can take tiny ones.

Numbers that are part of the wire format stand in :mod:`ptproxy.session.frames`
and cannot be changed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ptproxy.errors import PtproxyError

KIB: Final = 1024
MIB: Final = 1024 * 1024


class SessionExhausted(PtproxyError):  # noqa: N818  (it is a state of the session, not a fault)
    """No stream can be opened now: too many are open, or the session's ids are used up."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one session; sizes in bytes, times in seconds.

    Both ends must agree on :attr:`initial_window` (64 KiB on the wire); all
    other numbers are each side's own business.
    """

    # ---- receiving (R8, R22) -------------------------------------------------------------------
    initial_window: int = 64 * KIB
    """A new stream's credit, granted to an opener without a word: one loop turn's worth."""
    window_growth: int = 4
    """Factor by which a window grows after it was drained."""
    max_window: int = 16 * MIB
    """Largest window: 1 Gbit/s at 130 ms."""
    growth_time: float = 4.0
    """A window grows only when drained within this time: a trickle needs no more room."""
    receive_budget: int = 64 * MIB
    """Sum of credit granted and not yet read, above which no window grows and grown ones shrink (R22)."""
    acknowledge_after: int = 64 * KIB
    """A WINDOW is due after this many bytes, or a quarter of the window if that is less (R8)."""
    acknowledge_within: float = 0.1
    """... and at latest this long after the first unacknowledged byte. Whoever's peer notices half-dead
    carriers (R20: a bridge) stays well below ``suspect_after``; a client may take seconds."""

    along_after: float = 0.005
    """... unless DATA of an interactive stream leaves before, which takes along what has been owed this
    long: quick exchanges are acknowledged by time, not one by one."""

    # ---- sending (R12, R21, R27) ---------------------------------------------------------------
    resend_wait: int = 64 * KIB
    """With more than this unacknowledged, a client that moves a stream first waits for the bridge's
    WINDOW on the new carrier instead of repeating it all (R12)."""
    retention: int = 64 * MIB
    """Retention budget of a session that was not given a process-wide one."""
    shared_frame: int = 16 * KIB
    """Largest DATA payload while a second stream is active on the carrier (R27)."""
    lone_frame: int = 256 * KIB
    """Largest DATA payload of a stream that has the carrier to itself."""
    active_time: float = 0.25
    """How long after its last frame another stream still counts as active."""
    open_data: int = 16 * KIB
    """Most first data inside an OPEN; the rest follows as DATA."""
    join_below: int = 1024
    """Payloads whose pieces are smaller than this on average are joined to one buffer with their header."""
    interactive_bytes: int = 16 * KIB
    """A stream is interactive until it has sent this much within :attr:`interactive_time` (R27)."""
    interactive_time: float = 0.1
    bulk_share: int = 8
    """Bulk streams get at least 1/bulk_share of a carrier."""

    # ---- liveness (R14, R20) -------------------------------------------------------------------
    suspect_after: float = 1.0
    """A carrier is suspect when something on it stays unanswered for max(this, 4 RTT)."""
    suspect_rtts: int = 4
    ping_after: float = 0.4
    """A PING asks for an answer that has been outstanding this long: mostly one comes by itself before.
    A carrier of which no round trip is known yet is asked at once."""
    ping_interval: float = 0.5
    """At most one PING in this time, and only while something is outstanding."""
    safety_net: float = 10.0
    """Nothing acknowledged for this long: BIND, ASK or RESET once more."""
    ask_delay: float = 0.05
    """How long a bridge waits for the client's own BIND before it asks (R14)."""

    # ---- bounds against a hostile peer ---------------------------------------------------------
    max_streams: int = 1024
    """Streams open at once, from both ends; one more is answered RESET(LIMIT)."""
    max_tombstones: int = 4096
    """Own resets the peer has not answered: four times the streams, as answers take a round trip."""
    max_carriers: int = 16
    """Carriers alive at once, and numbers in ALIVE."""
    max_intervals: int = 4096
    """Gaps in the peer's ids (OPENs that overtake one another) or carrier numbers."""
    max_backlog: int = 16384
    """Answers owed on one carrier whose peer does not read them."""
    max_opaque: int = 8
    """CHALLENGE and PROOF frames waiting on a carrier."""
    max_target: int = 512
    """Bytes of a target's wire form."""
    max_datagrams: int = 64
    """Datagrams waiting in an association (R23); the oldest goes first."""
    max_datagram_bytes: int = 256 * KIB
    max_stream_id: int = 0xFFFFFFFF
    """Ids are never reused; after the last one a new session is needed (R3)."""

    # ---- pressure (R21) ------------------------------------------------------------------------
    pressure_time: float = 60.0
    """A session without acknowledgement progress for this long is reset when the budget is under pressure."""
    budget_poll: float = 0.1
    """How often streams that wait for budget freed elsewhere look again."""
