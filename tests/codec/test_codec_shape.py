"""Shapes: read, written, bounded; sizes drawn from them."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.shape import (
    CLASSES,
    MAX_STREAMS,
    MAX_WARM,
    BodySizes,
    ClassShape,
    Shape,
    ShapeError,
    Up,
)
from ptproxy.codec.shape_parts import (
    AGE_LIMITS,
    BODY_LIMITS,
    BYTES_LIMITS,
    MAX_GATHER,
    MAX_IDLE,
    MAX_IN_FLIGHT,
    MAX_POST_BODY,
    split,
)
from ptproxy.proxy.shape_files import built_in

BROWSE: dict[str, Any] = built_in().to_mapping()


def changed(place: str, value: Any) -> dict[str, Any]:
    mapping = copy.deepcopy(BROWSE)
    *outer, last = place.split(".")
    inner = mapping
    for name in outer:
        inner = inner[name]
    inner[last] = value
    return mapping


def check_bounds(shape: Shape) -> None:
    """What a shape may cost, whoever wrote it."""
    for one in CLASSES:
        part = shape[one]
        assert isinstance(part, ClassShape)
        assert part.name == one
        assert part.warm_carriers <= MAX_WARM
        assert 1 <= part.streams <= MAX_STREAMS
        assert part.up.gather * 1000 <= MAX_GATHER
        assert 1 <= part.up.in_flight <= MAX_IN_FLIGHT
        assert max(part.up.post_body, default=0) <= MAX_POST_BODY
        assert 0 < part.down.idle * 1000 <= MAX_IDLE
        assert part.down.grow_to <= BODY_LIMITS[1]
        assert part.rotate.age[0] >= AGE_LIMITS[0]
        assert part.rotate.size[0] >= BYTES_LIMITS[0]
        assert one not in part.never
        rng = random.Random(1)
        assert all(BODY_LIMITS[0] <= part.down.body.draw(rng) <= BODY_LIMITS[1] for _ in range(20))


@pytest.mark.parametrize("start", CLASSES)
def test_built_in_shapes_are_within_the_bounds_and_small_enough_to_be_pushed(start: str) -> None:
    shape = built_in(start)
    check_bounds(shape)
    assert shape.start == shape.name == start
    assert len(json.dumps(shape.to_mapping())) < 8192
    assert Shape.parse(json.loads(json.dumps(shape.to_mapping()))) == shape


def test_the_measured_figures_are_the_ones_of_the_record() -> None:
    shape = built_in()
    assert shape.browse.down.body == BodySizes((900, 160000), 13400, 1.1)
    assert (shape.browse.streams, shape.browse.warm_carriers, shape.browse.rotate.age) == (10, 2, (6, 20))
    assert shape.chat.carriers[0] == "websocket"
    assert shape.chat.never == ("browse", "bulk")
    assert shape.chat.open.then == "resume_ticket"
    assert shape.bulk.up == shape.browse.up  # inherited
    assert shape.recorded.startswith("20")
    assert shape.source


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("browse.warm_carriers", MAX_WARM + 1, "browse.warm_carriers: 5 is not between 0 and 4"),
        ("browse.streams", 0, "browse.streams"),
        ("browse.streams", 1.5, "whole number"),
        ("browse.up.post_body", [MAX_POST_BODY + 1], "browse.up.post_body"),
        ("browse.up.post_body", [900, 300], "rising"),
        ("browse.up.post_body", [100] * 65, "0 to 64 numbers"),
        ("browse.up.gather_ms", 51, "browse.up.gather_ms"),
        ("browse.up.gather_ms", float("nan"), "expected a number"),
        ("browse.up.gather_ms", 10**400, "expected a number"),
        ("browse.up.in_flight", True, "expected a number"),
        ("browse.up.record", [40], "the least and the most"),
        ("browse.down.end_when_idle_ms", 251, "end_when_idle_ms"),
        ("browse.down.body", {"lognormal_median": 1e9, "sigma": 1}, "lognormal_median"),
        ("browse.down.body", {"lognormal_median": 1e4, "sigma": 9}, "sigma"),
        ("browse.down.body", {"lognormal_median": 1e4, "sigma": 1, "min": 9e5, "max": 1e5}, "more than max"),
        ("browse.down.body", {"quantiles": []}, "1 to 64 numbers"),
        ("browse.down.grow", 5, "grow"),
        ("browse.rotate.age_s", [1, 20], "browse.rotate.age_s"),
        ("browse.rotate.bytes", [1000, 2000], "browse.rotate.bytes"),
        ("browse.outgrown.to", "chat", "expected bulk"),
        ("bulk.outgrown", {"bytes": 5000, "within_s": 5}, "nothing larger"),
        ("chat.never", ["chat"], "none of the other classes"),
        ("chat.carrier", ["Web Socket"], "a name is a-z"),
        ("chat.open.page", "fake", "expected real or none"),
        ("browse.warmcarriers", 1, "did you mean warm_carriers?"),
        ("browse.inherit", "chat", ""),
        ("start", "none", "expected chat or browse or bulk"),
        ("source", "two\nlines", "expected a line"),
        ("browse", ["no", "mapping"], "expected keys and values"),
    ],
)
def test_figures_beyond_the_limits_are_refused_with_their_place(place: str, value: Any, says: str) -> None:
    if place == "browse.inherit":  # not an error by itself: what is given stands
        assert Shape.parse(changed(place, value)).browse == built_in().browse
        return
    with pytest.raises(ShapeError) as raised:
        Shape.parse(changed(place, value))
    assert says in str(raised.value)


def test_inheritance_goes_one_way() -> None:
    with pytest.raises(ShapeError, match="inherits itself"):
        Shape.parse({"browse": {"inherit": "bulk"}, "bulk": {"inherit": "browse"}})


def test_a_part_of_a_shape_stands_on_the_base() -> None:
    shape = Shape.parse({"shape": "mine", "browse": {"streams": 1}}, built_in())
    assert shape.name == "mine"
    assert shape.browse.streams == 1
    assert shape.browse.down == built_in().browse.down
    assert shape.chat == built_in().chat


def test_an_empty_list_takes_an_inherited_one_away() -> None:
    assert Shape.parse({"chat": {"never": []}}, built_in()).chat.never == ()
    assert Shape.parse({"chat": {"up": {"record": []}}}, built_in()).chat.up.record == ()


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
PARTS = [
    *(
        "carrier",
        "open",
        "open.page",
        "streams",
        "rotate",
        "rotate.age_s",
        "rotate.bytes",
        "outgrown",
        "never",
    ),
    *("up", "up.post_body", "up.in_flight", "up.gather_ms", "up.record", "inherit", "warm_carriers", "down"),
    *("down.body", "down.grow", "down.grow_to", "down.end_when_idle_ms", "down.record"),
]
PLACES = [f"{one}.{place}" for one in CLASSES for place in PARTS]


@given(st.sampled_from(PLACES), values)
def test_whatever_is_pushed_is_within_the_bounds_or_refused(place: str, value: Any) -> None:
    try:
        shape = Shape.parse(changed(place, value))
    except ShapeError:
        return
    check_bounds(shape)
    assert Shape.parse(shape.to_mapping()) == shape


@given(values)
def test_any_mapping_is_a_shape_or_refused(value: Any) -> None:
    try:
        check_bounds(Shape.parse(value))
    except ShapeError:
        pass


def test_lognormal_sizes_have_their_median_and_limits() -> None:
    rng = random.Random(7)
    drawn = sorted(BodySizes((900, 160000), 13400, 1.1).draw(rng) for _ in range(4001))
    assert 12000 < drawn[2000] < 15000
    assert drawn[0] >= 900
    assert drawn[-1] <= 160000


def test_quantiles_are_interpolated() -> None:
    rng = random.Random(7)
    drawn = sorted(BodySizes((1000, 2000, 10000)).draw(rng) for _ in range(4001))
    assert 1900 < drawn[2000] < 2150
    assert drawn[0] >= 1000
    assert drawn[-1] <= 10000
    assert BodySizes((500,)).draw(rng) == 500


@given(st.integers(1, 10_000))
def test_bodies_are_padded_to_the_next_size_and_larger_ones_are_not(needed: int) -> None:
    sizes = (320, 480, 700, 1000, 1400, 2200)
    length = Up(post_body=sizes).body_length(needed)
    assert length == (needed if needed > 2200 else min(size for size in sizes if size >= needed))
    assert Up().body_length(needed) == needed


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(0, 99))
def test_split_messages_are_the_same_bytes(chunks: list[bytes], seed: int) -> None:
    pieces = split(chunks, (40, 130), random.Random(seed))
    size = sum(map(len, chunks))
    if size <= 130 or size > 130 * 16:
        assert pieces is None
        return
    assert pieces is not None
    assert b"".join(pieces) == b"".join(chunks)
    assert all(40 <= len(piece) < 130 + 40 for piece in pieces)
