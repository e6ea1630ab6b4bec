"""The ``websocket`` codec: a carrier is one WebSocket (RFC 6455), its payload binary messages.

The upgrade (``ws_upgrade.py``) is a browser's, answered by a web server's 101;
the opening rides in its session cookie, or is a ticket of 16 bytes and the request's key.
Where it is a ticket, what the messages carry are records (``ws_talk.py``), which go as the
``talk`` of a shape has people's chat go.
Then both ways frames as in ``ws_frames.py``: each ``send_data`` is one binary
message, or several above 128 KiB. Message boundaries mean nothing; a shape with
``record`` has a little payload (up to 16 times its most) go in messages of sizes
drawn between its two figures, each a TLS record of its own. Pings are answered;
a client never sends one, as no browser does, a bridge only where something in
front cuts silent connections. Either side closes with a close frame; it is echoed; the
bridge closes the connection first (RFC 6455 section 7.1.1), a client waits for that.

Before an opening the bridge judges a GET only once its head is complete,
whatever its path: how long a beginning is held must not tell a guess at the
path from another.

Options, all a bridge's: ``server`` (value of the Server header in the 101; none
without) and ``clock_offset`` (seconds to add to ``now`` for unix time; with it a
Date header is sent), both for a bridge that answers beside a web site which
sends them; ``keepalive`` (seconds of silence after which something in front
cuts a connection: a ping is sent before that; without, once the bridge has
learnt of such cuts: ``ws_keepalive.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.cookie import session_cookie_name
from ptproxy.codec.head import RequestReader, ResponseReader
from ptproxy.codec.interface import (
    CarrierCodec,
    CarrierWritable,
    CodecSettings,
    CodecType,
    Event,
    Link,
    NotMine,
    OpeningReceived,
)
from ptproxy.codec.randomness import RandomPool
from ptproxy.codec.shape import ClassShape
from ptproxy.codec.ws_connection import JOIN, SERVER_FIRST, ServerWebSocket, WebSocket
from ptproxy.codec.ws_frames import (
    BINARY,
    MASKED,
    NO_STATUS,
    NORMAL_CLOSURE,
    PING,
    MaskedFrameReader,
    UnmaskedFrameReader,
    apply_mask,
    frame_header,
    masked_frame,
)
from ptproxy.codec.ws_keepalive import Keepalive
from ptproxy.codec.ws_upgrade import (
    TICKET_BYTES,
    check_answer,
    client_key,
    extension_to_agree,
    opening_in_request,
    ticket_key,
    upgrade_answer,
    upgrade_request,
)
from ptproxy.errors import CodecError, LocalProtocolError

PING_BYTES: Final = 4
"""Random bytes of a ping, as a common server library sends them."""


class ClientWebSocket(WebSocket):
    """The client's end."""

    __slots__ = ("_key", "_pool", "_response", "_waiting", "_wanted")

    _side = "bridge"

    def __init__(self, settings: CodecSettings, opening: bytes, rng: Random) -> None:
        super().__init__(UnmaskedFrameReader(), rng, settings.shape.up.record if settings.shape else ())
        self._pool = RandomPool(rng)
        ticket = len(opening) == TICKET_BYTES
        self._key = ticket_key(opening) if ticket else client_key(settings.path, rng)
        if ticket:
            talker = self._talk_from_now()
            if settings.shape is not None and settings.shape.up.talk is not None:
                talker.follow(settings.shape.up.talk, 0.0)
        self._response: ResponseReader | None = ResponseReader()
        self._waiting: list[Buffer] = []
        self._wanted = 1
        self._out.append(upgrade_request(settings, opening, self._key).serialize())

    @property
    def links_wanted(self) -> int:
        """One connection, until the end."""
        return 0 if self._ended or self.closing else 1

    def open_link(self) -> Link:
        """Itself; a WebSocket has one connection."""
        if not self._wanted:
            raise LocalProtocolError("a websocket carrier has one connection")
        self._wanted = 0
        return self

    def authenticated(self, token_key: bytes) -> None:
        """Nothing to do: there are no further connections to vouch for."""

    def room(self) -> int:
        """Nothing before the bridge has switched protocols."""
        return 0 if self._response is not None else super().room()

    def send_data(self, chunks: Sequence[Buffer], now: float) -> None:
        """Send payload; kept until the bridge has switched protocols."""
        if self._response is None:
            super().send_data(chunks, now)
        elif not self._ended:
            self._waiting.extend(chunks)

    def close(self, now: float) -> None:
        """As :meth:`WebSocket.close`; before the 101 just drop the connection, as a browser does."""
        if self._response is None:
            super().close(now)
        else:
            self._end("")

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Also the answer to the upgrade; :class:`CodecError` when it is not the expected 101."""
        if self._response is None or self._ended:
            return super().receive_data(data, now)
        try:
            head = self._response.receive_data(data)
            if head is None:
                return []
            check_answer(head, self._key)
        except CodecError:
            self._end("")
            raise
        rest, self._response = self._response.rest, None
        waiting, self._waiting = self._waiting, []
        self.send_data(waiting, now)
        events: list[Event] = [CarrierWritable(self)]
        if rest:
            events.extend(super().receive_data(rest, now))
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended."""
        if self._response is not None:
            return self._end("the connection ended before the upgrade was answered")
        return super().receive_eof(now)

    def deadline(self) -> float | None:
        """Nothing is said before the answer to the upgrade."""
        return None if self._response is not None else super().deadline()

    def _farewell(self) -> int:
        """A page that closes its WebSocket gives no code."""
        return NORMAL_CLOSURE if self._talker is None else NO_STATUS

    def _send_message(self, chunks: Sequence[Buffer], length: int) -> None:
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        mask = self._pool.take(4)
        if length <= JOIN:
            self._out.append(masked_frame(BINARY, data, mask))
        else:
            self._out += (frame_header(BINARY, length, MASKED) + mask, apply_mask(data, mask))

    def _control_frame(self, opcode: int, payload: bytes) -> bytes:
        return masked_frame(opcode, payload, self._pool.take(4))

    def _after_close_frames(self, now: float) -> None:
        self._deadline = now + SERVER_FIRST


