"""What a web site says to the client that visits it as a browser does."""

from __future__ import annotations

import gzip
import json
import zlib
from random import Random
from typing import Any

import brotli
from fuzz_target import Reach, Table, Tape, cut, piece, uncut
from fuzz_targets_http2 import BROWSER, H2_HELLO, h2_frame

from ptproxy.codec.http2.client import H2Client
from ptproxy.codec.page.body import BodyText
from ptproxy.codec.page.cache import SiteMemory, directives, lifetime
from ptproxy.codec.page.cookies import CookieJar, unix_time
from ptproxy.codec.page.h1_pool import H1Pool
from ptproxy.codec.page.pictures import PictureHead
from ptproxy.codec.page.plan import joined
from ptproxy.codec.page.scan import PageScanner, choose_candidate, style_hints
from ptproxy.codec.page.visit import Visit

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    from backports import zstd

TABLE = Table("pages")
HOST = "site.example"
CLOCK = 1_800_000_000.0
PAGE = (
    b"<!doctype html><html><head><base href=/a/><link rel=stylesheet href=a.css media=print>"
    b"<link rel=preload as=font href='f.woff2' crossorigin><script async src=\"b.js\"></script>"
    b"<style>@import 'c.css'; p{background:url(d.png)}</style><!-- <img src=no> --><script>x</script></head>"
    b"<body><picture><source srcset='e.webp 2x, e1.webp'><img src=e.png loading=lazy width=10 height=10>"
    b"</picture><img srcset='f.png 100w' fetchpriority=high><p>text&amp;</body></html>"
)
CSS = b"/* c */ @import url('x.css'); @font-face{src:url(a.woff2)} p{background:url( \"b.png?x\" )}"
COOKIES = (
    "a=b; Max-Age=60; Path=/x; Secure; HttpOnly; SameSite=Lax",
    "__Host-s=1; Secure; Path=/",
    "c=d; Expires=Mon, 23 Nov 2037 19:00:00 GMT; Domain=site.example",
    "e=; Expires=Monday, 23-Nov-26 19:00:00 GMT",
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
    b'Cache-Control: max-age=60\r\nETag: "x"\r\nSet-Cookie: a=b; Max-Age=60\r\n\r\n%b' % (len(PAGE), PAGE)
)


@TABLE.target(
    "scan",
    Reach.BEFORE,
    "client",
    seeds=lambda: uncut(PAGE, b"<script>" * 30, b"<a b='<", "<img src='\u00e9'>".encode()),
    longest=16384,
)
def scan(data: bytes) -> None:
    """A page, as it arrives; what it names is joined to URLs."""
    scanner = PageScanner()
    hints = []
    for part in cut(data):
        hints += scanner.feed(bytes(part), False)
    hints += scanner.feed(b"", True)
    for hint in hints[:50]:
        joined(f"https://{HOST}/" + scanner.base[:10], hint.url)


@TABLE.target(
    "styles",
    Reach.BEFORE,
    "client",
    seeds=lambda: [CSS, b"/*" * 50, b"url(" * 50, b"100w 2x, a 1x"],
    longest=16384,
)
def styles(data: bytes) -> None:
    """A style sheet, a srcset."""
    for hint in style_hints(data):
        joined(f"https://{HOST}/", hint.url)
    choose_candidate(data.decode("latin-1"))


ENCODINGS = ("gzip", "deflate", "br", "zstd", "", "x-gzip", "unknown")
LIMIT = 20_000


@TABLE.target(
    "bodies",
    Reach.BEFORE,
    "client",
    seeds=lambda: (
        [
            bytes((kind, size)) + data
            for kind, data in enumerate(
                (
                    gzip.compress(PAGE, mtime=0),
                    zlib.compress(PAGE),
                    brotli.compress(PAGE),
                    zstd.compress(PAGE),
                ),
                0,
            )
            for size in (0, 9)
        ]
        + [
            b"\2\0" + brotli.compress(bytes(1 << 20)),
            b"\3\0" + zstd.compress(bytes(1 << 20)),
            b"\0\0" + gzip.compress(bytes(1 << 20), mtime=0),
        ]
    ),
)
def bodies(data: bytes) -> None:
    """A body in each encoding: never more of it than was asked for."""
    body = BodyText(ENCODINGS[data[0] % len(ENCODINGS)] if data else "", LIMIT)
    total = sum(len(body.feed(part)) for part in cut(data[1:]))
    assert total <= LIMIT, "more text than was asked for"


