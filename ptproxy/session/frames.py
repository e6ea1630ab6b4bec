"""The wire format of a carrier, once it is authenticated: frames, one after another, each way.

All numbers are big-endian. Every frame starts with eight bytes::

    type u8 │ length u24 │ stream u32 │ body (length bytes)

    type           stream  body
    0x01 DATA      id      offset u64, bytes (1 to 262,144)                                      (R4)
    0x02 EOF       id      final offset u64                                                      (R4)
    0x03 OPEN      id      generation u32, flags u8, limit u64, target length u16, target, first data (R6)
    0x04 OPENED    id      -                                                                     (R7)
    0x05 WINDOW    id      received u64, limit u64                                               (R7)
    0x06 BIND      id      generation u32, received u64, limit u64                               (R12)
    0x07 MOVE      id      the same: a BIND that drains instead of rewinding                     (R15)
    0x08 RESUME    0       1 to 680 times: stream u32, and a BIND's body                         (R12)
    0x09 ASK       id      received u64, limit u64                                               (R14)
    0x0a RESET     id      reason u8                                                             (R16)
    0x0b GONE      id      -                                                                     (R17)
    0x0c CLOSED    0       carrier u32                                                           (R2)
    0x0d PING      0       value u64                                                             (R20)
    0x0e PONG      0       the PING's value                                                      (R20)
    0x0f DATAGRAM  id      address length u16, address, data (0 to 65,507 bytes)                 (R23)
    0x10 GOAWAY    0       carrier u32, or 0: the session                                        (R25)
    0x11 CHALLENGE 0       opaque, 1 to 1,024 bytes
    0x12 PROOF     0       opaque, 1 to 1,024 bytes

DATA and EOF thus have a header of 16 bytes. OPEN's flags: bit 0 marks an
association (datagrams only); the others are 0. Anything else is an error of
the session. A stream's id is even when the client opened it, odd when the
bridge did; 0 and 1 are never used.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from ptproxy.buffer import Buffer
from ptproxy.errors import SessionError

DATA: Final = 0x01
EOF: Final = 0x02
OPEN: Final = 0x03
OPENED: Final = 0x04
WINDOW: Final = 0x05
BIND: Final = 0x06
MOVE: Final = 0x07
RESUME: Final = 0x08
ASK: Final = 0x09
RESET: Final = 0x0A
GONE: Final = 0x0B
CLOSED: Final = 0x0C
PING: Final = 0x0D
PONG: Final = 0x0E
DATAGRAM: Final = 0x0F
GOAWAY: Final = 0x10
CHALLENGE: Final = 0x11
PROOF: Final = 0x12

ASSOCIATION: Final = 0x01
"""OPEN's flag of an association."""

HEADER: Final = 8
"""Bytes that every frame starts with."""
MAX_DATA: Final = 256 * 1024
"""Most payload bytes of one DATA: a stream alone on a fast carrier; more would save nothing."""
MAX_OPEN_DATA: Final = 64 * 1024
"""Most first data: the initial window."""
MAX_TARGET: Final = 512
"""Most bytes of a target: twice the longest host name."""
MAX_DATAGRAM: Final = 65507
"""Most bytes of a datagram: UDP's own limit over IPv4."""
MAX_ADDRESS: Final = 512
MAX_OPAQUE: Final = 1024
"""Most bytes of a CHALLENGE or PROOF: a Noise message with room for another suite."""
RESUME_ENTRY: Final = 24
MAX_RESUME: Final = 680
"""Most entries of one RESUME: 16 KiB, so that it does not hold a carrier up."""

Frame = tuple[Any, ...]
"""``(type, ...fields)``: see :meth:`FrameParser.receive_data`."""

_HEAD = Struct(">II")
_OFFSET = Struct(">IIQ")
_WINDOW = Struct(">IIQQ")
_OPEN = Struct(">IIIBQH")
_BIND = Struct(">IIIQQ")
_ENTRY = Struct(">IIQQ")
_CODE = Struct(">IIB")
_NUMBER = Struct(">III")
_DATAGRAM = Struct(">IIH")

