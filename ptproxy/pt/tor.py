"""``ptproxy tor-pt``: a managed proxy from its start to its end.

Sockets are opened and tor is told of them before the tunnel is imported; who
connects meanwhile waits in the kernel. What goes wrong after that is a LOG line
and an exit status that is not 0.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ptproxy import __version__
from ptproxy.config.link import Link
from ptproxy.errors import StartError, why
from ptproxy.pt import tor_lines as lines
from ptproxy.pt.arguments import ArgumentError
from ptproxy.pt.bridge_line import TRANSPORTS, line_arguments
from ptproxy.pt.doors import open_door, place_of
from ptproxy.pt.identity import Identity, hold_folder, load_identity
from ptproxy.pt.loading import leave_at_signals
from ptproxy.pt.tor_environment import (
    BridgeSide,
    ClientSide,
    ManagedError,
    Place,
    format_place,
    negotiate,
    read,
)
from ptproxy.pt.wanted import Wanted
from ptproxy.pt.webtunnel_line import TRANSPORT as WEBTUNNEL
from ptproxy.pt.webtunnel_line import webtunnel_arguments
from ptproxy.state import StateFolder

KNOWN: Final = (*TRANSPORTS, WEBTUNNEL)
"""Every transport that tor may ask for."""
FOLDER: Final = "ptproxy"
"""Our folder in tor's ``pt_state``, which other transports may use, too."""
LOOPBACK: Final = "127.0.0.1"
"""Where tor's own connections are taken."""

ANYWHERE: Final = ("0.0.0.0", 0)
"""Where a transport listens for clients if tor does not say: what tor itself takes for that."""

EXPLANATION: Final = """\
ptproxy tor-pt is started by tor, not by hand: torrc says so, and tor's environment says the rest.

A client's torrc, with the line that the bridge's operator gave out:
  UseBridges 1
  ClientTransportPlugin ptproxy exec {program} tor-pt
  Bridge ptproxy ADDRESS:PORT FINGERPRINT key=... path=... name=... cert=...

A bridge's torrc; the line to give out is then in its DataDirectory, file bridgelines:
  BridgeRelay 1
  ORPort 127.0.0.1:auto
  AssumeReachable 1
  ExtORPort auto
  ServerTransportPlugin ptproxy exec {program} tor-pt
  ServerTransportListenAddr ptproxy 0.0.0.0:443

Other names than ptproxy choose how it looks: ptproxy_ws, ptproxy_http, ptproxy_random.
"""


def run_tor(environment: Mapping[str, str]) -> int:
    """Serve the tor that started us; returns the exit status."""
    leave_at_signals()
    parent = os.getppid()
    try:
        negotiate(environment)
        say(lines.VERSION)
        side = read(environment)
        if isinstance(side, ClientSide):
            return _run_client(side, parent)
        return _run_bridge(side, parent)
    except ManagedError as error:
        say(error.line)
        if not any(name.startswith("TOR_PT_") for name in environment):
            sys.stderr.write(EXPLANATION.format(program=_program()))
        else:
            sys.stderr.write(f"ptproxy: {error}\n")
    except StartError as error:
        say(lines.log("error", str(error)))
        sys.stderr.write(f"ptproxy: {error}\n")
    return 1


def murmur(line: str) -> None:
    """Tell tor one line that it can do without: not while it does not read, or all would wait for it."""
    with contextlib.suppress(OSError, ValueError):  # where a pipe cannot be asked (Windows)
        if not select.select([], [1], [], 0)[1]:
            return
    say(line)


def say(line: str) -> None:
    """Tell tor one line. A tor that is gone is told nothing; it also closed our input."""
    data = f"{line}\n".encode("ascii", "replace")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        pass


def _run_client(side: ClientSide, parent: int) -> int:
    if side.proxy is not None:
        if importlib.util.find_spec("python_socks") is None:
            text = "an upstream proxy needs: pip install 'ptproxy[upstream]'"
            raise ManagedError(f"PROXY-ERROR {text}", text)
        say(lines.PROXY_DONE)
    doors: dict[str, socket.socket] = {}
    for transport in side.transports:
        if transport not in KNOWN:
            continue  # another program may know it (pt-spec section 3.3.2)
        try:
            doors[transport] = open_door(LOOPBACK, 0)
        except OSError as error:
            say(lines.client_method_error(transport, f"cannot listen on {LOOPBACK}: {why(error)}"))
        else:
            say(lines.client_method(transport, place_of(doors[transport])))
    say(lines.CMETHODS_DONE)
    if not doors:
        return _nothing_to_do()
    from ptproxy.pt.tor_client import serve_client  # noqa: PLC0415  (after tor has been told)
    from ptproxy.tunnel import runtime  # noqa: PLC0415

    _introduce()
    runtime.run(serve_client(side, doors, murmur, parent))
    return 0


