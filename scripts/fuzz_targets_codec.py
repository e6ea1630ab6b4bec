"""What comes over a connection before TLS ends and behind it: both ends of every codec."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz_carrier import OPENING, SETTINGS, TOKEN_KEY, BridgeEnd, ClientEnd, fed, orders
from fuzz_target import Reach, Table, Tape, cut, piece, uncut

from ptproxy.codec.client_hello import ClientHello, ClientHelloReader
from ptproxy.codec.cookie import opening_to_cookie, session_cookie_name
from ptproxy.codec.head import RequestReader, ResponseReader
from ptproxy.codec.http import HTTP
from ptproxy.codec.http_body import ChunkedBody, LengthBody
from ptproxy.codec.http_records import DATA, END, HELLO, POLL, POST, STREAM, record, token_text
from ptproxy.codec.interface import OpeningReceived
from ptproxy.codec.join_http import JOINED_HTTP, PageRecordReader
from ptproxy.codec.join_websocket import JOINED_WEBSOCKET
from ptproxy.codec.random import RANDOM
from ptproxy.codec.random_records import RecordReader
from ptproxy.codec.websocket import WEBSOCKET
from ptproxy.codec.ws_frames import (
    BINARY,
    CLOSE,
    PING,
    MaskedFrameReader,
    UnmaskedFrameReader,
    close_payload,
    masked_frame,
    parse_close,
    unmasked_frame,
)
from ptproxy.errors import CodecError
from ptproxy.inspect.hello_variants import usual_hello, wire
from ptproxy.inspect.ja4 import ja3n, ja4
from ptproxy.tunnel.beside.terms import ticket_offered

TABLE = Table("codec")
MASK = b"\x11\x22\x33\x44"
COOKIE = opening_to_cookie(session_cookie_name(SETTINGS), OPENING)
UPGRADE = (
    "GET /secret/path HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\n"
    "Connection: keep-alive, Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    f"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nCookie: a=b; {COOKIE}\r\n\r\n"
).encode()
GET = f"GET /secret/path HTTP/1.1\r\nHost: example.org\r\nCookie: {COOKIE}\r\n\r\n".encode()


# ---- websocket -----------------------------------------------------------------------------------


def client_frame(tape: Tape) -> bytes:
    """A frame as a client sends it; the first byte is any."""
    return masked_frame(tape.byte(), tape.piece(), MASK)


def server_frame(tape: Tape) -> bytes:
    """A frame as a server sends it."""
    return unmasked_frame(tape.byte(), tape.piece())


WS_UP = masked_frame(BINARY, b"payload", MASK) + masked_frame(PING, b"p", MASK)
WS_DOWN = unmasked_frame(BINARY, b"payload") + unmasked_frame(CLOSE, close_payload(1000))


@TABLE.target(
    "websocket_bridge",
    Reach.BEFORE,
    "bridge",
    seeds=lambda: [
        fed(UPGRADE, WS_UP),
        fed(UPGRADE[:99]),
        fed(UPGRADE + WS_UP) + orders((5, b"\x82\4abcd"), (11, b"\2"), (13, b"")),
    ],
)
def websocket_bridge(data: bytes) -> None:
    """A stranger's request, an upgrade, frames behind it."""
    BridgeEnd(Tape(data), client_frame, WEBSOCKET).run()


def _switched() -> bytes:
    bridge = WEBSOCKET.reception(SETTINGS, Random(2)).open_link()
    client = WEBSOCKET.client(SETTINGS, OPENING, Random(1))
    (offer,) = bridge.receive_data(drained(client.open_link()), 0.0)
    assert isinstance(offer, OpeningReceived)
    offer.accept(TOKEN_KEY, 0.0)
    return drained(bridge)


@TABLE.target(
    "websocket_client",
    Reach.BEFORE,
    "client",
    seeds=lambda: [
        fed(_switched(), WS_DOWN),
        fed(_switched() + WS_DOWN) + orders((5, b"\x82\4abcd"), (12, b"\4\4"), (13, b"")),
        fed(b"HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 19:00:00 GMT\r\n\r\n"),
    ],
)
def websocket_client(data: bytes) -> None:
    """The answer to an upgrade, frames behind it."""
    ClientEnd(Tape(data), server_frame, WEBSOCKET.client(SETTINGS, OPENING, Random(1))).run()


@TABLE.target(
    "ws_frames",
    Reach.BEFORE,
    "bridge, client",
    CodecError,
    seeds=lambda: [b"\1" + one for one in uncut(WS_UP)] + [b"\0" + one for one in uncut(WS_DOWN)],
)
def ws_frames(data: bytes) -> None:
    """Frames of either side; the same whatever the pieces."""
    kind = MaskedFrameReader if data[:1] == b"\1" else UnmaskedFrameReader
    pieces = kind()
    for part in cut(data[1:]):
        for item in pieces.receive_data(part):
            if not isinstance(item, bytes | bytearray | memoryview) and item.opcode == CLOSE:
                parse_close(item.payload)


