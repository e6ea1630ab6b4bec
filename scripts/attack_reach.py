"""Attacks on where a bridge goes and what time it thinks it is: SSRF, DNS rebinding, jumps of its clock."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import struct
import time
from collections import Counter
from typing import Any

from attack_crowds import SOURCES, Against, Held, Openings, certificate, connect, lax
from attack_ground import Ground
from attack_staged import ANSWERS, INSIDE, KEEP, SUFFIX
from honest_load import HOST

from ptproxy.addresses import REFUSED_V4, REFUSED_V6

NOT_PERMITTED = 2
"""SOCKS5's word for what the egress policy refuses."""
AT_ONCE = 32
JUMPS = (0.0, 30.0, -30.0, 3600.0, 0.0, -3600.0, 0.0)
"""Seconds that the bridge's clock is ahead, one after another."""
FAR = (0.0, 3600.0, 10 * 365 * 86_400.0, 0.0)
"""... so far that what was seen an hour ahead is forgotten: clients come in meanwhile."""


def forbidden() -> list[str]:
    """An address of every range that is not the Internet, in every form that leads there; own ones too."""
    plain = []
    for text in REFUSED_V4:
        network = ipaddress.IPv4Network(text)
        plain += [network[0], network[-1], network[network.num_addresses // 2]]
    plain.append(ipaddress.IPv4Address("169.254.169.254"))
    plain = [ip for ip in plain if str(ip) != HOST]
    forms = [str(ip) for ip in plain]
    for ip in plain:
        number = int(ip)
        for prefix in ("::ffff:0:0", "64:ff9b::", "::", "::ffff:0:0:0"):
            forms.append(str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | number)))
        forms.append(str(ipaddress.IPv6Address(0x2002 << 112 | number << 80 | 1)))  # 6to4
        forms.append(
            str(ipaddress.IPv6Address(0x20010000 << 96 | 0x08080808 << 64 | (~number & 0xFFFFFFFF)))
        )  # Teredo
        forms.append(str(ipaddress.IPv6Address(0x2A00 << 112 | 0x5EFE << 32 | number)))  # ISATAP
        forms.append(str(ipaddress.IPv6Address(0x0064_FF9B_0001 << 80 | number)))  # NAT64 of a site
    for text in REFUSED_V6:
        six = ipaddress.IPv6Network(text)
        forms += [str(six[0]), str(six[-1])]
    forms += ["::ffff:127.0.0.2", "64:ff9b::127.0.0.2", "::ffff:7f00:2"]
    kept = {"::1", f"::ffff:{HOST}"}  # the ground's own permission
    return [form for form in dict.fromkeys(forms) if form not in kept]


def spellings() -> list[str]:
    """Names that a lax resolver takes for addresses of 127.0.0.2 and this machine."""
    return [
        "2130706434", "0x7f000002", "0177.0.0.2", "127.2", "127.0.2", "0x7f.0.0.2", "0", "127.0.0.2.",
        "[::ffff:127.0.0.2]", "::ffff:127.0.0.2%lo", "fe80::1%1", "127.0.0.0x2", "１２７.０.０.２",
    ]  # fmt: skip


async def ask(ground: Ground, host: str, port: int) -> int:
    """The SOCKS5 reply for a target, by the first user's client."""
    reader, writer = await asyncio.open_connection(HOST, ground.users[0].socks)
    try:
        name = host.encode()
        with contextlib.suppress(ValueError):
            ip = ipaddress.ip_address(host)
            kind = b"\1" if ip.version == 4 else b"\4"
            writer.write(b"\5\1\0\5\1\0" + kind + ip.packed + struct.pack(">H", port))
            name = b""
        if name:
            writer.write(b"\5\1\0\5\1\0\3" + bytes([len(name)]) + name + struct.pack(">H", port))
        try:
            return (await asyncio.wait_for(reader.readexactly(4), 30.0))[3]
        except asyncio.IncompleteReadError:
            return 255  # the client itself would not have it
    finally:
        writer.transport.abort()


class Inside:
    """Listens where nobody may come, on the target's own port."""

    def __init__(self, port: int) -> None:
        self.came: Counter[str] = Counter()
        self._port = port
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> Inside:
        for host in (INSIDE, "127.0.0.2"):
            self._servers.append(
                await asyncio.start_server(
                    lambda _, writer, host=host: self._met(host, writer), host, self._port
                )
            )
        return self

    def _met(self, host: str, writer: asyncio.StreamWriter) -> None:
        self.came[host] += 1
        writer.close()

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()