class BridgeWebSocket(ServerWebSocket):
    """The bridge's end: a link that becomes a carrier once its opening is accepted."""

    __slots__ = (
        "_accepted", "_cookie", "_early", "_extension", "_heard_at", "_keepalive", "_key", "_method",
        "_ping_at", "_request", "_rng", "_said_at", "_settings", "_ticket",
    )  # fmt: skip

    _side = "client"

    def __init__(self, settings: CodecSettings, cookie: str, keepalive: Keepalive, rng: Random) -> None:
        super().__init__(MaskedFrameReader(), rng)
        self._settings = settings
        self._cookie = cookie
        self._rng = rng
        self._keepalive = keepalive
        self._ping_at: float | None = None
        self._said_at = self._heard_at = 0.0
        self._method = b"GET "  # what of it has not come yet
        self._request: RequestReader | None = RequestReader()
        self._key = ""
        self._extension = ""  # that is agreed
        self._early: bytearray | None = None  # what followed the request, until it is read as frames
        self._accepted = False
        self._ticket = False

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Also the upgrade: :class:`NotMine` for whatever is not an upgrade of ours."""
        if self._accepted:
            self._heard_at = now
            if self._early is not None:
                data, self._early = self._early + data, None
            return super().receive_data(data, now)
        if self._ended:
            return []
        if self._early is not None:
            self._early += data
            return []
        return self._receive_request(data)

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended; before an opening that is the web site's to see."""
        if self._accepted:
            if not self._close_sent and not self._ended:
                self._keepalive.broke_off(now - max(self._said_at, self._heard_at))
            return self.receive_data(b"", now) + super().receive_eof(now)
        if self._ended:
            return []
        self._refuse()
        return [NotMine()]

    def send_data(self, chunks: Sequence[Buffer], now: float) -> None:
        """Send payload; no ping is needed for a while then."""
        self._said_at = now
        if self._ping_at is None:
            self._plan_ping()  # if cuts have become known since
        super().send_data(chunks, now)

    def deadline(self) -> float | None:
        """Also the next look at whether a ping is due."""
        due = super().deadline()
        if self._ping_at is None or self._close_sent or self._ended:
            return due
        return self._ping_at if due is None else min(due, self._ping_at)

    def on_deadline(self, now: float) -> list[Event]:
        """Also a ping, where nothing has been said for long enough."""
        if self._ping_at is not None and now >= self._ping_at and not self._close_sent and not self._ended:
            if self._keepalive.is_due(now - self._said_at):
                self._out.append(self._control_frame(PING, self._rng.randbytes(PING_BYTES)))
                self._changed = True
                self._said_at = now
            self._plan_ping()
        return super().on_deadline(now)

    def _plan_ping(self) -> None:
        if self._keepalive.cut:
            self._ping_at = self._said_at + self._keepalive.pause(self._rng)

    def _receive_request(self, data: Buffer) -> list[Event]:
        assert self._request is not None
        found = None
        try:
            start = bytes(data[: len(self._method)])
            if not self._method.startswith(start):
                raise CodecError("not a GET")
            self._method = self._method[len(start) :]
            head = self._request.receive_data(data)
            if head is None:
                return []
            found = opening_in_request(head, self._settings.path, self._cookie)
            if found is not None:
                self._ticket = len(found[0]) == TICKET_BYTES
                self._extension = extension_to_agree(head, *found, self._settings.path)
        except CodecError:
            pass
        if found is None:
            self._refuse()
            return [NotMine()]
        opening, self._key = found
        self._early = bytearray(self._request.rest)
        self._request = None
        return [OpeningReceived(opening, self._accept, self._refuse)]

    def follow(self, shape: ClassShape) -> None:
        """Send messages of this shape's sizes."""
        self._record = shape.down.record
        if self._talker is not None and shape.down.talk is not None:
            self._send_talk(self._talker.follow(shape.down.talk, self._heard_at))

    def _heard(self, now: float) -> None:
        assert self._talker is not None
        self._talker.heard(now)

    def _accept(self, token_key: bytes, now: float) -> CarrierCodec:
        if self._accepted or self._early is None:
            raise LocalProtocolError("an opening is accepted or refused, once")
        self._accepted = True
        self._said_at = self._heard_at = now
        self._plan_ping()
        answer = upgrade_answer(self._settings, self._key, now, self._extension)
        self._out.append(answer.serialize())
        if self._ticket:
            self._talk_from_now()
        self._changed = True
        return self

    def _refuse(self) -> None:
        self._ended = True
        self._early = None
        self._request = None
        self._reader.ended = True


class WebSocketReception:
    """A bridge's end of the codec."""

    __slots__ = ("_cookie", "_keepalive", "_rng", "_settings")

    def __init__(self, settings: CodecSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        self._keepalive = Keepalive(float(settings.options.get("keepalive", 0.0)))
        self._cookie = session_cookie_name(settings)

    def open_link(self) -> Link:
        """The conversation of one accepted connection."""
        return BridgeWebSocket(self._settings, self._cookie, self._keepalive, self._rng)


class WebSocketCodec:
    """The entry of the codec table."""

    name = "websocket"

    def client(self, settings: CodecSettings, opening: bytes, rng: Random) -> ClientWebSocket:
        """One carrier's client end."""
        return ClientWebSocket(settings, opening, rng)

    def reception(self, settings: CodecSettings, rng: Random) -> WebSocketReception:
        """A bridge's end; ``rng`` draws its pings and the sizes of messages."""
        return WebSocketReception(settings, rng)


WEBSOCKET: Final[CodecType] = WebSocketCodec()
