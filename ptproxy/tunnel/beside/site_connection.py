"""The connection to the web server that stands beside every accepted one, until somebody needs it or not.

Where it speaks TLS, its handshake stops before the last step until the stranger's
own is through, so that a web server meets both at once as it would have alone:
time-outs run from there, and what the stranger says first comes together with it.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from ptproxy.errors import why
from ptproxy.log import get_logger
from ptproxy.tunnel.beside.ends import RawEnd, TlsEnd
from ptproxy.tunnel.beside.openssl import OpenSSL
from ptproxy.tunnel.boring.connection import Want
from ptproxy.tunnel.polling import polled

CONNECT_TIMEOUT: Final = 20.0
"""Seconds for the web server to take a connection."""

HELD_LOOK: Final = 0.25
"""Seconds between looks whether the web server has given up a handshake that waits for a stranger's."""
MOST_EARLY: Final = 64 * 1024
"""Bytes that the web server may say by itself before it is read no more (HTTP/2: a SETTINGS frame)."""

_ENDED: Final = getattr(select, "POLLRDHUP", 0)
_POLLS_ENDS: Final = bool(_ENDED)
"""Whether the end of a connection shows behind what is still to be read."""

log = get_logger(__name__)

Connect = Callable[[], Awaitable[socket.socket]]
"""Connects to the web server's TLS port (non-blocking socket); raises OSError."""


class SiteServer:
    """The web server behind a bridge: how to reach it, and whether it was reached lately."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, library: OpenSSL, context: ssl.SSLContext, connect: Connect
    ) -> None:
        self.loop = loop
        self.library = library
        self.context = context
        self.connect = connect
        self.tasks: set[asyncio.Task[None]] = set()
        self._unreached = False

    def reached(self, error: OSError | None) -> None:
        """Tell once when the web server does not take connections."""
        if error is not None and not self._unreached:
            log.warning("the web site's server is not reached", why=why(error))
        self._unreached = error is not None

    async def wait_closed(self) -> None:
        """Until no connection is being made any more."""
        if self.tasks:
            await asyncio.wait(self.tasks)


class SiteConnection:
    """One of them; ``changed`` is called whenever one of the attributes below has changed."""

    __slots__ = (
        "_held", "_look", "_name", "_protocol", "_released", "_server", "_task", "_watched",
        "_watches_room", "changed", "early", "end", "lost", "up",
    )  # fmt: skip

    def __init__(self, server: SiteServer, changed: Callable[[], None]) -> None:
        self._server = server
        self._name = ""
        self._protocol: bytes | None = None
        self._watched = self._watches_room = self._released = False
        self._held = True
        self._look: asyncio.TimerHandle | None = None
        self.changed = changed
        self.end: RawEnd | None = None
        self.up = False
        """Connected, and through with TLS if that was asked for."""
        self.early = b""
        """What the web server has said by itself."""
        self.lost: OSError | None = None
        """Why it could not be made, if so."""
        self._task: asyncio.Task[None] | None = server.loop.create_task(self._connect())
        server.tasks.add(self._task)
        self._task.add_done_callback(server.tasks.discard)

    @property
    def over(self) -> bool:
        """Whether the web server has ended the connection."""
        return self.end is not None and (self.end.ended or self.end.failure is not None)

    @property
    def spoke(self) -> bool:
        """Whether it has done that, or said something."""
        return bool(self.early) or self.over

    def speak_tls(self, name: str, protocol: bytes) -> None:
        """Ask for TLS with this name and one protocol (b"": without ALPN) instead of a raw connection."""
        self._name, self._protocol = name, protocol
        self.up = False
        if self.end is not None:
            self._unwatch()
            self._begin_tls(self.end)

    def complete(self) -> None:
        """The stranger's handshake is through: so may be this one."""
        self._held = False
        if self._look is not None:
            self._look.cancel()
            self._look = None
            self._watch()
            self._ready()

    def release(self) -> RawEnd:
        """Whoever asks owns the end from now on."""
        assert self.end is not None
        self._released = True
        self._unwatch()
        return self.end

    def drop(self) -> None:
        """It is not needed any more."""
        if self._released:
            return
        self._released = True
        if self._task is not None:
            self._task.cancel()
        self._unwatch()
        if self._look is not None:
            self._look.cancel()
        if self.end is not None:
            self.end.close()

    async def _connect(self) -> None:
        server = self._server
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                sock = await server.connect()
        except OSError as error:  # TimeoutError is one
            server.reached(error)
            self.lost = error
            self.changed()
            return
        finally:
            self._task = None
        server.reached(None)
        self.end = RawEnd(sock)
        if self._protocol is not None:
            self._begin_tls(self.end)
        else:
            self.up = True
            self._watch()
            self.changed()

    def _begin_tls(self, raw: RawEnd) -> None:
        server = self._server
        alpn = (self._protocol,) if self._protocol else ()
        self.end = TlsEnd.client(server.library, server.context, raw.sock, self._name, alpn)
        self._held = _POLLS_ENDS and self._held
        self._watch()
        self._step(self.end)

    def _hold(self) -> None:
        """The web server has answered the ClientHello: go on when told, but notice if it gives up."""
        self._unwatch()
        assert self.end is not None
        poll = select.poll()
        poll.register(self.end.sock.fileno(), _ENDED)
        if poll.poll(0):
            self._held, self._look = False, None
            self.end.ended = True
            self.changed()
        else:
            self._look = self._server.loop.call_later(HELD_LOOK, self._hold)

    def _ready(self) -> None:
        """The socket has something: TLS goes on, or the web server speaks before it was asked."""
        end = self.end
        if self._released or end is None:
            return
        if isinstance(end, TlsEnd) and not self.up:
            if self._held:
                self._hold()
            else:
                self._step(end)
            return
        if isinstance(end, TlsEnd):
            data = end.read()
            self.early += data
            if end.ended or end.failure is not None or len(self.early) > MOST_EARLY:
                self._unwatch()
            elif not data:
                return  # tickets
        else:
            self._unwatch()
            self.early = end.read()
        self.changed()

    def _step(self, end: TlsEnd) -> None:
        """Go on with the handshake."""
        try:
            wanted = end.handshake()
        except OSError as error:
            self._unwatch()
            self.lost = error
            log.debug("TLS with the web site's server fails", why=str(error))
        else:
            if wanted is Want.WRITE:
                self._watch_room()
            if wanted is not Want.NOTHING:
                return
            self.up = True
        self.changed()

    # ---- readiness ---------------------------------------------------------------------------------

    def _watch(self) -> None:
        if not self._watched and self.end is not None:
            self._watched = True
            polled(self._server.loop).add_reader(self.end.sock.fileno(), self._ready)

    def _watch_room(self) -> None:
        if not self._watches_room and self.end is not None:
            self._watches_room = True
            self._server.loop.add_writer(self.end.sock.fileno(), self._has_room)

    def _has_room(self) -> None:
        self._stop_watching_room()
        self._ready()

    def _stop_watching_room(self) -> None:
        if self._watches_room and self.end is not None:
            self._watches_room = False
            self._server.loop.remove_writer(self.end.sock.fileno())

    def _unwatch(self) -> None:
        self._stop_watching_room()
        if self._watched and self.end is not None:
            self._watched = False
            polled(self._server.loop).remove_reader(self.end.sock.fileno())
