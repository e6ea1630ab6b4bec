"""One HTTP/1.1 connection at a bridge's http codec: requests of whichever carriers, answered in order.

A connection is a stranger's until a request on it names a carrier or holds an
opening that is accepted; then it is *joined* and every later request is
answered here: one that names nobody by a plain 404, a malformed one by 400.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.cookie import opening_from_cookie, session_cookie_name
from ptproxy.codec.head import HttpHead, RequestReader
from ptproxy.codec.http_body import BodyReader, request_body
from ptproxy.codec.http_bridge import BridgeHttp
from ptproxy.codec.http_records import MIN_OPENING, POST, TOKEN_TEXT
from ptproxy.codec.http_tokens import TokenTable
from ptproxy.codec.http_uploads import Arriving
from ptproxy.codec.interface import CodecSettings, Event, NotMine, OpeningReceived
from ptproxy.errors import CodecError, LocalProtocolError

MAX_BODY: Final = 1 << 20
"""Bytes of a request's body: nginx's default client_max_body_size."""
MAX_PIPELINED: Final = 64 * 1024
"""Bytes of further requests kept while one is being answered."""

_COMMON = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nCache-Control: no-store, no-transform\r\n"
    b"X-Accel-Buffering: no\r\n"
)
_CLOSE = b"Connection: close\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_RECEIVED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nCache-Control: no-store\r\n"


def _plain(status: str) -> tuple[bytes, bytes]:
    body = (
        b"<html>\r\n<head><title>%b</title></head>\r\n<body>\r\n"
        b"<center><h1>%b</h1></center>\r\n</body>\r\n</html>\r\n"
    )
    text = status.encode("ascii")
    page = body % (text, text)
    return b"HTTP/1.1 %b\r\nContent-Type: text/html\r\nContent-Length: %d\r\n" % (text, len(page)), page


class LinkAnswer:
    """A GET's response under way on a link."""

    __slots__ = ("_chunked", "_keep", "link")

    def __init__(self, link: BridgeHttpLink, *, chunked: bool, keep: bool) -> None:
        self.link = link
        self._chunked = chunked
        self._keep = keep

    def begin(self, first: bytes) -> None:
        """Head and first bytes: in chunks, or up to the connection's end for an HTTP/1.0 request."""
        head = _COMMON + (_CHUNKED if self._chunked else b"") + (b"" if self._keep else _CLOSE) + b"\r\n"
        if self._chunked:
            head += b"%x\r\n%b\r\n" % (len(first), first)
        else:
            head += first
        self.link.out.append(head)

    def write(self, parts: Sequence[Buffer], size: int) -> None:
        """One chunk."""
        out = self.link.out
        if not self._chunked:
            out += parts
        elif len(parts) == 1:
            out.append(b"".join((b"%x\r\n" % size, parts[0], b"\r\n")))
        else:
            out.append(b"%x\r\n" % size + bytes(parts[0]))
            out += parts[1:]
            out.append(b"\r\n")

    def end(self, last: bytes) -> None:
        """The last bytes and what ends the body."""
        if self._chunked:
            self.link.out.append(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))
        else:
            self.link.out.append(last)
        self.link.answered(keep=self._keep)

    def complete(self, parts: Sequence[Buffer], size: int) -> None:
        """A whole response with its length."""
        out = self.link.out
        out.append(_COMMON + b"Content-Length: %d\r\n" % size + (b"" if self._keep else _CLOSE) + b"\r\n")
        out += parts
        self.link.answered(keep=self._keep)

    def abandon(self) -> None:
        """Break off: the connection closes without the body's end."""
        self.link.answered(keep=False)


