"""A UDP association through the tunnel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from ptproxy.buffer import Buffer
from ptproxy.errors import DialError, Reason
from ptproxy.target import Target, TargetError
from ptproxy.tunnel.stream import MAX_DATAGRAM, DatagramReceiver

if TYPE_CHECKING:
    from ptproxy.session import Stream as SessionStream
    from ptproxy.tunnel.tunnel import Tunnel


class TunnelAssociation:
    """A UDP association through the tunnel: the session's stream with a receiver on it."""

    __slots__ = ("_lost", "_receiver", "abandoned", "opened", "state", "tunnel")

    def __init__(self, tunnel: Tunnel, receiver: DatagramReceiver | None) -> None:
        self.tunnel = tunnel
        self.state: SessionStream = None  # type: ignore[assignment]  # set by whoever opens
        self.opened: asyncio.Future[None] | None = None
        self.abandoned: Callable[[], None] | None = None
        self._receiver = receiver
        self._lost = False

    def set_receiver(self, receiver: DatagramReceiver) -> None:
        """Who gets the datagrams from now on."""
        self._receiver = receiver

    def send_datagram(self, target: Target, data: bytes) -> None:
        """Send one datagram; what is over-long is dropped, as a network would."""
        if not self._lost and len(data) <= MAX_DATAGRAM:
            self.state.send_datagram(target.serialize(), bytes(data), self.tunnel.now())
            self.tunnel.schedule()

    def close(self) -> None:
        """End the association; the receiver is not told."""
        if not self._lost:
            self._lost = True
            self.state.reset(Reason.CANCELLED, self.tunnel.now())
            self.tunnel.schedule()

    # ---- what the tunnel tells -------------------------------------------------------------------

    def datagram(self, address: Buffer, data: Buffer) -> None:
        """A datagram came; one whose address is nonsense is dropped."""
        if self._receiver is None or self._lost:
            return
        try:
            source = Target.parse(bytes(address))
        except TargetError:
            return
        self._receiver.datagram_received(source, bytes(data))

    def deliver(self, data: Buffer) -> None:
        """Associations carry no stream bytes: they are given back and forgotten."""
        self.state.consume(len(data), self.tunnel.now())

    def deliver_eof(self) -> None:
        """Associations have no half-close."""

    def writable(self) -> None:
        """Datagrams know no credit."""

    def lost(self, reason: Reason | None) -> None:
        """The association is over."""
        if self._lost:
            return
        self._lost = True
        error = DialError(reason if reason is not None else Reason.GENERAL)
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(error)
        elif self._receiver is not None:
            self._receiver.association_lost(error if reason is not None else None)
        elif self.abandoned is not None:
            self.abandoned()
