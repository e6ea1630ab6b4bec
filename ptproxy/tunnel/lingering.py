"""Sessions that only go on: those that take no new streams any more, and one that has no carrier."""

from __future__ import annotations

from collections.abc import Iterator

from ptproxy.errors import Reason
from ptproxy.log import get_logger
from ptproxy.tunnel.client import ClientTunnel

log = get_logger(__name__)


class Retired:
    """Sessions in whose place another one takes new streams; their old streams go on."""

    def __init__(self) -> None:
        self._tunnels: list[ClientTunnel] = []

    def __iter__(self) -> Iterator[ClientTunnel]:
        return iter(tuple(self._tunnels))

    def add(self, tunnel: ClientTunnel) -> None:
        """It takes no more streams."""
        if not tunnel.closed:
            self._tunnels.append(tunnel)

    def close_lost(self) -> None:
        """Close those without a carrier: nobody dials for them, their streams can only wait."""
        for tunnel in self:
            if not tunnel.carriers:
                self._tunnels.remove(tunnel)
                tunnel.close(Reason.CONNECTION_LOST)

    def close_ended(self) -> None:
        """Close those without a stream."""
        for tunnel in self:
            if not tunnel.session.streams:
                self._tunnels.remove(tunnel)
                tunnel.close()


class Lingering:
    """Streams that wait for a carrier."""

    def __init__(self, linger: float) -> None:
        """``linger``: seconds for which they do."""
        self._linger = linger
        self._since: float | None = None

    def look(self, tunnel: ClientTunnel) -> None:
        """Those that have waited too long are over; to be called every few seconds."""
        if tunnel.carriers or not tunnel.session.streams:
            self._since = None
        elif self._since is None:
            self._since = tunnel.now()
        elif tunnel.now() - self._since > self._linger:
            log.warning("no carrier for too long; open streams are given up")
            tunnel.close(Reason.TUNNEL_DOWN)
