"""Whether a TLS connection carries another handshake: two one-class scores against the operator's own cover.

A tunnel betrays itself where the first thing that goes through it is a TLS
handshake again: a small burst up, a large one down, a small one up, whatever
encrypts them (Xue et al., "Fingerprinting Obfuscated Proxy Traffic with
Encapsulated TLS Handshakes", USENIX Security 2024). Both scores learn from
cover alone, what plain handshakes look like and what follows them, and never
see a tunnel:

- ``template``: how near any three bursts after the outer handshake come to the
  three bursts of the cover's own handshakes (Mahalanobis distance of their
  logarithms; two templates, for small and for large hellos).
- ``chi-square``: whether the 3-grams of signed packet size classes after the
  outer handshake are distributed as those of beginnings, or as those of what
  follows them (chi-square distances to both, on the 3-grams that tell most).

Half of the cover trains, the other half sets the threshold: so many of it, and
no more, are wrongly flagged. A censor sees more kinds of cover than one
operator records, and more flows; the scores rank one's own settings and prove
nothing absolute.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

from ptproxy.errors import StartError
from ptproxy.inspect.flows import DOWN, UP, Flow, Part
from ptproxy.inspect.server_flight import APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE

MIN_COVER: Final = 20
"""Flows of cover below which nothing is said; a few hundred make a threshold worth the name."""
FALSE_POSITIVES: Final = 0.01
"""Share of the held-out cover that may be flagged."""
LOOKED_AT: Final = 30
"""Records after the handshake that are looked at."""
GRAM_PACKETS: Final = 25
"""Packets that 3-grams are counted in."""

_OVERHEAD: Final = 24
"""Bytes of an outer record around inner bytes, the head counted (TLS 1.3: 22, TLS 1.2 with GCM: 29)."""
_SMALL_FINISHED: Final = 100
"""Bytes: a record of a Finished is smaller, a second ClientHello larger."""
_WINDOWS: Final = 8
"""Places at which three bursts are compared with a template."""
_FARTHEST: Final = 1000.0
"""Distance of a flow that has no three bursts."""
_CLASSES: Final = (161, 601, 1211)
"""Upper ends of packet size classes (exclusive, bytes), as in the paper; both directions make eight."""
_FEATURES: Final = 100
"""3-grams that count: those that tell beginnings from the rest best."""
_NOTHING: Final = 1e-9
"""Added where something may be divided by nothing."""
_RIDGE: Final = 0.01
"""Added to variances, so that cover of one kind does not make a template of no width."""

Vector = tuple[float, ...]
Matrix = list[list[float]]


def finished_at(flow: Flow) -> int | None:
    """Which record is the client's Finished, None where there is none."""
    answered = changed = False
    for place, part in enumerate(flow.records):
        if part.direction == DOWN:
            answered = True
        elif part.kind == CHANGE_CIPHER_SPEC:
            changed = True
        elif answered:
            old = part.kind == HANDSHAKE and changed and part.size < _SMALL_FINISHED
            if old or part.kind == APPLICATION_DATA:
                return place
    return None


def inner_records(flow: Flow) -> list[Part]:
    """The application data records after the client's Finished."""
    place = finished_at(flow)
    return (
        [] if place is None else [part for part in flow.records[place + 1 :] if part.kind == APPLICATION_DATA]
    )


def carries_data(flow: Flow) -> bool:
    """Whether more than a handshake went over a flow (browsers open connections that they never use)."""
    return flow.tls and len(inner_records(flow)) > 2


def bursts(parts: Sequence[Part], overhead: int = 0) -> list[tuple[int, int]]:
    """(direction, bytes) of parts that follow one another in one direction."""
    found: list[tuple[int, int]] = []
    for part in parts:
        size = max(1, part.size - overhead)
        if found and found[-1][0] == part.direction:
            found[-1] = (part.direction, found[-1][1] + size)
        else:
            found.append((part.direction, size))
    return found