# ---- http -----------------------------------------------------------------------------------------


def request(tape: Tape) -> bytes:
    """A request of the carrier's, with a token that is right for a number."""
    kind = (POST, STREAM, POLL)[tape.byte() % 3]
    cookie = b"Cookie: %b=%b\r\n" % (
        session_cookie_name(SETTINGS).encode(),
        token_text(TOKEN_KEY, kind, tape.byte() & 7),
    )
    if kind != POST:
        return b"GET /secret/path HTTP/1.1\r\nHost: x\r\n" + cookie + b"\r\n"
    flags, payload, padding = tape.byte(), tape.piece(), tape.byte() & 31
    body = bytes((flags & 1,)) + len(payload).to_bytes(3, "big") + payload + bytes(padding)
    return b"POST /secret/path HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n%b" % (
        len(body),
        cookie,
        body,
    )


def answer(tape: Tape) -> bytes:
    """An answer with records in its body."""
    body = b"".join(record(tape.byte() % 7, tape.piece()) for _ in range(tape.byte() & 3))
    status = (200, 200, 200, 204, 302, 404, 503, 101)[tape.byte() & 7]
    if tape.byte() & 1:
        return b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (status, len(body), body)
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


HTTP_DOWN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (
    18 + 12,
    record(HELLO) + record(DATA, b"message 2!") + record(DATA, b"more..") + record(END),
)


@TABLE.target(
    "http_bridge",
    Reach.BEFORE,
    "bridge",
    seeds=lambda: [
        fed(GET) + orders((9, b""), (0x15, b"\0\0\0\4datapad"), (0x15, b"\0\1\1\4datapad"), (11, b"\1")),
        fed(GET)
        + orders(
            (9, b""), (0x16, b"\1\1"), (12, b"\x40\0"), (0x16, b"\2\2"), (11, b"\2"), (13, b""), (11, b"\3")
        ),
        fed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ],
)
def http_bridge(data: bytes) -> None:
    """Requests of strangers and of a carrier's, on a few connections."""
    BridgeEnd(Tape(data), request, HTTP).run()


