"""The opening in a session cookie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.cookie import (
    MAX_OPENING,
    MAX_VALUE,
    MIN_OPENING,
    NAMES,
    opening_from_cookie,
    opening_to_cookie,
    session_cookie_name,
)
from ptproxy.codec.head import HttpHead
from ptproxy.codec.interface import CodecSettings
from ptproxy.errors import LocalProtocolError


def head(cookie: str) -> HttpHead:
    return HttpHead([("Cookie", cookie)], "GET", "/")


@given(st.binary(min_size=MIN_OPENING, max_size=600), st.sampled_from(NAMES))
def test_an_opening_comes_back(opening, name):
    cookie = opening_to_cookie(name, opening)
    assert opening_from_cookie(name, head(f"first=1; {cookie}; last=2")) == opening
    assert opening_from_cookie("another", head(cookie)) is None


@pytest.mark.parametrize("size", [MAX_VALUE * 3 // 4, MAX_VALUE * 3 // 4 + 1, MAX_OPENING - 1, MAX_OPENING])
def test_a_long_one_is_split_and_no_cookie_is_too_long(size):
    opening = bytes(range(256)) * 30
    cookie = opening_to_cookie("sid", opening[:size])
    pairs = cookie.split("; ")
    assert len(pairs) == (1 if size <= MAX_VALUE * 3 // 4 else 2)
    assert all(len(pair) < 4000 for pair in pairs)
    assert opening_from_cookie("sid", head(cookie)) == opening[:size]
    if len(pairs) == 2:
        assert opening_from_cookie("sid", head(pairs[0])) is None
        assert opening_from_cookie("sid", head("; ".join(reversed(pairs)))) == opening[:size]


@pytest.mark.parametrize(
    "value", ["", "abc", "A" * 25, "x" * 40 + "=", "x" * 40 + "+", "A" * (2 * MAX_VALUE + 4), "é" * 40]
)
def test_values_that_are_no_opening(value):
    assert opening_from_cookie("sid", head(f"sid={value}")) is None


@pytest.mark.parametrize("size", [0, MIN_OPENING - 1, MAX_OPENING + 1])
def test_an_opening_of_an_impossible_size_is_our_own_bug(size):
    with pytest.raises(LocalProtocolError):
        opening_to_cookie("sid", bytes(size))


def test_the_name_follows_host_and_path_but_not_the_port():
    names = {session_cookie_name(CodecSettings("example.org", f"/{number}")) for number in range(200)}
    assert names == set(NAMES)
    assert len({session_cookie_name(CodecSettings(f"{number}.org", "/")) for number in range(200)}) == len(
        NAMES
    )
    assert session_cookie_name(CodecSettings("Example.org:8443", "/a")) == session_cookie_name(
        CodecSettings("example.org", "/a")
    )
