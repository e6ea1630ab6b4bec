"""Which class of traffic a stream is: by its port, by its first bytes, by how much it moves.

Pure decisions, without I/O. A port says what a stream is likely to be, the first
bytes that a program sends are surer, and the volume is right in the end: what
outgrows its class belongs to a larger one and stays there.
"""

from __future__ import annotations

from typing import Final

from ptproxy.codec.shape import ClassShape
from ptproxy.target import Target

LOOK: Final = 64
"""Bytes of a stream's beginning that are looked at."""
SHAPE_SERVICE: Final = "shape"
"""The bridge's service that pushes shapes: no class, it says next to nothing."""
ACCOUNT_SERVICE: Final = "account"
"""The bridge's service that tells how an account stands: likewise."""
SERVICE_TRAFFIC: Final = "chat"
"""The class of streams to any other service of the bridge."""
DATAGRAM_TRAFFIC: Final = "browse"
"""The class of UDP associations: calls, games and QUIC are no chat."""

_CHAT_PORTS: Final = frozenset(
    {194, 1863, 5190, 5222, 5223, 5269, 5228, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 7000, 8883}
)
"""IRC, MSN, ICQ, XMPP, push notifications, MQTT."""
# A terminal (ssh, telnet) is none: each key waits for its echo, and people's lines would hold it back.
_BULK_PORTS: Final = frozenset({20, 119, 563, 873, 989, 9418, *range(6881, 6890)})
"""FTP data, news, rsync, git, BitTorrent."""

_BEGINNINGS: Final = (
    (b"NICK ", "chat"),
    (b"USER ", "chat"),
    (b"CAP LS", "chat"),
    (b"PASS ", "chat"),
    (b"<?xml", "chat"),
    (b"<stream:stream", "chat"),
    (b"\x13BitTorrent protocol", "bulk"),
    (b"@RSYNCD:", "bulk"),
    (b"GET ", "browse"),
    (b"POST ", "browse"),
    (b"HEAD ", "browse"),
    (b"PRI * HTTP/2.0", "browse"),
)


def by_target(target: Target, start: str) -> str:
    """The class that a target suggests; ``start`` where it suggests none; "" for what says nothing."""
    service = target.service_name
    if service is not None:
        return "" if service in (SHAPE_SERVICE, ACCOUNT_SERVICE) else SERVICE_TRAFFIC
    if target.kind == "datagrams":
        return DATAGRAM_TRAFFIC
    if target.port in _CHAT_PORTS:
        return "chat"
    return "bulk" if target.port in _BULK_PORTS else start


def by_beginning(data: bytes) -> str | None:
    """The class that a stream's first bytes show; TLS shows none, anything may be inside."""
    for beginning, traffic in _BEGINNINGS:
        if data.startswith(beginning):
            return traffic
    return None


class Volume:
    """How much a stream moves: whether it has outgrown its class."""

    __slots__ = ("_at", "_before")

    def __init__(self) -> None:
        self._at: float | None = None
        self._before = 0

    def outgrown(self, shape: ClassShape, total: int, now: float) -> str | None:
        """The class it belongs to, ``total`` being its bytes both ways so far; None: where it is.

        To be asked every so often; bytes are counted in steps of ``within`` seconds.
        """
        limit = shape.outgrown
        if limit is None:
            return None
        if total - self._before > limit.size:
            return limit.to
        if self._at is None or now - self._at >= limit.within:
            self._before = total if self._at is not None else self._before
            self._at = now
        return None
