"""Visits over HTTP/1.1, with h11 as the site (over HTTP/2: test_codec_http_h2, test_codec_page_load)."""

from __future__ import annotations

import itertools
import random

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_rig import CHROMIUM, CLOCK, HOST
from test_codec_h2_golden import browser

from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.http2.frames import HEADERS, PREFACE, ErrorCode, reset_frame
from ptproxy.codec.interface import LinkMoved
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.codec.page.h1_client import H1Client
from ptproxy.codec.page.visit import Visit
from ptproxy.errors import CodecError

PAGE = b"<link rel=stylesheet href=/a.css><script src=/b.js></script><img src=/c.png><p>text</p>"
SITE = {
    "/": (200, [("Content-Length", str(len(PAGE)))], PAGE),
    "/a.css": (200, [("Transfer-Encoding", "chunked")], b"p { background: url(/d.png) }"),
    "/b.js": (200, [("Content-Length", "3"), ("ETag", '"x"'), ("Cache-Control", "max-age=9")], b"1;\n"),
    "/c.png": (304, [("ETag", '"y"')], b""),
    "/d.png": (200, [("Content-Length", "40000")], b"d" * 40000),
    "/favicon.ico": (204, [], b""),
}
FIREFOX = browser("firefox").with_values(system="X11; Linux x86_64")


class Site:
    """h11 answering one connection."""

    def __init__(self, visit, site=SITE, seed=0):
        self.visit, self.site, self.random, self.now = visit, site, random.Random(seed), 100.0
        self.h11, self.paths = h11.Connection(h11.SERVER), []

    def run(self, turns=400):
        for _ in range(turns):
            asked = self.visit.data_to_send()
            for data in asked:
                self.h11.receive_data(bytes(data))
            self.answer()
            if self.visit.done:
                return self
            if asked:
                continue
            due = self.visit.deadline()
            if due is not None:
                self.now = max(self.now, due)
                self.visit.on_deadline(self.now)
        raise AssertionError("the visit does not end")

    def answer(self):
        while True:
            event = self.h11.next_event()
            if isinstance(event, h11.Request):
                self.request = event
            elif isinstance(event, h11.EndOfMessage):
                self.respond(self.request.target.decode())
                self.h11.start_next_cycle()
            else:
                return

    def respond(self, path):
        self.paths.append(path)
        status, headers, body = self.site.get(path, (404, [("Content-Length", "0")], b""))
        data = self.h11.send(h11.Response(status_code=status, headers=headers))
        if body:
            data += self.h11.send(h11.Data(data=body))
        data += self.h11.send(h11.EndOfMessage())
        while data:
            size = self.random.randint(1, 3000)
            (event,) = self.visit.receive_data(data[:size], self.now)
            assert isinstance(event, LinkMoved)
            data = data[size:]


def visit(look=CHROMIUM, memory=None):
    memory = SiteMemory() if memory is None else memory
    return Visit(H1Client(look.name), look, HOST, "/", memory, random.Random(1), 100.0, CLOCK)


@pytest.mark.parametrize("look", [CHROMIUM, FIREFOX], ids=["chromium", "firefox"])
@pytest.mark.parametrize("seed", range(3))
def test_a_page_and_what_it_names_one_after_another(look, seed):
    one = visit(look)
    site = Site(one, seed=seed).run()
    assert site.paths == ["/", "/a.css", "/b.js", "/c.png", "/d.png", "/favicon.ico"]
    assert one.usable
    assert one.http2 is None
    assert not one.load.failed


def test_the_second_visit_asks_for_less():
    memory = SiteMemory()
    Site(visit(memory=memory)).run()
    again = Site(visit(memory=memory)).run()
    assert "/b.js" not in again.paths  # fresh for nine seconds


def test_a_page_that_is_missing_ends_the_visit_and_leaves_the_connection():
    one = visit()
    site = Site(one, site={}).run()
    assert site.paths == ["/"]
    assert one.load.failed
    assert one.usable


