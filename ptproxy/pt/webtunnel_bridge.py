"""A bridge that WebTunnel clients reach: what would be the web site's is looked at for an upgrade first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import Reason
from ptproxy.pt.parent import SERVICE, Parent
from ptproxy.pt.upgrade import accept_upgrade
from ptproxy.target import Target
from ptproxy.tunnel.stream import Association, DatagramReceiver, Site, Stream

MAX_EARLY: Final = 64 * 1024
"""Bytes a client may say before the parent has taken its connection; more ends it."""


class UpgradeFront:
    """Stands before a web site: upgrades go to the parent, everything else to the site."""

    def __init__(self, site: Site, path: str, parent: Parent) -> None:
        self._site = site
        self._path = path
        self._parent = parent

    def adopt(self, transport: asyncio.Transport, received: bytes) -> None:
        """See :class:`~ptproxy.tunnel.stream.Site`."""
        accepted = accept_upgrade(received, self._path)
        if accepted is None:
            self._site.adopt(transport, received)
            return
        answer, rest = accepted

        def refused(more: bytes) -> None:
            self._site.adopt(transport, received + more)

        incoming = UpgradedConnection(transport, answer, rest, refused)
        transport.set_protocol(incoming)
        self._parent(incoming)
        transport.resume_reading()


class UpgradedConnection(asyncio.Protocol):
    """A connection that asks for the parent, as an :class:`~ptproxy.tunnel.stream.Incoming`."""

    def __init__(
        self, transport: asyncio.Transport, answer: bytes, early: bytes, refused: Callable[[bytes], None]
    ) -> None:
        self.target = Target.service(SERVICE)
        self.first_data = early
        self.peer = "webtunnel"
        self.cancelled = False
        self._transport = transport
        self._answer = answer
        self._early = early
        self._refused = refused
        self._on_cancel: Callable[[], None] | None = None
        self._decided = False

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the connection comes from."""
        name = self._transport.get_extra_info("peername")
        return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None

    # ---- for the parent ---------------------------------------------------------------------------

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the client leaves before anything was decided."""
        self._on_cancel = callback

    def accept(self, protocol: asyncio.Protocol) -> Stream:
        """The parent has taken the connection: the client is told, and its bytes follow."""
        transport = self._transport
        self._decided = True
        transport.write(self._answer)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._early:
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._deliver, protocol)
        return transport

    def accept_association(self, receiver: DatagramReceiver) -> Association:
        """Nobody asks for one here."""
        raise NotImplementedError

    def refuse(self, reason: Reason) -> None:
        """Without the parent, the client meets the web site as a stranger does."""
        del reason
        if not self._decided and not self.cancelled:
            self._decided = True
            self._refused(self._early[len(self.first_data) :])

    def _deliver(self, protocol: asyncio.Protocol) -> None:
        """What came before the parent was there."""
        if not self._transport.is_closing():
            self._transport.resume_reading()  # first: a parent that is behind with this pauses it again
            protocol.data_received(self._early)

    # ---- what the transport tells -------------------------------------------------------------------

    def data_received(self, data: Buffer) -> None:
        """The client does not wait for the answer."""
        self._early += bytes(data)
        if len(self._early) > MAX_EARLY:
            self._transport.abort()

    def eof_received(self) -> bool:
        """It sends no more, and so wants nothing."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It has left."""
        del exc
        if not self._decided and not self.cancelled:
            self.cancelled = True
            if self._on_cancel is not None:
                self._on_cancel()
