"""Prometheus' text format, version 0.0.4, without I/O.

https://prometheus.io/docs/instrumenting/exposition_formats/: a HELP and a TYPE line for each metric, then
its samples; names of counters end in ``_total``, units are base units. Labels have few values, and none of
them is an address or a name of anybody: who reads measures learns how many, never who.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

KIND: Final = b"text/plain; version=0.0.4; charset=utf-8"
"""The Content-Type."""
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric and its samples; what is not known has no sample."""

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    value: float | bool | None = None
    by: str = ""
    """The label; ``""``: there is none, and one sample."""
    values: Mapping[str, float] | None = None
    """Samples by the label's value."""

    def __post_init__(self) -> None:
        """A name that Prometheus would not take is a bug."""
        if not _NAME.fullmatch(self.name) or (self.by and not _NAME.fullmatch(self.by)):
            raise ValueError(f"{self.name} is no name of a metric")
        if (self.kind == "counter") != self.name.endswith("_total"):
            raise ValueError(f"{self.name}: counters, and they alone, end in _total")

    def serialize(self) -> str:
        """Its lines; ``""`` without a sample."""
        if self.by:
            samples = [
                f'{self.name}{{{self.by}="{_escaped(label)}"}} {_number(value)}'
                for label, value in sorted((self.values or {}).items())
            ]
        else:
            samples = [] if self.value is None else [f"{self.name} {_number(self.value)}"]
        if not samples:
            return ""
        text = self.text.replace("\\", r"\\").replace("\n", r"\n")
        return "\n".join((f"# HELP {self.name} {text}", f"# TYPE {self.name} {self.kind}", *samples, ""))


def exposition(metrics: Iterable[Metric]) -> bytes:
    """All of them as one answer."""
    return "".join(metric.serialize() for metric in metrics).encode()


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float | bool) -> str:
    if isinstance(value, int):
        return str(int(value))
    if math.isnan(value) or math.isinf(value):
        return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")
    return repr(value)
