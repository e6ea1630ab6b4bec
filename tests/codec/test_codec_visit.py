"""Visits over HTTP/1.1, with h11 as the site (over HTTP/2: test_codec_http_h2, test_codec_page_load)."""

from __future__ import annotations

import itertools
import json
import random

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from page_rig import CHROMIUM, CLOCK, HOST
from test_codec_h2_golden import VECTORS, browser, expand

from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.http2.frames import HEADERS, PREFACE, ErrorCode, reset_frame
from ptproxy.codec.http2.stream import ConnectionEnded, StreamReset
from ptproxy.codec.interface import LinkMoved
from ptproxy.codec.page.cache import SiteMemory
from ptproxy.codec.page.h1_pool import MAX_DIALS, H1Pool
from ptproxy.codec.page.visit import Visit

PAGE = b"<link rel=stylesheet href=/a.css><script src=/b.js></script><img src=/c.png><p>text</p>"
SITE = {
    "/": (200, [("Content-Length", str(len(PAGE)))], PAGE),
    "/a.css": (200, [("Transfer-Encoding", "chunked")], b"p { background: url(/d.png) }"),
    "/b.js": (200, [("Content-Length", "3"), ("ETag", '"x"'), ("Cache-Control", "max-age=9")], b"1;\n"),
    "/c.png": (304, [("ETag", '"y"')], b""),
    "/d.png": (200, [("Content-Length", "40000")], b"d" * 40000),
    "/favicon.ico": (204, [], b""),
}
_SERVED = next(
    one["steps"]
    for one in json.loads((VECTORS / "h2-chromium.json").read_text())["conversations"]
    if one["name"] == "rich 0 /rich"
)
_BODY = next(expand(step["server"]) for step in _SERVED if len(step.get("server", "")) > 2000)
RICH = _BODY[_BODY.index(b"<!doctype") :]
FIREFOX = browser("firefox").with_values(system="X11; Linux x86_64")


class Server:
    """h11 answering one connection."""

    def __init__(self, rig, number, link):
        self.rig, self.number, self.link = rig, number, link
        self.h11, self.request = h11.Connection(h11.SERVER), None

    def flush(self):
        for data in self.link.data_to_send():
            self.h11.receive_data(bytes(data))
        while True:
            event = self.h11.next_event()
            if isinstance(event, h11.Request):
                self.request = event
            elif isinstance(event, h11.EndOfMessage):
                path = self.request.target.decode()
                self.rig.asked.append((self.rig.now, self.number, path))
                self.rig.later(self.rig.latency.get(path, self.rig.rtt), self.respond, path)
            else:
                return

    def respond(self, path):
        status, headers, body = self.rig.site.get(path, (404, [("Content-Length", "0")], b""))
        data = self.h11.send(h11.Response(status_code=status, headers=headers))
        if body:
            data += self.h11.send(h11.Data(data=body))
        data += self.h11.send(h11.EndOfMessage())
        while data:
            size = self.rig.random.randint(1, 3000)
            (event,) = self.link.receive_data(data[:size], self.rig.now)
            assert isinstance(event, LinkMoved)
            data = data[size:]
        if self.h11.our_state is h11.MUST_CLOSE:
            self.rig.open.remove(self)
            self.link.receive_eof(self.rig.now)
        else:
            self.h11.start_next_cycle()


class Site:
    """A site and the network before it, with time that is only counted."""

    def __init__(self, visit, site=SITE, seed=0, rtt=0.02, dial=0.012, latency=None):
        self.visit, self.site, self.random, self.now = visit, site, random.Random(seed), 100.0
        self.rtt, self.dial, self.latency = rtt, dial, latency or {}
        self.asked, self.dialled, self.agenda = [], [], []
        self.open, self.most_open = [Server(self, 0, visit)], 1
        self.made, self.refuses = 0, False

    @property
    def paths(self):
        return [path for _, _, path in self.asked]

    def later(self, delay, what, *arguments):
        self.agenda.append((self.now + delay, len(self.agenda), what, arguments))

    def run(self, turns=4000):
        for _ in range(turns):
            for server in list(self.open):
                server.flush()
            for _ in range(self.visit.take_wanted()):
                self.dialled.append(self.now)
                self.later(self.dial, self.dialled_one)
            if self.visit.done:
                return self
            due = self.visit.deadline()
            times = [one[0] for one in self.agenda] + ([] if due is None else [due])
            self.now = max(self.now, min(times))
            ready = sorted(one[:2] for one in self.agenda if one[0] <= self.now)
            for one in [known for known in self.agenda if known[:2] in ready]:
                self.agenda.remove(one)
                one[2](*one[3])
            if due is not None and due <= self.now:
                self.visit.on_deadline(self.now)
        raise AssertionError("the visit does not end")

    def dialled_one(self):
        if self.refuses:
            self.visit.dial_failed(self.now)
            return
        self.made += 1
        self.open.append(Server(self, self.made, self.visit.open_beside()))
        self.most_open = max(self.most_open, len(self.open))


