"""The ``http`` codec through a browser: its page has the fetches, the local socket what they are of.

What is asked when is :class:`~ptproxy.codec.http_client.ClientHttp`'s, as over
connections of our own; heads, compression of heads and connections are the
browser's. Client to page, one binary message a request::

    kind u8 (0 GET, 1 POST) | id u32 | length u16 | cookie (length bytes, as in a Cookie header) | body

Page to client, records one after another, whatever messages they come in::

    length u32 | kind u8 | id u32 | content (length bytes)

    0 HEAD    status u16 | the answer's Date header
    1 BODY    part of the answer's body
    2 END     the answer is complete
    3 FAILED  there is no answer, or it broke off

Integers are big-endian. One page may have many carriers: it lets them set their
cookies in turn, so that each request leaves with its own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from random import Random
from struct import Struct
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.http_client import ClientHttp
from ptproxy.codec.http_client_link import ClientHttpLink
from ptproxy.codec.http_exchange import Download, Exchange, Upload
from ptproxy.codec.http_posts import request_with_body
from ptproxy.codec.http_records import POST
from ptproxy.codec.interface import (
    CodecSettings,
    Event,
    Link,
    PayloadReceived,
    SiteAnswered,
)
from ptproxy.codec.join import JoinSocket, page_task, refused
from ptproxy.errors import CodecError, LocalProtocolError

SLOTS: Final = 8
"""Requests in flight: four POSTs, two to four GETs."""
MAX_CONTENT: Final = 1024
"""Bytes of a record's content that is kept until it is whole: a status and a date."""
MAX_BODY: Final = 16 << 20
"""Bytes of one BODY record; nothing is kept of it, so this only tells sense from nonsense."""

HEAD, BODY, END, FAILED = 0, 1, 2, 3

_REQUEST: Final = Struct(">BIH")
_RECORD: Final = Struct(">IBI")
_STATUS: Final = Struct(">H")


@dataclass(slots=True)
class PageRecord:
    """A record of the page's, or part of a BODY; ``content`` is valid until the reader is fed again."""

    kind: int
    number: int
    content: Buffer


class PageRecordReader:
    """Reads the page's records from bytes split anyhow."""

    __slots__ = ("_kept", "_kind", "_left", "_number")

    def __init__(self) -> None:
        self._kept = bytearray()  # a beginning: of the nine bytes, or of content that must be whole
        self._kind = -1
        self._number = 0
        self._left = 0  # content bytes of the current record still to come

    def receive_data(self, data: Buffer) -> list[PageRecord]:
        """The records, and parts of bodies, that ``data`` holds; :class:`CodecError` for nonsense."""
        out: list[PageRecord] = []
        view = memoryview(data)
        while view or self._whole():
            if self._kind < 0:
                view = self._read_head(view)
            elif self._kind == BODY:
                size = min(self._left, len(view))
                out.append(PageRecord(BODY, self._number, view[:size]))
                view = view[size:]
                self._left -= size
                if not self._left:
                    self._kind = -1
            else:
                size = min(self._left - len(self._kept), len(view))
                self._kept += view[:size]
                view = view[size:]
                if self._whole():
                    out.append(PageRecord(self._kind, self._number, bytes(self._kept)))
                    self._kept.clear()
                    self._kind = -1
        return out

    def _whole(self) -> bool:
        """Whether a record without further content stands complete."""
        return self._kind >= 0 and self._kind != BODY and len(self._kept) == self._left

    def _read_head(self, view: memoryview) -> memoryview:
        size = min(_RECORD.size - len(self._kept), len(view))
        self._kept += view[:size]
        if len(self._kept) == _RECORD.size:
            self._left, self._kind, self._number = _RECORD.unpack(self._kept)
            self._kept.clear()
            if self._kind > FAILED:
                raise CodecError("a record of an unknown kind from the page")
            if self._left > (MAX_BODY if self._kind == BODY else MAX_CONTENT):
                raise CodecError("a record from the page that is too long")
            if self._kind == BODY and not self._left:
                self._kind = -1
        return view[size:]


class Slot(ClientHttpLink):
    """One request at a time of the page's; to the carrier what a connection is otherwise."""

    __slots__ = ("number",)

    def __init__(self, carrier: ClientHttp) -> None:
        super().__init__(carrier)
        self.live = True
        self.number = 0