def _triples(runs: list[tuple[int, int]]) -> list[Vector]:
    """Logarithms of three bursts, the first of them the client's, at every place."""
    return [
        tuple(math.log(size) for _, size in runs[at : at + 3])
        for at in range(len(runs) - 2)
        if runs[at][0] == UP
    ]


class Detector(Protocol):
    """What scores a flow: the more, the likelier a handshake is inside."""

    def score(self, flow: Flow) -> float:
        """A number that orders flows."""


class Template:
    """Three bursts of the cover's handshakes."""

    def __init__(self, cover: Sequence[Flow]) -> None:
        firsts = [triples[0] for flow in cover if (triples := _triples(bursts(flow.segments[:LOOKED_AT])))]
        middle = statistics.median(first[0] for first in firsts) if firsts else 0.0
        halves = [
            [first for first in firsts if first[0] > middle],
            [first for first in firsts if first[0] <= middle],
        ]
        self._kinds = [_Gauss(half) for half in halves if len(half) > 5] or [_Gauss(firsts)]

    def score(self, flow: Flow) -> float:
        """Less the distance of the nearest place."""
        places = _triples(bursts(inner_records(flow)[:LOOKED_AT], _OVERHEAD))[:_WINDOWS]
        return -min((kind.distance(place) for place in places for kind in self._kinds), default=_FARTHEST)


class _Gauss:
    """Mean and covariance of vectors of three."""

    def __init__(self, vectors: Sequence[Vector]) -> None:
        columns = list(zip(*vectors, strict=True)) or [(0.0,)] * 3
        self._mean = [statistics.fmean(column) for column in columns]
        centred = [
            [value - mean for value in column] for column, mean in zip(columns, self._mean, strict=True)
        ]
        count = max(1, len(vectors) - 1)
        covariance = [
            [
                sum(a * b for a, b in zip(one, other, strict=True)) / count + (_RIDGE if i == j else 0.0)
                for j, other in enumerate(centred)
            ]
            for i, one in enumerate(centred)
        ]
        self._inverse = _inverse(covariance)

    def distance(self, vector: Vector) -> float:
        """Mahalanobis distance."""
        off = [value - mean for value, mean in zip(vector, self._mean, strict=True)]
        product = [sum(a * b for a, b in zip(row, off, strict=True)) for row in self._inverse]
        return math.sqrt(max(0.0, sum(a * b for a, b in zip(off, product, strict=True))))


def _inverse(m: Matrix) -> Matrix:
    """Of three rows by three, by cofactors."""
    cofactors = [
        [
            m[(i + 1) % 3][(j + 1) % 3] * m[(i + 2) % 3][(j + 2) % 3]
            - m[(i + 1) % 3][(j + 2) % 3] * m[(i + 2) % 3][(j + 1) % 3]
            for j in range(3)
        ]
        for i in range(3)
    ]
    determinant = sum(m[0][j] * cofactors[0][j] for j in range(3))
    return [[cofactors[j][i] / determinant for j in range(3)] for i in range(3)]


class ThreeGrams:
    """Distributions of 3-grams of packet size classes: of beginnings, and of what follows them."""

    def __init__(self, cover: Sequence[Flow]) -> None:
        begun = [_grams(_signed(flow.segments[:GRAM_PACKETS])) for flow in cover]
        later = [_grams(_after(flow)) for flow in cover]
        told = {gram: _telling(gram, begun, later) for one in (*begun, *later) for gram in one}
        self._grams = sorted(told, key=lambda gram: (-told[gram], gram))[:_FEATURES]
        self._begun, self._later = self._means(begun), self._means(later)

    def _means(self, seen: Sequence[dict[int, float]]) -> list[float]:
        return [statistics.fmean(one.get(gram, 0.0) for one in seen) + 1e-4 for gram in self._grams]

    def score(self, flow: Flow) -> float:
        """Logarithm of how much nearer it is to beginnings than to what follows them."""
        shares = _grams(_after(flow))
        values = [shares.get(gram, 0.0) for gram in self._grams]
        to_later, to_begun = (
            sum((value - mean) ** 2 / mean for value, mean in zip(values, means, strict=True))
            for means in (self._later, self._begun)
        )
        return math.log(to_later + _NOTHING) - math.log(to_begun + _NOTHING)


