"""The bridge link: round trips, one spelling, and clear errors for everything else."""

from __future__ import annotations

import base64
import contextlib
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.config.link import MAX_FRONTS, MAX_LINK, Front, Link

KEY = "A" * 43
GOOD = f"ptproxy://{KEY}@example.org:443?path=/x&codecs=websocket,http"

labels = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=4).map(".".join).filter(lambda n: not n[-1].isdigit())
hosts = names | st.ip_addresses().map(str).filter(lambda text: "%" not in text)
segments = st.text("abcXYZ019-._~!$'()*+,;=:@", min_size=1, max_size=12).filter(
    lambda s: s not in (".", "..")
)
paths = st.lists(segments, max_size=4).map(lambda parts: "/" + "/".join(parts))
pages = st.lists(paths.filter(lambda path: "," not in path), min_size=1, max_size=4, unique=True)
codecs = st.lists(
    st.from_regex(r"[a-z][a-z0-9_-]{0,31}", fullmatch=True), min_size=1, max_size=5, unique=True
)


@st.composite
def fronts(draw: st.DrawFn, spoken: list[str]) -> Front:
    return Front(
        draw(hosts),
        draw(st.integers(1, 65535)),
        draw(st.just("") | hosts),
        tuple(draw(st.lists(st.sampled_from(spoken), unique=True))),
        draw(st.none() | st.binary(min_size=32, max_size=32)),
    )


@st.composite
def links(draw: st.DrawFn) -> Link:
    seal = draw(st.booleans())
    spoken = draw(codecs)
    host, port = draw(hosts), draw(st.integers(1, 65535))
    further = draw(st.lists(fronts(spoken), max_size=3, unique_by=lambda front: (front.host, front.port)))
    return Link(
        key=draw(st.binary(min_size=32, max_size=32)),
        host=host,
        port=port,
        fronts=tuple(front for front in further if (front.host, front.port) != (host, port)),
        path=draw(paths),
        server_name=draw(hosts),
        codecs=tuple(spoken),
        pages=tuple(draw(pages)),
        pin=draw(st.none() | st.binary(min_size=32, max_size=32)),
        seal=seal,
        binding=draw(st.booleans()) if seal else True,
        token=draw(st.just(b"") | st.binary(min_size=16, max_size=16)),
    )


@given(links())
def test_round_trip(link: Link) -> None:
    text = link.serialize()
    assert Link.parse(text) == link
    assert Link.parse(f"  {text}\n") == link
    assert text.isascii()
    assert len(text.split()) == 1


def test_a_usual_link_is_short() -> None:
    link = Link(
        bytes(range(32)), "bridge-17.example.org", 8443, "/assets/0123456789abcdef", "www.example.org",
        ("websocket", "http", "random"), bytes(32), True, True, bytes(16),
    )  # fmt: skip
    assert len(link.serialize()) <= 300


@given(links(), st.data())
def test_a_damaged_link_is_an_error_or_another_link(link: Link, data: st.DataObject) -> None:
    text = link.serialize()
    at = data.draw(st.integers(0, len(text)))
    damaged = data.draw(
        st.sampled_from([text[:at], text[:at] + text[at + 1 :], text[:at] + "%" + text[at:]])
        | st.characters().map(lambda letter: text[:at] + letter + text[at:])
    )
    try:
        parsed = Link.parse(damaged)
    except ValueError:
        return
    assert Link.parse(parsed.serialize()) == parsed


@given(st.text() | st.text("ptroxy:/@?&=%,ABab01.[]").map(lambda text: f"ptproxy://{text}"))
def test_garbage_raises_only_value_errors(text: str) -> None:
    with contextlib.suppress(ValueError):
        Link.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "starts with ptproxy://"),
        ("https://example.org/", "starts with ptproxy://"),
        ("ptproxy://example.org:443?codecs=http", "is a part cut off"),
        (f"ptproxy://{KEY}@example.org:443", "is a part cut off"),
        (f"{GOOD}#x", "is a part cut off"),
        (GOOD.replace(KEY, KEY[:-1]), "bridge key in the link is not 43 characters"),
        (GOOD.replace(KEY, "A" * 42 + "B"), "bridge key"),
        (GOOD.replace(KEY, "A" * 42 + "="), "bridge key"),
        (GOOD.replace(":443", ""), "HOST:PORT"),
        (GOOD.replace(":443", ":0"), "from 1 to 65535"),
        (GOOD.replace(":443", ":70000"), "from 1 to 65535"),
        (GOOD.replace("example.org", "::1"), "brackets"),
        (GOOD.replace("example.org", "exa_mple..org"), "neither a host name"),
        (GOOD.replace("&codecs=websocket,http", ""), "names no codecs"),
        (GOOD.replace("websocket,http", "websocket,"), "no codec name"),
        (GOOD.replace("websocket,http", "http,http"), "named once"),
        (GOOD.replace("path=/x", "path=x"), "path"),
        (GOOD.replace("path=/x", "path=/../x"), "path"),
        (GOOD.replace("path=/x", "path="), "path in the link is empty"),
        (GOOD.replace("path=/x", "path=/%zz"), "wrongly encoded"),
        (GOOD.replace("path=/x", "path=/%ff"), "not ASCII"),
        (f"{GOOD}&seal=0", "seal in the link can only be '1'"),
        (f"{GOOD}&seal=1&binding=certificate", "binding in the link can only be 'none'"),
        (f"{GOOD}&binding=none", "needs seal=1"),
        (f"{GOOD}&cert=abc", "certificate pin"),
        (f"{GOOD}&token=abc", "invite token"),
        (f"{GOOD}&path=/y", "path stands twice"),
        (f"{GOOD}&flavour=1", "unknown parameter 'flavour'"),
        (f"{GOOD}&name=", "name in the link is empty"),
        (f"{GOOD}&fronts=", "fronts in the link is empty"),
        (f"{GOOD}&fronts=example.net", "HOST:PORT"),
        (f"{GOOD}&fronts=example.org:443", "front of a bridge is named once"),
        (f"{GOOD}&fronts=a.example:1,a.example:1", "front of a bridge is named once"),
        (f"{GOOD}&fronts=a.example:1;speed=9", "front of the link is damaged"),
        (f"{GOOD}&fronts=a.example:1;cert=abc", "pin of a front"),
        (f"{GOOD}&fronts=a.example:1;codecs=http;name=b.example", "too late"),
        (f"{GOOD}&fronts=a.example:1;codecs=random", "a codec that the bridge does not"),
        (f"{GOOD}&fronts={','.join(f'a{n}.example:1' for n in range(MAX_FRONTS + 1))}", "further fronts"),
        (f"{GOOD} x", "without spaces"),
        (f"{GOOD}&name={'a' * 3000}", "at most 2048"),
    ],
)
def test_errors_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Link.parse(text)


