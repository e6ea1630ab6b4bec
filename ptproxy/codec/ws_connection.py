"""An open WebSocket (RFC 6455 sections 5 to 7): messages both ways, pings answered, the close handshake.

``ClientWebSocket`` and ``BridgeWebSocket`` in ``websocket.py`` add the upgrade
and what the sides do differently.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.interface import CarrierEnded, Event, Link, PayloadReceived
from ptproxy.codec.shape_parts import split
from ptproxy.codec.ws_frames import (
    BINARY,
    CLOSE,
    GOING_AWAY,
    NO_STATUS,
    NORMAL_CLOSURE,
    PING,
    PONG,
    Control,
    FrameError,
    FrameReader,
    close_payload,
    frame_header,
    parse_close,
    unmasked_frame,
)
from ptproxy.codec.ws_talk import RecordReader, Talker

MAX_MESSAGE: Final = 128 * 1024
"""Payload bytes of one message we send: what the tunnel draws from the session in one go."""
JOIN: Final = 4096
"""Payload bytes up to which header and payload are joined: below, one write is cheaper than one copy."""
CLOSE_TIMEOUT: Final = 10.0
"""Seconds until a close frame must be answered; Chromium's closing handshake time-out."""
SERVER_FIRST: Final = 2.0
"""Seconds a client leaves the server to close the connection after the close frames, as Chromium does."""
NO_LIMIT: Final = 1 << 40
"""What :meth:`room` says while open: the connection's own buffer is the only limit."""

_CLEAN: Final = frozenset({NORMAL_CLOSURE, GOING_AWAY, NO_STATUS})