def _signed(parts: Sequence[Part], overhead: int = 0) -> list[int]:
    return [part.direction * max(1, part.size - overhead) for part in parts]


def _after(flow: Flow) -> list[int]:
    """Signed sizes of the packets after the one with the client's Finished."""
    place = finished_at(flow)
    if place is None:
        return []
    start = flow.records[place].time
    later = [part for part in flow.segments if part.time > start]
    return _signed(later[:GRAM_PACKETS], _OVERHEAD)


def _grams(sizes: Sequence[int]) -> dict[int, float]:
    """Share of each 3-gram of size classes."""
    classes = [bisect_right(_CLASSES, abs(size)) + (4 if size < 0 else 0) for size in sizes]
    counts: dict[int, float] = {}
    for (a, b), (_, c) in pairwise(pairwise(classes)):
        gram = a * 64 + b * 8 + c
        counts[gram] = counts.get(gram, 0.0) + 1
    whole = sum(counts.values())
    return {gram: count / whole for gram, count in counts.items()}


def _telling(gram: int, begun: Sequence[dict[int, float]], later: Sequence[dict[int, float]]) -> float:
    """How well a 3-gram's share tells beginnings from the rest, by means and variances."""
    one, other = ([shares.get(gram, 0.0) for shares in seen] for seen in (begun, later))
    apart = statistics.fmean(one) - statistics.fmean(other)
    whole = statistics.pvariance((*one, *other))
    parts = statistics.pvariance(one) + statistics.pvariance(other) + apart**2
    return parts / (whole + _NOTHING) * abs(apart) / (math.sqrt(whole) + _NOTHING)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one detector says of a set of flows."""

    detector: str
    trained: int
    """Cover flows it learnt from."""
    held_out: int
    """Cover flows that set its threshold."""
    false_positives: int
    """How many of those it flags."""
    flows: int
    flagged: int
    auc: float
    """Chance that a flow scores above one of the held-out cover; 0.5 is none."""

    @property
    def telling(self) -> bool:
        """Whether more flows are flagged than three standard deviations of chance explain."""
        rate = max(self.false_positives, 1) / self.held_out
        return self.flagged > self.flows * rate + 3 * math.sqrt(self.flows * rate * (1 - rate))


def verdicts(cover: Sequence[Flow], flows: Sequence[Flow]) -> list[Verdict]:
    """Both detectors on ``flows``; flows that carry no data are left out on both sides.

    Raises :class:`~ptproxy.errors.StartError` for too little cover.
    """
    known, asked = ([flow for flow in some if carries_data(flow)] for some in (cover, flows))
    if len(known) < MIN_COVER:
        raise StartError(
            f"{len(known)} flows of cover carry data; nested-handshake scores need {MIN_COVER}, better 200"
        )
    trained, held_out = known[::2], known[1::2]
    detectors: dict[str, Detector] = {"template": Template(trained), "chi-square": ThreeGrams(trained)}
    found = []
    for name, detector in detectors.items():
        normal = sorted(detector.score(flow) for flow in held_out)
        scores = [detector.score(flow) for flow in asked]
        threshold = normal[-1 - int(FALSE_POSITIVES * len(normal))]
        found.append(
            Verdict(
                name,
                len(trained),
                len(normal),
                sum(score > threshold for score in normal),
                len(scores),
                sum(score > threshold for score in scores),
                _auc(normal, scores),
            )
        )
    return found


def _auc(normal: list[float], scores: Sequence[float]) -> float:
    """Share of pairs in which the score is above the (sorted) normal one, equal ones counting half."""
    if not scores:
        return 0.5
    below = sum(_place(normal, score) for score in scores)
    return below / (len(normal) * len(scores))


def _place(normal: list[float], score: float) -> float:
    above = bisect_right(normal, score)
    equal = sum(value == score for value in normal)
    return above - equal / 2
