"""The client's end of an http carrier over HTTP/2, on the connection on which a page was loaded.

What is asked when is :class:`~ptproxy.codec.http_client.ClientHttp`'s, as over
HTTP/1.1; instead of six connections with a request each there is one with as
many streams. The bridge's end is the same: the web server in front turns these
requests into HTTP/1.1.
"""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.http2.hpack import Field
from ptproxy.codec.http2.stream import (
    ConnectionEnded,
    ConnectionEnding,
    DataReceived,
    H2Event,
    H2Stream,
    HeadReceived,
    StreamEnded,
    StreamReset,
)
from ptproxy.codec.http_client import ClientHttp
from ptproxy.codec.http_client_link import ClientHttpLink
from ptproxy.codec.http_exchange import Download, Exchange, Upload
from ptproxy.codec.http_posts import request_with_body
from ptproxy.codec.http_records import POST
from ptproxy.codec.interface import Appearance, CodecSettings, Event, SiteAnswered
from ptproxy.codec.interface import Link as CodecLink
from ptproxy.errors import CodecError

SLOTS: Final = 8
"""Requests in flight on the connection: four POSTs, two to four GETs."""


class Slot(ClientHttpLink):
    """One request at a time of a connection's; to the carrier what a connection is over HTTP/1.1."""

    __slots__ = ("owner", "stream")

    def __init__(self, carrier: ClientHttp, owner: H2Link) -> None:
        super().__init__(carrier)
        self.live = True
        self.owner = owner
        self.stream: H2Stream | None = None


class ClientHttp2(ClientHttp):
    """One carrier: one connection, and for a while a second where the server ends the first."""

    __slots__ = ("_connections", "_host", "_look", "_path", "_visited")

    def __init__(self, settings: CodecSettings, opening: bytes, rng: Random, look: Appearance) -> None:
        super().__init__(settings, opening, rng)
        self._look = look
        self._visited: H2Client | None = look.http2
        self._host = settings.host
        self._path = settings.path
        self._connections: list[H2Link] = []

    @property
    def links_wanted(self) -> int:
        """One that takes requests, and those that end once their last answers are there."""
        return 0 if self._ended else 1 + sum(link.draining for link in self._connections)

    def open_link(self) -> H2Link:  # type: ignore[override]  # its slots are what a link is over HTTP/1.1
        """A connection's conversation: the first one has begun with the visit, a later one is new."""
        h2, self._visited = self._visited, None
        link = H2Link(self, h2 or H2Client(self._look.browser.http2, self.now))
        link.closing = self._ended
        self._connections.append(link)
        return link

    def links_to_flush(self) -> Collection[CodecLink]:
        """All connections: there is one, seldom two."""
        self.assign()
        self._flush.clear()
        return tuple(self._connections)

    def deadline(self) -> float | None:
        """The connections' and the carrier's."""
        times = [super().deadline(), *(link.deadline() for link in self._connections)]
        return min((one for one in times if one is not None), default=None)

    def on_deadline(self, now: float) -> list[Event]:
        """Time has come for any of them."""
        events: list[Event] = []
        for link in tuple(self._connections):
            link.on_deadline(now, events)
        due = super().deadline()
        return events + super().on_deadline(now) if due is not None and due <= now else events

    def add_slot(self, slot: Slot) -> Slot:
        """Requests may go: the connection is there."""
        self._links.append(slot)
        self.link_ready(slot)
        return slot

    def disconnected(self, link: H2Link) -> None:
        """A connection carries nothing more."""
        if link in self._connections:
            self._connections.remove(link)

    def _start(self, link: ClientHttpLink, exchange: Exchange) -> None:
        assert isinstance(link, Slot)
        self._idle.remove(link)
        body: list[Buffer] | None = None
        variables = {"host": self._host, "path": self._path, "referer": f"https://{self._host}/"}
        if type(exchange) is Upload:
            exchange.sent_at = self.now
            length = self.body_length(exchange.size)
            body = request_with_body(b"", exchange, length, self._pool)
            cookie = self._cookie(POST, exchange.number)
            variables |= {
                "length": str(length),
                "content_type": "application/octet-stream",
                "origin": f"https://{self._host}",
            }
        elif exchange.number == 0:
            cookie = self._cookies.opening
        else:
            assert type(exchange) is Download
            cookie = self._cookie(exchange.kind, exchange.number)
        browser = self._look.browser
        site = self._look.memory.crumbs(self._path, self._cookies.name)
        crumbs = (*site, *cookie.decode("ascii").split("; "))
        kind = "fetch" if body is None else "post"
        fields = browser.fields(kind, variables, crumbs)
        link.exchange = exchange
        link.owner.send(link, fields, browser.requests[kind].urgency, body, self.now)


