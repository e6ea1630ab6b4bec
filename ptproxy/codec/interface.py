"""What a codec is: how one carrier's two byte streams look on its connections.

A *carrier* is one byte stream each way between a client and a bridge. A codec
lays it on one *link* (a TLS connection) or several. Nothing here does I/O, and
nothing here knows keys or streams: a link takes the bytes its connection
received and gives the bytes to write.

Client::

    codec = CODECS["websocket"].client(settings, opening, rng)
    while codec.links_wanted > len(open links): link = codec.open_link(); connect; link.data_to_send()
    codec.authenticated(token_key)     # once message 2, the first payload down, has verified
    codec.send_data([...], now)        # at most codec.room() bytes at a time
    for link in codec.links_to_flush(): write(link.data_to_send())

Bridge, per accepted connection: a link of every codec's :class:`Reception` is
fed the same bytes, in the table's order, until one says
:class:`OpeningReceived` and authentication agrees; on :class:`NotMine` the
next is tried; when none is left the connection belongs to the web site.

Rules for every implementation:

- The result must not depend on how the input is split.
- A ``PayloadReceived.data`` may be a view of the caller's read buffer: it is
  valid only until the caller's current call into the link returns; whoever
  keeps it copies it. What ``data_to_send`` returns may be views of what
  ``send_data`` was given (immutable, so valid for good).
- ``receive_*`` raise only :class:`~ptproxy.errors.CodecError`. After it the
  carrier is dead, and on a bridge before an opening is accepted the
  connection goes to the web site as for :class:`NotMine`.
- Links never raise on late calls after their end: they return nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Literal, Protocol

from ptproxy.buffer import Buffer
from ptproxy.codec.shape import ClassShape
from ptproxy.errors import CodecError

if TYPE_CHECKING:
    from ptproxy.codec.browser import Browser
    from ptproxy.codec.http2.client import H2Client
    from ptproxy.codec.page.cache import SiteMemory


class SiteAnswered(CodecError):  # noqa: N818  (an answer, not a fault)
    """Client: the opening was answered as the web site answers strangers.

    ``date`` is the answer's Date header, "" without one: where the client's own
    clock is off, that is why, and this is the right time.
    """

    def __init__(self, status: int, date: str) -> None:
        super().__init__(f"the opening was answered as a stranger's request, with status {status}")
        self.date = date


Greeting = Literal["visit", "page", "websocket"]
"""As which of a browser's connections one looks: its ClientHello and the protocols it offers there. A
visit is the first for a page, of a browser just started; other connections resume what it left."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """Client: the browser that one looks like, and what it remembers of the site."""

    browser: Browser
    memory: SiteMemory
    http2: H2Client | None = None
    """The conversation that the carrier's first connection has had already, where it is HTTP/2."""


@dataclass(frozen=True, slots=True)
class CodecSettings:
    """What a bridge line says of how to look: the same on both sides."""

    host: str
    """Host name (with port where not 443) as a browser would send it."""
    path: str = "/"
    """The secret path, starting with ``/``."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Codec-specific settings by name."""
    appearance: Appearance | None = None
    """Client: None is Chromium's requests over HTTP/1.1, without a memory."""
    shape: ClassShape | None = None
    """Client: what the carrier's traffic is to look like; None: as it comes."""

    @classmethod
    def of(
        cls, server_name: str, port: int, path: str, appearance: Appearance | None = None
    ) -> CodecSettings:
        """The settings for a bridge that is reached as ``https://server_name:port``."""
        host = server_name if port == 443 else f"{server_name}:{port}"
        return cls(host=host, path=path, appearance=appearance)


# ---- events -------------------------------------------------------------------------------


@dataclass(slots=True)
class PayloadReceived:
    """Bytes of the carrier's stream from the peer, in order."""

    carrier: CarrierCodec
    data: Buffer


@dataclass(slots=True)
class CarrierWritable:
    """``carrier.room()`` rose from nothing."""

    carrier: CarrierCodec


