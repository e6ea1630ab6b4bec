"""A pair whose HTTP/2 connection may turn out to be a client's: some of its streams are then ours.

To the gate each such stream is an accepted connection that speaks HTTP/1.1 and
carries one request, as behind a web server that takes HTTP/2 itself; see
:class:`StreamTransport`. Everything else is the web server's (:mod:`ptproxy.codec.http2.bridge`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from ptproxy.buffer import Buffer
from ptproxy.codec.head import HttpHead, ResponseReader
from ptproxy.codec.http2.bridge import BridgeH2
from ptproxy.codec.http2.hpack import Field
from ptproxy.codec.http2.own import (
    BodyReceived,
    H2BridgeEvent,
    OwnStreams,
    RequestEnded,
    RoomMade,
    StreamGone,
)
from ptproxy.codec.http_body import BodyReader, response_body
from ptproxy.errors import CodecError, LocalProtocolError
from ptproxy.tunnel.arrival import Arrival
from ptproxy.tunnel.beside.couple import Couple, Flow, read_on
from ptproxy.tunnel.beside.ends import RawEnd

HIGH_WATER: Final = 64 * 1024
"""Bytes of an answer that wait, above which no more is made, unless the protocol sets a limit."""
ROUNDS: Final = 16
"""Pieces read of one end in a row that give nothing for the other."""

_HOP: Final = frozenset(("connection", "keep-alive", "transfer-encoding", "x-accel-buffering"))
"""Header fields that an HTTP/1.1 answer has for whoever stands in front."""


@dataclass(frozen=True, slots=True)
class H2Requests:
    """What tells a client's requests, before their cookie is verified."""

    path: str
    cookie: str
    """The cookie's name."""


class H2Couple(Couple):
    """A stranger's (or client's) end and the web server's, both in HTTP/2."""

    __slots__ = ("_arrival", "_h2", "_joined", "_streams", "_waking")

    rounds = 1  # 16 pieces of small frames take seconds to read, which are everybody's

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        near: RawEnd,
        server: RawEnd,
        on_end: Callable[[], None],
        requests: H2Requests,
        arrival: Callable[[], Arrival],
        joined: Callable[[], None],
        *,
        server_early: bytes,
    ) -> None:
        """``joined`` is called once the connection is known to be a client's."""
        self._h2 = BridgeH2(requests.path, requests.cookie, self._judge)
        self._arrival = arrival
        self._joined = joined
        self._streams: dict[int, StreamTransport] = {}
        self._waking = False
        if server_early:
            self._h2.receive_from_site(server_early)
        super().__init__(loop, near, server, on_end)

    # ---- for the flows -----------------------------------------------------------------------------

    def fetch(self, flow: Flow) -> bytes:
        """What the other end is to get, read along on the way."""
        up, down = self.flows
        try:
            return self._fetch_up(up) if flow is up else self._fetch_down(down)
        except CodecError as error:
            self.near.failure = ConnectionAbortedError(str(error))
            return b""

    def _fetch_up(self, flow: Flow) -> bytes:
        for _ in range(ROUNDS):
            data = read_on(flow.source)
            if not data:
                break
            self._happened(self._h2.receive_from_client(data))
            self.wake()
            if piece := self._h2.data_to_site():
                return piece
        else:
            self.loop.call_soon(flow.run)
        return self._h2.data_to_site()

    def _fetch_down(self, flow: Flow) -> bytes:
        piece = self._drained()
        if not piece and not self._h2.site_gone and (data := flow.source.read()):
            self._h2.receive_from_site(data)
            piece = self._drained()
            if not piece:
                self.loop.call_soon(flow.run)
        return piece

    def _drained(self) -> bytes:
        piece, events = self._h2.data_to_client()
        self._happened(events)
        return piece

    def passes_end(self, flow: Flow) -> bool:
        """A client's connection outlives what the web server thinks of it."""
        up, _ = self.flows
        return flow is up or not self._h2.joined

    def stirred(self, flow: Flow) -> None:
        """As of any pair; where it is a client's, only the client ends it."""
        if not self._h2.joined:
            super().stirred(flow)
            return
        near, server, (up, down) = self.near, self.server, self.flows
        if near.failure is not None or near.ended:
            self._end(reset=isinstance(near.failure, ConnectionResetError))
        elif not self._h2.site_gone and (server.ended or server.failure is not None):
            self._h2.site_ended()
            up.piece = b""
            down.deaf = True
            down.unwatch()
        if self._h2.site_gone and self._h2.own.idle and not down.piece and not self.closed:
            self._h2.own.goodbye()
            near.write(self._h2.data_to_client()[0])
            self._end(reset=False)

    def wake(self) -> None:
        """There may be something of ours for the client."""
        if not self._waking and not self.closed:
            self._waking = True
            self.loop.call_soon(self._awake)

    def _awake(self) -> None:
        self._waking = False
        self.flows[1].run()

    def _end(self, *, reset: bool) -> None:
        if not self.closed:
            streams, self._streams = self._streams, {}
            for stream in streams.values():
                stream.lost(ConnectionResetError() if reset else None)
        super()._end(reset=reset)

    # ---- streams of ours ---------------------------------------------------------------------------

    def _judge(self, stream: int, fields: list[Field], ends: bool) -> bool:
        head = _head(fields, ends)
        if head is None:
            return False
        transport = StreamTransport(self, self._h2.own, stream, self._arrival())
        self._streams[stream] = transport
        if not transport.begin(head):
            del self._streams[stream]
            return False
        if not self._h2.joined:
            self._joined()
        return True

    def _happened(self, events: Iterable[H2BridgeEvent]) -> None:
        for event in events:
            transport = self._streams.get(event.stream)
            if transport is None:
                continue
            if isinstance(event, BodyReceived):
                transport.receive(event.data)
            elif isinstance(event, RoomMade):
                transport.has_room()
            elif isinstance(event, StreamGone):
                transport.lost(ConnectionResetError())
            else:
                assert isinstance(event, RequestEnded)
                transport.request_over()

    def over(self, stream: int) -> None:
        """A stream's transport is gone."""
        self._streams.pop(stream, None)
        self.wake()


