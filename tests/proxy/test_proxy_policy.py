"""The egress policy: what is refused by default, in whatever clothes, and the order of its rules."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.addresses import carried
from ptproxy.errors import ConfigError, Reason
from ptproxy.proxy.policy import (
    EgressPolicy,
    OwnAddresses,
    Rule,
    RuleError,
    is_local,
    local_test,
    parse_ports,
)

REFUSED = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200",
    "100.127.255.255", "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.0.1",
    "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192",
    "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.9",
    "203.0.113.77", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "::", "::1", "::2",
    "::10.0.0.1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:10.0.0.1",
    "64:ff9b::10.1.1.1", "64:ff9b::127.0.0.1", "64:ff9b:1::8.8.8.8", "100::1", "100:0:0:1::1",
    "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "2002:0a00:0001::",
    "2002:7f00:0001::1", "2002:c0a8:0101::", "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    "2001:0:0a00:0001::f7f7:f7f7", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "febf::1",
    "fec0::1", "ff02::1", "ff0e::1", "4000::1", "5f00::1", "8000::1", "1fff::1",
]  # fmt: skip

PERMITTED = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.1", "168.63.129.15", "169.253.255.255", "169.255.0.0", "172.15.255.255",
    "172.32.0.0", "192.0.1.1", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
    "223.255.255.255", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:0808:0808::", "2001:4860:4860::8888",
    "2606:4700::1111", "2a00:1450::1", "2001:0:4136:e378:8000:63bf:f7f7:f7f7", "::8.8.8.8",
]  # fmt: skip

V4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
PORTS = st.integers(1, 65535)


def clothes(v4: ipaddress.IPv4Address) -> list[ipaddress.IPv6Address]:
    """The IPv6 addresses that carry ``v4``."""
    number = int(v4)
    return [
        ipaddress.IPv6Address(value)
        for value in (
            number,
            0xFFFF << 32 | number,
            0xFFFF << 48 | number,
            0x64FF9B << 96 | number,
            0x2002 << 112 | number << 80,
            0x20010000 << 96 | int(ipaddress.IPv4Address("65.54.227.120")) << 64 | (number ^ 0xFFFFFFFF),
        )
    ]


@pytest.mark.parametrize("text", REFUSED)
def test_refused_by_default(text: str) -> None:
    assert EgressPolicy().decide(ipaddress.ip_address(text), 443) is Reason.NOT_PERMITTED


@pytest.mark.parametrize("text", PERMITTED)
def test_permitted_by_default(text: str) -> None:
    assert EgressPolicy().decide(ipaddress.ip_address(text), 443) is None


@given(V4, PORTS)
def test_clothes_make_no_difference(v4: ipaddress.IPv4Address, port: int) -> None:
    policy = EgressPolicy.parse(ports=["1-60000"], deny=["8.0.0.0/8"])
    bare = policy.decide(v4, port)
    for v6 in clothes(v4):
        if int(v6) > 1:
            assert policy.decide(v6, port) is bare, v6


@given(V4)
def test_only_global_ipv4_by_the_library_too(v4: ipaddress.IPv4Address) -> None:
    """Whatever Python's own table calls private, or is multicast, is refused."""
    if v4.is_private or v4.is_multicast or v4.is_reserved or v4.is_loopback or v4.is_link_local:
        assert EgressPolicy().decide(v4, 443) is Reason.NOT_PERMITTED


@given(V6)
def test_only_global_ipv6_by_the_library_too(v6: ipaddress.IPv6Address) -> None:
    if not carried(v6) and (not v6.is_global or v6.is_multicast or v6.is_site_local):
        assert EgressPolicy().decide(v6, 443) is Reason.NOT_PERMITTED


@given(st.one_of(V4, V6), PORTS)
def test_deny_beats_allow_beats_defaults_beat_ports(ip: object, port: int) -> None:
    text = f"[{ip}]" if ip.version == 6 else str(ip)
    allowed = EgressPolicy.parse(allow=[f"{text}:{port}"], ports=["1"])
    assert allowed.decide(ip, port) is None
    assert EgressPolicy.parse(allow=[text], deny=[f"{text}:{port}"]).decide(ip, port) is Reason.NOT_PERMITTED
    assert EgressPolicy.parse(deny=["*"]).decide(ip, port) is Reason.NOT_PERMITTED
    assert EgressPolicy.parse(allow=["*"], ports=["1"]).decide(ip, port) is None
    other = port % 65535 + 1
    public = EgressPolicy().decide(ip, other) is None
    assert (EgressPolicy.parse(allow=[f"{text}:{port}"]).decide(ip, other) is None) is public


def test_the_issue_s_examples() -> None:
    policy = EgressPolicy.parse(
        allow=[
            "127.0.0.1:8080",
            "10.0.0.0/8",
            "127.0.0.0/8:8000-9000",
            "[::1]:80",
            "[fd00::/8]:443",
            "fd01::/16",
        ],
        deny=["*:25", "10.6.6.6"],
        ports=["80", "443", "8000-8100"],
    )
    decide = {
        ("127.0.0.1", 8080): True, ("127.0.0.1", 80): False, ("127.9.9.9", 8000): True,
        ("127.9.9.9", 9000): True,
        ("127.9.9.9", 9001): False, ("10.1.2.3", 1): True, ("10.1.2.3", 25): False,
        ("10.6.6.6", 443): False,
        ("::1", 80): True, ("::1", 81): False, ("fd00::5", 443): True, ("fd00::5", 80): False,
        ("fd01::5", 80): True,
        ("8.8.8.8", 80): True, ("8.8.8.8", 53): False, ("8.8.8.8", 8050): True, ("8.8.8.8", 25): False,
        ("::ffff:127.0.0.1", 8080): True, ("::ffff:10.6.6.6", 443): False, ("64:ff9b::10.1.2.3", 9): True,
    }  # fmt: skip
    for (text, port), permitted in decide.items():
        verdict = policy.decide(ipaddress.ip_address(text), port)
        assert (verdict is None) is permitted, (text, port)


