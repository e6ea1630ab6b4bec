"""One target in this process: inputs for it, from atheris or from mutations that nothing leads.

The parent (``fuzz.py``) maps the same file: the count and the input under way
are there whatever becomes of this process. It may die of a finding, of too
much memory, or be killed.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import signal
import struct
import sys
import time
import traceback
import zipfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

from fuzz_target import Target, load

SECONDS: Final = 5
"""Of processor time for one input, after which it counts as one that hangs: a hundred times what the
slowest takes, and steady on a machine that does other things too."""
MEMORY: Final = 2 << 30
"""Bytes of address space of a process: what parsers keep is bounded far below that."""
RESIDENT: Final = 1024
"""MiB that atheris lets a process have."""
ENTRY: Final = 16_384
"""Bytes of a corpus' entry at most."""
MOST_TRACED: Final = 6000
"""Inputs of a working corpus that are looked at when it is minimised, the shortest first."""

ROOT: Final = Path(__file__).resolve().parent.parent
KEPT: Final = ROOT / "tests" / "corpora"
"""Where a ``TARGET.zip`` with the inputs that are kept lies."""

_HEAD: Final = struct.Struct(">QdI")
SHARED: Final = _HEAD.size + (1 << 17)
"""Bytes of the file that the parent sees: inputs so far, the slowest one's seconds, and the one under way."""


class Hangs(BaseException):
    """An input took longer than :data:`SECONDS`."""


class Count:
    """What the parent sees."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), SHARED)
        self.inputs = 0
        self.slowest = 0.0

    def begin(self, data: bytes) -> None:
        """This input is next."""
        self.inputs += 1
        _HEAD.pack_into(self._map, 0, self.inputs, self.slowest, len(data))
        self._map[_HEAD.size : _HEAD.size + len(data)] = data


def seen(path: Path) -> tuple[int, float, bytes]:
    """The parent's look: inputs begun, seconds of the slowest, and the last one."""
    data = path.read_bytes()
    inputs, slowest, size = _HEAD.unpack_from(data)
    return inputs, slowest, data[_HEAD.size : _HEAD.size + size]


def kept(name: str) -> list[bytes]:
    """The inputs that the repository keeps for a target."""
    path = KEPT / f"{name}.zip"
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as archive:
        return [archive.read(entry) for entry in archive.namelist()]


def keep(name: str, inputs: Sequence[bytes]) -> None:
    """Write them; the same inputs give the same file."""
    KEPT.mkdir(exist_ok=True)
    with zipfile.ZipFile(KEPT / f"{name}.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for data in sorted(inputs, key=lambda one: (len(one), one)):
            entry = zipfile.ZipInfo(hashlib.sha256(data).hexdigest()[:8])
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)


