"""Two runs of ``scripts/bench --json`` beside each other: what differs by more than noise.

Noise is what the rounds of one run differ among themselves. A figure counts as better
or worse only where every round of the one run is beyond every round of the other and the
medians differ by more than :data:`LEAST`; else it is called the same. With fewer than
three rounds each, nothing is called anything.
"""

from __future__ import annotations

import statistics
from typing import Final

LEAST: Final = 0.03
"""Part by which medians must differ: two builds of one program, rounds apart, differ by about as much."""
ENOUGH: Final = 3
"""Rounds of each run below which there is no telling."""
LESS_IS_BETTER: Final = ("CPU", "KiB", "p50", "p99", " us", " ms")
"""What stands in the name of a figure that is better when smaller; others are rates."""

Rounds = dict[str, list[dict[str, float]]]


def compare(before: Rounds, after: Rounds) -> str:
    """The table, for each name and figure that both have."""
    lines = [
        "| what | figure | before | after | after / before | noise before, after | verdict |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for name, rounds in before.items():
        others = after.get(name, [])
        if not rounds or not others:
            continue
        for figure in rounds[0]:
            one = [each[figure] for each in rounds if figure in each]
            two = [each[figure] for each in others if figure in each]
            if one and two:
                lines.append(row(name, figure, one, two))
    return "\n".join(lines)


def row(name: str, figure: str, before: list[float], after: list[float]) -> str:
    """One line of the table."""
    middle = statistics.median(before), statistics.median(after)
    ratio = middle[1] / middle[0] if middle[0] else float("inf")
    noise = ", ".join(f"±{spread(values):.0%} of {len(values)}" for values in (before, after))
    numbers = f"{middle[0]:.4g} | {middle[1]:.4g} | {ratio:.2f}"
    return f"| {name} | {figure} | {numbers} | {noise} | {verdict(figure, before, after)} |"


def spread(values: list[float]) -> float:
    """Half of what the rounds span, as a part of their median."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / 2 / middle if middle else 0.0


def verdict(figure: str, before: list[float], after: list[float]) -> str:
    """better, worse, the same, or that there is no telling."""
    if min(len(before), len(after)) < ENOUGH:
        return "too few rounds"
    middle = statistics.median(before), statistics.median(after)
    if abs(middle[1] - middle[0]) <= LEAST * middle[0]:
        return "the same"
    if max(before) < min(after):
        more = True
    elif max(after) < min(before):
        more = False
    else:
        return "the same, within noise"
    return "better" if more != any(word in figure for word in LESS_IS_BETTER) else "worse"
