"""What a user sees of a running client, and asks of it: status, health, reload, metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ptproxy.config.model import ClientConfig
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import ConfigError, StartError
from ptproxy.log import get_logger
from ptproxy.proxy.bridge_choice import BridgeChoice
from ptproxy.proxy.control import ControlPort
from ptproxy.proxy.control_files import FileWatch
from ptproxy.proxy.control_process import process_state
from ptproxy.proxy.control_reload import ConfigSource, Reloads, differing
from ptproxy.proxy.local import LocalProxy
from ptproxy.proxy.metrics_port import open_metrics
from ptproxy.proxy.metrics_roles import client_metrics
from ptproxy.proxy.one_bridge import OneBridge
from ptproxy.proxy.startup import cannot_listen
from ptproxy.proxy.users import make_users
from ptproxy.state import StateFolder
from ptproxy.tunnel.totals import Totals

RELOADED: Final = frozenset({"listen", "log", "front", "limits.connections"})
"""Settings that can change while the client runs."""
ADVICE: Final = "cannot change while the client runs: start it anew"
MOST_BRIDGES: Final = 64
"""Bridges that a status names."""
MOST_CARRIERS: Final = 64
"""Carriers of one bridge that a status names."""


log = get_logger(__name__)


@dataclass(slots=True)
class ClientParts:
    """A running client."""

    config: ClientConfig
    state: StateFolder
    tunnel: OneBridge | BridgeChoice
    proxy: LocalProxy
    totals: Totals
    places: dict[str, str]
    """Where the proxy listens, by the address that the configuration has."""
    ports: list[str]
    """What else listens, as it is told to people."""
    began_at: float

    @property
    def bridges(self) -> tuple[OneBridge, ...]:
        """Those with a tunnel."""
        return (self.tunnel,) if isinstance(self.tunnel, OneBridge) else self.tunnel.in_use


@dataclass(slots=True)
class AttendedClient:
    """A client that can be asked."""

    parts: ClientParts
    reloads: Reloads
    stopping: bool = False

    def state(self) -> dict[str, Any]:
        """Everything, for ``ptproxy status``; it names the bridges, and no target."""
        parts = self.parts
        bridges = [bridge_state(one) for one in parts.bridges]
        carriers = [carrier for bridge in bridges for carrier in bridge["carriers"]]
        sent, received = parts.totals.moved(_live(parts.bridges))
        return {
            "role": "client",
            "process": process_state(parts.began_at),
            "condition": "stopping" if self.stopping else condition(bridges),
            "why": next((bridge["error"] for bridge in bridges if bridge["error"] and not carriers), ""),
            "listening": [*parts.places.values(), *parts.ports],
            "connections": parts.proxy.connections,
            "fingerprint": parts.config.tls.fingerprint,
            "bridges": bridges,
            "choice": bridges_to_choose(parts.tunnel),
            "carriers": dict(Counter(carrier["codec"] for carrier in carriers)),
            "streams": sum(bridge["streams"] for bridge in bridges),
            "moved": {"sent": sent, "received": received, "carriers": parts.totals.carriers},
            "last_block": last_block(bridges),
            "reload": self.reloads.told(),
        }

    def health(self) -> dict[str, Any]:
        """Whether it does its work: programs reach the bridge."""
        state = self.state()
        healthy = state["condition"] == "connected"
        return {"healthy": healthy, "why": "" if healthy else state["why"] or state["condition"]}

    def prefer(self, bridge: str) -> dict[str, Any]:
        """Have new streams take this one of several bridges; raises ConfigError."""
        if isinstance(self.parts.tunnel, OneBridge):
            raise ConfigError(["this client has one bridge alone"])
        self.parts.tunnel.prefer(bridge)
        return {"preferred": bridge}

    async def reload(self) -> dict[str, Any]:
        """Read the configuration again; raises ConfigError."""
        return {"changed": list(await self.reloads.reload("command"))}

    def metrics(self) -> bytes:
        """For Prometheus."""
        return client_metrics(self.state())


async def attend_client(
    parts: ClientParts,
    loop: asyncio.AbstractEventLoop,
    stack: contextlib.AsyncExitStack,
    source: ConfigSource | None,
) -> AttendedClient:
    """Have a client be asked from now on; closed with ``stack``. Raises StartError."""
    reload = ClientReload(parts, loop, source)
    reloads = Reloads(loop, reload)
    stack.push_async_callback(reloads.stop)
    attended = AttendedClient(parts, reloads)
    if source is not None:
        reloads.watch = watch = FileWatch(loop, lambda: reloads.soon("file"))
        stack.callback(watch.stop)
        watch.follow([source.path])
    port = ControlPort(
        loop,
        {"state": attended.state, "health": attended.health, "reload": attended.reload},
        {"prefer": attended.prefer},
    )
    port.listen(parts.state.path)
    stack.push_async_callback(port.stop)
    await open_metrics(loop, stack, parts.config.metrics.listen, attended)
    if parts.config.page is not None:
        await _open_page(parts, loop, stack, parts.config.page, attended)
    return attended


async def _open_page(
    parts: ClientParts,
    loop: asyncio.AbstractEventLoop,
    stack: contextlib.AsyncExitStack,
    place: Endpoint,
    attended: AttendedClient,
) -> None:
    """Serve the page for people; the log names the file that opens it, and not its secret address."""
    from ptproxy.proxy.page.port import PagePort  # noqa: PLC0415  (only where it is wanted)
    from ptproxy.proxy.page.steering import RunningClient  # noqa: PLC0415

    page = PagePort(loop, RunningClient(attended.state, attended.prefer))
    stack.push_async_callback(page.stop)
    await page.listen(place)
    log.info(
        "the page for people: open this file in a browser", file=str(page.write_opening(parts.state.path))
    )


# ---- what is told ---------------------------------------------------------------------------------


def bridge_state(one: OneBridge) -> dict[str, Any]:
    """One bridge: its carriers, and every way to it with what it met with last."""
    dialer = one.dialer
    ways = [
        {
            "front": way.front,
            "codec": way.codec,
            "degree": str(way.degree),
            "failed_at": way.failed_at,
            "rests": round(way.rests, 1),
            "took": way.took,
            "done": way.done,
        }
        for way in dialer.approaches.state()
    ]
    return {
        "bridge": one.name,
        "carriers": list(_carriers(one))[:MOST_CARRIERS],
        "streams": dialer.streams,
        "ways": ways,
        "error": dialer.last_error,
        "account": one.account.state() if one.account is not None else None,
    }


def _carriers(one: OneBridge) -> Iterator[dict[str, Any]]:
    for tunnel in one.dialer.tunnels:
        for number, carrier in tunnel.carriers.items():
            known = tunnel.session.carriers.get(number)
            yield {
                "number": number,
                "codec": carrier.codec_name,
                "sent": carrier.sent_bytes,
                "received": carrier.received_bytes,
                "streams": known.streams if known is not None else 0,
                "rtt": known.rtt if known is not None else None,
                "suspect": known is not None and known.suspect,
            }


def _live(bridges: Sequence[OneBridge]) -> Iterator[Any]:
    for one in bridges:
        for tunnel in one.dialer.tunnels:
            yield from tunnel.carriers.values()


def bridges_to_choose(tunnel: OneBridge | BridgeChoice) -> list[dict[str, Any]]:
    """Every bridge that is known, with a tunnel or not; none where there is nothing to choose."""
    if isinstance(tunnel, OneBridge):
        return []
    return [
        {
            "bridge": each.name,
            "in_use": each.is_in_use,
            "taken": tunnel.is_taken(each.name),
            "degree": str(each.degree),
            "rests": round(each.rests, 1),
        }
        for each in tunnel.state()[:MOST_BRIDGES]
    ]


def condition(bridges: Sequence[dict[str, Any]]) -> str:
    """``connected``; else ``blocked`` where every way failed lately, or ``trying``."""
    if any(bridge["carriers"] for bridge in bridges):
        return "connected"
    ways = [way for bridge in bridges for way in bridge["ways"]]
    return "blocked" if ways and all(way["rests"] for way in ways) else "trying"


def last_block(bridges: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The way that was found blocked last; None where none is."""
    blocked = [
        {"bridge": bridge["bridge"], **way}
        for bridge in bridges
        for way in bridge["ways"]
        if way["failed_at"] is not None
    ]
    return max(blocked, key=lambda way: way["failed_at"], default=None)


