"""Asks two servers the same questions at the same time and tells in what their answers differ.

What differs is asked once more, and counts when it differs twice. A fixed
observable (:mod:`ptproxy.inspect.observation`) that differed in one of two runs
is asked a third time. One in which the reference differs from itself is not
compared, and told as unsteady.

The load on each server is bounded: :data:`PARALLEL` connections at a time,
beside at most a dozen idle ones that wait for time-outs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ptproxy.errors import StartError
from ptproxy.inspect.observation import LOOSE, Difference, Observation, differences
from ptproxy.inspect.probe import Probe, Watch
from ptproxy.inspect.visit import Server, run_probe

PARALLEL: Final = 8
"""Connections to each server at a time: no more than a browser or two make."""
MOST_RUNS: Final = 3
"""Times that a probe is asked."""
PACE: Final = 0.02
"""Seconds between the starts of two probes."""
FULL: Final = {Watch.SHORT: 2.0, Watch.LONG: 85.0}
"""Seconds: an answer across the world; nginx's keepalive_timeout of 75 s, the longest of the common ones."""
QUICK: Final = {Watch.SHORT: 1.0, Watch.LONG: 3.0}
"""Seconds, where time-outs are not waited for."""

OWN: Final = "the usual one"
ANOTHER: Final = "another one"


@dataclass(frozen=True, slots=True)
class Compared:
    """One probe and what came of it."""

    probe: Probe
    reference: Observation
    bridge: Observation
    differences: tuple[Difference, ...]
    unsteady: tuple[str, ...]
    """Observables in which the reference differed from itself."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "probe": self.probe.name,
            "family": self.probe.family,
            "differences": [
                {"observable": one.observable, "reference": one.reference, "bridge": one.bridge}
                for one in self.differences
            ],
            "unsteady": list(self.unsteady),
            "reference": self.reference.as_dict(),
            "bridge": self.bridge.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All probes, in the battery's order."""

    compared: tuple[Compared, ...]
    certificates_equal: bool
    """Whether both show the same certificate; otherwise lengths of handshake records are not compared."""

    @property
    def differing(self) -> tuple[Compared, ...]:
        """The probes that tell the two apart."""
        return tuple(one for one in self.compared if one.differences)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "same_certificate": self.certificates_equal,
            "probes": len(self.compared),
            "differing": len(self.differing),
            "results": [one.as_dict() for one in self.compared],
        }


Pair = tuple[Observation, Observation]
"""What the reference showed, and the bridge."""


async def compare_servers(
    reference: Server,
    bridge: Server,
    probes: Sequence[Probe],
    seconds: dict[Watch, float],
    progress: Callable[[int, int], None],
) -> Report:
    """Run every probe against both.

    ``progress`` is told how many of how many are done. Raises
    :class:`~ptproxy.errors.StartError` where one of them is not reached.
    Whoever is cancelled leaves no connection behind.
    """
    first = await _asked(reference, bridge, probes, seconds, progress)
    for server, place in ((reference, 0), (bridge, 1)):
        if all(pair[place].reached for pair in first):
            host, port = server.address
            raise StartError(f"{host}:{port} cannot be reached: {first[0][place].reached}")
    usual = tuple(_usual_certificate([pair[place] for pair in first]) for place in (0, 1))
    equal = usual[0] == usual[1]
    runs = [[_relative(pair, usual)] for pair in first]
    done = len(probes)
    for _ in range(MOST_RUNS - 1):
        again = [at for at, seen in enumerate(runs) if _undecided(seen, equal)]
        before, total = done, done + len(again)
        pairs = await _asked(
            reference,
            bridge,
            [probes[at] for at in again],
            seconds,
            lambda count, _: progress(before + count, total),  # noqa: B023  (called before they change)
        )
        for at, pair in zip(again, pairs, strict=True):
            runs[at].append(_relative(pair, usual))
        done = total
    compared = [_judged(probe, seen, equal) for probe, seen in zip(probes, runs, strict=True)]
    return Report(tuple(compared), equal)


async def _asked(
    reference: Server,
    bridge: Server,
    probes: Sequence[Probe],
    seconds: dict[Watch, float],
    progress: Callable[[int, int], None],
) -> list[Pair]:
    """Both servers' answers to every probe."""
    free = asyncio.Semaphore(PARALLEL)
    pairs: list[Pair | None] = [None] * len(probes)
    done = 0

    async def ask(at: int, probe: Probe) -> None:
        nonlocal done
        try:
            async with asyncio.TaskGroup() as both:
                one = both.create_task(run_probe(reference, probe, seconds))
                other = both.create_task(run_probe(bridge, probe, seconds))
        finally:
            if not probe.long:
                free.release()
        pairs[at] = (one.result(), other.result())
        done += 1
        progress(done, len(probes))

    async with asyncio.TaskGroup() as asking:
        for at, probe in enumerate(probes):
            if not probe.long:  # those wait, and cost nobody anything
                await free.acquire()
            asking.create_task(ask(at, probe))
            await asyncio.sleep(PACE)
    return [pair for pair in pairs if pair is not None]


def _usual_certificate(seen: list[Observation]) -> str:
    """The certificate that a server shows most often."""
    shown = [one.certificate for one in seen if one.certificate]
    return max(set(shown), key=shown.count) if shown else ""


def _relative(pair: Pair, usual: tuple[str, ...]) -> Pair:
    """Certificates told as what they are to their server."""
    one, other = (
        replace(seen, certificate=(OWN if seen.certificate == own else ANOTHER) if seen.certificate else "")
        for seen, own in zip(pair, usual, strict=True)
    )
    return one, other


def _differ(pair: Pair, certificates_equal: bool) -> list[Difference]:
    """Differences of one run that can count."""
    return [one for one in differences(*pair) if certificates_equal or one.observable != "flight_sizes"]


def _unsteady(runs: Sequence[Pair]) -> set[str]:
    """Fixed observables in which the reference differs from itself."""
    first = runs[0][0]
    return {one.observable for run in runs[1:] for one in differences(first, run[0])} - LOOSE


def _undecided(runs: Sequence[Pair], certificates_equal: bool) -> bool:
    """Whether the probe is to be asked once more."""
    if len(runs) == 1:
        return bool(_differ(runs[0], certificates_equal))
    shown = Counter(one.observable for run in runs for one in _differ(run, certificates_equal))
    unsteady = _unsteady(runs)
    return any(count == 1 for name, count in shown.items() if name not in unsteady and name not in LOOSE)


def _judged(probe: Probe, runs: Sequence[Pair], certificates_equal: bool) -> Compared:
    """What all runs of a probe say together."""
    shown: dict[str, list[Difference]] = {}
    for run in runs:
        for one in _differ(run, certificates_equal):
            shown.setdefault(one.observable, []).append(one)
    unsteady = _unsteady(runs)
    counted = tuple(found[-1] for name, found in shown.items() if len(found) > 1 and name not in unsteady)
    return Compared(probe, *runs[0], counted, tuple(sorted(unsteady & shown.keys())))
