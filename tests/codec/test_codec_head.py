"""Heads against h11 both ways, any split, and what must be refused."""

from __future__ import annotations

import random
from itertools import pairwise

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptproxy.codec.head import MAX_HEAD, MAX_HEADERS, HttpHead, RequestReader, ResponseHead, ResponseReader
from ptproxy.errors import CodecError, LocalProtocolError

TOKEN = "!#$%&'*+-.^_`|~0123456789abcXYZ"
tokens = st.text(TOKEN, min_size=1, max_size=12)
# h11 takes no bare control characters; neither do we. Values carry no surrounding white space.
values = st.text([chr(c) for c in (*range(0x20, 0x7F), *range(0xA1, 0x100), 9)], max_size=30).map(
    lambda text: text.strip(" \t")
)
header_lists = st.lists(st.tuples(tokens.map("X-".__add__), values), max_size=8)
targets = st.text([chr(c) for c in range(0x21, 0x7F)], min_size=1, max_size=40)
requests = st.builds(HttpHead, header_lists, st.sampled_from(["GET", "POST", "OPTIONS"]), targets)
responses = st.builds(ResponseHead, header_lists, st.integers(200, 599), values)


def feed(reader, data: bytes, cuts: list[int]):
    """The outcome of feeding ``data`` cut at ``cuts``: a head and the rest, None or the error."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    try:
        for start, end in pairwise(edges):
            head = reader.receive_data(data[start:end])
            if head is not None:
                return head, bytes(reader.rest) + data[end:]
    except CodecError:
        return CodecError
    return None


cut_lists = st.lists(st.integers(0, 4096), max_size=12)


@given(requests, st.binary(max_size=20), cut_lists)
def test_a_request_comes_back_however_it_is_split(head, rest, cuts):
    assert feed(RequestReader(), head.serialize() + rest, cuts) == (head, rest)


@given(responses, st.binary(max_size=20), cut_lists)
def test_a_response_comes_back_however_it_is_split(head, rest, cuts):
    assert feed(ResponseReader(), head.serialize() + rest, cuts) == (head, rest)


@given(requests)
def test_h11_reads_what_we_serialize(head):
    head.headers = [("Host", "example.org"), *head.headers]
    server = h11.Connection(h11.SERVER)
    server.receive_data(head.serialize())
    event = server.next_event()
    assert type(event) is h11.Request
    assert (event.method.decode(), event.target.decode("latin-1")) == (head.method, head.target)
    assert [(n.lower().encode(), v.encode("latin-1")) for n, v in head.headers] == list(event.headers)


@given(header_lists, targets)
def test_we_read_what_h11_sends(headers, target):
    client = h11.Connection(h11.CLIENT)
    data = client.send(
        h11.Request(
            method="PUT",
            target=target,
            headers=[("Host", "a"), *((n, v.encode("latin-1")) for n, v in headers)],
        )
    )
    head, rest = feed(RequestReader(), data, [])
    assert rest == b""
    assert (head.method, head.target, head.version) == ("PUT", target, "HTTP/1.1")
    assert head.headers == [("Host", "a"), *headers]


near_misses = st.builds(
    lambda data, seed: mutate(data, random.Random(seed)),
    st.one_of(requests, responses).map(lambda head: head.serialize()),
    st.integers(0, 2**32),
)


def mutate(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(out))
        match rng.randrange(3):
            case 0:
                out[at] = rng.randrange(256)
            case 1:
                del out[at]
            case _:
                out.insert(at, rng.choice(b"\r\n :\0\tGH"))
        out = out or bytearray(b"x")
    return bytes(out)


@given(
    st.one_of(st.binary(max_size=80), near_misses),
    cut_lists,
    st.sampled_from([RequestReader, ResponseReader]),
)
@example(b"GET / HTTP/1.1\r\n\r\n", [15, 16, 17], RequestReader)
@example(b"HTTP/1.1 200 \r\na:b\r\n\r\r\n", [20, 21, 22], ResponseReader)
def test_any_split_of_anything_has_one_outcome(data, cuts, reader):
    assert feed(reader(), data, cuts) == feed(reader(), data, [])


@given(near_misses)
def test_whatever_we_accept_h11_accepts_with_the_same_values(data):
    outcome = feed(RequestReader(), data, [])
    if outcome is None or outcome is CodecError:
        return
    head, _ = outcome
    server = h11.Connection(h11.SERVER)
    server.receive_data(data)
    refusal = ""
    try:
        event = server.next_event()
    except h11.RemoteProtocolError as error:
        refusal = str(error)
    if refusal:  # only for rules above the head's syntax
        assert any(word in refusal for word in ("Host", "Content-Length", "Transfer-Encoding"))
        return
    assert [(n.lower().encode(), v.encode("latin-1")) for n, v in head.headers] == list(event.headers)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\n\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\na : b\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\nc: d\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\r\na: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\n: b\r\n\r\n",
        b"GET /\x80 HTTP/1.1\r\n\r\n",
        b"METHODTHATISLONGERTHANANYREAL / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"SSH-2.0-x\r\n",
    ],
)
def test_what_a_strict_server_refuses(data):
    assert feed(RequestReader(), data, []) is CodecError


@pytest.mark.parametrize(
    "prefix", [b"\x16", b"G\0", b"GET\t", b"GET /\x01", b"GET / X", b"GET / HTTP/1.2", b"GET / HTTP/1.1\r\n "]
)
def test_refused_as_soon_as_a_rule_is_broken(prefix):
    assert feed(RequestReader(), prefix, []) is CodecError


def test_two_heads_one_after_the_other():
    reader = RequestReader()
    first = reader.receive_data(b"GET /1 HTTP/1.1\r\nA: 1\r\n\r\nGET /2 HTT")
    second = reader.receive_data(bytes(reader.rest))
    assert first is not None
    assert second is None
    assert not reader.empty
    assert reader.receive_data(b"P/1.0\r\n\r\nx") == HttpHead([], "GET", "/2", "HTTP/1.0")
    assert (bytes(reader.rest), reader.empty) == (b"x", True)


def test_limits_are_exact():
    start, end = b"GET / HTTP/1.1\r\nA: ", b"\r\n\r\n"
    fits = start + b"x" * (MAX_HEAD - len(start) - len(end)) + end
    assert feed(RequestReader(), fits, [100, 9000])[0].headers[0][0] == "A"
    assert feed(RequestReader(), start + b"x" + fits[len(start) :], [100, 9000]) is CodecError
    assert feed(RequestReader(), start + b"x" * MAX_HEAD, []) is CodecError
    lines = b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * MAX_HEADERS
    assert feed(RequestReader(), lines + b"\r\n", [])[0].method == "GET"
    assert feed(RequestReader(), lines + b"a:b\r\n\r\n", []) is CodecError


def test_lookups():
    head = HttpHead(
        [
            ("Connection", "keep-alive, Upgrade"),
            ("Cookie", "a=1; b=x=y;  c ; a=2"),
            ("cookie", "d=4"),
            ("X", "1"),
            ("x", "2"),
        ],
        "GET",
        "/",
    )
    assert head.tokens("connection") == ["keep-alive", "upgrade"]
    assert (head.cookie("a"), head.cookie("b"), head.cookie("c"), head.cookie("d"), head.cookie("A")) == (
        "1",
        "x=y",
        None,
        "4",
        None,
    )
    assert (head.get("connection"), head.get("none")) == ("keep-alive, Upgrade", None)
    with pytest.raises(CodecError):
        head.get("x")


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\0", "\N{SNOWMAN}"])
def test_a_value_that_would_break_the_head_is_our_own_bug(value):
    with pytest.raises(LocalProtocolError):
        HttpHead([("A", value)], "GET", "/").serialize()
    with pytest.raises(LocalProtocolError):
        HttpHead([], "GET", "/ x").serialize()
