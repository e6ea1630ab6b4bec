"""The HTTP proxy conversation: CONNECT, plain requests, kept connections, and every failure."""

from __future__ import annotations

import base64
import itertools
from dataclasses import dataclass, field

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptproxy.errors import FrontError, Reason
from ptproxy.front import (
    HttpProxy,
    OriginReleased,
    OriginRequested,
    PayloadReceived,
    ReplyBroken,
    ReplyReceived,
    TargetRequested,
    Users,
)
from ptproxy.target import Target

USERS = Users({"ann": "sesame"})
SPLITS = st.lists(st.integers(0, 2000), max_size=8)
GET = b"GET http://example.org/a?b HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(marks)]


@dataclass
class Talk:
    """A conversation with its two sides as byte strings."""

    proxy: HttpProxy = field(default_factory=HttpProxy)
    dialled: list[Target] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    """What each origin's stream got."""
    open: bool = False
    answer: bytes = b""
    """What the local program got."""
    error: str = ""
    broken: bool = False

    def _act(self, events) -> None:
        for event in events:
            kind = type(event)
            if kind in (OriginRequested, TargetRequested):
                assert not self.open
                self.open = True
                self.dialled.append(event.target)
                self.sent.append(event.first_data)
                self.proxy.send_accepted()
            elif kind is PayloadReceived:
                assert self.open
                self.sent[-1] += event.data
            elif kind is ReplyReceived:
                self.answer += event.data
            elif kind is OriginReleased:
                assert self.open
                self.open = False
            else:
                assert kind is ReplyBroken
                self.broken = True
        self.answer += self.proxy.data_to_send()

    def say(self, data: bytes, cuts: list[int] | None = None) -> Talk:
        for piece in pieces(data, cuts or []):
            try:
                events = self.proxy.receive_data(memoryview(piece))
            except FrontError as error:
                self.error = str(error)
                self._act([])
                assert self.proxy.closing
                break
            self._act(events)
        return self

    def reply(self, data: bytes, cuts: list[int] | None = None) -> Talk:
        for piece in pieces(data, cuts or []):
            self._act(self.proxy.receive_reply(memoryview(piece)))
        return self

    def eof(self) -> Talk:
        try:
            self._act(self.proxy.receive_eof())
        except FrontError as error:
            self.error = str(error)
            self._act([])
        return self

    def reply_eof(self) -> Talk:
        self._act(self.proxy.receive_reply_eof())
        return self

    def reply_lost(self, reason: Reason) -> Talk:
        self._act(self.proxy.receive_reply_lost(reason))
        return self


# ---- CONNECT ------------------------------------------------------------------------------------


@given(cuts=SPLITS, early=st.binary(max_size=30))
def test_connect(cuts: list[int], early: bytes) -> None:
    data = (
        b"CONNECT Example.org:443 HTTP/1.1\r\nHost: example.org:443\r\nProxy-Connection: keep-alive\r\n\r\n"
    )
    talk = Talk().say(data + early, cuts)
    assert talk.dialled == [Target("example.org", 443)]
    assert talk.sent == [early]
    assert talk.answer == b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert not talk.proxy.closing


@pytest.mark.parametrize("target", ["[2001:db8::1]:443", "1.2.3.4:1", "a.b:65535"])
def test_connect_targets(target: str) -> None:
    assert Talk().say(f"CONNECT {target} HTTP/1.0\r\n\r\n".encode()).dialled == [Target.parse_text(target)]


