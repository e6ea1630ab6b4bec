"""A WebTunnel bridge in the arguments of tor's line: ``url=https://HOST[:PORT]/SECRET ver=0.0.1``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ptproxy.config.link import check_path
from ptproxy.config.quantities import parse_address, parse_host
from ptproxy.pt.arguments import ArgumentError, read_value
from ptproxy.pt.bridge_line import FINGERPRINTS

TRANSPORT: Final = "webtunnel"
"""The transport's name, as Tor Browser knows it."""
VERSION: Final = "0.0.1"
"""``ver`` of the lines that we publish: the first version of the protocol, which all clients speak."""


@dataclass(frozen=True, slots=True)
class WebTunnelLine:
    """One WebTunnel bridge."""

    host: str
    """Where to connect; not the address of tor's bridge line, which means nothing."""
    port: int
    server_name: str
    """The TLS server name."""
    http_host: str
    path: str
    fingerprint: str = "chrome"


def parse_webtunnel(arguments: Mapping[str, str]) -> WebTunnelLine:
    """The bridge of a line: ``url=https://HOST[:PORT]/PATH``, maybe ``addr`` and ``servername``.

    Arguments that only change how another client looks (``utls``, ``ver``) are
    passed over; raises :class:`ArgumentError`.
    """
    try:
        url = read_value("url", urlsplit, arguments.get("url", ""))
        host = read_value("url", parse_host, url.hostname or "")
        port = read_value("url", lambda _: url.port or 443, "")
        if url.scheme != "https" or url.query or url.fragment or url.username is not None:
            raise ValueError("url is not one as in https://example.org/secret")
        if "cert" in arguments:
            raise ValueError("a certificate pinned by the line is not supported")
        name = host
        if "servername" in arguments:
            name = read_value("servername", parse_host, arguments["servername"])
        path = read_value("url", check_path, url.path or "/")
        address, address_port = host, port
        if "addr" in arguments:
            where = read_value("addr", parse_address, arguments["addr"])
            address, address_port = where.host, where.port
        fingerprint = arguments.get("fingerprint", FINGERPRINTS[0])
        if fingerprint not in FINGERPRINTS:
            raise ValueError(f"fingerprint is one of {', '.join(FINGERPRINTS)}")
    except ValueError as error:
        raise ArgumentError(f"the bridge line cannot be used: {error}") from None
    return WebTunnelLine(address, address_port, name, _authority(host, port), path, fingerprint)


def webtunnel_arguments(name: str, port: int, path: str) -> dict[str, str]:
    """The arguments that a bridge publishes for WebTunnel clients."""
    return {"url": f"https://{_authority(name, port)}{path}", "ver": VERSION}


def _authority(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port == 443 else f"{shown}:{port}"