def test_an_address_that_carries_two_needs_both_allowed() -> None:
    teredo = ipaddress.ip_address("2001:0:a00:1::f5ff:fffd")  # server 10.0.0.1, client 10.0.0.2
    assert EgressPolicy.parse(allow=["10.0.0.1"]).decide(teredo, 80) is Reason.NOT_PERMITTED
    assert EgressPolicy.parse(allow=["10.0.0.1", "10.0.0.2"]).decide(teredo, 80) is None
    assert (
        EgressPolicy.parse(allow=["10.0.0.0/8"], deny=["10.0.0.2"]).decide(teredo, 80) is Reason.NOT_PERMITTED
    )


def test_a_tunnel_within_a_site_is_judged_at_both_ends() -> None:
    """A private address behind a public network is refused, a public one behind a private network, too."""
    decide = {
        "2a00:1450::5efe:10.0.0.1": False, "2a00:1450::200:5efe:8.8.8.8": True, "fe80::5efe:8.8.8.8": False,
        "fd00::5efe:8.8.8.8": False, "2002:0808:0808::5efe:10.0.0.1": False,
    }  # fmt: skip
    for text, permitted in decide.items():
        assert (EgressPolicy.parse().decide(ipaddress.ip_address(text), 80) is None) is permitted, text
    inside = ipaddress.ip_address("2a00:1450::5efe:10.0.0.1")
    assert EgressPolicy.parse(allow=["10.0.0.0/8"]).decide(inside, 80) is None
    assert (
        EgressPolicy.parse(deny=["8.8.8.8"]).decide(ipaddress.ip_address("2a00:1450::5efe:8.8.8.8"), 80)
        is Reason.NOT_PERMITTED
    )
    unique_local = ipaddress.ip_address("fd00::5efe:10.0.0.1")
    assert EgressPolicy.parse(allow=["10.0.0.0/8"]).decide(unique_local, 80) is Reason.NOT_PERMITTED


def test_the_bridge_itself() -> None:
    known = [ipaddress.ip_address("8.8.4.4"), ipaddress.ip_address("::ffff:8.8.4.5")]
    local = {ipaddress.ip_address("9.9.9.9"), ipaddress.ip_address("2a00::1")}
    own = OwnAddresses(known, lambda ip: ip in local)
    policy = EgressPolicy.parse(own=own)
    for text in ("8.8.4.4", "8.8.4.5", "9.9.9.9", "2a00::1", "::ffff:9.9.9.9", "64:ff9b::8.8.4.4"):
        for port in (22, 443):
            assert policy.decide(ipaddress.ip_address(text), port) is Reason.NOT_PERMITTED, text
    assert policy.decide(ipaddress.ip_address("8.8.4.6"), 443) is None
    allowed = EgressPolicy.parse(own=own, allow=["9.9.9.9:443"])
    assert allowed.decide(ipaddress.ip_address("9.9.9.9"), 443) is None


def test_local_addresses_are_those_of_this_machine() -> None:
    assert is_local(ipaddress.ip_address("127.0.0.1"))
    assert not is_local(ipaddress.ip_address("8.8.8.8"))
    assert not is_local(ipaddress.ip_address("2001:4860:4860::8888"))
    assert local_test() is is_local


def test_every_problem_is_told_with_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        EgressPolicy.parse(
            allow=["10.0.0.1/8", "127.0.0.1:8080", "localhost:80", "::1:80:x"],
            deny=["[::1", "1.2.3.4:0", "1.2.3.4:99999", "[::1]/128/3:4"],
            ports=["1-", "80-20", "http", "1-65535"],
        )
    text = "\n".join(caught.value.problems)
    for place in (
        "egress.allow[0]: '10.0.0.1/8' has bits set behind its prefix: did you mean 10.0.0.0/8?",
        "egress.allow[2]: 'localhost:80' is no rule",
        "egress.allow[3]: ", "egress.deny[0]: ", "egress.deny[1]: '0' ", "egress.deny[2]: '99999' ",
        "egress.deny[3]: ",
        "egress.ports[0]: ", "egress.ports[1]: '80-20' is no range", "egress.ports[2]: 'http' ",
    ):  # fmt: skip
        assert place in text
    assert len(caught.value.problems) == 10


@given(st.text(max_size=40))
def test_garbage_is_a_rule_error(text: str) -> None:
    for parse in (Rule.parse, parse_ports):
        try:
            parse(text)
        except RuleError:
            pass


@given(st.one_of(V4, V6), st.data())
def test_a_rule_matches_its_network_and_ports(ip: object, data: st.DataObject) -> None:
    bits = 32 if ip.version == 4 else 128
    network = ipaddress.ip_network(
        (int(ip), data.draw(st.integers(0, bits))) if ip.version == 4 else f"{ip}/128", strict=False
    )
    low = data.draw(PORTS)
    high = data.draw(st.integers(low, 65535))
    rule = Rule.parse(f"[{network}]:{low}-{high}" if ip.version == 6 else f"{network}:{low}-{high}")
    other = data.draw(V4 if ip.version == 4 else V6)
    for candidate in (ip, other):
        for port in (low, high, low - 1, high + 1):
            expected = candidate in network and low <= port <= high
            assert rule.matches(candidate.version, int(candidate), port) is expected
