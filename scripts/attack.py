"""A bridge under attack, case by case: what honest users keep, what it needs, whether it serves after it.

scripts/attack                     every case, 20,000 connections or 100,000 OPENs where that is the case
scripts/attack --cases silent,opens --seconds 20
scripts/attack --count 300 --seconds 3 --json attack.json

For each case a stretch before, one during and one after the attack, of ``--seconds`` each, the one during of
``--during`` where that is said: then attacks by count have the time that they need. Two honest users of
different clients load at ``--rate`` MiB/s each and compare every byte with what only they may see; newcomers
with keys of their own come in meanwhile. The attacker is a process of its own, niced to 19: it and the load
share the machine's cores with the bridge; its own work for the attack (TLS above all) counts fully.
Exit status: 0 when nothing was lost, crossed or wrong, memory stayed in budget and everything is served
afterwards; 1 otherwise. The rate kept is told and judged by ``--keep`` (a share; 0 judges nothing).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
os.environ["PYTHONPATH"] = str(ROOT)
sys.path[:0] = [str(ROOT), *(str(ROOT / "tests" / name) for name in ("", "end_to_end"))]

import attack_crowds  # noqa: E402
import attack_reach  # noqa: E402
import attack_replays  # noqa: E402
import attack_sessions  # noqa: E402
import uvloop  # noqa: E402
from attack_crowds import Against  # noqa: E402
from attack_ground import ALONE, CONNECTION, HANDSHAKES, MEMORY, Ground, Stretch, honest_ground  # noqa: E402
from honest_load import TargetProcess  # noqa: E402

from ptproxy.config.model import LogConfig  # noqa: E402
from ptproxy.log import set_up  # noqa: E402

APART = {**attack_crowds.CASES, **attack_sessions.CASES, **attack_replays.CASES}
"""Cases in a process of their own."""
HERE = attack_reach.CASES
"""Cases through an honest client."""
QUIET = 20.0
"""Seconds after an attack in which the bridge is to have forgotten it: linger is 3 s, openings 10 s."""
SPARE = 60
"""Tasks and descriptors that may be more than before: users come and go."""
LONGEST = 240.0
"""Seconds after which an attack is ended."""


@dataclass(slots=True)
class Verdict:
    """A case and what became of it."""

    case: str
    told: dict[str, Any]
    before: Stretch
    during: Stretch
    after: Stretch
    attacker: float
    """Cores that the attacker took."""
    faults: list[str]

    @property
    def kept(self) -> float:
        """Share of the users' rate that they had during the attack."""
        return self.during.rate / self.before.rate if self.before.rate else 0.0