@pytest.mark.parametrize(
    "head",
    [
        "CONNECT example.org HTTP/1.1\r\n\r\n",
        "CONNECT example.org:0 HTTP/1.1\r\n\r\n",
        "CONNECT http://example.org:80/ HTTP/1.1\r\n\r\n",
        "CONNECT example.org:443 HTTP/1.1\r\nContent-Length: 3\r\n\r\n",
        "CONNECT example.org:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_connect_refused_heads(head: str) -> None:
    talk = Talk().say(head.encode())
    assert talk.error
    assert not talk.dialled
    assert talk.answer.startswith(b"HTTP/1.1 400 ")


REFUSALS = {
    Reason.CANCELLED: (502, "proxy_internal_error"),
    Reason.GENERAL: (502, "proxy_internal_error"),
    Reason.NOT_PERMITTED: (403, "destination_ip_prohibited"),
    Reason.NETWORK_UNREACHABLE: (502, "destination_ip_unroutable"),
    Reason.HOST_UNREACHABLE: (502, "destination_unavailable"),
    Reason.REFUSED: (502, "connection_refused"),
    Reason.TIMED_OUT: (504, "connection_timeout"),
    Reason.NAME_NOT_FOUND: (502, "dns_error"),
    Reason.CONNECTION_LOST: (502, "connection_terminated"),
    Reason.LIMIT: (503, "connection_limit_reached"),
    Reason.SHUTDOWN: (503, "proxy_internal_error"),
    Reason.UNSUPPORTED: (501, "proxy_configuration_error"),
    Reason.TUNNEL_DOWN: (503, "proxy_internal_error"),
    Reason.SESSION_LOST: (503, "proxy_internal_error"),
}


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("method", ["CONNECT a.b:443", "GET http://a.b/", "HEAD http://a.b/"])
def test_refusals(reason: Reason, method: str) -> None:
    status, error = REFUSALS[reason]
    proxy = HttpProxy()
    proxy.receive_data(f"{method} HTTP/1.1\r\n\r\n".encode())
    proxy.send_refused(reason)
    client = h11.Connection(h11.CLIENT)
    verb, target = method.split()
    client.send(h11.Request(method=verb, target=target, headers=[("Host", "a.b")]))
    client.send(h11.EndOfMessage())
    client.receive_data(proxy.data_to_send())
    reply = client.next_event()
    assert isinstance(reply, h11.Response)
    assert reply.status_code == status
    assert dict(reply.headers)[b"proxy-status"].decode() == f"proxy; error={error}"
    assert dict(reply.headers)[b"connection"] == b"close"
    if verb == "HEAD":
        assert isinstance(client.next_event(), h11.EndOfMessage)
    else:
        body = client.next_event()
        assert isinstance(body, h11.Data)
        assert b"ptproxy" not in bytes(body.data)
        assert isinstance(client.next_event(), h11.EndOfMessage)
    assert client.trailing_data == (b"", False)
    assert proxy.closing


def test_refusal_sentences_differ() -> None:
    texts = set()
    for reason in Reason:
        proxy = HttpProxy()
        proxy.receive_data(b"CONNECT a.b:443 HTTP/1.1\r\n\r\n")
        proxy.send_refused(reason)
        texts.add(proxy.data_to_send())
    assert len(texts) == len(Reason)


# ---- users ------------------------------------------------------------------------------------------


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("fields", "admitted"),
    [
        (f"Proxy-Authorization: {_basic('ann:sesame')}\r\n", True),
        (f"proxy-authorization:{_basic('ann:sesame').replace('Basic', 'bAsIc')}\r\n", True),
        (f"Proxy-Authorization: {_basic('ann:Sesame')}\r\n", False),
        (f"Proxy-Authorization: {_basic('ann')}\r\n", False),
        (f"Authorization: {_basic('ann:sesame')}\r\n", False),
        ("Proxy-Authorization: Basic !!!\r\n", False),
        ("Proxy-Authorization: Basic\r\n", False),
        ("Proxy-Authorization: Bearer YW5uOnNlc2FtZQ==\r\n", False),
        (f"Proxy-Authorization: {_basic('ann:sesame')}\r\n" * 2, False),
        ("", False),
    ],
)
@pytest.mark.parametrize("line", ["CONNECT a.b:443", "GET http://a.b/"])
def test_users(fields: str, admitted: bool, line: str) -> None:
    talk = Talk(HttpProxy(USERS)).say(f"{line} HTTP/1.1\r\nHost: a.b\r\n{fields}\r\n".encode())
    if admitted:
        assert len(talk.dialled) == 1
        assert b"ann" not in talk.sent[0]
        assert b"uthorization" not in talk.sent[0]
    else:
        assert not talk.dialled
        assert talk.answer.startswith(b"HTTP/1.1 407 ")
        assert b'\r\nProxy-Authenticate: Basic realm="proxy"' in talk.answer
        assert b"sesame" not in talk.answer + talk.error.encode()


# ---- requests --------------------------------------------------------------------------------------------


def test_request_is_rewritten() -> None:
    talk = Talk().say(
        b"GET http://Example.org:8080/a?b=c HTTP/1.1\r\nUser-Agent: x\r\nHOST: other\r\n"
        b"Proxy-Connection: keep-alive\r\nConnection: keep-alive, X-Hop , host\r\n"
        b"X-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\n"
        b"Proxy-Secret: y\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n"
    )
    assert talk.dialled == [Target("example.org", 8080)]
    (sent,) = talk.sent
    assert sent == (
        b"GET /a?b=c HTTP/1.1\r\nUser-Agent: x\r\nHOST: Example.org:8080\r\n"
        b"Accept: */*\r\nCookie: a=b; c=d\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("line", "rewritten", "target"),
    [
        ("GET http://a.b", "GET /", Target("a.b", 80)),
        ("GET HTTP://a.b:/", "GET /", Target("a.b", 80)),
        ("GET http://a.b?x", "GET /?x", Target("a.b", 80)),
        ("OPTIONS http://a.b", "OPTIONS *", Target("a.b", 80)),
        ("OPTIONS http://a.b/", "OPTIONS /", Target("a.b", 80)),
        ("get http://[::1]/x@y:z", "get /x@y:z", Target("::1", 80)),
        ("GET http://[::1]:81/", "GET /", Target("::1", 81)),
        ("GET http://1.2.3.4:443//", "GET //", Target("1.2.3.4", 443)),
    ],
)
def test_targets(line: str, rewritten: str, target: Target) -> None:
    talk = Talk().say(f"{line} HTTP/1.1\r\nHost: q\r\n\r\n".encode())
    assert talk.dialled == [target]
    assert talk.sent[0].startswith(f"{rewritten} HTTP/1.1\r\nHost: ".encode())


def test_old_version_is_kept_and_closes() -> None:
    talk = Talk().say(b"GET http://a.b/ HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n")
    assert talk.sent == [b"GET / HTTP/1.0\r\nHost: a.b\r\nConnection: close\r\n\r\n"]
    talk.reply(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    assert talk.answer == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    assert talk.proxy.closing


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (400, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        (501, "GET https://a.b/ HTTP/1.1\r\n\r\n"),
        (501, "GET ftp://a.b/ HTTP/1.1\r\n\r\n"),
        (400, "GET http://user@a.b/ HTTP/1.1\r\n\r\n"),
        (400, "GET http://a.b/#x HTTP/1.1\r\n\r\n"),
        (400, "GET http:/// HTTP/1.1\r\n\r\n"),
        (400, "GET http://a.b:0/ HTTP/1.1\r\n\r\n"),
        (400, "GET http://a.b:1x/ HTTP/1.1\r\n\r\n"),
        (400, "GET http://a..b/ HTTP/1.1\r\n\r\n"),
        (400, "GET http://::1/ HTTP/1.1\r\n\r\n"),
        (400, "GET  http://a.b/ HTTP/1.1\r\n\r\n"),
        (400, "GET http://a.b/ x HTTP/1.1\r\n\r\n"),
        (400, "GET http://a.b/\x80 HTTP/1.1\r\n\r\n"),
        (400, "GET http://a.b/\r\n\r\n"),
        (400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (400, "GET http://a.b/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, "GET http://a.b/ HTTP/1.1\r\nX : a\r\n\r\n"),
        (400, "GET http://a.b/ HTTP/1.1\r\nX\r\n\r\n"),
        (400, "GET http://a.b/ HTTP/1.1\r\nX: a\r\n folded\r\n\r\n"),
        (400, "GET http://a.b/ HTTP/1.1\r\nX: a\rb\r\n\r\n"),
        (400, "GET http://a.b/ HTTP/1.1\r\nX: a\0b\r\n\r\n"),
        (400, "GET http://a.b/ HTTP/1.1\r\n: b\r\n\r\n"),
        (400, "POST http://a.b/ HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, "POST http://a.b/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        (
            400,
            "POST http://a.b/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (400, "POST http://a.b/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, "POST http://a.b/ HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n"),
        (400, "POST http://a.b/ HTTP/1.1\r\nContent-Length: 3, 4\r\n\r\n"),
        (400, "POST http://a.b/ HTTP/1.1\r\nContent-Length: +3\r\n\r\n"),
        (400, "POST http://a.b/ HTTP/1.1\r\nContent-Length: \r\n\r\n"),
        (400, "POST http://a.b/ HTTP/1.1\r\nContent-Length: 1000000000000000000\r\n\r\n"),
        (431, "GET http://a.b/ HTTP/1.1\r\nX: " + "x" * 65536),
    ],
)
@given(cuts=SPLITS)
@example(cuts=[])
def test_requests_refused(status: int, data: str, cuts: list[int]) -> None:
    talk = Talk().say(data.encode("latin-1"), cuts)
    assert talk.error
    assert not talk.dialled
    assert talk.answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert talk.proxy.receive_data(b"more") == []


NAMES = st.from_regex(r"\AX-[a-zA-Z0-9]{1,8}\Z")
VALUES = st.from_regex(r"\A[!-~]([ \t!-~\x80-\xff]{0,20}[!-~])?\Z")
BODIES = st.one_of(
    st.none(), st.binary(max_size=200), st.lists(st.binary(min_size=1, max_size=60), max_size=4)
)


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]),
    path=st.from_regex(r"\A/[!-\"$-~]{0,20}\Z"),
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=5),
    body=BODIES,
    cuts=SPLITS,
)
def test_h11_reads_what_h11_wrote(method: str, path: str, fields, body, cuts: list[int]) -> None:
    """h11 writes a request, the conversation rewrites it, h11 reads the same request."""
    framing = []
    if isinstance(body, bytes):
        framing = [("Content-Length", str(len(body)))]
    elif body is not None:
        framing = [("Transfer-Encoding", "chunked")]
    headers = [("Host", "a.b:81"), *((name, value.encode("latin-1")) for name, value in fields), *framing]
    client = h11.Connection(h11.CLIENT)
    data = client.send(h11.Request(method=method, target=f"http://a.b:81{path}", headers=headers))
    for chunk in [body] if isinstance(body, bytes) else body or []:
        data += client.send(h11.Data(data=chunk))
    data += client.send(h11.EndOfMessage())

    talk = Talk().say(data, cuts)
    assert talk.dialled == [Target("a.b", 81)]
    server = h11.Connection(h11.SERVER)
    server.receive_data(talk.sent[0])
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method.decode(), request.target.decode()) == (method, path)
    assert [(name.lower(), value) for name, value in request.headers] == [
        (name.lower().encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers
    ]
    content = b""
    while isinstance(event := server.next_event(), h11.Data):
        content += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert content == (body if isinstance(body, bytes) else b"".join(body or []))
    assert not talk.proxy.idle


# ---- replies and kept connections ------------------------------------------------------------------------


@given(
    status=st.sampled_from([200, 204, 304, 404, 500]),
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=4),
    body=BODIES,
    method=st.sampled_from(["GET", "HEAD"]),
    cuts=SPLITS,
    informed=st.booleans(),
)
def test_h11_reads_replies_and_asks_again(status, fields, body, method, cuts, informed: bool) -> None:
    """h11 as the origin and as the program: every reply arrives, and the stream is kept."""
    talk = Talk()
    if status in (204, 304):
        body = None if status == 204 else b""
    for round_ in range(2):
        program = h11.Connection(h11.CLIENT)
        origin = h11.Connection(h11.SERVER)
        talk.answer = b""
        before = len(talk.sent[0]) if talk.sent else 0
        headers = [("Host", "a.b")]
        data = program.send(h11.Request(method=method, target="http://a.b/", headers=headers))
        talk.say(data + program.send(h11.EndOfMessage()), cuts)
        origin.receive_data(talk.sent[0][before:])
        assert isinstance(origin.next_event(), h11.Request)
        reply = b""
        if informed:
            reply += origin.send(h11.InformationalResponse(status_code=103, headers=[("Link", "x")]))
        framing = []
        if isinstance(body, bytes):
            framing = [("Content-Length", str(len(body)))]
        elif status != 204:
            framing = [("Transfer-Encoding", "chunked")]
        reply += origin.send(
            h11.Response(
                status_code=status,
                reason="Fine",
                headers=[*((name, value.encode("latin-1")) for name, value in fields), *framing],
            )
        )
        sent_body = [] if method == "HEAD" else [body] if isinstance(body, bytes) else body or []
        for chunk in sent_body:
            reply += origin.send(h11.Data(data=chunk))
        reply += origin.send(h11.EndOfMessage())
        talk.reply(reply, cuts)

        program.receive_data(talk.answer)
        event = program.next_event()
        if informed:
            assert isinstance(event, h11.InformationalResponse)
            event = program.next_event()
        assert isinstance(event, h11.Response)
        assert (event.status_code, event.reason) == (status, b"Fine")
        names = [name.lower().encode() for name, _ in fields]
        assert [name for name, _ in event.headers if name.startswith(b"x-")] == names
        content = b""
        while isinstance(event := program.next_event(), h11.Data):
            content += event.data
        assert isinstance(event, h11.EndOfMessage)
        assert content == b"".join(sent_body)
        assert talk.dialled == [Target("a.b", 80)]
        assert talk.proxy.idle, round_
        assert talk.open