class BridgeHttpLink:
    """The conversation on one accepted connection."""

    __slots__ = (
        "_answer", "_body", "_carrier", "_deciding", "_foreign", "_held", "_keep", "_now", "_reader",
        "_reception", "_upload", "closing", "joined", "out",
    )  # fmt: skip

    def __init__(self, reception: HttpReception) -> None:
        self.closing = False
        self.joined = False
        """A request on it was a carrier's: the connection is ours for good."""
        self.out: list[Buffer] = []
        self._reception = reception
        self._reader = RequestReader()
        self._keep = True
        self._carrier: BridgeHttp | None = None  # whose request is being read or answered
        self._upload: Arriving | None = None
        self._body: BodyReader | None = None
        self._answer: LinkAnswer | None = None
        self._deciding: OpeningReceived | None = None
        self._held = bytearray()
        self._foreign = False
        self._now = 0.0

    # ---- for the tunnel --------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Feed what the connection received."""
        events: list[Event] = []
        if self.closing or self._foreign:
            return events
        self._now = now
        if self._held or self._busy():
            self._held += data
            if self._busy():
                if len(self._held) > MAX_PIPELINED:
                    self._break_off(events)
                return events
            data = bytes(self._held)
            self._held.clear()
        try:
            self._receive(memoryview(data), events)
        except CodecError:
            if self.joined:
                self._respond_plain("400 Bad Request", keep=False)
                self._break_off(events)
            else:
                self._foreign = True
                events.append(NotMine())
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended: an answer under way is lost, an upload under way may come again."""
        events: list[Event] = []
        self._now = now
        if self._foreign or self.closing:
            pass
        elif not self.joined:
            self._foreign = self.closing = True
            if self._deciding is None:
                events.append(NotMine())
        else:
            self._break_off(events)
        return events

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written."""
        if self._answer is not None and self._carrier is not None:
            self._carrier.pump()
        out, self.out = self.out, []
        return out

    @property
    def resting(self) -> bool:
        """Whether no answer is under way: between requests, or in the middle of one."""
        return not self._busy()

    # ---- for the answer --------------------------------------------------------------------------

    def answered(self, *, keep: bool) -> None:
        """The answer under way is through."""
        carrier, self._carrier, self._answer = self._carrier, None, None
        if not keep:
            self.closing = True
        elif self._held and carrier is not None:
            carrier.resume(self)

    # ---- requests --------------------------------------------------------------------------------

    def _busy(self) -> bool:
        return self._answer is not None or self._deciding is not None

    def _receive(self, data: memoryview, events: list[Event]) -> None:
        while len(data) and not self.closing and not self._foreign:
            if self._busy():
                self._held += data
                return
            if self._body is None:
                head = self._reader.receive_data(data)
                if head is None:
                    return
                data = memoryview(self._reader.rest)
                self._request(head, events)
                if self._body is not None and self._body.done:
                    self._body_received([], events)
                continue
            parts: list[memoryview] = []
            used = self._body.receive_data(data, parts)
            self._body_received(parts, events)
            data = data[used:]

    def _request(self, head: HttpHead, events: list[Event]) -> None:
        reception = self._reception
        options = head.tokens("connection")
        self._keep = reception.keep and head.version == "HTTP/1.1" and "close" not in options
        body = request_body(head, MAX_BODY)
        value = head.cookie(reception.cookie)
        known = reception.tokens.get(value[:TOKEN_TEXT]) if value is not None else None
        if known is not None:
            carrier, kind, number = known
            if (kind == POST) == (head.method == "POST") and (kind == POST or head.method == "GET"):
                self.joined = True
                self._carrier = carrier
                if kind == POST:
                    self._upload = carrier.upload_begun(number, self._now)
                    self._body = body
                else:
                    self._asked(carrier, kind, number, head, events)
                return
        elif head.method == "GET" and body.done and head.target.partition("?")[0] == reception.path:
            opening = opening_from_cookie(reception.cookie, head)
            if opening is not None and len(opening) >= MIN_OPENING:
                self._deciding = OpeningReceived(opening, self._accept, self._refuse)
                events.append(self._deciding)
                return
        if not self.joined:
            self._foreign = True
            events.append(NotMine())
        elif body.done:
            self._respond_plain("404 Not Found", keep=self._keep)
        else:
            self._body = body

    def _new_answer(self, version: str) -> LinkAnswer:
        self._answer = LinkAnswer(self, chunked=version == "HTTP/1.1", keep=self._keep)
        return self._answer

    def _asked(
        self, carrier: BridgeHttp, kind: int, number: int, head: HttpHead, events: list[Event]
    ) -> None:
        if not carrier.download_asked(self._new_answer(head.version), kind, number, self._now, events):
            self._answer = self._carrier = None
            self._respond_plain("404 Not Found", keep=self._keep)

    def _body_received(self, parts: list[memoryview], events: list[Event]) -> None:
        assert self._body is not None
        done = self._body.done
        carrier, upload = self._carrier, self._upload
        if carrier is not None and upload is not None:
            carrier.upload_received(upload, parts, self._now, events, done=done)
        if done:
            self._body = self._carrier = self._upload = None
            if upload is None:
                self._respond_plain("404 Not Found", keep=self._keep)
            else:
                self.out.append(_RECEIVED + (b"\r\n" if self._keep else _CLOSE + b"\r\n"))
                self.closing = not self._keep

    def _respond_plain(self, status: str, *, keep: bool) -> None:
        head, page = _plain(status)
        self.out.append(head + (b"" if keep else _CLOSE) + b"\r\n" + page)
        self.closing = not keep

    def _break_off(self, events: list[Event]) -> None:
        """Nothing more is to be had from the connection."""
        self.closing = True
        carrier, upload, answer = self._carrier, self._upload, self._answer
        self._carrier = self._upload = self._answer = self._body = None
        if carrier is not None and upload is not None:
            carrier.upload_lost(upload)
        if carrier is not None and answer is not None:
            carrier.answer_lost(answer, self._now, events)

    # ---- openings --------------------------------------------------------------------------------

    def _accept(self, token_key: bytes, now: float) -> BridgeHttp:
        if self._deciding is None:
            raise LocalProtocolError("an opening is accepted or refused, once")
        self._deciding = None
        self.joined = True
        answer = LinkAnswer(self, chunked=False, keep=self._keep)
        self._answer = answer
        self._carrier = BridgeHttp(self._reception.tokens, token_key, answer, now, self._reception.rng)
        return self._carrier

    def _refuse(self) -> None:
        if self._deciding is None:
            raise LocalProtocolError("an opening is accepted or refused, once")
        self._deciding = None
        if self.joined:
            self._respond_plain("404 Not Found", keep=self._keep)
        else:
            self._foreign = True
            self._held.clear()


class HttpReception:
    """A bridge's end of the codec: the token table of all its carriers.

    The option ``keep: no`` answers one request a connection: then each may go where its carrier is.
    """

    __slots__ = ("cookie", "keep", "path", "rng", "tokens")

    def __init__(self, settings: CodecSettings, rng: Random) -> None:
        self.cookie = session_cookie_name(settings)
        self.path = settings.path
        self.keep = settings.options.get("keep") != "no"
        self.rng = rng
        self.tokens: TokenTable = {}

    def open_link(self) -> BridgeHttpLink:
        """The conversation of one accepted connection."""
        return BridgeHttpLink(self)

    def token_of(self, received: bytes) -> str | None:
        """The token in a connection's first request, whosever it is; None without one."""
        try:
            head = RequestReader().receive_data(received)
        except CodecError:
            return None
        value = head.cookie(self.cookie) if head is not None else None
        return value[:TOKEN_TEXT] if value is not None and len(value) >= TOKEN_TEXT else None
