"""What a bridge's exit gets for a stream that a client opened: take it, or refuse it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ptproxy.errors import LocalProtocolError, Reason
from ptproxy.target import Target
from ptproxy.tunnel.association import TunnelAssociation
from ptproxy.tunnel.stream import DatagramReceiver, TunnelStream


class TunnelIncoming:
    """A stream that the far side opened, before anybody has taken it (an ``Incoming``)."""

    __slots__ = ("_done", "_owner", "cancelled", "first_data", "peer", "target")

    def __init__(
        self, owner: TunnelStream | TunnelAssociation, target: Target, first_data: bytes, peer: str
    ) -> None:
        self.target = target
        self.first_data = first_data
        self.peer = peer
        self.cancelled = False
        self._owner = owner
        self._done = False
        owner.abandoned = self._abandoned

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the client's connection comes from that brought the request; None behind a Unix socket."""
        state = self._owner.state
        carrier = None if state.carrier is None else self._owner.tunnel.carriers.get(state.carrier)
        return None if carrier is None else carrier.origin

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the far side gives up before anything was decided."""
        if self.cancelled:
            callback()
        elif not self._done:
            owner = self._owner

            def both() -> None:
                self._abandoned()
                callback()

            owner.abandoned = both

    def accept(self, protocol: asyncio.Protocol) -> TunnelStream:
        """Take the stream: the far side is told, ``connection_made`` is called, data follows."""
        self._decide()
        stream = self._owner
        if not isinstance(stream, TunnelStream):
            raise LocalProtocolError("an association is taken with accept_association")
        stream.state.accept(stream.tunnel.now())
        stream.tunnel.schedule()
        stream.set_protocol(protocol)
        stream.start()
        return stream

    def accept_association(self, receiver: DatagramReceiver) -> TunnelAssociation:
        """Take a UDP association."""
        self._decide()
        association = self._owner
        if not isinstance(association, TunnelAssociation):
            raise LocalProtocolError("a stream is taken with accept")
        association.state.accept(association.tunnel.now())
        association.tunnel.schedule()
        association.set_receiver(receiver)
        return association

    def refuse(self, reason: Reason) -> None:
        """Do not take it; the far side is told why."""
        if self.cancelled or self._done:
            return
        self._decide()
        owner = self._owner
        owner.state.reset(reason, owner.tunnel.now())
        owner.tunnel.schedule()

    def _decide(self) -> None:
        if self.cancelled or self._done:
            raise LocalProtocolError("the stream was already decided or given up")
        self._done = True
        self._owner.abandoned = None

    def _abandoned(self) -> None:
        self.cancelled = True
