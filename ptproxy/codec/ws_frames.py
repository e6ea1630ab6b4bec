"""WebSocket frames (RFC 6455 section 5): written, and read from bytes split anyhow.

::

    byte 0   FIN (0x80), RSV1-3 (0x70, always 0 here), opcode (0x0f)
    byte 1   MASK (0x80), length: 0-125, or 126: 2 bytes follow, or 127: 8 bytes follow
    [2 or 8] length, big-endian, in the shortest form that holds it, top bit of the 8 clear
    [4]      mask, in frames to the server only
    payload  byte i XOR mask[i mod 4]

Opcodes: 0 continuation, 1 text (refused: 1003), 2 binary, 8 close, 9 ping,
10 pong. Control frames (8 and up) are whole, at most 125 bytes, and may stand
between the fragments of a message. Messages mean nothing to a byte stream:
payload is handed out as it arrives, fragments and all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final, final

from ptproxy.buffer import Buffer
from ptproxy.errors import CodecError

MAX_FRAME: Final = 16 * 1024 * 1024
"""Payload bytes of one received frame. Nothing is kept of it, so this only tells sense from nonsense."""
MAX_CONTROL: Final = 125
"""Payload bytes of a control frame (RFC 6455 section 5.5)."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN: Final = 0x80
MASKED: Final = 0x80

NORMAL_CLOSURE, GOING_AWAY, PROTOCOL_ERROR, UNSUPPORTED_DATA, NO_STATUS = 1000, 1001, 1002, 1003, 1005
INVALID_PAYLOAD, TOO_BIG = 1007, 1009
_CODES_ON_THE_WIRE: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)})
"""RFC 6455 section 7.4 and the IANA registry; 1004-1006 and 1015 are never sent."""

_SHORT: Final = Struct(">BB")
_MEDIUM: Final = Struct(">BBH")
_LONG: Final = Struct(">BBQ")


