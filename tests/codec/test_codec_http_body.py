"""Bodies, records, uploads' order, request heads: the parts of the http codec, h11 as oracle."""

from __future__ import annotations

import random

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptproxy.codec.head import HttpHead, ResponseHead
from ptproxy.codec.http_body import (
    MAX_CHUNK_LINE,
    MAX_TRAILERS,
    ChunkedBody,
    CloseBody,
    LengthBody,
    request_body,
    response_body,
)
from ptproxy.codec.http_posts import BODY_SIZES, MIN_BODY, body_length
from ptproxy.codec.http_records import CLOSE, DATA, END, HELLO, NEXT, PAD, RecordReader, record
from ptproxy.codec.http_request import RequestHeads, brand_list
from ptproxy.codec.http_uploads import UploadOrder
from ptproxy.codec.interface import CodecSettings
from ptproxy.codec.profile import CHROMIUM
from ptproxy.codec.randomness import RandomPool
from ptproxy.errors import CodecError


def read(body, data, cuts):
    """Feeds it in pieces; the body's bytes and what was left over."""
    out = bytearray()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in zip(edges, edges[1:], strict=False):  # noqa: RUF007
        piece = memoryview(data)[start:end]
        while len(piece):
            if body.done:
                return bytes(out), data[end - len(piece) :]
            parts = []
            used = body.receive_data(piece, parts)
            out += b"".join(parts)
            assert used or body.done
            piece = piece[used:]
    return bytes(out), b""


CUTS = st.lists(st.integers(0, 5000), max_size=40)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), CUTS, st.booleans(), st.binary(max_size=20))
def test_chunks_in_any_split(chunks, cuts, extended, after):
    extension = b" ;name=value" if extended else b""
    data = b"".join(b"%X%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    data += b"000\r\n" + (b"Checksum: 1\r\nOther: 2\r\n" if extended else b"") + b"\r\n"
    body = ChunkedBody()
    got, rest = read(body, data + after, cuts)
    assert got == b"".join(chunks)
    assert body.done
    assert rest == after
    assert body.receive_eof()


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from([b"5", b"\r\n", b"\r", b"\n", b"hello", b"0", b";", b"a:b", b" "]), max_size=20
        ).map(b"".join),
    ),
    CUTS,
)
@settings(max_examples=400)
def test_chunks_are_judged_alike_however_split(data, cuts):
    outcomes = []
    for split in ([], cuts, list(range(len(data)))):
        body = ChunkedBody()
        try:
            outcomes.append((read(body, data, split)[0], body.done))
        except CodecError:
            outcomes.append("refused")
    assert outcomes[0] == outcomes[1] == outcomes[2]


@given(st.binary(max_size=120))
@settings(max_examples=300)
def test_chunks_read_as_h11_reads_them(data):
    oracle = h11.Connection(h11.CLIENT)
    oracle.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    oracle.send(h11.EndOfMessage())
    oracle.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    body, theirs = ChunkedBody(), b""
    try:
        while type(event := oracle.next_event()) is not h11.EndOfMessage:
            if event is h11.NEED_DATA:
                break
            theirs += bytes(event.data) if type(event) is h11.Data else b""
    except h11.RemoteProtocolError:
        return
    try:
        ours, _ = read(body, data, [])
    except CodecError:
        return
    assert ours == theirs
    assert body.done == (type(event) is h11.EndOfMessage)


