"""All that is not the Internet, in every form, by each way out: TCP and UDP, by number and by name."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest
from proxy_live import run, until

from ptproxy.addresses import REFUSED_V4, REFUSED_V6
from ptproxy.errors import DialError, Reason
from ptproxy.proxy.egress import EgressDialer
from ptproxy.proxy.egress_udp import EgressAssociation
from ptproxy.proxy.policy import EgressPolicy
from ptproxy.proxy.resolve import Resolver
from ptproxy.target import Target

PORT = 443
OUTSIDE = "127.0.0.9"
"""What these tests permit; nothing is dialled, and if it were, nothing beyond this machine."""
NAMED = (
    *("0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254"),
    *("172.31.255.255", "192.0.0.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "224.0.0.1"),
    *("239.255.255.250", "240.0.0.1", "255.255.255.255", "192.0.0.192", "100.100.100.200", "168.63.129.16"),
)
SIX = ("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fec0::1", "ff02::1", "ff0e::1",
       "64:ff9b:1::a00:1", "100::1", "2001:db8::1", "3fff::1", "4000::1", "5f00::1", "e000::1")  # fmt: skip


def carrying(ip: ipaddress.IPv4Address) -> list[str]:
    """What stands for an address of IPv4: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP."""
    number = int(ip)
    numbers = [int(ipaddress.IPv6Address(prefix)) | number for prefix in (
        "::ffff:0:0", "::", "::ffff:0:0:0", "64:ff9b::", "64:ff9b:1::",
        "2a00::5efe:0:0", "2a00::200:5efe:0:0", "fe80::5efe:0:0",
    )]  # fmt: skip
    numbers += [0x2002 << 112 | number << 80 | low for low in (0, 1)]
    numbers += [
        0x20010000 << 96 | number << 64 | 0xF7F7F7F7,  # Teredo's server
        0x20010000 << 96 | 0x08080808 << 64 | number ^ 0xFFFFFFFF,  # its client
    ]
    return [str(ipaddress.IPv6Address(each)) for each in numbers]


def forms() -> list[str]:
    fours = [ipaddress.IPv4Address(text) for text in NAMED]
    for text in REFUSED_V4:
        network = ipaddress.IPv4Network(text)
        fours += [network[0], network[-1]]
    sixes = [
        str(ip)
        for text in REFUSED_V6
        for ip in (ipaddress.IPv6Network(text)[0], ipaddress.IPv6Network(text)[-1])
    ]
    found = [*map(str, fours), *SIX, *sixes, *(form for four in fours for form in carrying(four))]
    return list(dict.fromkeys(found))


FORMS = forms()


class Names:
    """A resolver's answers: ``n.example`` has the n-th form, and ``beside`` where that is given."""

    def __init__(self, *, scope: str = "", beside: str = "") -> None:
        self.scope = scope
        self.beside = beside

    def __call__(self, name: str) -> list[object]:
        texts = [FORMS[int(name.partition(".")[0])]]
        if ":" in texts[0] and texts[0].startswith("fe80"):
            texts[0] += self.scope
        texts += [self.beside] if self.beside else []
        return [
            (
                socket.AF_INET6 if ":" in ip else socket.AF_INET,
                1,
                6,
                "",
                (ip, 0, 0, 2)[: 4 if ":" in ip else 2],
            )
            for ip in texts
        ]


class Watched(EgressDialer):
    """Notes what it would dial, and dials nothing."""

    def __init__(self, names: Names) -> None:
        loop = asyncio.get_running_loop()
        policy = EgressPolicy.parse(allow=[OUTSIDE])
        super().__init__(loop, policy, Resolver(loop, lookup=names))
        self.dialled: list[str] = []

    async def _connect(self, ip, port, protocol, timeout):  # noqa: ASYNC109  (as it is there)
        self.dialled.append(str(ip))
        raise DialError(Reason.REFUSED)


async def refused(dialer: EgressDialer, host: str) -> Reason:
    with pytest.raises(DialError) as caught:
        await dialer.dial(Target.address(host, PORT), asyncio.Protocol())
    return caught.value.reason


def test_there_are_all_kinds() -> None:
    assert len(FORMS) > 400
    assert sum(":" in form for form in FORMS) > 350


def test_tcp_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        dialer = Watched(Names())
        reasons = {form: await refused(dialer, form) for form in FORMS}
        assert not {form: each for form, each in reasons.items() if each is not Reason.NOT_PERMITTED}
        assert dialer.dialled == []
        assert await refused(dialer, OUTSIDE) is Reason.REFUSED  # it would have been seen
        assert dialer.dialled == [OUTSIDE]

    run("asyncio", monkeypatch, main)


@pytest.mark.parametrize("scope", ["", "%2", "%lo"])
def test_tcp_by_name(monkeypatch: pytest.MonkeyPatch, scope: str) -> None:
    async def main() -> None:
        dialer = Watched(Names(scope=scope))
        reasons = {form: await refused(dialer, f"{number}.example") for number, form in enumerate(FORMS)}
        assert not {
            form: each
            for form, each in reasons.items()
            if each not in (Reason.NOT_PERMITTED, Reason.NAME_NOT_FOUND, Reason.HOST_UNREACHABLE)
        }
        assert dialer.dialled == []

    run("asyncio", monkeypatch, main)


def test_a_name_that_has_a_permitted_address_too_leads_to_that_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        dialer = Watched(Names(beside=OUTSIDE))
        for number in range(len(FORMS)):
            await refused(dialer, f"{number}.example")
        assert set(dialer.dialled) == {OUTSIDE}

    run("asyncio", monkeypatch, main)


class Receiver:
    """Hears nothing."""

    def datagram_received(self, source: Target, data: bytes) -> None:
        raise AssertionError

    def association_lost(self, exc: DialError | None) -> None:
        pass


def test_udp_by_number_and_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []
    monkeypatch.setattr(EgressAssociation, "_reach", lambda _, target, ip, *rest: reached.append(str(ip)))

    async def main() -> None:
        dialer = Watched(Names(scope="%2"))
        association = await dialer.associate(Receiver())
        for number, form in enumerate(FORMS):
            association.send_datagram(Target.address(form, PORT), b"x")
            association.send_datagram(Target.address(f"{number}.example", PORT), b"x")
            await until(lambda: not association._lookups)
        assert reached == []
        association.send_datagram(Target.address(OUTSIDE, PORT), b"x")
        assert reached == [OUTSIDE]
        await dialer.close()

    run("asyncio", monkeypatch, main)
