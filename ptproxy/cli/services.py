"""Which services a bridge offers besides the way out: the seam between ``proxy`` and ``peers``."""

from __future__ import annotations

import functools
import secrets
from typing import TYPE_CHECKING, Final

from ptproxy.auth.credentials import StaticKey, decode_key
from ptproxy.config.model import BridgeConfig, ClientConfig, LookupsConfig
from ptproxy.config.quantities import Endpoint
from ptproxy.tunnel.stream import BridgeService, Dialer

if TYPE_CHECKING:
    from ptproxy.peers.find_client import BridgeFinder

GUARD_IDLE: Final = 600.0
"""Seconds that a tunnel to a guard is kept without a stream: the next client's look-up is quicker."""


def services_of(config: BridgeConfig, key: StaticKey | None = None) -> list[BridgeService]:
    """The services that ``config`` offers; raises :class:`~ptproxy.errors.StartError`.

    ``key``: the bridge's, where it was read already.
    """
    from ptproxy.proxy.startup import load_key

    services: list[BridgeService] = []
    if config.mailbox.offer:
        from ptproxy.peers.mailbox_service import MailboxService

        services.append(MailboxService((key or load_key(config.key)).public, config.mailbox))
    if config.rendezvous.offer:
        from ptproxy.peers.rendezvous_service import RendezvousService

        services.append(RendezvousService(config.rendezvous))
    if config.guard.offer:
        from ptproxy.peers.find_guard import GuardService

        services.append(GuardService(config.guard))
    if config.lookups.offer:
        services.append(_relay(config.lookups))
    return services


def _relay(config: LookupsConfig) -> BridgeService:
    """The way to the directory, through tunnels to the guards."""
    from ptproxy.peers.dialers import Errand, Purpose, TunnelDialers, tunnel_to
    from ptproxy.peers.find_relay import RelayService

    make = functools.partial(tunnel_to, fingerprint=config.fingerprint)
    tunnels = TunnelDialers(make, idle=GUARD_IDLE)

    def dial_with(key: bytes) -> dict[str, Dialer]:
        purpose = Purpose(Errand.DIRECTORY, key=key)
        return {str(Endpoint(link.host, link.port)): tunnels.dialer(link, purpose) for link in config.guards}

    return RelayService(dial_with, secrets.token_bytes, tunnels.close)


def finder_of(config: ClientConfig) -> BridgeFinder:
    """Who keeps a client's bridges up to date; raises :class:`~ptproxy.errors.StartError`."""
    from ptproxy.peers.dialers import Errand, Purpose, TunnelDialers, tunnel_to
    from ptproxy.peers.find_client import BridgeFinder
    from ptproxy.proxy.startup import load_key

    key = decode_key(load_key(config.key).serialize_private())
    if config.tls.fingerprint == "browser":  # no other hello is to leave: the bridge in use alone
        return BridgeFinder(config.find, config.bridge)
    tunnels = TunnelDialers(functools.partial(tunnel_to, fingerprint=config.tls.fingerprint))
    purpose = Purpose(Errand.DIRECTORY, key=key)
    return BridgeFinder(config.find, config.bridge, lambda link: tunnels.dialer(link, purpose), tunnels.close)