@pytest.mark.parametrize(
    "data",
    [
        b"g\r\n", b"\r\n", b"-1\r\n", b"0x5\r\n", b"1_0\r\n", b"5\n", b"123456789\r\n", b"5\r\nhelloX\r\n",
        b"5\r\nhello\rX", b"0\r\n: x\r\n\r\n", b"5;" + b"a" * MAX_CHUNK_LINE + b"\r\n",
        b"0\r\n" + b"a: b\r\n" * (MAX_TRAILERS // 6 + 1) + b"\r\n", b"1" * MAX_CHUNK_LINE,
    ],
)  # fmt: skip
def test_chunks_refused(data):
    for cuts in ([], list(range(len(data)))):
        with pytest.raises(CodecError):
            read(ChunkedBody(), data, cuts)


@given(st.integers(0, 50), st.binary(max_size=100), CUTS)
def test_length(length, data, cuts):
    body = LengthBody(length)
    got, rest = read(body, data, cuts)
    assert got + rest == data
    assert len(got) == min(length, len(data))
    assert body.receive_eof() == body.done == (len(data) >= length)


def test_close():
    body = CloseBody()
    assert read(body, b"abc", [1]) == (b"abc", b"")
    assert not body.done
    assert body.receive_eof()


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ([], CloseBody),
        ([("Content-Length", "0")], LengthBody),
        ([("content-length", "12")], LengthBody),
        ([("Transfer-Encoding", "Chunked")], ChunkedBody),
        ([("Transfer-Encoding", "gzip")], None),
        ([("Transfer-Encoding", "chunked, chunked")], None),
        ([("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], None),
        ([("Content-Length", "5"), ("Transfer-Encoding", "chunked")], None),
        ([("Content-Length", "5"), ("Content-Length", "5")], None),
        ([("Content-Length", "5, 5")], None),
        ([("Content-Length", "-5")], None),
        ([("Content-Length", "")], None),
        ([("Content-Length", "²")], None),
        ([("Content-Length", "9" * 16)], None),
    ],
)
def test_what_delimits_a_body(headers, kind):
    response, request = ResponseHead(headers, 200), HttpHead(headers, "POST", "/")
    if kind is None:
        for refuse in (lambda: response_body(response), lambda: request_body(request, 100)):
            with pytest.raises(CodecError):
                refuse()
        return
    assert type(response_body(response)) is kind
    assert type(request_body(request, 100)) is (LengthBody if kind is CloseBody else kind)


def test_a_request_body_is_bounded():
    with pytest.raises(CodecError, match="larger"):
        request_body(HttpHead([("Content-Length", "101")], "POST", "/"), 100)


# ---- records -----------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from([DATA, PAD, HELLO, NEXT]), st.binary(max_size=100)), max_size=10),
    st.sampled_from([END, CLOSE]),
    st.binary(max_size=20),
    CUTS,
)
def test_records_in_any_split(records, last, padding, cuts):
    data = b"".join(record(kind, content) for kind, content in records) + record(last, padding)
    reader, out = RecordReader(), []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in zip(edges, edges[1:], strict=False):  # noqa: RUF007
        assert not reader.ended or start == len(data)
        reader.receive_data(memoryview(data)[start:end], out)
    assert b"".join(out) == b"".join(content for kind, content in records if kind == DATA)
    assert reader.greeted
    assert reader.ended
    assert reader.closed == (last == CLOSE)
    assert reader.next_asked == any(kind == NEXT for kind, _ in records)
    with pytest.raises(CodecError, match="last record"):
        reader.receive_data(memoryview(b"\0"), out)


def test_an_unknown_record_is_refused_at_its_first_byte():
    with pytest.raises(CodecError, match="type 6"):
        RecordReader().receive_data(memoryview(b"\6"), [])


@given(st.binary(max_size=200), CUTS)
def test_garbage_records(data, cuts):
    outcomes = []
    for split in ([], cuts):
        reader, out = RecordReader(), []
        edges = [0, *sorted(cut % (len(data) + 1) for cut in split), len(data)]
        try:
            for start, end in zip(edges, edges[1:], strict=False):  # noqa: RUF007
                reader.receive_data(memoryview(data)[start:end], out)
        except CodecError:
            outcomes.append("refused")
            continue
        outcomes.append((b"".join(out), reader.ended, reader.closed))
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=200), st.integers(0, 3))
def test_garbage_uploads(data, number):
    uploads, out = UploadOrder(), []
    upload = uploads.begin(number)
    try:
        uploads.receive_data(upload, [memoryview(data)], out)
        uploads.finish(upload, out)
    except CodecError:
        return
    length = int.from_bytes(data[1:4], "big")
    assert b"".join(out) == (data[4 : 4 + length] if number == 0 else b"")
    assert uploads.closed == (number == 0 and data[0] == 1)


# ---- requests ----------------------------------------------------------------------------------------


@given(st.integers(0, 3000), st.integers(0, 1000))
def test_sizes_of_small_uploads(size, seed):
    length = body_length(size, RandomPool(random.Random(seed)))
    assert length >= size + 4
    if size + 4 > BODY_SIZES[-1]:
        assert length == size + 4
    else:
        assert MIN_BODY <= length <= BODY_SIZES[-1]


@pytest.mark.parametrize(
    ("major", "expected"),
    [
        (131, '"Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"'),
        (156, '"Not:A-Brand";v="8", "Chromium";v="156", "Google Chrome";v="156"'),
    ],
)
def test_brands(major, expected):
    assert brand_list(major) == expected


def test_heads_as_a_browser_writes_them():
    heads = RequestHeads(CodecSettings("example.org:8443", "/a%20path?x=1"), CHROMIUM, "linux")
    agent = CHROMIUM.user_agent_for("linux")
    assert heads.post(321, b"sid=abc").decode().split("\r\n") == [
        "POST /a%20path?x=1 HTTP/1.1",
        "Host: example.org:8443",
        "Connection: keep-alive",
        "Content-Length: 321",
        'sec-ch-ua-platform: "Linux"',
        f"User-Agent: {agent}",
        f"sec-ch-ua: {brand_list(156)}",
        "Content-Type: application/octet-stream",
        "sec-ch-ua-mobile: ?0",
        "Accept: */*",
        "Origin: https://example.org:8443",
        "Sec-Fetch-Site: same-origin",
        "Sec-Fetch-Mode: cors",
        "Sec-Fetch-Dest: empty",
        "Referer: https://example.org:8443/",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Accept-Language: en-US,en;q=0.9",
        "Cookie: sid=abc",
        "",
        "",
    ]
    get = heads.get(b"sid=abc").decode().split("\r\n")
    assert get[0] == "GET /a%20path?x=1 HTTP/1.1"
    assert not any(line.startswith(("Content-", "Origin")) for line in get)
    for raw in (heads.get(b"sid=abc"), heads.post(3, b"sid=abc") + b"xyz"):
        oracle = h11.Connection(h11.SERVER)
        oracle.receive_data(raw)
        event = oracle.next_event()
        assert type(event) is h11.Request
        assert dict(event.headers)[b"cookie"] == b"sid=abc"
    assert 450 <= len(heads.get(b"sid=" + bytes(24))) <= 750