class JoinedHttp(ClientHttp):
    """The client's end of a carrier whose requests are a browser's."""

    __slots__ = ("_join", "_rng", "_settings")

    def __init__(self, settings: CodecSettings, opening: bytes, rng: Random) -> None:
        super().__init__(settings, opening, rng)
        self._rng = rng
        self._settings = settings
        self._join: HttpJoin | None = None

    @property
    def links_wanted(self) -> int:
        """One local socket and never another: nobody but the browser connects to the bridge."""
        return 0 if self._ended or self._join is not None else 1

    @property
    def over(self) -> bool:
        """Whether the carrier carries nothing more."""
        return self._ended

    def open_link(self) -> HttpJoin:  # type: ignore[override]  # a link, though no connection to the site
        """The conversation with the page."""
        if self._join is not None:
            raise LocalProtocolError("a page is joined once")
        self._join = HttpJoin(self, self._settings, self._rng)
        for _ in range(SLOTS):
            slot = Slot(self)
            self._links.append(slot)
            self.link_ready(slot)
        return self._join

    def links_to_flush(self) -> Collection[Link]:
        """The local socket."""
        self.assign()
        self._flush.clear()
        links: tuple[Link, ...] = () if self._join is None else (self._join,)
        return links

    def page_gone(self, reason: str, events: list[Event]) -> None:
        """Nothing can be asked any more."""
        self._end(reason, events)

    def _start(self, link: ClientHttpLink, exchange: Exchange) -> None:
        assert isinstance(link, Slot)
        assert self._join is not None
        self._idle.remove(link)
        body: list[Buffer] = []
        if type(exchange) is Upload:
            exchange.sent_at = self.now
            length = self.body_length(exchange.size)
            body = request_with_body(b"", exchange, length, self._pool)
            cookie = self._cookie(POST, exchange.number)
        elif exchange.number == 0:
            cookie = self._cookies.opening
        else:
            assert type(exchange) is Download
            cookie = self._cookie(exchange.kind, exchange.number)
        link.exchange = exchange
        self._join.send(link, type(exchange) is Upload, cookie, body, self.now)


class HttpJoin:
    """The local socket of one carrier: requests in, answers out."""

    __slots__ = ("_busy", "_carrier", "_next", "_reader", "_socket", "closing")

    def __init__(self, carrier: JoinedHttp, settings: CodecSettings, rng: Random) -> None:
        self.closing = False
        self._carrier = carrier
        self._socket = _MessageSocket(page_task("http", "https", settings), rng)
        self._reader = PageRecordReader()
        self._busy: dict[int, Slot] = {}
        self._next = 0

    # ---- for the tunnel --------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Feed what the page said. Raises :class:`CodecError`: the carrier is then dead."""
        events: list[Event] = []
        if self.closing:
            return events
        carrier = self._carrier
        carrier.now = now
        try:
            for event in self._socket.receive_data(data, now):
                if type(event) is PayloadReceived:
                    for record in self._reader.receive_data(event.data):
                        self._take(record, events)
                else:
                    if not carrier.is_open:
                        refused([event])
                    self._gone(event, events)
        except CodecError:
            carrier.fail()
            raise
        carrier.settle(events)
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """The page is gone, and with it the carrier."""
        events: list[Event] = []
        self._carrier.now = now
        for event in self._socket.receive_eof(now):
            self._gone(event, events)
        return events

    def data_to_send(self) -> list[Buffer]:
        """Drain what the page is to be told."""
        carrier = self._carrier
        carrier.assign()
        if carrier.over:
            self._socket.close(carrier.now)
            self.closing = True  # the page says nothing more that anyone would hear
        return self._socket.data_to_send()

    # ---- for the carrier -------------------------------------------------------------------------

    def send(self, slot: Slot, post: bool, cookie: bytes, body: list[Buffer], now: float) -> None:
        """Have a slot's request made."""
        self._next = (self._next + 1) & 0xFFFFFFFF
        slot.number = self._next
        self._busy[slot.number] = slot
        head = _REQUEST.pack(post, slot.number, len(cookie)) + cookie
        self._socket.send_data([head, *body], now)

    # ---- what arrives ----------------------------------------------------------------------------

    def _gone(self, event: Event, events: list[Event]) -> None:
        self._busy.clear()
        self.closing = True
        self._carrier.page_gone(getattr(event, "reason", ""), events)

    def _take(self, record: PageRecord, events: list[Event]) -> None:
        slot = self._busy.get(record.number)
        if slot is None or slot.exchange is None:
            return  # of a request that was given up
        carrier, exchange = self._carrier, slot.exchange
        if record.kind == BODY:
            carrier.body_received(exchange, [memoryview(record.content)], events)
        elif record.kind == END:
            self._free(slot)
            carrier.answered(exchange, events)
        elif record.kind == FAILED:
            self._free(slot)
            carrier.lost(exchange, "the browser's request failed", events)
        else:
            if len(record.content) < _STATUS.size:
                raise CodecError("an answer without a status from the page")
            (status,) = _STATUS.unpack_from(record.content)
            if status == 200:
                return
            if not carrier.is_open:
                raise SiteAnswered(status, bytes(record.content[2:]).decode("latin-1"))
            self._free(slot)
            carrier.refused(exchange, status, events)

    def _free(self, slot: Slot) -> None:
        self._busy.pop(slot.number, None)
        slot.exchange = None
        self._carrier.link_ready(slot)


class _MessageSocket(JoinSocket):
    """A local socket on which a request is one message, however long."""

    __slots__ = ()

    def send_data(self, chunks: list[Buffer], now: float) -> None:  # type: ignore[override]
        """One message."""
        if not self._close_sent and not self._ended:
            self._send_message(chunks, sum(map(len, chunks)))


class JoinedHttpCodec:
    """What stands for the table's ``http`` where a browser is the carrier."""

    name = "http"

    def client(self, settings: CodecSettings, opening: bytes, rng: Random) -> JoinedHttp:
        """One carrier's client end."""
        return JoinedHttp(settings, opening, rng)


JOINED_HTTP: Final = JoinedHttpCodec()
