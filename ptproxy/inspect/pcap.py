"""Capture files without I/O: pcap and pcapng, read from bytes split anyhow.

pcap (draft-ietf-opsawg-pcap): a head of 24 bytes, then for each packet::

    seconds u32 ‖ fraction u32 ‖ captured length u32 ‖ original length u32 ‖ bytes

in the byte order of the magic number, fractions of 10^-6 s or 10^-9 s by the
magic. pcapng (draft-ietf-opsawg-pcapng): blocks of ``type u32 ‖ length u32 ‖
body ‖ length u32``, each section in the byte order of its head; packets are in
Enhanced (6) and Simple (3) Packet Blocks, their link type and clock in the
Interface Description Block (1) they name. Other blocks are passed over.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.errors import CodecError

MAX_BLOCK: Final = 1 << 20
"""Bytes of one packet or block; tcpdump takes at most 262,144 of a packet."""
MAX_INTERFACES: Final = 4096
"""Interfaces of one section."""

_PCAP: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}
_SECTION: Final = 0x0A0D0D0A
_INTERFACE, _SIMPLE, _ENHANCED = 1, 3, 6
_RESOLUTION: Final = 9
"""The option if_tsresol of an Interface Description Block."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One captured packet."""

    time: float
    """Seconds, Unix time."""
    link: int
    """Its link type: LINKTYPE_*, 1 is Ethernet."""
    data: bytes
    """What was captured of it."""


FILE_HEAD: Final = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, MAX_BLOCK, 101)
"""What a pcap file of IP packets begins with; :func:`serialize` makes what follows."""


def serialize(packet: Packet) -> bytes:
    """A packet as it stands in a file that begins with :data:`FILE_HEAD` (its link type must be 101)."""
    seconds = int(packet.time)
    micros = int((packet.time - seconds) * 1e6)
    return struct.pack("<IIII", seconds, micros, len(packet.data), len(packet.data)) + packet.data


class CaptureReader:
    """Cuts packets out of a capture file's bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._order = ""
        self._unit = 0.0
        self._link = -1
        self._blocks = False
        self._interfaces: list[tuple[int, float]] = []

    def receive_data(self, data: Buffer) -> list[Packet]:
        """The packets that ``data`` completes.

        Raises :class:`CodecError` for what is no capture file, or a broken one.
        """
        self._buffer += data
        packets: list[Packet] = []
        at = 0
        if not self._order and not self._blocks:
            at = self._begin()
            if not at and not self._blocks:
                return packets
        take = self._take_block if self._blocks else self._take_packet
        while (end := take(at, packets)) > at:
            at = end
        del self._buffer[:at]
        return packets

    def receive_eof(self) -> None:
        """The file is over; :class:`CodecError` where that is in the middle of something."""
        if self._buffer or not (self._order or self._blocks):
            raise CodecError("the capture file is cut short")

    def _begin(self) -> int:
        """Find out which format it is; bytes of a head that are done with."""
        if len(self._buffer) < 4:
            return 0
        magic = bytes(self._buffer[:4])
        if magic == b"\x0a\x0d\x0d\x0a":
            self._blocks = True
            return 0
        if magic not in _PCAP:
            raise CodecError("neither a pcap nor a pcapng file")
        if len(self._buffer) < 24:
            return 0
        self._order, self._unit = _PCAP[magic]
        self._link = struct.unpack_from(self._order + "I", self._buffer, 20)[0] & 0xFFFF
        return 24

    def _take_packet(self, at: int, packets: list[Packet]) -> int:
        """One packet of a pcap file; where it ends, or ``at``."""
        if len(self._buffer) < at + 16:
            return at
        seconds, fraction, size, _ = struct.unpack_from(self._order + "IIII", self._buffer, at)
        if size > MAX_BLOCK:
            raise CodecError(f"a captured packet of {size} bytes")
        end: int = at + 16 + size
        if len(self._buffer) < end:
            return at
        data = bytes(self._buffer[at + 16 : end])
        packets.append(Packet(seconds + fraction * self._unit, self._link, data))
        return end

    def _take_block(self, at: int, packets: list[Packet]) -> int:
        """One block of a pcapng file; where it ends, or ``at``."""
        if len(self._buffer) < at + 12:
            return at
        if self._buffer[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            orders = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
            order = orders.get(bytes(self._buffer[at + 8 : at + 12]))
            if order is None:
                raise CodecError("a pcapng section without its mark")
            self._order = order
            self._interfaces.clear()
        elif not self._order:
            raise CodecError("a pcapng file that begins with no section")
        kind, size = struct.unpack_from(self._order + "II", self._buffer, at)
        if size < 12 or size % 4 or size > MAX_BLOCK:
            raise CodecError(f"a pcapng block of {size} bytes")
        end: int = at + size
        if len(self._buffer) < end:
            return at
        if struct.unpack_from(self._order + "I", self._buffer, end - 4)[0] != size:
            raise CodecError("a pcapng block whose two lengths differ")
        self._read_block(kind, bytes(self._buffer[at + 8 : end - 4]), packets)
        return end

    def _read_block(self, kind: int, body: bytes, packets: list[Packet]) -> None:
        """What a whole block says."""
        try:
            if kind == _INTERFACE:
                (link,) = struct.unpack_from(self._order + "H", body)
                if len(self._interfaces) >= MAX_INTERFACES:
                    raise CodecError("a capture file with too many interfaces")
                self._interfaces.append((link, self._resolution(body[8:])))
            elif kind == _ENHANCED:
                number, high, low, size = struct.unpack_from(self._order + "IIII", body)
                link, unit = self._interfaces[number]
                packets.append(Packet((high << 32 | low) * unit, link, body[20 : 20 + size]))
            elif kind == _SIMPLE:
                (size,) = struct.unpack_from(self._order + "I", body)
                packets.append(Packet(0.0, self._interfaces[0][0], body[4 : 4 + size]))
        except (struct.error, IndexError):
            raise CodecError("a pcapng block that is too short, or of no interface") from None

    def _resolution(self, options: bytes) -> float:
        """Seconds of an interface's clock unit."""
        at = 0
        while at + 4 <= len(options):
            code, size = struct.unpack_from(self._order + "HH", options, at)
            if code == 0:
                break
            if code == _RESOLUTION and size >= 1 and at + 4 < len(options):
                value = options[at + 4]
                return float(2 ** -(value & 0x7F) if value & 0x80 else 10 ** -float(value))
            at += 4 + (size + 3) // 4 * 4
        return 1e-6
