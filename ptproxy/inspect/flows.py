"""TCP connections in a capture, put together as far as a censor's classifiers look.

Each direction's bytes are put in order (lost ones end it), cut into TLS records
where it speaks TLS, and forgotten, but for the first few KiB; what is kept of a
record is its kind, length and time. Connections whose beginning is not in the
capture are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from ptproxy.codec.client_hello import ClientHello, ClientHelloReader
from ptproxy.errors import CodecError
from ptproxy.inspect.pcap import Packet
from ptproxy.inspect.segments import ACK, SYN, Endpoint, Segment, segment_of

MAX_FLOWS: Final = 100_000
"""Connections of one capture; a flow costs a few KiB."""
MAX_RECORDS: Final = 400
"""Records and segments kept of each flow: classifiers look at the first few dozen."""
MAX_WAITING: Final = 1 << 20
"""Bytes of a direction that wait for a segment that is missing."""

_WRAP: Final = 0xFFFFFFFF
_HALF: Final = 1 << 31
"""Sequence numbers wrap; less than half of them lie ahead (RFC 9293 section 3.4)."""
_FIRST_KINDS: Final = frozenset((21, 22))
"""What TLS begins with: an alert or a handshake message."""

UP: Final = 1
"""From the client."""
DOWN: Final = -1


@dataclass(frozen=True, slots=True)
class Part:
    """One TLS record, or one TCP segment's payload."""

    time: float
    direction: int
    kind: int
    """A record's content type; 0 for a segment."""
    size: int


@dataclass(slots=True)
class Flow:
    """One TCP connection; the client is who sent SYN."""

    client: Endpoint
    server: Endpoint
    first_payload: bytes = b""
    """Of the client's first segment with data."""
    hello: ClientHello | None = None
    segments: list[Part] = field(default_factory=list)
    """Payloads as they were on the wire, repetitions left out."""
    records: list[Part] = field(default_factory=list)
    """TLS records of both sides, each at the time its head came; empty where it is not TLS."""
    up: int = 0
    """Bytes from the client."""
    down: int = 0
    tls: bool = False
    """Whether both sides sent TLS records."""
    lost: bool = False
    """Whether bytes are missing from the capture."""


class FlowReader:
    """Puts the connections to a server's port together, packet by packet."""

    def __init__(self, port: int | None = None) -> None:
        self._port = port
        self._open: dict[tuple[Endpoint, Endpoint], _Reassembly] = {}
        self._flows: list[_Reassembly] = []

    def receive(self, packets: Iterable[Packet]) -> None:
        """Take packets in the order of the capture."""
        for packet in packets:
            segment = segment_of(packet.time, packet.link, packet.data)
            if segment is not None:
                self._receive(segment)

    def flows(self) -> list[Flow]:
        """What was put together, in the order of their beginnings; flows without data are left out."""
        return [one.finished() for one in self._flows if one.flow.segments]

    def _receive(self, segment: Segment) -> None:
        up, down = (segment.source, segment.destination), (segment.destination, segment.source)
        if segment.flags & SYN:
            if not segment.flags & ACK:
                if self._port in (None, segment.destination[1]):
                    self._begin(up, segment)
            elif down in self._open:
                self._open[down].directions[DOWN].begin(segment.sequence)
            return
        if up in self._open:
            self._open[up].take(UP, segment)
        elif down in self._open:
            self._open[down].take(DOWN, segment)

    def _begin(self, up: tuple[Endpoint, Endpoint], segment: Segment) -> None:
        """A connection's first segment, or that again."""
        known = self._open.get(up)
        if known is not None and not known.flow.segments:
            return
        if len(self._flows) >= MAX_FLOWS:
            self._open.pop(up, None)
            return
        made = _Reassembly(Flow(*up))
        made.directions[UP].begin(segment.sequence)
        self._open[up] = made
        self._flows.append(made)


