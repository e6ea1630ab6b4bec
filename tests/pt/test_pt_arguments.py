"""Arguments as parents write them: what is read, what is refused, and that reading undoes writing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.pt.arguments import (
    MAX_TEXT,
    ArgumentError,
    parse_options,
    parse_server_options,
    parse_socks,
    serialize_arguments,
    serialize_options,
)

PAIRS = st.dictionaries(st.text(min_size=1, max_size=12), st.text(max_size=12), max_size=5)


def escaped(text: str, special: str) -> str:
    """As the specifications say it, one replacement a character."""
    for character in "\\" + special:
        text = text.replace(character, "\\" + character)
    return text


@pytest.mark.parametrize(
    ("user", "password", "expected"),
    [
        (b"rocks=20;height=5.6m", b"\0", {"rocks": "20", "height": "5.6m"}),  # pt-spec's own example
        (b"a=1;", b"b=2", {"a": "1", "b": "2"}),
        (b"a=x\\;y\\=z\\\\", b"\0", {"a": "x;y=z\\"}),
        (b"a=", b"\0", {"a": ""}),
        (b"a=b=c", b"\0", {"a": "b=c"}),
        (b"\\=a=b", b"\0", {"=a": "b"}),
    ],
)
def test_socks_arguments(user: bytes, password: bytes, expected: dict[str, str]) -> None:
    assert parse_socks(user, password) == expected


@pytest.mark.parametrize(
    "user", [b"a", b"=b", b"a=1;a=2", b"a=1;;b=2", b"a=\\", b"\xff=1", b"a=1;b", b"x=" + b"y" * MAX_TEXT]
)
def test_socks_arguments_that_are_none(user: bytes) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_socks(user, b"\0")
    assert "y" * 20 not in str(caught.value)


def test_long_arguments_go_on_in_the_password() -> None:
    text = "key=" + "k" * 300
    assert parse_socks(text[:255].encode(), text[255:].encode()) == {"key": "k" * 300}


@given(PAIRS)
def test_socks_arguments_are_read_as_they_were_written(pairs: dict[str, str]) -> None:
    text = ";".join(f"{escaped(key, '=;')}={escaped(value, '=;')}" for key, value in pairs.items())
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return
    if len(text) <= MAX_TEXT:
        assert parse_socks(raw[:255], raw[255:] or b"\0") == pairs


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_garbage_raises_only_what_is_documented(user: bytes, password: bytes) -> None:
    for read in (
        lambda: parse_socks(user, password),
        lambda: parse_options(user.decode("latin-1")),
        lambda: parse_server_options(user.decode("latin-1")),
    ):
        try:
            read()
        except ArgumentError:
            pass


def test_server_options_belong_to_their_transports() -> None:
    # pt-spec's own example
    text = "scramblesuit:key=banana;automata:rule=110;scramblesuit:depth=3"
    assert parse_server_options(text) == {
        "scramblesuit": {"key": "banana", "depth": "3"},
        "automata": {"rule": "110"},
    }
    assert parse_server_options("t:site=https\\://127.0.0.1\\:8443") == {
        "t": {"site": "https://127.0.0.1:8443"}
    }
    assert parse_server_options("t:site=https://127.0.0.1:8443") == {"t": {"site": "https://127.0.0.1:8443"}}
    assert parse_server_options("") == {}


@pytest.mark.parametrize("text", ["t", "t:a", ":a=b", "t:=b", "t:a=b;t:a=c", "t:a=b;;t:c=d"])
def test_server_options_that_are_none(text: str) -> None:
    with pytest.raises(ArgumentError):
        parse_server_options(text)


@given(PAIRS)
def test_plugin_options_are_read_as_they_were_written(pairs: dict[str, str]) -> None:
    text = serialize_options(pairs)
    if len(text) <= MAX_TEXT:
        assert parse_options(text) == pairs


def test_a_bare_plugin_option_is_on() -> None:
    assert parse_options("server;host=a.example;path=/x\\;y") == {
        "server": "1",
        "host": "a.example",
        "path": "/x;y",
    }
    assert serialize_options({"server": "1", "state": "/x;y"}) == "server;state=/x\\;y"


def test_smethod_arguments_are_escaped() -> None:
    assert serialize_arguments({"k": "a,b", "l": "c=d\\e"}) == "k=a\\,b,l=c\\=d\\\\e"