pack_offset = _OFFSET.pack
pack_window = _WINDOW.pack

_DATA_HEAD: Final = DATA << 24 | 8  # plus the payload's length

# ---- serializing ---------------------------------------------------------------------------


def data_header(stream: int, offset: int, size: int) -> bytes:
    """The 16 bytes before ``size`` bytes of payload (R4)."""
    return pack_offset(_DATA_HEAD + size, stream, offset)


def eof(stream: int, final: int) -> bytes:
    """EOF (R4)."""
    return pack_offset(EOF << 24 | 8, stream, final)


def open_header(stream: int, generation: int, flags: int, limit: int, target: bytes, size: int) -> bytes:
    """OPEN up to its ``size`` bytes of first data (R6)."""
    length = 15 + len(target) + size
    return _OPEN.pack(OPEN << 24 | length, stream, generation, flags, limit, len(target)) + target


def opened(stream: int) -> bytes:
    """OPENED (R7)."""
    return _HEAD.pack(OPENED << 24, stream)


def window(stream: int, received: int, limit: int) -> bytes:
    """WINDOW (R7)."""
    return pack_window(WINDOW << 24 | 16, stream, received, limit)


def bind(kind: int, stream: int, generation: int, received: int, limit: int) -> bytes:
    """BIND (R12) or MOVE (R15), as ``kind`` says."""
    return _BIND.pack(kind << 24 | 20, stream, generation, received, limit)


def resume(entries: list[tuple[int, int, int, int]]) -> bytes:
    """RESUME of ``(stream, generation, received, limit)`` entries, at most :data:`MAX_RESUME` (R12)."""
    head = _HEAD.pack(RESUME << 24 | RESUME_ENTRY * len(entries), 0)
    return b"".join([head, *(_ENTRY.pack(*entry) for entry in entries)])


def ask(stream: int, received: int, limit: int) -> bytes:
    """ASK (R14)."""
    return pack_window(ASK << 24 | 16, stream, received, limit)


def reset(stream: int, code: int) -> bytes:
    """RESET (R16)."""
    return _CODE.pack(RESET << 24 | 1, stream, code)


def gone(stream: int) -> bytes:
    """GONE (R17)."""
    return _HEAD.pack(GONE << 24, stream)


def closed(carrier: int) -> bytes:
    """CLOSED (R2)."""
    return _NUMBER.pack(CLOSED << 24 | 4, 0, carrier)


def goaway(carrier: int) -> bytes:
    """GOAWAY (R25); carrier 0 means the session."""
    return _NUMBER.pack(GOAWAY << 24 | 4, 0, carrier)


def ping(kind: int, value: int) -> bytes:
    """PING or PONG, as ``kind`` says (R20)."""
    return pack_offset(kind << 24 | 8, 0, value)


def datagram_header(stream: int, address: bytes, size: int) -> bytes:
    """DATAGRAM up to its ``size`` bytes of data (R23)."""
    return _DATAGRAM.pack(DATAGRAM << 24 | (2 + len(address) + size), stream, len(address)) + address


def opaque(kind: int, data: bytes) -> bytes:
    """CHALLENGE or PROOF, as ``kind`` says."""
    return _HEAD.pack(kind << 24 | len(data), 0) + data


# ---- parsing -------------------------------------------------------------------------------

