"""The parts of a class's shape: opening, bodies up and down, rotation, and when a stream outgrows it.

Each is read from a :class:`~ptproxy.codec.shape_reading.Place` on top of what it was before, and
written back as a mapping. Every figure has its limit here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from random import Random
from typing import Any, Final

from ptproxy.buffer import Buffer
from ptproxy.codec.shape_reading import Place
from ptproxy.codec.shape_talk import Talk

CLASSES: Final = ("chat", "browse", "bulk")
"""From the least traffic to the most; the numbers 1 to 3 on the wire are these (0: no shape)."""

MAX_IN_FLIGHT: Final = 4
"""POSTs, and GETs, unanswered at once: together they leave connections of a browser's six free."""
MAX_SIZES: Final = 64
"""Figures in a list: a shape stays small enough to be pushed."""
MAX_POST_BODY: Final = 4096
"""Bytes to which a POST's body may be padded: what one byte up can cost at most."""
MAX_GATHER: Final = 50.0
"""Milliseconds that payload up waits for more."""
BODY_LIMITS: Final = (256, 4 << 20)
"""Payload bytes of a download's body: less would be a storm of requests, more is memory held back."""
MAX_IDLE: Final = 250.0
"""Milliseconds that payload down waits for more."""
MAX_GROWTH: Final = 4.0
"""Factor by which bodies grow while they come full."""
RECORD_LIMITS: Final = (8, 16_384)
"""Payload bytes of a WebSocket message; smaller ones would cost more than they carry."""
AGE_LIMITS: Final = (5.0, 86_400.0)
"""Seconds from a carrier's first stream until it takes no more: each new one loads a page."""
BYTES_LIMITS: Final = (2_000, 1 << 40)
"""Bytes after which it takes no more."""
OUTGROWN_LIMITS: Final = (1_000, 1 << 40)
"""Bytes after which a stream is of another class."""
WITHIN_LIMITS: Final = (1.0, 3_600.0)
"""Seconds within which they are counted."""
SPLIT_UP_TO: Final = 16
"""Messages into which payload is split at most: more is no chat, and goes as it is."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a carrier does before it carries anything."""

    page: str = "none"
    """``real``: load the site's page first; ``none``."""
    assets: str = "none"
    """``all`` of the page's, or ``none``."""
    then: str = "same_connection"
    """Carry on the ``same_connection``, or open another one that resumes its ticket: ``resume_ticket``."""

    @classmethod
    def parse(cls, place: Place, before: Opening) -> Opening:
        """From a mapping, on top of ``before``."""
        return cls(
            place.choice("page", ("real", "none"), before.page),
            place.choice("assets", ("all", "none"), before.assets),
            place.choice("then", ("same_connection", "resume_ticket"), before.then),
        )

    def to_mapping(self) -> dict[str, Any]:
        """As it is written."""
        return {"page": self.page, "assets": self.assets, "then": self.then}


@dataclass(frozen=True, slots=True)
class BodySizes:
    """A distribution of sizes in bytes."""

    quantiles: tuple[int, ...] = (16_384,)
    """Equally spaced, rising; one alone is a constant."""
    median: float = 0.0
    """Of a lognormal distribution cut at the first and last quantile; 0: the quantiles are meant."""
    sigma: float = 0.0

    def draw(self, rng: Random) -> int:
        """A size."""
        least, most = self.quantiles[0], self.quantiles[-1]
        if self.median:
            return int(min(max(self.median * exp(rng.gauss(0.0, self.sigma)), least), most))
        if least == most:
            return least
        at = rng.random() * (len(self.quantiles) - 1)
        below = self.quantiles[int(at)]
        return int(below + (at - int(at)) * (self.quantiles[int(at) + 1] - below))

    @classmethod
    def parse(cls, place: Place, before: BodySizes) -> BodySizes:
        """From a mapping."""
        if place.has("quantiles"):
            return cls(place.sizes("quantiles", *BODY_LIMITS, least=1, most=MAX_SIZES))
        if not place.has("lognormal_median"):
            return before
        median = place.number("lognormal_median", *BODY_LIMITS)
        sigma = place.number("sigma", 0.0, 3.0)
        least = place.whole("min", *BODY_LIMITS, BODY_LIMITS[0])
        most = place.whole("max", *BODY_LIMITS, BODY_LIMITS[1])
        if least > most:
            raise place.wrong("min", f"{least} is more than max, {most}")
        return cls((least, most), median, sigma)

    def to_mapping(self) -> dict[str, Any]:
        """As it is written."""
        if not self.median:
            return {"quantiles": list(self.quantiles)}
        least, most = self.quantiles
        return {"lognormal_median": self.median, "sigma": self.sigma, "min": least, "max": most}


