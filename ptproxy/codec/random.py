"""The ``random`` codec: length, random padding, data; inside TLS nothing that recurs.

Each direction of the one connection is::

    nonce     16 random bytes, drawn again while the first three are capital letters
    tag        8 bytes of the keystream
    record ...

    record  = header (4) padding payload
    header  = u32 XOR the next 4 bytes of the keystream, the u32 being
              bits 31..15  payload length 0..65536, or 65537: end of the stream
              bits 14..0   padding length 0..32767
    keystream = SHAKE-128(seed ‖ 0 as u64) [4096] ‖ SHAKE-128(seed ‖ 1) [4096] ‖ …
    seed      = SHA-256("ptproxy random 1 " ‖ direction ‖ SHA-256(path) ‖ nonce)
    direction = "up" or "down"; all numbers big-endian

The first record up carries exactly the opening; after it, and down from the
first record on, payload is a byte stream and record boundaries mean nothing.
A record may hold padding alone. After an end record nothing follows, and its
sender closes the connection.

**This is obfuscation, not secrecy.** Whoever knows the path can undo it; TLS
stands around it and authentication inside it. What it gives: no byte has a
constant value or a place of its own, lengths are not those of what is carried,
and only who knows the path is answered at all. Payload passes as it is, so
that bulk costs no more than TLS itself; handshake messages are indistinguishable
from random by themselves, and so is everything where the tunnel seals.

Padding differs from carrier to carrier: each end draws for each carrier a
``reach`` (log-uniform in :data:`REACH`) and a ``bend`` (in :data:`BEND`), and from these
a table of 256 lengths ``reach * u ** bend``; every record takes one of them. Records of more
than :data:`SMALL` payload bytes take at most 1/64 of their payload.

At the bridge: fewer than 24 bytes decide nothing, except three capital letters
at the start (an HTTP method). A wrong tag, or a first record whose length is no opening's,
is :class:`~ptproxy.codec.interface.NotMine`.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence
from random import Random
from typing import Final

from ptproxy.buffer import Buffer
from ptproxy.codec.interface import (
    CarrierCodec,
    CarrierEnded,
    CodecSettings,
    CodecType,
    Event,
    Link,
    NotMine,
    OpeningReceived,
    PayloadReceived,
)
from ptproxy.codec.random_records import (
    END,
    NONCE,
    START,
    RecordReader,
    RecordWriter,
    keystream,
    looks_like_method,
)
from ptproxy.errors import CodecError, LocalProtocolError

MIN_OPENING, MAX_OPENING = 16, 8192
"""Bytes of an opening; the same order as what fits into cookies."""
OPENING_PADDING: Final = 2048
"""Padding bytes an opening may come with: they are waited for before anything is authenticated."""
NO_LIMIT: Final = 1 << 40
"""What ``room()`` says: the connection's own buffer is the only limit."""


UP: Final = b"up"
DOWN: Final = b"down"


class RandomCarrier:
    """One end: the carrier and its only link in one object."""

    __slots__ = ("_changed", "_ended", "_out", "_path", "_reader", "_start", "_writer", "closing")

    _reads: bytes
    """The direction that this end receives."""

    def __init__(self, path: str) -> None:
        self.closing = False
        self._path = path
        self._writer: RecordWriter | None = None
        self._reader: RecordReader | None = None
        self._start = bytearray()  # nonce and tag until complete
        self._out: list[Buffer] = []
        self._changed = False
        self._ended = False

    # ---- carrier ------------------------------------------------------------------------------

    def send_data(self, chunks: Sequence[Buffer], now: float) -> None:
        """Send payload as one record, or several above 64 KiB."""
        if self._writer is not None and not self.closing:
            self._writer.write(chunks, self._out)
            self._changed = True

    def room(self) -> int:
        """No limit of its own."""
        return 0 if self.closing or self._writer is None else NO_LIMIT

    def links_to_flush(self) -> Collection[Link]:
        """Itself, when something changed."""
        if not self._changed:
            return ()
        self._changed = False
        return (self,)

    def close(self, now: float) -> None:
        """Send an end record and have the connection closed."""
        if self._writer is not None and not self.closing:
            self._out.append(self._writer.start(END))
        self._end("")

    def deadline(self) -> float | None:
        """Never: nothing here waits."""
        return None

    def on_deadline(self, now: float) -> list[Event]:
        """Nothing is ever due."""
        return []

    # ---- link ---------------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Payload and the end of the stream."""
        if self._ended:
            return []
        try:
            reader = self._reader
            if reader is None:
                data = self._read_start(data)
                reader = self._reader
                if reader is None:
                    return []
            events: list[Event] = [PayloadReceived(self, piece) for piece in reader.receive_data(data)]
        except CodecError:
            self._end("")
            raise
        if reader.ended:
            events += self._end("")
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended."""
        return self._end("the connection ended without an end record")

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written."""
        out = self._out
        if out:
            self._out = []
        return out

    # ---- within -------------------------------------------------------------------------------

    def _read_start(self, data: Buffer) -> memoryview:
        """Take nonce and tag, make the reader once they are there; what follows them."""
        view = memoryview(data)
        missing = START - len(self._start)
        self._start += view[:missing]
        if looks_like_method(self._start):
            raise CodecError("an HTTP message where a nonce should be")
        if len(self._start) == START:
            nonce, tag = bytes(self._start[:NONCE]), self._start[NONCE:]
            expected, words = keystream(self._reads, self._path, nonce)
            if not hmac.compare_digest(expected, tag):
                raise CodecError("a tag that is not for this path")
            self._reader = RecordReader(words)
        return view[missing:]

    def _end(self, reason: str) -> list[Event]:
        """Nothing more either way; told unless the carrier had ended before."""
        ended, self._ended = self._ended, True
        self.closing = True
        self._changed = True
        return [] if ended else [CarrierEnded(self, reason)]


