"""A shape's figures drawn from recorded cover: from sizes, directions and times of TLS records.

A flow is one connection: its application data records in order. What can be
drawn is drawn; what no record shows (carriers, warm ones, streams) stays as it is:

- ``down.body`` (browse, bulk): what came down between two requests, as quantiles.
  A request is a record up above :data:`REQUEST`; below are WINDOW_UPDATEs.
- ``up.record``, ``down.record`` (chat): the middle half of the messages' sizes.
- ``rotate``: the middle half of how long flows last and how much they move, both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite
from typing import Any, Final

from ptproxy.codec.shape import CLASSES, ShapeError
from ptproxy.codec.shape_parts import AGE_LIMITS, BODY_LIMITS, BYTES_LIMITS, RECORD_LIMITS

OVERHEAD: Final = 17
"""Bytes of a TLS 1.3 record beyond its content: type and tag."""
MAX_SIZE: Final = 1 << 24
"""Bytes of a record that is given; a recorder may have joined several."""
REQUEST: Final = 45
"""Bytes of a record up above which it is a request; cover's WINDOW_UPDATEs and the like have 26 to 31."""
PAUSE: Final = 0.05
"""Seconds of silence that end an answer."""
MASK: Final = (6, 2)
"""Bytes of a WebSocket frame's head up and down, for messages below 126 bytes."""
QUANTILES: Final = 21
"""Figures of a distribution: every twentieth."""
FEWEST: Final = 20
"""Flows below which a drawing says more of chance than of cover."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of application data."""

    size: int
    """Bytes as its header says."""
    up: bool
    """From the client."""
    time: float
    """Seconds, from any beginning."""

    @classmethod
    def parse(cls, data: object) -> Record:
        """From ``{"size": bytes, "direction": "up" or "down", "time": seconds}``; :class:`ShapeError`."""
        if not isinstance(data, Mapping):
            raise ShapeError("record: expected size, direction and time")
        size, time, way = data.get("size"), data.get("time"), data.get("direction")
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (size, time))
        if not numbers or not isfinite(float(time)) or not 0 <= size <= MAX_SIZE:  # type: ignore[arg-type, operator]
            raise ShapeError("record: size is bytes, time is seconds")
        if way not in ("up", "down"):
            raise ShapeError("record: direction is up or down")
        return cls(int(size), way == "up", float(time))  # type: ignore[arg-type]


Flow = Sequence[Record]


def draw(flows: Sequence[Flow], traffic: str) -> dict[str, Any]:
    """The figures of a class as a mapping for :meth:`~ptproxy.codec.shape.Shape.parse`.

    Raises :class:`ShapeError` where there is too little to draw from.
    """
    if traffic not in CLASSES:
        raise ShapeError(f"there is no class {traffic!r}, only {', '.join(CLASSES)}")
    flows = [flow for flow in flows if any(not record.up for record in flow)]
    if len(flows) < FEWEST:
        raise ShapeError(f"{len(flows)} flows with data are too few to draw from: at least {FEWEST}")
    lasting = [flow[-1].time - flow[0].time for flow in flows]
    moved = [sum(record.size for record in flow) for flow in flows]
    drawn: dict[str, Any] = {
        "rotate": {"age_s": _middle(lasting, *AGE_LIMITS), "bytes": _middle(moved, *BYTES_LIMITS)}
    }
    if traffic == "chat":
        for way, head in zip(("up", "down"), MASK, strict=True):
            sizes = [
                record.size - OVERHEAD - head
                for flow in flows
                for record in flow
                if record.up == (way == "up")
            ]
            drawn[way] = {"record": _middle(sizes or [RECORD_LIMITS[0]], *RECORD_LIMITS)}
    else:
        drawn["down"] = {"body": {"quantiles": _quantiles([one for flow in flows for one in answers(flow)])}}
    return drawn


def answers(flow: Flow) -> Iterable[int]:
    """Bytes down between requests and pauses, smallest first left out that are no body."""
    size, last = 0, 0.0
    for record in flow:
        if (record.up and record.size > REQUEST) or (size and record.time - last > PAUSE):
            if size >= BODY_LIMITS[0]:
                yield size
            size = 0
        if not record.up:
            size += max(record.size - OVERHEAD, 0)
            last = record.time
    if size >= BODY_LIMITS[0]:
        yield size


def _at(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` of an ordered list lies, interpolated."""
    place = share * (len(ordered) - 1)
    below = floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _middle(values: Iterable[float], least: float, most: float) -> list[int]:
    """First and third quartile, within limits."""
    ordered = sorted(values)
    return [round(min(max(_at(ordered, share), least), most)) for share in (0.25, 0.75)]


def _quantiles(sizes: Iterable[int]) -> list[int]:
    ordered = sorted(sizes)
    if not ordered:
        raise ShapeError("no answer of these flows is a body")
    found = (_at(ordered, number / (QUANTILES - 1)) for number in range(QUANTILES))
    return [round(min(max(one, BODY_LIMITS[0]), BODY_LIMITS[1])) for one in found]
