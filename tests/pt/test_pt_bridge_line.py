"""Bridge lines: what a bridge publishes is what its client reads, and fits what tor publishes."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.config.link import Front, Link
from ptproxy.pt.arguments import ArgumentError, serialize_arguments
from ptproxy.pt.bridge_line import MAX_LINE, SAFE, TRANSPORTS, line_arguments, parse_line

CODECS = TRANSPORTS["ptproxy"]
LINK = Link(
    key=bytes(range(32)), host="192.0.2.1", port=443, path="/abc", server_name="example.org", codecs=CODECS,
    pin=bytes(range(1, 33)),
)  # fmt: skip


@st.composite
def links(draw: st.DrawFn) -> Link:
    seal = draw(st.booleans())
    return Link(
        key=draw(st.binary(min_size=32, max_size=32)),
        host="192.0.2.1",
        port=443,
        path="/" + draw(st.text("abcXYZ019-_", min_size=1, max_size=20)),
        server_name=draw(st.sampled_from(["example.org", "a.b-c.example", "192.0.2.9"])),
        codecs=tuple(draw(st.permutations(CODECS)))[: draw(st.integers(1, 3))],
        pin=draw(st.none() | st.binary(min_size=32, max_size=32)),
        seal=seal,
        binding=not seal or draw(st.booleans()),
        pages=(draw(st.sampled_from(["/", "/about.html"])),),
        fronts=(Front("cdn.example", 443, "x.example", pin=bytes(32)), Front("2001:db8::1", 8443))[
            : draw(st.integers(0, 2))
        ],
    )


@given(links())
def test_a_client_reads_what_its_bridge_publishes(link: Link) -> None:
    arguments = line_arguments(link, CODECS)
    assert parse_line(arguments, CODECS, "192.0.2.1", 443).link == link


@given(links())
def test_tor_can_publish_it(link: Link) -> None:
    text = serialize_arguments(line_arguments(link, CODECS))
    assert len(text) <= MAX_LINE
    assert "\\" not in text
    assert " " not in text
    assert all(SAFE.fullmatch(value) for value in line_arguments(link, CODECS).values())


def test_the_usual_line_is_short() -> None:
    assert len(serialize_arguments(line_arguments(LINK, CODECS))) < 150


def test_of_many_fronts_the_best_are_published() -> None:
    fronts = tuple(
        Front(f"front-{number}.a-long-name.example.org", 443, "", ("http",), bytes(32)) for number in range(7)
    )
    arguments = line_arguments(dataclasses.replace(LINK, fronts=fronts), CODECS)
    read = parse_line(arguments, CODECS, "192.0.2.1", 443).link.fronts
    assert 2 <= len(read) < 7
    assert read == fronts[: len(read)]


def test_a_front_without_a_codec_of_the_transport_is_left_out() -> None:
    fronts = (Front("a.example", 443, "", ("http",)), Front("b.example", 443, "", ("random", "http")))
    arguments = line_arguments(dataclasses.replace(LINK, fronts=fronts), CODECS)
    assert parse_line(arguments, ("random",), "192.0.2.1", 443).link.fronts == (
        Front("b.example", 443, "", ("random",)),
    )


def test_what_the_client_chooses() -> None:
    arguments = line_arguments(LINK, CODECS) | {"fingerprint": "firefox", "shape": "none"}
    line = parse_line(arguments, CODECS, "192.0.2.1", 443)
    assert (line.fingerprint, line.shape) == ("firefox", "none")


def test_a_web_server_in_front_is_what_is_dialled() -> None:
    line = parse_line(line_arguments(LINK, CODECS, address="www.example.org:443"), CODECS, "192.0.2.1", 1)
    assert (line.link.host, line.link.port) == ("www.example.org", 443)


def test_a_name_may_be_absent() -> None:
    arguments = line_arguments(LINK, CODECS)
    del arguments["name"]
    assert parse_line(arguments, CODECS, "192.0.2.1", 443).link.server_name == "192.0.2.1"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"key": None}, "no key="),
        ({"path": None}, "no path="),
        ({"key": "A" * 42}, "cut off"),
        ({"key": "A" * 42 + "B"}, "cut off"),  # not the one spelling of its bytes
        ({"cert": "é" * 43}, "cut off"),
        ({"path": "abc"}, "path"),
        ({"seal": "2"}, "seal"),
        ({"binding": "none"}, "seal"),
        ({"fingerprint": "opera"}, "fingerprint"),
        ({"shape": "auto"}, "shape"),
        ({"codecs": "carrier-pigeon"}, "codec"),
        ({"addr": "nowhere"}, "addr="),
        ({"obfs": "4"}, "unknown argument 'obfs'"),
    ],
)
def test_lines_that_cannot_be_used(change: dict[str, str | None], what: str) -> None:
    arguments = {
        key: value for key, value in (line_arguments(LINK, CODECS) | change).items() if value is not None
    }
    with pytest.raises(ArgumentError, match=what) as caught:
        parse_line(arguments, CODECS, "192.0.2.1", 443)
    assert line_arguments(LINK, CODECS)["key"] not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["key", "path", "name", "cert", "addr", "page", "codecs", "fronts", "seal", "shape"]
)
@pytest.mark.parametrize("value", ["tell-nobody ", "/tell-nobody /x", "/tell-nobody?", "tell-nobody:99999"])
def test_what_is_wrong_is_said_without_the_value(key: str, value: str) -> None:
    """It ends in tor's log, or in what Shadowsocks prints: the line is the secret."""
    with pytest.raises(ArgumentError) as caught:
        parse_line(line_arguments(LINK, CODECS) | {key: value}, CODECS, "192.0.2.1", 443)
    assert "tell-nobody" not in str(caught.value)


@given(
    st.dictionaries(
        st.sampled_from(["key", "path", "name", "cert", "addr", "page", "codecs", "fronts", "x"]),
        st.text(max_size=50),
    )
)
def test_garbage_raises_only_what_is_documented(arguments: dict[str, str]) -> None:
    try:
        parse_line(line_arguments(LINK, CODECS) | arguments, CODECS, "192.0.2.1", 443)
    except ArgumentError:
        pass


def test_a_bridge_that_no_line_can_describe() -> None:
    for link in (
        dataclasses.replace(LINK, path="/a,b"),
        dataclasses.replace(LINK, path="/" + "a" * 250, server_name=".".join(["b" * 60] * 4)),
    ):
        with pytest.raises(ArgumentError):
            line_arguments(link, CODECS)


@pytest.mark.parametrize("name", ["ptproxy_ws", "ptproxy_http", "ptproxy_random"])
def test_a_transport_of_one_codec_uses_no_other(name: str) -> None:
    codecs = TRANSPORTS[name]
    arguments = line_arguments(dataclasses.replace(LINK, codecs=codecs), codecs)
    assert "codecs" not in arguments
    assert parse_line(arguments, codecs, "192.0.2.1", 443).link.codecs == codecs
    others = "+".join(codec for codec in CODECS if codec not in codecs)
    with pytest.raises(ArgumentError):
        parse_line(arguments | {"codecs": others}, codecs, "192.0.2.1", 443)
