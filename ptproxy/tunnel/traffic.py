"""Which class of traffic a stream is: what a dialer that follows a shape opens knows its own."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ptproxy.buffer import Buffer
from ptproxy.codec.shape import Shape
from ptproxy.session import Stream as SessionStream
from ptproxy.tunnel.recognise import DATAGRAM_TRAFFIC, LOOK, Volume, by_beginning
from ptproxy.tunnel.stream import TunnelStream
from ptproxy.tunnel.tunnel import Tunnel

SETTLES: Final = 2.0
"""Seconds in which what comes at the beginning of a stream, a history or a banner, has mostly come."""


class TunnelTraffic(TunnelStream):
    """A stream with its class, which its first bytes may show."""

    __slots__ = ("_on_class", "_unseen", "settles_at", "traffic", "volume")

    def __init__(self, tunnel: Tunnel, protocol: asyncio.Protocol, traffic: str, on_class: Any) -> None:
        super().__init__(tunnel, protocol)
        self.traffic = traffic
        self.volume = Volume()
        self.settles_at = tunnel.now() + SETTLES
        self._on_class = on_class
        self._unseen = bool(traffic)

    def write(self, data: Buffer) -> None:
        """Send ``data``; the first of it is looked at."""
        if self._unseen and data:
            self._unseen = False
            traffic = by_beginning(bytes(data[:LOOK]))
            if traffic is not None and traffic != self.traffic:
                self.traffic = traffic
                self._on_class()
        super().write(data)


def traffic_of(state: SessionStream, shape: Shape, now: float) -> str:
    """The class of a session's stream by what it has moved until now; "" for nobody's."""
    owner = state.owner
    if type(owner) is not TunnelTraffic:
        if state.is_association:
            return DATAGRAM_TRAFFIC
        return "" if owner is None else shape.start  # from before there was a shape
    if owner.traffic:
        larger = owner.volume.outgrown(shape[owner.traffic], state.received + state.sent, now)
        owner.traffic = larger or owner.traffic
    return owner.traffic


def settled(state: SessionStream, now: float) -> bool:
    """Whether what comes first on a stream has come."""
    owner = state.owner
    return type(owner) is not TunnelTraffic or now >= owner.settles_at