def visit(look=CHROMIUM, memory=None, page="/", **options):
    memory = SiteMemory() if memory is None else memory
    pool = H1Pool(look.name, look.loading.http1_patient, **options)
    return Visit(pool, look, HOST, page, memory, random.Random(1), 100.0, CLOCK)


@pytest.mark.parametrize("look", [CHROMIUM, FIREFOX], ids=["chromium", "firefox"])
@pytest.mark.parametrize("seed", range(3))
def test_a_page_and_what_it_names(look, seed):
    one = visit(look)
    site = Site(one, seed=seed).run()
    assert sorted(site.paths) == ["/", "/a.css", "/b.js", "/c.png", "/d.png", "/favicon.ico"]
    assert one.usable
    assert one.http2 is None
    assert not one.load.failed


def test_connections_are_opened_as_chromium_opened_them():
    """Recorded with answers after 20 ms: the style sheet on the page's connection, one more for each other
    thing that is found at once, opened in that moment, and everything later on what is free."""
    page = b"<link rel=stylesheet href=/s/a.css><script src=/s/a.js></script>"
    page += b"<img src=/s/1.png><img src=/s/2.png>"
    site = {
        "/": (200, [("Content-Length", str(len(page)))], page),
        "/s/a.css": (200, [("Transfer-Encoding", "chunked")], b"p { background: url(/s/background.png) }"),
    }
    rig = Site(visit(), site).run()
    where = {path: number for _, number, path in rig.asked}
    when = {path: time for time, _, path in rig.asked}
    assert [where["/"], where["/s/a.css"]] == [0, 0]
    assert len(rig.dialled) == 3
    assert max(rig.dialled) - when["/s/a.css"] < 0.02  # before its answer is there
    assert len({where["/s/a.js"], where["/s/1.png"], where["/s/2.png"]}) == 3
    assert when["/s/background.png"] > when["/s/a.css"]


CHROMIUM_RICH = [
    "/rich", "/r/first.css", "/r/second.css", "/r/preload.woff2", "/r/preload.js", "/r/modulepreload.js",
    "/r/head.js", "/r/module.js",
]  # fmt: skip
FIREFOX_RICH = [
    "/rich", "/r/first.css", "/r/preload.woff2", "/r/preload.js", "/r/modulepreload.js", "/r/head.js",
    "/r/defer.js", "/r/async.js", "/r/module.js", "/r/second.css", "/r/body.js", "/r/body.css", "/r/last.js",
]  # fmt: skip
"""What each asked for first over HTTP/1.1, with answers after 40 ms (2026-11); Firefox's order varied."""


@pytest.mark.parametrize(
    ("look", "recorded"), [(CHROMIUM, CHROMIUM_RICH), (FIREFOX, FIREFOX_RICH)], ids=["chromium", "firefox"]
)
def test_a_rich_page_is_asked_for_as_recorded(look, recorded):
    site = {}
    for path in recorded:
        body = RICH if path == "/rich" else b"/* */"
        site[path] = 200, [("Content-Length", str(len(body)))], body
    rig = Site(visit(look, page="/rich"), site, rtt=0.04, dial=0.006).run()
    assert rig.most_open == 6
    first = rig.paths[: len(recorded)]
    if look is CHROMIUM:
        assert first == recorded
        return
    assert sorted(first) == sorted(recorded)
    when = {path: time for time, _, path in rig.asked}
    assert when["/r/high.png"] > max(when[path] for path in recorded) + 0.039  # not before all are answered