# ---- reading the configuration again ----------------------------------------------------------------


@dataclass(slots=True)
class ClientReload:
    """What a client does to follow its configuration, whole or not at all."""

    parts: ClientParts
    loop: asyncio.AbstractEventLoop
    source: ConfigSource | None

    async def __call__(self) -> tuple[str, ...]:
        """Follow it; what has changed. Raises ConfigError or StartError, and then nothing has."""
        if self.source is None:
            return ()
        parts, old = self.parts, self.parts.config
        new: ClientConfig = await self.loop.run_in_executor(None, self.source.read)
        changed = tuple(differing(old, new, RELOADED))
        refused = [name for name in changed if name not in RELOADED]
        if refused:
            raise ConfigError([f"{self.source.path}: {name}: {ADVICE}" for name in refused])
        users = make_users(new)
        added = await self._listen(new)
        try:
            if new.log != old.log:
                self.source.set_up_log(new.log)
        except StartError:
            self._leave(added.values())
            raise
        wanted = {str(endpoint) for endpoint in new.listen}
        self._leave([parts.places.pop(place) for place in list(parts.places) if place not in wanted])
        parts.places.update(added)
        parts.proxy.users = users
        parts.proxy.limits = replace(parts.proxy.limits, connections=new.limits.connections)
        parts.config = new
        return changed

    async def _listen(self, new: ClientConfig) -> dict[str, str]:
        """Listen where nobody did before; raises StartError, and then nowhere."""
        added: dict[str, str] = {}
        for endpoint in new.listen:
            if str(endpoint) in self.parts.places or str(endpoint) in added:
                continue
            try:
                bound = await self.parts.proxy.listen(endpoint.literal, endpoint.port)
            except OSError as error:
                self._leave(added.values())
                raise cannot_listen(endpoint, error) from None
            added[str(endpoint)] = str(Endpoint(*bound))
        return added

    def _leave(self, bound: Any) -> None:
        for address in list(bound):
            self.parts.proxy.leave(address)