def _run_bridge(side: BridgeSide, parent: int) -> int:
    made: list[tuple[str, socket.socket, StateFolder, Identity, Wanted]] = []
    for transport in side.transports:
        if transport not in KNOWN:
            continue
        try:
            sock, state, identity, wanted, arguments = _make(side, transport)
        except (StartError, ArgumentError) as error:
            say(lines.bridge_method_error(transport, str(error)))
        else:
            say(lines.bridge_method(transport, place_of(sock), arguments))
            made.append((transport, sock, state, identity, wanted))
    say(lines.SMETHODS_DONE)
    if not made:
        return _nothing_to_do()
    from ptproxy.pt.tor_bridge import Offer, serve_bridge  # noqa: PLC0415  (after tor has been told)
    from ptproxy.tunnel import runtime  # noqa: PLC0415

    _introduce()
    runtime.run(serve_bridge(side, [Offer(*each) for each in made], parent))
    return 0


def _make(
    side: BridgeSide, transport: str
) -> tuple[socket.socket, StateFolder, Identity, Wanted, dict[str, str]]:
    """Listen for a transport's clients, know who we are and what they must be told.

    Raises StartError or ArgumentError; then nothing is left open: a port that answers nobody is seen.
    """
    place = side.listen.get(transport, ANYWHERE)
    wanted = Wanted.parse(side.options.get(transport, {}))
    try:
        sock = open_door(*place)
    except OSError as error:
        raise StartError(f"cannot listen on {format_place(place)}: {why(error)}") from None
    with contextlib.ExitStack() as stack:
        stack.callback(sock.close)
        state = stack.enter_context(hold_folder(side.common.state.absolute() / FOLDER / transport))
        identity = load_identity(state, wanted)
        arguments = _arguments(transport, identity, wanted, place_of(sock))
        stack.pop_all()  # the caller's from now on
        return sock, state, identity, wanted, arguments


def _arguments(transport: str, identity: Identity, wanted: Wanted, place: Place) -> dict[str, str]:
    """What clients must be told of the bridge; raises StartError where no client could use it."""
    host, port = place
    if wanted.config is not None:
        return _written_arguments(transport, identity, wanted.config, place)
    if transport == WEBTUNNEL:
        if wanted.certificate is None or identity.pin:
            raise StartError("WebTunnel needs name, certificate and private-key, signed by an authority")
        if wanted.site.startswith("https:"):
            raise StartError("with WebTunnel, site is builtin or an http:// address")
        return webtunnel_arguments(identity.name, port, identity.path)
    codecs = TRANSPORTS[transport]
    link = Link(
        key=identity.public,
        host=host,
        port=port,
        path=identity.path,
        server_name=identity.name,
        codecs=codecs,
        pin=identity.pin or None,
    )
    return line_arguments(link, codecs)


def _written_arguments(transport: str, identity: Identity, path: Path, place: Place) -> dict[str, str]:
    """As :func:`_arguments`, for a bridge with a configuration of its own."""
    from ptproxy.pt.written_bridge import fitted, read_written  # noqa: PLC0415  (only for it)

    codecs = TRANSPORTS.get(transport, ("websocket",))
    config = fitted(read_written(path), path.parent, codecs, place)
    if transport == WEBTUNNEL:
        if identity.pin or (config.mode == "standalone" and str(config.site).startswith("https:")):
            raise StartError("WebTunnel needs an authority's certificate, and no site that is https://")
        return webtunnel_arguments(identity.name, config.address.port, identity.path)
    link = config.link(identity.public, identity.pin or None)
    return line_arguments(link, codecs, address=str(config.address))


def _nothing_to_do() -> int:
    """Nothing was started: tor was told why, transport by transport, or never asked for one of ours."""
    say(lines.log("error", f"no transport was started; known are {', '.join(KNOWN)}"))
    return 1


def _introduce() -> None:
    """Tell tor who we are, and what we log."""
    from ptproxy import log  # noqa: PLC0415  (after tor has been told)

    say(lines.version_status("ptproxy", __version__))
    log.tell(lambda level, text: murmur(lines.log(level, text)))


def _program() -> str:
    """The command, as torrc is to name it."""
    return os.path.abspath(sys.argv[0]) if sys.argv[0].endswith("ptproxy") else "/usr/bin/ptproxy"
