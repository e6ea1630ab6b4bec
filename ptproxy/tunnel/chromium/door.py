"""The door: a loopback port where the browser's page, and nobody else, meets the client.

Every join is expected: a token is made for it, good once and for a few
seconds. Whoever comes without one that is expected, from another page or under
another name is sent away without a word.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from dataclasses import dataclass
from typing import Final, cast

from ptproxy.codec.head import HttpHead, RequestReader
from ptproxy.codec.interface import CodecSettings
from ptproxy.codec.join import join_request
from ptproxy.codec.ws_upgrade import upgrade_answer
from ptproxy.errors import CodecError
from ptproxy.tunnel.carrier import Connection
from ptproxy.tunnel.chromium.devtools import BrowserError
from ptproxy.tunnel.listen import Listener, listen_tcp

HEAD_TIMEOUT: Final = 5.0
"""Seconds for a visitor to say what it wants; the page does so at once."""
MAX_VISITORS: Final = 16
"""Visitors that have not said it yet; with more the oldest is turned away: the page speaks at once, and
whoever else is on this machine keeps it out by silence otherwise."""
JOIN_TIMEOUT: Final = 10.0
"""Seconds for a page that was told to join to do so."""


@dataclass(slots=True, eq=False)
class Expected:
    """A join that was asked for."""

    token: str
    connection: Connection
    joined: asyncio.Future[None]

    def fail(self, error: BrowserError) -> None:
        """The page has ended; nothing where it had joined."""
        if not self.joined.done():
            self.joined.set_exception(error)


class Door:
    """Listens on 127.0.0.1 for the pages of one browser."""

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: str) -> None:
        self.loop = loop
        self.origin = origin
        self.host = ""
        self.visitors: dict[Visitor, None] = {}  # oldest first
        self._listener: Listener | None = None
        self._expected: list[Expected] = []

    async def open(self) -> None:
        """Start to listen, on a port that the kernel chooses."""
        self._listener = await listen_tcp(self.loop, lambda: Visitor(self), "127.0.0.1", 0)
        self.host = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        """Stop to listen; who has joined stays."""
        if self._listener is not None:
            self._listener.close()
        for visitor in tuple(self.visitors):
            visitor.leave()

    def expect(self, connection: Connection) -> Expected:
        """A join is coming, and ``connection`` is its protocol from then on."""
        expected = Expected(secrets.token_urlsafe(24), connection, self.loop.create_future())
        self._expected.append(expected)
        return expected

    def url(self, expected: Expected) -> str:
        """Where the page is to go."""
        return f"ws://{self.host}/{expected.token}"

    async def wait(self, expected: Expected) -> None:
        """Until it has joined; BrowserError where its page ends or it does not in time."""
        try:
            async with asyncio.timeout(JOIN_TIMEOUT):
                await expected.joined
        except TimeoutError:
            raise BrowserError("the browser's page did not join") from None
        finally:
            if expected in self._expected:
                self._expected.remove(expected)

    def admit(self, head: HttpHead) -> tuple[Expected, str] | None:
        """Whose join this is, and its WebSocket key; None for a stranger."""
        wanted = join_request(head, self.host, self.origin)
        if wanted is None:
            return None
        token, key = wanted
        for expected in self._expected:
            if hmac.compare_digest(expected.token.encode(), token.encode()):
                self._expected.remove(expected)
                return expected, key
        return None


class Visitor(asyncio.Protocol):
    """A connection at the door until it is known whose it is."""

    __slots__ = ("_door", "_reader", "_timer", "_transport")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._reader = RequestReader()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody knocks."""
        self._transport = cast("asyncio.Transport", transport)
        visitors = self._door.visitors
        if len(visitors) >= MAX_VISITORS:
            next(iter(visitors)).leave()
        visitors[self] = None
        self._timer = self._door.loop.call_later(HEAD_TIMEOUT, self.leave)

    def data_received(self, data: bytes) -> None:
        """Its request's head."""
        transport, door = self._transport, self._door
        if transport is None or self not in door.visitors:
            return
        try:
            head = self._reader.receive_data(data)
            if head is None:
                return
            admitted = None if len(self._reader.rest) else door.admit(head)
        except CodecError:
            admitted = None
        if admitted is None:
            self.leave()
            return
        self._decided()
        expected, key = admitted
        transport.write(upgrade_answer(CodecSettings(door.host), key, 0.0).serialize())
        if expected.joined.done():  # nobody waits any more
            transport.abort()
            return
        transport.set_protocol(expected.connection)
        expected.connection.connection_made(transport)
        expected.joined.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """It went away."""
        del exc
        self._decided()

    def leave(self) -> None:
        """Turned away."""
        self._decided()
        if self._transport is not None:
            self._transport.abort()

    def _decided(self) -> None:
        """No visitor any more."""
        self._door.visitors.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
