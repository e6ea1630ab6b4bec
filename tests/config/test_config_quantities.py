"""Sizes, durations and addresses as people write them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.config import quantities
from ptproxy.config.quantities import Endpoint, SiteUrl

PARSERS = (
    quantities.parse_size,
    quantities.parse_duration,
    quantities.parse_address,
    quantities.parse_listen,
    quantities.parse_site,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256MiB", 256 << 20),
        ("64 KiB", 65536),
        ("1gb", 10**9),
        ("1.5k", 1536),
        (4096, 4096),
        ("12b", 12),
        ("0", 0),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert quantities.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", -1, "3 apples", "1e9", True, None, [], "9999999999GiB", float("nan")]
)
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="write a"):
        quantities.parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("500ms", 0.5),
        ("5m", 300),
        ("5 min", 300),
        ("2h", 7200),
        ("30d", 2592000),
        ("off", 0),
        (0, 0),
        ("0", 0),
        (False, 0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert quantities.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", 10, "s", "-5s", "5 parsecs", True, None, "400d", float("inf")])
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="write a"):
        quantities.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:1080", Endpoint("127.0.0.1", 1080)),
        ("[::1]:1", Endpoint("::1", 1)),
        ("[0:0:0:0:0:0:0:1]:1", Endpoint("::1", 1)),
        ("Example.ORG.:443", Endpoint("example.org", 443)),
        ("bücher.example:443", Endpoint("xn--bcher-kva.example", 443)),
    ],
)
def test_addresses(text: str, endpoint: Endpoint) -> None:
    assert quantities.parse_address(text) == endpoint
    assert quantities.parse_address(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "a",
        "a:",
        "a:b",
        "a:0",
        "a:65536",
        "::1:80",
        "[a]:1",
        "-a:1",
        "1.2.3:4",
        "a:١",
        "[fe80::1%eth0]:1",
        80,
        None,
    ],
)
def test_no_addresses(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        quantities.parse_address(text)


def test_listening() -> None:
    assert quantities.parse_listen("0.0.0.0:0") == Endpoint("0.0.0.0", 0)
    assert quantities.parse_listen("localhost:80") == Endpoint("localhost", 80)
    unix = quantities.parse_listen("unix:run/x.sock", Path("/srv"))
    assert unix.unix == Path("/srv/run/x.sock")
    assert str(unix) == "unix:/srv/run/x.sock"
    assert str(quantities.parse_listen("unix:/x.sock", Path("/srv"))) == "unix:/x.sock"
    for text in ("example.org:80", "unix:"):
        with pytest.raises(ValueError, match="as in"):
            quantities.parse_listen(text)


def test_sites() -> None:
    assert quantities.parse_site("builtin") == "builtin"
    assert quantities.parse_site("http://127.0.0.1:8080/") == SiteUrl("http", "127.0.0.1", 8080)
    site = quantities.parse_site("https://example.org")
    assert site == SiteUrl("https", "example.org", 443)
    assert str(quantities.parse_site("http://[::1]")) == "http://[::1]:80"
    for text in (
        "",
        "ftp://x",
        "http://",
        "http://x:99999",
        "http://x:0",
        "http://u@x",
        "http://x/y",
        "http://x?y",
        "http://[x",
        5,
    ):
        with pytest.raises(ValueError, match=r"builtin|from 1 to"):
            quantities.parse_site(text)


@given(
    st.text()
    | st.text("0123456789.:[]smhKMGib-%/htp")
    | st.integers()
    | st.booleans()
    | st.none()
    | st.floats()
)
def test_garbage_raises_only_value_errors(value: object) -> None:
    for parse in PARSERS:
        with contextlib.suppress(ValueError):
            parse(value)