def test_reply_loses_what_concerns_one_hop() -> None:
    talk = Talk().say(GET)
    talk.reply(
        b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\n"
        b"Proxy-Authenticate: x\r\nContent-Length: 9\r\n"
        b"Transfer-Encoding: chunked\r\nServer: y\r\n\r\n0\r\n\r\n"
    )
    assert talk.answer == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nServer: y\r\n\r\n0\r\n\r\n"
    assert talk.proxy.idle


def test_another_origin_gets_another_stream() -> None:
    talk = Talk().say(GET).reply(OK).say(GET.replace(b"example.org", b"example.com")).reply(OK)
    talk.say(GET.replace(b"example.org", b"example.com:81")).reply(OK)
    assert [str(target) for target in talk.dialled] == ["example.org:80", "example.com:80", "example.com:81"]
    assert talk.answer == OK * 3


@given(cuts=SPLITS, reply_cuts=SPLITS)
def test_pipelined_requests_wait(cuts: list[int], reply_cuts: list[int]) -> None:
    post = b"POST http://example.org/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    other = GET.replace(b"example.org", b"example.com")
    talk = Talk().say(GET + post + b"\r\n" + other + GET[:20], cuts)
    assert talk.proxy.holding
    assert len(talk.dialled) == 1
    assert b"abc" not in talk.sent[0]
    talk.reply(OK, reply_cuts)
    assert talk.sent[0].endswith(b"\r\n\r\nabc")
    assert talk.proxy.holding
    talk.reply(OK, reply_cuts)
    assert len(talk.dialled) == 2
    talk.reply(OK, reply_cuts)
    assert talk.proxy.idle
    assert not talk.proxy.holding
    talk.say(GET[20:]).reply(OK)
    assert talk.answer == OK * 4
    assert len(talk.dialled) == 3


