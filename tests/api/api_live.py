"""A bridge within the test's process, made with ``ptproxy.serve``, and what its clients reach through it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import ssl
from pathlib import Path

from proxy_cert import make_certificate

import ptproxy
from ptproxy.auth.credentials import StaticKey
from ptproxy.config.model import BridgeConfig

RNG = random.SystemRandom()
PLAIN = {"tls": {"fingerprint": "python"}, "shape": "none"}
"""Options of a client that costs little to start: nobody's hello, no visit."""


def bridge_config(folder: Path, **changes) -> BridgeConfig:
    """A bridge's configuration, whose files are in ``folder``."""
    return BridgeConfig.model_validate(bridge_settings(folder) | changes, context={"folder": folder})


def bridge_settings(folder: Path) -> dict[str, object]:
    """What ``ptproxy init bridge`` would have made, in ``folder``."""
    certificate, private_key = make_certificate(folder)
    private_key.chmod(0o600)
    key = folder / "bridge.key"
    if not key.exists():
        key.write_text(StaticKey.generate(RNG).serialize_private())
        key.chmod(0o600)
    return {
        "role": "bridge",
        "mode": "standalone",
        "listen": "127.0.0.1:0",
        "address": "127.0.0.1:443",
        "key": "bridge.key",
        "tls": {
            "certificate": certificate.name,
            "private_key": private_key.name,
            "server_name": "localhost",
        },
        "access": "open",
        "site": "builtin",
        "state": "bridge-state",
        "egress": {"allow": ["127.0.0.1", "::1"]},
        "limits": {"drain": "0s"},
    }


@contextlib.asynccontextmanager
async def pair(folder: Path, *, services=None, bridge=None, **options):
    """A client of a bridge, both within this process."""
    async with (
        ptproxy.serve(bridge_config(folder, **(bridge or {})), services=services) as running,
        ptproxy.connect(running.link(), **(PLAIN | options)) as client,
    ):
        yield client


def target_tls(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A target's TLS and a client's that trusts it, for the name ``localhost``."""
    place = folder / "target"
    place.mkdir()
    certificate, key = make_certificate(place)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def settled() -> None:
    """The loop has had its turns: transports that were closed are gone."""
    for _ in range(5):
        await asyncio.sleep(0)
