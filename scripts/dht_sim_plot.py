"""Curves as an SVG, with nothing but text: what ``dht_sim plots`` draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 48, 56, 56
COLOURS = ("#0b62c4", "#c4410b", "#2a8a3e", "#7a3fb0", "#8a6d00", "#555555")
DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 4", "1 4")
"""Besides the colours: a curve is told from the others without them too."""
TICKS = 6


@dataclass(slots=True)
class Chart:
    """One picture. ``across`` and ``up`` are what the axes say; ``powers``: x is drawn by its logarithm."""

    title: str
    across: str
    up: str
    powers: bool = False
    lowest: float = 0.0
    highest: float | None = None
    curves: list[tuple[str, list[tuple[float, float]]]] = field(default_factory=list)

    def curve(self, name: str, points: Sequence[tuple[float, float]]) -> None:
        """One more, its points by rising x."""
        self.curves.append((name, list(points)))

    def svg(self) -> str:
        """The picture."""
        points = [point for _, curve in self.curves for point in curve]
        if not points:
            return _document([])
        xs = sorted({x for x, _ in points})
        top = self.highest if self.highest is not None else _round_up(max(y for _, y in points))
        parts = [_text(WIDTH / 2, 24, self.title, "middle", 15), *self._frame(xs, top)]
        for number, (name, curve) in enumerate(self.curves):
            parts += self._drawn(number, name, curve, xs, top)
        return _document(parts)

    def _x(self, x: float, xs: list[float]) -> float:
        low, high = self._scaled(xs[0]), self._scaled(xs[-1])
        return LEFT + (self._scaled(x) - low) / ((high - low) or 1.0) * (WIDTH - LEFT - RIGHT)

    def _y(self, y: float, top: float) -> float:
        share = (y - self.lowest) / ((top - self.lowest) or 1.0)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def _scaled(self, x: float) -> float:
        return math.log10(x) if self.powers else x

    def _frame(self, xs: list[float], top: float) -> list[str]:
        floor = HEIGHT - BOTTOM
        parts = [
            _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, self.across, "middle"),
            _text(12, TOP - 14, self.up, "start"),
        ]
        for number in range(TICKS):
            value = self.lowest + (top - self.lowest) * number / (TICKS - 1)
            y = self._y(value, top)
            parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
            parts.append(_text(LEFT - 8, y + 4, f"{value:.3g}", "end"))
        for value in xs if len(xs) <= 2 * TICKS else xs[:: len(xs) // TICKS]:
            x = self._x(value, xs)
            parts.append(f'<path d="M{x:.1f} {floor}v5" stroke="#000"/>')
            parts.append(_text(x, floor + 20, f"{value:,.9g}", "middle"))
        parts.append(f'<path d="M{LEFT} {TOP}V{floor}H{WIDTH - RIGHT}" fill="none" stroke="#000"/>')
        return parts

    def _drawn(
        self, number: int, name: str, curve: list[tuple[float, float]], xs: list[float], top: float
    ) -> list[str]:
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
        placed = [(self._x(x, xs), self._y(y, top)) for x, y in curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        stroke = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
        beside = LEFT + 12
        key = HEIGHT - BOTTOM - 14 - 18 * (len(self.curves) - 1 - number)
        return [
            f'<polyline points="{line}" {stroke}/>',
            *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed),
            f'<path d="M{beside} {key}h28" {stroke}/>',
            _text(beside + 36, key + 4, name, "start"),
        ]


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, ... that a value fits under."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _text(x: float, y: float, words: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def _document(parts: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', *parts, "</svg>", ""])
