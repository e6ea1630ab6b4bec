r"""A codec of another package, in full: lines of text, ``WORD base64\r\n``.

    client  HELO nonce (16 bytes), mark (16), opening; mark = HMAC-SHA-256(path, nonce), its beginning
            DATA <payload>        any number, both ways
            QUIT                  the end, both ways; its sender has the connection closed

The package names it in its entry points (``lines_codec-1.0.dist-info/entry_points.txt``)::

    [ptproxy.codecs]
    lines = lines_codec:LINES

and is installed beside ptproxy at both ends; a bridge offers it with
``codecs: [lines]``, and its links say so. It is an example of the interface
(:mod:`ptproxy.codec.interface`) and looks like nothing on the web.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection, Sequence
from random import Random

from ptproxy.buffer import Buffer
from ptproxy.codec.interface import (
    CarrierEnded,
    CodecSettings,
    Event,
    Link,
    NotMine,
    OpeningReceived,
    PayloadReceived,
)
from ptproxy.errors import CodecError

MAX_PAYLOAD = 48 * 1024
"""Bytes of payload a line: 64 KiB of text."""
MAX_LINE = 4 * (MAX_PAYLOAD // 3) + 64
MARK = 16
"""Bytes of a nonce, and of the mark that goes with it."""
NO_LIMIT = 1 << 40
"""What ``room()`` says: the connection's own buffer is the only limit."""


class LinesCarrier:
    """One end: a carrier and its only link in one object."""

    def __init__(self) -> None:
        self.closing = False
        self._received = bytearray()
        self._out: list[Buffer] = []
        self._changed = False
        self._ended = False

    # ---- carrier ----------------------------------------------------------------------------

    def send_data(self, chunks: Sequence[Buffer], now: float) -> None:
        """Payload as lines."""
        if self.closing:
            return
        data = b"".join(bytes(chunk) for chunk in chunks)
        for at in range(0, len(data), MAX_PAYLOAD):
            self._say(b"DATA", data[at : at + MAX_PAYLOAD])

    def room(self) -> int:
        """No limit of its own."""
        return 0 if self.closing else NO_LIMIT

    def links_to_flush(self) -> Collection[Link]:
        """Itself, when something changed."""
        changed, self._changed = self._changed, False
        return (self,) if changed else ()

    def close(self, now: float) -> None:
        """Say QUIT and have the connection closed."""
        if not self.closing:
            self._say(b"QUIT", b"")
        self._end("")

    def deadline(self) -> float | None:
        """Nothing here waits."""
        return None

    def on_deadline(self, now: float) -> list[Event]:
        """Nothing is ever due."""
        return []

    # ---- link ---------------------------------------------------------------------------------

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """Payload, and the end."""
        if self._ended:
            return []
        self._received += data
        events: list[Event] = []
        try:
            while (line := self._line()) is not None:
                word, payload = line
                if word == b"DATA" and payload:
                    events.append(PayloadReceived(self, payload))
                elif word == b"QUIT" and not payload:
                    return events + self._end("")
                else:
                    raise CodecError("a line that is none of ours")
        except CodecError:
            self._end("")
            raise
        return events

    def receive_eof(self, now: float) -> list[Event]:
        """The connection ended."""
        return self._end("the connection ended without QUIT")

    def data_to_send(self) -> list[Buffer]:
        """Drain what is to be written."""
        out, self._out = self._out, []
        return out

    # ---- within -------------------------------------------------------------------------------

    def _say(self, word: bytes, payload: bytes) -> None:
        self._out.append(word + b" " + base64.b64encode(payload) + b"\r\n")
        self._changed = True

    def _line(self) -> tuple[bytes, bytes] | None:
        """The next whole line: its word and what stands behind it."""
        end = self._received.find(b"\r\n", 0, MAX_LINE)
        if end < 0:
            if len(self._received) >= MAX_LINE:
                raise CodecError("a line without an end")
            return None
        word, _, text = bytes(self._received[:end]).partition(b" ")
        del self._received[: end + 2]
        try:
            return word, base64.b64decode(text, validate=True)
        except binascii.Error:
            raise CodecError("a line that is no base64") from None

    def _end(self, reason: str) -> list[Event]:
        """Nothing more either way; told unless the carrier had ended before."""
        ended, self._ended = self._ended, True
        self.closing = self._changed = True
        return [] if ended else [CarrierEnded(self, reason)]


class ClientLines(LinesCarrier):
    """The client's end."""

    def __init__(self, settings: CodecSettings, opening: bytes, rng: Random) -> None:
        super().__init__()
        nonce = rng.randbytes(MARK)
        self._say(b"HELO", nonce + mark_of(settings.path, nonce) + opening)

    @property
    def links_wanted(self) -> int:
        """One connection, until the end."""
        return 0 if self.closing else 1

    def open_link(self) -> Link:
        """Itself."""
        return self

    def authenticated(self, token_key: bytes) -> None:
        """There are no further connections to vouch for."""


class BridgeLines(LinesCarrier):
    """The bridge's end: a link that becomes a carrier once its opening is accepted."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._accepted = False
        self._offered = False

    def receive_data(self, data: Buffer, now: float) -> list[Event]:
        """First the opening: :class:`NotMine` for whatever does not begin with one."""
        if self._accepted:
            return super().receive_data(data, now)
        if self._ended:
            return []
        self._received += data
        if self._offered:
            return []  # kept until it is decided
        try:
            if not b"HELO ".startswith(self._received[:5]):
                raise CodecError("no HELO")
            line = self._line()
            if line is None:
                return []
            nonce, mark, opening = line[1][:MARK], line[1][MARK : 2 * MARK], line[1][2 * MARK :]
            if not hmac.compare_digest(mark, mark_of(self._path, nonce)) or not opening:
                raise CodecError("not for this path")
        except CodecError:
            self._refuse()
            return [NotMine()]
        self._offered = True
        return [OpeningReceived(opening, self._accept, self._refuse)]

    def receive_eof(self, now: float) -> list[Event]:
        """Before an opening that is the web site's to see."""
        if self._accepted:
            return super().receive_eof(now)
        if self._ended:
            return []
        self._refuse()
        return [NotMine()]

    def _accept(self, token_key: bytes, now: float) -> LinesCarrier:
        self._accepted = True
        return self

    def _refuse(self) -> None:
        self._ended = True
        self._received.clear()


class LinesReception:
    """What all connections of a bridge share: its path."""

    def __init__(self, settings: CodecSettings) -> None:
        self._path = settings.path

    def open_link(self) -> Link:
        """The conversation of one newly accepted connection."""
        return BridgeLines(self._path)


class Lines:
    """The entry of the codec table."""

    name = "lines"

    def client(self, settings: CodecSettings, opening: bytes, rng: Random) -> ClientLines:
        """One carrier's client end."""
        return ClientLines(settings, opening, rng)

    def reception(self, settings: CodecSettings, rng: Random) -> LinesReception:
        """A bridge's end."""
        return LinesReception(settings)


def mark_of(path: str, nonce: bytes) -> bytes:
    """What only who knows the path can say of a nonce."""
    return hmac.digest(path.encode(), nonce, "sha256")[:MARK]


LINES = Lines()
