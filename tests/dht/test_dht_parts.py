"""Small parts of the directory's decisions: seats, network size, round trips, address blocks."""

from __future__ import annotations

import random

import pytest
from dht_nodes import plain_contact
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.dht.contact import Address
from ptproxy.dht.density import NO_CAP, SAMPLES, DensityCap, NetworkSize, Seats
from ptproxy.dht.diversity import ANY_NETWORK, IN_BUCKET, Diversity, address_block
from ptproxy.dht.round_trips import FACTOR, FEW, LONGEST, SHORTEST, SOONEST, RoundTrips

WHOLE = 1 << 256


def closest(rng: random.Random, nodes: int, count: int = 20) -> list[int]:
    """Distances of the ``count`` closest of ``nodes``."""
    return sorted(rng.getrandbits(256) for _ in range(nodes))[:count]


def test_nature_keeps_its_seats() -> None:
    """Of 300 draws of the 20 closest among 1,000 nodes, one node in 2,000 at most has no seat."""
    rng = random.Random(1)
    seats = DensityCap().seats(1_000)
    taken = [seat for _ in range(300) for seat in seats.taken(closest(rng, 1_000))]
    assert sum(taken) / len(taken) > 0.9995


@given(st.integers(0, 2**32), st.integers(0, 1_000))
def test_a_cluster_has_the_floor_and_no_more(seed: int, size: int) -> None:
    rng = random.Random(seed)
    cap = DensityCap()
    cluster = sorted(rng.getrandbits(200) for _ in range(size))
    taken = list(cap.seats(10_000).taken(cluster))
    assert sum(taken) == min(size, cap.floor)


@given(st.lists(st.integers(0, WHOLE - 1)), st.integers(1, 10), st.integers(0, WHOLE))
def test_seats_are_what_they_say(distances: list[int], floor: int, step: int) -> None:
    """However many nodes lie within a distance, so many at most have a seat there."""
    distances.sort()
    taken = list(Seats(floor, step).taken(distances))
    seated = [distance for distance, seat in zip(distances, taken, strict=True) if seat]
    for number, distance in enumerate(seated):
        assert distance >= max(0, number + 1 - floor) * step


def test_without_a_network_size_there_is_no_cap() -> None:
    assert DensityCap().seats(None) is NO_CAP
    assert all(NO_CAP.taken([0] * 100))


@pytest.mark.parametrize("nodes", [100, 1_000, 20_000])
def test_the_size_of_a_network_is_estimated_without_bias(nodes: int) -> None:
    rng = random.Random(nodes)
    size = NetworkSize()
    for _ in range(SAMPLES):
        target = rng.getrandbits(256)
        distances = closest(rng, nodes)
        size.found(target, [distance ^ target for distance in distances])
    estimate = size.estimate()
    assert estimate is not None
    assert 0.85 < estimate / nodes < 1.15


def test_crowds_at_a_few_places_do_not_move_the_estimate() -> None:
    rng = random.Random(1)
    size = NetworkSize()
    for number in range(SAMPLES):
        distances = list(range(20)) if number % 3 == 0 else closest(rng, 1_000)
        size.found(0, distances)
    estimate = size.estimate()
    assert estimate is not None
    assert 0.6 < estimate / 1_000 < 1.7


def test_too_few_nodes_say_nothing() -> None:
    size = NetworkSize()
    size.found(0, [1, 2, 3])
    assert size.estimate() is None


def test_a_new_node_waits_the_longest() -> None:
    trips = RoundTrips()
    for _ in range(FEW - 1):
        trips.took(0.01)
        assert trips.timeout == LONGEST
        assert trips.slow == LONGEST / FACTOR
    trips.took(0.01)
    assert trips.timeout == SHORTEST
    assert trips.slow == pytest.approx(0.01)


@pytest.mark.parametrize(("slow", "timeout"), [(0.1, SHORTEST), (0.2, 0.6), (0.4, 1.2), (0.6, LONGEST)])
def test_time_outs_are_three_times_the_ninetieth_percentile(slow: float, timeout: float) -> None:
    trips = RoundTrips()
    for number in range(60):
        trips.took(slow if number % 5 == 0 else 0.01)
    assert trips.timeout == pytest.approx(timeout)
    assert trips.slow == pytest.approx(min(slow, LONGEST / FACTOR))


def test_nobody_is_slow_sooner_than_a_timer_can_tell() -> None:
    trips = RoundTrips()
    for _ in range(FEW):
        trips.took(0.0001)
    assert trips.slow == SOONEST


def test_networks_are_the_blocks_that_providers_are_given() -> None:
    assert address_block(Address(b"\x0b\x01\x02\x03", 1)) == b"\x0b\x01"
    assert address_block(Address(b"\x20\x01\x0d\xb8" + bytes(12), 1)) == b"\x20\x01\x0d\xb8"


def test_a_table_of_systems_can_say_what_a_network_is() -> None:
    systems = {b"\x0b\x01": 64_500, b"\x0c\x01": 64_500}
    diversity = Diversity(network_of=lambda address: systems.get(address.host[:2], address.host[:2]))
    crowd = [plain_contact(number, host) for number, host in enumerate([b"\x0b\x01aa", b"\x0c\x01aa"] * 3)]
    assert diversity.spread(crowd) == crowd[:IN_BUCKET]
    assert ANY_NETWORK.spread(crowd) == crowd
