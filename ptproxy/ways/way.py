"""One way to a bridge and what came of it on one network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from ptproxy.ways.cuts import Cuts
from ptproxy.ways.degrees import Degree

PAUSE_FIRST: Final = 30.0
PAUSE_LAST: Final = 6 * 3600.0
"""Seconds for which a way that failed comes after all others: doubled from the first to the last. Nothing
happens at the end of a pause: the way only has its place again when somebody needs a carrier."""
FORGET: Final = 30 * 86_400.0
"""Seconds after which a record says nothing any more: networks and censors change."""
FADE: Final = 86_400.0
"""Seconds after which the failures in a row count half: a block of last week was perhaps lifted."""
SMOOTHING: Final = 0.3
"""Share of the newest measurement in what is remembered of them."""
MOST_FAILURES: Final = 20


@dataclass(frozen=True, slots=True)
class Way:
    """A bridge's front, and a codec to speak there."""

    bridge: bytes
    """The bridge's public key: ways of one bridge have the same."""
    host: str
    port: int
    codec: str = ""
    """``""``: the front whatever the codec."""

    @property
    def front(self) -> Way:
        """The address alone."""
        return Way(self.bridge, self.host, self.port)


@dataclass(slots=True)
class Record:
    """What came of one way on one network; times are unix seconds."""

    opened_at: float | None = None
    """When it last led to a carrier."""
    took: float | None = None
    """Seconds until TLS stood there, smoothed."""
    failed_at: float | None = None
    degree: Degree = Degree.OPEN
    """What it met with last."""
    failures: int = 0
    """In a row."""
    cuts: Cuts = field(default_factory=Cuts)

    @property
    def used_at(self) -> float:
        """When it was last of use to know."""
        return max(self.opened_at or 0.0, self.failed_at or 0.0)

    def opened(self, took: float, now: float) -> None:
        """It led to a carrier; TLS stood after ``took`` seconds."""
        self.opened_at = now
        self.took = took if self.took is None else self.took + SMOOTHING * (took - self.took)
        if not self.degree.is_of_life:  # what is cut later opens as well as ever
            self.failures = 0
            self.degree = Degree.OPEN

    def failed(self, degree: Degree, now: float) -> None:
        """It did not, or is of no use."""
        if self.failed_at is not None and now - self.failed_at > FADE:
            self.failures //= 2
        self.failed_at = now
        self.degree = degree
        if degree is Degree.LATE:  # slower than another way, which is no reason for longer and longer pauses
            self.failures = max(self.failures, 1)
        else:
            self.failures = min(self.failures + 1, MOST_FAILURES)

    def cut(self, size: int, seconds: float, now: float) -> Degree | None:
        """A carrier was cut; the rule behind it if that shows. One without a rule acquits the way."""
        degree = self.cuts.add(size, seconds)
        if degree is not None:
            self.failed(degree, now)
        elif self.degree.is_of_life:
            self.failures = 0
            self.degree = Degree.OPEN
        return degree

    def follow(self, later: Record) -> None:
        """What came of the same way since."""
        if later.opened_at is not None:
            self.opened(later.took or 0.0, later.opened_at)
        if later.failures and later.failed_at is not None:
            self.failed(later.degree, later.failed_at)

    def rests_until(self, now: float) -> float:
        """Until when it comes after all others; 0.0 where it does not."""
        if not self.failures or self.failed_at is None:
            return 0.0
        pause = min(PAUSE_FIRST * 2.0 ** (self.failures - 1), PAUSE_LAST)
        until = min(self.failed_at, now) + pause  # a clock that was put back must not make it long
        return until if until > now else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; which way it is of is not in it."""
        return {
            "opened_at": self.opened_at, "took": self.took, "failed_at": self.failed_at,
            "degree": str(self.degree), "failures": self.failures, "cuts": self.cuts.to_list(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Any) -> Record:
        """What :meth:`to_dict` gave; ``ValueError``, ``TypeError`` or ``KeyError`` for anything else."""
        return cls(
            _seconds(data["opened_at"]), _seconds(data["took"]), _seconds(data["failed_at"]),
            Degree(data["degree"]), min(max(int(data["failures"]), 0), MOST_FAILURES),
            Cuts.from_list(data["cuts"]),
        )  # fmt: skip


def _seconds(value: Any) -> float | None:
    """A time or duration that is one."""
    if value is None:
        return None
    seconds = float(value)
    if not 0.0 <= seconds < 1e12:
        raise ValueError("no time")
    return seconds
