"""A page load asks for what Chromium asked for, in its order; a hostile site can only shorten it."""

from __future__ import annotations

import gzip
import json
import random
import time
from itertools import pairwise

import h2.events
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from page_rig import CHROMIUM, CLOCK, HOST, Rig
from test_codec_h2_golden import BROWSERS, VECTORS, browser, expand
from test_codec_page_body import PACK

from ptproxy.codec.http2 import frames
from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.http2.plain import encode_plainly
from ptproxy.codec.http2.stream import DataReceived, HeadReceived, StreamReset
from ptproxy.codec.page.cache import MAX_NAMED, SiteMemory
from ptproxy.codec.page.load import MAX_ASSETS, MAX_STYLES, PageLoad
from ptproxy.codec.page.scan import MAX_CSS

HTML = [("content-type", "text/html")]
KEEP = [("cache-control", "max-age=3600")]


ASK_PAUSE = CHROMIUM.loading.delays["ask_pause"][1]
FIREFOX = browser("firefox").with_values(system="X11; Linux x86_64")


def recorded(name, kind="chromium"):
    for one in json.loads((VECTORS / f"h2-{kind}.json").read_text())["conversations"]:
        if one["name"] == name:
            return one["steps"]
    raise AssertionError(name)


class Served:
    """Feeds a load what a recorded server sent, each answer once it was asked for."""

    def __init__(self, steps, path, look=CHROMIUM, host=HOST):
        self.client = H2Client(look.http2, 0.0)
        self.memory, self.now, self.written = SiteMemory(), 0.0, []
        self.load = PageLoad(self.client, look, host, path, self.memory, random.Random(1), 0.0, CLOCK)
        self.steps = steps

    def run(self, until):
        """Follow the recording up to the request for ``until``; returns both sides' writes."""
        expected = []
        for step in self.steps:
            if step.get("variables", {}).get("path") == until:
                break
            if "server" in step:
                for event in self.client.receive_data(expand(step["server"]), self.now):
                    assert self.load.receive_event(event, self.now)
            elif "client" in step:
                expected.append(expand(step["client"]))
                self.write(len(expected))
        return self.written, expected

    def write(self, count):
        """Let time pass until the load has written so much."""
        for _ in range(50):
            self.written += [bytes(write) for write in self.client.data_to_send()]
            due = self.load.deadline()
            if len(self.written) >= count or due is None:
                return
            self.now = due
            self.load.on_deadline(due)


@pytest.mark.parametrize("name", ["simple 0 /", "cookie 0 /?stay"])
def test_a_recorded_page_load_is_written_again(name):
    """Page, style sheet, script, two pictures, background, font and icon: nothing is told but the address."""
    served = Served(recorded(name), name.split()[-1])
    written, expected = served.run("/api/items")
    assert [write.hex() for write in written] == [write.hex() for write in expected]
    assert len(expected) == 10


def test_a_rich_page_is_asked_for_in_the_recorded_order():
    """Up to the end of tight mode exactly; behind it the same requests with the same priority fields."""
    site, steps = rich_site("chromium")
    rig = Rig(site, "/rich").run()
    want = [step["variables"]["path"] for step in steps]
    assert rig.paths[:11] == want[:11]
    late = {"/r/lazy-near.png", "/r/lazy-far.png"}  # only layout can tell them apart
    assert set(rig.paths) - late == set(want) - late
    assert len(rig.paths) == len(set(rig.paths))
    for step in steps:
        path = step["variables"]["path"]
        if path in rig.paths:
            said = dict(rig.fields(path)).get("priority", "u=3")
            assert f"u={step['said']}" == (said if said.startswith("u=") else "u=3")[:3], path
    assert [weight for _, _, weight in rig.priorities].count(220) >= 3


