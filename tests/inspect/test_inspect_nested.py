"""Nested-handshake scores: a handshake inside is flagged, more cover is not, and the figures are honest."""

from __future__ import annotations

import random

import pytest
from capture_bytes import flow, tls13
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.errors import StartError
from ptproxy.inspect.flows import DOWN, UP, Flow, FlowReader, Part
from ptproxy.inspect.nested import (
    Template,
    Verdict,
    _auc,
    _Gauss,
    _inverse,
    bursts,
    carries_data,
    inner_records,
    verdicts,
)


def browsing(rng: random.Random) -> list[tuple[int, int]]:
    """A page load: requests up, long answers down."""
    steps = [(UP, 87), (UP, 479), (DOWN, 266), (DOWN, 266), (DOWN, 57)]
    for _ in range(rng.randrange(2, 6)):
        steps += [(UP, rng.randrange(50, 130)) for _ in range(rng.randrange(1, 4))]
        steps += [(DOWN, 16401)] * rng.randrange(1, 5) + [(DOWN, rng.randrange(100, 16000))]
    return steps


def tunnel(rng: random.Random) -> list[tuple[int, int]]:
    """A handshake inside TLS, as a browser's, then its page."""
    steps = [
        (UP, 60),
        (DOWN, 40),
        (UP, rng.randrange(480, 700)),
        (DOWN, rng.randrange(2300, 3900)),
        (UP, 101),
    ]
    return steps + browsing(rng)


def made(steps, port: int, rng: random.Random) -> Flow:
    reader = FlowReader(443)
    reader.receive(flow(tls13(steps, rng.randrange(200, 400), rng.randrange(2200, 3800)), port=port))
    return reader.flows()[0]


def some(kind, count: int, seed: int) -> list[Flow]:
    rng = random.Random(seed)
    return [made(kind(rng), 10_000 + number, rng) for number in range(count)]


COVER = some(browsing, 120, 1)


def test_a_tunnel_is_flagged_and_more_cover_is_not() -> None:
    template, chi = verdicts(COVER, some(tunnel, 40, 2))
    assert (template.detector, chi.detector) == ("template", "chi-square")
    assert (template.trained, template.held_out, template.flows) == (60, 60, 40)
    assert template.false_positives <= 1
    assert template.flagged > 30
    assert template.auc > 0.95
    assert template.telling
    for one in verdicts(COVER, some(browsing, 40, 3)):
        assert not one.telling
        assert 0.3 < one.auc < 0.7
        assert one.flagged <= 4


def test_flows_without_data_are_left_out() -> None:
    rng = random.Random(4)
    idle = [made([(DOWN, 266), (DOWN, 266)], 10, rng) for _ in range(30)]
    assert not any(carries_data(one) for one in idle)
    assert verdicts(COVER + idle, idle)[0] == Verdict("template", 60, 60, 0, 0, 0, 0.5)


def test_too_little_cover_says_nothing() -> None:
    with pytest.raises(StartError, match="19 flows of cover"):
        verdicts(COVER[:19], COVER)


def test_what_follows_the_finished_of_tls_12_and_13() -> None:
    old = [(UP, 22, 500), (DOWN, 22, 100), (DOWN, 22, 2000), (UP, 22, 70), (UP, 20, 1), (UP, 22, 40),
           (DOWN, 22, 200), (DOWN, 20, 1), (DOWN, 22, 40), (UP, 23, 7), (DOWN, 23, 8)]  # fmt: skip
    new = [(UP, 22, 500), (DOWN, 22, 122), (DOWN, 20, 1), (DOWN, 23, 2000), (UP, 20, 1), (UP, 23, 53),
           (DOWN, 23, 266), (UP, 23, 7), (UP, 21, 19)]  # fmt: skip
    retried = [(UP, 22, 500), (DOWN, 22, 88), (UP, 20, 1), (UP, 22, 533), *new[1:4], *new[5:]]
    for records, wanted in ((old, [7, 8]), (new, [266, 7]), (retried, [266, 7]), (new[:5], [])):
        one = Flow(("a", 1), ("b", 2), tls=True)
        one.records = [Part(float(at), *values) for at, values in enumerate(records)]
        assert [part.size for part in inner_records(one)] == wanted


def test_bursts_add_up() -> None:
    parts = [Part(0.0, side, 23, size) for side, size in [(UP, 50), (UP, 60), (DOWN, 20), (UP, 10)]]
    assert bursts(parts) == [(UP, 110), (DOWN, 20), (UP, 10)]
    assert bursts(parts, 24) == [(UP, 62), (DOWN, 1), (UP, 1)]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.lists(st.floats(-5, 5), max_size=30))
def test_auc_is_the_share_of_pairs(normal, scores) -> None:
    pairs = [1.0 if s > n else 0.5 if s == n else 0.0 for s in scores for n in normal]
    expected = sum(pairs) / len(pairs) if pairs else 0.5
    assert _auc(sorted(normal), scores) == pytest.approx(expected)


@given(st.lists(st.lists(st.floats(-3, 3), min_size=3, max_size=3), min_size=2, max_size=20))
def test_the_inverse_is_one(vectors) -> None:
    matrix = [
        [sum(v[i] * v[j] for v in vectors) + (1.0 if i == j else 0.0) for j in range(3)] for i in range(3)
    ]
    inverse = _inverse(matrix)
    for i in range(3):
        for j in range(3):
            product = sum(matrix[i][k] * inverse[k][j] for k in range(3))
            assert product == pytest.approx(1.0 if i == j else 0.0, abs=1e-6)


def test_the_mean_has_no_distance() -> None:
    gauss = _Gauss([(1.0, 2.0, 3.0), (3.0, 2.0, 1.0)])
    assert gauss.distance((2.0, 2.0, 2.0)) == pytest.approx(0.0)
    assert gauss.distance((2.0, 9.0, 2.0)) > 10


def test_a_flow_too_short_for_a_handshake_is_farthest() -> None:
    rng = random.Random(5)
    template = Template(COVER)
    assert template.score(made([(UP, 10)], 1, rng)) == -1000.0
    assert template.score(made(tunnel(rng), 1, rng)) > -10
