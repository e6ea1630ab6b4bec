"""A stream that knows which class of traffic it is: what a dialer that follows a shape opens."""

from __future__ import annotations

import asyncio
from typing import Any

from ptproxy.buffer import Buffer
from ptproxy.tunnel.recognise import LOOK, Volume, by_beginning
from ptproxy.tunnel.stream import TunnelStream
from ptproxy.tunnel.tunnel import Tunnel


class TunnelTraffic(TunnelStream):
    """A stream with its class, which its first bytes may show."""

    __slots__ = ("_on_class", "_unseen", "traffic", "volume")

    def __init__(self, tunnel: Tunnel, protocol: asyncio.Protocol, traffic: str, on_class: Any) -> None:
        super().__init__(tunnel, protocol)
        self.traffic = traffic
        self.volume = Volume()
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