def test_a_server_that_closes_ends_the_visit():
    one = visit()
    headers = [("Connection", "close"), ("Content-Length", str(len(PAGE)))]
    answer = b"HTTP/1.1 200 OK\r\n" + b"".join(f"{n}: {v}\r\n".encode() for n, v in headers) + b"\r\n" + PAGE
    one.data_to_send()
    one.receive_data(answer, 100.0)
    assert one.done
    assert not one.usable
    assert one.data_to_send() == []


@pytest.mark.parametrize("look", [CHROMIUM, FIREFOX], ids=["chromium", "firefox"])
def test_an_end_in_the_middle(look):
    one = visit(look)
    one.data_to_send()
    one.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n<img", 100.0)
    assert not one.done
    one.receive_eof(100.0)
    assert one.done
    assert not one.usable
    assert one.receive_eof(100.0)  # late calls do nothing


def test_bytes_that_nobody_asked_for_end_it():
    one = visit()
    one.data_to_send()
    one.receive_data(
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\nHTTP/1.1 408 Too late\r\n\r\n", 100.0
    )
    assert not one.usable


@given(st.lists(st.binary(max_size=200), max_size=8), st.sampled_from(["h1", "h2"]))
def test_nothing_a_site_says_raises(pieces, kind):
    client = H1Client("chromium") if kind == "h1" else H2Client(CHROMIUM.http2, 100.0)
    one = Visit(client, CHROMIUM, HOST, "/", SiteMemory(), random.Random(1), 100.0, CLOCK)
    one.data_to_send()
    for piece in pieces:
        one.receive_data(piece, 100.0)
        one.data_to_send()
        if one.deadline() is not None:
            one.on_deadline(one.deadline())
    one.receive_eof(101.0)
    assert one.done


@given(st.binary(max_size=120), st.lists(st.integers(0, 400), max_size=6))
def test_events_do_not_depend_on_how_the_input_is_split(tail, cuts):
    data = (
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        + tail
    )

    def told(pieces):
        client = H1Client("chromium")
        client.send_request([(":method", "GET"), (":authority", "a"), (":path", "/")], 0, None, 0.0)
        said = []
        try:
            for piece in pieces:
                said += client.receive_data(piece, 0.0)
        except CodecError:
            return "nonsense"  # what came before it in the same piece is not told
        kinds = [type(event).__name__ for event in said if not hasattr(event, "data")]
        return kinds, b"".join(bytes(event.data) for event in said if hasattr(event, "data"))

    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    assert told([data[a:b] for a, b in itertools.pairwise(edges)]) == told([data])


def test_urgent_requests_go_first_and_priorities_change_the_order():
    client = H1Client("chromium")
    fields = [[(":method", "GET"), (":authority", "a"), (":path", f"/{n}")] for n in range(4)]
    client.send_request(fields[0], 3, None, 0.0)
    slow = client.send_request(fields[1], 3, None, 0.0)
    client.send_request(fields[2], 2, None, 0.0)
    client.send_priority(slow, 1)
    order = []
    for _ in range(3):
        (head,) = client.data_to_send()
        order.append(head.split()[1])
        client.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0.0)
    assert order == [b"/0", b"/1", b"/2"]


def test_a_visit_that_is_given_up_asks_its_server_for_no_more():
    """Over HTTP/2 the connection goes on without the page's streams, over HTTP/1.1 it cannot."""
    h2 = H2Client(CHROMIUM.http2, 100.0)
    one = Visit(h2, CHROMIUM, HOST, "/", SiteMemory(), random.Random(1), 100.0, CLOCK)
    one.hold()
    (hello,) = one.data_to_send()
    assert hello.startswith(PREFACE)
    assert one.data_to_send() == [], "a browser's two writes are two turns of its loop"
    one.release()
    (request,) = one.data_to_send()
    assert request[3] == HEADERS
    one.give_up()
    assert b"".join(one.data_to_send()) == reset_frame(1, ErrorCode.CANCEL)
    assert one.done
    assert one.usable
    assert one.deadline() is None
    other = visit()
    other.data_to_send()
    other.give_up()
    assert other.closing
    assert not other.usable