def write_inputs(folder: Path, inputs: Sequence[bytes]) -> None:
    """Add them to a working corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        path = folder / hashlib.sha1(data).hexdigest()
        if not path.exists():
            path.write_bytes(data)


# ---- running ---------------------------------------------------------------------------------------


def watch(count: Count) -> None:
    """Raise :class:`Hangs` in an input that takes too long, whatever it catches."""
    last, ticks = 0, 0

    def tick(_signal: int, _frame: FrameType | None) -> None:
        nonlocal last, ticks
        ticks = ticks + 1 if count.inputs == last else 0
        last = count.inputs
        if ticks >= SECONDS:
            raise Hangs(f"one input took {SECONDS} s of processor time")

    signal.signal(signal.SIGPROF, tick)
    signal.setitimer(signal.ITIMER_PROF, 1.0, 1.0)


def tried(target: Target, count: Count) -> Callable[[bytes], None]:
    """The target, counted; a finding ends the process at once."""
    clock = time.process_time

    def one(data: bytes) -> None:
        count.begin(data)
        began = clock()
        try:
            target.try_one(data)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        count.slowest = max(count.slowest, clock() - began)

    return one


def run_random(
    one: Callable[[bytes], None], seeds: list[bytes], inputs: int, seconds: float, rng: Random, longest: int
) -> None:
    """Mutations of seeds."""
    for data in seeds:
        one(data[:longest])
    end = time.monotonic() + seconds
    for number in range(len(seeds), inputs):
        if not number & 255 and time.monotonic() > end:
            return
        one(mutated(rng, seeds)[:longest])


def mutated(rng: Random, seeds: list[bytes]) -> bytes:
    """A seed with a few changes."""
    data = bytearray(rng.choice(seeds) if seeds else b"")
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 2, 4, 16, 100)))
        match rng.randrange(7):
            case 0:
                data[at:end] = rng.randbytes(end - at)
            case 1:
                data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 30)))
            case 2:
                del data[at:end]
            case 3:
                data[at:at] = data[at:end] * rng.choice((1, 2, 20))
            case 4:
                data[at:end] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\1")) * (end - at)
            case 5 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case _ if seeds:
                other = rng.choice(seeds)
                data[at:] = other[min(at, rng.randrange(len(other) + 1)) :]
    return bytes(data)


def run_atheris(
    one: Callable[[bytes], None], target: Target, work: Path, inputs: int, seconds: float, seed: int
) -> None:
    """With coverage; does not return."""
    import atheris  # noqa: PLC0415

    arguments = [
        target.name,
        f"-runs={inputs}",
        f"-max_total_time={int(seconds)}",
        f"-max_len={target.longest}",
        f"-seed={seed}",
        f"-rss_limit_mb={RESIDENT}",
        f"-artifact_prefix={work}/",
        "-verbosity=1",
        str(work / "corpus"),
    ]
    atheris.Setup(arguments, one)
    atheris.Fuzz()


def run(name: str, engine: str, work: Path, inputs: int, seconds: float, seed: int) -> None:
    """The child's whole life."""
    import resource  # noqa: PLC0415  (where there is one)

    count = Count(work / "shared")
    instrumented: Any = nullcontext()
    if engine == "atheris":
        import atheris  # noqa: PLC0415

        instrumented = atheris.instrument_imports(include=["ptproxy"])
    with instrumented:
        target = load(name.partition(".")[0])[name]
    seeds = [*kept(name), *target.seeds()]
    corpus = work / "corpus"
    write_inputs(corpus, seeds)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    one = tried(target, count)
    watch(count)
    if engine == "atheris":
        run_atheris(one, target, work, inputs, seconds, seed)
    seeds = [path.read_bytes() for path in sorted(corpus.iterdir())]
    run_random(one, seeds, inputs, seconds, Random(seed), target.longest)


# ---- minimising ------------------------------------------------------------------------------------


def minimise(name: str, work: Path) -> None:
    """Keep the inputs of the working corpus that reach a line, or go from one to another, as no other has."""
    target = load(name.partition(".")[0])[name]
    inputs = (
        {path.read_bytes() for path in (work / "corpus").iterdir()} | set(kept(name)) | set(target.seeds())
    )
    reached: set[tuple[int, int, int]] = set()
    chosen = []
    for data in sorted((one for one in inputs if len(one) <= ENTRY), key=lambda one: (len(one), one))[
        :MOST_TRACED
    ]:
        new = steps_of(target, data) - reached
        if new:
            reached |= new
            chosen.append(data)
    keep(name, chosen)


def steps_of(target: Target, data: bytes) -> set[tuple[int, int, int]]:
    """(code, line before, line) of everything in ptproxy that the input runs."""
    found: set[tuple[int, int, int]] = set()
    names: dict[Any, int] = {}

    def enter(frame: FrameType, _event: str, _argument: object) -> Any:
        code = frame.f_code
        place = names.get(code)
        if place is None:
            inside = "/ptproxy/ptproxy/" in code.co_filename or str(ROOT / "ptproxy") in code.co_filename
            place = names[code] = hash((code.co_filename, code.co_name, code.co_firstlineno)) if inside else 0
        if not place:
            return None
        before = 0

        def line(frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal before
            if event == "line":
                found.add((place, before, frame.f_lineno))
                before = frame.f_lineno
            return line

        return line

    sys.settrace(enter)
    try:
        target.try_one(data)
    finally:
        sys.settrace(None)
    return found
