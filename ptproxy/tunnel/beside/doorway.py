"""The way in of a bridge that terminates TLS itself, beside a real web server on its own TLS port.

Every connection has a second one to the web server from the moment it is
accepted, so that silence ends when and how the web server ends it. What its
first bytes say decides, without their being taken from the kernel:

- A ClientHello of TLS 1.3 that asks for the right name (or offers a ticket of
  ours; only the web server can take another) and for a protocol that the web
  server speaks is answered here, and the web server is asked for the same one
  at the same time. Until an opening has verified, whatever
  then happens on either connection makes the stranger the web server's, from
  TLS to TLS (:class:`~ptproxy.tunnel.beside.couple.Couple`).
- Everything else, and silence, is passed on as it is.

So a client's connection costs the web server one handshake without a request,
and the web server sees the bridge's address for a stranger's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from enum import Enum
from typing import Final

from ptproxy.codec.client_hello import ClientHelloReader
from ptproxy.errors import CodecError
from ptproxy.tunnel.arrival import Arrival
from ptproxy.tunnel.beside.couple import Couple
from ptproxy.tunnel.beside.ends import RawEnd, TlsEnd
from ptproxy.tunnel.beside.h2_couple import H2Couple
from ptproxy.tunnel.beside.server_transport import ServerTransport
from ptproxy.tunnel.beside.site_connection import SiteConnection, SiteServer
from ptproxy.tunnel.beside.terms import Terms
from ptproxy.tunnel.beside.watch import Watch
from ptproxy.tunnel.boring.connection import Want
from ptproxy.tunnel.polling import polled

PEEK: Final = 40 * 1024
"""Bytes looked at: the longest ClientHello that is taken apart, and its records' heads."""
HELLO_TIMEOUT: Final = 3.0
"""Seconds that the rest of a ClientHello is waited for; then what there is belongs to the web server."""
LOOK_AGAIN: Final = 0.01
"""Seconds between looks at a hello that is not whole, where the kernel cannot wait for more of it."""
SITELESS_TIMEOUT: Final = 60.0
"""Seconds that a connection may take to say what it is while the web server is not reached."""
MOST_STRANGERS: Final = 2048
"""Strangers at once, two descriptors each; one more ends the oldest, as a web server out of workers does."""

H2: Final = "h2"

_KERNEL_WAITS = sys.platform == "linux"
"""Whether SO_RCVLOWAT counts for readiness, so that one wake with nothing new means an end."""


