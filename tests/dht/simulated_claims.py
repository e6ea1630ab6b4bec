"""What ``PROTOCOL.md`` says of the simulated directory, each line with the figure that it stands on.

Judged by the figure itself where few trials are made, and by what is certain with 95 % where many are.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace

from simulated_attack import Attack, Defences, cluster, insiders, leave_and_fetch, nobody
from simulated_network import SimulatedNetwork, World

from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.lookup_rules import PRIVATE, UPKEEP, LookupRules

PUT = 30.0
"""Queries until it is known where a record is to be left, on one path and under attack."""
CLOSE = 0.05
"""How far queries and hops may be from what another implementation took."""
RECALL = 0.999
MILLISECONDS = 4.0
"""CPU of a lookup over eight paths."""
CERTAIN = 100
"""Trials from which on what is certain is judged, not what was seen."""

FACTS = {
    10**3: (21.5, 1.93),
    10**4: (23.0, 2.46),
    10**5: (24.4, 3.02),
    10**6: (25.9, 3.59),
    10**7: (27.3, 4.14),
}
"""Queries and hops that another implementation measured."""


@dataclass(slots=True)
class Figures:
    """Of many lookups, each a mean."""

    asked: float
    asked_error: float
    hops: float
    recall: float
    median: float
    ninety_fifth: float
    cpu: float


def measure(world: World, rules: LookupRules, lookups: int) -> Figures:
    """Lookups for random places by random nodes."""
    net = SimulatedNetwork(world)
    asked, hops, recall, seconds, cpu = [], [], [], [], []
    for _ in range(lookups):
        target = net.target()
        origin = net.somebody()
        _, costs = net.look_up(origin, target, rules, size=world.nodes)
        asked.append(costs.asked)
        hops.append(costs.hops)
        recall.append(net.recall(origin, target, costs.found))
        seconds.append(costs.seconds)
        cpu.append(min(net.cpu(origin, target, rules, world.nodes, costs) for _ in range(3)))
    seconds.sort()
    return Figures(
        statistics.mean(asked),
        statistics.stdev(asked) / lookups**0.5,
        statistics.mean(hops),
        statistics.mean(recall),
        seconds[lookups // 2],
        seconds[lookups * 95 // 100],
        statistics.median(cpu),
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """One claim, and whether the figure bears it out."""

    claim: str
    figure: str
    holds: bool

    def __str__(self) -> str:
        return f"{'holds   ' if self.holds else 'DOES NOT'}  {self.claim}: {self.figure}"


@dataclass(frozen=True, slots=True)
class Threat:
    """A claim that a record is found although somebody is in the way."""

    claim: str
    least: float
    world: World
    attack: Attack
    defences: Defences
    trials: int
    places: int = 1

    def judge(self, few: int | None = None) -> Verdict:
        """With ``few`` trials, or as many as make it certain."""
        trials = few or self.trials
        outcome = leave_and_fetch(self.world, self.attack, self.defences, trials, self.places)
        rate = outcome.at_least() if trials >= CERTAIN else outcome.found / outcome.trials
        few_queries = outcome.put <= PUT * outcome.trials * self.places
        cheap = self.defences.paths or trials < CERTAIN or few_queries
        return Verdict(self.claim, str(outcome), rate >= self.least and cheap and not outcome.forged)


def threats(nodes: int, many: int) -> list[Threat]:
    """In a directory of ``nodes``, and one of ``many``."""
    world, large = World(nodes), World(many, hostile=0.5)
    half = replace(world, hostile=0.5)
    single, both = Defences(paths=False), Defences(probation=True, beacon=True)
    return [
        Threat(f"half of {nodes:,} hostile: .995", 0.995, half, nobody, Defences(), 1_000),
        Threat("the same with forgeries: .995", 0.995, replace(half, forge=True), nobody, Defences(), 1_000),
        Threat("the same, all holders sought: .995",
               0.995, replace(half, forge=True), nobody, Defences(enough=0), 1_000),
        Threat(f"half of {many:,} hostile: .96", 0.96, large, nobody, Defences(), 300),
        *(
            Threat(f"{n:,} ids at the record, one path: .99", 0.99, world, cluster(n), single, 1_000)
            for n in (20, 100, 1_000)
        ),
        Threat("1,000 insiders, as dense as nature: .70", 0.70, world, insiders(1_000), Defences(), 500),
        Threat("the same, probation, beacon: .99", 0.99, world, insiders(1_000), both, 500),
        Threat("1,000 insiders, twice as dense: .70", 0.70, world, insiders(1_000, 2), Defences(), 500),
        Threat("1,000 insiders, ten times as dense, and as many at each of a record's places: .70",
               0.70, world, insiders(1_000, 10), Defences(), 150, places=3),
        Threat("the same at one place, probation, beacon: .99", 0.99, world, insiders(1_000, 10), both, 500),
    ]  # fmt: skip


def scale(sizes: list[int], lookups: int) -> Iterator[Verdict]:
    """One path costs what it did elsewhere, and misses next to nothing."""
    for nodes in sizes:
        found = measure(World(nodes), replace(UPKEEP, diversity=ANY_NETWORK), lookups)
        queries, hops = FACTS[nodes]
        yield Verdict(
            f"a lookup among {nodes:,}: {queries} queries and {hops} hops ± 5 %, recall .999",
            f"{found.asked:.2f} ± {found.asked_error:.2f}, {found.hops:.2f}, {found.recall:.4f}; n {lookups}",
            abs(found.asked / queries - 1) <= CLOSE
            and abs(found.hops / hops - 1) <= CLOSE
            and found.recall >= RECALL,
        )


def cost(nodes: int, lookups: int) -> Verdict:
    """CPU of a lookup over eight paths. A time: for a machine that has nothing else to do."""
    found = measure(World(nodes), replace(PRIVATE, diversity=ANY_NETWORK), lookups)
    return Verdict(
        f"eight paths among {nodes:,}: {MILLISECONDS} ms of CPU",
        f"{1e3 * found.cpu:.2f} ms, {found.asked:.1f} queries, recall {found.recall:.4f}; n {lookups}",
        1e3 * found.cpu <= MILLISECONDS,
    )
