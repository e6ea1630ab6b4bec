"""Messages in datagrams: cut into pieces that every path carries whole, and joined again.

::

    datagram = message number 8 │ piece u8: how many there are, less one, and which (high, low nibble) │ bytes

An IPv6 path carries 1,280 bytes (RFC 8200 section 5); what is longer would be
fragmented, and fragments are what firewalls drop. The number is random. Nothing is
repeated: a message with a piece missing is lost, and a lookup asks somebody else.
"""

from __future__ import annotations

from typing import Final

from ptproxy.dht.contact import Address
from ptproxy.dht.identifier import Rng
from ptproxy.errors import DhtError, LocalProtocolError

DATAGRAM: Final = 1_200
"""Bytes of a datagram: 1,280 less the headers of IPv6 and UDP, and some for a tunnel below."""
NUMBER: Final = 8
PIECE: Final = DATAGRAM - NUMBER - 1
MAX_PIECES: Final = 4
"""4,764 bytes: the longest message (4,176), sealed or not."""
MAX_PARTIAL: Final = 256
"""Messages of which pieces wait, 1.2 MB together; the oldest goes for a new one."""
MAX_FROM_ONE: Final = 16
"""Of them from one address: more than it can have asked, or been asked, at a time."""
PATIENCE: Final = 3.0
"""Seconds that pieces wait for the others."""


def cut(message: bytes, rng: Rng) -> list[bytes]:
    """The datagrams of a message."""
    pieces = [message[start : start + PIECE] for start in range(0, len(message), PIECE)]
    if not 0 < len(pieces) <= MAX_PIECES:
        raise LocalProtocolError("a message of an impossible length")
    number = rng(NUMBER)
    mark = (len(pieces) - 1) << 4
    return [number + bytes((mark | index,)) + piece for index, piece in enumerate(pieces)]


class _Partial:
    __slots__ = ("began", "pieces")

    def __init__(self, count: int, began: float) -> None:
        self.began = began
        self.pieces: list[bytes | None] = [None] * count


class Reassembly:
    """Pieces of messages that wait for the others."""

    __slots__ = ("_from", "_partial")

    def __init__(self) -> None:
        self._partial: dict[tuple[Address, bytes], _Partial] = {}
        self._from: dict[Address, int] = {}

    def __len__(self) -> int:
        return len(self._partial)

    def receive_datagram(self, data: bytes, source: Address, now: float) -> bytes | None:
        """The message, once all pieces of it are here; :class:`DhtError` for a datagram of no message."""
        if not NUMBER + 1 < len(data) <= DATAGRAM:
            raise DhtError("a datagram of an impossible length")
        count, index = (data[NUMBER] >> 4) + 1, data[NUMBER] & 15
        piece = data[NUMBER + 1 :]
        if count > MAX_PIECES or index >= count or (index < count - 1 and len(piece) != PIECE):
            raise DhtError("a datagram that is no piece of a message")
        if count == 1:
            return piece
        name = (source, data[:NUMBER])
        partial = self._partial.get(name)
        if partial is None:
            partial = self._begin(name, count, now)
        if len(partial.pieces) != count:
            raise DhtError("pieces that do not belong together")
        partial.pieces[index] = piece
        pieces = [one for one in partial.pieces if one is not None]
        if len(pieces) < count:
            return None
        self._end(name)
        return b"".join(pieces)

    def _begin(self, name: tuple[Address, bytes], count: int, now: float) -> _Partial:
        while self._partial:
            oldest = next(iter(self._partial))
            if len(self._partial) < MAX_PARTIAL and now - self._partial[oldest].began < PATIENCE:
                break
            self._end(oldest)
        source = name[0]
        if self._from.get(source, 0) >= MAX_FROM_ONE:
            self._end(next(one for one in self._partial if one[0] == source))
        self._from[source] = self._from.get(source, 0) + 1
        partial = self._partial[name] = _Partial(count, now)
        return partial

    def _end(self, name: tuple[Address, bytes]) -> None:
        del self._partial[name]
        source = name[0]
        left = self._from[source] - 1
        if left:
            self._from[source] = left
        else:
            del self._from[source]
        if not self._partial:  # empty dictionaries keep their room, and of many nodes most are idle
            self._partial.clear()
            self._from.clear()