SITE = {
    "/": (
        200,
        [*HTML, ("etag", '"1"'), ("cache-control", "no-cache"), ("set-cookie", "sid=1; Path=/; Max-Age=600")],
        b"<link rel=stylesheet href=/a.css><script src=b.js></script><body><img src='c.png?x=1&amp;y=2'>",
    ),
    "/a.css": (200, [("cache-control", "max-age=60")], b"h1 { background: url(d.png) }"),
    "/b.js": (200, KEEP, b"1"),
    "/c.png?x=1&y=2": (200, [("etag", '"c"'), ("cache-control", "no-cache")], b"png"),
    "/d.png": (200, KEEP, b"png"),
    "/favicon.ico": (200, KEEP, b"ico"),
}


def test_first_and_later_visits():
    first = Rig(SITE).run()
    assert first.paths == ["/", "/a.css", "/b.js", "/c.png?x=1&y=2", "/d.png", "/favicon.ico"]
    assert first.fields("/a.css")["cookie"] == "sid=1"
    assert "if-none-match" not in first.fields("/")
    memory = SiteMemory.load(json.loads(json.dumps(first.memory.dump())))
    later = Rig(SITE, memory=memory, clock=CLOCK + 30).run()
    assert later.paths == ["/", "/c.png?x=1&y=2"]
    assert later.fields("/")["if-none-match"] == '"1"'
    assert later.fields("/")["cookie"] == "sid=1"
    stale = Rig(SITE, memory=memory, clock=CLOCK + 100).run()
    assert stale.paths == ["/", "/a.css", "/c.png?x=1&y=2"]


def test_delays_lie_where_a_browser_has_them():
    together = 0
    for seed in range(30):
        rig = Rig(SITE, seed=seed).run()
        times = [when for when, _ in rig.requests]
        assert 0.015 <= times[1] - times[0] - rig.rtt <= 0.061
        gaps = [later - before for before, later in pairwise(times[1:4])]
        assert all(gap <= CHROMIUM.loading.delays["ask_pause"][1] + 1e-9 for gap in gaps)
        together += sum(gap == 0 for gap in gaps)
    assert 20 < together < 60, "of 60: browsers ask in clumps"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity"])
def test_encoded_pages_are_read(encoding):
    status, fields, body = SITE["/"]
    packed = PACK[encoding](body)
    rig = Rig({**SITE, "/": (status, [*fields, ("content-encoding", encoding)], packed)}).run()
    assert "/b.js" in rig.paths


def test_an_encoding_without_decoder_leaves_only_the_icon():
    status, fields, body = SITE["/"]
    rig = Rig({**SITE, "/": (status, [*fields, ("content-encoding", "dcb")], body)}).run()
    assert rig.paths == ["/", "/favicon.ico"]


def test_redirects_within_the_host_are_followed():
    site = {**SITE, "/old": (302, [("location", "https://site.example/")], b"")}
    assert Rig(site, "/old").run().paths[:2] == ["/old", "/"]


@pytest.mark.parametrize(
    "location", ["https://elsewhere.example/", "http://site.example/", "//[", "", "/old"]
)
def test_other_redirects_end_the_load(location):
    rig = Rig({"/old": (302, [("location", location)], b"")}, "/old").run()
    assert rig.load.failed
    assert len(rig.paths) <= 6


@pytest.mark.parametrize("status", [404, 500, 204])
def test_a_page_that_is_missing_ends_the_load(status):
    rig = Rig({"/": (status, [], b"")}).run()
    assert rig.load.failed
    assert rig.paths == ["/"]


def test_a_page_that_breaks_off_leaves_nothing_under_way():
    """A style sheet without end would come for as long as the connection is kept."""
    rig = Rig({})
    load, client = rig.load, rig.client
    (page,) = load._fetches
    load.receive_event(HeadReceived(page, 200, []), rig.now)
    load.receive_event(DataReceived(page, b'<link rel="stylesheet" href="/a.css">'.ljust(4096)), rig.now)
    while load.asked == 1:
        rig.now = load.deadline()
        load.on_deadline(rig.now)
    for write in client.data_to_send():
        rig.server.receive_data(bytes(write))
    load.receive_event(StreamReset(page, 2), rig.now)
    assert load.finished
    assert load.failed
    events = [event for write in client.data_to_send() for event in rig.server.receive_data(bytes(write))]
    assert [event.stream_id for event in events if isinstance(event, h2.events.StreamReset)] == [3]


