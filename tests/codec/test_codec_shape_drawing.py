"""Figures drawn from recorded cover."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.codec.shape import CLASSES, Shape, ShapeError
from ptproxy.codec.shape_drawing import FEWEST, OVERHEAD, Record, answers, draw
from ptproxy.proxy.shape_files import built_in

PROGRAM = Path(__file__).parent.parent.parent / "scripts" / "draw_shape.py"


def page(seed: int) -> list[Record]:
    """A flow: requests of 60 bytes, answers of records, WINDOW_UPDATEs between."""
    rng = random.Random(seed)
    flow, time = [Record(87, True, 0.0), Record(479, True, 0.001)], 0.04
    for _ in range(rng.randint(4, 12)):
        left = int(min(max(rng.lognormvariate(9.5, 1.0), 900), 160_000))
        while left > 0:
            flow.append(Record(min(left, 16_384) + OVERHEAD, False, time))
            left -= 16_384
            flow.append(Record(31, True, time))
        time += 0.02
        flow.append(Record(60, True, time))
        time += 0.04
    return flow


def chat(seed: int) -> list[Record]:
    rng = random.Random(seed)
    flow = []
    for turn in range(30):
        flow.append(Record(rng.randint(40, 130) + OVERHEAD + 6, True, turn * 1.0))
        flow.append(Record(rng.randint(24, 80) + OVERHEAD + 2, False, turn * 1.0 + 0.1))
    return flow


def test_bodies_are_what_comes_between_requests() -> None:
    flow = [
        Record(479, True, 0.0), Record(5017, False, 0.04), Record(31, True, 0.041),
        Record(1017, False, 0.042),
        Record(60, True, 0.05), Record(2017, False, 0.09), Record(3017, False, 0.2), Record(60, True, 0.3),
        Record(40, False, 0.31),
    ]  # fmt: skip
    assert list(answers(flow)) == [6000, 2000, 3000]


def test_a_browse_shape_is_drawn() -> None:
    drawn = draw([page(seed) for seed in range(60)], "browse")
    shape = Shape.parse({"browse": drawn}, built_in())
    middle = shape.browse.down.body.quantiles[10]
    assert 11_000 < middle < 17_000, "the median of what the flows were made of is 13,360"
    assert len(shape.browse.down.body.quantiles) == 21
    assert shape.browse.rotate.age[0] == 5.0, "flows shorter than the limit draw the limit"
    assert 30_000 < shape.browse.rotate.size[0] < shape.browse.rotate.size[1] < 700_000


def test_a_chat_shape_is_drawn() -> None:
    shape = Shape.parse({"chat": draw([chat(seed) for seed in range(30)], "chat")}, built_in())
    assert 60 <= shape.chat.up.record[0] < shape.chat.up.record[1] <= 110
    assert 35 <= shape.chat.down.record[0] < shape.chat.down.record[1] <= 68
    assert shape.chat.rotate.age == (29.0, 29.0)


def test_too_little_is_no_cover() -> None:
    with pytest.raises(ShapeError, match="too few"):
        draw([page(1)] * (FEWEST - 1), "browse")
    with pytest.raises(ShapeError, match="no class"):
        draw([page(1)] * FEWEST, "video")
    with pytest.raises(ShapeError, match="no answer"):
        draw([[Record(60, True, 0.0), Record(40, False, 0.1)]] * FEWEST, "bulk")


@pytest.mark.parametrize(
    "data",
    [7, {}, {"size": "5"}, {"size": -1, "direction": "up", "time": 0},
     {"size": 1, "direction": "left", "time": 0},
     {"size": 1, "direction": "up", "time": float("nan")}, {"size": True, "direction": "up", "time": 0}],
)  # fmt: skip
def test_what_is_no_record_is_refused(data: Any) -> None:
    with pytest.raises(ShapeError, match="record"):
        Record.parse(data)


records = st.builds(Record, st.integers(0, 1 << 24), st.booleans(), st.floats(0, 1e6))


@given(
    st.lists(st.lists(records, min_size=1, max_size=12), min_size=FEWEST, max_size=26),
    st.sampled_from(CLASSES),
)
def test_whatever_is_drawn_is_a_shape(flows: list[list[Record]], traffic: str) -> None:
    flows = [sorted(flow, key=lambda record: record.time) for flow in flows]
    try:
        drawn = draw(flows, traffic)
    except ShapeError:
        return
    Shape.parse({traffic: drawn}, built_in())


def test_the_program_writes_a_shape(tmp_path: Path) -> None:
    flows = [
        [{"size": one.size, "direction": "up" if one.up else "down", "time": one.time} for one in page(seed)]
        for seed in range(30)
    ]
    (tmp_path / "flows.json").write_text(json.dumps(flows))
    command = [sys.executable, str(PROGRAM), str(tmp_path / "flows.json"), "--class", "browse"]
    command += ["--name", "mine", "--source", "thirty flows that a test made up"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shape = Shape.parse(yaml.load(done.stdout, yaml.BaseLoader), built_in())
    assert (shape.name, shape.source) == ("mine", "thirty flows that a test made up")
    (tmp_path / "flows.json").write_text("[[7]]")
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "nothing drawn: record" in failed.stderr