def _judged(replies: dict[str, int], inside: Inside) -> tuple[list[str], str]:
    wrong = [f"{host}: dialled" for host, reply in replies.items() if reply == 0]
    wrong += [f"{count} connections came to {host}" for host, count in inside.came.items()]
    counted = Counter(replies.values())
    names = {
        2: "not permitted",
        3: "unreachable",
        4: "no such name",
        8: "no such kind",
        255: "the client's own no",
    }
    return wrong, ", ".join(f"{count} {names.get(reply, reply)}" for reply, count in counted.most_common())


async def ssrf(ground: Ground, seconds: float) -> dict[str, Any]:
    """Every private range in every form, and spellings of loopback, through an honest client."""
    del seconds
    addresses, names = forbidden(), spellings()
    replies: dict[str, int] = {}
    places = asyncio.Semaphore(AT_ONCE)

    async def one(host: str) -> None:
        async with places:
            replies[host] = await ask(ground, host, ground.target)

    async with Inside(ground.target) as inside:
        await asyncio.gather(*(one(host) for host in addresses + names))
        wrong, note = _judged(replies, inside)
    wrong += [
        f"{host}: reply {replies[host]}" for host in addresses if replies[host] not in (NOT_PERMITTED, 3, 255)
    ]
    return {"done": len(replies), "wrong": wrong, "note": note}


async def rebinding(ground: Ground, seconds: float) -> dict[str, Any]:
    """A name that leads to the permitted target, to the inside or to both, turning round all the time."""
    stage = ground.bridge.stage
    end, number = time.monotonic() + seconds, 0
    came: Counter[str] = Counter()
    async with Inside(ground.target) as inside:
        while time.monotonic() < end:
            answer = number % len(ANSWERS)
            stage.set(stage.ahead, answer)
            await asyncio.sleep(KEEP * (1.5 if number % 2 else 0.1))
            replies = await asyncio.gather(
                *(ask(ground, f"{name}{SUFFIX}", ground.target) for name in ("same", "same", f"n{number}"))
            )
            came.update("served" if reply == 0 else "refused" for reply in replies)
            number += 1
        stage.set(0.0, 0)
        wrong = [f"{count} connections came to {host}" for host, count in inside.came.items()]
    if not came["served"] or not came["refused"]:
        wrong.append(f"the name did not turn round: {dict(came)}")
    return {
        "done": came.total(),
        "wrong": wrong,
        "note": f"{came['served']} served outside, {came['refused']} refused",
    }


async def clock(ground: Ground, seconds: float) -> dict[str, Any]:
    """The bridge's clock jumps; what was said before a jump is said again after it."""
    return await _jumps(ground, seconds, JUMPS)


async def clock_far(ground: Ground, seconds: float) -> dict[str, Any]:
    """The clock goes years ahead, clients come in meanwhile, and it comes back."""
    return await _jumps(ground, seconds, FAR)


async def _jumps(ground: Ground, seconds: float, jumps: tuple[float, ...]) -> dict[str, Any]:
    it = Against(ground.bridge.link, ground.target, 0, seconds)
    openings = Openings(it, await certificate(it))
    recorded: list[bytes] = []
    wrong: list[str] = []
    told: list[str] = []

    async def said(opening: bytes) -> bool:
        held = await connect(it, SOURCES[0], lambda: Held(Counter()), lax())
        held.transport.write(opening)
        first = await asyncio.wait_for(held.first, 10.0)
        held.transport.abort()
        return first.startswith(b"HTTP/1.1 101")

    for ahead in jumps:
        ground.bridge.stage.set(ahead, 0)
        for number, opening in enumerate(recorded):
            if await said(opening):
                wrong.append(f"{ahead:+.0f} s: opening {number} let in again")
        fresh = openings.right()
        known = await said(fresh)
        if known or ahead == 0:
            recorded.append(fresh)
        took = await ground.newcomer()
        if took is None and ahead == 0:
            wrong.append("a newcomer is kept out although the clock is right")
        told.append(f"{ahead:+.0f} s: {'no newcomer' if took is None else f'newcomer after {took:.1f} s'}")
        await asyncio.sleep(seconds / len(jumps) / 2)
    ground.bridge.stage.set(0.0, 0)
    return {"done": len(jumps), "wrong": wrong, "note": "; ".join(told)}


CASES = {"ssrf": ssrf, "rebinding": rebinding, "clock": clock, "clock-far": clock_far}
