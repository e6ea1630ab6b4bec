"""Which services a bridge offers besides the way out: the seam between ``proxy`` and ``peers``."""

from __future__ import annotations

from ptproxy.config.model import BridgeConfig
from ptproxy.tunnel.stream import BridgeService


def services_of(config: BridgeConfig) -> list[BridgeService]:
    """The services that ``config`` offers; raises :class:`~ptproxy.errors.StartError`."""
    from ptproxy.proxy.startup import load_key

    services: list[BridgeService] = []
    if config.mailbox.offer:
        from ptproxy.peers.mailbox_service import MailboxService

        services.append(MailboxService(load_key(config.key).public, config.mailbox))
    if config.rendezvous.offer:
        from ptproxy.peers.rendezvous_service import RendezvousService

        services.append(RendezvousService(config.rendezvous))
    return services