class WebSocket:
    """One end of an open WebSocket: the carrier and its only link in one object."""

    __slots__ = (
        "_changed", "_close_sent", "_deadline", "_ended", "_out", "_pong", "_reader", "_record", "_records",
        "_rng", "_talker", "closing",
    )  # fmt: skip

    _side = "peer"

    def __init__(self, reader: FrameReader, rng: Random, record: tuple[int, ...] = ()) -> None:
        """``record``: least and most payload bytes of a message of little payload; () as it comes."""
        self.closing = False
        self._rng = rng
        self._record = record
        self._reader = reader
        self._talker: Talker | None = None  # where a ticket opened it
        self._records: RecordReader | None = None
        self._out: list[Buffer] = []
        self._pong: bytes | None = None  # answer to the latest ping, sent with the next drain
        self._changed = False
        self._close_sent = False
        self._ended = False  # nothing more is received
        self._deadline: float | None = None

    # ---- what the sides do differently --------------------------------------------------------

    def _send_message(self, chunks: Sequence[Buffer], length: int) -> None:
        raise NotImplementedError

    def _control_frame(self, opcode: int, payload: bytes) -> bytes:
        raise NotImplementedError

    def _after_close_frames(self, now: float) -> None:
        raise NotImplementedError

    # ---- carrier ------------------------------------------------------------------------------

    def send_data(self, chunks: Sequence[Buffer], now: float) -> None:
        """Send payload as one binary message, or several above :data:`MAX_MESSAGE`."""
        if self._close_sent or self._ended:
            return
        if self._talker is not None:
            self._send_talk(self._talker.add(chunks, now))
            return
        length = sum(map(len, chunks))
        self._changed = True
        if self._record and (pieces := split(chunks, self._record, self._rng)) is not None:
            for piece in pieces:
                self._send_message((piece,), len(piece))
            return
        if length <= MAX_MESSAGE:
            if length:
                self._send_message(chunks, length)
            return
        for whole in _pieces(chunks):
            self._send_message(whole, sum(map(len, whole)))

    def room(self) -> int:
        """No limit of its own once open."""
        return 0 if self._close_sent or self._ended else NO_LIMIT

    def links_to_flush(self) -> Collection[Link]:
        """Itself, when something changed."""
        if not self._changed:
            return ()
        self._changed = False
        return (self,)

    def close(self, now: float) -> None:
        """Send a close frame; the connection is closed when the peer has answered or time is up."""
        if self._close_sent or self.closing:
            return
        if self._talker is not None:
            self._send_talk(self._talker.rest())
        self._send_close(self._farewell())
        self._deadline = now + CLOSE_TIMEOUT

    def deadline(self) -> float | None:
        """When a closing handshake has taken long enough, or something is to be said."""
        if self._talker is None or self._close_sent or self._ended:
            return self._deadline
        return self._talker.deadline()

    def on_deadline(self, now: float) -> list[Event]:
        """Say what is due; give up waiting for the peer."""
        if self._talker is not None and not self._close_sent and not self._ended:
            self._send_talk(self._talker.messages(now))
            if self._talker.ping_due(now):
                self._out.append(self._control_frame(PING, b""))
                self._changed = True
        if self._deadline is None or now < self._deadline:
            return []
        return self._end(f"the {self._side} did not answer the close frame in time")

    # ---- link ---------------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Payload and the end of the conversation; pings are answered on the next drain."""
        try:
            items = self._reader.receive_data(data)
            if len(items) == 1 and type(items[0]) is not Control and self._records is None:  # nearly always
                return [PayloadReceived(self, items[0])]
            events: list[Event] = []
            for item in items:
                if type(item) is Control:
                    self._receive_control(item, events, now)
                elif self._records is None:
                    events.append(PayloadReceived(self, item))
                else:
                    self._heard(now)
                    events += [PayloadReceived(self, piece) for piece in self._records.receive_data(item)]
        except FrameError as error:
            self._send_close(error.code)
            self._end("")
            raise
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended."""
        return self._end("the connection ended without a close frame")

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written."""
        if self._pong is not None:
            self._out.append(self._control_frame(PONG, self._pong))
            self._pong = None
        out = self._out
        if out:
            self._out = []
        return out

    # ---- within -------------------------------------------------------------------------------

    def _talk_from_now(self) -> Talker:
        """A ticket opened it: what is said is records from here on."""
        self._records = RecordReader()
        self._talker = Talker(self._rng)
        return self._talker

    def _send_talk(self, messages: Sequence[bytes]) -> None:
        for whole in messages:
            self._changed = True
            self._send_message((whole,), len(whole))

    def _heard(self, now: float) -> None:
        """A message came, or a part of one."""

    def _farewell(self) -> int:
        """The code of a close frame of our own."""
        return NORMAL_CLOSURE

    def _receive_control(self, control: Control, events: list[Event], now: float) -> None:
        if control.opcode == PING:
            if not self._close_sent:
                self._pong = control.payload
                self._changed = True
        elif control.opcode == CLOSE:
            code = parse_close(control.payload)
            reason = "" if code in _CLEAN else f"the {self._side} closed the WebSocket with code {code}"
            self._send_close(NORMAL_CLOSURE if code == NO_STATUS and self._talker is not None else code)
            self._ended = True
            self._after_close_frames(now)
            events.append(CarrierEnded(self, reason))

    def _send_close(self, code: int) -> None:
        if not self._close_sent:
            self._close_sent = True
            self._changed = True
            self._out.append(self._control_frame(CLOSE, close_payload(code)))

    def _end(self, reason: str) -> list[Event]:
        """Nothing more either way; told unless the carrier had ended before."""
        ended, self._ended = self._ended, True
        self._reader.ended = True
        self.closing = True
        self._changed = True
        self._close_sent = True
        self._pong = None
        self._deadline = None
        return [] if ended else [CarrierEnded(self, reason)]


class ServerWebSocket(WebSocket):
    """A server's end: its frames are not masked, and it closes the connection first."""

    __slots__ = ()

    def _send_message(self, chunks: Sequence[Buffer], length: int) -> None:
        header = frame_header(BINARY, length, 0)
        if length <= JOIN:
            self._out.append(b"".join((header, *chunks)))
        else:
            self._out.append(header)
            self._out += chunks

    def _control_frame(self, opcode: int, payload: bytes) -> bytes:
        return unmasked_frame(opcode, payload)

    def _after_close_frames(self, now: float) -> None:
        self.closing = True
        self._deadline = None


def _pieces(chunks: Sequence[Buffer]) -> list[list[Buffer]]:
    """The same bytes in messages of at most :data:`MAX_MESSAGE`, without copying."""
    pieces: list[list[Buffer]] = []
    room = 0
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            if not room:
                pieces.append([])
                room = MAX_MESSAGE
            pieces[-1].append(view[:room])
            view, room = view[room:], max(0, room - len(view))
    return pieces
