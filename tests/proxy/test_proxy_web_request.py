"""Reading HTTP requests: any split gives the same, h11 agrees on good ones, garbage is refused or waits."""

from __future__ import annotations

import itertools

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptproxy.proxy.web_pages import Pages, normal_path
from ptproxy.proxy.web_request import BOUNDLESS, MAX_HEAD, MAX_LINE, Request, RequestReader

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-", min_size=1, max_size=12)
VALUE = st.text("abc XYZ019,;=/()\"'\\<>@%&äÿ", max_size=30).map(str.strip)
PATH = st.text("/abc.%2Fxyz-_~!$&'()*+,;=:@?", max_size=30).map(lambda text: "/" + text)
METHOD = st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A well-formed request with a body or none."""
    lines = [f"{draw(METHOD)} {draw(PATH)} HTTP/1.1", f"Host: {draw(TOKEN)}"]
    taken = {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"}
    for name, value in draw(st.lists(st.tuples(TOKEN, VALUE), max_size=5)):
        if name.lower() not in taken:
            lines.append(f"{name}: {value}")
    body = draw(st.binary(max_size=40))
    how = draw(st.sampled_from(["none", "length", "chunked"]))
    if how == "length":
        lines.append(f"Content-Length: {len(body)}")
        tail = body
    elif how == "chunked":
        lines.append("Transfer-Encoding: chunked")
        sizes = draw(st.lists(st.integers(1, 10), max_size=5))
        tail = b"".join(b"%x;a=b\r\n%s\r\n" % (size, b"x" * size) for size in sizes) + b"0\r\nT: v\r\n\r\n"
    else:
        tail = b""
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + tail


def read_all(data: bytes, cuts: list[int]) -> tuple[list[Request], bool, bool]:
    """Everything that comes out when ``data`` arrives in parts."""
    reader = RequestReader()
    found = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        reader.receive_data(memoryview(data)[start:end])
        while (request := reader.next_request()) is not None:
            found.append(request)
    return found, reader.failed, reader.idle


@given(st.lists(requests(), max_size=4), st.lists(st.integers(0, 2**16), max_size=12))
def test_any_split_reads_the_same(wanted: list[bytes], cuts: list[int]) -> None:
    data = b"".join(wanted)
    found, failed, idle = read_all(data, cuts)
    assert (found, failed, idle) == read_all(data, [])
    assert len(found) == len(wanted)
    assert not failed
    assert idle


@given(requests())
def test_h11_reads_the_same(data: bytes) -> None:
    (request,), failed, _ = read_all(data, [])
    assert not failed
    oracle = h11.Connection(h11.SERVER)
    oracle.receive_data(data)
    event = oracle.next_event()
    assert isinstance(event, h11.Request)
    assert request.method.encode() == event.method
    assert request.uri.encode("latin-1") == event.target
    assert request.keep_alive
    expected: dict[str, str] = {}
    for name, value in event.headers:
        expected.setdefault(name.decode(), value.decode("latin-1"))
    if "chunked" in expected.get("transfer-encoding", ""):
        assert request.headers["transfer-encoding"] == "chunked"
    assert request.headers == expected


ODD = st.lists(
    st.sampled_from(
        [b"GET / HTTP/1.1", b"GET ", b"/", b" ", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b"Host: a",
         b"Host", b":", b"Content-Length: 3", b"Content-Length:", b"Transfer-Encoding: chunked", b"3", b"0",
         b"abc", b"\x00", b"\xff", b"%", b"PRI * HTTP/2.0", b"http://x", b"Connection: close", b"x" * 50,
         b"A" * 9000]
    ),
    max_size=14,
).map(b"".join)  # fmt: skip


@given(st.one_of(st.binary(max_size=200), ODD), st.lists(st.integers(0, 2**16), max_size=8))
@example(b"GET / HTTP/1.1\nA: " + b"x" * 40000, [1])
def test_garbage_in_any_split_gives_the_same_refusal(data: bytes, cuts: list[int]) -> None:
    found, failed, _ = read_all(data, cuts)
    again, failed_again, _ = read_all(data, [])
    assert [(r.refusal, r.method, r.uri) for r in found] == [(r.refusal, r.method, r.uri) for r in again]
    assert failed is failed_again
    for request in found:
        assert request.refusal in (0, 400, 405, 413, 414, 494, 501, 505)


@pytest.mark.parametrize(
    "flood", [b"A" * 70000, b"GET /" + b"a" * 70000, b"GET / HTTP/1.1\r\nX: " + b"a" * 70000]
)
def test_memory_is_bounded(flood: bytes) -> None:
    reader = RequestReader()
    status = 0
    for at in range(0, len(flood), 100):
        reader.receive_data(flood[at : at + 100])
        request = reader.next_request()
        if request is not None:
            status = request.refusal
            assert at <= MAX_HEAD + MAX_LINE
        assert len(reader._buffer) <= MAX_HEAD + 100
    assert status in (414, 494)
    assert reader.failed


def test_endless_chunk_lines_and_trailers_end() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    for endless in (b"1" + b";a" * 5000, b"0\r\n" + b"T: v\r\n" * 2000):
        found, failed, _ = read_all(head + endless, list(range(0, 12000, 500)))
        assert len(found) == 1
        assert failed


@given(PATH)
def test_paths_are_normal_and_stay_so(uri: str) -> None:
    path = normal_path(uri)
    if path is not None:
        assert path.startswith("/")
        assert "//" not in path
        assert not {"..", "."} & set(path.split("/"))


def test_pages_never_leave_their_folder(tmp_path) -> None:
    (tmp_path / "site" / "in").mkdir(parents=True)
    (tmp_path / "secret.html").write_text("secret")
    (tmp_path / "site" / "index.html").write_text("home")
    (tmp_path / "site" / "in" / "key.pem").write_text("secret")
    pages = Pages(tmp_path / "site")

    def status(uri: str) -> bytes:
        request = Request("GET", uri, host="a", keep_alive=True)
        return pages.answer(request, scheme="https", local_port=443, date="D")[9:12]

    for uri in ("/../secret.html", "/%2e%2e/secret.html", "/in/../../secret.html", "/..%2fsecret.html"):
        assert status(uri) == b"400"
    assert [status(uri) for uri in ("/", "/in", "/in/", "/in/key.pem")] == [b"200", b"301", b"403", b"404"]
    moved = pages.answer(
        Request("GET", "/in?a=b", host="a.example"), scheme="https", local_port=443, date="D"
    )
    assert b"Location: https://a.example/in/?a=b\r\n" in moved


PARTS = [
    b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"A: b\n", b"\r\n", b"Transfer-Encoding: chunked\r\n",
    b"1\r\nx\r\n", b"0\r\n\r\n", b"?", b"3;e\nabc\r\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(PARTS), max_size=40), st.integers(1, 7))
def test_an_allowance_changes_when_requests_come_not_which(parts: list[bytes], allowance: int) -> None:
    def read(allowance: int) -> list[object]:
        reader, found = RequestReader(), []
        reader.receive_data(b"".join(parts))
        while True:
            reader.allowance = allowance
            request = reader.next_request()
            if request is not None:
                found.append((request, reader.body_read))
            elif not reader.interrupted:
                return [*found, reader.failed, reader.idle]

    assert read(allowance) == read(BOUNDLESS)


def test_no_more_lines_and_chunks_are_read_than_allowed() -> None:
    reader = RequestReader()
    reader.receive_data(
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000
    )
    goes = 0
    while True:
        reader.allowance, goes = 100, goes + 1
        request = reader.next_request()
        if not reader.interrupted:
            break
        assert request is None
        assert reader.allowance == -1
    assert request is not None
    assert not reader.body_read
    assert goes == 21  # three lines, a thousand chunks, and the end of each


def test_lines_behind_the_last_chunk_are_work_like_others_however_they_come() -> None:
    """As many as fit into one read were one piece of work, and a bound that only a split section met."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    reader = RequestReader()
    reader.receive_data(head + b"a\n" * 1000 + b"\n")
    turns = 0
    while True:
        reader.allowance = 10
        if reader.next_request() is not None:
            break
        assert reader.interrupted
        turns += 1
    assert turns == 100
    assert reader.idle
    for trailers in (b"a: b\n" * 1000 + b"\n", b"a\rb\n\n"):
        for cuts in ([], list(range(0, 6000, 700))):
            found, failed, _ = read_all(head + trailers, cuts)
            assert len(found) == 1
            assert failed
