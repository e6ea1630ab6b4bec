"""What IP addresses have in disguise, and which are of the public Internet."""

from __future__ import annotations

import ipaddress
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.addresses import carried, is_public, plain, tunnelled


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("::10.0.0.1", ["10.0.0.1"]), ("::ffff:10.0.0.1", ["10.0.0.1"]),
        ("::ffff:0:10.0.0.1", ["10.0.0.1"]), ("64:ff9b::10.0.0.1", ["10.0.0.1"]),
        ("2002:a00:1::5", ["10.0.0.1"]), ("2001:0:a00:1::f5ff:fffd", ["10.0.0.1", "10.0.0.2"]),
        ("::", []), ("::1", []), ("2a00::1", []), ("10.0.0.1", []), ("2a00::5efe:10.0.0.1", []),
    ],
)  # fmt: skip
def test_what_an_address_stands_for(text: str, inside: list[str]) -> None:
    assert [str(ip) for ip in carried(ip_address(text))] == inside


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("2a00::5efe:10.0.0.1", ["10.0.0.1"]), ("fe80::200:5efe:10.0.0.1", ["10.0.0.1"]),
        ("2a00::1", []), ("10.0.0.1", []), ("2a00::5eff:10.0.0.1", []),
    ],
)  # fmt: skip
def test_where_a_tunnel_within_a_site_may_lead(text: str, inside: list[str]) -> None:
    assert [str(ip) for ip in tunnelled(ip_address(text))] == inside


def test_plain_is_what_the_system_dials() -> None:
    assert plain(ip_address("::ffff:1.2.3.4")) == ip_address("1.2.3.4")
    assert plain(ip_address("64:ff9b::1.2.3.4")) == ip_address("64:ff9b::1.2.3.4")
    assert plain(ip_address("1.2.3.4")) == ip_address("1.2.3.4")


V4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
PARTLY_GLOBAL = ipaddress.ip_network("2001::/23")


@given(V4 | V6)
def test_nothing_is_public_that_the_registries_call_private(ip: ipaddress.IPv4Address) -> None:
    if ip.is_private or ip.is_multicast or ip.is_loopback or ip.is_link_local or ip.is_reserved:
        assert not is_public(ip) or carried(ip) or ip in PARTLY_GLOBAL
