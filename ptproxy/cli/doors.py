"""A client's ports, opened before the rest of the program is loaded: what connects early waits in the kernel.

Reading a configuration well, and loading all that a tunnel is made of, takes longer than programs like to
wait for a port. This is a quick look that says nothing: whatever is unusual or wrong gets no door here, and
is dealt with, or told, where the configuration is read properly.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

from ptproxy.config.quantities import Endpoint, parse_listen
from ptproxy.pt.doors import open_door

MOST_BYTES: Final = 64 << 10
"""Bytes of a configuration that is looked at so; commented ones have some 4 KiB."""
MOST_DOORS: Final = 8
"""Sockets opened so; a client has one or two."""

Doors = dict[Endpoint, socket.socket]


@contextlib.contextmanager
def early_doors(path: Path) -> Iterator[Doors]:
    """Listening sockets by what the configuration calls them, closed at the end unless taken out.

    Only on loopback: whether a port may be open to others is for the whole configuration to say.
    """
    doors: Doors = {}
    try:
        for endpoint in _wanted(path):
            with contextlib.suppress(OSError):  # taken: told with the reason later
                doors[endpoint] = open_door(endpoint.literal, endpoint.port)
        yield doors
    finally:
        for sock in doors.values():
            sock.close()


def _wanted(path: Path) -> list[Endpoint]:
    """Where a client's file wants to listen on loopback."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            return []  # its first part may mean something else
        settings = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  (both are safe)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return []
    if not isinstance(settings, dict) or settings.get("role") != "client":
        return []
    listen = settings.get("listen")
    found: list[Endpoint] = []
    for word in listen if isinstance(listen, list) else [listen]:
        with contextlib.suppress(ValueError):
            endpoint = parse_listen(word) if isinstance(word, str) else None
            if endpoint is not None and endpoint.unix is None and endpoint.is_local:
                found.append(endpoint)
    return list(dict.fromkeys(found))[:MOST_DOORS]
