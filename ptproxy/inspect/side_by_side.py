"""Asks two servers the same questions at the same time and tells in what their answers differ.

What differs is asked once more. An observable in which the reference differs
from itself is not compared (it is told as unsteady); one that hangs on the
moment counts when it differs both times (:mod:`ptproxy.inspect.observation`).

The load on each server is bounded: :data:`PARALLEL` connections at a time,
beside at most a dozen idle ones that wait for time-outs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ptproxy.errors import StartError
from ptproxy.inspect.observation import LOOSE, Difference, Observation, differences
from ptproxy.inspect.probe import Probe, Watch
from ptproxy.inspect.visit import Server, run_probe

PARALLEL: Final = 8
"""Connections to each server at a time: no more than a browser or two make."""
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
    first = [_relative(pair, usual) for pair in first]
    again = [at for at, pair in enumerate(first) if _differ(pair, equal)]
    total = len(probes) + len(again)
    second = await _asked(
        reference,
        bridge,
        [probes[at] for at in again],
        seconds,
        lambda done, _: progress(len(probes) + done, total),
    )
    repeated = dict(zip(again, (_relative(pair, usual) for pair in second), strict=True))
    compared = [_judged(probe, first[at], repeated.get(at), equal) for at, probe in enumerate(probes)]
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


def _judged(probe: Probe, first: Pair, second: Pair | None, certificates_equal: bool) -> Compared:
    """What two runs say together."""
    if second is None:
        return Compared(probe, *first, (), ())
    unsteady = {one.observable for one in differences(first[0], second[0])}
    runs = [{one.observable: one for one in _differ(pair, certificates_equal)} for pair in (first, second)]
    counted = []
    for name in dict.fromkeys([*runs[0], *runs[1]]):
        twice = name in runs[0] and name in runs[1]
        if twice if name in LOOSE else name not in unsteady:
            counted.append(runs[1].get(name) or runs[0][name])
    names = {one.observable for one in counted}
    left = tuple(sorted(name for name in unsteady - names if name in {*runs[0], *runs[1]}))
    return Compared(probe, *first, tuple(counted), left)
