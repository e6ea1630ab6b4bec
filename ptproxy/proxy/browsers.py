"""The browsers of a client whose connections a real browser makes: one for each front that is tried.

A browser shows the bridge's site at one address, so each front has its own, with a folder of its own; it
is started when its front is tried and ended when carriers go by another one.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ptproxy.config.link import Link
from ptproxy.config.model import ClientConfig
from ptproxy.tunnel.tls import ClientTrust

if TYPE_CHECKING:
    from ptproxy.tunnel.chromium import Chromium


class Browsers:
    """One client's, made when they are asked for; where none is configured there is none."""

    def __init__(self, config: ClientConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._config = config
        self._loop = loop
        self._known: dict[tuple[bytes, str, int], Chromium] = {}

    def of(self, wanted: ClientConfig) -> Chromium | None:
        """The one for a configuration's bridge at its first front: it may be in use again before it was given
        up. Raises :class:`~ptproxy.errors.StartError` where a browser could not carry that."""
        if wanted.tls.fingerprint != "browser":
            return None
        line = wanted.bridge
        place = line.key, line.host, line.port
        found = self._known.get(place)
        if found is None:
            from ptproxy.tunnel.chromium import Chromium  # noqa: PLC0415  (only where it is wanted)

            folder = profile_of(self._config, line)
            found = Chromium(self._loop, line, make_trust(wanted), folder, wanted.tls.browser)
            self._known[place] = found
        return found

    async def stop(self, line: Link | None = None) -> None:
        """End those of a bridge; None: all."""
        for (key, *_), browser in self._known.items():
            if line is None or key == line.key:
                await browser.stop()


def profile_of(config: ClientConfig, line: Link) -> Path:
    """Where a browser keeps what it knows of the site: one folder each, as two may run at once."""
    name = "chromium"
    own = config.bridge
    if line.key != own.key:
        name += "-" + hashlib.sha256(line.key).hexdigest()[:10]
    if line.key != own.key or (line.host, line.port) != (own.host, own.port):
        name += "-" + hashlib.sha256(f"{line.host} {line.port}".encode()).hexdigest()[:10]
    return config.state / name


def make_trust(config: ClientConfig) -> ClientTrust:
    """Which certificates are accepted."""
    return ClientTrust(
        pin=config.pin,
        authorities=config.authorities,
        certificate=config.tls.client_certificate,
        private_key=config.tls.client_key,
    )