class StreamTransport(asyncio.Transport):
    """One request of a client's as a connection of HTTP/1.1: what a web server in front would make of it."""

    def __init__(self, couple: H2Couple, own: OwnStreams, stream: int, arrival: Arrival) -> None:
        super().__init__()
        self._couple = couple
        self._own = own
        self._stream = stream
        self._arrival = arrival
        self._low, self._high = HIGH_WATER // 4, HIGH_WATER
        self._paused = False
        self._taken = False
        self._gone = False
        self._reader = ResponseReader()
        self._body: BodyReader | None = None
        self._answered = self._asked = False

    def begin(self, head: bytes) -> bool:
        """Let the gate look at a request's head: whether it is a client's."""
        arrival = self._arrival
        arrival.visit = self
        arrival.connection_made(self)
        arrival.data_received(head)
        arrival.give_up()  # if that was not enough, it is none
        return self._taken

    def is_clients(self) -> None:
        """The gate has verified it."""
        self._taken = True

    def is_strangers(self, received: bytes) -> None:
        """It is the web server's."""
        del received
        self._gone = True

    def is_over(self) -> None:
        """It ended before anything was decided."""
        self._gone = True

    # ---- the request ---------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Some of the request's body."""
        if not self._gone:
            self._arrival.data_received(data)

    def request_over(self) -> None:
        """All of it."""
        self._asked = True
        self._rest()

    def lost(self, error: Exception | None) -> None:
        """The stream is over, or its connection."""
        if not self._gone:
            self._gone = True
            self._couple.loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        self._couple.over(self._stream)
        self._arrival.connection_lost(error)

    # ---- the answer ----------------------------------------------------------------------------------

    def write(self, data: Buffer) -> None:
        """Some of the answer, in HTTP/1.1."""
        if self._gone or self._answered:
            return
        try:
            self._answer(memoryview(data))
        except CodecError as error:  # our own words
            raise LocalProtocolError(str(error)) from None
        self._couple.wake()
        if not self._paused and self.get_write_buffer_size() > self._high:
            self._paused = True
            self._arrival.pause_writing()

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """These, one after another."""
        for data in list_of_data:
            self.write(data)

    def _answer(self, data: memoryview) -> None:
        own, stream = self._own, self._stream
        if self._body is None:
            head = self._reader.receive_data(data)
            if head is None:
                return
            data = memoryview(self._reader.rest)
            self._body = response_body(head)
            fields = [(name.lower(), value) for name, value in head.headers if name.lower() not in _HOP]
            own.send_head(stream, [(":status", str(head.status)), *fields], ends=self._body.done)
            if self._body.done:
                self._over()
                return
        parts: list[memoryview] = []
        while data and not self._body.done:
            data = data[self._body.receive_data(data, parts) :]
        for part in parts:
            own.send_body(stream, bytes(part))
        if self._body.done:
            own.end_body(stream)
            self._over()

    def _over(self) -> None:
        self._answered = True
        self._rest()

    def _rest(self) -> None:
        """Answered, and the request is whole: there will be no other on this stream."""
        if self._answered and (self._asked or self._own.is_complete(self._stream)):
            self.lost(None)

    def has_room(self) -> None:
        """Some of what waited has left."""
        if self._paused and not self._gone and self.get_write_buffer_size() <= self._low:
            self._paused = False
            self._arrival.resume_writing()

    # ---- the rest of what a transport is -----------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Nothing: the connection below carries others, too."""
        del name
        return default

    def get_write_buffer_size(self) -> int:
        """Bytes of the answer that wait."""
        return self._own.queued(self._stream)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Ask the protocol to pause above ``high`` bytes, and to go on at ``low``."""
        self._high = HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The gate's."""
        return self._arrival

    def is_closing(self) -> bool:
        """Whether it is over."""
        return self._gone

    def is_reading(self) -> bool:
        """Whether a body is handed on."""
        return not self._gone

    def pause_reading(self) -> None:
        """Nobody asks for that before it is decided whose a connection is."""

    def resume_reading(self) -> None:
        """As above."""

    def can_write_eof(self) -> bool:
        """An answer says itself where it ends."""
        return False

    def close(self) -> None:
        """The answer's end, or the stream's if it is not whole."""
        if not self._gone:
            if not self._answered:
                self._own.reset(self._stream)
            self.lost(None)

    def abort(self) -> None:
        """As above."""
        self.close()


def _head(fields: list[Field], ends: bool) -> bytes | None:
    """A request's fields as a head of HTTP/1.1 (RFC 9113 section 8.3.1); None for what no client sends."""
    pseudo = {name: value for name, value in fields if name.startswith(":")}
    ordinary = [(name, value) for name, value in fields if not name.startswith(":") and name != "cookie"]
    cookie = "; ".join(value for name, value in fields if name == "cookie")
    has_length = any(name == "content-length" for name, _ in ordinary)
    method, path = pseudo.get(":method", ""), pseudo.get(":path", "")
    if not ends and not has_length:
        return None  # a body without a length would be one in chunks
    headers = [("host", pseudo.get(":authority", "")), *ordinary, ("cookie", cookie)]
    try:
        return HttpHead(headers, method, path).serialize()
    except LocalProtocolError:
        return None
