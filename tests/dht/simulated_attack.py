"""Attacks on a simulated directory: a record is left, another node looks for it, somebody is in the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from simulated_network import DAY, LOW, SimulatedNetwork, World

from ptproxy.dht.density import DensityCap
from ptproxy.dht.diversity import ANY_NETWORK, Diversity
from ptproxy.dht.identifier import NodeId
from ptproxy.dht.lookup import PRIVATE, UPKEEP, LookupRules
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

    def rules(self) -> LookupRules:
        rules = PRIVATE if self.paths else UPKEEP
        return replace(
            rules,
            diversity=Diversity() if self.diversity else ANY_NETWORK,
            cap=DensityCap() if self.cap else None,
            enough=1,
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

    def __str__(self) -> str:
        n = self.trials
        return (
            f"found {self.found / n:.4f} of {n}, forged {self.forged}; "
            f"{self.put / n:.1f} queries to put, {self.get / n:.1f} to get; holders {self.kept / n:.1f}"
        )


def leave_and_fetch(world: World, attack: Attack, defences: Defences, trials: int) -> Outcome:
    """Each time another record, another publisher, another reader, and the attacker's ids anew."""
    net = SimulatedNetwork(defences.world(world))
    rules = defences.rules()
    size = float(world.nodes)
    outcome = Outcome()
    for _ in range(trials):
        target = net.target()
        # The attacker makes ids for the place it knows: with a beacon that was yesterday's.
        ids = attack(net, net.target() if defences.beacon else target)
        if ids:
            net.insert(ids)
        _, put = net.look_up(net.somebody(), target, rules, size=size)
        outcome.kept += net.store(put.found, target, RECORD)
        _, got = net.look_up(
            net.somebody(), target, rules, judge=lambda data: 1 if data == RECORD else None, size=size
        )
        outcome.trials += 1
        outcome.put += put.asked
        outcome.get += got.asked
        outcome.found += got.record == RECORD
        outcome.forged += got.record not in (None, RECORD)
        if ids:
            net.remove(ids)
    return outcome


__all__ = ["DAY", "Defences", "Outcome", "cluster", "insiders", "leave_and_fetch", "nobody"]
