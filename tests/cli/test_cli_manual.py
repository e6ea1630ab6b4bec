"""Manual pages: one for each command, and a reader of troff has nothing to say against them."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.cli.main import program
from ptproxy.cli.manual import escape


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manual")
    result = CliRunner().invoke(program, ["manual", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


def test_every_command_has_a_page_that_names_it(pages):
    names = {path.name for path in pages.iterdir()}
    assert {"ptproxy.1", "ptproxy-bridge.1", "ptproxy-init-client.1", "ptproxy-dht-list-sign.1"} <= names
    for path in pages.iterdir():
        text = path.read_text("ascii")
        command = path.stem.replace("-", "\\-")
        assert text.startswith(f'.TH {command.upper()} 1 "" "ptproxy')
        assert f".SH NAME\n{command} \\- " in text
        assert path.stat().st_mode & 0o777 == 0o644


def test_pages_are_the_same_each_time(pages, tmp_path):
    assert CliRunner().invoke(program, ["manual", str(tmp_path)]).exit_code == 0
    assert {path.name: path.read_bytes() for path in pages.iterdir()} == {
        path.name: path.read_bytes() for path in tmp_path.iterdir()
    }


def test_what_stands_in_lines_stays_in_lines(pages):
    page = (pages / "ptproxy-init-bridge.1").read_text()
    assert (
        ".nf\nA trial on this machine:\n  ptproxy init bridge bridge \\-\\-address 127.0.0.1:8443\n" in page
    )
    assert "\n.BR ptproxy\\-init (1)\n" in page


@pytest.mark.program("groff")
def test_troff_has_no_complaint(pages):
    files = sorted(pages.iterdir())
    done = subprocess.run(
        [shutil.which("groff"), "-man", "-Tutf8", "-ww", "-P-cbou", *files],
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert done.stderr == b""
    assert b"--address HOST:PORT" in done.stdout


@given(st.text())
def test_no_text_is_a_request(text):
    escaped = escape(text)
    assert escaped.isascii()
    assert not escaped.startswith((".", "'"))