@TABLE.target(
    "http_client",
    Reach.BEFORE,
    "client",
    seeds=lambda: [
        fed(HTTP_DOWN) + orders((9, b""), (12, b"\4\4"), (0x15, b"\0\0\0"), (11, b"\1"), (9, b""), (13, b"")),
        fed(HTTP_DOWN + b"0\r\n\r\n") + orders((9, b""), (9, b""), (5, b"\0\3abc\4\0\1\0\1"), (10, b"")),
        fed(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def http_client(data: bytes) -> None:
    """Answers to a carrier's requests, over HTTP/1.1."""
    ClientEnd(Tape(data), answer, HTTP.client(SETTINGS, OPENING, Random(1))).run()


@TABLE.target(
    "heads",
    Reach.BEFORE,
    "bridge, client",
    CodecError,
    seeds=lambda: [b"\0" + one for one in uncut(UPGRADE, GET)] + [b"\1" + one for one in uncut(HTTP_DOWN)],
)
def heads(data: bytes) -> None:
    """Heads of requests and answers."""
    reader: Any = ResponseReader() if data[:1] == b"\1" else RequestReader()
    for part in cut(data[1:]):
        head = reader.receive_data(part)
        if head is not None:
            again: Any = type(reader)().receive_data(head.serialize())
            assert again is not None, "a head that was read is not read again"
            return


@TABLE.target(
    "bodies",
    Reach.BEFORE,
    "bridge, client",
    CodecError,
    seeds=lambda: [b"\0\0" + b"3;x\r\nabc\r\n0\r\nT: v\r\n\r\n", b"\1\7" + bytes(40)],
)
def bodies(data: bytes) -> None:
    """Bodies with a length, and in chunks."""
    body: Any = LengthBody(30) if data[:1] == b"\1" else ChunkedBody()
    for part in cut(data[1:]):
        out: list[memoryview] = []
        used = body.receive_data(part, out)
        assert 0 <= used <= len(part)
        if body.done:
            return
    body.receive_eof()


# ---- random ---------------------------------------------------------------------------------------


class RandomPeer:
    """The other end of the codec: what it makes of payload."""

    def __init__(self, codec: Any, link: Any) -> None:
        self.codec = codec
        self.link = link

    def __call__(self, tape: Tape) -> bytes:
        """Records of a piece of the tape; an empty one is the end."""
        payload = tape.piece()
        if payload:
            self.codec.send_data([payload], 1000.0)
        else:
            self.codec.close(1000.0)
        return drained(self.link)


def drained(link: Any) -> bytes:
    """What a link has to say."""
    return b"".join(map(bytes, link.data_to_send()))


def random_client_end() -> Any:
    """A client's end, which is its link too."""
    return RANDOM.client(SETTINGS, OPENING, Random(1)).open_link()


@TABLE.target(
    "random_bridge",
    Reach.BEFORE,
    "bridge",
    seeds=lambda: [
        orders((5, b"\3abc\1"), (5, piece(bytes(300))), (12, b"\1\0"), (5, b"\0")),
        fed(drained(random_client_end())[:60], bytes(300)),
    ],
)
def random_bridge(data: bytes) -> None:
    """A stranger's bytes, an opening and what follows it."""
    peer = random_client_end()
    BridgeEnd(Tape(data), RandomPeer(peer, peer), RANDOM).run()


@TABLE.target(
    "random_client",
    Reach.BEFORE,
    "client",
    seeds=lambda: [fed(bytes(60)), orders((5, b"\3abc"), (12, b"\1\0"), (5, b"\4more"), (5, b"\0"))],
)
def random_client(data: bytes) -> None:
    """What answers a client."""
    peer: Any = RANDOM.reception(SETTINGS, Random(2)).open_link()
    (offer,) = peer.receive_data(drained(random_client_end()), 1000.0)
    offer.accept(TOKEN_KEY, 1000.0)
    ClientEnd(Tape(data), RandomPeer(peer, peer), RANDOM.client(SETTINGS, OPENING, Random(1))).run()


@TABLE.target(
    "random_records",
    Reach.AFTER,
    "bridge, client",
    CodecError,
    seeds=lambda: uncut((3 << 15 | 2).to_bytes(4, "big") + b"..abc" + (65537 << 15).to_bytes(4, "big")),
)
def random_records(data: bytes) -> None:
    """Records whose headers are not masked: what a peer can make of them."""
    reader = RecordReader(iter(lambda: 0, None))
    for part in cut(data):
        reader.receive_data(part)


# ---- a browser's page ------------------------------------------------------------------------------


def page_message(tape: Tape) -> bytes:
    """Records of the page's, in a message."""
    content = b"".join(
        len(body).to_bytes(4, "big") + bytes((kind % 5,)) + number.to_bytes(4, "big") + body
        for kind, number, body in [
            (tape.byte(), tape.byte() & 7, tape.piece()) for _ in range(tape.byte() & 3)
        ]
    )
    return masked_frame(BINARY, content, MASK)


@TABLE.target(
    "join_http",
    Reach.LOCAL,
    "client",
    seeds=lambda: [
        orders(
            (5, b"\3\0\1\2\0\xc8\1\1" + piece(record(HELLO) + record(DATA, b"message 2")) + b"\2\1\0"),
            (12, b"\4\0"),
            (11, b"\1"),
            (13, b""),
        )
    ],
)
def join_http(data: bytes) -> None:
    """What a page says that makes requests."""
    ClientEnd(Tape(data), page_message, JOINED_HTTP.client(SETTINGS, OPENING, Random(1))).run()


@TABLE.target(
    "join_websocket",
    Reach.LOCAL,
    "client",
    seeds=lambda: [
        fed(
            masked_frame(BINARY, b"\1", MASK),
            masked_frame(BINARY, b"message 2", MASK),
            masked_frame(CLOSE, close_payload(4001), MASK),
        )
    ],
)
def join_websocket(data: bytes) -> None:
    """What a page says that has a WebSocket."""
    ClientEnd(Tape(data), client_frame, JOINED_WEBSOCKET.client(SETTINGS, OPENING, Random(1))).run()


@TABLE.target(
    "page_records",
    Reach.LOCAL,
    "client",
    CodecError,
    seeds=lambda: uncut(b"\0\0\0\2\0\0\0\0\1\0\xc8" + b"\0\0\0\3\1\0\0\0\1abc\0\0\0\0\2\0\0\0\1"),
)
def page_records(data: bytes) -> None:
    """A page's records."""
    reader = PageRecordReader()
    for part in cut(data):
        reader.receive_data(part)


# ---- a ClientHello -----------------------------------------------------------------------------------


@TABLE.target(
    "client_hello",
    Reach.BEFORE,
    "bridge",
    CodecError,
    seeds=lambda: uncut(wire(usual_hello("site.example", Random(1))), wire(usual_hello(None, Random(1)))),
)
def client_hello(data: bytes) -> None:
    """A stranger's first records; nothing that reads a whole hello may fail."""
    reader = ClientHelloReader()
    for part in cut(data):
        hello = reader.receive_data(part)
        if hello is not None:
            ja4(hello), ja3n(hello), ticket_offered(hello)
            assert ClientHello.parse(hello.serialize()) == hello
            return
