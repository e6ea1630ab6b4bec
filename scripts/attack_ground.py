"""A bridge with honest users and newcomers, and what they and it have in a stretch of time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attack_staged import ENVIRONMENT, Stage
from honest_load import HEAD, HOST, TargetProcess, Users, quantile
from live import Bridge, Client, Program
from process_figures import cpu_seconds, descriptors, forget_peak, peak, state_of

from ptproxy.auth.credentials import StaticKey
from ptproxy.config.link import Link
from ptproxy.errors import PtproxyError
from ptproxy.target import Target
from ptproxy.tunnel.client_tls import PythonTls
from ptproxy.tunnel.connect import Route
from ptproxy.tunnel.dial import TunnelDialer
from ptproxy.tunnel.tls import ClientTrust

MEMORY = 64
"""limits.memory of the bridge, MiB."""
ALONE = 65
"""MiB that a bridge has without anybody ..."""
CONNECTION = 0.25
"""... and that a connection may take besides (README, "Two cores")."""
HANDSHAKES = 512
"""limits.handshakes of the bridge, its default."""
NEWCOMER = 20.0
"""Seconds after which somebody who wants in has not got in."""


class StagedBridge(Bridge):
    """A bridge whose clock and names are in the attack's hand."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        super().__init__(folder, **changes)
        self.stage = Stage(folder / "stage")

    def start(self) -> StagedBridge:
        staged = Path(__file__).with_name("attack_staged.py")
        self.program = Program(
            f"bridge-{self.folder.name}",
            [sys.executable, staged, "bridge", "-c", self.config],
            self.folder,
            env={ENVIRONMENT: str(self.folder / "stage")},
        )
        self.program.ready(rb"listening on .*\n")
        return self


@dataclass(slots=True)
class Stretch:
    """What was seen in some seconds."""

    rate: float
    """MiB/s that honest users had."""
    wait: float
    """Seconds until a message is back, median."""
    longest: float
    open: float
    """Seconds until a new stream echoes, median."""
    newcomers: int
    """Clients with a key of their own that came in ..."""
    refused: int
    """... and whose tries did not work within :data:`NEWCOMER` seconds."""
    newcomer: float
    """Seconds that a newcomer took at most."""
    cpu: float
    """Cores that the bridge took."""
    peak: float
    """MiB resident at most."""


class Ground:
    """The bridge, its users and the target."""

    def __init__(self, bridge: StagedBridge, users: list[Users], target: int) -> None:
        self.bridge = bridge
        self.users = users
        self.target = target
        self.rng = random.SystemRandom()
        self.line = Link.parse(bridge.link)

    @property
    def pid(self) -> int:
        return self.bridge.program.pid

    def state(self) -> dict[str, Any]:
        return state_of(self.bridge.folder / "state")

    def route(self, codec: str) -> Route:
        """How somebody with a new key reaches the bridge."""
        trust = PythonTls(ClientTrust(pin=self.line.pin))
        return Route(self.line, StaticKey.generate(self.rng), trust, (codec,))

    async def newcomer(self) -> float | None:
        """Come in with a new key and have a message echoed: seconds, None where that did not work."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(NEWCOMER):
                while True:
                    dialer = TunnelDialer(asyncio.get_running_loop(), self.route("websocket"), carriers=1)
                    try:
                        await dialer.start()
                        echoed = _Echoed()
                        await dialer.dial(
                            Target.address(HOST, self.target), echoed, HEAD.pack(b"E", 0, 0) + b"?"
                        )
                        await echoed.came
                        return time.monotonic() - began
                    except (PtproxyError, OSError):
                        await asyncio.sleep(0.2)
                    finally:
                        await dialer.stop()
        except TimeoutError:
            return None

    async def _newcomers(self, while_: asyncio.Future[Any]) -> list[float | None]:
        came = []
        while not while_.done():
            came.append(await self.newcomer())
            await asyncio.sleep(0.5)
        return came

    async def stretch(self, seconds: float, attack: asyncio.Task[Any] | None = None) -> Stretch:
        """Look for so many seconds, or as long as an attack goes on if that is less."""
        for user in self.users:
            user.take()
        forget_peak(self.pid)
        began, cpu = time.monotonic(), cpu_seconds(self.pid)
        over = asyncio.create_task(asyncio.sleep(seconds))
        newcomers = asyncio.create_task(self._newcomers(over))
        await asyncio.wait((over, attack) if attack is not None else (over,), return_when="FIRST_COMPLETED")
        over.cancel()
        took, cpu = time.monotonic() - began, cpu_seconds(self.pid) - cpu
        taken = [user.take() for user in self.users]
        came = await newcomers
        waits = [wait for tally in taken for wait in tally.waits]
        times = [one for one in came if one is not None]
        return Stretch(
            sum(tally.moved for tally in taken) / took / (1 << 20), quantile(waits, 0.5),
            max(waits, default=0.0),
            quantile([wait for tally in taken for wait in tally.opens], 0.5), len(times),
            len(came) - len(times),
            max(times, default=0.0), cpu / took, peak(self.pid),
        )  # fmt: skip

    def faults(self) -> list[str]:
        """Streams of honest users that were lost or wrong."""
        return [fault for user in self.users for fault in user.faults]

    def crowd(self) -> dict[str, int]:
        """What there is of everything that an attack may leave behind."""
        state = self.state()
        return {
            "sessions": state["sessions"]["open"],
            "streams": state["streams"],
            "leaving": state["leaving"],
            "undecided": state["undecided"],
            "tasks": state["process"]["tasks"],
            "descriptors": descriptors(self.pid),
        }


class _Echoed(asyncio.Protocol):
    """Tells that something came back."""

    def __init__(self) -> None:
        self.came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, _data: object) -> None:
        if not self.came.done():
            self.came.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.came.done():
            self.came.set_exception(exc or ConnectionError("closed"))


@contextlib.asynccontextmanager
async def honest_ground(folder: Path, target: TargetProcess, rate: float) -> AsyncIterator[Ground]:
    """A bridge and two users of different clients (``rate`` MiB/s each; 0: as fast as it goes)."""
    os.environ.pop(ENVIRONMENT, None)
    bridge = await asyncio.to_thread(
        StagedBridge, folder / "bridge", limits__memory=f"{MEMORY}MiB", limits__linger="3s",
        limits__handshakes=HANDSHAKES, log__level="warning",
    )  # fmt: skip
    await asyncio.to_thread(bridge.start)
    clients, users = [], []
    try:
        for codec in ("websocket", "http"):
            client = await asyncio.to_thread(Client, folder / codec, bridge.link, codec)
            await asyncio.to_thread(client.start)
            clients.append(client)
            user = Users(codec, client.port, target.port, random.Random())
            user.begin(chats=4, rate=rate * (1 << 20), downloads=2, size=4 << 20, every=0.2)
            users.append(user)
        yield Ground(bridge, users, target.port)
        await asyncio.gather(*(user.end() for user in users))
    finally:
        for role in (*clients, bridge):
            await asyncio.to_thread(role.stop)