@dataclass(frozen=True, slots=True)
class Up:
    """From client to bridge."""

    post_body: tuple[int, ...] = ()
    """Body sizes to the next of which POSTs are padded; larger ones are sent as they are."""
    in_flight: int = MAX_IN_FLIGHT
    """POSTs unanswered at once."""
    gather: float = 0.0
    """Seconds that payload waits for more before its POST is made; a little payload waits longer."""
    record: tuple[int, ...] = ()
    """Least and most payload bytes of a WebSocket message; empty: as it comes."""
    talk: Talk | None = None
    """How a WebSocket goes that a ticket opened; None: as it comes."""

    @classmethod
    def parse(cls, place: Place, before: Up) -> Up:
        """From a mapping, on top of ``before``."""
        place.choice("larger", ("as_is",), "as_is")
        return cls(
            place.sizes("post_body", 8, MAX_POST_BODY, before.post_body, least=0, most=MAX_SIZES),
            place.whole("in_flight", 1, MAX_IN_FLIGHT, before.in_flight),
            place.number("gather_ms", 0.0, MAX_GATHER, before.gather * 1000) / 1000,
            _record(place, before.record),
            _talk(place, before.talk),
        )

    def to_mapping(self) -> dict[str, Any]:
        """As it is written."""
        sizes, record = list(self.post_body), list(self.record)
        return {
            "post_body": sizes, "in_flight": self.in_flight, "gather_ms": self.gather * 1000,
            "record": record, **_said(self.talk),
        }  # fmt: skip

    def body_length(self, needed: int) -> int:
        """Bytes of the body of a POST that needs ``needed``."""
        at = bisect_left(self.post_body, needed)
        return self.post_body[at] if at < len(self.post_body) else needed


@dataclass(frozen=True, slots=True)
class Down:
    """From bridge to client."""

    gets_in_flight: int = 2
    body: BodySizes = BodySizes()
    """Payload bytes of an answer."""
    idle: float = 0.01
    """Seconds without more payload after which an answer goes out with what there is."""
    grow: float = 1.0
    """Factor by which answers grow, each time that one was full ..."""
    grow_to: int = BODY_LIMITS[1]
    """ ... up to this many bytes."""
    record: tuple[int, ...] = ()
    """Least and most payload bytes of a WebSocket message; empty: as it comes."""
    talk: Talk | None = None
    """How a WebSocket goes that a ticket opened; None: as it comes."""

    @classmethod
    def parse(cls, place: Place, before: Down) -> Down:
        """From a mapping, on top of ``before``."""
        body = BodySizes.parse(inner, before.body) if (inner := place.section("body")) else before.body
        if inner is not None:
            inner.done()
        return cls(
            place.whole("gets_in_flight", 1, MAX_IN_FLIGHT, before.gets_in_flight),
            body,
            place.number("end_when_idle_ms", 1.0, MAX_IDLE, before.idle * 1000) / 1000,
            place.number("grow", 1.0, MAX_GROWTH, before.grow),
            place.whole("grow_to", *BODY_LIMITS, before.grow_to),
            _record(place, before.record),
            _talk(place, before.talk),
        )

    def to_mapping(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "gets_in_flight": self.gets_in_flight,
            "body": self.body.to_mapping(),
            "end_when_idle_ms": self.idle * 1000,
            "grow": self.grow,
            "grow_to": self.grow_to,
            "record": list(self.record),
            **_said(self.talk),
        }


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a carrier takes no more streams; each carrier draws its own figures."""

    age: tuple[float, ...] = (600.0, 1200.0)
    """Seconds since its first stream: least and most."""
    size: tuple[int, ...] = (1 << 30, 1 << 31)
    """Bytes both ways: least and most."""

    @classmethod
    def parse(cls, place: Place, before: Rotation) -> Rotation:
        """From a mapping, on top of ``before``."""
        return cls(
            place.numbers("age_s", *AGE_LIMITS, before.age, least=2, most=2),
            place.sizes("bytes", *BYTES_LIMITS, before.size, least=2, most=2),
        )

    def to_mapping(self) -> dict[str, Any]:
        """As it is written."""
        return {"age_s": list(self.age), "bytes": list(self.size)}


@dataclass(frozen=True, slots=True)
class Outgrown:
    """When a stream belongs to another class."""

    size: int
    """Bytes both ways ..."""
    within: float
    """ ... within this many seconds."""
    to: str
    """The class then."""

    @classmethod
    def parse(cls, place: Place, of: str) -> Outgrown:
        """From a mapping; ``to`` must be a class of more traffic than ``of``."""
        larger = CLASSES[CLASSES.index(of) + 1 :]
        if not larger:
            raise place.wrong("to", f"there is nothing larger than {of}")
        return cls(
            place.whole("bytes", *OUTGROWN_LIMITS),
            place.number("within_s", *WITHIN_LIMITS),
            place.choice("to", larger, larger[0]),
        )

    def to_mapping(self) -> dict[str, Any]:
        """As it is written."""
        return {"bytes": self.size, "within_s": self.within, "to": self.to}


def split(chunks: Sequence[Buffer], record: tuple[int, ...], rng: Random) -> list[bytes] | None:
    """Payload in messages of sizes drawn between ``record``'s two; None where it is too much for that."""
    least, most = record
    size = sum(map(len, chunks))
    if size <= most or size > most * SPLIT_UP_TO:
        return None
    whole = memoryview(b"".join(chunks))
    pieces: list[bytes] = []
    at = 0
    while at < size:
        end = min(at + rng.randint(least, most), size)
        if size - end < least:
            end = size
        pieces.append(bytes(whole[at:end]))
        at = end
    return pieces


def _record(place: Place, before: tuple[int, ...]) -> tuple[int, ...]:
    if not place.has("record"):
        return before
    sizes = place.sizes("record", *RECORD_LIMITS, least=0, most=2)
    if len(sizes) == 1:
        raise place.wrong("record", "expected the least and the most, as in [40, 130], or nothing: []")
    return sizes


def _talk(place: Place, before: Talk | None) -> Talk | None:
    if not place.has("talk"):
        return before
    part = place.section("talk")
    if part is None:
        return None
    talk = Talk.parse(part)
    part.done()
    return talk


def _said(talk: Talk | None) -> dict[str, Any]:
    return {"talk": {} if talk is None else talk.to_mapping()}