def test_an_invite_token_is_never_shown() -> None:
    token = bytes(range(100, 116))
    text = base64.urlsafe_b64encode(token).rstrip(b"=").decode()
    link = Link.parse(f"{GOOD}&token={text}")
    assert link.token == token
    assert text not in repr(link)
    assert "token" not in replace(link, token=b"").serialize()
    for damaged in (f"{GOOD}&token={text}A", f"{GOOD}&token={text}&token={text}", f"{GOOD}&tokn={text}"):
        with pytest.raises(ValueError, match="link") as caught:
            Link.parse(damaged)
        assert text not in str(caught.value)


def test_what_is_left_out_has_its_default() -> None:
    link = Link.parse(f"ptproxy://{KEY}@[2001:db8::1]:8443?codecs=http")
    assert (link.host, link.server_name, link.path) == ("2001:db8::1", "2001:db8::1", "/")
    assert (link.pin, link.seal, link.binding, link.token) == (None, False, True, b"")


@pytest.mark.parametrize(
    "pages", ["/a,/a", "a", "/a,", "/" + "x" * 300, ",".join(f"/{n}" for n in range(17))]
)
def test_pages_that_cannot_be_visited(pages: str) -> None:
    text = f"ptproxy://{'A' * 43}@example.org:443?codecs=http"
    assert Link.parse(text).pages == ("/",)
    assert Link.parse(f"{text}&pages=/,/b/c.html").pages == ("/", "/b/c.html")
    with pytest.raises(ValueError, match="page"):
        Link.parse(f"{text}&pages={pages}")


def test_a_link_that_is_too_long_in_its_one_spelling_is_none() -> None:
    """What was read must be readable again: programs keep links as serialize() writes them."""
    pages = ",".join("/" + "(" * 200 + str(number) for number in range(8))
    text = f"{GOOD}&pages={pages}"
    assert len(text) < MAX_LINK
    with pytest.raises(ValueError, match="at most 2048"):
        Link.parse(text)
    short = Link.parse(f"{GOOD}&pages=/((,/))")
    assert Link.parse(short.serialize()) == short


def test_a_link_of_before_there_were_fronts_has_its_one():
    link = Link.parse(GOOD)
    assert link.fronts == ()
    assert link.by_front() == (link,)
    assert "fronts" not in link.serialize()


def test_a_bridge_by_each_of_its_fronts():
    pin, other = base64.urlsafe_b64encode(bytes(32)).decode()[:43], bytes(range(32))
    shown = base64.urlsafe_b64encode(other).decode()[:43]
    link = Link.parse(
        f"{GOOD}&cert={pin}&seal=1&binding=none&fronts=[2001:db8::1]:8443,"
        f"cdn.example:443;name=site.cdn.example;codecs=http,192.0.2.7:443;name=b.example;cert={shown}"
    )
    own, family, cdn, pinned = link.by_front()
    assert own == replace(link, fronts=())
    assert (family.host, family.port, family.server_name) == ("2001:db8::1", 8443, "example.org")
    assert (family.pin, family.codecs) == (bytes(32), ("websocket", "http"))
    assert (cdn.server_name, cdn.pin, cdn.codecs) == ("site.cdn.example", None, ("http",))
    assert (pinned.server_name, pinned.pin) == ("b.example", other)
    assert {each.path for each in link.by_front()} == {"/x"}
    assert {(each.seal, each.binding, each.fronts) for each in link.by_front()} == {(True, False, ())}


@given(links())
def test_every_front_of_a_link_is_a_link(link: Link) -> None:
    for each in link.by_front():
        assert Link.parse(each.serialize()) == each