@dataclass(slots=True)
class CarrierEnded:
    """The carrier carries nothing more. ``reason`` is "" after a clean close by the peer."""

    carrier: CarrierCodec
    reason: str


@dataclass(slots=True)
class NotMine:
    """Bridge only, before an opening: these bytes are not this codec's."""


@dataclass(slots=True)
class OpeningReceived:
    """Bridge only: a possible opening (message 1). Call exactly one of the two, at once.

    ``accept(token_key, now)`` makes the carrier's codec (``token_key``: 32 secret
    bytes both ends derive from the handshake); message 2 is then sent as its
    first payload. ``refuse()`` ends this link's interest in the connection.
    Payload that came in the same read follows as events of a
    ``receive_data(b"", now)`` call that the tunnel makes after ``accept``.
    """

    opening: bytes
    accept: Callable[[bytes, float], CarrierCodec]
    refuse: Callable[[], None]


@dataclass(slots=True)
class LinkMoved:
    """Client only, of a link that has no carrier yet (a visit): something came, see what it wants now."""


Event = PayloadReceived | CarrierWritable | CarrierEnded | NotMine | OpeningReceived | LinkMoved


# ---- the objects --------------------------------------------------------------------------


class Link(Protocol):
    """One connection's conversation.

    Where a carrier has several connections, a bridge's link also has ``joined``: whether what
    came belongs to a carrier that was opened on another connection, so that this one is decided.
    A bridge's link whose opening may take several records has ``expecting``: whether what came can
    only be the beginning of one.
    """

    @property
    def closing(self) -> bool:
        """True once the connection is to be closed as soon as ``data_to_send()`` is flushed."""

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Feed what the connection received."""

    def receive_eof(self, now: float) -> list[Event]:
        """The peer will send no more on this connection (or the connection broke)."""

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written to the connection."""


class CarrierCodec(Protocol):
    """One carrier's byte stream, laid over its links.

    A bridge's end may have ``follow(shape)``, called before any payload but message 2: the
    :class:`~ptproxy.codec.shape.ClassShape` of what the client is going to send here.
    """

    def send_data(self, chunks: Sequence[Buffer], now: float) -> None:
        """Send payload (immutable buffers, or copied). ``sum(len)`` should be <= :meth:`room`;
        one larger call is accepted and queued."""

    def room(self) -> int:
        """How many payload bytes it would pass on at once (large number: no limit of its own)."""

    def links_to_flush(self) -> Collection[Link]:
        """Links on which ``data_to_send()`` or ``closing`` may have changed since last asked."""

    def close(self, now: float) -> None:
        """Start a clean close in this codec's manner; links turn ``closing`` in due course."""

    def deadline(self) -> float | None:
        """When :meth:`on_deadline` wants to be called (the ``now`` clock), or None."""

    def on_deadline(self, now: float) -> list[Event]:
        """Time has come."""


class ClientCodec(CarrierCodec, Protocol):
    """The client's end.

    It may have ``download``, the value of the option of that name that has proved right for this
    front: the next carrier is given it.
    """

    @property
    def links_wanted(self) -> int:
        """How many connections should be open now."""

    def open_link(self) -> Link:
        """A new connection's conversation; the first one carries the opening."""

    def authenticated(self, token_key: bytes) -> None:
        """Message 2 verified; 32 secret bytes shared with the bridge's end."""


class Reception(Protocol):
    """A bridge's end of one codec: what all its connections share."""

    def open_link(self) -> Link:
        """The conversation of one newly accepted connection."""


class CodecType(Protocol):
    """An entry of the codec table.

    It may have ``greeting`` (:data:`Greeting`), as which connection of a browser the client's
    connections greet: without one as that of a WebSocket.
    """

    name: str
    """As written in configurations and bridge lines: ``[a-z][a-z0-9_-]{0,31}``."""

    def client(self, settings: CodecSettings, opening: bytes, rng: Random) -> ClientCodec:
        """One carrier's client end; ``opening`` is message 1. ``rng`` is a CSPRNG in production."""

    def reception(self, settings: CodecSettings, rng: Random) -> Reception:
        """A bridge's end, one a listener."""
