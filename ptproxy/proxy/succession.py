"""What a running bridge does to be replaced by a new process: it stands still, hands over, serves out.

:mod:`ptproxy.proxy.handover` is the conversation of the two processes, and says who is in charge when.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ptproxy.config.model import BridgeConfig
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import PtproxyError, StartError
from ptproxy.log import get_logger
from ptproxy.proxy.account_exit import AccountExit
from ptproxy.proxy.account_meter import AccountMeter
from ptproxy.proxy.account_service import AccountService
from ptproxy.proxy.accounts import Accounts
from ptproxy.proxy.bridge_exit import BridgeExit
from ptproxy.proxy.control_reload import Reloads
from ptproxy.proxy.egress import EgressDialer
from ptproxy.proxy.handover import Former, Successor
from ptproxy.proxy.openings import KeptOpenings
from ptproxy.proxy.shape_push import ShapePush
from ptproxy.proxy.site import BuiltinSite, ForwardSite
from ptproxy.proxy.startup import Signals, within
from ptproxy.proxy.supervisor import tell_supervisor
from ptproxy.state import StateFolder
from ptproxy.tunnel.beside.doorway import Doorway
from ptproxy.tunnel.bridge import Bridge
from ptproxy.tunnel.handover import Standing
from ptproxy.tunnel.handover_channel import close_all
from ptproxy.tunnel.handover_record import BridgeRecord
from ptproxy.tunnel.listen import Listener
from ptproxy.tunnel.stream import BridgeService

SERVICES_TIMEOUT: Final = 10.0
"""Seconds for services to bring what they promised to disk, while the bridge stands still."""
FOLLOWED: Final = "a new process goes on, and follows what has changed: ask again"
"""Said to whoever asks the former process for a reload."""
LOOK_EVERY: Final = 0.05
"""Seconds between looks whether the last stranger has gone."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Succession:
    """How this process follows another one, and another one this."""

    command: Sequence[str]
    """Starts a bridge with the same configuration file."""
    services: Callable[[], Sequence[BridgeService]]
    """The services given to the bridge once more: it has ended them, and goes on all the same."""
    former: Former | None = None
    """Whom this process replaces."""


@dataclass(slots=True)
class Parts:
    """A running bridge."""

    config: BridgeConfig
    state: StateFolder
    accounts: Accounts
    narrowing: AccountExit
    meter: AccountMeter
    push: ShapePush
    dialer: EgressDialer
    exit: BridgeExit
    site: BuiltinSite | ForwardSite
    replay: KeptOpenings
    bridge: Bridge
    doorway: Doorway | None
    services: list[BridgeService] = field(default_factory=list)
    """Those that run."""
    listeners: dict[str, Listener] = field(default_factory=dict)
    """By address, as the configuration has it."""
    listening: list[str] = field(default_factory=list)
    """The addresses as they came to be."""
    former_listeners: list[Listener] = field(default_factory=list)
    """Those at addresses that the configuration no longer has: connections that came there go on."""
    reloads: Reloads | None = None
    """Whoever follows the configuration."""
    began_at: float = field(default_factory=time.time)
    """Unix seconds."""

    def shown(self, place: str) -> str:
        """The address of one of the listeners, with the port that the system chose."""
        if place.startswith("unix:"):
            return place
        host, port = self.listeners[place].sockets[0].getsockname()[:2]
        return str(Endpoint(host, port))

    def own_services(self) -> list[BridgeService]:
        """Services that the bridge makes itself, as its configuration says."""
        if not self.config.reverse.offer:
            return [AccountService(self.accounts)]
        from ptproxy.proxy.reverse_service import ReverseService  # noqa: PLC0415  (only where wanted)

        return [AccountService(self.accounts), ReverseService(self.config.reverse, self.accounts)]

    def access_changed(self) -> None:
        """Others have changed the access list: who is out leaves, who may less than before has less."""
        self.bridge.access_changed()
        self.narrowing.look()

    def look(self) -> None:
        """Time has gone by, and accounts have moved something."""
        self.narrowing.look()
        for service in self.services:
            if isinstance(service, AccountService):
                service.look()

    async def start_services(self, services: Sequence[BridgeService]) -> None:
        """Start them, and offer them to clients; raises :class:`~ptproxy.errors.StartError`."""
        for service in services:
            await service.start(self.state)
            self.services.append(service)
            self.exit.offer(service.name, service)

    async def close_services(self) -> None:
        """End what they have begun."""
        while self.services:
            await self.services.pop().close()

    @property
    def strangers(self) -> int:
        """How many visitors of the web site are here."""
        site, doorway = self.site, self.doorway
        count = len(site.visitors if isinstance(site, BuiltinSite) else site.splices)
        return count if doorway is None else count + len(doorway.strangers) + len(doorway.waiting)


