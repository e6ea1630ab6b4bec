"""A browser's data says how it loads pages, and says it whole."""

from __future__ import annotations

import copy
import runpy

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from test_codec_h2_golden import BROWSERS, CODEC

from ptproxy.codec.browser import Browser
from ptproxy.codec.page.habits import DELAYS, ROLES, LoadingHabits
from ptproxy.codec.page.plan import role_of
from ptproxy.codec.page.scan import Hint
from ptproxy.errors import LocalProtocolError

DATA = {
    name: yaml.safe_load((CODEC / "browsers" / f"{file}.yaml").read_text("utf-8"))
    for name, file in BROWSERS.items()
}


@pytest.mark.parametrize("name", sorted(DATA))
def test_the_data_of_every_browser_is_whole(name):
    habits = LoadingHabits.parse(DATA[name]["loading"])
    assert set(habits.roles) == ROLES
    assert set(habits.delays) == DELAYS


WHATS = ("style", "script", "module", "image", "background", "font", "frame", "icon", "poster", "prefetch")


@given(st.sampled_from(WHATS), st.lists(st.booleans(), min_size=6, max_size=6))
def test_whatever_a_page_names_has_a_role(what, marks):
    names = ("in_head", "preload", "deferred", "lazy", "urgent", "small")
    assert role_of(Hint("/", what, **dict(zip(names, marks, strict=True)))) in ROLES


@pytest.mark.parametrize("name", sorted(DATA))
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("roles", "style"), None),
        (("roles", "style"), [1]),
        (("roles", "style"), [0, 0, "some day"]),
        (("roles", "style"), [9, 0, "scan"]),
        (("roles", "style"), [-1, 0, "scan"]),
        (("roles", "nothing"), [0, 0, "scan"]),
        (("delays", "scan"), None),
        (("delays", "scan"), [0.2, 0.1]),
        (("delays", "scan"), [-0.2, 0.1]),
        (("delays", "scan"), ["a", "b"]),
        (("delays", "nothing"), [0.1, 0.2]),
        (("tight_limit",), "two"),
        (("delays",), []),
        (("roles",), 5),
    ],
)
def test_what_is_wrong_is_said(name, path, value):
    data = copy.deepcopy(DATA[name])
    place = data["loading"]
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(LocalProtocolError, match="browser data"):
        Browser.parse(data)


@pytest.mark.parametrize("key", ["roles", "delays", "in_sight", "ask_pauses"])
def test_what_is_missing_is_said(key):
    data = copy.deepcopy(DATA["chromium"])
    del data["loading"][key]
    with pytest.raises(LocalProtocolError, match="loading"):
        Browser.parse(data)


def test_data_from_before_the_first_write_s_delay_is_read():
    data = copy.deepcopy(DATA["chromium"]["loading"])
    del data["delays"]["hello"]
    assert LoadingHabits.parse(data).delays["hello"] is None


def test_a_step_that_something_belongs_to_has_a_delay():
    data = copy.deepcopy(DATA["firefox"]["loading"])
    data["delays"]["pictures"] = None
    with pytest.raises(LocalProtocolError, match="step"):
        LoadingHabits.parse(data)


def test_the_program_that_makes_the_data_says_the_same():
    """It is not recorded but known, so the program holds it: a data file made anew keeps it."""
    program = runpy.run_path(str(CODEC.parent.parent / "scripts" / "capture_profile.py"))
    for name, data in DATA.items():
        assert data["loading"] == program["LOADING"][name]
