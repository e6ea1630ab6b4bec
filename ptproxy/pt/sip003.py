"""``ptproxy sip003``: a Shadowsocks plugin from its start to its end.

Shadowsocks gives connections at once to whatever listens, and loses them until
something does: sockets are opened before the tunnel is imported.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ptproxy.config.link import Link
from ptproxy.errors import StartError, why
from ptproxy.pt.arguments import ArgumentError, serialize_options
from ptproxy.pt.bridge_line import TRANSPORTS, line_arguments, parse_line
from ptproxy.pt.doors import open_datagram_door, open_door, place_of
from ptproxy.pt.identity import Identity, hold_folder, load_identity
from ptproxy.pt.loading import leave_at_signals
from ptproxy.pt.sip003_environment import PluginSide, is_plugin, read_plugin
from ptproxy.pt.wanted import Wanted
from ptproxy.state import write_file

CODECS: Final = TRANSPORTS["ptproxy"]
STATE: Final = "state"
"""The server's option that names the folder of its keys."""
CLIENT_OPTIONS: Final = "client-options"
"""The file in that folder that says what clients need."""

EXPLANATION: Final = """\
ptproxy sip003 is started by Shadowsocks as its plugin, not by hand.

The server (the folder is made at the first start, and keeps the keys):
  ss-server ... --plugin {program} --plugin-opts "server;state=/var/lib/ptproxy-ss"
What its clients need is then in /var/lib/ptproxy-ss/client-options, or printed by
  ptproxy sip003 --client-options /var/lib/ptproxy-ss
The client:
  ss-local ... --plugin {program} --plugin-opts "key=...;path=...;name=...;cert=..."
"""


def run_sip003(environment: Mapping[str, str]) -> int:
    """Serve the Shadowsocks that started us; returns the exit status."""
    if not is_plugin(environment):
        sys.stderr.write(EXPLANATION.format(program="ptproxy-sip003"))
        return 1
    leave_at_signals()
    parent = os.getppid()
    side = read_plugin(environment)
    if side.server:
        _run_server(side, parent)
    else:
        _run_client(side, parent)
    return 0


def client_options(folder: Path) -> str:
    """The options of a server's clients, its keys made where there are none; raises StartError.

    A server that runs has the folder, and has written them there.
    """
    file = folder / CLIENT_OPTIONS
    try:
        if file.exists():
            return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise StartError(f"{file} cannot be read") from None
    with hold_folder(folder, 0.0) as state:
        return _options_of(load_identity(state, Wanted()))


def _run_client(side: PluginSide, parent: int) -> None:
    try:
        line = parse_line(side.options, CODECS, side.remote_hosts[0], side.remote_port)
    except ArgumentError as error:
        raise StartError(f"plugin options: {error}") from None
    sock = _listen(side.local_host, side.local_port)
    datagrams = _datagram_door(sock)
    from ptproxy import log  # noqa: PLC0415  (after somebody can connect)
    from ptproxy.config.model import LogConfig  # noqa: PLC0415
    from ptproxy.pt.sip003_client import serve_plugin_client  # noqa: PLC0415
    from ptproxy.tunnel import runtime  # noqa: PLC0415

    log.set_up(LogConfig())
    runtime.run(serve_plugin_client(line, sock, datagrams, parent))


def _run_server(side: PluginSide, parent: int) -> None:
    options = dict(side.options)
    folder = options.pop(STATE, "")
    if not Path(folder).is_absolute():
        raise StartError("plugin options: state must name the keys' folder, as in state=/var/lib/ptproxy-ss")
    wanted = Wanted.parse(options)
    if wanted.config is not None:
        raise StartError("config is for tor's bridges; here name, certificate, private-key and site say it")
    socks = [_listen(host, side.remote_port) for host in side.remote_hosts]
    state = hold_folder(Path(folder))
    identity = load_identity(state, wanted)
    write_file(state.path / CLIENT_OPTIONS, f"{_options_of(identity)}\n")
    place = _resolve(side.local_host, side.local_port)
    from ptproxy import log  # noqa: PLC0415  (after somebody can connect)
    from ptproxy.config.model import LogConfig  # noqa: PLC0415
    from ptproxy.pt.sip003_server import serve_plugin_server  # noqa: PLC0415
    from ptproxy.tunnel import runtime  # noqa: PLC0415

    log.set_up(LogConfig())
    runtime.run(serve_plugin_server(state, identity, wanted, socks, place, parent))


def _options_of(identity: Identity) -> str:
    link = Link(
        key=identity.public,
        host="192.0.2.1",  # Shadowsocks says where the bridge is
        port=443,
        path=identity.path,
        server_name=identity.name,
        codecs=CODECS,
        pin=identity.pin or None,
    )
    return serialize_options(line_arguments(link, CODECS))


def _listen(host: str, port: int) -> socket.socket:
    address = _resolve(host, port)
    try:
        return open_door(*address)
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {why(error)}") from None


def _resolve(host: str, port: int) -> tuple[str, int]:
    """An IP literal for a host of this machine."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(f"{host} is no host of this machine: {why(error)}") from None
    return str(found[0][4][0]), port


def _datagram_door(sock: socket.socket) -> socket.socket | None:
    """A socket for datagrams beside one for connections; without it only connections are served."""
    try:
        return open_datagram_door(*place_of(sock))
    except OSError as error:
        sys.stderr.write(f"ptproxy: no UDP: {why(error)}\n")
        return None