async def hand_over(parts: Parts, succession: Succession, signals: Signals) -> bool:
    """Have a new process go on; True once that is so and this one has nothing left to do.

    False: the new one did not come to it, and the bridge goes on here, with every stream.
    A reload that is asked for meanwhile waits for that: it might listen where the new process is about
    to, or change what was handed over. The new one reads again what has changed since it began.
    """
    successor = Successor(succession.command)
    standing = Standing(parts.bridge)
    async with contextlib.AsyncExitStack() as stack:
        if parts.reloads is not None:
            await stack.enter_async_context(parts.reloads.held())
        if not await _replaced(parts, standing, successor, succession, signals):
            return False
        if parts.reloads is not None:
            await parts.reloads.stop(FOLLOWED)
    await _serve_out(parts, standing, successor, signals)
    return True


async def _replaced(
    parts: Parts, standing: Standing, successor: Successor, succession: Succession, signals: Signals
) -> bool:
    """Whether the new process is in charge; else all is as before."""
    began = 0.0
    log.info("a new process is started")
    stopping = asyncio.ensure_future(_interrupt(signals, successor))
    try:
        await successor.start()
        began = asyncio.get_running_loop().time()
        for listener in parts.listeners.values():
            listener.stop_accepting()
        standing.stand_still()
        await _give(parts, standing, successor)
        await _end(stopping)
        if signals.stop.is_set():
            raise StartError("it is to stop")
        standing.check()
        await successor.go()
    except BaseException as error:
        await _end(stopping)
        await successor.kill()
        log.error("the bridge goes on in this process", why=str(error) or type(error).__name__)
        if began:
            await _go_on_here(parts, standing, succession)
        parts.state.note_holder()
        if not isinstance(error, PtproxyError | OSError | EOFError):
            raise
        return False
    standing.release()
    tell_supervisor(f"MAINPID={successor.pid}")
    stood = round(asyncio.get_running_loop().time() - began, 3)
    log.info("a new process goes on", process=successor.pid, streams=standing.streams, stood_still=stood)
    return True


async def _give(parts: Parts, standing: Standing, successor: Successor) -> None:
    """Hand everything over; once this returns the other process stands ready."""
    for service in parts.services:
        service.end_streams()
    async with asyncio.timeout(SERVICES_TIMEOUT):
        await parts.close_services()
    record = BridgeRecord(parts.replay.snapshot(), list(parts.listeners), standing.tunnels)
    descriptors = [parts.state.duplicate_lock()]
    try:
        for listener in parts.listeners.values():
            descriptors.append(os.dup(listener.sockets[0].fileno()))
        descriptors += standing.duplicates()
        await successor.give(descriptors, record.serialize())
    finally:
        close_all(descriptors)


async def _interrupt(signals: Signals, successor: Successor) -> None:
    """A bridge that is to stop is not replaced meanwhile."""
    await signals.stop.wait()
    successor.interrupt()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _go_on_here(parts: Parts, standing: Standing, succession: Succession) -> None:
    """Nobody else has anything any more: streams, clients and services go on."""
    standing.go_on()
    for listener in parts.listeners.values():
        listener.go_on_accepting()
    try:
        async with asyncio.timeout(SERVICES_TIMEOUT):
            await parts.close_services()
        await parts.start_services([*succession.services(), *parts.own_services()])
    except (PtproxyError, OSError) as error:
        log.error("the services that were ended cannot be started again", why=str(error))


async def _serve_out(parts: Parts, standing: Standing, successor: Successor, signals: Signals) -> None:
    """What the other process could not be given, within the time that streams get when a bridge stops."""
    await parts.meter.close()
    await parts.accounts.close()
    for listener in parts.listeners.values():
        listener.close()
    parts.push.close()
    parts.state.close()  # the other process's: were that to end, a bridge could be started again at once

    async def serve(seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await standing.flush(successor.gone)
                while parts.strangers or parts.exit.streams:  # noqa: ASYNC110  (bounded, once in a life)
                    await asyncio.sleep(LOOK_EVERY)
        except TimeoutError:
            pass

    await within(parts.config.limits.drain, signals.stop, serve)
    successor.close()
