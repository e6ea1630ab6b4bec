"""Ended carriers whose connections wait for a goodbye: bounded, the longest going first."""

from __future__ import annotations

from ptproxy.tunnel.carrier import CLOSE_TIMEOUT
from ptproxy.tunnel.farewells import Farewells


class Ended:
    def __init__(self) -> None:
        self.cut = 0

    def cut_off(self) -> None:
        self.cut += 1


def test_one_more_ends_the_longest() -> None:
    farewells, carriers = Farewells(3), [Ended() for _ in range(8)]
    for number, carrier in enumerate(carriers):
        farewells.add(carrier, number * 0.1)
        assert len(farewells) == min(number + 1, 3)
    assert [carrier.cut for carrier in carriers] == [1] * 5 + [0] * 3


def test_those_whose_time_is_over_are_forgotten() -> None:
    farewells, carriers = Farewells(3), [Ended() for _ in range(4)]
    for carrier in carriers[:3]:
        farewells.add(carrier, 10.0)
    farewells.add(carriers[3], 10.0 + CLOSE_TIMEOUT)
    assert len(farewells) == 1
    farewells.sweep(10.0 + 2 * CLOSE_TIMEOUT)
    assert not len(farewells)
    assert not any(carrier.cut for carrier in carriers)