class _Direction:
    """One side's bytes in order."""

    __slots__ = ("cutter", "next", "waiting", "waiting_size")

    def __init__(self) -> None:
        self.next: int | None = None
        self.waiting: dict[int, bytes] = {}
        self.waiting_size = 0
        self.cutter = _RecordCutter()

    def begin(self, sequence: int) -> None:
        """The number of the SYN."""
        self.next = (sequence + 1) & _WRAP

    def arrange(self, sequence: int, payload: bytes) -> bytes:
        """The bytes that are in order now; later ones are kept until they are."""
        if self.next is None:
            self.next = sequence  # the SYN of this side is not in the capture
        ahead = (sequence - self.next) & _WRAP
        if 0 < ahead < _HALF:
            more = len(payload) - len(self.waiting.get(sequence, b""))
            if more > 0 and self.waiting_size + more <= MAX_WAITING:
                self.waiting_size += more
                self.waiting[sequence] = payload
            return b""
        ready = bytearray(payload[-ahead & _WRAP :])  # what was sent before is not taken twice
        self.next = (self.next + len(ready)) & _WRAP
        while (key := self._reached()) is not None:
            held = self.waiting.pop(key)
            self.waiting_size -= len(held)
            fresh = held[(self.next - key) & _WRAP :]
            ready += fresh
            self.next = (self.next + len(fresh)) & _WRAP
        return bytes(ready)

    def _reached(self) -> int | None:
        """A kept segment that begins where we are, or before."""
        place = self.next or 0
        return next((key for key in self.waiting if (place - key) & _WRAP < _HALF), None)


class _RecordCutter:
    """Notes the heads of one side's TLS records."""

    __slots__ = ("_head", "_left", "tls")

    def __init__(self) -> None:
        self.tls: bool | None = None
        """Whether this side speaks TLS; None until three bytes have come."""
        self._head = bytearray()
        self._left = 0

    def cut(self, data: bytes) -> list[tuple[int, int]]:
        """(content type, length) of the records that begin in ``data``."""
        found: list[tuple[int, int]] = []
        at = 0
        while at < len(data) and self.tls is not False:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            piece = data[at : at + 5 - len(self._head)]
            self._head += piece
            at += len(piece)
            if self.tls is None and len(self._head) >= 3:
                self.tls = self._head[0] in _FIRST_KINDS and self._head[1] == 3
            if len(self._head) == 5:
                self._left = int.from_bytes(self._head[3:5])
                found.append((self._head[0], self._left))
                self._head.clear()
        return found


class _Reassembly:
    """A flow in the making."""

    __slots__ = ("_hello", "directions", "flow")

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.directions = {UP: _Direction(), DOWN: _Direction()}
        self._hello: ClientHelloReader | None = ClientHelloReader()

    def take(self, direction: int, segment: Segment) -> None:
        """One segment of the flow."""
        if not segment.payload:
            return
        flow, side = self.flow, self.directions[direction]
        data = side.arrange(segment.sequence, segment.payload)
        if direction == UP:
            flow.up += len(data)
            self._read_hello(data)
            if data and not flow.first_payload:
                flow.first_payload = segment.payload
        else:
            flow.down += len(data)
        if data and len(flow.segments) < MAX_RECORDS:
            flow.segments.append(Part(segment.time, direction, 0, len(segment.payload)))
        for kind, size in side.cutter.cut(data):
            if len(flow.records) < MAX_RECORDS:
                flow.records.append(Part(segment.time, direction, kind, size))

    def finished(self) -> Flow:
        """The flow as it is now."""
        flow = self.flow
        flow.tls = all(side.cutter.tls for side in self.directions.values())
        flow.lost = any(side.waiting for side in self.directions.values())
        if not flow.tls:
            flow.records.clear()
        return flow

    def _read_hello(self, data: bytes) -> None:
        if self._hello is None:
            return
        try:
            self.flow.hello = self._hello.receive_data(data)
        except CodecError:
            self._hello = None
            return
        if self.flow.hello is not None:
            self._hello = None
