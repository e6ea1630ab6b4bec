"""A plugged-in bridge that has a configuration of its own: the option ``config=FILE``.

The file is a bridge's, as ``ptproxy init bridge`` writes it: standing alone or
behind a web server, its key, path, certificates, pages, looks and limits. What the
parent decides stays the parent's: where it listens, where state is kept, and that
clients reach the parent and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ptproxy.config.load import load_bridge
from ptproxy.config.model import BridgeConfig
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import ConfigError, StartError
from ptproxy.proxy.startup import load_key
from ptproxy.pt.bridge_line import fronts_for
from ptproxy.pt.identity import Identity
from ptproxy.tunnel.certificate import pin_for


def read_written(path: Path) -> BridgeConfig:
    """The configuration; raises :class:`~ptproxy.errors.StartError`, which ends in the parent's log."""
    try:
        config = load_bridge(path)
    except ConfigError:  # its text may quote the file, whose path is a secret
        raise StartError(f"config: {path} cannot be used: ptproxy check {path} says why") from None
    if config.access != "open":
        raise StartError(f"config: {path}: a bridge line carries no invites: write access: open")
    return config


def written_identity(config: BridgeConfig) -> Identity:
    """What clients are told of such a bridge; raises :class:`~ptproxy.errors.StartError`."""
    tls = config.tls
    shown = tls.certificate if config.mode == "standalone" else tls.front_certificate
    pin = pin_for(shown) if shown is not None and tls.binding == "certificate" else None
    return Identity(load_key(config.key).public, config.path, config.server_name, pin or b"")


def fitted(config: BridgeConfig, folder: Path, codecs: Sequence[str], place: tuple[str, int]) -> BridgeConfig:
    """The configuration as the parent has it run; raises :class:`~ptproxy.errors.StartError`.

    ``codecs``: what the transport may use.
    """
    listen = Endpoint(*place)
    if config.mode == "behind" and not listen.is_local:
        raise StartError(
            f"config says mode: behind, so only the web server may reach the bridge: have it listen on "
            f"127.0.0.1, not on {listen}"
        )
    kept = tuple(codec for codec in config.codecs if codec in codecs)
    if not kept:
        raise StartError(f"config names none of this transport's codecs: {', '.join(codecs)}")
    return config.model_copy(
        update={
            "listen": (listen,),
            "state": folder,
            "codecs": kept,
            "fronts": fronts_for(config.fronts, kept),
        }
    )
