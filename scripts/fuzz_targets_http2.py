"""HTTP/2: what a web server says to a client, and what a stranger says through a bridge to its web server."""

from __future__ import annotations

from random import Random

from fuzz_carrier import OPENING, ClientEnd, fed, orders
from fuzz_target import Reach, Table, Tape, cut, piece, uncut

from ptproxy.codec.http2.bridge import BridgeH2
from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.http2.frames import PREFACE, SETTINGS_ACK, FrameReader, frame_head, settings_frame
from ptproxy.codec.http2.hpack import HpackDecoder
from ptproxy.codec.http2.plain import encode_plainly
from ptproxy.codec.http_h2_client import ClientHttp2
from ptproxy.codec.http_records import DATA, HELLO, record
from ptproxy.codec.interface import Appearance, CodecSettings
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.errors import CodecError
from ptproxy.tunnel.appearance import browser_of

TABLE = Table("http2")
BROWSER = browser_of("chrome", "linux")

FIELDS = (
    (("content-length", "5"),),
    (("content-type", "text/html"), ("set-cookie", "a=b; Max-Age=9")),
    (("location", "/elsewhere"),),
    (("content-encoding", "br"), ("etag", '"x"')),
    (("date", "Mon, 23 Nov 2026 19:00:00 GMT"),),
)


def h2_frame(tape: Tape) -> bytes:
    """A frame of a server's: of any kind, or an answer's head."""
    kind, flags, stream = tape.byte(), tape.byte(), tape.byte() & 15
    if kind < 128:
        payload = tape.piece()
    else:
        status = ("200", "103", "304", "404", "101", "99")[tape.byte() % 6]
        payload = encode_plainly([(":status", status), *FIELDS[tape.byte() % len(FIELDS)]])
        kind, flags = 1, flags | 4
    return frame_head(kind % 12, flags, stream, len(payload)) + payload


H2_HELLO = settings_frame([(3, 100), (4, 65536), (1, 4096)]) + SETTINGS_ACK
H2_ANSWER = b"\0\x80\0\1\0\0" + b"\0\0\0\1\5hello" + b"\0\0\1\1\0"


def visited() -> ClientHttp2:
    """A client's carrier over HTTP/2."""
    look = Appearance(BROWSER, SiteMemory(), H2Client(BROWSER.http2, 1000.0))
    return ClientHttp2(
        CodecSettings("example.org", "/secret/path", appearance=look), OPENING, Random(1), look
    )


@TABLE.target(
    "carrier",
    Reach.BEFORE,
    "client",
    seeds=lambda: [
        fed(H2_HELLO)
        + orders(
            (5, b"\x80\0\1\0\1"),
            (5, b"\0\0\1" + piece(record(HELLO) + record(DATA, b"message 2"))),
            (12, b"\4\0"),
            (11, b"\1"),
        ),
        fed(H2_HELLO) + orders((5, b"\7\0\0\x08" + bytes(8)), (11, b"\2"), (9, b"")),
    ],
)
def carrier(data: bytes) -> None:
    """Answers to a carrier's requests, over HTTP/2."""
    ClientEnd(Tape(data), h2_frame, visited()).run()


@TABLE.target(
    "client",
    Reach.BEFORE,
    "client",
    CodecError,
    seeds=lambda: [H2_ANSWER, b"\0\4\0\0\6\0\3\0\0\0\1" + H2_ANSWER],
)
def client(data: bytes) -> None:
    """A server's frames to a browser with three requests out."""
    tape = Tape(data)
    one = H2Client(BROWSER.http2, 0.0)
    variables = {"host": "site.example", "path": "/x", "referer": "https://site.example/"}
    streams = [
        one.send_request(BROWSER.fields("fetch", variables), urgency, None, 0.0) for urgency in (1, 2, 1)
    ]
    one.data_to_send()
    one.receive_data(H2_HELLO, 0.0)
    now = 0.0
    while tape:
        order = tape.byte()
        if order == 255:
            one.send_reset(streams[tape.byte() % 3])
        elif order == 254:
            now += 20.0
            one.on_deadline(now)
        elif order == 253:
            one.receive_data(tape.piece(), now)
        else:
            one.receive_data(h2_frame(tape), now)
        one.data_to_send()
        assert one.open_streams <= 3
    one.receive_eof()


@TABLE.target(
    "hpack",
    Reach.BEFORE,
    "bridge, client",
    CodecError,
    seeds=lambda: [
        piece(encode_plainly([(":status", "200"), *FIELDS[1]])) * 2,
        b"\4\x82\x86\x84\x41\4\x3f\xe1\x1f\x88",
    ],
)
def hpack(data: bytes) -> None:
    """Header blocks, one after another into one table."""
    tape = Tape(data)
    decoder = HpackDecoder(4096)
    while tape:
        decoder.decode(tape.piece())


@TABLE.target(
    "frames",
    Reach.BEFORE,
    "bridge, client",
    CodecError,
    seeds=lambda: uncut(H2_HELLO, frame_head(1, 4, 1, 1) + b"\x88"),
)
def frames(data: bytes) -> None:
    """Frames, in pieces."""
    reader = FrameReader()
    for part in cut(data):
        reader.receive_data(part)


def _h2_request(path: str, cookie: str) -> bytes:
    fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "a.example"),
        (":path", path),
        ("cookie", cookie),
    ]
    block = encode_plainly(fields)
    return frame_head(1, 4, 1, len(block)) + block


@TABLE.target(
    "bridge",
    Reach.BEFORE,
    "bridge",
    seeds=lambda: [
        b"\0"
        + piece(PREFACE + H2_HELLO)
        + b"\0"
        + piece(_h2_request("/live", "session=x") + frame_head(0, 1, 1, 3) + b"abc"),
        b"\0"
        + piece(PREFACE + H2_HELLO)
        + b"\0"
        + piece(_h2_request("/", "a=b"))
        + b"\1"
        + piece(H2_HELLO)
        + b"\3\1\0\0\4"
        + b"\2",
    ],
)
def bridge(data: bytes) -> None:
    """The bridge in the middle of a client's and a web server's connection."""
    tape = Tape(data)
    one = BridgeH2("/live", "session", lambda _stream, _fields, _ends: bool(tape.byte() & 1))
    while tape:
        order = tape.byte() & 3
        try:
            if order == 0:
                one.receive_from_client(tape.piece())
            elif order == 1:
                one.receive_from_site(tape.piece())
            elif order == 2:
                one.receive_from_client(h2_frame(tape))
            else:
                one.receive_from_site(h2_frame(tape))
        except CodecError:
            return
        one.data_to_site()
        while one.data_to_client()[0]:
            pass