def test_no_more_than_six_at_once_and_the_most_urgent_first():
    head = b"".join(b"<script src=/%d.js></script>" % number for number in range(8))
    pictures = b"".join(b"<img src=/%d.png>" % number for number in range(20))
    page = b"<link rel=stylesheet href=/a.css>" + head + b"<body>" + pictures
    site = {"/": (200, [("Content-Length", str(len(page)))], page)}
    rig = Site(visit(), site, latency={f"/{n}.js": 0.2 for n in range(8)}).run()
    assert rig.most_open == 6
    assert len(rig.dialled) == 5
    assert len(rig.paths) == 1 + 1 + 8 + 20 + 1
    order = [path for path in rig.paths if path.endswith((".js", ".png"))]
    assert all(path.endswith(".js") for path in order[:6])


def test_a_carrier_s_connections_are_left_to_it():
    page = b"".join(b"<img src=/%d.png>" % n for n in range(20))
    rig = Site(visit(most=3), {"/": (200, [("Content-Length", str(len(page)))], page)}).run()
    assert rig.most_open == 3
    assert len(rig.paths) == 22


def test_a_server_that_closes_after_each_answer_is_asked_on_new_connections():
    page = b"".join(b"<img src=/%d.png>" % n for n in range(12))
    close = ("Connection", "close")
    site = {f"/{n}.png": (200, [close, ("Content-Length", "1")], b"x") for n in range(12)}
    site |= {
        "/": (200, [close, ("Content-Length", str(len(page)))], page),
        "/favicon.ico": (404, [close], b""),
    }
    rig = Site(visit(), site).run()
    assert sorted(rig.paths) == sorted(site)
    assert rig.most_open <= 6
    assert len(rig.dialled) >= 13


def test_connections_are_not_made_without_end():
    page = b"".join(b"<img src=/%d.png>" % n for n in range(79))
    close = ("Connection", "close")
    site = {f"/{n}.png": (200, [close, ("Content-Length", "1")], b"x") for n in range(79)}
    site["/"] = 200, [close, ("Content-Length", str(len(page)))], page
    rig = Site(visit(), site).run()
    assert 1 + len(rig.dialled) == MAX_DIALS
    assert len(rig.paths) == MAX_DIALS


def test_where_no_further_connection_can_be_made_one_does_it():
    rig = Site(visit(), SITE)
    rig.refuses = True
    rig.run()
    assert sorted(rig.paths) == ["/", "/a.css", "/b.js", "/c.png", "/d.png", "/favicon.ico"]
    assert {number for _, number, _ in rig.asked} == {0}
    assert 1 <= len(rig.dialled) <= 3


def test_a_request_that_crosses_the_server_s_close_is_sent_again():
    pool = H1Pool("chromium")
    first = pool.open()
    fields = [(":method", "GET"), (":authority", "a"), (":path", "/")]
    pool.send_request(fields, 0, None, 0.0)
    assert len(first.data_to_send()) == 1
    first.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0.0)
    again = pool.send_request(fields, 0, None, 0.0)
    assert len(first.data_to_send()) == 1
    assert [type(event) for event in first.receive_eof()] == [ConnectionEnded]
    assert pool.go_on() == []
    assert pool.take_wanted() == 1
    second = pool.open()
    assert second.current is again
    assert [type(event) for event in second.receive_eof()] == [
        StreamReset,
        ConnectionEnded,
    ]  # a new one: no more


def test_what_nobody_can_send_any_more_is_told():
    pool = H1Pool("chromium", most=1)
    client = pool.open()
    fields = [(":method", "GET"), (":authority", "a"), (":path", "/")]
    streams = [pool.send_request(fields, 0, None, 0.0) for _ in range(3)]
    assert [event.stream for event in client.receive_eof()[:1]] == streams[:1]
    assert pool.go_on() == []
    assert pool.take_wanted() == 1
    pool.failed()
    assert [event.stream for event in pool.go_on()] == streams[1:]
    assert pool.ending


def test_firefox_sends_no_picture_while_a_script_is_under_way():
    pool = H1Pool("firefox", FIREFOX.loading.http1_patient)
    clients = [pool.open()]
    fields = [(":method", "GET"), (":authority", "a"), (":path", "/")]
    script = pool.send_request([*fields, ("sec-fetch-dest", "script")], 3, None, 0.0)
    picture = pool.send_request([*fields, ("sec-fetch-dest", "image")], 1, None, 0.0)
    assert pool.take_wanted() == 1  # though it will not be used yet
    clients.append(pool.open())
    assert [client.current for client in clients] == [script, None]
    clients[0].receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0.0)
    pool.go_on()
    assert picture in [client.current for client in clients]


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
    assert not one.usable
    assert one.data_to_send() == []
    one.on_deadline(one.deadline())
    assert not one.done
    assert one.take_wanted() == 1  # what the page names is asked for elsewhere
    one.dial_failed(101.0)
    while not one.done:
        one.on_deadline(one.deadline())
    assert one.load.asked == 2


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
    assert one.done


