"""A bridge with several fronts: written by init, in the links that invites print."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ptproxy.cli.main import program
from ptproxy.config.link import Front, Link
from ptproxy.config.load import load_bridge

FRONTS = ("[2001:db8::1]:8443", "192.0.2.7:443;codecs=http+random")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(program, [str(argument) for argument in arguments], prog_name="ptproxy")


def printed(result: Result) -> Link:
    assert result.exit_code == 0, result.output
    [link] = [line for line in result.output.splitlines() if line.strip().startswith("ptproxy://")]
    return Link.parse(link)


def test_init_and_invite_name_the_fronts(tmp_path: Path) -> None:
    folder = tmp_path / "bridge"
    options = [option for front in FRONTS for option in ("--front", front)]
    made = run("init", "bridge", folder, "--address", "127.0.0.1:8443", "--no-qr", *options)
    fronts = tuple(map(Front.parse, FRONTS))
    assert printed(made).fronts == fronts
    assert load_bridge(folder / "bridge.yaml").fronts == fronts
    invited = run("invite", "new", folder, "--name", "anna", "--no-qr")
    assert printed(invited).fronts == fronts


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ("example.net", "HOST:PORT"),
        ("example.net:443;speed=9", "damaged"),
        ("example.net:443;name=example.net", "needs --behind"),
    ],
)
def test_a_front_that_cannot_be_is_refused(tmp_path: Path, front: str, message: str) -> None:
    result = run("init", "bridge", tmp_path / "b", "--address", "127.0.0.1:8443", "--front", front)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "b").exists()


def test_a_configuration_whose_fronts_contradict_it_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "bridge"
    assert run("init", "bridge", folder, "--address", "127.0.0.1:8443", "--no-qr").exit_code == 0
    config = folder / "bridge.yaml"
    text = config.read_text()
    for front, message in (
        ("127.0.0.1:8443", "named once"),
        ("a.example:1;name=b.example", "leave out name="),
    ):
        config.write_text(text + f'\nfronts: ["{front}"]\n')
        told = run("check", config)
        assert told.exit_code != 0
        assert message in told.output
