"""The preload scanner: what it sees, and that hostile pages cost no more than their bytes."""

from __future__ import annotations

import time
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.page.scan import (
    MAX_HTML,
    MAX_STEPS,
    MAX_STYLE_URLS,
    SCAN_AT,
    Hint,
    PageScanner,
    choose_candidate,
    style_urls,
)


def scan(page, size=1 << 20):
    scanner = PageScanner()
    found = []
    for at in range(0, len(page), size):
        found += scanner.feed(page[at : at + size], False)
    return found + scanner.feed(b"", True)


@pytest.mark.parametrize(
    ("page", "hints"),
    [
        (b"<LINK REL='Alternate Stylesheet' href=x><link rel=stylesheet href=a>", [Hint("a", "style")]),
        (b"<!-- <img src=x> --><img src=a>", [Hint("a", "image", False)]),
        (
            b"<script>'<img src=x>'</script><script src=a async></script>",
            [Hint("a", "script", deferred=True)],
        ),
        (b"<script src=a type=module></script><script src=x type=json></script>", [Hint("a", "module")]),
        (b"<noscript><img src=x></noscript><script nomodule src=x></script>", []),
        (b"<img data-src=x><img src='a b'>", [Hint("a b", "image", False)]),
        (b"<img src=a width=10 height=10>", [Hint("a", "image", False, small=True, height=10)]),
        (b"<picture><source srcset=a type=image/webp><img src=x></picture>", [Hint("a", "image")]),
        (b"<picture><source srcset=x type=x/y><img src=a></picture>", [Hint("a", "image", False)]),
        (b"<img src=a&amp;b loading=lazy>", [Hint("a&b", "image", False, lazy=True)]),
        (b"<body><link rel=stylesheet href=a>", [Hint("a", "style", False)]),
        (
            b"<link rel=preload as=font href=a><link rel=preload as=fetch href=x>",
            [Hint("a", "font", preload=True)],
        ),
        (b"<!-- <img src=x>", []),
    ],
)
def test_what_it_sees(page, hints):
    found = scan(page)
    assert found == hints


PARTS = [
    b"<img src=a.png>",
    b"<!-- x -->",
    b"text",
    b"<script>",
    b"</script>",
    b"<b c='",
    b">",
    b"<i d=\xc3\xa9>",
]


@given(st.lists(st.sampled_from(PARTS)), st.integers(1, 40))
def test_any_split_gives_the_same(parts, size):
    page = b"".join(parts) * 20
    assert scan(page, size) == scan(page)


@pytest.mark.parametrize("page", [b"<img src=a", b"<img src='a><p>text", b"<img", b"<!-", b"<"])
def test_a_page_cut_short_ends(page):
    assert len(scan(page)) <= 1


@pytest.mark.parametrize(
    "unit",
    [
        b"<a ",
        b"<a b='",
        b"<!--",
        b"<!",
        b"</",
        b"<",
        b"<script>",
        b"<script></scr",
        b"<a " + b" " * 500,
        b"&",
        b"<a b=",
    ],
)
def test_hostile_pages_cost_no_more_than_their_bytes(unit):
    page = (unit * (1 << 19))[: 1 << 19]
    began = time.process_time()
    scan(page, 4096)
    assert time.process_time() - began < 5.0


@pytest.mark.parametrize("unit", [b"/*", b"url(", b"url( ", b"url('", b"@import ", b"url(a)"])
def test_hostile_style_sheets_cost_no_more_than_their_bytes(unit):
    began = time.process_time()
    style_urls((unit * (1 << 19))[: 1 << 19])
    assert time.process_time() - began < 5.0


def test_style_sheets():
    text = b"@import url(i.css); /* url(x.png) */ @font-face{src:url('f.woff2?1')} a{b:url( \"p.png\" )}"
    assert style_urls(text) == (["i.css"], ["f.woff2?1"], ["p.png"])


@pytest.mark.parametrize(
    ("srcset", "url"),
    [
        ("a 1x, b 2x", "a"),
        ("a 320w, b 1280w, c 2000w", "b"),
        ("a 320w, b 640w", "b"),
        ("a", "a"),
        ("a xx", ""),
    ],
)
def test_srcset(srcset, url):
    assert choose_candidate(srcset) == url


PICTURE = b"<img src=found.png>"


def found(page):
    return [hint.url for hint in PageScanner().feed(page, True)]


@pytest.mark.parametrize("tag", [b"<b>", b"<meta>", b"<!---->", b"<script></script>", b"<a b c d>"])
def test_only_so_many_tags_and_attributes_are_looked_at(tag):
    """A page of 1 MiB of bare tags stood the loop for a second and a half."""
    steps = {b"<script></script>": 2, b"<!---->": 2, b"<a b c d>": 4}.get(tag, 1)
    fit = (MAX_STEPS - 2) // steps
    assert found(tag * fit + PICTURE) == ["found.png"]
    assert found(tag * (fit + 2) + PICTURE) == []
    scanner = PageScanner()
    pieces = [scanner.feed(tag * 500, False) for _ in range(MAX_STEPS // steps // 500 + 1)]
    assert [*chain(*pieces), *scanner.feed(PICTURE, True)] == []


@pytest.mark.parametrize("text", [b"</b>", b"<", b"< b>", b"<!doctype>", b"<?x>", b"text & text"])
def test_what_is_no_start_tag_is_passed_over_at_once(text):
    assert found(text * ((MAX_HTML - 100) // len(text)) + PICTURE) == ["found.png"]


@given(st.integers(0, 30))
def test_a_tag_that_begins_at_the_end_of_a_piece_is_found(cut):
    scanner = PageScanner()
    page = b"x" * SCAN_AT + b"<!-- <img src=no.png> -->" + PICTURE
    at = SCAN_AT + cut
    hints = [*scanner.feed(page[:at], False), *scanner.feed(page[at:], True)]
    assert [hint.url for hint in hints] == ["found.png"]


def test_only_so_many_urls_of_a_style_sheet_are_looked_at():
    same = b"a { background: url(same.png) } "
    last = b"b { background: url(last.png) }"
    assert style_urls(same * (MAX_STYLE_URLS - 1) + last)[2] == ["same.png", "last.png"]
    assert style_urls(same * MAX_STYLE_URLS + last)[2] == ["same.png"]


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (b"/* url(a) */ url(b)", ["b"]),
        (b"url(a) /* url(b)", ["a"]),
        (b"url(a)/**/url(b)/***/url(c)/*/url(d)*/url(e)", ["a", "b", "c", "e"]),
        (b"/*/ url(a)", []),
        (b"/*\n*\n/ */url(a)", ["a"]),
    ],
)
def test_comments_of_a_style_sheet(css, kept):
    assert style_urls(css)[2] == kept
