"""The client's end of an http carrier: numbered POSTs up, numbered GETs down, over several links.

What the wire looks like is told in :mod:`ptproxy.codec.http`. This module
decides what is asked when; a link (:mod:`ptproxy.codec.http_client_link`)
writes requests and reads responses. Work waits here until a link is free:
:meth:`ClientHttp.assign` hands it out whenever links are about to be flushed,
so that payload given in several calls travels in one POST.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.http_client_cookies import CarrierCookies
from ptproxy.codec.http_client_link import ClientHttpLink
from ptproxy.codec.http_exchange import Download, Exchange, Upload
from ptproxy.codec.http_posts import MAX_UPLOAD, UploadQueue, body_length, request_with_body
from ptproxy.codec.http_records import MIN_OPENING, POLL, POST, STREAM, UPLOAD_HEAD
from ptproxy.codec.http_request import RequestHeads
from ptproxy.codec.interface import CarrierEnded, CarrierWritable, CodecSettings, Event, Link, PayloadReceived
from ptproxy.codec.randomness import RandomPool
from ptproxy.errors import CodecError, LocalProtocolError

MAX_LINKS: Final = 6
"""Connections of one carrier: what browsers open to one host over HTTP/1.1."""
MAX_WAITING: Final = 64 * 1024
"""Payload bytes taken while no link is free to carry them."""
MIN_POLLS: Final = 2
"""Long polls in flight while nothing comes: one to be answered, one behind it."""
MAX_POLLS: Final = 4
"""Long polls in flight while data comes (1: 20 MiB/s, 4: 65 MiB/s at 40 ms); leaves two links for POSTs."""
MAX_HELD: Final = 32 << 20
"""Payload bytes held of downloads that overtook the one before them; beyond, the carrier ends."""
HELLO_WAIT: Final = 1.0
"""Seconds (and three round trips) within which a front that does not buffer passes on the first record."""
HELLO_TICK: Final = 0.1
"""Seconds between looks at whether it has come, so that the time of sending need not be known exactly."""
HELLO_WAIT_MOST: Final = 6.0
"""Seconds after which it is given up even if no round trip was seen."""
CLOSE_WAIT: Final = 3.0
"""Seconds for the bridge to answer a clean close."""
MAX_DEAD_LINKS: Final = 4
"""New connections in a row that end unused before the carrier gives up."""


class ClientHttp:
    """One carrier."""

    __slots__ = (
        "_close_at", "_cookies", "_dead_links", "_down_next", "_downloads", "_ended",
        "_flush", "_gets", "_heads", "_held", "_hello_at", "_hello_since", "_idle", "_key", "_links", "_mode",
        "_next_get", "_poll_range", "_polls", "_pool", "_retries", "_rtt", "_shape", "_spare",
        "_uploads", "_writable", "now",
    )  # fmt: skip

    def __init__(self, settings: CodecSettings, opening: bytes, rng: Random) -> None:
        mode = settings.options.get("download", "auto")
        if mode not in ("auto", "stream", "poll"):
            raise LocalProtocolError(f"http: option download is auto, stream or poll, not {mode!r}")
        if len(opening) < MIN_OPENING:
            raise LocalProtocolError(f"http: an opening has {MIN_OPENING} bytes at least")
        self._mode = mode
        self._shape = settings.shape
        self._pool = RandomPool(rng)
        self._heads = RequestHeads(settings)
        self._cookies = CarrierCookies(settings, opening, self._pool)
        self._key: bytes | None = None
        self.now = 0.0
        self._links: list[ClientHttpLink] = []
        self._idle: list[ClientHttpLink] = []
        self._flush: set[Link] = set()
        self._spare = 0
        self._dead_links = 0
        self._retries: list[Exchange] = []
        self._uploads = UploadQueue(settings.shape.up if settings.shape else None)
        first = Download(0, POLL)
        self._gets: list[Download] = [first]
        self._downloads: dict[int, Download] = {0: first}
        self._next_get = 1
        self._down_next = 0
        shape = settings.shape  # with one, idle requests are traffic, too
        self._poll_range = (1, shape.down.gets_in_flight) if shape else (MIN_POLLS, MAX_POLLS)
        self._polls = self._poll_range[0]
        self._held = 0
        self._writable = True
        self._rtt: float | None = None
        self._hello_since: float | None = None
        self._hello_at: float | None = None
        self._ended = False
        self._close_at: float | None = None

    # ---- for the tunnel --------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the bridge has answered the opening and proved itself."""
        return self._key is not None

    @property
    def download(self) -> str:
        """How the front passes downloads on: "auto" while not known, then "stream" or "poll".

        Worth remembering per front, as ``settings.options["download"]`` of the next carrier.
        """
        return self._mode if self._shape is None else "auto"

    @property
    def links_wanted(self) -> int:
        """Connections for everything under way and waiting, and a spare one while the carrier is in use."""
        if self._ended:
            return 0
        waiting = len(self._gets) + len(self._retries) + self._upload_ready()
        wanted = sum(link.exchange is not None for link in self._links) + waiting + self._spare
        if self._retries:
            fresh = sum(not link.used for link in self._links)
            wanted = max(wanted, len(self._links) + len(self._retries) - fresh)
        return min(wanted, MAX_LINKS)

    def open_link(self) -> ClientHttpLink:
        """A new connection's conversation."""
        link = ClientHttpLink(self)
        link.closing = self._ended
        if not self._ended:
            self._links.append(link)
        return link

    def authenticated(self, token_key: bytes) -> None:
        """From now on requests can name the carrier: the downloads start."""
        self._key = token_key
        if self._shape is not None:
            self._mode = "poll"  # answers of a drawn size, whole
        elif self._mode == "auto":
            self._hello_at = self.now
        self._spare = 1
        self._ask()

    def send_data(self, chunks: Sequence[Buffer], now: float) -> None:
        """Queue payload for the next POST."""
        self.now = now
        if not self._ended and not self._uploads.closing:
            self._uploads.add(chunks, now)

    def room(self) -> int:
        """What the next POST takes; 0 while as many as allowed are under way."""
        space = self._space()
        self._writable = space > 0
        return space

    def _space(self) -> int:
        uploads = self._uploads
        if self._ended or uploads.closing or self._key is None or not uploads.slot():
            return 0
        return max((MAX_UPLOAD if self._idle else MAX_WAITING) - uploads.size, 0)

    def links_to_flush(self) -> Collection[Link]:
        """Links with something to write or to close."""
        self.assign()
        flush, self._flush = self._flush, set()
        return flush

    def close(self, now: float) -> None:
        """Send what is queued and a last POST that says so; the bridge answers with CLOSE."""
        self.now = now
        if self._ended or self._uploads.closing:
            return
        if self._key is None:
            self.fail()
            return
        self._uploads.closing = True
        self._close_at = now + CLOSE_WAIT

    def deadline(self) -> float | None:
        """The time limit of a close, the next look at whether HELLO has come, or payload that waits."""
        if self._ended:
            return None
        if self._close_at is not None:
            return self._close_at
        return self._hello_at if self._shape is None else self._uploads.due(self.now)

    def on_deadline(self, now: float) -> list[Event]:
        """Fall back to long poll, or end a close that nobody answers."""
        events: list[Event] = []
        self.now = now
        if self._close_at is not None and now >= self._close_at:
            self._end("", events)
        elif self._hello_at is not None and now >= self._hello_at:
            self._look_for_hello(now)
        self.settle(events)
        return events

    # ---- for the links ---------------------------------------------------------------------------

    def link_ready(self, link: ClientHttpLink) -> None:
        """A link can carry a request."""
        if not self._ended and not link.closing:
            self._idle.append(link)

    def link_gone(self, link: ClientHttpLink) -> None:
        """A link ends; one that waited in vain is not replaced before it is needed."""
        self._flush.add(link)
        if link in self._links:
            self._links.remove(link)
        if link in self._idle:
            self._idle.remove(link)
            self._spare = 0

    def link_died_unused(self, events: list[Event]) -> None:
        """A new link ended before it could carry anything."""
        self._dead_links += 1
        if self._dead_links >= MAX_DEAD_LINKS:
            self._end("connections to the bridge end as soon as they are made", events)

    def assign(self) -> None:
        """Hand the waiting work to the links that are free; a request that failed takes only a fresh one."""
        for link in [known for known in self._idle if not known.used] if self._retries else ():
            if self._retries:
                self._start(link, self._retries.pop(0))
        while self._idle and not self._ended:
            exchange = self._next_exchange()
            if exchange is None:
                return
            self._start(self._idle[-1], exchange)

    def _start(self, link: ClientHttpLink, exchange: Exchange) -> None:
        self._idle.remove(link)
        link.start(exchange, self._request(exchange))
        self._flush.add(link)

    def body_received(self, exchange: Exchange, parts: list[memoryview], events: list[Event]) -> None:
        """Part of a response's body. May raise :class:`CodecError`."""
        if type(exchange) is not Download:
            return  # an answer to a POST says all it has to say by its status
        payload: list[memoryview] = []
        reader = exchange.reader
        exchange.touched = True
        for part in parts:
            reader.receive_data(part, payload)
        if self._hello_at is not None and exchange.kind == STREAM and reader.greeted:
            self._mode, self._hello_at = "stream", None
        if payload:
            self._payload(exchange, payload, events)
        # Whoever answers in place of the bridge may say NEXT too: nothing can be asked before it is proved.
        if reader.next_asked and self._next_get == exchange.number + 1 and self._key is not None:
            self._ask()
        if reader.ended and exchange.number == self._down_next:
            self._advance(events)

    def answered(self, exchange: Exchange, events: list[Event]) -> None:
        """A response is complete."""
        self._dead_links = 0
        if type(exchange) is Upload:
            self._uploads.answered(exchange)
            took = self.now - exchange.sent_at
            if self._rtt is None or took < self._rtt:
                self._rtt = took
        elif type(exchange) is Download and not exchange.reader.ended:
            self.lost(exchange, "download cut short", events)

    def refused(self, exchange: Exchange, status: int, events: list[Event]) -> None:
        """A response that is not 200."""
        self.lost(exchange, f"the web server answered {status}", events)

    def lost(self, exchange: Exchange, why: str, events: list[Event]) -> None:
        """A request has failed: once more on a fresh connection, then it is the carrier's end."""
        if self._ended:
            return
        if type(exchange) is Download and exchange.reader.ended:
            return
        again = exchange.failures == 0 and self._key is not None
        if type(exchange) is Download and exchange.touched:
            again = False
        if not again:
            self._end(why, events)
            return
        exchange.failures += 1
        self._retries.append(exchange)

    def fail(self) -> None:
        """The carrier is dead: a link has met nonsense."""
        self._end("", [])

    def settle(self, events: list[Event]) -> None:
        """After each call in: tell when there is room again after :meth:`room` has said there was none."""
        if not self._writable and self._space():
            self._writable = True
            events.append(CarrierWritable(self))

    # ---- downloads -------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Put the GETs in flight that should be."""
        if self._mode == "poll":
            polls = sum(known.kind == POLL for known in self._downloads.values())
            for _ in range(self._polls - polls):
                self._new_download(POLL)
        else:
            self._new_download(STREAM)

    def _new_download(self, kind: int) -> None:
        download = Download(self._next_get, kind)
        self._next_get += 1
        self._downloads[download.number] = download
        self._gets.append(download)

    def _payload(self, download: Download, payload: list[memoryview], events: list[Event]) -> None:
        data: Buffer = payload[0] if len(payload) == 1 else b"".join(payload)
        download.payload += len(data)
        if download.number == self._down_next:
            events.append(PayloadReceived(self, data))
            return
        self._held += len(data)
        if self._held > MAX_HELD:
            raise CodecError("downloads that follow on one that does not come to its end")
        download.held.append(bytes(data))

    def _advance(self, events: list[Event]) -> None:
        """The download whose turn it was is complete: go on with the next ones."""
        while True:
            done = self._downloads.get(self._down_next)
            if done is None or not done.reader.ended:
                break
            del self._downloads[self._down_next]
            if done.reader.closed:
                self._end("", events)
                return
            self._down_next += 1
            if done.kind == POLL and done.number:
                self._polls = self._poll_range[done.payload > 0]
            following = self._downloads.get(self._down_next)
            if following is not None and following.held:
                events.append(PayloadReceived(self, b"".join(following.held)))
                self._held -= sum(map(len, following.held))
                following.held = []
        if self._key is not None and (self._mode == "poll" or not self._downloads):
            self._ask()

    def _look_for_hello(self, now: float) -> None:
        """Fall back to polling once HELLO is overdue; its GET may still wait for a connection."""
        if self._hello_since is None and not self._gets:
            self._hello_since = now
        wait = HELLO_WAIT_MOST if self._rtt is None else max(HELLO_WAIT, 3 * self._rtt)
        if self._hello_since is None or now < self._hello_since + wait:
            self._hello_at = now + HELLO_TICK
            return
        self._mode, self._hello_at = "poll", None
        self._ask()

    # ---- requests --------------------------------------------------------------------------------

    def _upload_ready(self) -> bool:
        return self._key is not None and self._uploads.ready(self.now)

    def _next_exchange(self) -> Exchange | None:
        upload = self._upload_ready()
        if self._gets and not (upload and not len(self._uploads)):
            return self._gets.pop(0)
        if not upload:
            return None
        self._spare = 1
        return self._uploads.take()

    def _request(self, exchange: Exchange) -> list[Buffer]:
        """Head and body as buffers."""
        if type(exchange) is Upload:
            exchange.sent_at = self.now
            length = self.body_length(exchange.size)
            head = self._heads.post(length, self._cookie(POST, exchange.number))
            return request_with_body(head, exchange, length, self._pool)
        assert type(exchange) is Download
        if exchange.number == 0:
            return [self._heads.get(self._cookies.opening)]
        return [self._heads.get(self._cookie(exchange.kind, exchange.number))]

    def body_length(self, size: int) -> int:
        """Bytes of the body of a POST with ``size`` bytes of payload."""
        if self._shape is None:
            return body_length(size, self._pool)
        return self._shape.up.body_length(size + UPLOAD_HEAD)

    def _cookie(self, kind: int, number: int) -> bytes:
        assert self._key is not None
        return self._cookies.token(self._key, kind, number)

    # ---- the end ---------------------------------------------------------------------------------

    def _end(self, reason: str, events: list[Event]) -> None:
        if self._ended:
            return
        self._ended = True
        for link in list(self._links):
            link.drop()
        self._uploads.clear()
        self._downloads.clear()
        self._gets.clear()
        self._retries.clear()
        events.append(CarrierEnded(self, reason))
