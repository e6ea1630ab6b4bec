"""What is wrong with a bridge: the machine, its certificate, its ports, its web site."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from ptproxy.cli.check import site_problems
from ptproxy.cli.doctor_findings import Finding, clock, descriptors, state_folder
from ptproxy.config.model import BridgeConfig
from ptproxy.config.quantities import Endpoint, SiteUrl, is_ip
from ptproxy.errors import ConfigError, StartError, why
from ptproxy.proxy.control_asking import Asking
from ptproxy.proxy.policy import is_local

TIMEOUT: Final = 10.0
"""Seconds for a connection to the bridge's own ports and site."""
SOON: Final = 14 * 86_400.0
"""Seconds before its end from which a certificate is to be renewed."""


async def examine_bridge(config: BridgeConfig) -> AsyncIterator[Finding]:
    """Every finding; only the bridge's own ports and web site are asked."""
    for finding in state_folder(config.state):
        yield finding
    yield descriptors()
    yield memory(config)
    yield clock()
    for finding in certificate(config):
        yield finding
    yield await asyncio.to_thread(name, config)
    running = await asyncio.to_thread(ask_running, config)
    if running is not None:
        yield _told(running)
    for endpoint in config.listen:
        yield await port(endpoint, runs=running is not None)
    for finding in await asyncio.to_thread(site, config):
        yield finding


def ask_running(config: BridgeConfig) -> dict[str, Any] | None:
    """What a bridge that runs with this state folder says; None where none does."""
    with contextlib.suppress(StartError, ConfigError), Asking(config.state, timeout=10.0) as running:
        return running.ask("state")
    return None


def _told(state: dict[str, Any]) -> Finding:
    last = state["reload"]
    if last is not None and last["problems"]:
        return Finding(
            "bridge", "warning", f"it runs with an older configuration: {last['problems'][0]}",
            "mend the file, then: ptproxy reload",
        )  # fmt: skip
    if state["memory"]["pressed"]:
        return Finding("bridge", "warning", "its memory for streams is used up", "raise limits.memory")
    return Finding("bridge", "fine", f"it runs, with {state['known']} clients")


def memory(config: BridgeConfig) -> Finding:
    """Whether the machine has what the configuration permits."""
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return Finding("memory", "unknown", "this system does not tell")
    if config.limits.memory > there // 2:
        return Finding(
            "memory", "warning", f"limits.memory is more than half of this machine's {there >> 20} MiB",
            "lower it, or the system will end the bridge when it is busy",
        )  # fmt: skip
    return Finding("memory", "fine", "limits.memory fits this machine")


def certificate(config: BridgeConfig) -> Iterator[Finding]:
    """Whether the certificate that clients see is good now, and for the name they send."""
    path = config.tls.certificate or config.tls.front_certificate
    if path is None:
        yield Finding("certificate", "unknown", "none is configured: what stands in front has it")
        return
    found = _leaf(path)
    if found is None:
        yield Finding("certificate", "bad", f"{path} cannot be read", "write the file's right name and modes")
        return
    now, wanted = time.time(), config.server_name
    begins, ends = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    day = time.strftime("%Y-%m-%d", time.gmtime(ends))
    if now < begins:
        yield Finding("certificate", "bad", "it is not good yet", "set this machine's clock, or wait")
    elif now > ends:
        yield Finding("certificate", "bad", f"it ended on {day}", "renew it; the bridge reads it by itself")
    elif ends - now < SOON:
        yield Finding(
            "certificate", "warning", f"it ends on {day}", "renew it; the bridge reads it by itself"
        )
    else:
        yield Finding("certificate", "fine", f"good until {day}")
    if not _is_for(found, wanted):
        yield Finding(
            "certificate", "warning", f"it is not for {wanted}, which clients send",
            "get one for that name, or set tls.server_name: strangers see the difference",
        )  # fmt: skip


def _leaf(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError):
        return None


def _is_for(certificate: x509.Certificate, wanted: str) -> bool:
    """RFC 9525 section 6.3, wildcards in the leftmost label alone."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    if is_ip(wanted):
        return ipaddress.ip_address(wanted) in names.get_values_for_type(x509.IPAddress)
    parent = wanted.partition(".")[2]
    return any(
        each.lower() == wanted or (each[:2] == "*." and each[2:].lower() == parent)
        for each in names.get_values_for_type(x509.DNSName)
    )


def name(config: BridgeConfig) -> Finding:
    """Whether clients that look the bridge's name up come here."""
    host = config.address.host
    if is_ip(host):
        return Finding("name", "fine", f"clients dial the address {host}")
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return Finding("name", "bad", f"{host} is not found", "make a DNS record for it")
    if any(is_local(ipaddress.ip_address(each)) for each in found):
        return Finding("name", "fine", f"{host} leads here")
    return Finding(
        "name", "unknown", f"{host} leads to {', '.join(sorted(found))}, which is not this machine itself",
        "right behind a CDN, a load balancer or NAT; else mend the DNS record",
    )  # fmt: skip


async def port(endpoint: Endpoint, *, runs: bool) -> Finding:
    """Whether the bridge listens there, or could."""
    if runs:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint.host, endpoint.host)
        try:
            async with asyncio.timeout(TIMEOUT):
                if endpoint.unix is not None:
                    _, writer = await asyncio.open_unix_connection(endpoint.unix)
                else:
                    _, writer = await asyncio.open_connection(host, endpoint.port)
        except OSError as error:
            return Finding(
                "port", "bad", f"{endpoint} does not answer: {why(error)}", "ptproxy reload, or restart"
            )
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return Finding("port", "fine", f"{endpoint} answers here (a firewall in front may not let others in)")
    if endpoint.unix is not None:
        return Finding("port", "unknown", f"the bridge does not run; it would listen on {endpoint}")
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(asyncio.Protocol, endpoint.literal, endpoint.port)
    except PermissionError:
        return Finding(
            "port", "bad", f"this user may not listen on {endpoint}",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or a port from 1024",
        )  # fmt: skip
    except OSError as error:
        return Finding(
            "port", "bad", f"{endpoint}: {why(error)}", "stop what listens there, or change listen:"
        )
    server.close()
    await server.wait_closed()
    return Finding(
        "port", "warning", f"the bridge does not run; {endpoint} is free", "start it: ptproxy bridge"
    )


def site(config: BridgeConfig) -> list[Finding]:
    """Whether strangers see a web site, and the same one everywhere."""
    if config.mode == "behind":
        return [Finding("site", "unknown", "the web server in front shows it: ptproxy inspect probes looks")]
    if not isinstance(config.site, SiteUrl):
        return [
            Finding(
                "site", "warning", "site: builtin is for trials: a few pages that every ptproxy has",
                "put a web site of your own behind the bridge (site: https://127.0.0.1:8443)",
            )
        ]  # fmt: skip
    problems = list(site_problems(config))
    if problems:
        return [Finding("site", "bad", each, "ptproxy check tells more") for each in problems]
    url = config.site
    try:
        with socket.create_connection((url.host, url.port), TIMEOUT) as sock:
            if url.scheme == "https":
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # as the bridge itself
                context.wrap_socket(sock, server_hostname=config.server_name).close()
    except OSError as error:  # ssl.SSLError is one
        return [Finding("site", "bad", f"{url} does not answer: {why(error)}", "start the web server")]
    return [Finding("site", "fine", f"{url} answers")]
