"""A site's cookies are kept, sent and forgotten as browsers do it, and never more than a request can bear."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_rig import CLOCK

from ptproxy.codec.page.cookies import MAX_AGE, MAX_COOKIE, MAX_COOKIES, MAX_SENT, PURGED_TO, CookieJar

HOST = "www.site.example"


def jar(*texts, path="/", now=CLOCK):
    made = CookieJar()
    made.at(now)
    made.take([("set-cookie", text) for text in texts], HOST, path)
    return made


def later(made, seconds):
    made.at(CLOCK + seconds)
    return made.crumbs("/")


def test_a_site_that_sets_200_kb_of_cookies_makes_no_request_too_large():
    """All of it went into every request, and every request was refused from then on."""
    made = jar(*(f"c{number}={'x' * 4000}" for number in range(50)))
    assert len(made) == 50
    assert 0 < sum(len(crumb) + 2 for crumb in made.crumbs("/")) <= MAX_SENT + 2
    small = jar(*(f"c{number}={'x' * 100}" for number in range(100)))
    sent = small.crumbs("/")
    assert MAX_SENT - 110 < sum(len(crumb) + 2 for crumb in sent) <= MAX_SENT
    assert [crumb.partition("=")[0] for crumb in sent] == [f"c{number}" for number in range(len(sent))]


def test_of_too_many_the_longest_unused_go():
    made = CookieJar()
    for number in range(MAX_COOKIES):
        made.at(CLOCK + number)
        made.take([("set-cookie", f"c{number}=x; Path=/p{number}; Max-Age=99999")], HOST, "/")
    assert len(made) == MAX_COOKIES
    made.at(CLOCK + 500)
    assert made.crumbs("/p0") == ("c0=x",)
    made.take([("set-cookie", "last=x; Path=/last")], HOST, "/")
    assert len(made) == PURGED_TO
    assert made.crumbs("/p0") == ("c0=x",)  # used a moment ago
    assert made.crumbs("/p1") == ()
    assert made.crumbs(f"/p{MAX_COOKIES - 1}") == (f"c{MAX_COOKIES - 1}=x",)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a=b", True),
        ("a=", True),
        ("a=b c", True),
        ('a="b,c"', True),
        ("a=b=c", True),
        ("=b", False),
        ("b", False),
        ("", False),
        ("a=\x01", False),
        ("a=\xe9", False),
        (f"a={'b' * (MAX_COOKIE - 1)}", True),
        (f"a={'b' * MAX_COOKIE}", False),
        ("a=b; Domain=site.example", True),
        ("a=b; domain=.site.example", True),
        ("a=b; domain=WWW.SITE.EXAMPLE", True),
        ("a=b; domain=ite.example", False),
        ("a=b; domain=other.example", False),
        ("a=b; domain=x.www.site.example", False),
        ("__Host-a=b; Secure; Path=/", True),
        ("__Host-a=b; Path=/", False),
        ("__Host-a=b; Secure", False),
        ("__host-a=b; Secure; Path=/; Domain=site.example", False),
        ("__Secure-a=b; secure", True),
        ("__Secure-a=b", False),
        ("a=b; SameSite=None", False),
        ("a=b; SameSite=None; Secure", True),
        ("a=b; SameSite=Strict; HttpOnly", True),
        ("a=b; Partitioned", False),
    ],
)
def test_what_is_taken(text, kept):
    assert len(jar(text)) == kept


@pytest.mark.parametrize(
    ("attributes", "seconds"),
    [
        ("Max-Age=60", 60),
        ("max-age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 60),
        ("Max-Age=9999999999999", MAX_AGE),
        (f"Max-Age={'9' * 999}", MAX_AGE),
        ("Expires=Fri, 15 Jan 2027 08:01:00 GMT", 60),
        ("Expires=Fri, 15-Jan-2027 08:01:00 GMT", 60),
        ("Expires=Fri, 15 Jan 2100 08:01:00 GMT", MAX_AGE),
    ],
)
def test_a_cookie_ends_when_it_says(attributes, seconds):
    made = jar(f"a=b; {attributes}")
    assert later(made, seconds - 1) == ("a=b",)
    assert later(made, seconds) == ()
    assert len(made) == 0


@pytest.mark.parametrize(
    "attributes",
    ["Max-Age=0", "Max-Age=-1", "Max-Age=-9" + "9" * 99, "Expires=Thu, 01 Jan 1970 00:00:00 GMT"],
)
def test_what_has_ended_is_forgotten(attributes):
    assert len(jar("a=b", f"a=b; {attributes}")) == 0


@pytest.mark.parametrize("attributes", ["", "Max-Age=soon", "Expires=tomorrow", "Max-Age=", "Max-Age=+5"])
def test_what_says_no_end_ends_with_the_browser(attributes):
    made = jar(f"a=b; {attributes}", "kept=1; Max-Age=60")
    assert later(made, 30) == ("a=b", "kept=1")
    assert later(made, 2 * MAX_AGE) == ("a=b",)
    again = CookieJar.load(json.loads(json.dumps(jar(f"a=b; {attributes}", "kept=1; Max-Age=60").dump())))
    assert later(again, 30) == ("kept=1",)


@pytest.mark.parametrize(
    ("asked", "text", "fits", "fits_not"),
    [
        ("/", "a=b", ["/", "/x", "/x/y"], []),
        ("/x/y?q=/z/", "a=b", ["/x", "/x/", "/x/z", "/x?q"], ["/", "/xy"]),
        ("/x", "a=b; Path=/p", ["/p", "/p/", "/p/q", "/p?q"], ["/", "/pq"]),
        ("/x", "a=b; Path=/p/", ["/p/", "/p/q"], ["/p", "/"]),
        ("/x/y", "a=b; Path=p", ["/x/z"], ["/p"]),
        ("/x/y", "a=b; Path=/p; Path=/q", ["/q"], ["/p"]),
        ("/x/y", f"a=b; Path=/{'p' * 2000}", ["/x/z"], ["/"]),
    ],
)
def test_paths(asked, text, fits, fits_not):
    made = jar(text, path=asked)
    assert [path for path in fits if not made.crumbs(path)] == []
    assert [path for path in fits_not if made.crumbs(path)] == []


def test_longer_paths_first_then_the_oldest_and_a_change_keeps_the_place():
    made = jar("a=1", "b=2", "c=3; Path=/x")
    made.at(CLOCK + 5)
    made.take([("set-cookie", "a=9"), ("set-cookie", "d=4")], HOST, "/")
    assert made.crumbs("/x") == ("c=3", "a=9", "b=2", "d=4")
    assert made.crumbs("/x", without=("a", "c")) == ("b=2", "d=4")
    two = jar("a=1", "a=2; Path=/x")
    assert two.crumbs("/x") == ("a=2", "a=1")
    assert two.crumbs("/") == ("a=1",)


TEXT = st.text(st.characters(max_codepoint=255), max_size=60)
ATTRIBUTE = st.sampled_from(
    [
        "Path=/x",
        "Max-Age=5",
        "Max-Age=-",
        "Expires=",
        "Secure",
        "Domain=site.example",
        "domain",
        "=",
        ";",
        "SameSite=",
    ]
)


@given(st.lists(st.tuples(TEXT, st.lists(st.one_of(TEXT, ATTRIBUTE), max_size=4)), max_size=8), TEXT)
def test_nothing_a_site_sets_raises_or_breaks_a_request(cookies, path):
    made = jar(*(";".join([f"n{pair}", *rest]) for pair, rest in cookies), path=f"/{path}")
    crumbs = made.crumbs("/x")
    assert all(crumb.isascii() and crumb.isprintable() and ";" not in crumb for crumb in crumbs)
    again = CookieJar.load(json.loads(json.dumps(made.dump())))
    assert set(again.crumbs("/x")) <= set(crumbs)