def test_connect_behind_a_plain_request() -> None:
    talk = Talk().say(GET).reply(OK).say(b"CONNECT a.b:443 HTTP/1.1\r\n\r\nhello")
    assert talk.dialled[1] == Target("a.b", 443)
    assert talk.sent[1] == b"hello"
    assert talk.answer.endswith(b"established\r\n\r\n")


def test_origin_that_closes_gets_a_new_stream() -> None:
    for reply in (
        OK.replace(b"Content-", b"Connection: close\r\nContent-"),
        OK.replace(b"1.1", b"1.0"),
        OK + b"what nobody asked for",
    ):
        talk = Talk().say(GET).reply(reply)
        assert talk.proxy.idle
        assert not talk.open
        talk.say(GET).reply(OK)
        assert talk.answer == OK * 2
        assert len(talk.dialled) == 2
    talk = Talk().say(GET).reply(OK).reply_eof()
    assert not talk.open
    assert len(talk.say(GET).reply(OK).dialled) == 2
    talk = Talk().say(GET).reply(OK).reply(b"unasked")
    assert not talk.open
    assert len(talk.say(GET).reply(OK).dialled) == 2
    assert not Talk().say(GET).reply(OK).reply_lost(Reason.CONNECTION_LOST).open


def test_program_that_wants_to_close() -> None:
    for field_name in (b"Connection", b"Proxy-Connection"):
        talk = Talk().say(GET.replace(b"Host: x", field_name + b": Close")).reply(OK)
        assert b"\r\nConnection: close\r\n" in talk.sent[0]
        assert b"\r\nConnection: close\r\n" in talk.answer
        assert talk.proxy.closing
        assert not talk.open


