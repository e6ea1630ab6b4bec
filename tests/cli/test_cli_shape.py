"""``shape`` in a configuration, as a person meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_cli_commands import bad, good

from ptproxy.config.load import load_bridge, load_client


@pytest.fixture
def bridge(tmp_path: Path) -> Path:
    good("init", "bridge", tmp_path / "bridge", "--address", "127.0.0.1:8443", "--no-qr")
    return tmp_path / "bridge" / "bridge.yaml"


def choose(path: Path, shape: str) -> Path:
    lines = path.read_text().splitlines()
    path.write_text("\n".join(f"shape: {shape}" if line.startswith("shape:") else line for line in lines))
    return path


def test_defaults(bridge: Path, tmp_path: Path) -> None:
    assert load_bridge(bridge).shape == "browse"
    output = good("invite", "new", bridge.parent, "--no-qr")
    link = next(word for word in output.split() if word.startswith("ptproxy://"))
    good("init", "client", tmp_path / "client", "-", stdin=link)
    assert load_client(tmp_path / "client" / "client.yaml").shape == "auto"


@pytest.mark.parametrize("shape", ["none", "browse", "chat", "bulk"])
def test_built_in_ones(bridge: Path, shape: str) -> None:
    good("check", choose(bridge, shape))
    assert load_bridge(bridge).shape == shape


def test_a_file_stands_beside_the_configuration(bridge: Path) -> None:
    (bridge.parent / "mine.yaml").write_text("shape: mine\nbrowse: {streams: 2}\n")
    good("check", choose(bridge, "mine.yaml"))
    assert load_bridge(bridge).shape == bridge.parent / "mine.yaml"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("browse: {streams: 0}", "browse.streams: 0 is not between 1 and 64"),
        ("browse: {warmcarriers: 1}", "browse.warmcarriers: unknown key: did you mean warm_carriers?"),
        ("a: b: c", "not valid YAML"),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_no_shape_is_told_before_the_start(bridge: Path, text: str | None, says: str) -> None:
    if text is not None:
        (bridge.parent / "mine.yaml").write_text(text)
    message = bad("check", choose(bridge, "mine.yaml"))
    assert "shape: " in message
    assert str(bridge) in message
    assert says in message


def test_a_bridge_follows_nobody(bridge: Path) -> None:
    assert "shape: auto is for clients" in bad("check", choose(bridge, "auto"))


def test_a_list_is_no_shape(bridge: Path) -> None:
    assert "shape: " in bad("check", choose(bridge, "[browse]"))
