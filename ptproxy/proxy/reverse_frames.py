"""What a client and the bridge's service ``reverse`` say to one another (``REVERSE.md``).

Every frame is a type u8, a length u8 and so many bytes, numbers big-endian::

    client → bridge
    0x01  OFFER    version u8 = 1 │ port u16    first on the stream that holds the offer
    0x02  TAKE     ticket 16                    first on a stream of its own; behind it the connection's bytes
    0x03  ALIVE                                 on the stream of an offer, now and then

    bridge → client, on the stream of an offer
    0x81  OFFERED  reach u8                     it listens: 1 for its own machine's programs, 2 for others too
    0x82  REFUSED  why u8                       it does not, or no longer; nothing follows
    0x83  ARRIVED  ticket 16                    somebody connected, and waits for the TAKE
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

from ptproxy.buffer import Buffer
from ptproxy.errors import RemoteProtocolError

SERVICE: Final = "reverse"
"""The service's name."""
VERSION: Final = 1
TICKET: Final = 16
"""Bytes of a ticket: nobody guesses one, though only its own account could use it."""
HEADER: Final = 2
MAX_BODY: Final = TICKET
"""Bytes behind a header: no frame has more."""


class ReverseError(RemoteProtocolError):
    """The other side of a reverse breaks the protocol."""


class Why(IntEnum):
    """Why an offer is refused, or ends."""

    NOT_PERMITTED = 1
    """The access list does not let this client offer anything at this port."""
    TAKEN = 2
    """Something else listens there."""
    LIMIT = 3
    """The bridge has as many offers as it takes."""
    REPLACED = 4
    """Another client with the same key offers at this port now."""
    SHUTDOWN = 5
    """The bridge is stopping."""


class Reach(IntEnum):
    """Who can reach an offered port."""

    OWN_MACHINE = 1
    OTHERS = 2


@dataclass(frozen=True, slots=True)
class Offer:
    """A service behind the client, for a port of the bridge."""

    KIND: ClassVar[int] = 0x01
    port: int

    def serialize(self) -> bytes:
        """The frame."""
        return bytes((self.KIND, 3, VERSION)) + self.port.to_bytes(2, "big")

    @classmethod
    def parse(cls, body: bytes) -> Offer:
        """From the frame's body; raises :class:`ReverseError`."""
        if len(body) != 3 or body[0] != VERSION:
            raise ReverseError("an offer of another version")
        port = int.from_bytes(body[1:], "big")
        if not port:
            raise ReverseError("an offer without a port")
        return cls(port)


@dataclass(frozen=True, slots=True)
class _Ticketed:
    """A frame that is a ticket."""

    KIND: ClassVar[int]
    ticket: bytes

    def serialize(self) -> bytes:
        """The frame."""
        return bytes((self.KIND, TICKET)) + self.ticket

    @classmethod
    def parse(cls, body: bytes) -> _Ticketed:
        """From the frame's body; raises :class:`ReverseError`."""
        if len(body) != TICKET:
            raise ReverseError("a ticket of another length")
        return cls(body)


class Take(_Ticketed):
    """The stream is for the connection of this ticket."""

    KIND = 0x02


class Arrived(_Ticketed):
    """Somebody connected."""

    KIND = 0x83


@dataclass(frozen=True, slots=True)
class Alive:
    """The client is still there: what is not acknowledged shows a tunnel that is dead."""

    KIND: ClassVar[int] = 0x03

    def serialize(self) -> bytes:
        """The frame."""
        return bytes((self.KIND, 0))

    @classmethod
    def parse(cls, body: bytes) -> Alive:
        """From the frame's body; raises :class:`ReverseError`."""
        if body:
            raise ReverseError("a sign of life with something in it")
        return cls()


@dataclass(frozen=True, slots=True)
class Offered:
    """The bridge listens."""

    KIND: ClassVar[int] = 0x81
    reach: Reach

    def serialize(self) -> bytes:
        """The frame."""
        return bytes((self.KIND, 1, self.reach))

    @classmethod
    def parse(cls, body: bytes) -> Offered:
        """From the frame's body; raises :class:`ReverseError`."""
        if len(body) != 1 or body[0] not in tuple(Reach):
            raise ReverseError("offered to nobody that is known")
        return cls(Reach(body[0]))


@dataclass(frozen=True, slots=True)
class Refused:
    """The bridge does not listen."""

    KIND: ClassVar[int] = 0x82
    why: Why

    def serialize(self) -> bytes:
        """The frame."""
        return bytes((self.KIND, 1, self.why))

    @classmethod
    def parse(cls, body: bytes) -> Refused:
        """From the frame's body; raises :class:`ReverseError`."""
        if len(body) != 1 or body[0] not in tuple(Why):
            raise ReverseError("refused for an unknown reason")
        return cls(Why(body[0]))


Frame = Offer | Take | Alive | Offered | Refused | Arrived

FROM_CLIENT: Final[dict[int, type[Frame]]] = {kind.KIND: kind for kind in (Offer, Take, Alive)}
FROM_BRIDGE: Final[dict[int, type[Frame]]] = {kind.KIND: kind for kind in (Offered, Refused, Arrived)}


class FrameReader:
    """Frames out of a stream, however it is cut; ``kinds`` is what the other side may say."""

    __slots__ = ("_buffer", "_kinds")

    def __init__(self, kinds: dict[int, type[Frame]]) -> None:
        self._kinds = kinds
        self._buffer = bytearray()

    def receive_data(self, data: Buffer) -> None:
        """Bytes that came."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next frame, None until it is whole; raises :class:`ReverseError`."""
        buffer = self._buffer
        if len(buffer) < HEADER:
            return None
        kind = self._kinds.get(buffer[0])
        end = HEADER + buffer[1]
        if kind is None or end > HEADER + MAX_BODY:
            raise ReverseError("not a frame of the service's")
        if len(buffer) < end:
            return None
        frame: Frame = kind.parse(bytes(buffer[HEADER:end]))  # type: ignore[assignment]  # of its own kind
        del buffer[:end]
        return frame

    def take_rest(self) -> bytes:
        """What came behind the frames read so far; no frames follow."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        return rest
