"""A directory through tunnels of its own: for commands that run beside a client, or without one."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import AsyncIterator, Iterable

from ptproxy.config.link import Link
from ptproxy.config.quantities import Endpoint
from ptproxy.peers.dialers import Errand, Purpose, TunnelDialers, tunnel_to
from ptproxy.peers.find_directory import Directory
from ptproxy.peers.find_network import KnownNetwork


@contextlib.asynccontextmanager
async def directory_through(
    bridges: Iterable[Link], key: bytes, network: KnownNetwork, fingerprint: str
) -> AsyncIterator[Directory]:
    """A directory reached through these bridges under the X25519 private key ``key``."""
    tunnels = TunnelDialers(functools.partial(tunnel_to, fingerprint=fingerprint))
    purpose = Purpose(Errand.DIRECTORY, key=key)
    dialers = {name_of(link): tunnels.dialer(link, purpose) for link in bridges}
    directory = Directory(dialers, network, os.urandom)
    try:
        yield directory
    finally:
        await directory.close()
        await tunnels.close()


def name_of(link: Link) -> str:
    """What a bridge is called in logs and lists."""
    return str(Endpoint(link.host, link.port))