def test_reply_that_ends_with_the_stream() -> None:
    talk = Talk().say(GET).reply(b"HTTP/1.1 200 OK\r\n\r\nall", [20]).reply(b" of it")
    assert talk.answer == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it"
    assert not talk.proxy.closing
    talk.reply_eof()
    assert talk.proxy.closing
    assert not talk.broken
    talk = Talk().say(GET).reply(b"HTTP/1.1 200 OK\r\n\r\nall").reply_lost(Reason.CONNECTION_LOST)
    assert talk.broken


def test_expectations_pass() -> None:
    talk = Talk().say(b"POST http://a.b/ HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert b"\r\nExpect: 100-continue\r\n" in talk.sent[0]
    talk.reply(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert talk.answer == b"HTTP/1.1 100 Continue\r\n\r\n"
    talk.say(b"hello").reply(OK)
    assert talk.sent[0].endswith(b"\r\n\r\nhello")
    assert talk.answer.endswith(OK)
    assert talk.proxy.idle


def test_reply_before_the_request_is_complete_ends_the_connection() -> None:
    talk = Talk().say(b"POST http://a.b/ HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe").reply(OK)
    assert b"\r\nConnection: close\r\n" in talk.answer
    assert talk.proxy.closing
    assert not talk.open
    assert talk.say(b"llo").sent[0].endswith(b"he")
    # A server that answers while it reads gets the rest.
    talk = Talk().say(b"POST http://a.b/ HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe").reply(OK[:-2])
    talk.say(b"llo").reply(b"hi")
    assert talk.sent[0].endswith(b"hello")
    assert talk.answer.endswith(b"\r\n\r\nhi")
    assert talk.proxy.closing


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"<html>\n\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 65536,
    ],
)
@given(cuts=SPLITS)
def test_replies_that_cannot_be_passed_on(reply: bytes, cuts: list[int]) -> None:
    talk = Talk().say(GET).reply(reply, cuts)
    assert talk.answer.startswith(
        b"HTTP/1.1 502 Bad Gateway\r\nProxy-Status: proxy; error=http_protocol_error\r\n"
    )
    assert talk.proxy.closing
    assert not talk.open