class Doorway:
    """Takes accepted sockets; owns whatever is not a client's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        terms: Terms,
        server: SiteServer,
        arrival: Callable[[], Arrival],
        *,
        most_waiting: int,
        most_strangers: int = MOST_STRANGERS,
    ) -> None:
        """``arrival`` makes the protocol of a connection whose TLS is up."""
        self.loop = loop
        self.terms = terms
        self.server = server
        self.arrival = arrival
        self.waiting: dict[Visit, None] = {}
        """Neither a client's nor the web server's yet, oldest first."""
        self.strangers: dict[Visit, None] = {}
        """The web server's, oldest first."""
        self.clients: set[Visit] = set()
        """Clients' connections of which some streams are the web server's."""
        self._most_waiting = most_waiting
        self._most_strangers = most_strangers

    def enter(self, sock: socket.socket) -> None:
        """A connection was accepted."""
        if len(self.waiting) >= self._most_waiting:
            next(iter(self.waiting)).drop()
        visit = Visit(self, sock)
        self.waiting[visit] = None
        visit.begin()

    def make_room(self) -> None:
        """No descriptor or memory is left: an eighth of those who wait goes, and of the strangers."""
        for visits in (self.waiting, self.strangers):
            for visit in list(visits)[: (len(visits) + 7) // 8]:
                visit.drop()

    def is_strangers(self, visit: Visit) -> None:
        """A visit is the web server's."""
        del self.waiting[visit]
        if len(self.strangers) >= self._most_strangers:
            next(iter(self.strangers)).drop()
        self.strangers[visit] = None

    def is_clients(self, visit: Visit) -> None:
        """What was the web server's is a client's as well."""
        self.strangers.pop(visit, None)
        self.clients.add(visit)

    def gone(self, visit: Visit) -> None:
        """A visit is over, or a client's alone."""
        self.waiting.pop(visit, None)
        self.strangers.pop(visit, None)
        self.clients.discard(visit)

    async def close(self) -> None:
        """End everything that is here."""
        for visit in [*self.waiting, *self.strangers, *self.clients]:
            visit.drop()
        await self.server.wait_closed()


class _Stage(Enum):
    """How far a visit has come."""

    HELLO = "says who it wants"
    TLS = "in its handshake with us"
    UNDECIDED = "speaks through TLS"
    STRANGER = "is the web server's"
    OVER = "is over, or a client's"


class Visit:
    """One accepted connection, and the web server's beside it."""

    __slots__ = (
        "_arrival", "_couple", "_doorway", "_early", "_hello", "_loop", "_near", "_seen", "_site", "_stage",
        "_timer", "_transport", "_watch",
    )  # fmt: skip

    def __init__(self, doorway: Doorway, sock: socket.socket) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._doorway = doorway
        self._loop = doorway.loop
        self._near: RawEnd = RawEnd(sock)
        self._stage = _Stage.HELLO
        self._hello = ClientHelloReader()
        self._seen = 0
        self._early = b""  # what a stranger said through TLS before it was known to be one
        self._watch = Watch(self._loop, sock, self._ready)
        self._timer: asyncio.TimerHandle | None = None
        self._arrival: Arrival | None = None
        self._transport: ServerTransport | None = None
        self._couple: Couple | None = None
        self._site = SiteConnection(doorway.server, self._site_changed)

    def begin(self) -> None:
        """Look at what is said."""
        self._watch.for_input()
        self._look()

    def drop(self) -> None:
        """End it, whatever it is, without a word."""
        if self._couple is not None:
            self._couple.close()
        elif self._stage is not _Stage.OVER:
            self._leave()
            if self._transport is not None:
                self._transport.abort()
            else:
                self._near.reset()

    def _leave(self) -> None:
        """This is no visit any more."""
        self._stage = _Stage.OVER
        self._stop()
        self._site.drop()
        self._doorway.gone(self)

    def _stop(self) -> None:
        """Watch nothing of the stranger's."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._watch.stop()

    # ---- the first bytes ---------------------------------------------------------------------------

    def _look(self) -> None:
        """Look at the ClientHello as far as it has come."""
        if self._stage is not _Stage.HELLO:
            return
        try:
            data = self._near.sock.recv(PEEK, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.drop()
            return
        new, self._seen = data[self._seen :], len(data)
        if not new and (_KERNEL_WAITS or not data):
            self._splice()  # it has ended: the web server's to see
            return
        try:
            hello = self._hello.receive_data(new)
        except CodecError:
            self._splice()
            return
        if hello is not None:
            protocol = self._doorway.terms.protocol_for(hello)
            if protocol is None:
                self._splice()
            else:
                self._terminate(protocol)
        elif len(data) >= PEEK:
            self._splice()
        else:
            self._wait_for_more()

    def _wait_for_more(self) -> None:
        """Be called again with more than was seen, or at the end."""
        if self._timer is None:
            self._timer = self._loop.call_later(HELLO_TIMEOUT, self._splice)
        if _KERNEL_WAITS:
            self._set_low_water(self._seen + 1)
        else:
            self._watch.stop()
            self._loop.call_later(LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        if self._stage is _Stage.HELLO:
            self._watch.for_input()
            self._look()

    def _set_low_water(self, size: int) -> None:
        with contextlib.suppress(OSError):
            self._near.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    # ---- strangers ---------------------------------------------------------------------------------

    def _splice(self) -> None:
        """It is the web server's as it is."""
        if self._stage is not _Stage.HELLO:
            return
        self._set_low_water(1)
        self._is_strangers()

    def _is_strangers(self) -> None:
        self._stop()
        self._stage = _Stage.STRANGER
        self._doorway.is_strangers(self)
        if self._stage is _Stage.STRANGER:  # not the one that had to go
            self._site_changed()

    def _site_changed(self) -> None:
        """The web server's connection has come further, or to its end."""
        site, stage = self._site, self._stage
        if stage is _Stage.STRANGER:
            if site.lost is not None:
                self._leave()
                self._near.reset()
            elif site.up:
                self._join()
        elif stage is _Stage.HELLO:
            if isinstance(site.lost, ConnectionResetError):
                self.drop()
            elif site.lost is not None:
                self._bound()
            elif site.spoke:
                self._splice()
        elif site.lost is not None:
            self._bound()
        elif site.over and stage is _Stage.TLS:
            self._leave()
            self._near.close()  # what a web server that gives a handshake up says is nothing
        elif site.spoke and stage is _Stage.UNDECIDED:
            assert self._arrival is not None
            self._arrival.give_up()

    def _bound(self) -> None:
        """No web server ends this, so time does."""
        if self._timer is None and self._site.lost is not None:
            self._timer = self._loop.call_later(SITELESS_TIMEOUT, self.drop)

    def _join(self) -> None:
        site, requests = self._site, self._doorway.terms.requests
        near, server = self._near, site.release()
        if requests is not None and isinstance(near, TlsEnd) and near.selected_alpn_protocol() == H2:
            self._couple = H2Couple(
                self._loop, near, server, self._over, requests, self._doorway.arrival,
                lambda: self._doorway.is_clients(self), server_early=site.early,
            )  # fmt: skip
        else:
            self._couple = Couple(
                self._loop, near, server, self._over, early=self._early, server_early=site.early
            )
        self._early = site.early = b""

    def _over(self) -> None:
        self._stage = _Stage.OVER
        self._doorway.gone(self)

    # ---- TLS that ends here ------------------------------------------------------------------------

    def _terminate(self, protocol: bytes) -> None:
        """Answer the ClientHello ourselves, and ask the web server for the same protocol.

        Under the usual name, also where a ticket came under another: a server takes its tickets under
        any, and goes by the Host field then.
        """
        self._stop()
        self._set_low_water(1)
        terms = self._doorway.terms
        self._stage = _Stage.TLS
        self._site.speak_tls(terms.server_name, protocol)
        self._near = TlsEnd.server(terms.library, terms.context, self._near.sock)
        self._watch.for_input()
        self._bound()
        self._shake_hands()

    def _shake_hands(self) -> None:
        if self._stage is not _Stage.TLS:
            return
        near = self._near
        assert isinstance(near, TlsEnd)
        try:
            wanted = near.handshake()
        except OSError as error:
            self._leave()
            if isinstance(error, ConnectionResetError):
                near.reset()
            else:
                near.close()  # after the alert, where one was due
            return
        if wanted is Want.WRITE:
            self._watch.for_room()
        elif wanted is Want.NOTHING:
            self._stop()
            self._arrive(near)

    def _arrive(self, near: TlsEnd) -> None:
        """TLS is up: what is said now tells a client from a stranger."""
        self._stage = _Stage.UNDECIDED
        self._site.complete()
        if near.selected_alpn_protocol() == H2:
            self.is_strangers(b"")
            return
        self._arrival = arrival = self._doorway.arrival()
        arrival.visit = self
        self._transport = ServerTransport(self._loop, polled(self._loop), near, arrival)
        self._transport.start()
        if self._stage is _Stage.UNDECIDED:
            self._bound()
        if self._stage is _Stage.UNDECIDED and self._site.spoke:
            arrival.give_up()

    def is_clients(self) -> None:
        """An opening has verified: the web server is not needed."""
        if self._stage is _Stage.UNDECIDED:
            self._leave()

    def is_strangers(self, received: bytes) -> None:
        """No opening: the web server gets what was said, and everything from now on."""
        if self._stage is not _Stage.UNDECIDED:
            return
        self._early = received
        if self._transport is not None:
            self._near = self._transport.detach()
            self._transport = None
        self._arrival = None
        self._is_strangers()

    def is_over(self) -> None:
        """The connection is gone before it was anybody's."""
        if self._stage is _Stage.UNDECIDED:
            self._leave()

    # ---- readiness ---------------------------------------------------------------------------------

    def _ready(self) -> None:
        if self._stage is _Stage.HELLO:
            self._look()
        else:
            self._shake_hands()