@given(st.lists(st.binary(max_size=200), max_size=8), st.sampled_from(["h1", "h2"]))
def test_nothing_a_site_says_raises(pieces, kind):
    client = H1Pool("chromium") if kind == "h1" else H2Client(CHROMIUM.http2, 100.0)
    one = Visit(client, CHROMIUM, HOST, "/", SiteMemory(), random.Random(1), 100.0, CLOCK)
    one.data_to_send()
    for piece in pieces:
        one.receive_data(piece, 100.0)
        one.data_to_send()
        if one.deadline() is not None:
            one.on_deadline(one.deadline())
    one.receive_eof(101.0)
    if one.take_wanted():
        one.dial_failed(101.0)
    assert one.done


@example(b"\n", [79])
@given(st.binary(max_size=120), st.lists(st.integers(0, 400), max_size=6))
def test_events_do_not_depend_on_how_the_input_is_split(tail, cuts):
    data = (
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        + tail
    )

    def told(pieces):
        pool = H1Pool("chromium")
        client = pool.open()
        pool.send_request([(":method", "GET"), (":authority", "a"), (":path", "/")], 0, None, 0.0)
        said = []
        for piece in pieces:
            said += client.receive_data(piece, 0.0)
        kinds = [type(event).__name__ for event in said if not hasattr(event, "data")]
        return kinds, b"".join(bytes(event.data) for event in said if hasattr(event, "data"))

    edges = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    assert told([data[a:b] for a, b in itertools.pairwise(edges)]) == told([data])


def test_urgent_requests_go_first_and_priorities_change_the_order():
    pool = H1Pool("chromium", most=1)
    client = pool.open()
    fields = [[(":method", "GET"), (":authority", "a"), (":path", f"/{n}")] for n in range(4)]
    pool.send_request(fields[0], 3, None, 0.0)
    slow = pool.send_request(fields[1], 3, None, 0.0)
    pool.send_request(fields[2], 2, None, 0.0)
    pool.send_priority(slow, 1)
    order = []
    for _ in range(3):
        (head,) = client.data_to_send()
        order.append(head.split()[1])
        client.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0.0)
        assert pool.go_on() == []
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


class Unruly(Site):
    """Connections that end, are refused or talk nonsense, as a list of numbers says."""

    def __init__(self, visit, deeds, **options):
        super().__init__(visit, **options)
        self.deeds = deeds

    def next_deed(self):
        return self.deeds.pop() if self.deeds else 9

    def dialled_one(self):
        self.refuses = self.next_deed() == 0
        super().dialled_one()

    def later(self, delay, what, *arguments):
        if what == self.dialled_one:
            super().later(delay, what)
        else:
            super().later(delay, self.done_badly, what, *arguments)

    def done_badly(self, what, *arguments):
        server, deed = what.__self__, self.next_deed()
        if server not in self.open:
            return
        if deed == 1:
            server.link.receive_data(b"HTTP/9 what", self.now)
        elif deed == 2:
            server.link.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", self.now)
        elif deed == 3:
            server.link.receive_data(b"HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\nHTTP/1.1", self.now)
        elif deed != 4:
            what(*arguments)
            return
        self.open.remove(server)
        server.link.receive_eof(self.now)


@pytest.mark.parametrize("look", [CHROMIUM, FIREFOX], ids=["chromium", "firefox"])
@given(deeds=st.lists(st.integers(0, 9), max_size=60), most=st.integers(1, 6))
def test_whatever_becomes_of_its_connections_a_visit_ends(deeds, look, most):
    one = visit(look, page="/rich", most=most)
    rig = Unruly(one, deeds, site={"/rich": (200, [("Content-Length", str(len(RICH)))], RICH)}).run()
    assert rig.most_open <= most
    assert 1 + len(rig.dialled) <= MAX_DIALS
    assert one.load.finished
    assert rig.now < 131
