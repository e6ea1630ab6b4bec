"""One HTTP/1.1 connection of a client's http carrier: one request, its response, the next request.

The link knows how a request is written and a response read; which request
comes next and what its response means is the carrier's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ptproxy.buffer import Buffer
from ptproxy.codec.head import ResponseReader
from ptproxy.codec.http_body import BodyReader, LengthBody, response_body
from ptproxy.codec.interface import Event, SiteAnswered
from ptproxy.errors import CodecError

if TYPE_CHECKING:
    from ptproxy.codec.http_client import ClientHttp
    from ptproxy.codec.http_exchange import Exchange

MAX_INTERIM: Final = 8
"""1xx responses before a final one: browsers see at most a few 103."""


class ClientHttpLink:
    """The conversation on one connection."""

    __slots__ = (
        "_body", "_carrier", "_interim", "_keep", "_known", "_out", "_reader", "closing",
        "exchange", "live", "used",
    )  # fmt: skip

    def __init__(self, carrier: ClientHttp) -> None:
        self.closing = False
        self.live = False
        """The connection is there: something asked what to write."""
        self.used = False
        """It has carried a request."""
        self.exchange: Exchange | None = None
        self._carrier = carrier
        self._out: list[Buffer] = []
        self._reader = ResponseReader()
        self._body: BodyReader | None = None
        self._interim = 0
        self._keep = True
        self._known = b""  # the last whole answer without body: answers to POSTs are alike

    # ---- for the tunnel --------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Feed what the connection received. Raises :class:`CodecError`: the carrier is then dead."""
        events: list[Event] = []
        if self.closing:
            return events
        carrier = self._carrier
        carrier.now = now
        try:
            self._receive(memoryview(data), events)
        except CodecError:
            carrier.fail()
            raise
        carrier.settle(events)
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended: whatever was under way is the carrier's to repair."""
        events: list[Event] = []
        carrier = self._carrier
        carrier.now = now
        exchange, body = self.exchange, self._body
        if not self.closing:
            complete = body is not None and body.receive_eof()
            self.drop()
            if exchange is None:
                if not self.used:
                    carrier.link_died_unused(events)
            elif complete:
                carrier.answered(exchange, events)
            else:
                carrier.lost(exchange, "connection lost", events)
            carrier.settle(events)
        return events

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written; the first call says that the connection is there."""
        if not self.live and not self.closing:
            self.live = True
            self._carrier.link_ready(self)
        if self.exchange is None:
            self._carrier.assign()
        out, self._out = self._out, []
        return out

    # ---- for the carrier -------------------------------------------------------------------------

    def start(self, exchange: Exchange, out: list[Buffer]) -> None:
        """Send a request: its head and body as buffers."""
        self.exchange = exchange
        self.used = True
        self._keep = True
        self._interim = 0
        self._out += out

    def drop(self) -> None:
        """Give the connection up."""
        self.closing = True
        self.exchange = None
        self._body = None
        self._carrier.link_gone(self)

    # ---- responses -------------------------------------------------------------------------------

    def _receive(self, data: memoryview, events: list[Event]) -> None:
        carrier = self._carrier
        while len(data):
            exchange = self.exchange
            if exchange is None:
                self.drop()  # a web server may say 408 on a connection that it grows tired of
                return
            body = self._body
            if body is None:
                rest = self._receive_head(data, exchange, events)
                if rest is None:
                    return
                data, body = rest, self._body
                if body is None:
                    continue  # after an answer without a body, or an interim one
            parts: list[memoryview] = []
            used = body.receive_data(data, parts)
            if parts:
                carrier.body_received(exchange, parts, events)
            if self.closing:
                return
            if body.done:
                self._finish(exchange, events)
            data = data[used:]

    def _finish(self, exchange: Exchange, events: list[Event]) -> None:
        self._body = None
        self.exchange = None
        if self._keep:
            self._carrier.link_ready(self)
        else:
            self.drop()
        self._carrier.answered(exchange, events)

    def _receive_head(self, data: memoryview, exchange: Exchange, events: list[Event]) -> memoryview | None:
        """Read a head; returns what follows it, None while it is not whole."""
        known, whole = len(self._known), self._reader.empty
        if known and whole and data[:known] == self._known:
            self._finish(exchange, events)
            return data[known:]
        head = self._reader.receive_data(data)
        if head is None:
            return None
        rest = memoryview(self._reader.rest)
        if head.status < 200:
            self._interim += 1
            if head.status == 101 or self._interim > MAX_INTERIM:
                raise CodecError(f"unexpected answer {head.status}")
            return rest
        if head.status != 200:
            if not self._carrier.is_open:
                raise SiteAnswered(head.status, head.get("date") or "")
            self.drop()
            self._carrier.refused(exchange, head.status, events)
            return None
        if head.get("content-encoding") not in (None, "identity"):
            raise CodecError("the web server in front compresses what it should pass on")
        options = head.tokens("connection")
        self._keep = "close" not in options and (head.version == "HTTP/1.1" or "keep-alive" in options)
        self._body = response_body(head)
        if type(self._body) is LengthBody and self._body.done:
            if whole and self._keep:
                self._known = bytes(data[: len(data) - len(rest)])
            self._finish(exchange, events)
        return rest
