"""Which hosts a contact cannot name as its mailbox."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.peers.local_hosts import is_local


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True), ("10.1.2.3", True), ("192.168.1.1", True), ("169.254.1.1", True), ("::1", True),
        ("fd00::1", True), ("localhost", True), ("printer.local", True), ("a.internal", True),
        ("router", True), ("0x7f000001", True), ("127.0.0.0x1", True), ("0x7f.0x1", True),
        ("239.1.2.3", True), ("ff02::1", True), ("::ffff:10.0.0.1", True), ("0x7f.example", False),
        ("example.org", False), ("93.184.216.34", False), ("2606:2800:220:1::1", False), ("local.org", False),
        ("fe80::1%eth0", True), ("fec0::1", True), ("64:ff9b:1::5db8:d822", True), ("2001:0:1::1", True),
        ("2606:2800:220:1:200:5efe:c0a8:101", True), ("2606:2800:220:1:0:5efe:5db8:d822", False),
    ],
)  # fmt: skip
def test_which_hosts_are_within_a_private_network(host, local):
    assert is_local(host) is local


FORMS = {
    "compatible": lambda four: four,
    "mapped": lambda four: 0xFFFF << 32 | four,
    "translated": lambda four: 0xFFFF << 48 | four,
    "NAT64": lambda four: 0x64_FF9B << 96 | four,
    "6to4": lambda four: 0x2002 << 112 | four << 80 | 1,
}


@pytest.mark.parametrize("form", FORMS)
@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_in_disguise_is_what_it_is(form, four):
    """A private one is private in each form."""
    there = str(ipaddress.IPv6Address(FORMS[form](four)))
    if is_local(str(ipaddress.IPv4Address(four))):
        assert is_local(there)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "four", ["10.0.0.1", "127.0.0.1", "192.168.7.7", "100.64.0.1", "0.0.0.0", "255.255.255.255"]
)
def test_each_form_of_a_private_address(form, four):
    assert is_local(str(ipaddress.IPv6Address(FORMS[form](int(ipaddress.IPv4Address(four))))))


@given(st.text(max_size=80))
def test_any_text_has_an_answer(host):
    assert is_local(host) in (True, False)