@TABLE.target(
    "pictures",
    Reach.BEFORE,
    "client",
    seeds=lambda: uncut(b"\x89PNG\r\n\x1a\n" + bytes(30), b"RIFF....WEBP" + bytes(30), b"<svg"),
)
def pictures(data: bytes) -> None:
    """The beginning of a picture."""
    head = PictureHead("image/svg+xml" if data[-1:] == b">" else "image/png")
    for part in cut(data):
        head.feed(part)


@TABLE.target(
    "cookies",
    Reach.BEFORE,
    "client",
    seeds=lambda: (
        [piece(one.encode()) for one in COOKIES] + [b"".join(piece(one.encode()) for one in COOKIES)]
    ),
)
def cookies(data: bytes) -> None:
    """Set-Cookie fields of a site; the jar comes back from what is kept of it."""
    tape = Tape(data)
    jar = CookieJar()
    jar.at(CLOCK)
    while tape:
        text = tape.piece().decode("latin-1")
        jar.take([("set-cookie", text)], HOST, "/x/y?z")
        unix_time(text)
    for crumb in jar.crumbs("/x/y"):
        assert "\r" not in crumb
        assert "\n" not in crumb
        assert ";" not in crumb
    assert CookieJar.load(jar.dump()).dump() == jar.dump()


@TABLE.target(
    "memory",
    Reach.DISK,
    "client",
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    RecursionError,
    seeds=lambda: [json.dumps(_remembered()).encode()],
)
def memory(data: bytes) -> None:
    """What was kept of a site; sound ones can be used."""
    found = SiteMemory.load(json.loads(data))
    found.cookies.at(CLOCK)
    try:
        found.cookies.crumbs("/x")
        found.dump()
    except Exception as error:
        raise AssertionError("what was loaded cannot be used") from error


def _remembered() -> Any:
    made = SiteMemory()
    visit(b"\0\0" + piece(ANSWER), made)
    return made.dump()


@TABLE.target(
    "freshness",
    Reach.BEFORE,
    "client",
    seeds=lambda: [b"max-age=60, immutable\0Mon, 23 Nov 2026 19:00:00 GMT", b'a="b,c", no-store\0'],
)
def freshness(data: bytes) -> None:
    """Cache-Control and dates."""
    control, _, modified = data.decode("latin-1").partition("\0")
    lifetime({}, directives(control), modified, CLOCK)


def visit(data: bytes, known: SiteMemory | None = None) -> None:
    """A page's load; the first byte says over which HTTP, the rest what the server says where."""
    tape = Tape(data)
    remembered = SiteMemory() if known is None else known
    over_h2 = tape.byte() & 1
    client: Any = H2Client(BROWSER.http2, 100.0) if over_h2 else H1Pool(BROWSER.name)
    one = Visit(client, BROWSER, HOST, "/", remembered, Random(1), 100.0, CLOCK)
    links: list[Any] = [one]
    now = 100.0
    while tape and not one.done:
        order = tape.byte()
        link = links[order >> 4 & 3] if len(links) > order >> 4 & 3 else one
        match order & 7:
            case 0 | 1 | 2 | 3:
                said = h2_frame(tape) if over_h2 and order & 2 else tape.piece()
                link.receive_data(memoryview(bytearray(said)), now)
            case 4:
                link.receive_eof(now)
            case 5:
                now += (0.01, 1.0, 30.0)[tape.byte() % 3]
                one.on_deadline(now)
            case 6:
                one.dial_failed(now) if not over_h2 else None
            case _:
                one.give_up()
        for each in links:
            for _ in range(100):
                if not each.data_to_send():
                    break
        links += [one.open_beside() for _ in range(one.take_wanted())]
    json.dumps(remembered.dump())


VISIT_SEEDS = (
    b"\0\0"
    + piece(ANSWER)
    + b"\x10"
    + piece(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n1;\n")
    + b"\x24\x05\1",
    b"\0\0"
    + piece(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n")
    + b"\0"
    + piece(ANSWER[:99])
    + b"\4",
    b"\1\0" + piece(H2_HELLO) + b"\2\x80\0\1\0\1" + b"\2\0\1\1" + piece(PAGE) + b"\2\x80\0\3\2\3\5\1\7",
)


@TABLE.target("visit", Reach.BEFORE, "client", seeds=lambda: VISIT_SEEDS, longest=8192)
def visits(data: bytes) -> None:
    """A page is loaded over HTTP/1.1 or 2 from a server that says anything on any connection."""
    visit(data)
