"""What is wrong with a client: the machine, the name, and each way to the bridge as the client takes it.

A way is tried by opening one carrier exactly as the client does, page and all, one way after another; where
the client runs and is connected, it is asked instead and nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from ptproxy.cli.doctor_findings import (
    Finding,
    clock,
    descriptors,
    is_self,
    odd_addresses,
    packets,
    state_folder,
)
from ptproxy.config.link import Link
from ptproxy.config.model import ClientConfig
from ptproxy.config.quantities import Endpoint, is_ip
from ptproxy.errors import ConfigError, DialError, PtproxyError, StartError
from ptproxy.proxy.client import prepared
from ptproxy.proxy.control_asking import Asking
from ptproxy.proxy.documents import DocumentsInMemory
from ptproxy.proxy.startup import load_key
from ptproxy.tunnel.approach import degree_met
from ptproxy.tunnel.client import OpeningRefused
from ptproxy.tunnel.connect import bridge_addresses
from ptproxy.ways import Degree

WAY_TIMEOUT: Final = 60.0
"""Seconds for one way: its own limits end sooner, and several addresses take several of them."""
CLOCK: Final = 20.0
"""Seconds a clock may be off before it is worth a word: a bridge takes 60."""

ADVICE: Final = {
    Degree.OFFLINE: "this machine has no network: connect it",
    Degree.NAME: "the name is not answered, or blocked: try another resolver, or a link with an address",
    Degree.REFUSED: "the bridge does not run, or a firewall refuses: ask its operator; try another front",
    Degree.SILENT: "the address may be blocked: try another network; ask for a link with other fronts",
    Degree.HELLO_RESET: "the server's name is probably filtered: ask for a front with another name",
    Degree.HELLO_SILENT: "the server's name is probably filtered, or large packets are lost (see packets)",
    Degree.CERTIFICATE: "somebody stands between with a certificate of their own, or the bridge has a new "
    "one: never go on here; ask for a new link by another way",
    Degree.PAGE: "the web site answers, not the bridge: a used-up invite, a wrong key, a clock that is "
    "off, or a login page of this network",
    Degree.OPENING_RESET: "the connection is cut once it is used: try another codec, or another front",
    Degree.OPENING_SILENT: "TLS stands and nothing comes: large packets are lost (see packets), or the "
    "way is throttled",
    Degree.FAILED: "run ptproxy client with log: {level: debug}; its log says more",
}
"""What to do about what a way met with."""


async def examine_client(config: ClientConfig) -> AsyncIterator[Finding]:
    """Every finding, in the order in which they build on one another."""
    for finding in state_folder(config.state):
        yield finding
    yield descriptors()
    yield clock()
    running = await asyncio.to_thread(ask_running, config)
    if running is not None:
        yield _told(running)
        if running["condition"] == "connected":
            return
    else:
        async for finding in listening(config):
            yield finding
    for number, line in enumerate(config.bridge.by_front(), 1):
        async for finding in front(config, line, number, len(config.bridge.by_front())):
            yield finding


def ask_running(config: ClientConfig) -> dict[str, Any] | None:
    """What a client that runs with this state folder says; None where none does."""
    with contextlib.suppress(StartError, ConfigError), Asking(config.state, timeout=10.0) as running:
        return running.ask("state")
    return None


def _told(state: dict[str, Any]) -> Finding:
    where = ", ".join(state["listening"])
    if state["condition"] == "connected":
        return Finding("client", "fine", f"it runs and is connected; programs connect to {where}")
    return Finding(
        "client", "warning", f"it runs and is {state['condition']}: {state['why'] or 'no carrier'}"
    )


async def listening(config: ClientConfig) -> AsyncIterator[Finding]:
    """Whether the client could listen where it is to."""
    loop = asyncio.get_running_loop()
    for endpoint in config.listen:
        try:
            server = await loop.create_server(asyncio.Protocol, endpoint.literal, endpoint.port)
        except OSError:
            yield Finding(
                "port", "bad", f"another program has {endpoint}", "stop it, or write another port (listen:)"
            )
        else:
            server.close()
            await server.wait_closed()
            yield Finding("port", "fine", f"{endpoint} is free")


async def front(config: ClientConfig, line: Link, number: int, count: int) -> AsyncIterator[Finding]:
    """One front: its name, the route, and a carrier by each codec."""
    what = f"front {number} of {count}" if count > 1 else "bridge"
    where = str(Endpoint(line.host, line.port))
    try:
        addresses = await bridge_addresses(asyncio.get_running_loop(), line.host, line.port)
    except DialError:
        yield Finding(what, "bad", f"the name {line.host} is not found", ADVICE[Degree.NAME])
        return
    odd = [] if is_self(line.host) else odd_addresses(addresses)
    if odd:
        advice = "the name is blocked here: try another resolver" if not is_ip(line.host) else ""
        yield Finding(
            what, "warning", f"{line.host} has {', '.join(odd)}, which is not on the Internet", advice
        )
    route = packets(addresses[0])
    if route is not None:
        yield route
    for codec in [name for name in config.codecs if name in line.codecs]:
        finding, degree = await way(config, line, codec, f"{what}, {codec}", where)
        yield finding
        if degree.is_of_front:
            return  # whatever is spoken there


async def way(config: ClientConfig, line: Link, codec: str, what: str, where: str) -> tuple[Finding, Degree]:
    """Open one carrier as the client does, and close it again; what it met with."""
    only = config.model_copy(update={"bridge": line, "codec": (codec,)})
    loop, began = asyncio.get_running_loop(), time.monotonic()
    try:
        async with prepared(only, loop, DocumentsInMemory(), load_key(config.key)) as make:
            one = make(line)
            try:
                async with asyncio.timeout(WAY_TIMEOUT):
                    await one.dialer.start()
                off = one.dialer.tunnel.clock_offset
            finally:
                await one.stop()
    except TimeoutError:
        degree = Degree.OPENING_SILENT
        return Finding(what, "bad", f"{where}: nothing came of it within a minute", ADVICE[degree]), degree
    except StartError as error:
        return Finding(what, "bad", str(error), "mend the configuration"), Degree.FAILED
    except PtproxyError as error:
        degree = degree_met(error)
        text = str(degree) if isinstance(error, OpeningRefused) else str(error)
        return Finding(what, "bad", f"{where}: {text}", ADVICE.get(degree, ADVICE[Degree.FAILED])), degree
    if abs(off) > CLOCK:
        return Finding(
            what, "warning", f"{where}: connected, but this machine's clock is off by {off:+.0f} s",
            "set it: run systemd-timesyncd, chrony or ntpd",
        ), Degree.OPEN  # fmt: skip
    return Finding(what, "fine", f"{where}: connected after {time.monotonic() - began:.1f} s"), Degree.OPEN
