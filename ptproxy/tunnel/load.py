"""How much a session's carriers carry, and how many of them can."""

from __future__ import annotations

from typing import Final

from ptproxy.session import Stream as SessionStream
from ptproxy.tunnel.client import ClientTunnel
from ptproxy.tunnel.client_carrier import ClientCarrier

SAMPLE: Final = 0.05
"""Seconds over which a carrier's rate is taken, at least: what is typed soon after a download began already
finds a carrier beside it."""


def sound(tunnel: ClientTunnel) -> int:
    """Carriers that are not suspect (R20), for what else there is may be dead, nor to be left (R25)."""
    known = tunnel.session.carriers
    return sum(
        number in known and not (known[number].suspect or known[number].leaving) for number in tunnel.carriers
    )


def is_needed(tunnel: ClientTunnel) -> bool:
    """Whether carriers are for anybody: one that only asks what to look like has no class of traffic."""
    return any(getattr(state.owner, "traffic", None) != "" for state in tunnel.session.streams.values())


def is_waiting(tunnel: ClientTunnel) -> bool:
    """Whether bytes of a stream have not reached the bridge, as far as it has said."""
    return any(state.high > state.acknowledged for state in tunnel.session.streams.values())


def moved_by(stream: SessionStream) -> int:
    """Bytes both ways so far."""
    return stream.received + stream.sent


def rate_of(carrier: object, now: float) -> float:
    """Bytes a second over about the last :data:`SAMPLE` seconds or since the last look."""
    assert isinstance(carrier, ClientCarrier)
    elapsed = now - carrier.sampled_at
    if elapsed >= SAMPLE:
        total = carrier.sent_bytes + carrier.received_bytes
        carrier.rate = (total - carrier.sampled_bytes) / elapsed
        carrier.sampled_at, carrier.sampled_bytes = now, total
    return carrier.rate