class H2Link:
    """One connection's conversation."""

    __slots__ = ("_begun", "_busy", "_carrier", "_slots", "closing", "draining", "h2")

    def __init__(self, carrier: ClientHttp2, h2: H2Client) -> None:
        self.closing = False
        self.draining = False
        """The server takes no new requests on it."""
        self.h2 = h2
        self._carrier = carrier
        self._slots: list[Slot] = []
        self._busy: dict[H2Stream, Slot] = {}
        self._begun = False

    # ---- for the tunnel --------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Feed what the connection received. Raises :class:`CodecError`: the carrier is then dead."""
        events: list[Event] = []
        if self.closing:
            return events
        self._carrier.now = now
        try:
            self._take(self.h2.receive_data(data, now), events)
        except CodecError:
            self._end()
            self._carrier.fail()
            raise
        self._carrier.settle(events)
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended: whatever was under way is the carrier's to repair."""
        events: list[Event] = []
        self._carrier.now = now
        if not self.closing:
            self._take(self.h2.receive_eof(), events)
            if not self._begun:
                self._carrier.link_died_unused(events)
            self._carrier.settle(events)
        return events

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written, each buffer a TLS record of its own."""
        carrier = self._carrier
        if not self._begun and not self.closing:
            self._begun = True
            self._slots = [carrier.add_slot(Slot(carrier, self)) for _ in range(SLOTS)]
        carrier.assign()
        if carrier.links_wanted == 0:
            self.closing = True
        return self.h2.data_to_send()

    # ---- for the carrier -------------------------------------------------------------------------

    def send(
        self, slot: Slot, fields: list[Field], urgency: int, body: list[Buffer] | None, now: float
    ) -> None:
        """Send a slot's request."""
        slot.stream = self.h2.send_request(fields, urgency, body, now)
        self._busy[slot.stream] = slot

    def deadline(self) -> float | None:
        """That of a server that does not answer."""
        return self.h2.deadline()

    def on_deadline(self, now: float, events: list[Event]) -> None:
        """Time has come."""
        self._take(self.h2.on_deadline(now), events)

    # ---- what arrives ----------------------------------------------------------------------------

    def _take(self, arrived: list[H2Event], events: list[Event]) -> None:
        data: list[memoryview] = []  # pieces of one body that came together
        for position, event in enumerate(arrived):
            if type(event) is DataReceived:
                data.append(memoryview(event.data))
                following = arrived[position + 1] if position + 1 < len(arrived) else None
                if type(following) is DataReceived and following.stream is event.stream:
                    continue
                slot = self._busy.get(event.stream)
                if slot is not None and slot.exchange is not None:
                    self._carrier.body_received(slot.exchange, data, events)
                data = []
            elif isinstance(event, ConnectionEnding | ConnectionEnded):
                self._drain(isinstance(event, ConnectionEnded))
            else:
                slot = self._busy.get(event.stream)  # None: late answers to the page load
                if slot is not None and slot.exchange is not None:
                    self._answer(slot, slot.exchange, event, events)

    def _answer(self, slot: Slot, exchange: Exchange, event: H2Event, events: list[Event]) -> None:
        carrier = self._carrier
        if isinstance(event, StreamEnded):
            self._free(slot)
            carrier.answered(exchange, events)
        elif isinstance(event, StreamReset):
            self._free(slot)
            carrier.lost(exchange, "the web server reset a request", events)
        elif isinstance(event, HeadReceived):
            fields = dict(event.fields)
            if event.status != 200:
                if not carrier.is_open:
                    raise SiteAnswered(event.status, fields.get("date", ""))
                self.h2.send_reset(event.stream)
                self._free(slot)
                carrier.refused(exchange, event.status, events)
            elif fields.get("content-encoding", "identity") != "identity":
                raise CodecError("the web server in front compresses what it should pass on")

    def _free(self, slot: Slot) -> None:
        if slot.stream is not None:
            self._busy.pop(slot.stream, None)
        slot.exchange = slot.stream = None
        if self.draining:
            self._carrier.link_gone(slot)
            if not self._busy:
                self._end()
        else:
            self._carrier.link_ready(slot)

    def _drain(self, ended: bool) -> None:
        self.draining = True
        for slot in self._slots:
            if slot.exchange is None:
                self._carrier.link_gone(slot)
        if ended or not self._busy:
            self._end()

    def _end(self) -> None:
        self.closing = True
        for slot in self._slots:
            self._carrier.link_gone(slot)
        self._carrier.disconnected(self)
