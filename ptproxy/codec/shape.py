"""A shape: which sizes, pauses and volumes a carrier's traffic takes, as data, by class of traffic.

The classes are ``chat`` (little, interactive), ``browse`` (pages) and ``bulk``
(downloads). A shape is drawn from recorded cover and may be pushed by a bridge,
so every figure has a limit here: a hostile or broken one can cost a bounded
amount of memory, delay and traffic, never more. As a mapping (YAML in
``shapes/``, JSON where it is pushed)::

    shape: browse           its name            source: ...  recorded: 2026-11-22
    start: browse           the class of a stream that gives no sign of its own
    browse:
      carrier: [http]                            codecs, the best first
      open: {page: real, assets: all, then: same_connection}
      warm_carriers: 2                           opened ahead, with their page
      up: {post_body: [320, 480], larger: as_is, in_flight: 4, gather_ms: 2, record: [40, 130], talk: ...}
      down: {gets_in_flight: 2, body: ..., end_when_idle_ms: 4, grow: 2, grow_to: 4194304, record: [24, 80]}
      streams: 6                                 of one carrier
      rotate: {age_s: [6, 20], bytes: [200000, 600000]}    then it takes no new ones
      outgrown: {bytes: 2097152, within_s: 10, to: bulk}   then a stream belongs to another class
      never: [page, bulk]                        what its carriers do not take, "page" being browse
    bulk:
      inherit: browse                            then what differs

``talk`` is in ``shape_talk.py``. ``body`` is
``{lognormal_median: 13400, sigma: 1.1, min: 900, max: 160000}`` or
``{quantiles: [900, ..., 160000]}``, equally spaced from the least to the most.
Classes that a mapping lacks are those of the shape it is read on top of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ptproxy.codec.shape_parts import CLASSES, BodySizes, Down, Opening, Outgrown, Rotation, Up
from ptproxy.codec.shape_reading import Place, ShapeError

__all__ = [
    "CLASSES",
    "BodySizes",
    "ClassShape",
    "Down",
    "Opening",
    "Outgrown",
    "Rotation",
    "Shape",
    "ShapeError",
    "Up",
]

MAX_WARM: Final = 4
"""Carriers of a class opened ahead: each loads a page."""
MAX_STREAMS: Final = 64
"""Streams of one carrier."""
MAX_NAME: Final = 64
MAX_SOURCE: Final = 500
"""Characters."""


@dataclass(frozen=True, slots=True)
class ClassShape:
    """The shape of one class of traffic."""

    name: str
    carriers: tuple[str, ...]
    """Codecs, the best first."""
    open: Opening = field(default_factory=Opening)
    warm_carriers: int = 0
    up: Up = field(default_factory=Up)
    down: Down = field(default_factory=Down)
    streams: int = 6
    rotate: Rotation = field(default_factory=Rotation)
    outgrown: Outgrown | None = None
    never: tuple[str, ...] = ()
    """Classes whose streams its carriers do not take."""

    @classmethod
    def parse(cls, name: str, place: Place, before: ClassShape) -> ClassShape:
        """From a mapping, on top of ``before``; :class:`ShapeError` where it is none."""
        outgrown = before.outgrown if before.name == name else None
        never = before.never if before.name == name else ()
        if place.has("outgrown"):
            part = place.section("outgrown")
            outgrown = Outgrown.parse(part, name) if part else None
            if part:
                part.done()
        if place.has("never"):
            words = place.names("never", most=len(CLASSES))
            never = tuple("browse" if word == "page" else word for word in words)
            wrong = [word for word in never if word not in CLASSES or word == name]
            if wrong:
                raise place.wrong("never", f"{wrong[0]} is none of the other classes {', '.join(CLASSES)}")
        made = cls(
            name,
            place.names("carrier", before.carriers, most=8),
            _part(place, "open", Opening, before.open),
            place.whole("warm_carriers", 0, MAX_WARM, before.warm_carriers),
            _part(place, "up", Up, before.up),
            _part(place, "down", Down, before.down),
            place.whole("streams", 1, MAX_STREAMS, before.streams),
            _part(place, "rotate", Rotation, before.rotate),
            outgrown,
            never,
        )
        place.done()
        return made

    def to_mapping(self) -> dict[str, Any]:
        """As it is written, without anything inherited."""
        return {
            "carrier": list(self.carriers),
            "open": self.open.to_mapping(),
            "warm_carriers": self.warm_carriers,
            "up": self.up.to_mapping(),
            "down": self.down.to_mapping(),
            "streams": self.streams,
            "rotate": self.rotate.to_mapping(),
            "outgrown": self.outgrown.to_mapping() if self.outgrown is not None else {},
            "never": list(self.never),
        }


@dataclass(frozen=True, slots=True)
class Shape:
    """The shapes of all classes."""

    name: str
    source: str
    """What the figures were drawn from."""
    recorded: str
    """Day, ISO 8601."""
    start: str
    """The class of a stream that gives no sign of its own."""
    chat: ClassShape
    browse: ClassShape
    bulk: ClassShape

    @classmethod
    def parse(cls, mapping: Mapping[str, Any], base: Shape | None = None) -> Shape:
        """From a decoded mapping, on top of ``base``; :class:`ShapeError` where it is none."""
        place = Place(mapping)
        name = place.text("shape", MAX_NAME, base.name if base else "")
        source = place.text("source", MAX_SOURCE, base.source if base else "")
        recorded = place.text("recorded", 10, base.recorded if base else "")
        start = place.choice("start", CLASSES, base.start if base else "browse")
        classes = {one: (base or PLAIN)[one] for one in CLASSES}
        given = {one: place.section(one) for one in CLASSES if place.has(one)}
        place.done()
        bare = [one for one, part in given.items() if part is not None and not part.has("inherit")]
        for one in sorted(given, key=lambda one: one not in bare):  # who inherits comes after whom it is from
            part = given[one]
            if part is not None:
                before = classes[one]
                if one not in bare:
                    parent = part.choice("inherit", tuple(other for other in CLASSES if other != one))
                    if parent in given and parent not in bare:
                        raise part.wrong("inherit", f"{parent} inherits itself")
                    before = classes[parent]
                classes[one] = ClassShape.parse(one, part, before)
        return cls(name, source, recorded, start, **classes)

    def to_mapping(self) -> dict[str, Any]:
        """Everything, as numbers, texts, lists and mappings."""
        words = {"shape": self.name, "source": self.source, "recorded": self.recorded, "start": self.start}
        return {**words, **{one: self[one].to_mapping() for one in CLASSES}}

    def __getitem__(self, traffic: str) -> ClassShape:
        """The shape of one class."""
        return {"chat": self.chat, "browse": self.browse, "bulk": self.bulk}[traffic]


PLAIN: Final = Shape(
    "plain",
    "",
    "",
    "browse",
    ClassShape("chat", ("websocket", "http")),
    ClassShape("browse", ("http", "websocket")),
    ClassShape("bulk", ("http", "websocket")),
)
"""What the classes are before anything was said of them."""


def _part(place: Place, name: str, kind: Any, before: Any) -> Any:
    """A section of a class: of ``kind``, on top of ``before``."""
    part = place.section(name)
    if part is None:
        return before
    made = kind.parse(part, before)
    part.done()
    return made
