"""What an operator sees of a running bridge, and asks of it: status, health, reload, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ptproxy.config.model import BridgeConfig
from ptproxy.proxy.certificate_dates import ends_at
from ptproxy.proxy.control import ControlPort
from ptproxy.proxy.control_bridge_reload import BridgeReload, files_of
from ptproxy.proxy.control_files import FileStatus, FileWatch, status_of
from ptproxy.proxy.control_process import process_state
from ptproxy.proxy.control_reload import ConfigSource, Reloads
from ptproxy.proxy.metrics_port import open_metrics, place_of
from ptproxy.proxy.metrics_roles import bridge_metrics
from ptproxy.proxy.succession import Parts
from ptproxy.session import RetentionBudget

MOST_CLIENTS: Final = 100
"""Clients that a status names, those with most traffic first."""


@dataclass(slots=True)
class Attended:
    """A bridge that can be asked."""

    parts: Parts
    reloads: Reloads
    stopping: bool = False

    def state(self) -> dict[str, Any]:
        """Everything, for ``ptproxy status``; no address of a client or target is in it."""
        parts, bridge = self.parts, self.parts.bridge
        sent, received = moved(parts)
        config = parts.config
        return {
            "role": "bridge",
            "process": process_state(parts.began_at),
            "condition": "stopping" if self.stopping else "running",
            "mode": config.mode,
            "listening": list(parts.listening),
            "codecs": list(config.codecs),
            "shape": config.shape if isinstance(config.shape, str) else "of its own",
            "clients": clients(parts),
            "known": len({tunnel.public for tunnel in bridge.sessions.values()}),
            "sessions": {"open": len(bridge.sessions), "limit": config.limits.sessions},
            "carriers": carriers(parts),
            "streams": bridge.streams,
            "leaving": parts.exit.streams,
            "strangers": parts.strangers,
            "undecided": bridge.gate.waiting,
            "moved": {"sent": sent, "received": received, "carriers": bridge.totals.carriers},
            "memory": memory(bridge.settings.retention),
            "accounts": accounts(parts),
            "certificate": certificate(parts),
            "reload": self.reloads.told(),
        }

    def health(self) -> dict[str, Any]:
        """Whether it does its work: it listens, and takes clients."""
        listening = bool(self.parts.listeners) and not self.stopping
        return {"healthy": listening, "why": "" if listening else "it is stopping"}

    async def reload(self) -> dict[str, Any]:
        """Read everything again; raises ConfigError."""
        return {"changed": list(await self.reloads.reload("command"))}

    def metrics(self) -> bytes:
        """For Prometheus."""
        return bridge_metrics(self.state())


async def attend(
    parts: Parts,
    loop: asyncio.AbstractEventLoop,
    stack: contextlib.AsyncExitStack,
    context: ssl.SSLContext | None,
    source: ConfigSource | None,
    *,
    read: Mapping[Path, FileStatus] | None = None,
    following: bool = False,
    worker: int = 0,
) -> Attended:
    """Have a bridge that runs be asked from now on; closed with ``stack``. Raises StartError.

    ``read``: its files as :func:`files_read` saw them.
    ``following``: it goes on for another process, which may still have the port for measures.
    ``worker``: its number among several, each of which is asked by itself.
    """
    reload = BridgeReload(parts, loop, context, source)
    reloads = Reloads(loop, reload)
    stack.push_async_callback(reloads.stop)
    parts.reloads = reloads
    attended = Attended(parts, reloads)
    if source is not None:
        reload.watch = reloads.watch = watch = FileWatch(loop, lambda: reloads.soon("file"))
        stack.callback(watch.stop)
        watch.follow(files_of(parts.config, source), read)
    port = ControlPort(loop, {"state": attended.state, "health": attended.health, "reload": attended.reload})
    port.listen(parts.state.path, worker)
    stack.push_async_callback(port.stop)
    place = parts.config.metrics.listen
    if place is not None:
        place = place_of(place, worker)
    await open_metrics(loop, stack, place, attended, wait=following)
    return attended


def files_read(config: BridgeConfig, source: ConfigSource | None) -> dict[Path, FileStatus]:
    """The files of a bridge that is about to read them: what changes from now on is to be read again.

    Its configuration it has read already.
    """
    seen = {path: status_of(path) for path in files_of(config, source)}
    return seen if source is None else seen | dict(source.seen)


def moved(parts: Parts) -> tuple[int, int]:
    """Bytes of frames sent to clients and received from them since the start."""
    bridge = parts.bridge
    return bridge.totals.moved(
        carrier for tunnel in bridge.sessions.values() for carrier in tunnel.carriers.values()
    )


def carriers(parts: Parts) -> dict[str, int]:
    """Live carriers by codec."""
    count = Counter(dict.fromkeys(parts.config.codecs, 0))
    for tunnel in parts.bridge.sessions.values():
        count.update(carrier.codec_name for carrier in tunnel.carriers.values())
    return dict(count)


def clients(parts: Parts) -> list[dict[str, Any]]:
    """Who is connected, by the names of the access list."""
    found: dict[str, dict[str, Any]] = {}
    for tunnel in parts.bridge.sessions.values():
        one = found.setdefault(
            tunnel.peer,
            {"name": tunnel.peer, "sessions": 0, "carriers": 0, "streams": 0, "sent": 0, "received": 0},
        )
        one["sessions"] += 1
        one["carriers"] += len(tunnel.carriers)
        one["streams"] += len(tunnel.session.streams)
        for carrier in tunnel.carriers.values():
            one["sent"] += carrier.sent_bytes
            one["received"] += carrier.received_bytes
    return sorted(found.values(), key=lambda one: -one["sent"] - one["received"])[:MOST_CLIENTS]


def memory(budget: RetentionBudget) -> dict[str, Any]:
    """Bytes kept for streams until clients have them."""
    return {"used": budget.used, "limit": budget.total, "pressed": budget.under_pressure}


def accounts(parts: Parts) -> dict[str, Any]:
    """How many the access list knows."""
    known = parts.accounts.list
    return {
        "access": str(parts.config.access),
        "identities": len(known.identities),
        "revoked": sum(identity.revoked for identity in known.identities.values()),
        "invites": sum(invite.uses_left > 0 for invite in known.invites.values()),
    }


def certificate(parts: Parts) -> dict[str, Any] | None:
    """When the certificate that clients see ends (unix seconds); None where the bridge knows none."""
    tls = parts.config.tls
    path: Path | None = tls.certificate or tls.front_certificate
    ends = ends_at(path) if path is not None else None
    return None if ends is None else {"ends_at": ends}