@pytest.mark.parametrize(
    "chunks",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"x\r\n",
        b"5\r\nhello!\r\n",
        b"\r\n",
        b"-1\r\n",
        b"1" * 16 + b"\r\n",
        b"0\r\nbad\r\n",
        b"1" + b" " * 5000,
        b"0\r\n" + (b"X: " + b"y" * 1000 + b"\r\n") * 70,
        b"5;a=\rb\r\n",
        b"0\r\nX: y\n\r\n",
    ],
)
@given(cuts=SPLITS)
def test_bad_chunks(chunks: bytes, cuts: list[int]) -> None:
    talk = Talk().say(GET).reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, cuts)
    assert talk.broken
    assert talk.proxy.closing
    talk = Talk().say(b"POST http://a.b/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, cuts)
    assert talk.error
    assert talk.answer.startswith(b"HTTP/1.1 400 ")


def test_good_chunks_with_extensions_and_trailers() -> None:
    chunks = b"5 ;x=y\r\nhello\r\n1;z\r\n!\r\n000\r\nX-Sum: 1\r\n\r\n"
    for cut in range(len(chunks)):
        talk = (
            Talk()
            .say(GET)
            .reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n" + chunks, [64 - 18 + cut])
        )
        assert talk.answer.endswith(b"\r\n\r\n" + chunks)
        assert talk.proxy.idle


def test_broken_origins() -> None:
    lost = Talk().say(GET).reply_lost(Reason.CONNECTION_LOST)
    assert b"error=connection_terminated" in lost.answer
    ended = Talk().say(GET).reply_eof()
    assert ended.answer.startswith(b"HTTP/1.1 502 ")
    for talk in (
        Talk().say(GET).reply(OK[:-1]).reply_eof(),
        Talk().say(GET).reply(OK[:-1]).reply_lost(Reason.GENERAL),
    ):
        assert talk.broken
    half_head = Talk().say(GET).reply(OK[:9]).reply_eof()
    assert half_head.answer.startswith(b"HTTP/1.1 502 ")
    for talk in (ended, lost, half_head):
        assert talk.proxy.closing
        assert not talk.open
    # A kept stream that ends just as a request leaves: close without an answer, the program asks again.
    for end in (Talk.reply_eof, lambda talk: talk.reply_lost(Reason.CONNECTION_LOST)):
        talk = Talk().say(GET).reply(OK).say(GET)
        end(talk)
        assert talk.answer == OK
        assert talk.proxy.closing
        assert not talk.broken
    talk = Talk().say(GET).reply(OK).say(GET).reply(b"H").reply_eof()
    assert b"HTTP/1.1 502 " in talk.answer


def test_program_that_half_closes() -> None:
    assert Talk().eof().proxy.closing
    assert Talk().say(GET[:10]).eof().proxy.closing
    talk = Talk().say(GET + GET).eof()
    assert not talk.proxy.closing
    talk.reply(OK)
    assert not talk.proxy.closing
    talk.reply(OK)
    assert talk.proxy.closing
    assert talk.answer == OK * 2
    talk = Talk().say(b"POST http://a.b/ HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe").eof()
    assert talk.error
    assert talk.answer.startswith(b"HTTP/1.1 400 ")


def test_bad_request_behind_a_good_one() -> None:
    talk = Talk().say(GET + b"rubbish\r\n\r\n").reply(OK)
    assert talk.answer.startswith(OK + b"HTTP/1.1 400 ")
    assert talk.proxy.closing
    assert not talk.open


@given(
    cuts=SPLITS,
    data=st.binary(max_size=300),
    head=st.sampled_from([b"", b"G", b"GET http://a.b/ ", GET[:-2], GET]),
)
def test_garbage_raises_only_front_error(cuts: list[int], data: bytes, head: bytes) -> None:
    whole, split = Talk().say(head + data), Talk().say(head + data, cuts)
    for talk in (whole, split):
        talk.eof()
    assert whole == Talk(whole.proxy, **{name: getattr(split, name) for name in list(vars(split))[1:]})


@given(
    cuts=SPLITS, data=st.binary(max_size=300), head=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", OK[:-1]])
)
def test_garbage_replies_never_raise(cuts: list[int], data: bytes, head: bytes) -> None:
    whole, split = Talk().say(GET).reply(head + data), Talk().say(GET).reply(head + data, cuts)
    assert whole == Talk(whole.proxy, **{name: getattr(split, name) for name in list(vars(split))[1:]})
    split.reply_eof()


def test_first_data_is_bounded() -> None:
    body = bytes(40000)
    proxy = HttpProxy()
    events = proxy.receive_data(b"POST http://a.b/ HTTP/1.1\r\nContent-Length: 40000\r\n\r\n" + body)
    assert [type(event) for event in events] == [OriginRequested, PayloadReceived]
    assert len(events[0].first_data) < 100
    assert bytes(events[1].data) == body
