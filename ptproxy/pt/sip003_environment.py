"""What Shadowsocks says by the environment of a plugin (SIP003).

``SS_REMOTE_*`` is where the bridge is, ``SS_LOCAL_*`` where Shadowsocks is: a
client's plugin listens at LOCAL and dials REMOTE, a server's the other way
round. Nothing says which side it is but a bare ``server`` among the options.
Of several hosts to listen on, a ``|`` stands between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ptproxy.errors import StartError
from ptproxy.pt.arguments import ArgumentError, parse_options

SERVER: Final = "server"
"""The option that makes it the server's side."""
MAX_HOSTS: Final = 8
"""Hosts that a server may listen on."""

_NAMES: Final = ("SS_REMOTE_HOST", "SS_REMOTE_PORT", "SS_LOCAL_HOST", "SS_LOCAL_PORT")


@dataclass(frozen=True, slots=True)
class PluginSide:
    """What a plugin is told; hosts are names or IP literals."""

    remote_hosts: tuple[str, ...]
    remote_port: int
    local_host: str
    local_port: int
    options: Mapping[str, str] = field(repr=False)
    """Without :data:`SERVER`."""
    server: bool
    """Told, not chosen: the side that a bare ``server`` says."""


def is_plugin(environment: Mapping[str, str]) -> bool:
    """Whether Shadowsocks started us."""
    return "SS_REMOTE_HOST" in environment or "SS_LOCAL_HOST" in environment


def read_plugin(environment: Mapping[str, str]) -> PluginSide:
    """What Shadowsocks wants; raises :class:`~ptproxy.errors.StartError`."""
    missing = [name for name in _NAMES if not environment.get(name)]
    if missing:
        raise StartError(f"no {' and no '.join(missing)} in the environment: Shadowsocks sets them")
    try:
        options = parse_options(environment.get("SS_PLUGIN_OPTIONS", ""))
    except ArgumentError as error:
        raise StartError(f"SS_PLUGIN_OPTIONS: {error}") from None
    hosts = tuple(dict.fromkeys(_host(host) for host in environment["SS_REMOTE_HOST"].split("|")))
    if len(hosts) > MAX_HOSTS:
        raise StartError(f"SS_REMOTE_HOST: more than {MAX_HOSTS} hosts")
    server = options.pop(SERVER, "0") != "0"
    return PluginSide(
        hosts,
        _port(environment, "SS_REMOTE_PORT"),
        _host(environment["SS_LOCAL_HOST"]),
        _port(environment, "SS_LOCAL_PORT"),
        options,
        server,
    )


def _host(text: str) -> str:
    """A host without an IPv6 address's brackets; ``::0`` is how Shadowsocks writes ``::``."""
    host = text.strip()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or not host.isprintable():
        raise StartError("SS_REMOTE_HOST and SS_LOCAL_HOST: expected a host")
    return host


def _port(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise StartError(f"{name}: expected a port from 1 to 65535")
    return int(text)