async def strike(ground: Ground, case: str, options: argparse.Namespace) -> tuple[dict[str, Any], float]:
    """Run an attack to its end; what it told, and its CPU seconds."""
    if case in HERE:
        return await HERE[case](ground, options.during or options.seconds), 0.0
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--run", case,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    given = {
        "link": ground.bridge.link,
        "target": ground.target, "count": options.count, "seconds": options.during or options.seconds,
    }  # fmt: skip
    try:
        async with asyncio.timeout(LONGEST):
            said, _ = await process.communicate(json.dumps(given).encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        return {"done": 0, "wrong": [f"not over after {LONGEST:.0f} s"], "note": ""}, 0.0
    if process.returncode:
        return {"done": 0, "wrong": [f"the attacker ended with {process.returncode}"], "note": ""}, 0.0
    told = json.loads(said)
    return told, told.pop("cpu")


def attacker(case: str) -> None:
    """The other process."""
    os.nice(19)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    set_up(LogConfig(level="error"))
    it = Against(**json.loads(sys.stdin.read()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        told = runner.run(APART[case](it))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps(told | {"cpu": usage.ru_utime + usage.ru_stime}), flush=True)


async def quiet(ground: Ground, before: dict[str, int]) -> list[str]:
    """Wait until nothing is left of an attack; what is left all the same."""
    end = time.monotonic() + QUIET
    while True:
        now = await asyncio.to_thread(ground.crowd)
        left = [
            f"{now[name]} {name} left, {before[name]} before"
            for name in before
            if now[name] > before[name] + SPARE
        ]
        if not left or time.monotonic() > end:
            return left
        await asyncio.sleep(0.5)


async def attacked(ground: Ground, case: str, options: argparse.Namespace) -> Verdict:
    """One case, from before to after."""
    known = len(ground.faults())
    before = await ground.stretch(options.seconds)
    there = await asyncio.to_thread(ground.crowd)
    began = time.monotonic()
    striking = asyncio.create_task(strike(ground, case, options))
    during = await ground.stretch(options.during or options.seconds, striking)
    told, cpu = await striking
    took = time.monotonic() - began
    faults = [*told["wrong"], *await quiet(ground, there)]
    after = await ground.stretch(options.seconds)
    faults += ground.faults()[known:]
    budget = ALONE + MEMORY + CONNECTION * HANDSHAKES
    if during.peak > budget:
        faults.append(f"{during.peak:.0f} MiB of {budget:.0f} that it may have")
    if after.refused:
        faults.append(f"{after.refused} newcomers not served afterwards")
    verdict = Verdict(case, told, before, during, after, cpu / took, faults)
    if verdict.kept < options.keep:
        faults.append(f"users kept {verdict.kept:.0%} of their rate")
    return verdict


def row(verdict: Verdict) -> str:
    """A line of the table."""
    before, during, after = verdict.before, verdict.during, verdict.after
    came = f"{during.newcomers}/{during.newcomers + during.refused} in {during.newcomer:.1f} s"
    return (
        f"| {verdict.case} | {verdict.told['done']} | {before.rate:.1f} "
        f"| {during.rate:.1f} | {verdict.kept:.0%} "
        f"| {after.rate:.1f} "
        f"| {before.wait * 1000:.1f} / {during.wait * 1000:.1f} | {during.longest:.2f} | {came} "
        f"| {before.peak:.0f} / {during.peak:.0f} "
        f"| {before.cpu:.2f} / {during.cpu:.2f} + {verdict.attacker:.2f} "
        f"| {'; '.join(verdict.faults) or 'no fault'} ({verdict.told['note']}) |"
    )


async def run(options: argparse.Namespace) -> list[Verdict]:
    """Every case, one after another, at one bridge."""
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="ptproxy-attack-") as folder, TargetProcess() as target:
        async with honest_ground(Path(folder), target, options.rate) as ground:
            await asyncio.sleep(min(3.0, options.seconds))
            print("| case | done | before MiB/s | during | kept | after | message p50 ms, before / during "
                  "| longest s | newcomers | peak MiB, before / during "
                  "| cores, bridge before / during + attacker "
                  "| outcome |\n|---|" + "---:|" * 10 + "---|", flush=True)  # fmt: skip
            for case in options.cases:
                verdicts.append(await attacked(ground, case, options))
                print(row(verdicts[-1]), flush=True)
    return verdicts


def main() -> int:
    """The command line; the exit status tells."""
    parser = argparse.ArgumentParser(
        prog="scripts/attack", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    every = [*APART, *HERE]
    parser.add_argument("--cases", default=",".join(every), help="\n" + "\n".join(
        f"  {name:18} {(APART | HERE)[name].__doc__}" for name in every
    ))  # fmt: skip
    parser.add_argument(
        "--count", type=int, default=20_000, help="connections of a case; OPENs are five times that"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of each stretch")
    parser.add_argument("--during", type=float, help="seconds that an attack goes on for at most")
    parser.add_argument(
        "--rate", type=float, default=4.0, help="MiB/s that each user asks for; 0: all there is"
    )
    parser.add_argument(
        "--keep", type=float, default=0.8, help="share of the rate below which a case has failed"
    )
    parser.add_argument("--json", type=Path, help="keep every figure here")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        attacker(options.run)
        return 0
    options.cases = options.cases.split(",")
    if unknown := set(options.cases) - set(every):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    set_up(LogConfig(level="error"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        verdicts = runner.run(run(options))
    if options.json:
        options.json.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=1))
    return 1 if any(verdict.faults for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
