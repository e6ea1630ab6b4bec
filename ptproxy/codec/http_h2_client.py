"""The client's end of an http carrier over one HTTP/2 connection: first a page as a browser loads it.

What is asked when is :class:`~ptproxy.codec.http_client.ClientHttp`'s, as over
HTTP/1.1; instead of six connections with a request each there is one with as
many streams. The bridge's end is the same: the web server in front turns these
requests into HTTP/1.1. Payload waits until the page is loaded.
"""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.browser import Browser
from ptproxy.codec.h2_client import H2Client
from ptproxy.codec.h2_hpack import Field
from ptproxy.codec.h2_stream import (
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
from ptproxy.codec.interface import CodecSettings, Event, Link, SiteAnswered
from ptproxy.codec.page_cache import SiteMemory
from ptproxy.codec.page_load import PageLoad
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

    __slots__ = ("_browser", "_clock", "_connections", "_host", "_memory", "_path", "_rng", "_visited")

    def __init__(
        self,
        settings: CodecSettings,
        opening: bytes,
        rng: Random,
        browser: Browser,
        memory: SiteMemory,
        clock: float,
    ) -> None:
        """``clock`` is unix time minus the ``now`` of later calls."""
        super().__init__(settings, opening, rng)
        self._browser = browser
        self._memory = memory
        self._clock = clock
        self._host = settings.host
        self._path = settings.path
        self._rng = rng
        self._connections: list[H2Link] = []
        self._visited = False

    @property
    def links_wanted(self) -> int:
        """One that takes requests, and those that end once their last answers are there."""
        return 0 if self._ended else 1 + sum(link.draining for link in self._connections)

    def connect(self, now: float) -> H2Link:
        """A new connection's conversation; the first one loads a page before anything else.

        Over HTTP/1.1 ``open_link()`` does this, which is not told the time.
        """
        h2 = H2Client(self._browser.http2, now)
        load = None
        if not self._visited:
            self._visited = True
            unix = now + self._clock
            load = PageLoad(h2, self._browser, self._host, "/", self._memory, self._rng, now, unix)
        link = H2Link(self, h2, load)
        link.closing = self._ended
        self._connections.append(link)
        return link

    def links_to_flush(self) -> Collection[Link]:
        """All connections: there is one, seldom two."""
        self.assign()
        self._flush.clear()
        return tuple(self._connections)

    def deadline(self) -> float | None:
        """The page load's, the connections' and the carrier's."""
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
        """Requests may go: the page is loaded."""
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
            cookie = self._opening
        else:
            assert type(exchange) is Download
            cookie = self._cookie(exchange.kind, exchange.number)
        crumbs = (*self._memory.crumbs(self._path), *cookie.decode("ascii").split("; "))
        kind = "fetch" if body is None else "post"
        fields = self._browser.fields(kind, variables, crumbs)
        link.exchange = exchange
        link.owner.send(link, fields, self._browser.requests[kind].urgency, body, self.now)


class H2Link:
    """One connection's conversation."""

    __slots__ = ("_begun", "_busy", "_carrier", "_slots", "closing", "draining", "h2", "load")

    def __init__(self, carrier: ClientHttp2, h2: H2Client, load: PageLoad | None) -> None:
        self.closing = False
        self.draining = False
        """The server takes no new requests on it."""
        self.h2 = h2
        self.load = load
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
            self._take(self.h2.receive_data(data, now), events, now)
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
            self._take(self.h2.receive_eof(), events, now)
            if not self._begun:
                self._carrier.link_died_unused(events)
            self._carrier.settle(events)
        return events

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written, each buffer a TLS record of its own."""
        carrier = self._carrier
        if not self._begun and not self.closing and (self.load is None or self.load.finished):
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
        """The page load's, or that of a server that does not answer."""
        times = (self.h2.deadline(), None if self.load is None else self.load.deadline())
        return min((one for one in times if one is not None), default=None)

    def on_deadline(self, now: float, events: list[Event]) -> None:
        """Time has come."""
        if self.load is not None:
            self.load.on_deadline(now)
        self._take(self.h2.on_deadline(now), events, now)

    # ---- what arrives ----------------------------------------------------------------------------

    def _take(self, arrived: list[H2Event], events: list[Event], now: float) -> None:
        for event in arrived:
            if isinstance(event, ConnectionEnding | ConnectionEnded):
                self._drain(isinstance(event, ConnectionEnded))
            elif self.load is None or not self.load.receive_event(event, now):
                slot = self._busy.get(event.stream)
                if slot is not None and slot.exchange is not None:
                    self._answer(slot, slot.exchange, event, events)

    def _answer(self, slot: Slot, exchange: Exchange, event: H2Event, events: list[Event]) -> None:
        carrier = self._carrier
        if isinstance(event, DataReceived):
            carrier.body_received(exchange, [memoryview(event.data)], events)
        elif isinstance(event, StreamEnded):
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