def mask_by_integers(data: Buffer, mask: bytes | bytearray) -> bytes:
    """XOR ``data`` with the four bytes of ``mask``, repeated: what stands in for the function in C."""
    length = len(data)
    keys = (bytes(mask) * (length // 4 + 1))[:length]
    return (int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")).to_bytes(length, "little")


apply_mask: Callable[[Buffer, bytes | bytearray], bytes]
"""XOR data with a mask of four bytes, repeated; in C where there is a wheel for the platform."""
try:
    from websockets.speedups import apply_mask
except ImportError:
    apply_mask = mask_by_integers


class FrameError(CodecError):
    """A frame that RFC 6455 or this codec forbids; ``code`` is the close code that says so."""

    def __init__(self, text: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


@final
@dataclass(slots=True)
class Control:
    """A received control frame, unmasked."""

    opcode: int
    payload: bytes


def frame_header(opcode: int, length: int, mask_bit: int) -> bytes:
    """The first 2, 4 or 10 bytes of a whole (FIN) frame; ``mask_bit`` is 0 or :data:`MASKED`."""
    if length < 126:
        return _SHORT.pack(FIN | opcode, mask_bit | length)
    if length < 65536:
        return _MEDIUM.pack(FIN | opcode, mask_bit | 126, length)
    return _LONG.pack(FIN | opcode, mask_bit | 127, length)


def masked_frame(opcode: int, payload: Buffer, mask: bytes) -> bytes:
    """A frame as a client sends it."""
    return b"".join((frame_header(opcode, len(payload), MASKED), mask, apply_mask(payload, mask)))


def unmasked_frame(opcode: int, payload: Buffer) -> bytes:
    """A frame as a server sends it."""
    return b"".join((frame_header(opcode, len(payload), 0), payload))


def close_payload(code: int) -> bytes:
    """What a close frame says; nothing at all for :data:`NO_STATUS`."""
    return b"" if code == NO_STATUS else code.to_bytes(2, "big")


def parse_close(payload: bytes) -> int:
    """The code of a close frame (RFC 6455 section 5.5.1), :data:`NO_STATUS` for an empty one."""
    if not payload:
        return NO_STATUS
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or code not in _CODES_ON_THE_WIRE:
        raise FrameError("close frame with an invalid code")
    try:
        payload[2:].decode("utf-8")
    except UnicodeDecodeError:
        raise FrameError("close frame with a reason that is not UTF-8", INVALID_PAYLOAD) from None
    return code


class FrameReader:
    """Reads frames; subclasses say who masks.

    :meth:`receive_data` returns payload as it arrives and control frames once
    whole. After a close frame it returns nothing more.
    """

    __slots__ = ("_control", "_fragmented", "_mask", "_opcode", "_partial", "_remaining", "ended")

    mask_bit: int

    def __init__(self) -> None:
        self.ended = False
        self._partial = b""  # the beginning of a header, at most 13 bytes
        self._opcode = 0
        self._remaining = 0  # payload bytes of the current frame still to come
        self._mask = b""  # turned so that its first byte is for the next payload byte
        self._fragmented = False  # a message has begun and its last fragment has not come
        self._control = bytearray()  # payload of the current control frame so far

    def receive_data(self, data: Buffer) -> list[Buffer | Control]:
        """Payload pieces (views of ``data`` where unmasked), control frames; raises :class:`FrameError`."""
        out: list[Buffer | Control] = []
        if self.ended:
            return out
        view = memoryview(data)
        at, size = 0, len(view)
        while at < size:
            if self._remaining:
                at = self._read_payload(view, at, size, out)
                continue
            partial = self._partial
            if partial:
                known = len(partial)
                head = memoryview(partial + bytes(view[at : at + 14 - known]))
                end = self._read_header(head, 0, len(head))
                if not end:
                    self._partial = bytes(head)
                    break
                self._partial = b""
                at += end - known
            else:
                end = self._read_header(view, at, size)
                if not end:
                    self._partial = bytes(view[at:])
                    break
                at = end
            if not self._remaining and self._opcode >= CLOSE:
                self._end_control(out)
                if self.ended:
                    break
        return out

    def _read_payload(self, view: memoryview, at: int, size: int, out: list[Buffer | Control]) -> int:
        """Take what is there of the current frame's payload; where it ends."""
        end = at + self._remaining
        end = min(end, size)
        piece: Buffer = view[at:end]
        self._remaining -= end - at
        mask = self._mask
        if mask:
            piece = apply_mask(piece, mask)
            turn = (end - at) & 3
            if turn and self._remaining:
                self._mask = mask[turn:] + mask[:turn]
        if self._opcode < CLOSE:
            out.append(piece)
            return end
        self._control += piece
        if not self._remaining:
            self._end_control(out)
            if self.ended:
                return size
        return end

    def _end_control(self, out: list[Buffer | Control]) -> None:
        out.append(Control(self._opcode, bytes(self._control)))
        self._control.clear()
        self.ended = self._opcode == CLOSE

    def _read_header(self, view: memoryview, at: int, size: int) -> int:
        """Parse a header; where it ends, or 0 when it is not complete."""
        if size - at < 2:
            return 0
        first, second = view[at], view[at + 1]
        length = second & 0x7F
        if second & 0x80 != self.mask_bit:
            raise FrameError(
                "an unmasked frame from a client" if self.mask_bit else "a masked frame from a server"
            )
        if first != FIN | BINARY:
            self._check_first(first, length)
        elif self._fragmented:
            raise FrameError("a new message inside a fragmented one")
        at += 2
        if length > 125:
            wide = 2 if length == 126 else 8
            if size - at < wide:
                return 0
            length = int.from_bytes(view[at : at + wide], "big")
            at += wide
            if length < (126 if wide == 2 else 65536):
                raise FrameError("a frame length not in its shortest form")
            if length > MAX_FRAME:
                if length >> 63:
                    raise FrameError("a frame length with its top bit set")
                raise FrameError(f"a frame of more than {MAX_FRAME} bytes", TOO_BIG)
        if self.mask_bit:
            if size - at < 4:
                return 0
            self._mask = bytes(view[at : at + 4])
            at += 4
        self._opcode = first & 0x0F
        self._remaining = length
        if self._opcode < CLOSE:
            self._fragmented = not first & FIN
        return at

    def _check_first(self, first: int, length: int) -> None:
        """What is wrong with a frame that is not simply a whole binary message, if anything is."""
        opcode = first & 0x0F
        if first & 0x70:
            raise FrameError("a frame with reserved bits set, though nobody compresses")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise FrameError("an unknown control frame")
            if not first & FIN or length > MAX_CONTROL:
                raise FrameError("a control frame that is fragmented or too long")
        elif opcode == CONTINUATION:
            if not self._fragmented:
                raise FrameError("a continuation of nothing")
        elif opcode > BINARY:
            raise FrameError("an unknown data frame")
        elif self._fragmented:
            raise FrameError("a new message inside a fragmented one")
        elif opcode == TEXT:
            raise FrameError("a text message", UNSUPPORTED_DATA)


class MaskedFrameReader(FrameReader):
    """A server's: every frame must be masked (RFC 6455 section 5.1)."""

    __slots__ = ()

    mask_bit = MASKED


class UnmaskedFrameReader(FrameReader):
    """A client's: no frame may be masked."""

    __slots__ = ()

    mask_bit = 0
