"""Where one account may connect to: less than the bridge permits, never more."""

from __future__ import annotations

import asyncio
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_live import LOOPS, echo, run, serving

from ptproxy.errors import DialError, Reason
from ptproxy.proxy.account_policy import AccountTargets, NarrowedDialer, NarrowedPolicy
from ptproxy.proxy.egress import EgressDialer
from ptproxy.proxy.policy import EgressPolicy, RuleError
from ptproxy.target import Target


def allowed(rules: str, address: str, port: int = 443) -> bool:
    policy = NarrowedPolicy(EgressPolicy(), AccountTargets(rules.split()))
    return policy.decide(ipaddress.ip_address(address), port) is None


@pytest.mark.parametrize(
    ("rules", "address", "port", "right"),
    [
        ("93.184.216.0/24", "93.184.216.34", 80, True),
        ("93.184.216.0/24", "93.184.217.34", 80, False),
        ("*:443", "93.184.216.34", 443, True),
        ("*:443", "93.184.216.34", 80, False),
        ("*:443", "10.0.0.1", 443, False),  # the bridge refuses it
        ("*:443", "::ffff:10.0.0.1", 443, False),
        ("93.184.216.34", "64:ff9b::5db8:d822", 80, True),  # NAT64 of what is allowed
        ("93.184.216.35", "64:ff9b::5db8:d822", 80, False),
        ("example.org", "93.184.216.34", 80, False),  # a name is none of its addresses
        ("", "93.184.216.34", 80, False),
    ],
)
def test_addresses(rules: str, address: str, port: int, right: bool) -> None:
    assert allowed(rules, address, port) is right


@pytest.mark.parametrize(
    ("rule", "host", "port", "right"),
    [
        ("example.org", "example.org", 80, True),
        ("example.org", "EXAMPLE.org.", 80, True),
        ("example.org", "www.example.org", 80, False),
        ("*.example.org", "a.www.example.org", 80, True),
        ("*.example.org", "example.org", 80, True),
        ("*.example.org", "badexample.org", 80, False),
        ("example.org:443", "example.org", 80, False),
        ("example.org:80-443", "example.org", 443, True),
        ("bücher.example", "xn--bcher-kva.example", 1, True),
    ],
)
def test_names(rule: str, host: str, port: int, right: bool) -> None:
    assert AccountTargets([rule]).allows_name(host, port) is right


@pytest.mark.parametrize(
    "rule", ["", "a b", "*.", "**.org", "10.0.0.1/8", "example.org:0", "*.1.2.3.4", "x:y:z"]
)
def test_no_rules(rule: str) -> None:
    with pytest.raises(RuleError):
        AccountTargets([rule])


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_none(text: str) -> None:
    try:
        AccountTargets([text])
    except RuleError:
        pass


@pytest.mark.parametrize("kind", LOOPS[:1])
def test_dials_and_datagrams_under_both(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        whole = EgressDialer(loop, EgressPolicy.parse(allow=["127.0.0.1"]))
        async with serving(echo) as (host, port):

            async def reason(rules: str, name: str, there: int = port) -> Reason | None:
                narrow = NarrowedDialer(whole, AccountTargets(rules.split()))
                try:
                    stream = await narrow.dial(Target.address(name, there), asyncio.Protocol())
                except DialError as error:
                    return error.reason
                stream.close()
                return None

            assert await reason(f"127.0.0.1:{port}", host) is None
            assert await reason("127.0.0.1:1", host) is Reason.NOT_PERMITTED
            assert await reason("localhost", "localhost") is None
            assert await reason("localhost", host) is Reason.NOT_PERMITTED
            assert await reason("other.example", "localhost") is Reason.NOT_PERMITTED
            assert await reason(f"localhost:{port}", "localhost", port + 1) is Reason.NOT_PERMITTED
            narrow = NarrowedDialer(whole, AccountTargets([]))
            assert narrow.dials == whole.dials == 0
            association = await narrow.associate(None)  # type: ignore[arg-type]
            assert whole.associations == {association}  # one count for all
            association.close()
        await whole.close()

    run(kind, monkeypatch, main)
