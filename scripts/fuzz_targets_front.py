"""What a local program says to the client's port."""

from __future__ import annotations

from fuzz_target import Reach, Table, Tape, cut, piece, uncut

from ptproxy.errors import FrontError, Reason
from ptproxy.front import (
    AssociationRequested,
    HttpProxy,
    OriginReleased,
    OriginRequested,
    TargetRequested,
    Users,
    parse_datagram,
    recognise,
    serialize_datagram,
)
from ptproxy.front.absolute_form import AbsoluteForm
from ptproxy.front.http_head import ReplyHead, RequestHead
from ptproxy.target import Target, TargetError

TABLE = Table("front")
USERS = Users({"ann": "sesame"})
ADDRESS = b"\x01\x01\x02\x03\x04\x00\x50"
NAME = b"\x03\x0bexample.org\x01\xbb"
GET = b"GET http://example.org/a?b HTTP/1.1\r\nHost: x\r\n\r\n"
POST = (
    b"POST http://example.org/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;a=b\r\nabc\r\n0\r\nT: x\r\n\r\n"
)
CONNECT = b"CONNECT example.org:443 HTTP/1.1\r\nProxy-Authorization: Basic YW5uOnNlc2FtZQ==\r\n\r\nearly"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
)
SOCKS = (
    b"\x05\x02\x00\x02\x05\x01\x00" + NAME + b"early",
    b"\x05\x01\x02\x01\x03ann\x06sesame\x05\x03\x00" + ADDRESS,
    b"\x04\x01\x00\x50\x01\x02\x03\x04ann\x00early",
    b"\x04\x01\x00\x50\x00\x00\x00\x01ann\x00example.org\x00",
)


@TABLE.target(
    "socks",
    Reach.LOCAL,
    "client",
    FrontError,
    seeds=lambda: [bytes((users,)) + seed for users in (0, 1, 3) for seed in uncut(*SOCKS)],
)
def socks(data: bytes) -> None:
    """SOCKS4, 4a and 5, and the recognition of each; the first byte says with users, and refused."""
    how, data = data[0] if data else 0, data[1:]
    if len(data) < 2:
        return
    kind = recognise(data[1])
    if kind is HttpProxy:
        return
    conversation = kind(USERS if how & 1 else None)
    asked = 0
    for part in cut(data):
        try:
            events = conversation.receive_data(part)
        except FrontError:
            assert conversation.closing, "an error that leaves the conversation open"
            assert not conversation.receive_data(b"more"), "something after the end"
            return
        for event in events:
            if isinstance(event, TargetRequested | AssociationRequested):
                asked += 1
                assert asked == 1, "asked twice"
                if how & 2:
                    conversation.send_refused(Reason.REFUSED)
                else:
                    conversation.send_accepted("::1", 5)
        conversation.data_to_send()
    conversation.receive_eof()
    conversation.data_to_send()


def _said(*steps: tuple[int, bytes]) -> bytes:
    return b"".join(bytes((kind,)) + piece(data) for kind, data in steps)


@TABLE.target(
    "http",
    Reach.LOCAL,
    "client",
    FrontError,
    seeds=lambda: [
        b"\0" + _said((0, GET), (1, OK), (0, POST), (1, CHUNKED), (2, b"")),
        b"\1" + _said((0, CONNECT), (0, b"data")),
        b"\0" + _said((0, GET[:20]), (0, GET[20:] + GET), (1, OK), (3, b"")),
        b"\0" + _said((0, GET.replace(b"1.1", b"1.0")), (1, OK[:30]), (1, OK[30:]), (4, b"")),
    ],
)
def http(data: bytes) -> None:
    """The HTTP proxy between a program and an origin server: both may say anything, in any order."""
    tape = Tape(data)
    proxy = HttpProxy(USERS if tape.byte() & 1 else None)
    streams = 0
    while tape:
        kind = tape.byte() % 5
        said = memoryview(bytearray(tape.piece()))
        match kind:
            case 0:
                try:
                    events = proxy.receive_data(said)
                except FrontError:
                    assert proxy.closing
                    proxy.data_to_send()
                    assert not proxy.receive_data(GET)
                    return
            case 1:
                events = proxy.receive_reply(said)
            case 2:
                events = proxy.receive_eof()
            case 3:
                events = proxy.receive_reply_eof()
            case _:
                events = proxy.receive_reply_lost(Reason.TIMED_OUT)
        for event in events:
            if isinstance(event, OriginRequested | TargetRequested):
                streams += 1
                proxy.send_refused(Reason.REFUSED) if said[:1] == b"~" else proxy.send_accepted()
            streams -= isinstance(event, OriginReleased)
        assert streams in (0, 1), "two origins at once, or one released twice"
        proxy.data_to_send()


@TABLE.target(
    "heads",
    Reach.LOCAL,
    "client",
    FrontError,
    TargetError,
    seeds=lambda: [GET, POST[:70], OK[:-2], CHUNKED[:25]],
)
def heads(data: bytes) -> None:
    """Heads of requests and replies; what is passed on is read the same again."""
    if data[:5] == b"HTTP/":
        reply = ReplyHead.parse(data)
        ReplyHead.parse(reply.serialize(close=True))
        return
    head = RequestHead.parse(data)
    AbsoluteForm.parse(head.target, head.method)


@TABLE.target(
    "datagram",
    Reach.LOCAL,
    "client",
    FrontError,
    seeds=lambda: [b"\0\0\0" + ADDRESS + b"data", b"\0\0\0" + NAME],
)
def datagram(data: bytes) -> None:
    """The header of a SOCKS5 datagram."""
    target, payload = parse_datagram(data)
    assert data.endswith(payload)
    assert parse_datagram(serialize_datagram(target, payload)) == (target, payload)


@TABLE.target(
    "target",
    Reach.AFTER,
    "bridge",
    TargetError,
    seeds=lambda: [Target("example.org", 443).serialize(), Target("::1", 80).serialize()],
)
def target(data: bytes) -> None:
    """The target of an OPEN, and one that somebody typed."""
    try:
        found = Target.parse(data)
    except TargetError:
        found = Target.parse_text(data.decode("latin-1"))
    assert Target.parse(found.serialize()) == found
