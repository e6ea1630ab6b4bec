"""The directory with thousands of nodes; ``scripts/dht_sim`` has the figures for up to millions."""

from __future__ import annotations

import pytest
from simulated_attack import Defences, cluster, insiders, leave_and_fetch, nobody
from simulated_network import SimulatedNetwork, World

from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.lookup import LookupRules

PLAIN = LookupRules(diversity=ANY_NETWORK)


def test_a_lookup_finds_the_closest_for_what_it_must_cost() -> None:
    """Another implementation took 21.5 queries and 1.93 hops at a thousand nodes."""
    net = SimulatedNetwork(World(1_000))
    asked = hops = recall = 0.0
    for _ in range(60):
        target = net.target()
        origin = net.somebody()
        _, costs = net.look_up(origin, target, PLAIN, size=1_000)
        asked += costs.asked / 60
        hops += costs.hops / 60
        recall += net.recall(origin, target, costs.found) / 60
    assert 20.4 < asked < 22.6
    assert 1.8 < hops < 2.1
    assert recall > 0.997


def test_dead_nodes_and_losses_cost_time_and_nothing_else() -> None:
    net = SimulatedNetwork(World(1_000, gone=0.3, loss=0.05))
    recall = 0.0
    for _ in range(30):
        target = net.target()
        origin = net.somebody()
        _, costs = net.look_up(origin, target, PLAIN, size=1_000)
        recall += net.recall(origin, target, costs.found) / 30
        assert costs.seconds < 30
    assert recall > 0.75


def test_half_of_the_nodes_hostile() -> None:
    """Disjoint paths find what a single one does not."""
    world = World(2_000, hostile=0.5)
    assert leave_and_fetch(world, nobody, Defences(), 40).found == 40
    assert leave_and_fetch(world, nobody, Defences(paths=False), 40).found < 36


@pytest.mark.parametrize("count", [20, 300])
def test_a_cluster_at_the_record(count: int) -> None:
    """The density cap is what keeps it from owning the record."""
    world = World(2_000)
    one_path = Defences(paths=False)
    outcome = leave_and_fetch(world, cluster(count), one_path, 25)
    assert outcome.found == 25
    assert outcome.put <= 32 * 25
    assert leave_and_fetch(world, cluster(count), Defences(paths=False, cap=False), 25).found < 5


def test_insiders_at_natural_density_and_what_moves_them_away() -> None:
    world = World(2_000)
    attack = insiders(300, density=2.0)
    alone = leave_and_fetch(world, attack, Defences(paths=False), 25)
    assert leave_and_fetch(world, attack, Defences(probation=True), 25).found == 25
    moved = leave_and_fetch(world, attack, Defences(paths=False, beacon=True), 25)
    assert alone.found < moved.found


def test_no_forgery_is_accepted() -> None:
    outcome = leave_and_fetch(World(1_000, hostile=0.4, forge=True), nobody, Defences(), 25)
    assert (outcome.found, outcome.forged) == (25, 0)


def test_hostile_nodes_of_few_networks_hardly_count() -> None:
    """Half of all nodes, in four address blocks: with the limits they are as good as absent."""
    world = World(2_000, hostile=0.5, blocks=4)
    one_path = Defences(paths=False)
    assert leave_and_fetch(world, nobody, Defences(paths=False, diversity=True), 25).found == 25
    assert leave_and_fetch(world, nobody, one_path, 25).found < 23