def test_a_site_that_never_answers_is_given_up():
    rig = Rig(SITE, rtt=1000.0).run()
    assert 129.9 < rig.now < 130.1
    assert rig.paths == ["/"]


def test_other_hosts_are_named_and_not_asked():
    page = b"<img src=//cdn.example/x.png><img src=https://site.example:443/y.png><img src=data:,x>"
    rig = Rig({"/": (200, HTML, page), "/y.png": (200, [], b"x")}).run()
    assert rig.paths == ["/", "/y.png", "/favicon.ico"]
    assert rig.load.foreign == {"cdn.example"}


def test_a_base_element_counts_now_and_from_the_cache():
    page = b"<base href='/sub/'><img src=a.png><base href=/no/><img src=/b.png>"
    site = {"/": (200, [*HTML, ("etag", '"1"')], page)}
    first = Rig(site).run()
    assert first.paths[1:3] == ["/sub/a.png", "/b.png"]
    assert Rig(site, memory=first.memory).run().paths[:3] == ["/", "/sub/a.png", "/b.png"]


def test_a_page_that_names_too_much_is_cut_short():
    page = b"".join(b"<img src=/%d.png>" % number for number in range(5000))
    rig = Rig({"/": (200, HTML, page)}).run()
    assert len(rig.paths) == MAX_ASSETS + 1


def test_style_sheets_that_import_each_other_end():
    site = {"/": (200, HTML, b"<link rel=stylesheet href=/0.css>")}
    site |= {f"/{n}.css": (200, [], b"@import url(/%d.css);" % ((n + 1) % 30)) for n in range(30)}
    assert len(Rig(site).run().paths) == 32


@pytest.mark.parametrize("name", ["simple 0 /", "cookie 0 /?stay"])
def test_firefox_s_page_load_is_written_again(name):
    """Page, style sheet, script and pictures; what layout finds comes in an order that varies."""
    host = json.loads((VECTORS / "h2-firefox.json").read_text())["source"]["host"]
    served = Served(recorded(name, "firefox"), name.split()[-1], FIREFOX, host)
    written, expected = served.run("/s/font.woff2")
    written[1:3] = reversed(written[1:3])  # it asks after the server's settings: so does a visit
    assert [write.hex() for write in written] == [write.hex() for write in expected]
    assert len(expected) == 7


def rich_site(kind):
    """The page and everything it names, from the recording; the requests that asked for it."""
    steps = recorded("rich 0 /rich", kind)
    body = next(expand(s["server"]) for s in steps if "server" in s and len(s["server"]) > 2000)
    site = {"/rich": (200, HTML, body[body.index(b"<!doctype") :])}
    asked = [step for step in steps if "kind" in step and step["kind"] != "video"]
    for step in asked[1:]:
        of = {"style": "text/css", "script": "text/javascript"}.get(step["kind"], "image/png")
        site[step["variables"]["path"]] = (200, [("content-type", of)], b"x")
    css = b"@font-face {src: url(/r/font.woff2)} h1 {background: url('/r/background.png')}"
    site["/r/first.css"] = (200, [], css)
    return site, asked


def test_firefox_asks_for_a_rich_page_in_its_own_order():
    """As the document has it, pictures a moment later, what layout finds in any order; nothing held back."""
    site, asked = rich_site("firefox")
    rig = Rig(site, "/rich", look=FIREFOX).run()
    want = [step["variables"]["path"] for step in asked]
    first = want.index("/r/prefetch.js") + 1
    assert rig.paths[:first] == want[:first]
    late = {"/r/lazy-far.png"}  # only layout can tell that it is not near
    assert set(rig.paths) - late == set(want)
    assert rig.paths[-1] == want[-1] == "/r/icon.png"
    for step in asked:
        said = dict(rig.fields(step["variables"]["path"])).get("priority", "u=3")
        assert f"u={step['said']}" == (said if said.startswith("u=") else "u=3")[:3], step
    assert rig.moved == []


