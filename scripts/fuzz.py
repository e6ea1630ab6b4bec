"""Hostile bytes for every parser of ptproxy, each target in a process of its own.

    scripts/fuzz --list                              the targets, and who can reach them
    scripts/fuzz --inputs 100000                     all of them, so many inputs each
    scripts/fuzz codec session.bridge --seconds 60   a group and a target, a minute each
    scripts/fuzz --engine random                     without atheris
    scripts/fuzz --replay FILE codec.websocket       one input that was found, with its traceback
    scripts/fuzz --keep codec                        minimise what was learnt into tests/corpora

An input that raises what its parser does not document, takes more than 5 s of
processor time or more memory than a parser may have is written to a file, and
the exit status is 1. What atheris learns stays in ``--corpus`` for the next
run, which begins with it and with ``tests/corpora``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PYTHON: Final = ROOT / ".venv" / "bin" / "python"
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from fuzz_engine import SHARED, kept, minimise, run, seen  # noqa: E402
from fuzz_target import GROUPS, Target, load  # noqa: E402

STALL: Final = 300.0
"""Seconds without a new input after which a process is killed: hung where Python's signals do not arrive."""
LOOK: Final = 0.5
"""Seconds between two looks at the processes."""


@dataclass(slots=True)
class Trial:
    """A target's process."""

    target: Target
    work: Path
    process: subprocess.Popen[bytes]
    began: float
    inputs: int = 0
    moved: float = 0.0
    """When an input was last begun."""
    slowest: float = 0.0
    seconds: float = 0.0
    found: Path | None = None

    def look(self, now: float) -> bool:
        """Whether it goes on; killed where it is stuck."""
        inputs, self.slowest, _ = seen(self.work / "shared")
        if inputs != self.inputs:
            self.inputs, self.moved = inputs, now
        if self.process.poll() is None and now - self.moved > STALL:
            self.process.kill()
            self.process.wait()
        self.seconds = now - self.began
        return self.process.poll() is None

    def judge(self) -> None:
        """It has ended: the input that it ended with, where it was not by itself."""
        self.inputs, self.slowest, data = seen(self.work / "shared")
        if self.process.returncode == 0:
            return
        self.found = self.work / f"found-{hashlib.sha256(data).hexdigest()[:12]}"
        self.found.write_bytes(data)
        log = (self.work / "log").read_text("utf-8", "replace").splitlines()
        print(f"\n{self.target.name}: {self.found} (status {self.process.returncode})", flush=True)
        print("\n".join(f"    {line}" for line in log[-25:]), flush=True)


@dataclass(slots=True)
class Session:
    """What was asked for."""

    engine: str
    inputs: int
    seconds: float
    seed: int
    corpus: Path
    trials: list[Trial] = field(default_factory=list)

    def start(self, target: Target) -> Trial:
        """Its process."""
        work = self.corpus / target.name
        (work / "corpus").mkdir(parents=True, exist_ok=True)
        (work / "shared").write_bytes(bytes(SHARED))
        command = [
            sys.executable,
            __file__,
            target.name,
            "--child",
            "--engine",
            self.engine,
            "--inputs",
            str(self.inputs),
            "--seconds",
            str(self.seconds),
            "--seed",
            str(self.seed),
            "--corpus",
            str(self.corpus),
        ]
        with (work / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        now = time.monotonic()
        trial = Trial(target, work, process, now, moved=now)
        self.trials.append(trial)
        return trial

    def run(self, targets: list[Target], jobs: int) -> int:
        """All of them; how many found something."""
        waiting, running = list(targets), list[Trial]()
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(self.start(waiting.pop(0)))
                time.sleep(LOOK)
                for trial in [one for one in running if not one.look(time.monotonic())]:
                    running.remove(trial)
                    trial.judge()
                    print(line_of(trial), flush=True)
        finally:
            for trial in running:
                trial.process.kill()
                trial.process.wait()
                trial.look(time.monotonic())
        return sum(trial.found is not None for trial in self.trials)


def line_of(trial: Trial) -> str:
    """A row of the table."""
    rate = trial.inputs / max(trial.seconds, 0.001)
    size = sum(1 for _ in (trial.work / "corpus").iterdir())
    return (
        f"| {trial.target.name} | {trial.target.reach.value} | {trial.inputs:,} | {rate:,.0f} | {size:,} | "
        f"{trial.slowest * 1000:,.0f} | {trial.found.name if trial.found else ''} |"
    )


HEAD: Final = (
    "| target | reach | inputs | inputs/s | corpus | slowest (ms) | found |\n"
    "|---|---|---:|---:|---:|---:|---|"
)


def chosen(names: list[str]) -> list[Target]:
    """Targets by their name, their group's, or all."""
    wanted = {name.partition(".")[0] for name in names} & set(GROUPS) or GROUPS
    targets = [target for group in GROUPS if group in wanted for target in load(group).values()]
    unknown = [
        name
        for name in names
        if not any(one.name == name or one.name.startswith(name + ".") for one in targets)
    ]
    if unknown:
        raise SystemExit(f"no target or group is called {', '.join(unknown)}; --list shows them")
    return [
        one
        for one in targets
        if not names or one.name in names or any(one.name.startswith(name + ".") for name in names)
    ]


def replay(target: Target, path: Path) -> int:
    """One input, with whatever it raises."""
    target.try_one(path.read_bytes())
    print(f"{target.name}: nothing wrong with {path}")
    return 0


def main() -> int:
    """The command line; the exit status says whether something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help="a target, or a group of them; all without"
    )
    parser.add_argument("--inputs", type=int, default=10_000, help="for each target")
    parser.add_argument("--seconds", type=float, default=3600.0, help="for each target, at most")
    parser.add_argument("--engine", choices=("atheris", "random"), default="atheris")
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed and corpus give the same inputs (random)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--corpus", type=Path, default=ROOT / ".fuzz", help="where what was learnt is kept")
    parser.add_argument("--list", action="store_true", help="print the targets")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try one input")
    parser.add_argument("--keep", action="store_true", help="minimise the corpora into tests/corpora")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        (name,) = options.targets
        run(name, options.engine, options.corpus / name, options.inputs, options.seconds, options.seed)
        return 0
    targets = chosen(options.targets)
    if options.list:
        print("| target | reach | read by | kept inputs |\n|---|---|---|---:|")
        for target in targets:
            print(f"| {target.name} | {target.reach.value} | {target.reader} | {len(kept(target.name))} |")
        return 0
    if options.replay is not None:
        return replay(targets[0], options.replay)
    if options.keep:
        for target in targets:
            if (options.corpus / target.name / "corpus").is_dir():
                minimise(target.name, options.corpus / target.name)
        return 0
    if options.engine == "atheris" and importlib.util.find_spec("atheris") is None:
        raise SystemExit("atheris is not installed here: use --engine random")
    if os.name != "posix":
        raise SystemExit("processes are limited and watched as on Linux and macOS only")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the processes end with this one
    session = Session(options.engine, options.inputs, options.seconds, options.seed, options.corpus)
    began = time.monotonic()
    print(HEAD, flush=True)
    found = session.run(targets, options.jobs)
    total = sum(trial.inputs for trial in session.trials)
    seconds = time.monotonic() - began
    print(
        f"\n{total:,} inputs for {len(session.trials)} targets in {seconds:,.0f} s: {found} found something"
    )
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
