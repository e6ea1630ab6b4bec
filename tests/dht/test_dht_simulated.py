"""The directory with thousands of nodes; ``scripts/dht_sim`` has the figures for up to millions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from churning_network import HOUR, Churn, ChurningNetwork, Hour, without_signatures
from simulated_attack import Defences, Outcome, cluster, insiders, leave_and_fetch, nobody
from simulated_claims import scale, threats
from simulated_network import DAY, SimulatedNetwork, World

from ptproxy.dht.diversity import ANY_NETWORK
from ptproxy.dht.lookup_rules import LookupRules

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


def test_insiders_must_be_at_all_three_places_of_a_record() -> None:
    """Ten hostile ids for each honest node hide one place more often than not, and not three."""
    world = World(1_000)
    attack = insiders(150, density=10.0)
    one = leave_and_fetch(world, attack, Defences(), 20)
    three = leave_and_fetch(world, attack, Defences(), 20, places=3)
    assert one.found < 15 < three.found


def test_what_is_claimed_of_attacks_holds_with_few_trials() -> None:
    """``scripts/dht_sim claims`` makes enough of them to be certain, among ten thousand and a million."""
    for threat in threats(10_000, 4_000):
        verdict = threat.judge(6)
        assert verdict.holds, verdict


def test_what_is_claimed_of_scale_holds_at_a_thousand_nodes() -> None:
    for verdict in scale([1_000], 80):
        assert verdict.holds, verdict


def test_a_claim_that_is_not_borne_out_says_so() -> None:
    """The same attacks with the defence left out that the claim is about."""
    for threat in threats(3_000, 5_000):
        if "one path" in threat.claim:
            bare = replace(threat, defences=replace(threat.defences, cap=False))
            assert not bare.judge(6).holds


@pytest.mark.parametrize(
    ("trials", "found", "certain"),
    [(100, 100, 0.9705), (1_000, 1_000, 0.99701), (10, 9, 0.6058), (20, 0, 0.0), (300, 195, 0.6023)],
)
def test_what_is_certain_of_a_rate(trials: int, found: int, certain: float) -> None:
    """One-sided limits of Clopper and Pearson, as tables have them."""
    assert Outcome(trials, found).at_least() == pytest.approx(certain, abs=0.0005)


def test_nodes_come_and_go_and_records_stay() -> None:
    """Half of 24 nodes are gone after half an hour; in the second half hour every record is found."""
    with without_signatures():
        net = ChurningNetwork(Churn(24, HOUR / 2, records=3, measured_every=120.0))
        net.run(HOUR / 2)
        net.hour = Hour()
        net.run(HOUR / 2)
    hour = net.hour
    assert hour.came > 5
    assert hour.eight_paths.count > 10
    assert hour.eight_paths.found == hour.eight_paths.count
    assert hour.closest.row()[0] > 0.7


def test_without_anybody_who_looks_after_them_records_go_with_their_holders() -> None:
    """What the test above would miss, if holders did not hand on and publishers did not come again."""
    with without_signatures():
        net = ChurningNetwork(Churn(24, HOUR / 4, records=3, measured_every=120.0))
        net.run(10.0)
        for peer in net.peers.values():
            assert peer.storage.expire(net.now + 2 * DAY) or not len(peer.storage)
        net.run(HOUR / 6)
    assert net.hour.eight_paths.count > 3
    assert net.hour.eight_paths.found <= 1


def test_churn_is_the_same_again_with_the_same_seed() -> None:
    hours = []
    for _ in range(2):
        with without_signatures():
            net = ChurningNetwork(Churn(12, HOUR, records=2, seed=5))
            net.run(HOUR / 6)
        hours.append(net.hour)
    assert hours[0] == hours[1]
    assert hours[0].messages > 300
