"""Attacks on a simulated directory: a record is left, another node looks for it, somebody is in the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from simulated_network import DAY, LOW, SimulatedNetwork, World

from ptproxy.dht.density import DensityCap
from ptproxy.dht.diversity import ANY_NETWORK, Diversity
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.lookup_rules import PRIVATE, UPKEEP, LookupRules
from ptproxy.dht.probation import NO_PROBATION, Probation

RECORD = b"the record"
FORGED = b"a forgery"

Attack = Callable[[SimulatedNetwork, NodeId], list[int]]
"""The ids that an attacker makes who knows where the record will lie."""


def nobody(net: SimulatedNetwork, target: NodeId) -> list[int]:
    return []


def cluster(count: int) -> Attack:
    """All of them closer to the record than any honest node."""

    def attack(net: SimulatedNetwork, target: NodeId) -> list[int]:
        return [target >> LOW ^ net.rng.getrandbits(20) for _ in range(count)]

    return attack


def insiders(count: int, density: float = 1.0) -> Attack:
    """Around the record, spread as nature would: ``density`` for each honest node there."""

    def attack(net: SimulatedNetwork, target: NodeId) -> list[int]:
        step = 2**64 / net.world.nodes / density
        return [target >> LOW ^ int((number + net.rng.random()) * step) for number in range(count)]

    return attack


@dataclass(frozen=True)
class Defences:
    """What is switched on."""

    cap: bool = True
    paths: bool = True
    probation: bool = False
    beacon: bool = False
    diversity: bool = False
    enough: int = 1
    """Records that end a search: one (GET, answers without a signature), or 0 for all holders' (SEEK)."""

    def rules(self) -> LookupRules:
        rules = PRIVATE if self.paths else UPKEEP
        return replace(
            rules,
            diversity=Diversity() if self.diversity else ANY_NETWORK,
            cap=DensityCap() if self.cap else None,
            enough=self.enough,
        )

    def world(self, world: World) -> World:
        return replace(
            world,
            diversity=Diversity() if self.diversity else ANY_NETWORK,
            probation=Probation(founded=0.0) if self.probation else NO_PROBATION,
            cap=DensityCap() if self.cap else None,
        )


@dataclass(slots=True)
class Outcome:
    """Of so many times that a record was left and looked for."""

    trials: int = 0
    found: int = 0
    forged: int = 0
    put: int = 0
    """Queries until it was known where to leave it, all trials together."""
    get: int = 0
    kept: int = 0
    """Honest nodes that kept it."""

    def at_least(self) -> float:
        """The rate that the true one exceeds with 95 % (Clopper and Pearson, 1934)."""
        low, high = 0.0, self.found / max(self.trials, 1)
        for _ in range(40):
            rate = (low + high) / 2
            low, high = (rate, high) if self._chance(rate) < 0.05 else (low, rate)
        return low

    def _chance(self, rate: float) -> float:
        """Of finding as often as was found, or more often, if each time it is found with ``rate``."""
        n = self.trials
        return sum(
            math.comb(n, missed) * rate ** (n - missed) * (1 - rate) ** missed
            for missed in range(n - self.found + 1)
        )

    def __str__(self) -> str:
        n = self.trials
        return (
            f"found {self.found / n:.4f} of {n} (95 %: above {self.at_least():.4f}), forged {self.forged}; "
            f"{self.put / n:.1f} queries to put, {self.get / n:.1f} to get; holders {self.kept / n:.1f}"
        )


def leave_and_fetch(
    world: World, attack: Attack, defences: Defences, trials: int, places: int = 1
) -> Outcome:
    """Each time another record, another publisher, another reader, and the attacker's ids anew.

    ``places``: how many of the record's three locations are used; the attacker makes ids for each of them.
    """
    net = SimulatedNetwork(defences.world(world))
    rules = defences.rules()
    size = world.nodes * world.estimate
    outcome = Outcome()
    for _ in range(trials):
        targets = [net.target() for _ in range(places)]
        # The attacker makes ids for the places it knows: with a beacon those were yesterday's.
        aims = [net.target() if defences.beacon else target for target in targets]
        ids = [one for aim in aims for one in attack(net, aim)]
        if ids:
            net.insert(ids)
        publisher = net.somebody()
        for target in targets:
            _, put = net.look_up(publisher, target, rules, size=size)
            outcome.kept += net.store(put.found, target, RECORD)
            outcome.put += put.asked
        reader = net.somebody()
        record = None
        for target in targets:
            _, got = net.look_up(
                reader, target, rules, judge=lambda data: 1 if data == RECORD else None, size=size
            )
            outcome.get += got.asked
            outcome.forged += got.record not in (None, RECORD)
            record = record or got.record
            if record:
                break
        outcome.trials += 1
        outcome.found += record == RECORD
        if ids:
            net.remove(ids)
    return outcome


__all__ = ["DAY", "Attack", "Defences", "Outcome", "cluster", "insiders", "leave_and_fetch", "nobody"]
