"""An hour of mixed load with carriers cut and reloads every 30 s: what leaks, and whether a stream is lost.

scripts/soak                       an hour
scripts/soak --seconds 600 --json soak.json

A bridge and a client for each codec, as people start them, with a relay between that resets every connection
in turn with a reload (SIGHUP or ``ptproxy reload``'s request, of bridge and clients, of a changed
file). Users at each client write messages on streams that stay open all the time, download, and open
new streams; every byte is compared. Each interval tells memory (PSS), asyncio's tasks and
descriptors of every process. When the load has ended, so have its streams: what is open then against what
was before it began is the leak in tasks and descriptors; memory leaks where the last third of the intervals
lies above the third before it by more than it varies. Exit status: 0 whole, 1 something lost or leaked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ["PYTHONPATH"] = str(ROOT)
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / name) for name in ("", "end_to_end", "tunnel"))]

import uvloop  # noqa: E402
from chaos_relay import ChaosRelay  # noqa: E402
from free_ports import free_port  # noqa: E402
from honest_load import HOST, Tally, TargetProcess, Users, quantile  # noqa: E402
from live import CODECS, Bridge, Client, Role  # noqa: E402
from process_figures import cpu_seconds, descriptors, proportional, state_of  # noqa: E402

from ptproxy.proxy.control_asking import Asking  # noqa: E402

SETTLE = 90.0
"""Seconds at most until a process has forgotten what was open: spare carriers close after a minute."""
REST = 12.0
"""Seconds in which no descriptor is closed when nothing is left to close: sweeps come every 5 s."""
GROWTH = 4.0
"""MiB that a process may grow from one third of the time to the next; besides, 3 % of what it has."""
MORE = 8
"""Tasks or descriptors that may be more at the end than at the beginning: carriers come and go."""


@dataclass(frozen=True, slots=True)
class Held:
    """What one process has."""

    memory: float
    """MiB (PSS)."""
    tasks: int
    descriptors: int
    cpu: float


class Soak:
    """Everything that runs."""

    def __init__(self, roles: dict[str, Role], users: list[Users], relay: ChaosRelay) -> None:
        self.roles = roles
        self.users = users
        self.relay = relay
        self.reloads = 0
        self.rows: list[dict[str, Held]] = []

    async def held(self) -> dict[str, Held]:
        """What every process has now."""
        return {name: await asyncio.to_thread(_held, role) for name, role in self.roles.items()}

    async def disturb(self, number: int) -> None:
        """Cut every connection and have everybody read a changed configuration, by turns in either way."""
        self.relay.cut_all()
        for role in self.roles.values():
            level = ("info", "warning")[number % 2]
            role.change(log__level=level)
            if number % 2:
                role.program.process.send_signal(signal.SIGHUP)
            else:
                await asyncio.to_thread(_reload, role)
            self.reloads += 1

    async def run(self, seconds: float, every: float) -> None:
        """Disturb and tell, until the time is over."""
        end = time.monotonic() + seconds
        number = 0
        while (left := end - time.monotonic()) > 1:
            began = time.monotonic()
            await asyncio.sleep(min(every / 2, left))
            await self.disturb(number)
            await asyncio.sleep(min(every / 2, max(end - time.monotonic(), 0.0)))
            number += 1
            self.rows.append(await self.held())
            taken = [user.take() for user in self.users]
            print(_row(number, self.rows[-1], taken, time.monotonic() - began, self.faults()), flush=True)

    def faults(self) -> list[str]:
        """Every stream that was lost."""
        return [fault for user in self.users for fault in user.faults]

    async def at_rest(self) -> dict[str, Held]:
        """What every process has once connections that nobody needs have ended."""
        end, held = time.monotonic() + SETTLE, await self.held()
        while time.monotonic() < end:
            await asyncio.sleep(REST)
            held, was = await self.held(), held
            if all(one.descriptors >= was[name].descriptors for name, one in held.items()):
                break
        return held

    async def settled(self, before: dict[str, Held]) -> dict[str, Held]:
        """What is left after the load, once as little as before, or after long enough."""
        end = time.monotonic() + SETTLE
        while True:
            after = await self.held()
            if time.monotonic() > end or not open_things(before, after):
                return after
            await asyncio.sleep(2.0)


def _held(role: Role) -> Held:
    pid = role.program.pid
    tasks = state_of(role.folder / "state")["process"]["tasks"]
    return Held(proportional(pid), tasks, descriptors(pid), cpu_seconds(pid))


def _reload(role: Role) -> None:
    with Asking(role.folder / "state") as asking:
        asking.ask("reload")


def _row(number: int, held: dict[str, Held], taken: list[Tally], took: float, faults: list[str]) -> str:
    waits = [wait for tally in taken for wait in tally.waits]
    moved = sum(tally.moved for tally in taken) / took / (1 << 20)
    opened = sum(len(tally.opens) for tally in taken)
    each = " | ".join(f"{one.memory:.1f} / {one.tasks} / {one.descriptors}" for one in held.values())
    return (
        f"| {number} | {each} | {moved:.1f} | {len(waits)} | {quantile(waits, 0.5) * 1000:.1f} "
        f"| {max(waits, default=0.0):.2f} | {opened} | {len(faults)} |"
    )


def open_things(before: dict[str, Held], after: dict[str, Held]) -> list[str]:
    """Tasks and descriptors that are more than they were."""
    return [
        f"{name}: {was} {what} before the load, {now} after it"
        for name in before
        for what, was, now in (
            ("tasks", before[name].tasks, after[name].tasks),
            ("descriptors", before[name].descriptors, after[name].descriptors),
        )
        if now > was + MORE
    ]


def grown(rows: list[dict[str, Held]]) -> list[str]:
    """Processes whose memory goes on growing: the last third against the one before, by their medians."""
    third = len(rows) // 3
    found = []
    for name in rows[0] if third else ():
        earlier = [row[name].memory for row in rows[third : 2 * third]]
        later = [row[name].memory for row in rows[-third:]]
        was, now = statistics.median(earlier), statistics.median(later)
        if now - was > GROWTH + 0.03 * was:
            found.append(f"{name}: {was:.1f} MiB in the middle third, {now:.1f} in the last")
    return found


async def soak(options: argparse.Namespace, folder: Path, target: TargetProcess) -> list[str]:
    """All of it; what was lost or leaked."""
    listen = free_port()
    relay = ChaosRelay(listen)
    address = f"{HOST}:{await relay.start()}"
    bridge = await asyncio.to_thread(Bridge, folder / "bridge", address=address, listen=f"{HOST}:{listen}")
    rng = random.Random(options.seed)
    roles: dict[str, Role] = {"bridge": bridge}
    try:
        await asyncio.to_thread(bridge.start)
        users = []
        for codec in CODECS:
            client = await asyncio.to_thread(Client, folder / codec, bridge.link, codec)
            await asyncio.to_thread(client.start)
            roles[codec] = client
            users.append(Users(codec, client.port, target.port, random.Random(rng.getrandbits(64))))
        run = Soak(roles, users, relay)
        # A first stream each, so that what is made once is there before anything is counted.
        for user in users:
            user.begin(chats=1, rate=0, downloads=1, size=1 << 20, every=0.5)
        await asyncio.sleep(min(10.0, options.seconds / 4))
        await asyncio.gather(*(user.end() for user in users))
        before = await run.at_rest()
        first = run.users = [Users(user.name, user.socks, target.port, rng) for user in users]
        for user in first:
            user.begin(
                chats=options.chats, rate=options.rate * (1 << 20), downloads=2, size=4 << 20, every=0.2
            )
        names = " | ".join(f"{name} MiB / tasks / descriptors" for name in roles)
        print(
            f"| interval | {names} | MiB/s | messages | p50 ms | longest s | new streams | lost |", flush=True
        )
        print("|---:|" + "---:|" * (len(roles) + 6), flush=True)
        await run.run(options.seconds, options.every)
        await asyncio.gather(*(user.end() for user in first))
        after = await run.settled(before)
        told = {name: (asdict(before[name]), asdict(after[name])) for name in roles}
        for name, (was, now) in told.items():
            print(f"{name}: before {_short(was)}; after {_short(now)}")
        faults = [*run.faults(), *(fault for user in users for fault in user.faults)]
        faults += open_things(before, after) + grown(run.rows)
        print(
            f"seed {options.seed}: {len(run.rows)} intervals, {relay.accepted} connections, "
            f"{run.reloads} reloads, {relay.passed >> 20} MiB passed; "
            f"longest wait {max(user.late for user in first):.2f} s; "
            f"{len(faults)} faults"
        )
        if options.json:
            rows = [{name: asdict(held) for name, held in row.items()} for row in run.rows]
            options.json.write_text(json.dumps({"ends": told, "rows": rows, "faults": faults}, indent=1))
        return faults
    finally:
        for role in reversed(list(roles.values())):
            await asyncio.to_thread(role.stop)
        await relay.stop()


def _short(held: dict[str, float]) -> str:
    return (
        f"{held['memory']:.1f} MiB, {held['tasks']} tasks, {held['descriptors']} descriptors, "
        f"{held['cpu']:.1f} s of CPU"
    )


def main() -> int:
    """The command line; the exit status tells."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two cuts and reloads")
    parser.add_argument(
        "--chats", type=int, default=8, help="streams of messages at each client, open all the time"
    )
    parser.add_argument("--rate", type=float, default=2.0, help="MiB/s of downloads at each client")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--json", type=Path, help="keep every figure here")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with (
        tempfile.TemporaryDirectory(prefix="ptproxy-soak-") as folder,
        TargetProcess() as target,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        faults = runner.run(soak(options, Path(folder), target))
    for fault in faults[:20]:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
