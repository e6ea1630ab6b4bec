"""Targets: text and wire form, both ways, and nothing but TargetError for garbage."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptproxy.target import MAX_NAME, Target, TargetError, is_reserved, literal

labels = st.from_regex(r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,20}[a-zA-Z0-9_])?", fullmatch=True)
names = (
    st.lists(labels, min_size=1, max_size=6)
    .map(".".join)
    .filter(lambda n: not n.rsplit(".", 1)[-1].isdigit())
)
ips = st.ip_addresses().map(str).filter(lambda text: "%" not in text)
ports = st.integers(1, 65535)
addresses = st.builds(Target.address, names | ips, ports)
services = st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True).map(Target.service)
targets = addresses | services | st.just(Target.datagrams())


@given(targets)
def test_wire_round_trip(target: Target) -> None:
    wire = target.serialize()
    assert Target.parse(wire) == target
    assert Target.parse(wire).serialize() == wire
    assert len(wire) <= 2 + 253 + 2


@given(targets, st.binary(max_size=20))
def test_a_prefix_is_found_and_what_follows_is_not_eaten(target: Target, rest: bytes) -> None:
    wire = target.serialize()
    assert Target.parse_prefix(wire + rest) == (target, len(wire))
    assert Target.parse_prefix(memoryview(wire + rest)) == (target, len(wire))  # type: ignore[arg-type]
    if rest:
        with pytest.raises(TargetError):
            Target.parse(wire + rest)


@given(targets)
def test_every_cut_is_an_error(target: Target) -> None:
    wire = target.serialize()
    for cut in range(len(wire)):
        with pytest.raises(TargetError):
            Target.parse_prefix(wire[:cut])


@given(addresses)
def test_text_round_trip(target: Target) -> None:
    assert Target.parse_text(str(target)) == target


@given(targets)
def test_every_target_has_a_text_for_people(target: Target) -> None:
    assert str(target).isprintable()
    assert str(target)


@given(
    st.binary(max_size=300)
    | st.builds(lambda kind, rest: bytes((kind,)) + rest, st.integers(0, 6), st.binary(max_size=270))
)
@example(b"\x03\x00\x00\x50")
@example(b"\x05\x00")
@example(b"\x03\x07example")
def test_garbage_bytes(data: bytes) -> None:
    try:
        target, used = Target.parse_prefix(data)
    except TargetError:
        return
    assert 0 < used <= len(data)
    assert Target.parse(target.serialize()) == target


@given(st.text() | st.text("0123456789abc.:[]-_%é/\n"))
@example("example.org\n:80")
@example("a.b\n:80")
@example("[::1%lo]:80")
@example("²:80")
@example("a:²")
@example("xn--\ud800:1")
def test_garbage_text(text: str) -> None:
    try:
        target = Target.parse_text(text)
    except TargetError:
        return
    assert Target.parse(target.serialize()) == target
    assert Target.parse_text(str(target)) == target
    assert re.fullmatch(r"[a-z0-9_.:-]+", target.host)


@given(st.text(), st.integers())
def test_garbage_hosts_and_ports(host: str, port: int) -> None:
    try:
        target = Target.address(host, port)
    except TargetError:
        return
    assert Target.parse(target.serialize()) == target


@given(st.text())
@example("chat\n")
def test_garbage_services(name: str) -> None:
    try:
        target = Target.service(name)
    except TargetError:
        return
    assert Target.parse(target.serialize()) == target
    assert str(target) == f"service:{name}"
    assert str(target).isprintable()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("Example.ORG:80", "example.org", 80),
        ("example.org.:80", "example.org", 80),
        ("bücher.example:80", "xn--bcher-kva.example", 80),
        ("[0:0::1]:80", "::1", 80),
        ("192.0.2.1:65535", "192.0.2.1", 65535),
        ("_http._tcp.example:1", "_http._tcp.example", 1),
    ],
)
def test_one_spelling(text: str, host: str, port: int) -> None:
    target = Target.parse_text(text)
    assert (target.host, target.port, target.kind) == (host, port, "address")


@pytest.mark.parametrize(
    "text",
    [
        "", ":", ":80", "a", "a:", "a:0", "a:65536", "a:-1", "a: 80", "::1:80", "[fe80::1%eth0]:80",
        "1.2.3:80", "256.1.1.1:80",
        "0x7f.1:80", "a..b:80", "-a:80", "a-:80", f"{'a' * 64}:80", f"{'a.' * 127}a:80", "a b:80",
        "a/b:80", "a\x00:80", "1.2.3.4\n:80",
    ],
)  # fmt: skip
def test_no_targets(text: str) -> None:
    with pytest.raises(TargetError):
        Target.parse_text(text)


def test_a_host_that_is_only_digits_and_dots_is_never_a_name() -> None:
    for text in ("1", "127.1", "1.2.3.4.5", "2130706433", "a.1"):
        with pytest.raises(TargetError):
            Target.address(text, 80)


def test_the_longest_name() -> None:
    name = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert len(name) == MAX_NAME
    assert Target.parse(Target.address(name, 1).serialize()).host == name
    with pytest.raises(TargetError):
        Target.address(name + "e", 1)


def test_wire_form_byte_by_byte() -> None:
    assert Target.address("192.0.2.1", 80).serialize() == bytes.fromhex("01 c0000201 0050")
    assert Target.address("2001:db8::1", 443).serialize() == bytes.fromhex(
        "04 20010db8000000000000000000000001 01bb"
    )
    assert Target.address("a.b", 80).serialize() == bytes.fromhex("03 03 612e62 0050")
    assert Target.service("chat").serialize() == bytes.fromhex("05 04 63686174")
    assert Target.datagrams().serialize() == b"\x06"


def test_a_name_that_is_an_address_comes_out_as_one() -> None:
    target = Target.parse(b"\x03\x09192.0.2.1\x00\x50")
    assert target.ip == ipaddress.ip_address("192.0.2.1")
    assert Target.address("a.b", 1).ip is None
    assert Target.address("::ffff:192.0.2.1", 1).ip is not None


@pytest.mark.parametrize(
    ("target", "service"),
    [
        (Target.service("mailbox"), "mailbox"),
        (Target.address("mailbox.ptproxy.internal", 1), "mailbox"),
        (Target.address("Shape.PtProxy.Internal.", 443), "shape"),
        (Target.address("ptproxy.internal", 80), ""),
        (Target.address("a.b.ptproxy.internal", 80), ""),
        (Target.address("1a.ptproxy.internal", 80), ""),
        (Target.address("notptproxy.internal", 80), None),
        (Target.address("ptproxy.internal.example", 80), None),
        (Target.address("192.0.2.1", 80), None),
        (Target.datagrams(), None),
    ],
    ids=str,
)
def test_which_service_a_target_asks_for(target: Target, service: str | None) -> None:
    assert target.service_name == service
    assert is_reserved(target.host) == (service is not None and target.kind == "address")


@given(
    st.one_of(
        st.text(max_size=20),
        st.text("0123456789.:afg%²٣", max_size=20),
        st.ip_addresses().map(str),
        st.sampled_from(
            ["", "example.org", "1.2.3.4.", "01.2.3.4", "1.2.3", "fe80::1%eth0", "::ffff:1.2.3.4"]
        ),
    )
)
def test_a_literal_is_what_the_standard_library_reads(host: str) -> None:
    expected: ipaddress.IPv4Address | ipaddress.IPv6Address | None
    try:
        expected = ipaddress.ip_address(host)
    except ValueError:
        expected = None
    assert literal(host) == expected
