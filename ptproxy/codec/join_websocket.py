"""The ``websocket`` codec through a browser: its page has the WebSocket, the local socket what it carries.

After the task (:mod:`~ptproxy.codec.join`), whose cookie is the opening, the
page sets that cookie, opens the WebSocket, takes the cookie away and says one
byte, 1. From then on every message of the one socket is a message of the other.
The head of the upgrade, the masks and the TLS are the browser's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.cookie import opening_to_cookie, session_cookie_name
from ptproxy.codec.interface import CarrierWritable, CodecSettings, Event, Link, PayloadReceived
from ptproxy.codec.join import JoinSocket, page_task, refused
from ptproxy.errors import CodecError, LocalProtocolError

OPENED: Final = 1
"""The page's first byte: the site switched protocols."""


class JoinedWebSocket(JoinSocket):
    """The client's end of a carrier whose WebSocket is a browser's."""

    __slots__ = ("_opened", "_waiting", "_wanted")

    def __init__(self, settings: CodecSettings, opening: bytes, rng: Random) -> None:
        cookie = opening_to_cookie(session_cookie_name(settings), opening)
        record = settings.shape.up.record if settings.shape else ()
        super().__init__(page_task("websocket", "wss", settings, cookie), rng, record)
        self._opened = False
        self._waiting: list[Buffer] = []
        self._wanted = 1

    @property
    def links_wanted(self) -> int:
        """One local socket and never another: nobody but the browser connects to the bridge."""
        return 0 if self._ended or self.closing else self._wanted

    def open_link(self) -> Link:
        """Itself."""
        if not self._wanted:
            raise LocalProtocolError("a page is joined once")
        self._wanted = 0
        return self

    def authenticated(self, token_key: bytes) -> None:
        """Nothing to do: there are no further connections to vouch for."""

    def room(self) -> int:
        """Nothing before the site has switched protocols."""
        return super().room() if self._opened else 0

    def send_data(self, chunks: Sequence[Buffer], now: float) -> None:
        """Send payload; kept until the site has switched protocols."""
        if self._opened:
            super().send_data(chunks, now)
        elif not self._ended:
            self._waiting.extend(chunks)

    def close(self, now: float) -> None:
        """As :meth:`WebSocket.close`; before the answer just drop the page."""
        if self._opened:
            super().close(now)
        else:
            self._end("")

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Also the page's word that the WebSocket is open; :class:`CodecError` where it is not."""
        if self._opened:
            return super().receive_data(data, now)
        try:
            events = super().receive_data(data, now)
            if not events:
                return events
            first = events[0]
            if type(first) is not PayloadReceived:
                refused(events)
            elif first.data[0] != OPENED:
                raise CodecError("the page speaks another language")
        except CodecError:
            self._end("")
            raise
        assert type(first) is PayloadReceived
        self._opened = True
        rest = memoryview(first.data)[1:]
        events[0:1] = [CarrierWritable(self), *([PayloadReceived(self, rest)] if len(rest) else [])]
        waiting, self._waiting = self._waiting, []
        self.send_data(waiting, now)
        return events


class JoinedWebSocketCodec:
    """What stands for the table's ``websocket`` where a browser is the carrier."""

    name = "websocket"

    def client(self, settings: CodecSettings, opening: bytes, rng: Random) -> JoinedWebSocket:
        """One carrier's client end; the browser draws its own random bytes."""
        return JoinedWebSocket(settings, opening, rng)


JOINED_WEBSOCKET: Final = JoinedWebSocketCodec()