# Smallest and largest body of each type: anything else is refused on its header.
_SIZES: Final[dict[int, tuple[int, int]]] = {
    DATA: (9, 8 + MAX_DATA),
    EOF: (8, 8),
    OPEN: (15, 15 + MAX_TARGET + MAX_OPEN_DATA),
    OPENED: (0, 0),
    WINDOW: (16, 16),
    BIND: (20, 20),
    MOVE: (20, 20),
    RESUME: (RESUME_ENTRY, RESUME_ENTRY * MAX_RESUME),
    ASK: (16, 16),
    RESET: (1, 1),
    GONE: (0, 0),
    CLOSED: (4, 4),
    PING: (8, 8),
    PONG: (8, 8),
    DATAGRAM: (2, 2 + MAX_ADDRESS + MAX_DATAGRAM),
    GOAWAY: (4, 4),
    CHALLENGE: (1, MAX_OPAQUE),
    PROOF: (1, MAX_OPAQUE),
}
_OF_SESSION: Final = frozenset((RESUME, CLOSED, PING, PONG, GOAWAY, CHALLENGE, PROOF))


class FrameParser:
    """Cuts what one carrier received into frames.

    DATA is never put together: each piece that arrives is a frame tuple of its
    own, with the offset where it belongs. Other frames are kept until they are
    complete; they hold at most 66 KiB. After an error nothing is parsed any more.
    """

    __slots__ = ("_end", "_kept", "_left", "_offset", "_stream", "_wanted", "error")

    def __init__(self) -> None:
        self._kept = bytearray()  # the head of a frame that is not complete
        self._wanted = 0  # how many bytes must be kept before it can be looked at again
        self._left = 0  # payload bytes of the current DATA still to come
        self._stream = self._offset = self._end = 0
        self.error: SessionError | None = None
        """What was wrong, once something was."""

    def receive_data(self, data: Buffer) -> list[Frame]:
        """The frames in ``data``; payload of DATA as views of ``data``, all else copied.

        ``(DATA, stream, offset, payload, end)``, where ``end`` is the end of the
        whole DATA frame, and ``(DATAGRAM, stream, address, data)``; ``(OPEN, stream,
        generation, flags, limit, target, first_data)``; a RESUME becomes its
        ``(BIND, stream, generation, received, limit)`` frames; ``(CLOSED, carrier)``
        and the like without the stream that is always 0. On a fault the frames
        before it are returned and :attr:`error` is set.
        """
        frames: list[Frame] = []
        if self.error is None:
            try:
                self._parse(memoryview(data), frames)
            except SessionError as error:
                self.error = error
        return frames

    def _parse(self, view: memoryview, frames: list[Frame]) -> None:
        position, end = 0, len(view)
        while self._kept and position < end:
            position = self._complete(view, position, frames)
        if self._left and position < end:
            position = self._payload(view, position, frames)
        unpack = _OFFSET.unpack_from
        while end - position >= 16:
            head, stream, offset = unpack(view, position)
            size = (head & 0xFFFFFF) - 8
            if head >> 24 == DATA and 0 < size <= MAX_DATA and stream > 1:
                position += 16
                stop = position + size
                if stop <= end:
                    frames.append((DATA, stream, offset, view[position:stop], offset + size))
                    position = stop
                    continue
                self._start_payload(stream, offset, size)
                position = self._payload(view, position, frames)
                return
            length = _check_head(head, stream)
            if end - position < HEADER + length:
                break
            position += HEADER
            _parse_body(head >> 24, stream, view[position : position + length], frames)
            position += length
        while position < end:  # a short frame, or the head of one
            position = self._complete(view, position, frames)

    def _complete(self, view: memoryview, position: int, frames: list[Frame]) -> int:
        """Add to the kept head of a frame; parse it once complete. Returns the new position."""
        kept = self._kept
        if self._left:
            return self._payload(view, position, frames)
        wanted = self._wanted or HEADER
        take = min(wanted - len(kept), len(view) - position)
        kept += view[position : position + take]
        position += take
        if len(kept) < wanted:
            self._wanted = wanted
            return position
        head, stream = _HEAD.unpack_from(kept)
        kind = head >> 24
        if wanted == HEADER:
            length = _check_head(head, stream)
            self._wanted = wanted = HEADER + (8 if kind == DATA else length)
            if len(kept) < wanted:
                return position
        self._wanted = 0
        self._kept = bytearray()
        if kind == DATA:
            self._start_payload(stream, int.from_bytes(kept[HEADER:16], "big"), (head & 0xFFFFFF) - 8)
            return self._payload(view, position, frames)
        _parse_body(kind, stream, memoryview(kept)[HEADER:], frames)
        return position

    def _start_payload(self, stream: int, offset: int, size: int) -> None:
        self._stream, self._offset, self._left = stream, offset, size
        self._end = offset + size

    def _payload(self, view: memoryview, position: int, frames: list[Frame]) -> int:
        """The next piece of the current DATA's payload (empty with its bare header)."""
        size = min(self._left, len(view) - position)
        piece = view[position : position + size]
        frames.append((DATA, self._stream, self._offset, piece, self._end))
        self._offset += size
        self._left -= size
        return position + size


