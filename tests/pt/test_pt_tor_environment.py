"""tor's environment, right and wrong, and the line that each mistake asks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.config.upstream import UpstreamProxy
from ptproxy.pt import tor_lines as lines
from ptproxy.pt.tor_environment import (
    BridgeSide,
    ClientSide,
    ManagedError,
    format_place,
    negotiate,
    parse_place,
    read,
)

BASE = {"TOR_PT_MANAGED_TRANSPORT_VER": "1", "TOR_PT_STATE_LOCATION": "/var/lib/tor/pt_state"}
CLIENT = BASE | {"TOR_PT_CLIENT_TRANSPORTS": "ptproxy,other"}
BRIDGE = BASE | {
    "TOR_PT_SERVER_TRANSPORTS": "ptproxy",
    "TOR_PT_SERVER_BINDADDR": "ptproxy-127.0.0.1:4000,other-[::1]:5000",
    "TOR_PT_ORPORT": "127.0.0.1:9001",
}


def without(environment: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in {f"TOR_PT_{n}" for n in names}}


@pytest.mark.parametrize("versions", ["1", "1,2", "1a,1,2"])
def test_our_version_is_found(versions: str) -> None:
    negotiate({"TOR_PT_MANAGED_TRANSPORT_VER": versions})


@pytest.mark.parametrize(
    ("versions", "line"), [("2,3", "VERSION-ERROR no-version"), ("11", "VERSION-ERROR no-version")]
)
def test_no_version_of_ours(versions: str, line: str) -> None:
    with pytest.raises(ManagedError) as caught:
        negotiate({"TOR_PT_MANAGED_TRANSPORT_VER": versions})
    assert caught.value.line == line


def test_no_tor_at_all() -> None:
    with pytest.raises(ManagedError) as caught:
        negotiate({})
    assert caught.value.line.startswith("ENV-ERROR ")


def test_a_client() -> None:
    side = read(
        CLIENT | {"TOR_PT_EXIT_ON_STDIN_CLOSE": "1", "TOR_PT_PROXY": "socks5://u:p%40@127.0.0.1:9050"}
    )
    assert isinstance(side, ClientSide)
    assert side.transports == ("ptproxy", "other")
    assert side.common.ends_with_stdin
    assert side.common.state == Path("/var/lib/tor/pt_state")
    assert side.proxy == UpstreamProxy("socks5", "127.0.0.1", 9050, "u", "p@")
    assert "p@" not in repr(side)


def test_addresses_that_connections_come_from() -> None:
    side = read(
        CLIENT
        | {"TOR_PT_OUTBOUND_BIND_ADDRESS_V4": "192.0.2.7", "TOR_PT_OUTBOUND_BIND_ADDRESS_V6": "[2001:db8::7]"}
    )
    assert (side.common.bind_ipv4, side.common.bind_ipv6) == ("192.0.2.7", "2001:db8::7")


def test_a_bridge() -> None:
    side = read(
        BRIDGE
        | {
            "TOR_PT_EXTENDED_SERVER_PORT": "127.0.0.1:9002",
            "TOR_PT_AUTH_COOKIE_FILE": "/var/lib/tor/extended_orport_auth_cookie",
            "TOR_PT_SERVER_TRANSPORT_OPTIONS": "ptproxy:name=example.org",
        }
    )
    assert isinstance(side, BridgeSide)
    assert side.listen == {"ptproxy": ("127.0.0.1", 4000), "other": ("::1", 5000)}
    assert side.options == {"ptproxy": {"name": "example.org"}}
    assert side.or_port == ("127.0.0.1", 9001)
    assert side.extended_port == ("127.0.0.1", 9002)
    assert side.cookie_file == Path("/var/lib/tor/extended_orport_auth_cookie")


def test_an_empty_extended_port_is_none() -> None:
    side = read(BRIDGE | {"TOR_PT_EXTENDED_SERVER_PORT": ""})
    assert isinstance(side, BridgeSide)
    assert side.extended_port is None
    assert side.cookie_file is None


@pytest.mark.parametrize(
    ("environment", "beginning"),
    [
        (without(CLIENT, "STATE_LOCATION"), "ENV-ERROR no TOR_PT_STATE_LOCATION"),
        (CLIENT | BRIDGE, "ENV-ERROR "),
        (BASE, "ENV-ERROR "),
        (CLIENT | {"TOR_PT_PROXY": "gopher://127.0.0.1:1"}, "PROXY-ERROR "),
        (CLIENT | {"TOR_PT_PROXY": "socks5://127.0.0.1"}, "PROXY-ERROR "),
        (CLIENT | {"TOR_PT_PROXY": "socks5://user@127.0.0.1:1"}, "PROXY-ERROR "),
        (CLIENT | {"TOR_PT_OUTBOUND_BIND_ADDRESS_V4": "::1"}, "ENV-ERROR "),
        (CLIENT | {"TOR_PT_CLIENT_TRANSPORTS": ",".join(f"t{n}" for n in range(100))}, "ENV-ERROR "),
        (BRIDGE | {"TOR_PT_SERVER_BINDADDR": "ptproxy-nowhere:1"}, "ENV-ERROR "),
        (BRIDGE | {"TOR_PT_SERVER_BINDADDR": "ptproxy-127.0.0.1:1,ptproxy-127.0.0.1:2"}, "ENV-ERROR "),
        (BRIDGE | {"TOR_PT_SERVER_BINDADDR": "ptproxy-127.0.0.1:65536"}, "ENV-ERROR "),
        (without(BRIDGE, "ORPORT"), "ENV-ERROR need TOR_PT_ORPORT"),
        (BRIDGE | {"TOR_PT_ORPORT": "127.0.0.1:0"}, "ENV-ERROR "),
        (BRIDGE | {"TOR_PT_EXTENDED_SERVER_PORT": "127.0.0.1:1"}, "ENV-ERROR need TOR_PT_AUTH_COOKIE_FILE"),
        (BRIDGE | {"TOR_PT_SERVER_TRANSPORT_OPTIONS": "ptproxy:a"}, "ENV-ERROR "),
    ],
)
def test_what_is_wrong_has_its_line(environment: dict[str, str], beginning: str) -> None:
    with pytest.raises(ManagedError) as caught:
        read(environment)
    assert caught.value.line.startswith(beginning)
    assert "\n" not in caught.value.line


@given(
    st.dictionaries(
        st.sampled_from(sorted(name for name in BRIDGE | CLIENT))
        | st.sampled_from(["TOR_PT_PROXY", "TOR_PT_EXTENDED_SERVER_PORT", "TOR_PT_AUTH_COOKIE_FILE"]),
        st.text(max_size=40),
    )
)
def test_garbage_raises_only_what_is_documented(environment: dict[str, str]) -> None:
    for half in (BRIDGE, CLIENT):
        line = ""
        try:
            read(half | environment)
        except ManagedError as error:
            line = error.line
        assert "\n" not in line


@given(st.ip_addresses(), st.integers(0, 65535))
def test_places_are_read_as_they_were_written(address: object, port: int) -> None:
    place = (str(address), port)
    assert parse_place(format_place(place)) == place


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("socks4a://name:password@127.0.0.1:1", "password"),
        ("http://127.0.0.1:1/path", "behind"),
        ("http://u:%zz@127.0.0.1:1", "encoded"),
        (f"http://u:{'x' * 256}@127.0.0.1:1", "too long"),
        ("http://[::1", "URL"),
        ("http://127.0.0.1:99999", "URL"),
        ("", "scheme"),
    ],
)
def test_upstream_proxies_that_are_none(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=what) as caught:
        UpstreamProxy.parse(url)
    assert "xxxx" not in str(caught.value)


def test_upstream_proxies() -> None:
    assert UpstreamProxy.parse("http://127.0.0.1:3128/").address == ("127.0.0.1", 3128)
    assert UpstreamProxy.parse("socks4a://me@[::1]:1080") == UpstreamProxy("socks4a", "::1", 1080, "me")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", '"plain"'),
        ('say "so" \\ then', '"say \\"so\\" \\\\ then"'),
        ("two\r\nVERSION 1", '"two VERSION 1"'),
        ("é", '"\\303\\251"'),
    ],
)
def test_log_messages_are_one_quoted_string(text: str, expected: str) -> None:
    assert lines.log("warning", text) == f"LOG SEVERITY=warning MESSAGE={expected}"


@given(st.text(max_size=300))
def test_no_text_makes_a_second_line(text: str) -> None:
    made = (
        lines.log("info", text),
        lines.client_method_error("ptproxy", text),
        lines.bridge_method_error("ptproxy", text),
    )
    for line in made:
        assert line.isascii() or line.startswith(("CMETHOD-ERROR", "SMETHOD-ERROR"))
        assert len(line.splitlines()) == 1


def test_lines_as_the_specification_has_them() -> None:
    assert lines.client_method("ptproxy", ("127.0.0.1", 1)) == "CMETHOD ptproxy socks5 127.0.0.1:1"
    assert lines.bridge_method("ptproxy", ("::1", 2), {"a": "b"}) == "SMETHOD ptproxy [::1]:2 ARGS:a=b"
    assert lines.bridge_method("ptproxy", ("::1", 2), {}) == "SMETHOD ptproxy [::1]:2"


def test_a_tor_that_does_not_say_where_to_listen():
    """pt-spec 3.2.3: the variable may be omitted; appendix B: and a transport in it."""
    side = read(without(BRIDGE, "SERVER_BINDADDR"))
    assert isinstance(side, BridgeSide)
    assert side.listen == {}