class ClientRandom(RandomCarrier):
    """The client's end."""

    __slots__ = ("_linked",)

    _reads = DOWN

    def __init__(self, settings: CodecSettings, opening: bytes, rng: Random) -> None:
        super().__init__(settings.path)
        if not MIN_OPENING <= len(opening) <= MAX_OPENING:
            raise LocalProtocolError(f"an opening has {MIN_OPENING} to {MAX_OPENING} bytes")
        self._writer = RecordWriter(UP, settings.path, rng)
        self._linked = False
        self._out.append(self._writer.start(len(opening)) + opening)

    @property
    def links_wanted(self) -> int:
        """One connection, until the end."""
        return 0 if self.closing else 1

    def open_link(self) -> Link:
        """Itself; there is one connection."""
        if self._linked:
            raise LocalProtocolError("a random carrier has one connection")
        self._linked = True
        return self

    def authenticated(self, token_key: bytes) -> None:
        """Nothing to do: there are no further connections to vouch for."""


class BridgeRandom(RandomCarrier):
    """The bridge's end: a link that becomes a carrier once its opening is accepted."""

    __slots__ = ("_early", "_opening", "_rng")

    _reads = UP

    def __init__(self, settings: CodecSettings, rng: Random) -> None:
        super().__init__(settings.path)
        self._rng = rng
        self._opening: bytearray | None = None  # since the first record's header
        self._early: bytearray | None = None  # what followed the opening, until it is read as records

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Also the opening: :class:`NotMine` for whatever does not begin with one."""
        if self._ended:
            return []
        if self._writer is not None:
            if self._early is not None:
                data, self._early = self._early + data, None
            return super().receive_data(data, now)
        if self._early is not None:
            self._early += data
            return []
        try:
            return self._receive_opening(data)
        except CodecError:
            self._refuse()
            return [NotMine()]

    @property
    def expecting(self) -> bool:
        """Whether it began as only who knows the path can begin, and the opening is not whole."""
        return self._opening is not None

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended; before an opening that is the web site's to see."""
        if self._writer is not None:
            return self.receive_data(b"", now) + super().receive_eof(now)
        if self._ended:
            return []
        self._refuse()
        return [NotMine()]

    def _receive_opening(self, data: Buffer) -> list[Event]:
        view = memoryview(data)
        if self._reader is None:
            view = self._read_start(view)
        reader = self._reader
        if reader is None or not view:
            return []
        if self._opening is None:
            view = view[reader.read_header(view, 0, len(view)) :]
            if reader.mid_header:
                return []
            padding, payload = reader.lengths
            if not (MIN_OPENING <= payload <= MAX_OPENING and padding <= OPENING_PADDING):
                raise CodecError("a first record that is no opening")
            self._opening = bytearray()
        needed = sum(reader.lengths)
        for piece in reader.receive_data(view[:needed]):
            self._opening += piece
        if sum(reader.lengths):
            return []
        self._early = bytearray(view[needed:])
        return [OpeningReceived(bytes(self._opening), self._accept, self._refuse)]

    def _accept(self, token_key: bytes, now: float) -> CarrierCodec:
        if self._early is None or self._writer is not None:
            raise LocalProtocolError("an opening is accepted or refused, once")
        self._writer = RecordWriter(DOWN, self._path, self._rng)
        return self

    def _refuse(self) -> None:
        self._ended = True
        self._early = None


class RandomReception:
    """A bridge's end of the codec."""

    __slots__ = ("_rng", "_settings")

    def __init__(self, settings: CodecSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng

    def open_link(self) -> Link:
        """The conversation of one accepted connection."""
        return BridgeRandom(self._settings, self._rng)


class RandomCodec:
    """The entry of the codec table."""

    name = "random"

    def client(self, settings: CodecSettings, opening: bytes, rng: Random) -> ClientRandom:
        """One carrier's client end."""
        return ClientRandom(settings, opening, rng)

    def reception(self, settings: CodecSettings, rng: Random) -> RandomReception:
        """A bridge's end."""
        return RandomReception(settings, rng)


RANDOM: Final[CodecType] = RandomCodec()