def _check_head(head: int, stream: int) -> int:
    """The length of the body that this header announces; raises :class:`SessionError`."""
    kind, length = head >> 24, head & 0xFFFFFF
    sizes = _SIZES.get(kind)
    if sizes is None:
        raise SessionError(f"unknown frame type {kind}")
    if not sizes[0] <= length <= sizes[1]:
        raise SessionError(f"frame type {kind} with {length} bytes")
    if kind in _OF_SESSION:
        if stream:
            raise SessionError(f"frame type {kind} on a stream")
    elif stream < 2:
        raise SessionError(f"frame type {kind} on stream {stream}")
    return length


def _parse_body(kind: int, stream: int, body: memoryview, frames: list[Frame]) -> None:
    """One complete frame that is not DATA; raises :class:`SessionError`."""
    if kind in (WINDOW, ASK):
        frames.append((kind, stream, _u64(body, 0), _u64(body, 8)))
    elif kind == EOF:
        frames.append((EOF, stream, _u64(body, 0)))
    elif kind in (OPENED, GONE):
        frames.append((kind, stream))
    elif kind == OPEN:
        frames.append(_parse_open(stream, body))
    elif kind in (BIND, MOVE):
        frames.append((kind, stream, _u32(body, 0), _u64(body, 4), _u64(body, 12)))
    elif kind == RESUME:
        if len(body) % RESUME_ENTRY:
            raise SessionError("RESUME cut inside an entry")
        for entry in _ENTRY.iter_unpack(body):
            if entry[0] < 2:
                raise SessionError("RESUME of no stream")
            frames.append((BIND, *entry))
    elif kind == RESET:
        frames.append((RESET, stream, body[0]))
    elif kind in (CLOSED, GOAWAY):
        number = _u32(body, 0)
        if not number and kind == CLOSED:
            raise SessionError("CLOSED of no carrier")
        frames.append((kind, number))
    elif kind in (PING, PONG):
        frames.append((kind, _u64(body, 0)))
    elif kind == DATAGRAM:
        end = 2 + int.from_bytes(body[:2], "big")
        if end > len(body) or end - 2 > MAX_ADDRESS or len(body) - end > MAX_DATAGRAM:
            raise SessionError("DATAGRAM with impossible lengths")
        frames.append((DATAGRAM, stream, bytes(body[2:end]), bytes(body[end:])))
    else:
        frames.append((kind, bytes(body)))


def _parse_open(stream: int, body: memoryview) -> Frame:
    flags = body[4]
    end = 15 + int.from_bytes(body[13:15], "big")
    if flags & ~ASSOCIATION:
        raise SessionError("OPEN with unknown flags")
    if end > len(body) or end - 15 > MAX_TARGET or len(body) - end > MAX_OPEN_DATA:
        raise SessionError("OPEN with impossible lengths")
    return (OPEN, stream, _u32(body, 0), flags, _u64(body, 5), bytes(body[15:end]), bytes(body[end:]))


def _u32(body: memoryview, position: int) -> int:
    return int.from_bytes(body[position : position + 4], "big")


def _u64(body: memoryview, position: int) -> int:
    return int.from_bytes(body[position : position + 8], "big")
