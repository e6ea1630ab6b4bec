"""YAML that remembers its lines, and nothing of YAML that surprises."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ptproxy.config import document as document_module
from ptproxy.config.document import Document, plain_loader

LOADERS = {"libyaml": document_module.LOADER, "python": plain_loader(yaml.SafeLoader)}


@pytest.fixture(params=list(LOADERS), autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with libyaml's loader and with the one in Python."""
    monkeypatch.setattr(document_module.parse, "__defaults__", (LOADERS[request.param],))


def parse(text: str) -> Document:
    return document_module.parse(text)


def problem(text: str) -> tuple[int, str]:
    found = parse(text).problems
    assert len(found) == 1, found
    line, _, what = found[0]
    return line, what


def test_values_and_lines() -> None:
    document = parse("a: 1\n\nb:\n  c: text\n  d: [x,\n      true]\ne: ~\n")
    assert document.problems == []
    assert document.data == {"a": 1, "b": {"c": "text", "d": ["x", True]}, "e": None}
    assert document.line(("b", "c")) == 4
    assert document.line(("b", "d", 1)) == 6
    assert document.line(("b",), key=True) == 3
    assert document.line(("b", "missing")) == 3
    assert document.line(("missing",)) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"), ("no", "no"), ("yes", "yes"), ("1:30", "1:30"), ("2026-11-22", "2026-11-22"),
        ("1.5", "1.5"),
        ("0x10", "0x10"), ("010", 10), ("-5", -5), ("true", True), ("False", False), ("null", None), ("",
        None),
        ("'5'", "5"), ("1e3", "1e3"), ("=", "="), ("9" * 30, "9" * 30),
    ],
)  # fmt: skip
def test_scalars(text: str, value: object) -> None:
    document = parse(f"a: {text}")
    assert document.problems == []
    assert document.data["a"] == value
    assert type(document.data["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "empty"),
        ("# only a comment\n", 1, "empty"),
        ("- a\n", 1, "expected a mapping"),
        ("just text", 1, "expected a mapping"),
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: 'open\n", 2, "not valid YAML"),
        ("a: 1\nb: *nothing\n", 2, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", 3, "stands twice (first on line 1)"),
        ("a: 1\nb: !!python/object:os.system x\n", 2, "tag"),
        ("a: 1\nb: !!set {x, y}\n", 2, "tag"),
        ("a: 1\n[b]: 2\n", 2, "plain text"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "plain text"),
        ("a: &x [*x]\n", 1, "nested too deeply"),
        ("a: \x01\n", 1, "not valid YAML"),
    ],
)
def test_problems(text: str, line: int, message: str) -> None:
    found = problem(text)
    assert message in found[1]
    assert found[0] == line


def test_all_problems_are_told() -> None:
    document = parse("a: 1\na: 2\nb: {c: 1, c: 2}\nd: !x y\n")
    assert [line for line, _, _ in document.problems] == [2, 3, 4]
    assert document.data["a"] == 1


def test_size_is_bounded() -> None:
    assert "characters" in problem("#" * (1 << 20) + "\n")[1]
    assert parse("a: " + "[" * 5000).problems
    assert parse("a: " + "[" * 500 + "]" * 500).problems


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.text("ab:-[]{}'\"\n #&*!|>%@~"))
@example("? a\n: b")
@example("\ud800")
def test_garbage_never_raises(text: str) -> None:
    document = parse(text)
    assert isinstance(document.data, dict)