def test_weights_are_those_that_firefox_gave():
    site, asked = rich_site("firefox")
    rig = Rig(site, "/rich", look=FIREFOX).run()
    given = dict(zip(rig.paths, [weight for _, _, weight in rig.priorities], strict=True))
    weights = FIREFOX.http2.weights
    for step in asked:
        path = step["variables"]["path"]
        if path != "/r/background.png":  # 23 or 13, in one visit or another
            assert given[path] == weights[step["urgency"]], path


def test_both_browsers_load_every_page():
    assert set(BROWSERS) == {"chromium", "firefox"}
    for look in (CHROMIUM, FIREFOX):
        for seed in range(20):
            assert sorted(Rig(SITE, look=look, seed=seed).run().paths) == sorted(SITE)


PIECES = st.sampled_from(
    [
        b"<img src=", b"a.png", b"'", b'"', b">", b"<!--", b"-->", b"<script src=x.js>", b"</script>",
        b"<link rel=", b"stylesheet href=a.css ", b"<base href=//other>", b"<base href='//['>", b"<", b"</",
        b"<body", b"&#x110000;", b"srcset='a 1x, b 2w, c xx'", b"<picture><source srcset=p.webp>",
        b"\xff\xfe", b"<style>", b" ", b"%", b"\0", b"<iframe src=f>", b"javascript:x", b"https://[::1",
        b"url(x.png)", b"\xc3\xa9",
    ]
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(PIECES, max_size=40), st.lists(PIECES, max_size=10), st.integers(0, 99))
def test_nothing_a_site_says_raises(page, style, seed):
    site = {"/": (200, HTML, b"".join(page)), "/a.css": (200, [], b"".join(style) + b"url(a.png)")}
    rig = Rig(site, seed=seed).run()
    assert len(rig.paths) <= MAX_ASSETS + 1
    assert all(path.isascii() and path.startswith("/") and " " not in path for path in rig.paths)


FIELDS = st.tuples(
    st.sampled_from(
        ["cache-control", "expires", "etag", "last-modified", "set-cookie", "vary", "content-encoding"]
    ),
    st.one_of(
        st.sampled_from(
            [
                "no-store",
                "max-age=99999999999",
                "max-age=-1",
                "a=b; Max-Age=0",
                "a=b; Path=/x",
                "*",
                "gzip",
                "\xff",
            ]
        ),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
    ),
)


@settings(max_examples=60)
@given(st.lists(FIELDS, max_size=8))
def test_no_header_field_raises(fields):
    memory = SiteMemory()
    for _ in range(2):
        Rig({**SITE, "/a.css": (200, fields, b"x")}, memory=memory).run()
    SiteMemory.load(json.loads(json.dumps(memory.dump())))


def test_style_sheets_alone_hold_nothing_back():
    """Deferred scripts and pictures are asked for beside the head's style sheets (Chromium 156, 2026-11)."""
    pictures = b"".join(b"<img src=/%d.png>" % number for number in range(6))
    page = (
        b"<!doctype html><title>p</title><link rel=stylesheet href=/a.css><script defer src=/d.js></script>"
    )
    rig = Rig({"/": (200, [], page + pictures), "/a.css": (200, [], b"p {}")}).run()
    asked = [when for when, fields in rig.requests if dict(fields)[":path"] not in ("/", "/favicon.ico")]
    assert len(asked) == 8  # one after another, none waits for an answer
    assert all(later - before <= ASK_PAUSE + 1e-9 for before, later in pairwise(asked))
    held = b"<script src=/h.js></script>"
    rig = Rig({"/": (200, [], page + held + pictures), "/h.js": (200, [], b"1")}, rtt=0.2).run()
    times = {dict(fields)[":path"]: when for when, fields in rig.requests}
    assert times["/5.png"] - times["/h.js"] >= 0.2


def test_a_page_alone():
    rig = Rig(SITE)
    rig.load.page_alone = True
    assert rig.run().paths == ["/"]


