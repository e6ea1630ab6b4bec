"""What tor says by the environment of a managed proxy (pt-spec section 3.2, managed mode 1).

:func:`negotiate` first: only then may anything be answered but a version error.
What is wrong is a :class:`ManagedError` with the line that tor is to be told.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ptproxy.config.upstream import UpstreamProxy
from ptproxy.errors import StartError
from ptproxy.pt.arguments import ArgumentError, parse_server_options

PREFIX: Final = "TOR_PT_"
VERSIONS: Final = f"{PREFIX}MANAGED_TRANSPORT_VER"
VERSION: Final = "1"
"""The one version of the contract that there is."""
MAX_TRANSPORTS: Final = 64
"""Transports that one tor may ask for."""

Place = tuple[str, int]
"""An IP literal and a port."""


class ManagedError(StartError):
    """We cannot serve this tor: ``line`` tells it, the text tells a person."""

    def __init__(self, line: str, text: str = "") -> None:
        super().__init__(text or line)
        self.line = line


@dataclass(frozen=True, slots=True)
class Common:
    """What both sides are told."""

    state: Path
    """The only folder that may be written to; it may not exist yet."""
    ends_with_stdin: bool
    bind_ipv4: str = ""
    """The address that connections outward are to come from; ``""``: any."""
    bind_ipv6: str = ""


@dataclass(frozen=True, slots=True)
class ClientSide:
    """tor is a client."""

    common: Common
    transports: tuple[str, ...]
    proxy: UpstreamProxy | None = None


@dataclass(frozen=True, slots=True)
class BridgeSide:
    """tor is a bridge."""

    common: Common
    transports: tuple[str, ...]
    listen: Mapping[str, Place]
    """Where each transport is to listen; one that is missing listens where it likes."""
    options: Mapping[str, Mapping[str, str]] = field(repr=False)
    """The operator's ``ServerTransportOptions`` of each transport."""
    or_port: Place | None
    extended_port: Place | None
    cookie_file: Path | None
    """Where the extended port's secret is, to be read for each connection."""


def negotiate(environment: Mapping[str, str]) -> None:
    """See that tor knows our version of the contract; raises :class:`ManagedError`."""
    versions = environment.get(VERSIONS, "")
    if not versions:
        raise ManagedError(
            f"ENV-ERROR no {VERSIONS} environment variable", "this command is started by tor, not by hand"
        )
    if VERSION not in versions.split(","):
        raise ManagedError("VERSION-ERROR no-version")


def read(environment: Mapping[str, str]) -> ClientSide | BridgeSide:
    """What tor wants; raises :class:`ManagedError`."""
    client, bridge = (environment.get(f"{PREFIX}{side}_TRANSPORTS", "") for side in ("CLIENT", "SERVER"))
    if client and bridge:
        raise _wrong("TOR_PT_CLIENT_TRANSPORTS and TOR_PT_SERVER_TRANSPORTS are both set")
    if not client and not bridge:
        raise _wrong("no TOR_PT_CLIENT_TRANSPORTS or TOR_PT_SERVER_TRANSPORTS environment variable")
    state = environment.get(f"{PREFIX}STATE_LOCATION", "")
    if not state or "\0" in state:
        raise _wrong("no TOR_PT_STATE_LOCATION environment variable")
    common = Common(
        Path(state),
        environment.get(f"{PREFIX}EXIT_ON_STDIN_CLOSE") == "1",
        _bind(environment, "V4", 4),
        _bind(environment, "V6", 6),
    )
    transports = tuple(dict.fromkeys(name for name in (client or bridge).split(",") if name))
    if len(transports) > MAX_TRANSPORTS:
        raise _wrong(f"more than {MAX_TRANSPORTS} transports are asked for")
    if client:
        return ClientSide(common, transports, _proxy(environment))
    return _bridge_side(environment, common, transports)


def parse_place(text: str) -> Place:
    """``IP:PORT`` or ``[IPv6]:PORT``; raises :class:`ValueError`."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    if not colon or bracketed != (address.version == 6) or not (port.isascii() and port.isdigit()):
        raise ValueError("expected IP:PORT or [IPv6]:PORT")
    if not int(port) < 65536 or len(port) > 5:
        raise ValueError("a port has at most 65535")
    return str(address), int(port)


def format_place(place: Place) -> str:
    """The reverse of :func:`parse_place`."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bridge_side(environment: Mapping[str, str], common: Common, transports: tuple[str, ...]) -> BridgeSide:
    try:
        options = parse_server_options(environment.get(f"{PREFIX}SERVER_TRANSPORT_OPTIONS", ""))
    except ArgumentError as error:
        raise _wrong(f"TOR_PT_SERVER_TRANSPORT_OPTIONS: {error}") from None
    or_port = _place(environment, "ORPORT")
    extended = _place(environment, "EXTENDED_SERVER_PORT")
    cookie = environment.get(f"{PREFIX}AUTH_COOKIE_FILE", "")
    if or_port is None and extended is None:
        raise _wrong("need TOR_PT_ORPORT or TOR_PT_EXTENDED_SERVER_PORT environment variable")
    if extended is not None and not cookie:
        raise _wrong("need TOR_PT_AUTH_COOKIE_FILE with TOR_PT_EXTENDED_SERVER_PORT")
    listen = _listen(environment)
    return BridgeSide(
        common, transports, listen, options, or_port, extended, Path(cookie) if extended is not None else None
    )


def _listen(environment: Mapping[str, str]) -> dict[str, Place]:
    """``TOR_PT_SERVER_BINDADDR``: ``transport-IP:PORT,…``; a transport's name has no dash (pt-spec 3.1).

    It may be missing, as may any transport in it (pt-spec 3.2.3 and appendix B).
    """
    text = environment.get(f"{PREFIX}SERVER_BINDADDR", "")
    listen: dict[str, Place] = {}
    for entry in text.split(",") if text else ():
        name, dash, place = entry.partition("-")
        try:
            if not dash or not name or name in listen:
                raise ValueError
            listen[name] = parse_place(place)
        except ValueError:
            raise _wrong("TOR_PT_SERVER_BINDADDR: expected TRANSPORT-IP:PORT, each transport once") from None
    return listen


def _proxy(environment: Mapping[str, str]) -> UpstreamProxy | None:
    url = environment.get(f"{PREFIX}PROXY", "")
    if not url:
        return None
    try:
        return UpstreamProxy.parse(url)
    except ValueError as error:
        raise ManagedError(f"PROXY-ERROR {error}") from None


def _place(environment: Mapping[str, str], name: str) -> Place | None:
    """An address to connect to; tor leaves the extended port empty where it has none."""
    text = environment.get(f"{PREFIX}{name}", "")
    if not text:
        return None
    try:
        place = parse_place(text)
        if not place[1]:
            raise ValueError
    except ValueError:
        raise _wrong(f"{PREFIX}{name}: expected IP:PORT") from None
    return place


def _bind(environment: Mapping[str, str], family: str, version: int) -> str:
    name = f"OUTBOUND_BIND_ADDRESS_{family}"
    text = environment.get(f"{PREFIX}{name}", "")
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
        if address.version != version:
            raise ValueError
    except ValueError:
        raise _wrong(f"{PREFIX}{name}: not an IPv{version} address") from None
    return str(address)


def _wrong(text: str) -> ManagedError:
    return ManagedError(f"ENV-ERROR {text}", text)