def test_a_style_sheet_byte_by_byte_costs_no_more_than_its_bytes():
    """40,000 DATA frames of one byte stood the loop for 20 s when their sizes were added up each time."""
    rig = Rig({})
    rig.client.data_to_send()
    page = b"<link rel=stylesheet href=/a.css>".ljust(2000)

    def arrive(data):
        for event in rig.client.receive_data(data, rig.now):
            assert rig.load.receive_event(event, rig.now)
        return rig.client.data_to_send()

    head = frames.headers_frames(1, encode_plainly([(":status", "200")]), False, None)
    body = frames.frame_head(frames.DATA, frames.END_STREAM, 1, len(page)) + page
    arrive(frames.settings_frame([]) + head + body)
    rig.load.on_deadline(rig.now + 1)
    rig.client.data_to_send()
    arrive(frames.headers_frames(3, encode_plainly([(":status", "200")]), False, None))
    piece = frames.frame_head(frames.DATA, 0, 3, 1) + b" "
    began = time.process_time()
    for _ in range(400):
        arrive(piece * 100)
    assert time.process_time() - began < 5.0
    assert rig.load.asked == 2


ENTRY = {"etag": '"1"', "last_modified": "", "fresh_until": 0.0, "hints": []}


@pytest.mark.parametrize(
    ("entries", "cookies"),
    [
        ({"/": ENTRY | {"fresh_until": "soon"}}, []),
        ({"/": ENTRY | {"etag": 5}}, []),
        ({"/": ENTRY | {"etag": "\u4e00"}}, []),
        ({"/": ENTRY | {"last_modified": "a\r\nX: y"}}, []),
        ({"/": ENTRY | {"hints": [{"url": 5, "what": "image"}]}}, []),
        ({"/": ENTRY | {"hints": [{"url": "\ud800", "what": "image"}]}}, []),
        ({"/a b": ENTRY}, []),
        ({}, [["a", "b\r\nX: y", "/", 1.0, 1.0, 1.0]]),
        ({}, [["a", "\u4e00", "/", 1.0, 1.0, 1.0]]),
        ({}, [["a;b", "c", "/", 1.0, 1.0, 1.0]]),
        ({}, [["a", "b", 5, 1.0, 1.0, 1.0]]),
        ({}, [["a", "b", "/", None, 1.0, 1.0]]),
        ({}, [["a", "b" * 4096, "/", 1.0, 1.0, 1.0]]),
        ({}, [[f"a{n}", "b", "/", 1.0, 1.0, 1.0] for n in range(181)]),
        ({}, ["a"]),
        ({}, {"a": "b"}),
        ({}, 5),
    ],
)
def test_a_damaged_memory_is_refused_before_it_is_put_into_requests(entries, cookies):
    SiteMemory.load({"entries": {"/": ENTRY}, "cookies": [["a", "b", "/", 1.0, 1.0, 1.0]]})
    with pytest.raises((KeyError, TypeError, ValueError)):
        SiteMemory.load({"entries": entries, "cookies": cookies})


def test_what_a_page_named_is_remembered_within_bounds():
    """80 style sheets of half a megabyte each, a few KiB in gzip, were kept in memory and on disk."""
    css = gzip.compress(b"".join(b"a{b:url(/%04d%s)}" % (number, b"x" * 2000) for number in range(200)))
    rig = Rig(
        {
            "/": (200, HTML, b"<link rel=stylesheet href=/a.css>"),
            "/a.css": (200, [*KEEP, ("content-encoding", "gzip")], css),
        }
    ).run()
    hints = rig.memory.entries["/a.css"].hints
    assert 0 < sum(len(hint.url) for hint in hints) <= MAX_NAMED


def test_of_style_sheets_only_so_many_bytes_are_read():
    """80 of them, half a megabyte each of a few KiB in gzip, took 20 s of the loop."""
    count = MAX_STYLES // MAX_CSS + 3
    names = [f"/{number}.css" for number in range(count)]
    page = "".join(f"<link rel=stylesheet href={name}>" for name in names).encode()
    site = {"/": (200, HTML, page)}
    for number, name in enumerate(names):
        css = gzip.compress((b"a { background: url(/%d.png) }" % number).ljust(MAX_CSS))
        site[name] = (200, [*KEEP, ("content-encoding", "gzip")], css)
    rig = Rig(site).run()
    named = [name for name in names if rig.memory.entries[name].hints]
    assert len(named) == MAX_STYLES // MAX_CSS
